"""The part of the store contract about the rules of a row's life, and about races for one row."""

from __future__ import annotations

import dataclasses
import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from lro_aio.core import transitions
from lro_aio.core.change import Change, Outcome
from lro_aio.core.errors import (
    InvalidTokenError,
    LeaseLostError,
    OperationAlreadyExistsError,
    OperationBusyError,
    OperationDoneError,
    OperationNotFoundError,
)
from lro_aio.core.record import Record, State, Wait
from lro_aio.ports import Store
from lro_aio.testing._store_rows import (
    LEASE,
    NOW,
    RETENTION,
    any_of,
    apply_one,
    claimant,
    create_all,
    holder,
    name_of,
    only,
    put,
    row,
    update,
)

__all__ = ["LifeContract", "RaceContract"]

RIGHT, WRONG = "right", "wrong"  # resume tokens
PATIENCE = 30.0
"""Seconds after which a test gives up on its threads."""


def claim(store: Store, name: str, *, now: float = NOW, owner: str = "worker", token: str | None = None) -> Record:
    """Claim a row; a refusal is raised."""
    by = claimant(owner)
    claimed = apply_one(store, name, lambda record: transitions.claim(record, now=now, by=by, token=token))
    assert claimed is not None
    return claimed


def finish(store: Store, held: Record, *, now: float = NOW, response: bytes = b"") -> Record | None:
    """End a row as the holder of a claim; a refusal is raised."""
    return apply_one(
        store,
        held.name,
        lambda record: transitions.finish(record, holder=holder(held), now=now, retention=RETENTION, response=response),
    )


