"""``docs/spanner.md`` speaks the truth: its tables are those of the schema, of the roles, and of what is sent."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import wrappers_pb2

import lro_aio as lro
from lro_aio.stores.spanner import queries
from lro_aio.stores.spanner.connection import Connection
from lro_aio.stores.spanner.location import Location
from lro_aio.stores.spanner.queue_tables import LINE, QUEUE_TABLES, SERVED, TICKETS
from lro_aio.stores.spanner.table import INDEXES, JOURNAL, VARIANTS, columns
from lro_aio.testing import FakeSpanner

from ..waiting import until
from .blocks import DocsError
from .google_cloud import check_gcloud, check_roles, check_sql

PAGE = Path(__file__).resolve().parents[2] / "docs" / "spanner.md"
TEXT = PAGE.read_text(encoding="utf-8")
SOURCES = Path(queries.__file__).parent


def table(*header: str) -> list[list[str]]:
    """The rows of the table with this header."""
    (found,) = (
        match[0]
        for match in re.finditer(r"(?:^\|.*\n)+", TEXT, re.MULTILINE)
        if cells(match[0].splitlines()[0]) == list(header)
    )
    return [cells(line) for line in found.splitlines()[2:]]


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("|")[1:-1]]


def test_every_column_is_there_in_its_order_with_its_type() -> None:
    shown = {name.strip("`"): type_ for name, type_, _ in table("Column", "Type", "Meaning")}
    for variant in VARIANTS:
        assert list(shown) == [column.name for column in columns(variant)]
        for column in columns(variant):
            if column.name != "Operation":
                assert shown[column.name].strip("`") == re.sub(r"\(MAX\)", "", column.type), column.name


def test_every_column_of_the_journal_is_there_in_its_order_with_its_type() -> None:
    shown = [(name.strip("`"), kind.strip("`")) for name, kind, _ in table("Column of the journal", "Type", "Meaning")]
    assert shown == [(column.name, column.type.removesuffix("(MAX)")) for column in JOURNAL]


def test_every_table_of_the_queues_is_there_with_its_key() -> None:
    shown = [(name.strip("`"), re.findall(r"`(\w+)`", key)) for name, _, key in table("Table", "A row is", "Key")]
    assert shown == [(one.name("Operations"), list(one.key)) for one in QUEUE_TABLES]
    for index in (index for one in QUEUE_TABLES for index in one.indexes):
        assert f"`{index.name('Operations')}`" in TEXT
    assert all(one.name("Operations") in TEXT.partition("CREATE ROLE")[2].partition("```")[0] for one in QUEUE_TABLES)


def test_the_columns_that_are_called_generated_are() -> None:
    shown = {name.strip("`") for name, _, meaning in table("Column", "Type", "Meaning") if "enerated" in meaning}
    assert shown == {column.name for column in columns("proto") if column.generated}


def test_every_index_is_there() -> None:
    assert [name.strip("`") for name, _ in table("Index", "Serves")] == [i.name("Operations") for i in INDEXES]


def test_every_tag_is_there() -> None:
    sent = {tag for path in SOURCES.glob("*.py") for tag in re.findall(r'"(lro-\w+)"', path.read_text("utf-8"))}
    assert {tag for row in table("Tag", "Of") for tag in re.findall(r"lro-\w+", row[0])} == sent


def test_every_parameter_of_the_url_is_there() -> None:
    shown = {name.strip("`"): default for name, default, _ in table("Parameter", "Default", "Meaning")}
    assert shown.keys() == Location.__dataclass_fields__.keys() - {"project", "instance", "database"}
    assert float(shown["timeout"]) == Location(project="p", instance="in", database="db").timeout


def test_the_roles_and_permissions_of_the_page_exist() -> None:
    check_roles(TEXT, PAGE.name)


def test_a_whole_batch_stays_far_below_what_a_commit_may_have() -> None:
    """As the page reckons: every column, and every column of every entry that an insert makes."""
    made = [index for index in INDEXES if index.suffix != "Expiry"]
    entries = sum(len(index.keys) + len(index.storing) + 1 for index in made)
    later = ("Failure", "InitialData", "InitialCodec")  # no row begins with these
    most = len(columns("proto")) - len(later) + entries
    assert f"an insert counts for {most} at most" in TEXT
    assert f"below {most + 1},000" in TEXT
    ticket = len(TICKETS.columns) + sum(
        len(index.keys) + len(index.storing) + len(TICKETS.key) for index in (LINE, SERVED)
    )
    assert f"A ticket counts for {ticket} more" in TEXT


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[str, ...]]]:
    """The mutations that were committed: kind and columns."""
    seen: list[tuple[str, tuple[str, ...]]] = []
    commit = Connection.commit

    def noted(self: Connection, transaction: Any, mutations: Any, **options: Any) -> None:
        for mutation in mutations:
            kind = mutation.WhichOneof("operation")
            seen.append((kind, tuple(getattr(mutation, kind).columns) if kind != "delete" else ()))
        commit(self, transaction, mutations, **options)

    monkeypatch.setattr(Connection, "commit", noted)
    return seen


@pytest.fixture(params=VARIANTS)
def fake(request: pytest.FixtureRequest) -> Iterator[FakeSpanner]:
    with FakeSpanner(variant=request.param) as running:
        yield running


def handlers(sent: list[tuple[str, tuple[str, ...]]]) -> lro.Handlers:
    registry = lro.Handlers()

    @registry.handler("all", resume_points=("end",))
    async def everything(op: lro.Operation[None]) -> Any:
        if op.resume_point == "end":
            return wrappers_pb2.StringValue(value="ended")
        await op.set_metadata(wrappers_pb2.StringValue(value="begun"))
        await until(lambda: any(kind_of(*mutation) == "renew" for mutation in sent))
        return op.suspend(resume_at="end", sleep=0.1)

    return registry


@pytest.mark.asyncio
async def test_each_change_writes_as_many_columns_as_the_page_says(
    fake: FakeSpanner, sent: list[tuple[str, tuple[str, ...]]], request: pytest.FixtureRequest
) -> None:
    place = 1 + VARIANTS.index("proto" if fake.ddl[0].startswith("CREATE PROTO") else "bytes")
    shown = {row[0]: row[place] for row in table("Change", "Columns, `proto`", "Columns, `bytes`", "Index entries")}
    async with lro.Client(fake.url, handlers=handlers(sent), lease=lro.LeasePolicy(duration=0.9)) as client:
        op = await client.start("all")
        await client.wait_operation(op.name, timeout=20)
        by_hand = await client.create()
        await by_hand.done()
        await op.delete()
    # Of two that end, the one made by hand is the last: the other also clears what it was suspended on.
    found = {kind_of(kind, names): str(len(names)) for kind, names in sent}
    assert found.pop("delete") == "0"
    assert shown.pop("delete") == "1 mutation"
    assert found == shown


def kind_of(kind: str, names: tuple[str, ...]) -> str:
    if kind != "update":
        return kind
    if "EndTime" in names:
        return "finish"
    if "Claim" in names:
        return "claim"
    if "Wait" in names:
        return "suspend"
    return "progress" if "Operation" in names else "renew"


@pytest.mark.parametrize(
    ("check", "text", "problem"),
    [
        (check_gcloud, "spanner databases destroy x", "no gcloud command"),
        (check_gcloud, "spanner databases create x --nonsense=1", "has no --nonsense"),
        (check_roles, "roles/spanner.nobody", "no role"),
        (check_roles, "`spanner.databases.fly`", "no permission"),
        (check_sql, "SELECT key FROM Operations", "semicolon"),
        (check_sql, "SELECT Nonsense FROM Operations;\n", "neither a column"),
        (check_sql, "SELECT (key FROM Operations;\n", "not closed"),
        (check_sql, "SELECT REQUEST_TAG FROM SPANNER_SYS.NONSENSE;\n", "no table"),
    ],
)
def test_what_no_test_can_run_is_still_checked(check: Any, text: str, problem: str) -> None:
    with pytest.raises(DocsError, match=problem):
        check(text.split() if check is check_gcloud else text, "page")
