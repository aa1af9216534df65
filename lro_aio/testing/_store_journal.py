"""The part of the store contract about the journal."""

from __future__ import annotations

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from lro_aio.core import transitions
from lro_aio.core.change import Change
from lro_aio.core.errors import (
    InvalidTransitionError,
    OperationDoneError,
    OperationNotFoundError,
    PayloadTooLargeError,
    StoreSchemaError,
    StoreUnavailableError,
)
from lro_aio.core.journal import Entry, Kind
from lro_aio.core.record import Record
from lro_aio.ports import Store
from lro_aio.testing._store_rows import NOW, create_all, ended, name_of, only, put, remove, row, update
from lro_aio.testing.faults import FaultyStore

__all__ = ["JournalContract", "NoJournalContract"]

PATIENCE = 30.0
"""Seconds after which a test gives up on its threads."""


def step(key: str = "a", payload: bytes = b"1", **fields: Any) -> Entry:
    """A result of a step."""
    made = Entry(kind=Kind.STEP, key=key, time=NOW, payload=payload, codec="json;v=1")
    return dataclasses.replace(made, **fields)


def append(number: int, *entries: Entry, **options: Any) -> Change:
    """Append to the journal of a row, and raise its revision, as a step that was kept does."""
    grow = lambda record: dataclasses.replace(record, revision=record.revision + 1)  # noqa: E731
    return Change(name_of(number), grow, appends=entries, **options)


def kept(store: Store, number: int = 1, kinds: set[str] | None = None) -> list[Entry]:
    """The journal of a row."""
    return store.journal([name_of(number)], kinds).get(name_of(number), [])


def keys(entries: list[Entry]) -> list[str]:
    """Their keys, in order."""
    return [entry.key for entry in entries]