class LifeContract:
    """The rules of the core, seen through a store."""

    def test_an_end_is_final(self, store: Store) -> None:
        """Rule 1: a second end is refused, and the row is as the first one left it."""
        create_all(store, row())
        held = claim(store, name_of(1))
        ended = finish(store, held, response=any_of(b"first"))
        with pytest.raises(OperationDoneError):
            finish(store, held, response=any_of(b"second"))
        assert only(store, held.name) == ended
        assert ended is not None
        assert ended.response == any_of(b"first")

    def test_a_removed_row_is_not_made_again_by_a_late_write(self, store: Store) -> None:
        """Rule 1: renewals, ends and cancels of a row that is gone find nothing."""
        create_all(store, row())
        held = claim(store, name_of(1))
        apply_one(store, held.name, lambda _: None)
        with pytest.raises(OperationNotFoundError):
            finish(store, held)
        with pytest.raises(OperationNotFoundError):
            apply_one(store, held.name, lambda r: transitions.renew(r, holder=holder(held), now=NOW, lease=LEASE))
        assert store.read([held.name]) == []

    def test_an_old_claim_cannot_write(self, store: Store) -> None:
        """Rule 2: after a second claim, every write of the first holder is refused and leaves no trace."""
        create_all(store, row())
        first = claim(store, name_of(1), owner="first")
        second = claim(store, name_of(1), now=NOW + LEASE, owner="second")
        assert second.claim > first.claim
        with pytest.raises(LeaseLostError):
            finish(store, first, now=NOW + LEASE)
        with pytest.raises(LeaseLostError):
            apply_one(store, first.name, lambda r: transitions.renew(r, holder=holder(first), now=NOW, lease=LEASE))
        assert only(store, first.name) == second

    def test_a_claim_of_a_row_that_was_made_again_cannot_write(self, store: Store) -> None:
        """Rule 2: the uid tells the rows apart, even at the same claim."""
        create_all(store, row())
        old = claim(store, name_of(1))
        create_all(store, row(uid="another"))
        new = claim(store, name_of(1))
        assert new.claim == old.claim
        with pytest.raises(LeaseLostError):
            finish(store, old)
        assert only(store, old.name) == new

    def test_a_lease_is_over_at_its_moment_and_not_before(self, store: Store) -> None:
        """Rule 4: times are kept to the last bit, so that holder and claimant agree."""
        now = NOW + 1 / 3
        create_all(store, row())
        held = claim(store, name_of(1), now=now)
        end = only(store, held.name).lease_expire_time
        assert end == now + LEASE
        with pytest.raises(OperationBusyError):
            claim(store, held.name, now=math.nextafter(end, 0))
        assert claim(store, held.name, now=end).claim == held.claim + 1

    def test_a_renewal_moves_the_lease(self, store: Store) -> None:
        """Rule 4: a holder that renewed is safe from a claim at the old end."""
        create_all(store, row())
        held = claim(store, name_of(1))
        apply_one(
            store, held.name, lambda r: transitions.renew(r, holder=holder(held), now=NOW + LEASE / 2, lease=LEASE)
        )
        with pytest.raises(OperationBusyError):
            claim(store, held.name, now=NOW + LEASE)
        assert only(store, held.name).revision == held.revision

    def test_a_token_wakes_its_wait_once(self, store: Store) -> None:
        """Rule 7: suspended, claimed with the token, and busy for the next caller."""
        create_all(store, row())
        held = claim(store, name_of(1))
        wait = Wait(token=RIGHT, sleep_until=NOW + 60, children=("operations/child",), deadline=NOW + 120)
        apply_one(
            store,
            held.name,
            lambda record: transitions.suspend(
                record, holder=holder(held), now=NOW, retention=RETENTION, wait=wait, resume_point="collect"
            ),
        )
        assert only(store, held.name).wait == wait
        with pytest.raises(InvalidTokenError):
            claim(store, held.name, token=WRONG)
        woken = claim(store, held.name, token=RIGHT)
        assert woken.resume_point == "collect"
        with pytest.raises(OperationBusyError):
            claim(store, held.name, token=RIGHT)

    def test_one_request_makes_one_row(self, store: Store) -> None:
        """Rule 8: the same fingerprint finds the row, another is refused, an expired row is replaced."""

        def create(record: Record, now: float = NOW) -> Record | None:
            event: Callable[..., Record] = lambda old: transitions.create(old, record=record, now=now)  # noqa: E731
            return apply_one(store, record.name, event, creates=True)

        first = row(fingerprint="1:aa")
        assert create(first) == first
        assert create(row(uid="second", fingerprint="1:aa")) == first
        with pytest.raises(OperationAlreadyExistsError):
            create(row(uid="third", fingerprint="1:bb"))
        assert only(store, first.name) == first
        finish(store, claim(store, first.name))
        late = row(uid="fourth", fingerprint="1:bb")
        assert create(late, now=NOW + RETENTION) == late

    def test_a_deleted_row_runs_to_its_end_and_goes(self, store: Store) -> None:
        """Rule 13: marked, still writable by its holder, removed by its end."""
        create_all(store, row())
        held = claim(store, name_of(1))
        apply_one(store, held.name, lambda record: transitions.delete(record, now=NOW))
        assert only(store, held.name).deleted
        with pytest.raises(OperationNotFoundError):
            apply_one(store, held.name, lambda record: transitions.delete(record, now=NOW))
        assert finish(store, held) is None
        assert store.read([held.name]) == []

    def test_a_finished_row_is_deleted_at_once(self, store: Store) -> None:
        """Rule 13: nothing is left of it."""
        create_all(store, row())
        finish(store, claim(store, name_of(1)))
        assert apply_one(store, name_of(1), lambda record: transitions.delete(record, now=NOW)) is None
        assert store.read([name_of(1)]) == []

    def test_an_idle_row_is_cancelled_at_once(self, store: Store) -> None:
        """Rule 6: it ends CANCELLED, and a second cancel changes nothing."""
        create_all(store, row())
        event: Callable[..., Record | None] = lambda record: transitions.request_cancel(  # noqa: E731
            record, now=NOW, retention=RETENTION, token=RIGHT, cancel_children=False
        )
        ended = apply_one(store, name_of(1), event)
        assert ended is not None
        assert ended.state is State.CANCELLED
        assert ended.expire_time == NOW + RETENTION
        assert apply_one(store, name_of(1), event) == ended
        assert only(store, name_of(1)) == ended


