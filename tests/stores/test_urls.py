"""A URL names a store: one of ours, or one of a package that is installed."""

from __future__ import annotations

from pathlib import Path

import pytest

import lro_aio as lro
from lro_aio.stores import open_url

STORE = """
from lro_aio.stores.sqlite import SqliteStore


class Mine(SqliteStore):
    def __init__(self, url):
        super().__init__("sqlite://")
        self.url = url


def nothing(url):
    return None
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package with stores of its own, as pip leaves it."""
    (tmp_path / "mine.py").write_text(STORE)
    folder = tmp_path / "mine-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    entry_points = "[lro_aio.stores]\nmine = mine:Mine\nnothing = mine:nothing\nsqlite = mine:nothing\n"
    (folder / "entry_points.txt").write_text(entry_points)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.asyncio
async def test_a_store_of_an_installed_package_is_used_by_its_url(installed: None) -> None:
    async with lro.Client("mine://somewhere") as client:
        assert client.store.url == "mine://somewhere"
        op = await client.create(lease=False)
        assert (await client.get_operation(op.name)).name == op.name


def test_an_installed_package_takes_no_scheme_of_ours(installed: None) -> None:
    assert isinstance(open_url("sqlite://"), lro.SqliteStore)


def test_an_entry_point_that_gives_no_store_is_named(installed: None) -> None:
    with pytest.raises(TypeError, match=r"'mine:nothing' of lro_aio\.stores gives no lro_aio\.ports\.Store"):
        open_url("nothing://x")


@pytest.mark.parametrize("url", ["", "nonsense", "unheard://of", "mine", "://"])
def test_a_url_of_no_store_is_refused_with_the_forms_that_there_are(installed: None, url: str) -> None:
    with pytest.raises(ValueError, match=r"is not a store URL: expected sqlite:///.*postgresql://.*spanner://"):
        open_url(url)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql"])
def test_a_postgresql_url_holds_its_secret_to_itself(scheme: str) -> None:
    """Both schemes name the same store; what people see has no password and no parameter of libpq."""
    url = f"{scheme}://me:secret@one:5432,two:5433/app?sslmode=require&table=jobs&schema=app&timeout=3"
    store = open_url(url)
    assert store.url == "postgresql://me@one:5432,two:5433/app?table=jobs&schema=app"
    assert open_url(store.url).url == store.url
    assert "secret" not in repr(store)


@pytest.mark.parametrize(
    "query",
    [
        *("table=A", "table=a-b", "timeout=0", "timeout=x", "lanes=0", "pooled=yes", "colour=red", "table=a&table=b"),
        *("neighbours=", "neighbours=here"),
    ],
)
def test_a_malformed_postgresql_url_is_refused_without_its_secret(query: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        open_url(f"postgresql://me:secret@host/app?{query}")
    assert "secret" not in str(caught.value)
