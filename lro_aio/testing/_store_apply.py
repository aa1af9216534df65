"""The part of the store contract about ``open``, ``close``, ``read`` and ``apply``."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import pytest

from lro_aio.core.change import Change, Outcome
from lro_aio.core.errors import OperationDoneError, OperationNotFoundError, StoreUnavailableError
from lro_aio.core.record import Record, State
from lro_aio.core.webhooks import Webhook, noted
from lro_aio.ports import Store
from lro_aio.testing._store_rows import (
    NOW,
    any_of,
    apply_one,
    create_all,
    name_of,
    names,
    only,
    other_values,
    put,
    remove,
    row,
    state_for,
    status_of,
    update,
)

__all__ = ["ApplyContract", "ReadContract", "RoundTripContract"]

PATIENCE = 5.0
"""Seconds after which a notice that should come at once does not come any more."""


class ReadContract:
    """Reads, and the life of the store itself."""

    def test_close_is_quick_and_may_be_repeated(self, store: Store) -> None:
        """``close`` returns within a second (two seconds here, for slow machines); a second call does nothing."""
        create_all(store, row())
        store.read([name_of(1)])
        started = time.monotonic()
        store.close()
        store.close()
        assert time.monotonic() - started < 2

    def test_says_where_it_is(self, store: Store) -> None:
        """``url`` is for people; ``lanes`` counts at least one."""
        assert store.url
        assert store.lanes >= 1

    def test_rows_outlive_the_client(self, clients: tuple[Store, Store]) -> None:
        """What one client wrote is still there after it has closed."""
        first, second = clients
        create_all(first, row())
        if first is not second:
            first.close()
        assert only(second, name_of(1)) == row()

    def test_a_missing_row_is_left_out(self, store: Store) -> None:
        """Reading a name without a row is not an error."""
        create_all(store, row(1), row(3))
        assert sorted(names(store.read([name_of(1), name_of(2), name_of(3)]))) == [name_of(1), name_of(3)]
        assert store.read([name_of(2)]) == []
        assert store.read([]) == []

    def test_many_rows_in_one_read(self, store: Store) -> None:
        """No driver's limit on parameters shows through."""
        create_all(store, *(row(i) for i in range(600)))
        wanted = [name_of(i) for i in range(12_000)]
        assert sorted(names(store.read(wanted))) == [name_of(i) for i in range(600)]
        assert store.unfinished(wanted) == {name_of(i) for i in range(600)}

    def test_deleted_and_expired_rows_are_read(self, store: Store) -> None:
        """The store does not hide them."""
        deleted = row(1, deleted=True)
        expired = row(2, state=State.SUCCEEDED, end_time=1.0, expire_time=2.0, check_time=None)
        create_all(store, deleted, expired)
        assert only(store, deleted.name) == deleted
        assert only(store, expired.name) == expired

    def test_one_client_reads_what_another_wrote(self, clients: tuple[Store, Store]) -> None:
        """A row that is returned reflects every change whose ``apply`` returned before, whichever client called it."""
        first, second = clients
        create_all(first, row())
        assert only(second, name_of(1)).revision == 1
        for revision in range(2, 6):
            writer, reader = (first, second) if revision % 2 else (second, first)
            writer.apply([update(name_of(1), revision=revision)])
            assert only(reader, name_of(1)).revision == revision

    def test_changes_elsewhere_are_noticed_and_own_ones_are_not(self, clients: tuple[Store, Store]) -> None:
        """``changed_elsewhere`` is true once after commits of another client, and never after the client's own."""
        first, second = clients
        if first.foreign_poll_interval is None:
            pytest.skip("this store cannot tell")
        assert first.foreign_poll_interval > 0
        first.changed_elsewhere()
        create_all(first, row(1))
        assert first.changed_elsewhere() is False
        if first is second:
            return
        create_all(second, row(2))
        deadline = time.monotonic() + PATIENCE
        while not first.changed_elsewhere():  # it may be told a moment later
            assert time.monotonic() < deadline
            time.sleep(0.001)
        assert first.changed_elsewhere() is False
        second.read([name_of(1)])
        assert first.changed_elsewhere() is False