class RaceContract:
    """Many threads, two clients, one row."""

    def test_of_fifty_claimers_one_wins(self, clients: tuple[Store, Store]) -> None:
        """The others are told that the row is busy."""
        create_all(clients[0], row())

        def attempt(number: int) -> Change:
            by = claimant(f"worker-{number}")
            return Change(name_of(1), lambda record: transitions.claim(record, now=NOW, by=by))

        outcomes = at_once(clients, [attempt(number) for number in range(50)])
        winners = [outcome for outcome in outcomes if isinstance(outcome, Record)]
        assert len(winners) == 1
        assert sum(isinstance(outcome, OperationBusyError) for outcome in outcomes) == 49
        assert only(clients[1], name_of(1)) == winners[0]

    def test_of_fifty_creators_one_makes_the_row(self, clients: tuple[Store, Store]) -> None:
        """The others, with the same request, get that row (rule 8)."""

        def attempt(number: int) -> Change:
            mine = row(uid=f"uid-{number}", fingerprint="1:same")
            return Change(mine.name, lambda old: transitions.create(old, record=mine, now=NOW), creates=True)

        outcomes = at_once(clients, [attempt(number) for number in range(50)])
        (made,) = clients[0].read([name_of(1)])
        assert outcomes == [made] * 50

    def test_no_update_is_lost(self, clients: tuple[Store, Store]) -> None:
        """A change is a function of the row as it is when the change commits."""
        create_all(clients[0], row(claim=0))
        step = Change(name_of(1), lambda record: dataclasses.replace(record, claim=record.claim + 1))
        outcomes = at_once(clients, [step] * 40)
        claims = [outcome.claim for outcome in outcomes if isinstance(outcome, Record)]
        assert sorted(claims) == list(range(1, 41))
        assert only(clients[0], name_of(1)).claim == 40

    def test_a_batch_is_seen_whole_or_not_at_all(self, clients: tuple[Store, Store]) -> None:
        """A reader never finds one row of a batch without the other, and never goes back in time."""
        writer, reader = clients
        pair = [name_of(1), name_of(2)]
        create_all(writer, row(1), row(2))
        stop = threading.Event()

        def watch() -> list[set[int]]:
            seen: list[set[int]] = []
            while not stop.is_set():
                seen.append({record.revision for record in reader.read(pair)})
            return seen

        with ThreadPoolExecutor(1) as pool:
            watching = pool.submit(watch)
            try:
                for revision in range(2, 60):
                    writer.apply([update(name, revision=revision) for name in pair])
            finally:
                stop.set()
            seen = watching.result(PATIENCE)
        assert {len(revisions) for revisions in seen} <= {1}
        order = [min(revisions) for revisions in seen]
        assert order == sorted(order)

    def test_every_method_may_be_called_from_any_thread(self, store: Store) -> None:
        """The thread that opened the store is not special."""
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda i: store.apply([put(row(i))]), range(8), timeout=PATIENCE))
            found = list(pool.map(lambda i: only(store, name_of(i)).name, range(8), timeout=PATIENCE))
            look = pool.submit(store.look, now=NOW, routes=[("job", "")], limit=100, owner="").result(PATIENCE)
        assert found == [name_of(i) for i in range(8)]
        assert len(look.due) == 8


def at_once(clients: tuple[Store, Store], changes: list[Change]) -> list[Outcome]:
    """Apply each change in a thread of its own, all at once, on the clients in turn."""
    gate = threading.Barrier(len(changes))

    def run(number: int) -> Outcome:
        gate.wait(PATIENCE)
        (outcome,) = clients[number % 2].apply([changes[number]])
        return outcome

    with ThreadPoolExecutor(len(changes)) as pool:
        return list(pool.map(run, range(len(changes)), timeout=PATIENCE))
