"""Every code block of the README and of ``docs/`` does what the page says, and the examples run."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from ..postgres.programs import MISSING, programs
from .blocks import DocsError, parse, postgres_of
from .pages import REPOSITORY, Page, check_command, check_yaml
from .shell import check_output, matches

DOCS = REPOSITORY / "docs"
EXAMPLES = DOCS / "examples"
PAGES = [REPOSITORY / "README.md", *sorted(DOCS.rglob("*.md"))]


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory from which modules can be imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.fixture
def example(directory: Path) -> Iterator[Callable[[str], ModuleType]]:
    """Imports a program of ``docs/examples``, from a copy in the working directory."""
    names = [Path(shutil.copy(path, directory)).stem for path in EXAMPLES.glob("*.py")]
    yield importlib.import_module
    for name in names:
        sys.modules.pop(name, None)


SLOW = {
    *("agents.md", "calling.md", "cli.md", "deploying.md", "failures-and-reruns.md", "mcp.md", "operating.md"),
    *("parity-v2.md", "pipeline.md", "postgres.md", "project.md", "spanner.md", "stores.md", "telemetry.md"),
    *("testing.md", "tutorial.md"),
}
"""Pages of five seconds and more: they start services, or pytest itself. And one that needs a recent exporter."""


def named(page: Path) -> str:
    return str(page.relative_to(REPOSITORY))


def speed(page: Path) -> list[pytest.MarkDecorator]:
    return [pytest.mark.slow] if page.name in SLOW else []


@pytest.mark.parametrize("page", [pytest.param(page, marks=speed(page), id=named(page)) for page in PAGES])
def test_every_block_of_the_page_runs(page: Path, directory: Path) -> None:
    """Python and console blocks run, what they print is what the page shows, and the others parse."""
    if postgres_of(page) is not None and programs() is None:
        pytest.skip(MISSING)
    with Page(page, directory) as running:
        running.run()


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    """To a file, and to a heading of it where one is named."""
    prose = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)]+)\)", prose):
        if "://" in target:
            continue
        file, _, heading = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        assert path.exists(), f"{page.name} links to {target}, which does not exist"
        if heading:
            assert heading in _anchors(path), f"{page.name} links to {target}: no such heading"


def test_the_index_names_every_page() -> None:
    """Nobody has to guess that a page exists."""
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    missing = [page.name for page in DOCS.glob("*.md") if page.name != "index.md" and f"({page.name})" not in index]
    assert not missing


def test_the_tutorial_ends_with_the_programs_of_the_examples(tmp_path: Path) -> None:
    """What a reader has typed is what lies in ``docs/examples``."""
    written = {
        block.directives["file"]: block.text for block in parse(DOCS / "tutorial.md") if "file" in block.directives
    }
    assert written == {path.name: path.read_text(encoding="utf-8") for path in EXAMPLES.glob("*.py")}


def test_the_page_about_calling_shows_the_client_of_the_examples() -> None:
    """The class that a reader types is the one that lies beside its service."""
    (shown,) = (
        block.text for block in parse(DOCS / "calling.md") if block.directives.get("file") == "vector_stores.py"
    )
    assert shown == (EXAMPLES / "vector_stores" / "vector_stores.py").read_text(encoding="utf-8")


@pytest.mark.asyncio
async def test_the_grpc_example_serves_a_client(example: Callable[[str], ModuleType], directory: Path) -> None:
    """``service.py`` on a free port, driven by ``client.py``, stops by itself on SIGTERM."""
    client: Any = example("client")
    command = [sys.executable, "service.py", "0"]
    with subprocess.Popen(command, cwd=directory, stdout=subprocess.PIPE, text=True) as service:
        try:
            assert service.stdout is not None
            server = service.stdout.readline().removeprefix("serving on ").strip()
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                await client.main(server, "start", "Sales")
                await client.main(server, "wait", printed.getvalue().strip())
            service.send_signal(signal.SIGTERM)
            assert service.wait(20) == 0
        finally:
            service.kill()
    report = json.loads(printed.getvalue().splitlines()[-1])
    assert report == {"title": "Sales", "pages": 5, "interrupted": 0}


@pytest.mark.asyncio
async def test_the_fastapi_example_serves_a_client(example: Callable[[str], ModuleType]) -> None:
    """``app.py`` starts an operation, and answers for it until it has its response."""
    app: Any = example("app").app
    transport = httpx.ASGITransport(app=app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        started = (await http.post("/v1/reports", json={"title": "Costs", "pages": 2})).json()
        ended = (await http.post(f"/v1/{started['name']}:wait", json={"timeout": "20s"})).json()
        refused = await http.post("/v1/reports", json={"title": ""})
    assert ended["response"]["value"] == {"title": "Costs", "pages": 2, "interrupted": 0}
    assert (refused.status_code, refused.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("```\nx\n```", "without a language"),
        ("```python\nx", "not closed"),
        ("```cobol\nx\n```", "no test knows"),
        ("```python\n1 +\n```", "invalid syntax"),
        ("```python\nassert False, 'on purpose'\n```", "on purpose"),
        ("```python\nprint(1)\n```\n\n```text\n2\n```", "not printed"),
        ("```text\n2\n```", "there is none"),
        ("```console\n$ python -c 'exit(3)'\n```", "status 3"),
        ("```console\n$ echo hello\nbye\n```", "neither run nor checked"),
        ("```console\n$ python -c 'print(1)'\n2\n```", "not printed"),
        ("```console\n$ make nonsense\n```", "no target"),
        ("```console\n$ pip install lro-aio[nonsense]\n```", "no extra"),
        ("```console\n$ pip install nonsense\n```", "neither this package"),
        ("```toml\n= 1\n```", "Invalid"),
        ("```yaml\na: [1\n```", "not simple YAML"),
        ("```proto\nmessage {\n```", "not a whole"),
        ("<!-- test: nonsense -->\n```python\n1\n```", "unknown directive"),
        ("<!-- test: raises=KeyError -->\n```python\n1\n```", "was not raised"),
    ],
)
def test_a_page_that_is_wrong_fails(text: str, problem: str, directory: Path) -> None:
    """Nothing that a page says escapes the tests."""
    page = directory / "page.md"
    page.write_text(text + "\n", encoding="utf-8")
    with pytest.raises((DocsError, AssertionError, ValueError), match=problem), Page(page, directory) as running:
        running.run()


def test_shown_output_may_leave_out_parts() -> None:
    """``...`` stands for anything, at either end or within a line; the order of lines counts."""
    assert matches("a ... d", "a b c d")
    assert matches("...c d", "a b c d")
    assert matches("a b...", "a b c d")
    assert not matches("b ... d", "a b c d")
    assert not matches("a b", "a b c d")
    check_output(["one", "three"], "one\ntwo\nthree", "page")
    with pytest.raises(DocsError, match="not in this order"):
        check_output(["three", "one"], "one\ntwo\nthree", "page")


def test_checked_commands_and_simple_yaml_are_accepted() -> None:
    """What the pages use."""
    check_command("make test  # a comment", "page")
    check_command("pip install lro-aio[cli,fastapi] google-api-core", "page")
    check_yaml("a:\n  - b: 1\n    c: text # why\n  - d", "page")


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