class JournalContract:
    """Entries that are appended with a change of their row."""

    @pytest.fixture
    def kept_by(self, store: Store) -> Store:
        """The store of these tests, one that keeps a journal."""
        skip_without_journal(store)
        return store

    def test_an_entry_comes_back_as_it_was_appended(self, kept_by: Store) -> None:
        """With its owner and its place; the row counts it."""
        create_all(kept_by, row())
        entry = step("Grüße, 世界\n🚀 'x'", bytes(range(256)), time=NOW + 1 / 3)
        (outcome,) = kept_by.apply([append(1, entry)])
        assert isinstance(outcome, Record)
        assert (outcome.entries, outcome.revision) == (1, 2)
        assert only(kept_by, name_of(1)) == outcome
        (found,) = kept(kept_by)
        assert found == dataclasses.replace(entry, uid=row().uid, number=1)
        assert (type(found.payload), type(found.time), type(found.number)) == (bytes, float, int)

    def test_an_entry_may_be_empty_or_of_a_kind_that_is_not_known(self, kept_by: Store) -> None:
        """A newer release may have written it."""
        create_all(kept_by, row())
        kept_by.apply([append(1, Entry(kind="SNEEZE", key="", time=0.0))])
        assert kept(kept_by) == [Entry(kind="SNEEZE", key="", time=0.0, uid=row().uid, number=1)]

    def test_entries_come_in_the_order_in_which_they_were_appended(self, kept_by: Store) -> None:
        """Whatever their keys, kinds and times, and however the changes were batched."""
        create_all(kept_by, row())
        kept_by.apply([append(1, step("z"), step("b", time=NOW - 9)), append(1, step("c", kind=Kind.TIMER))])
        kept_by.apply([append(1, step("a"))])
        assert keys(kept(kept_by)) == ["z", "b", "c", "a"]
        assert [entry.number for entry in kept(kept_by)] == [1, 2, 3, 4]
        assert only(kept_by, name_of(1)).entries == 4

    def test_the_same_again_changes_nothing(self, kept_by: Store) -> None:
        """In another batch, in the same batch and in the same change: the first one stays as it is."""
        create_all(kept_by, row())
        kept_by.apply([append(1, step("a", b"first"), step("a", b"again")), append(1, step("a", b"again"))])
        (outcome,) = kept_by.apply([append(1, step("a", b"late"), step("b"))])
        assert isinstance(outcome, Record)
        assert outcome.entries == 2
        assert [(entry.key, entry.payload) for entry in kept(kept_by)] == [("a", b"first"), ("b", b"1")]

    @pytest.mark.parametrize("key", ["", "a\0b", "Grüße 🚀", "\t\n\"'%\\", "k" * 1000])
    def test_any_key_is_found_again(self, kept_by: Store, key: str) -> None:
        """Beside one that differs at its end."""
        create_all(kept_by, row())
        for payload in (b"first", b"again"):
            kept_by.apply([append(1, step(key, payload)), append(1, step(f"{key}x", payload))])
        assert [(entry.key, entry.payload) for entry in kept(kept_by)] == [(key, b"first"), (f"{key}x", b"first")]

    def test_a_key_is_one_of_its_kind_and_of_its_operation(self, kept_by: Store) -> None:
        """The same key of another kind, or of another operation, is another entry. Case counts."""
        create_all(kept_by, row(1), row(2))
        kept_by.apply([append(1, step("a"), step("a", kind=Kind.MESSAGE), step("A")), append(2, step("a"))])
        found = [(entry.kind, entry.key) for entry in kept(kept_by, 1)]
        assert found == [("STEP", "a"), ("MESSAGE", "a"), ("STEP", "A")]
        assert keys(kept(kept_by, 2)) == ["a"]

    def test_kinds_are_chosen(self, kept_by: Store) -> None:
        """None of them is nothing."""
        create_all(kept_by, row())
        kept_by.apply([append(1, step("a"), step("b", kind=Kind.TIMER), step("c", kind=Kind.MESSAGE))])
        assert keys(kept(kept_by, kinds={"TIMER", "MESSAGE"})) == ["b", "c"]
        assert keys(kept(kept_by, kinds={Kind.STEP})) == ["a"]
        assert kept(kept_by, kinds=set()) == []

    def test_many_journals_in_one_read(self, kept_by: Store) -> None:
        """Names without a row or without entries are absent."""
        create_all(kept_by, *(row(i) for i in range(300)))
        kept_by.apply([append(i, step(str(i))) for i in range(0, 300, 2)])
        found = kept_by.journal([name_of(i) for i in range(2000)])
        assert {name: keys(entries) for name, entries in found.items()} == {
            name_of(i): [str(i)] for i in range(0, 300, 2)
        }
        assert kept_by.journal([]) == {}

    def test_a_row_may_be_made_with_entries(self, kept_by: Store) -> None:
        """As one that goes on with the steps of another."""
        change = put(row())
        change.appends = (step("a"), step("b"))
        (made,) = kept_by.apply([change])
        assert isinstance(made, Record)
        assert made.entries == 2
        assert keys(kept(kept_by)) == ["a", "b"]

    def test_a_change_that_writes_nothing_else_appends(self, kept_by: Store) -> None:
        """The row counts the entry, and is as it was where the entry is there."""
        create_all(kept_by, row())
        same = Change(name_of(1), lambda record: record, appends=(step(),))
        assert kept_by.apply([same]) == [row(entries=1)]
        assert kept_by.apply([same]) == [row(entries=1)]
        assert len(kept(kept_by)) == 1

    def test_large_payloads_come_back(self, kept_by: Store) -> None:
        """As many as do not fit into one answer of any product, of the largest size each."""
        create_all(kept_by, row())
        for i in range(12):
            kept_by.apply([append(1, step(str(i), bytes([i]) * 2**20))])
        assert [(entry.key, entry.payload[:1], len(entry.payload)) for entry in kept(kept_by)] == [
            (str(i), bytes([i]), 2**20) for i in range(12)
        ]

    # -- with the row, or not at all --------------------------------------------------------------------------------

    def test_a_refused_change_appends_nothing(self, kept_by: Store) -> None:
        """Nor does one of a row that does not exist; the others of the batch do."""

        def refuse(record: Record) -> Record:
            raise OperationDoneError(record.name, "FAILED")

        create_all(kept_by, row(1), row(2))
        refused = Change(name_of(1), refuse, appends=(step("no"),))
        outcomes = kept_by.apply([refused, append(9, step()), append(2, step("yes"))])
        assert isinstance(outcomes[0], OperationDoneError)
        assert isinstance(outcomes[1], OperationNotFoundError)
        assert kept(kept_by, 1) == []
        assert keys(kept(kept_by, 2)) == ["yes"]

    def test_more_entries_than_allowed_are_refused_and_named(self, kept_by: Store) -> None:
        """The row stays as it was. What is there already needs no room."""
        create_all(kept_by, row())
        kept_by.apply([append(1, step("a"), step("b"), most_entries=2)])
        before = only(kept_by, name_of(1))
        (refused, again) = kept_by.apply(
            [append(1, step("c"), most_entries=2), append(1, step("a"), step("b"), most_entries=2)]
        )
        assert isinstance(refused, PayloadTooLargeError)
        assert (refused.field, refused.size, refused.limit) == ("entries", 3, 2)
        assert isinstance(again, Record)
        assert again.entries == before.entries == 2
        assert keys(kept(kept_by)) == ["a", "b"]

    def test_a_batch_that_is_refused_for_good_appends_nothing(self, kept_by: Store) -> None:
        """An entry with half a surrogate pair: all of the batch is refused, or that change alone, and halves pass.

        Or it is stored, and comes back.
        """
        create_all(kept_by, row(1), row(2), row(3))
        bad = append(2, step("\ud800"))
        try:
            outcomes = kept_by.apply([append(1, step()), bad, append(3, step())])
        except StoreUnavailableError:
            raise
        except Exception:  # noqa: BLE001 - any other class tells the engine to search for the change that is to blame
            assert kept_by.journal([name_of(i) for i in (1, 2, 3)]) == {}
            assert only(kept_by, name_of(1)) == row(1)
            kept_by.apply([append(1, step()), append(3, step())])
        else:
            if not isinstance(outcomes[1], Exception):
                assert keys(kept(kept_by, 2)) == ["\ud800"]
                return
        assert {name: len(entries) for name, entries in kept_by.journal([name_of(i) for i in (1, 2, 3)]).items()} == {
            name_of(1): 1,
            name_of(3): 1,
        }
        assert only(kept_by, name_of(2)) == row(2)

    def test_a_lost_answer_leaves_one_entry(self, kept_by: Store) -> None:
        """The same change again finds what the first one appended."""
        create_all(kept_by, row())
        faulty = FaultyStore(kept_by)
        faulty.fail("apply", when="after")
        with pytest.raises(StoreUnavailableError):
            faulty.apply([append(1, step("a", b"first"))])
        (outcome,) = faulty.apply([append(1, step("a", b"second"))])
        assert isinstance(outcome, Record)
        assert outcome.entries == 1
        assert [entry.payload for entry in kept(kept_by)] == [b"first"]

    def test_an_operation_of_another_program_has_no_journal(self, kept_by: Store) -> None:
        """Nobody could tell it from a later one of the same name."""
        create_all(kept_by, row(uid="", handler="", check_time=None))
        (outcome,) = kept_by.apply([append(1, step())])
        assert isinstance(outcome, InvalidTransitionError)

    # -- it goes with the row ---------------------------------------------------------------------------------------

    def test_entries_go_with_their_row(self, kept_by: Store) -> None:
        """And with no other. A later row of the same name, even with the same uid, has none of them."""
        create_all(kept_by, row(1), row(2))
        kept_by.apply([append(1, step()), append(2, step())])
        kept_by.apply([remove(name_of(1))])
        create_all(kept_by, row(1))
        assert kept_by.journal([name_of(1), name_of(2)]).keys() == {name_of(2)}

    def test_a_row_that_takes_the_place_of_another_has_its_own_journal(self, kept_by: Store) -> None:
        """Removed and made again in one batch, or written over."""
        create_all(kept_by, row())
        kept_by.apply([append(1, step("old"))])
        new = put(row(uid="second"))
        new.appends = (step("new"),)
        kept_by.apply([remove(name_of(1)), new])
        assert [(entry.uid, entry.key) for entry in kept(kept_by)] == [("second", "new")]
        create_all(kept_by, row(uid="third"))
        assert kept(kept_by) == []

    def test_what_is_appended_and_removed_in_one_batch_leaves_nothing(self, kept_by: Store) -> None:
        """As the last step of an operation that was deleted."""
        create_all(kept_by, row())
        kept_by.apply([append(1, step()), remove(name_of(1))])
        create_all(kept_by, row())
        assert kept(kept_by) == []

    def test_a_purge_takes_the_journal(self, kept_by: Store) -> None:
        """Until then it can be read, as the row can; a row that is kept keeps it."""
        create_all(kept_by, ended(1, expire_time=NOW), ended(2), row(3, deleted=True))
        kept_by.apply([append(i, step()) for i in (1, 2, 3)])
        names = [name_of(i) for i in (1, 2, 3)]
        assert kept_by.journal(names).keys() == set(names)
        assert kept_by.purge(now=NOW, limit=9) == 1
        create_all(kept_by, row(1))
        assert kept_by.journal(names).keys() == set(names[1:])

    def test_an_operation_that_is_deleted_ends_with_its_journal(self, kept_by: Store) -> None:
        """Rule 13."""
        create_all(kept_by, ended(1))
        kept_by.apply([append(1, step())])
        kept_by.apply([Change(name_of(1), lambda record: transitions.delete(record, now=NOW))])
        create_all(kept_by, ended(1))
        assert kept(kept_by) == []

    # -- two writers --------------------------------------------------------------------------------------------------

    def test_of_two_writers_no_entry_is_lost(self, clients: tuple[Store, Store]) -> None:
        """Both append to one journal at a time: each entry is there once, and the numbers have no gap."""
        skip_without_journal(clients[0])
        create_all(clients[0], row())
        at_once(clients, [append(1, step(str(i))) for i in range(30)])
        found = kept(clients[1])
        assert sorted(keys(found)) == sorted(str(i) for i in range(30))
        assert [entry.number for entry in found] == list(range(1, 31))
        assert only(clients[0], name_of(1)).entries == 30

    def test_of_two_writers_of_one_entry_the_first_is_kept(self, clients: tuple[Store, Store]) -> None:
        """Both succeed, and read the same."""
        skip_without_journal(clients[0])
        create_all(clients[0], row())
        outcomes = at_once(clients, [append(1, step("a", b"%d" % i)) for i in range(10)])
        assert all(isinstance(outcome, Record) for outcome in outcomes)
        (found,) = kept(clients[0])
        assert [found] == kept(clients[1])
        assert only(clients[0], name_of(1)).entries == 1

    def test_the_row_and_its_entries_are_seen_together(self, clients: tuple[Store, Store]) -> None:
        """Whoever reads a row that counts entries finds them in a read that follows."""
        writer, reader = clients
        skip_without_journal(writer)
        create_all(writer, row())
        stop = threading.Event()

        def watch() -> list[tuple[int, int]]:
            seen = []
            while not stop.is_set():
                count = only(reader, name_of(1)).entries
                seen.append((count, len(kept(reader))))
            return seen

        with ThreadPoolExecutor(1) as pool:
            watching = pool.submit(watch)
            try:
                for i in range(20):
                    writer.apply([append(1, step(str(i)))])
            finally:
                stop.set()
            seen = watching.result(PATIENCE)
        assert all(count <= entries for count, entries in seen)


