"""Changes applied in their order to the rows of one transaction."""

from __future__ import annotations

from dataclasses import replace

from lro_aio.core.change import Change, run
from lro_aio.core.errors import OperationNotFoundError
from lro_aio.core.record import Record

from .sample_rows import NAME, a_row


def step(name: str = NAME) -> Change:
    return Change(name, lambda row: replace(row, claim=row.claim + 1))


def test_each_change_sees_what_the_ones_before_it_left() -> None:
    rows: dict[str, Record | None] = {NAME: a_row(claim=1)}
    outcomes = run([step(), Change(NAME, lambda _: None), step(), Change(NAME, lambda _: a_row(), creates=True)], rows)
    assert outcomes[0] == a_row(claim=2)
    assert outcomes[1] is None
    assert isinstance(outcomes[2], OperationNotFoundError)
    assert outcomes[3] == rows[NAME] == a_row()


def test_a_change_that_raises_is_refused_alone_and_leaves_its_row() -> None:
    other = replace(a_row(), name="operations/b")
    rows: dict[str, Record | None] = {NAME: a_row(claim=1), other.name: other}
    problem = KeyError("a defect")

    def raises(_: Record) -> Record:
        raise problem

    outcomes = run([step(), Change(NAME, raises), step(other.name)], rows)
    assert outcomes == [a_row(claim=2), problem, replace(other, claim=5)]
    assert rows == {NAME: outcomes[0], other.name: outcomes[2]}


def test_a_change_that_returns_another_row_is_refused() -> None:
    rows: dict[str, Record | None] = {}
    (outcome,) = run([Change("operations/b", lambda _: a_row(), creates=True)], rows)
    assert isinstance(outcome, ValueError)
    assert rows.get("operations/b") is None
    assert NAME not in rows


def test_nothing_to_write_is_the_very_same_row() -> None:
    """A store tells by it that there is nothing to write."""
    row = a_row()
    rows: dict[str, Record | None] = {NAME: row}
    assert run([Change(NAME, lambda old: old)], rows)[0] is row
    assert rows[NAME] is row
