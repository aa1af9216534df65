"""Entries that changes append, in one transaction: which are new, how they are numbered, and what is left of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lro_aio.core.change import Change, run
from lro_aio.core.errors import InvalidTransitionError, PayloadTooLargeError, StoreSchemaError
from lro_aio.core.journal import Appending, Entry, Kind, key_of, parts_of
from lro_aio.core.policies import Limits
from lro_aio.core.record import Record

from .sample_rows import NAME, NOW, a_row, foreign


def step(key: str) -> Entry:
    return Entry(kind=Kind.STEP, key=key, time=NOW)


def numbered(journal: Appending, rows: dict[str, Record | None]) -> list[tuple[str, str, int]]:
    return [(name, entry.key, entry.number) for name, entry in journal.left(rows)]


def test_what_is_new_is_numbered_after_what_the_row_counts() -> None:
    journal = Appending([("u1", "STEP", "old")])
    row = journal.append(a_row(entries=3), [step("old"), step("a"), step("a"), step("b")], 10)
    assert row == a_row(entries=5)
    assert numbered(journal, {NAME: row}) == [(NAME, "a", 4), (NAME, "b", 5)]
    assert journal.append(row, [step("b")], 5) is row


def test_too_many_entries_append_none_of_the_change() -> None:
    journal = Appending()
    with pytest.raises(PayloadTooLargeError, match="the journal would have 5 entries; the limit is 4"):
        journal.append(a_row(entries=3), [step("a"), step("b")], 4)
    assert journal.append(a_row(entries=3), [step("a")], 4).entries == 4


def test_the_limits_name_the_field() -> None:
    for field in ("step", "message"):
        with pytest.raises(PayloadTooLargeError) as caught:
            Limits().check(field, 2**20 + 1)
        assert (caught.value.field, caught.value.limit) == (field, 2**20)
    assert Limits().entries == 10_000


def test_nothing_is_left_of_a_row_that_is_gone_or_another_one() -> None:
    journal = Appending()
    row = journal.append(a_row(), [step("a")], 10)
    assert journal.left({NAME: None}) == []
    assert journal.left({}) == []
    assert journal.left({NAME: replace(row, uid="u2")}) == []


def test_only_our_own_operations_have_a_journal() -> None:
    with pytest.raises(InvalidTransitionError):
        Appending().append(foreign(), [step("a")], 10)


def test_a_change_appends_unless_it_is_refused_or_removes_its_row() -> None:
    rows: dict[str, Record | None] = {NAME: a_row()}
    journal = Appending()

    def refuse(_: Record) -> Record:
        raise KeyError

    changes = [
        Change(NAME, refuse, appends=(step("no"),)),
        Change(NAME, lambda row: row, appends=(step("yes"),)),
        Change(NAME, lambda row: row, appends=(step("more"),), most_entries=1),
    ]
    outcomes = run(changes, rows, journal)
    assert isinstance(outcomes[0], KeyError)
    assert isinstance(outcomes[2], PayloadTooLargeError)
    assert outcomes[1] == rows[NAME] == a_row(entries=1)
    assert numbered(journal, rows) == [(NAME, "yes", 1)]
    assert run([Change(NAME, lambda _: None, appends=(step("late"),))], rows, journal) == [None]
    assert numbered(journal, rows) == []


def test_a_store_without_a_journal_refuses_that_change_alone() -> None:
    rows: dict[str, Record | None] = {NAME: a_row()}
    changes = [Change(NAME, lambda row: row, appends=(step("a"),)), Change(NAME, lambda row: replace(row, claim=9))]
    refused, other = run(changes, rows, Appending(missing="make it first"))
    assert isinstance(refused, StoreSchemaError)
    assert other == a_row(claim=9)


@pytest.mark.parametrize(("name", "key"), [("render", ""), ("render", "chunk 1"), ("a b", "x\ny"), ("", "k")])
def test_a_key_is_a_name_and_a_key_of_its_own(name: str, key: str) -> None:
    assert parts_of(key_of(name, key or None)) == (name, key)
