"""Every example of ``docs/filters.md`` is evaluated against real rows, and every bound tried from both sides."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import lro_aio as lro
from lro_aio.core import filters
from lro_aio.core.record import State

PAGE = Path(__file__).resolve().parents[2] / "docs" / "filters.md"
TEXT = PAGE.read_text(encoding="utf-8")

Row = dict[str, str]


def tables() -> Iterator[list[Row]]:
    """Every table of the page: its rows by their columns' names."""
    for match in re.finditer(r"(?:^\|.*\n)+", TEXT, re.MULTILINE):
        header, _, *rest = [[cell.strip() for cell in line.strip("|\n ").split(" |")] for line in match[0].splitlines()]
        yield [dict(zip(header, [cell.removeprefix("| ").strip() for cell in row])) for row in rest]


def rows_with(*columns: str) -> list[Row]:
    return [row for table in tables() if set(columns) <= set(table[0]) for row in table]


def spans(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


EXAMPLES = [
    (
        spans(row.get("Filter") or row["Example"])[0],
        {f"operations/{name}" for name in spans(row["Takes"])},
        row["Takes"],
    )
    for row in rows_with("Takes")
]
REFUSED = [(spans(row["Filter"])[0], int(row["Position"]), row["Problem"]) for row in rows_with("Filter", "Position")]


@pytest.fixture(scope="module")
def listed() -> dict[str, set[str]]:
    """Filter -> names, for all examples, on the operations that the page's first block makes."""
    block = re.search(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert block is not None
    code = compile(ast.parse(block[1]), str(PAGE), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    namespace: dict[str, Any] = {}
    assert code.co_flags & inspect.CO_COROUTINE

    async def run() -> dict[str, set[str]]:
        await types.FunctionType(code, namespace)()
        found = {}
        async with namespace["example"]() as client:
            for text in ("", *(text for text, _, _ in EXAMPLES)):
                found[text] = {operation.name async for operation in client.iter_operations(text)}
        return found

    return asyncio.run(run())


def test_the_page_is_read_whole() -> None:
    """A table that the test cannot read would be a table that is not tested."""
    assert len(EXAMPLES) >= 60
    assert len(REFUSED) >= 15
    lines = sum(1 for line in TEXT.splitlines() if line.startswith("|"))
    assert lines == sum(len(table) + 2 for table in tables())


def test_the_operations_are_the_five_of_the_page(listed: dict[str, set[str]]) -> None:
    assert listed[""] == {spans(row["Operation"])[0] for row in rows_with("Operation", "State")}


@pytest.mark.parametrize(("text", "names", "cell"), EXAMPLES, ids=[text for text, _, _ in EXAMPLES])
def test_the_filter_takes_what_the_page_says(
    listed: dict[str, set[str]], text: str, names: set[str], cell: str
) -> None:
    assert names or cell == "none"
    assert listed[text] == names


@pytest.mark.parametrize(("text", "position", "problem"), REFUSED, ids=[text for text, _, _ in REFUSED])
def test_the_filter_is_refused_as_the_page_says(text: str, position: int, problem: str) -> None:
    with pytest.raises(lro.InvalidFilterError) as caught:
        filters.parse(text)
    assert (caught.value.position, problem in caught.value.problem) == (position, True), caught.value.problem


def test_the_page_names_every_field() -> None:
    """And no other: the sentence about an unknown field lists what there is."""
    with pytest.raises(lro.InvalidFilterError) as caught:
        filters.parse("unknown=1")
    known = caught.value.problem.partition("known: ")[2].split(", ")
    assert [spans(row["Field"])[0] for row in rows_with("Field", "Type")] == sorted(known, key=_page_order)


def _page_order(field: str) -> tuple[int, str]:
    order = ["name", "done", "state", "paused", "rerun", "handler", "create_time", "end_time"]
    order += ["error", "error.code", "error.reason", "error.message"]
    return (order.index(field), "") if field in order else (len(order), field.replace("@", " "))


def test_the_page_names_every_state() -> None:
    (row,) = (row for row in rows_with("Field", "Type") if row["Field"] == "`state`")
    assert re.findall(r"[A-Z]+", row["Type"]) == list(State.__members__)


def test_an_example_stands_for_every_field_and_operator() -> None:
    texts = [text for text, _, _ in EXAMPLES]
    for row in rows_with("Field", "Type"):
        field = spans(row["Field"])[0].replace("<field>", "")
        assert any(field in text for text in texts), field
    for operator in ("AND ", "OR ", "NOT ", "-h", "(", "!=", "<=", ">=", "<", ">", ":*", ":", "=", '"*', '*"', "\\*"):
        assert any(operator in text for text in texts), operator


@pytest.mark.parametrize("row", rows_with("Field", "Comparators"), ids=lambda row: row["Field"])
def test_comparators_are_taken_and_refused_as_the_table_of_fields_says(row: Row) -> None:
    field = spans(row["Field"])[0]
    values = {"state": "FAILED", "error.code": "5", "error": "*"}
    value = "true" if field in ("done", "paused", "rerun") else values.get(field, "x")
    value = "2025-01-01T00:00:00Z" if field.endswith("_time") else value
    every = ["=", "!=", "<", "<=", ">", ">=", ":"]
    allowed = every if row["Comparators"] in ("all", "by the field's type") else spans(row["Comparators"])
    allowed = [":"] if allowed == [":*"] else allowed
    for comparator in every:
        text = f"{field.replace('<field>', 'owner')}{comparator}{value}"
        if comparator in allowed:
            filters.parse(text)
        else:
            with pytest.raises(lro.InvalidFilterError):
                filters.parse(text)


LIMITS = {row["What"]: int(row["At most"].replace(",", "")) for row in rows_with("What", "At most")}


@pytest.mark.parametrize(
    ("what", "make"),
    [
        ("Characters of a filter", lambda count: f'name="{"x" * (count - 7)}"'),
        ("Levels of nested parentheses", lambda count: "(" * count + "done=true" + ")" * count),
        ("Conditions", lambda count: " ".join(["done=true"] * count)),
    ],
)
def test_a_filter_may_be_as_large_as_the_page_says_and_no_larger(what: str, make: Any) -> None:
    filters.parse(make(LIMITS[what]))
    with pytest.raises(lro.InvalidFilterError):
        filters.parse(make(LIMITS[what] + 1))


def test_a_page_scans_as_many_operations_as_the_page_says() -> None:
    assert lro.Limits().scan_rows == LIMITS["Operations that one page scans"]


@pytest.mark.parametrize(
    "text", ["done=true", "state=FAILED", "handler=report", "create_time>2025-01-01T00:00:00Z", "handler=a done=false"]
)
def test_indexes_answer_what_the_page_says(text: str) -> None:
    """Nothing is left to evaluate."""
    assert filters.parse(text).pushdown().exact
    assert not filters.parse(f"{text} metadata.owner=ana").pushdown().exact


@pytest.mark.asyncio
async def test_a_page_token_belongs_to_its_filter(lro_client: lro.Client) -> None:
    for _ in range(2):
        await lro_client.create(lease=False)
    page = await lro_client.list_operations("done=false", page_size=1)
    assert (await lro_client.list_operations("done=false", page_token=page.next_page_token)).operations
    with pytest.raises(lro.InvalidPageTokenError):
        await lro_client.list_operations("done=true", page_token=page.next_page_token)