class ApplyContract:
    """Changes, alone and in batches."""

    def test_an_empty_batch_is_nothing(self, store: Store) -> None:
        """No change, no outcome."""
        assert store.apply([]) == []

    def test_the_outcome_is_the_row_after_the_change(self, store: Store) -> None:
        """Created, changed, left as it was, removed."""
        made = row()
        assert store.apply([put(made)]) == [made]
        assert only(store, made.name) == made
        changed = dataclasses.replace(made, owner="me", revision=2)
        assert store.apply([update(made.name, owner="me", revision=2)]) == [changed]
        assert only(store, made.name) == changed
        assert store.apply([Change(made.name, lambda record: record)]) == [changed]
        assert only(store, made.name) == changed
        assert store.apply([remove(made.name)]) == [None]
        assert store.read([made.name]) == []

    def test_outcomes_stand_at_the_places_of_their_changes(self, store: Store) -> None:
        """In whatever order the names are."""
        order = [5, 2, 9, 1, 7]
        outcomes = store.apply([put(row(i)) for i in order])
        assert outcomes == [row(i) for i in order]

    def test_a_change_of_a_missing_row_is_refused(self, store: Store) -> None:
        """Only a change that creates is called with None; nothing is re-created by accident (rule 1)."""
        called: list[Record | None] = []

        def event(record: Record | None) -> Record:
            called.append(record)
            return row()

        (outcome,) = store.apply([Change(name_of(1), event)])
        assert isinstance(outcome, OperationNotFoundError)
        assert None not in called
        assert store.read([name_of(1)]) == []
        assert store.apply([Change(name_of(1), event, creates=True)]) == [row()]
        assert None in called

    @pytest.mark.parametrize("error", [OperationDoneError(name_of(2), "FAILED"), ZeroDivisionError("a bug")])
    def test_a_refusal_is_the_outcome_of_its_change_alone(self, store: Store, error: Exception) -> None:
        """The others commit, whether the exception is an LroError or any other."""

        def refuse(_: Record | None) -> Record:
            raise error

        create_all(store, row(2))
        outcomes = store.apply([put(row(1)), Change(name_of(2), refuse), put(row(3))])
        assert outcomes == [row(1), error, row(3)]
        assert only(store, name_of(1)) == row(1)
        assert only(store, name_of(2)) == row(2)
        assert only(store, name_of(3)) == row(3)

    def test_changes_of_one_row_compose_in_their_order(self, store: Store) -> None:
        """Each change sees the row as the changes before it left it; a refusal in between leaves no trace."""

        def raise_claim(record: Record) -> Record:
            return dataclasses.replace(record, claim=record.claim + 1)

        def refuse(record: Record) -> Record:
            raise OperationDoneError(record.name, str(record.claim))

        name = name_of(1)
        outcomes = store.apply(
            [put(row()), Change(name, raise_claim), Change(name, refuse), put(row(2)), Change(name, raise_claim)]
        )
        claims = [outcome.claim for outcome in outcomes if isinstance(outcome, Record)]
        assert claims == [0, 1, 0, 2]
        assert isinstance(outcomes[2], OperationDoneError)
        assert outcomes[2].state == "1"
        assert only(store, name).claim == 2

    def test_made_and_removed_in_one_batch(self, store: Store) -> None:
        """The row leaves nothing behind, and later changes find nothing."""
        outcomes = store.apply([put(row()), remove(name_of(1)), update(name_of(1), owner="late")])
        assert outcomes[:2] == [row(), None]
        assert isinstance(outcomes[2], OperationNotFoundError)
        assert store.read([name_of(1)]) == []

    def test_removed_and_made_again_in_one_batch(self, store: Store) -> None:
        """Only the new row is left, with nothing of the old one."""
        old = row(owner="old", metadata=any_of(b"old"), parent_operation="operations/old", fingerprint="1:old")
        new = row(uid="another", handler="other", create_time=NOW + 1)
        create_all(store, old)
        assert store.apply([remove(old.name), put(new)]) == [None, new]
        assert only(store, old.name) == new

    def test_a_row_may_be_replaced_by_another(self, store: Store) -> None:
        """The whole new row is stored, including the fields that never change in the life of a row."""
        create_all(store, row(fingerprint="1:a", traceparent="t"))
        new = row(uid="another", handler="other", create_time=NOW - 5, state=State.SUCCEEDED, check_time=None)
        create_all(store, new)
        assert only(store, new.name) == new

    def test_a_thousand_rows_in_one_batch(self, store: Store) -> None:
        """The largest batch that an engine sends: created, changed and removed."""
        count = 1000
        create_all(store, *(row(i) for i in range(count)))
        outcomes = store.apply([update(name_of(i), revision=i + 2) for i in range(count)])
        assert [outcome.revision for outcome in outcomes if isinstance(outcome, Record)] == list(range(2, count + 2))
        found = store.read([name_of(i) for i in range(count)])
        assert {record.name: record.revision for record in found} == {name_of(i): i + 2 for i in range(count)}
        assert store.apply([remove(name_of(i)) for i in range(count)]) == [None] * count
        assert store.read([name_of(i) for i in range(count)]) == []

    def test_what_cannot_be_stored_is_refused_for_good_and_whole(self, store: Store) -> None:
        """A batch with half a surrogate pair, which is not text.

        The store commits nothing of it and raises any error but "try again", or refuses that change alone, or stores
        it and gives it back.
        """
        unstorable = row(2, owner="\ud800")
        outcomes: list[Outcome] | None
        try:
            outcomes = store.apply([put(row(1)), put(unstorable), put(row(3))])
        except StoreUnavailableError:
            raise
        except Exception:  # noqa: BLE001 - any other class tells the engine to search for the change that is to blame
            outcomes = None
        if outcomes is None:
            assert store.read([name_of(1), name_of(2), name_of(3)]) == []
        else:
            assert outcomes[0] == row(1)
            assert outcomes[2] == row(3)
            assert store.read([name_of(2)]) == ([] if isinstance(outcomes[1], Exception) else [unstorable])
        create_all(store, row(4))  # and the store goes on

    def test_records_that_left_the_store_are_not_its_rows(self, store: Store) -> None:
        """Changing an object that went into or came out of the store, even by force, does not change its row."""
        given = row()
        (returned,) = store.apply([put(given)])
        object.__setattr__(given, "owner", "forced")
        object.__setattr__(returned, "owner", "forced")
        object.__setattr__(only(store, name_of(1)), "owner", "forced")
        assert only(store, name_of(1)).owner == ""

    def test_a_change_is_given_the_stored_row(self, store: Store) -> None:
        """The whole row: payloads, wait and wake."""
        full = row(**{field: values[-2] for field, values in other_values(store).items()} | {"response": b""})
        assert full.state is State.FAILED
        create_all(store, full)
        seen: list[Record] = []

        def see(record: Record) -> Record:
            seen.append(record)
            return record

        apply_one(store, full.name, see)
        assert seen[-1] == full

    def test_the_deliveries_of_an_end_are_written_with_it(self, store: Store) -> None:
        """A change makes more rows than its own where the operation has webhooks: all of them are written, or none."""
        if not store.keeps_journal:
            pytest.skip("the store keeps no webhooks")
        hooks = noted([Webhook("https://a.example/1"), Webhook("https://a.example/2")], NOW)
        create_all(store, row(1, trail=hooks), row(2, trail=hooks), row(3))

        def end(record: Record) -> Record:
            return record.evolve(state=State.SUCCEEDED, check_time=None, end_time=NOW, expire_time=NOW + 9)

        def refuse(record: Record) -> Record:
            raise OperationDoneError(record.name, record.state)

        changes = [Change(name_of(1), end), Change(name_of(2), refuse), Change(name_of(3), end)]
        outcomes = store.apply(changes)
        assert isinstance(outcomes[1], OperationDoneError)
        made = [[record.name for record in change.made] for change in changes]
        assert [len(found) for found in made] == [2, 0, 0]
        assert sorted(names(store.read(made[0]))) == sorted(made[0])
        assert [record.state_data for record in store.read(made[0][:1])] == [changes[0].made[0].state_data]
        assert only(store, name_of(1)).trail.count("WEBHOOK ") == 2
        again = Change(name_of(1), lambda record: record.evolve(update_time=NOW + 1))
        store.apply([again])
        assert again.made == ()