class NoJournalContract:
    """A store that keeps no journal goes on without it."""

    def test_a_store_without_a_journal_says_so_where_it_is_used(self, store: Store) -> None:
        """That change alone is refused, and nothing is read."""
        if store.keeps_journal:
            pytest.skip("this store keeps a journal")
        create_all(store, row(1), row(2))
        refused, other = store.apply([append(1, step()), update(name_of(2), revision=2)])
        assert isinstance(refused, StoreSchemaError)
        assert "journal" in str(refused)
        assert other == row(2, revision=2)
        assert only(store, name_of(1)) == row(1)
        assert store.journal([name_of(1)]) == {}


def skip_without_journal(store: Store) -> None:
    """Skip the test."""
    if not store.keeps_journal:
        pytest.skip("this store keeps no journal")


def at_once(clients: tuple[Store, Store], changes: list[Change]) -> list[Any]:
    """Apply each change in a thread of its own, all at once, on the clients in turn."""
    gate = threading.Barrier(len(changes))

    def run(number: int) -> Any:
        gate.wait(PATIENCE)
        (outcome,) = clients[number % 2].apply([changes[number]])
        return outcome

    with ThreadPoolExecutor(len(changes)) as pool:
        return list(pool.map(run, range(len(changes)), timeout=PATIENCE))