class RoundTripContract:
    """What is written comes back."""

    @pytest.mark.parametrize("state", [State.RUNNING, State.SUCCEEDED])
    def test_every_field_comes_back_from_a_new_row(self, store: Store, state: State) -> None:
        """One row per field and value."""
        records = [
            row(f"{field.replace('_', '-')}-{i}", **({"state": state_for(field, state)} | {field: value}))
            for field, values in other_values(store).items()
            for i, value in enumerate(values)
        ]
        create_all(store, *records)
        found = {record.name: record for record in store.read(names(records))}
        for record in records:
            assert found[record.name] == record

    @pytest.mark.parametrize("state", [State.RUNNING, State.SUCCEEDED])
    def test_every_field_comes_back_from_a_changed_row(self, store: Store, state: State) -> None:
        """For every field that a change writes, and also when the field returns to its default."""
        for field, values in other_values(store).items():
            base = row(state=state_for(field, state))
            for value in (*values, getattr(base, field)):
                changed: dict[str, Any] = {field: value}
                create_all(store, base)
                store.apply([update(base.name, **changed)])
                assert only(store, base.name) == dataclasses.replace(base, **changed), field

    def test_types_come_back(self, store: Store) -> None:
        """A flag is a bool and not 1, a state is a State, a time without a fraction is a float."""
        create_all(store, row(deleted=True, cleaning=True, cancel_requested=True, cancel_children=True))
        found = only(store, name_of(1))
        assert type(found) is Record
        assert type(found.state) is State
        for flag in (found.deleted, found.cleaning, found.cancel_requested, found.cancel_children):
            assert flag is True
        assert type(found.create_time) is float
        assert type(found.revision) is int

    def test_the_largest_payloads(self, store: Store) -> None:
        """Metadata of 64 KiB, state of 1 MiB, a response of 2 MiB."""
        large = row(
            state=State.SUCCEEDED,
            metadata=any_of(b"m" * 2**16),
            state_data=bytes(range(256)) * 2**12,
            response=any_of(b"\xff" * 2**21),
        )
        create_all(store, large)
        assert only(store, large.name) == large
        failed: dict[str, Any] = {"state": State.FAILED, "response": b"", "error": status_of("e" * 2**16)}
        (outcome,) = store.apply([update(large.name, **failed)])
        assert not isinstance(outcome, Exception)
        assert only(store, large.name) == dataclasses.replace(large, **failed)

    def test_names_with_and_without_a_parent_are_different_rows(self, store: Store) -> None:
        """The whole name is the key, and case counts."""
        records = [row("a"), row("A"), row("a", parent="p"), row("a", parent="p/q"), row("a", parent="P")]
        create_all(store, *(dataclasses.replace(record, uid=str(i)) for i, record in enumerate(records)))
        for i, record in enumerate(records):
            assert only(store, record.name).uid == str(i)
