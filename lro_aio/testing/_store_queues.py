"""The part of the store contract about queues."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from lro_aio.core import straight, transitions
from lro_aio.core.change import Change
from lro_aio.core.errors import StoreSchemaError
from lro_aio.core.journal import Entry, Kind
from lro_aio.core.queueing import Rest
from lro_aio.core.queues import Bounds, InLine, QueueStatus, Rate
from lro_aio.core.record import Record, Seat, State, Wait
from lro_aio.core.stats import Count
from lro_aio.core.step_places import Take
from lro_aio.ports import Store
from lro_aio.testing._store_rows import (
    LEASE,
    NOW,
    RETENTION,
    claimant,
    create_all,
    holder,
    name_of,
    names,
    only,
    remove,
    row,
    update,
)

__all__ = ["NoQueuesContract", "QueuesContract"]

PATIENCE = 30.0
"""Seconds after which a test gives up on its threads."""
ROUTES = [("job", None)]


def seated(number: int, key: str = "", priority: int = 0, **fields: Any) -> Record:
    """A row that waits in the queue "q"."""
    whole = fields.pop("whole", False)
    return row(number, seat=Seat(queue="q", key=key, priority=priority, whole=whole), **fields)


def bounded(store: Store, **bounds: Any) -> None:
    """Declare the queue "q"."""
    store.change_queue("q", lambda terms: terms.declare("a", Bounds(**bounds), NOW))


def claiming(number: int, now: float = NOW, **options: Any) -> Change:
    """Claim a row."""
    return Change(name_of(number), partial(transitions.claim, now=now, by=claimant(), **options), claims=True)


def claim(store: Store, *numbers: int, now: float = NOW) -> list[int]:
    """Claim rows in one batch; gives those that run."""
    outcomes = store.apply([claiming(number, now) for number in numbers])
    return [n for n, o in zip(numbers, outcomes, strict=True) if isinstance(o, Record) and o.state is State.RUNNING]


def finish(store: Store, number: int, now: float = NOW, **options: Any) -> None:
    """End the run of a row."""
    held = only(store, name_of(number))
    event = partial(transitions.finish, holder=holder(held), now=now, retention=RETENTION)
    (outcome,) = store.apply([Change(held.name, event, **options)])
    assert isinstance(outcome, Record), outcome


def give_back(store: Store, number: int, now: float = NOW, **options: Any) -> None:
    """Release a row."""
    held = only(store, name_of(number))
    event = partial(transitions.release, holder=holder(held), now=now)
    (outcome,) = store.apply([Change(held.name, event, **options)])
    assert isinstance(outcome, Record), outcome


def next_in_line(store: Store, now: float = NOW, limit: int = 100) -> list[str]:
    """Who is next."""
    return names(store.line(now=now, routes=ROUTES, limit=limit).due)


def status(store: Store, now: float = NOW) -> QueueStatus:
    """How it goes with the queue "q"."""
    (found,) = store.queues(now=now, names=["q"])
    return found


def in_line(store: Store, number: int, now: float = NOW) -> list[InLine]:
    """Where a row and its steps stand."""
    return list(store.in_line(name_of(number), only(store, name_of(number)).uid, now=now))


def take(store: Store, number: int, step: str, key: str = "", now: float = NOW) -> bool:
    """Whether a step of a row that runs gets a place."""
    held = only(store, name_of(number))
    wanted = Take(step=step, queue="q", key=key, moment=now)
    event = partial(straight.wants_place, holder=holder(held), now=now)
    (outcome,) = store.apply([Change(held.name, event, takes=wanted)])
    assert isinstance(outcome, Record), outcome
    return wanted.granted


def keep(store: Store, number: int, step: str) -> None:
    """Keep the result of a step."""
    held = only(store, name_of(number))
    event = partial(straight.appended, holder=holder(held), now=NOW, progress=True, gives=True)
    entry = Entry(kind=Kind.STEP, key=step, time=NOW)
    (outcome,) = store.apply([Change(held.name, event, appends=(entry,), gives=(step,))])
    assert isinstance(outcome, Record), outcome


class QueuesContract:
    """Places are taken and given back with the changes of rows."""

    @pytest.fixture
    def queued_by(self, store: Store) -> Store:
        """The store, where it has queues."""
        if store.no_queues_reason:
            pytest.skip("this store has no queues")
        return store

    def test_a_batch_of_claims_gets_as_many_places_as_there_are(self, queued_by: Store) -> None:
        bounded(queued_by, running=2)
        create_all(queued_by, *(seated(n) for n in range(4)))
        assert next_in_line(queued_by) == [name_of(0), name_of(1)]
        assert claim(queued_by, 0, 1, 2) == [0, 1]
        assert next_in_line(queued_by) == []
        waits = only(queued_by, name_of(2))
        assert (waits.state, waits.attempt, waits.check_time) == (State.PENDING, 0, None)
        assert status(queued_by) == replace(status(queued_by), running=2, waiting=2, bounds=Bounds(running=2))

    def test_what_waits_is_not_due_and_has_no_next_check(self, queued_by: Store) -> None:
        bounded(queued_by, running=1)
        create_all(queued_by, *(seated(n) for n in range(3)))
        look = queued_by.look(now=NOW + 1, routes=ROUTES, limit=10, owner="")
        assert (look.due, look.next_check) == ([], None)

    def test_a_place_is_given_back_with_the_end_of_the_run(self, queued_by: Store) -> None:
        bounded(queued_by, running=1)
        create_all(queued_by, seated(0), seated(1))
        claim(queued_by, 0)
        finish(queued_by, 0)
        assert next_in_line(queued_by) == [name_of(1)]
        assert claim(queued_by, 1) == [1]

    def test_in_one_transaction_a_place_may_go_from_one_to_the_next(self, queued_by: Store) -> None:
        bounded(queued_by, running=1)
        create_all(queued_by, seated(0), seated(1))
        claim(queued_by, 0)
        held = only(queued_by, name_of(0))
        end = Change(held.name, partial(transitions.finish, holder=holder(held), now=NOW, retention=RETENTION))
        outcomes = queued_by.apply([claiming(1), end, claiming(1)])
        assert [outcome.state for outcome in outcomes if isinstance(outcome, Record)] == [
            State.PENDING,
            State.SUCCEEDED,
            State.RUNNING,
        ]

    def test_a_refused_change_takes_no_place(self, queued_by: Store) -> None:
        bounded(queued_by, running=1)
        create_all(queued_by, seated(0), seated(1))
        old = replace(only(queued_by, name_of(0)), state=State.RUNNING)
        (refused,) = queued_by.apply([claiming(0, found=replace(old, claim=7), token=name_of(9))])
        assert isinstance(refused, Exception)
        assert claim(queued_by, 1) == [1]

    @pytest.mark.parametrize("how", ["removed", "cancelled", "replaced"])
    def test_what_disappears_leaves_neither_a_place_nor_a_ticket(self, queued_by: Store, how: str) -> None:
        bounded(queued_by, running=1)
        create_all(queued_by, seated(0), seated(1))
        claim(queued_by, 0)
        if how == "removed":
            queued_by.apply([remove(name_of(0))])
        elif how == "cancelled":
            finish(queued_by, 0)
        else:
            create_all(queued_by, replace(row(0), uid="another"))
        assert (status(queued_by).running, status(queued_by).waiting) == (0, 1)
        assert claim(queued_by, 1) == [1]

    def test_keys_have_their_places_and_take_turns(self, queued_by: Store) -> None:
        bounded(queued_by, per_key=1)
        create_all(queued_by, *(seated(n, "a") for n in range(3)), seated(3, "b"), seated(4, "b"))
        assert next_in_line(queued_by) == [name_of(0), name_of(3)]
        assert claim(queued_by, 0, 3, 1) == [0, 3]
        assert next_in_line(queued_by) == []
        finish(queued_by, 0)
        assert next_in_line(queued_by) == [name_of(1)]

    def test_priorities_come_first_also_within_a_key(self, queued_by: Store) -> None:
        bounded(queued_by, running=1, per_key=1)
        create_all(queued_by, seated(0, "a", 5), seated(1, "b", 3), seated(2, "a", 1))
        served = []
        for _ in range(3):
            (name,) = next_in_line(queued_by)
            number = int(name[-4:])
            assert claim(queued_by, number) == [number]
            finish(queued_by, number)
            served.append(number)
        assert served == [2, 1, 0]

    def test_a_rate_says_when_the_next_one_may_start(self, queued_by: Store) -> None:
        bounded(queued_by, rate=Rate(2, per=10))
        create_all(queued_by, *(seated(n) for n in range(4)))
        assert claim(queued_by, 0) == [0]
        assert claim(queued_by, 1, 2, now=NOW + 4) == [1]
        look = queued_by.line(now=NOW + 4, routes=ROUTES, limit=10)
        assert (look.due, look.next_check) == ([], NOW + 10)
        assert next_in_line(queued_by, NOW + 10) == [name_of(2)]
        assert claim(queued_by, 2, 3, now=NOW + 10) == [2]
        assert claim(queued_by, 3, now=NOW + 14) == [3]

    def test_a_rate_of_each_key_wakes_that_key(self, queued_by: Store) -> None:
        bounded(queued_by, rate_per_key=Rate(1, per=10))
        create_all(queued_by, seated(0, "a"), seated(1, "a"), seated(2, "b"))
        assert claim(queued_by, 0, 2, 1) == [0, 2]
        look = queued_by.line(now=NOW + 1, routes=ROUTES, limit=10)
        assert (look.due, look.next_check) == ([], NOW + 10)
        assert next_in_line(queued_by, NOW + 10) == [name_of(1)]
        assert claim(queued_by, 1, now=NOW + 10) == [1]

    def test_a_rest_is_stored_with_the_change_that_asks_for_it(self, queued_by: Store) -> None:
        bounded(queued_by, running=5)
        create_all(queued_by, seated(0, "a"), seated(1, "a"), seated(2))
        claim(queued_by, 0)
        give_back(queued_by, 0, rests=(Rest("q", "a", NOW + 60),))
        look = queued_by.line(now=NOW, routes=ROUTES, limit=10)
        assert (names(look.due), look.next_check) == ([name_of(2)], NOW + 60)
        assert {key.key: key.rests_until for key in status(queued_by).keys}["a"] == NOW + 60
        assert name_of(0) in next_in_line(queued_by, NOW + 60)
        assert claim(queued_by, 0, 1, now=NOW + 60) == [0, 1]

    def test_the_whole_operation_keeps_its_place(self, queued_by: Store) -> None:
        bounded(queued_by, running=1)
        create_all(queued_by, seated(0, whole=True), seated(1))
        claim(queued_by, 0)
        held, wait = only(queued_by, name_of(0)), Wait(token=name_of(9), sleep_until=NOW)
        event = partial(
            transitions.suspend, holder=holder(held), now=NOW, retention=RETENTION, wait=wait, resume_point=""
        )
        queued_by.apply([Change(held.name, event)])
        assert next_in_line(queued_by) == []
        queued_by.apply([claiming(0, token=name_of(9))])
        assert only(queued_by, name_of(0)).state is State.RUNNING

    def test_a_place_goes_over_to_whoever_takes_over_the_run(self, queued_by: Store) -> None:
        bounded(queued_by, running=1)
        create_all(queued_by, seated(0), seated(1))
        claim(queued_by, 0)
        assert claim(queued_by, 0, now=NOW + LEASE) == [0]
        assert claim(queued_by, 1, now=NOW + LEASE) == []

    def test_only_routes_that_are_asked_for_are_in_line(self, queued_by: Store) -> None:
        bounded(queued_by, running=1)
        create_all(queued_by, *(seated(n, handler="other") for n in range(50)), seated(60))
        assert next_in_line(queued_by) == [name_of(60)]
        assert queued_by.line(now=NOW, routes=[("third", None)], limit=5).due == []
        assert names(queued_by.line(now=NOW, routes=[("other", "")], limit=5).due) == [name_of(0)]
        assert queued_by.line(now=NOW, routes=[("other", "elsewhere")], limit=5).due == []

    def test_what_a_scheduler_has_is_not_given_to_another(self, queued_by: Store) -> None:
        bounded(queued_by, running=1)
        create_all(queued_by, seated(0))
        queued_by.apply([update(name_of(0), check_time=NOW + 60, handover=1)])
        assert next_in_line(queued_by) == []
        assert next_in_line(queued_by, NOW + 60) == [name_of(0)]

    def test_a_pause_and_other_bounds_hold_at_once(self, queued_by: Store) -> None:
        bounded(queued_by, running=1, per_key=1)
        create_all(queued_by, *(seated(n, "a") for n in range(4)))
        claim(queued_by, 0)
        queued_by.change_queue("q", lambda terms: replace(terms, paused=True, override=Bounds(per_key=3)))
        assert next_in_line(queued_by) == []
        assert claim(queued_by, 1) == []
        before, after = queued_by.change_queue("q", lambda terms: replace(terms, paused=False))
        assert (before.paused, after.paused) == (True, False)
        assert next_in_line(queued_by)[:1] == [name_of(1)]
        assert claim(queued_by, 1, 2, 3) == [1, 2]
        found = status(queued_by)
        assert (found.override, found.declared) == (Bounds(per_key=3), Bounds(running=1, per_key=1))

    def test_other_bounds_wake_no_keys_in_which_nobody_waits(self, queued_by: Store) -> None:
        """A look takes some keys whose time has come: who waits is not to stand behind those that have nobody."""
        bounded(queued_by, per_key=1)
        create_all(queued_by, *(seated(n, f"k{n:02}") for n in range(40)), seated(50, "z"), seated(51, "z"))
        claim(queued_by, *range(40), 50)
        assert next_in_line(queued_by) == []
        queued_by.change_queue("q", lambda terms: replace(terms, override=Bounds(per_key=2)))
        assert next_in_line(queued_by) == [name_of(51)]

    def test_keys_that_are_idle_are_forgotten(self, queued_by: Store) -> None:
        bounded(queued_by, rate_per_key=Rate(1, per=10))
        create_all(queued_by, seated(0, "a"), seated(1, "a"))
        claim(queued_by, 0)
        finish(queued_by, 0)
        queued_by.purge(now=NOW + 100, limit=10)
        assert claim(queued_by, 1, now=NOW + 1) == []  # somebody waits: the start before counts
        assert claim(queued_by, 1, now=NOW + 10) == [1]
        finish(queued_by, 1, NOW + 10)
        queued_by.purge(now=NOW + 30, limit=10)
        create_all(queued_by, seated(2, "a", check_time=NOW + 30, update_time=NOW + 30))
        assert claim(queued_by, 2, now=NOW + 30) == [2]

    def test_steps_wait_in_the_same_line_and_give_back_with_what_they_keep(self, queued_by: Store) -> None:
        bounded(queued_by, running=1)
        create_all(queued_by, row(0), row(1))
        claim(queued_by, 0, 1)
        assert take(queued_by, 0, "a") is True
        assert take(queued_by, 0, "a") is True  # a lost answer
        create_all(queued_by, seated(2))
        assert (take(queued_by, 0, "b"), take(queued_by, 1, "a")) == (False, False)
        assert (next_in_line(queued_by), status(queued_by).waiting) == ([], 3)
        keep(queued_by, 0, "a")
        assert next_in_line(queued_by) == [name_of(2)]
        assert claim(queued_by, 2) == [2]
        finish(queued_by, 2)
        called = queued_by.line(now=NOW, routes=ROUTES, limit=10).called
        assert [(record.name, step) for record, step in called] == [(name_of(0), "b")]
        assert (take(queued_by, 1, "a"), take(queued_by, 0, "b")) == (True, False)

    def test_a_claim_gives_back_the_places_of_the_steps_of_a_dead_run(self, queued_by: Store) -> None:
        bounded(queued_by, running=1)
        create_all(queued_by, row(0), row(1))
        claim(queued_by, 0, 1)
        assert (take(queued_by, 0, "a"), take(queued_by, 1, "a")) == (True, False)
        assert claim(queued_by, 0, now=NOW + LEASE) == [0]
        assert status(queued_by).running == 0
        assert take(queued_by, 0, "a") is True

    def test_of_a_run_that_stops_only_steps_that_wait_on_stay_in_line(self, queued_by: Store) -> None:
        bounded(queued_by, running=1)
        create_all(queued_by, row(0), row(1))
        claim(queued_by, 0, 1)
        assert [take(queued_by, 0, "a"), take(queued_by, 1, "b"), take(queued_by, 1, "c")] == [True, False, False]
        held, wait = only(queued_by, name_of(1)), Wait(token=name_of(9), sleep_until=NOW + 60, union=True, rerun=True)
        event = partial(
            transitions.suspend, holder=holder(held), now=NOW, retention=RETENTION, wait=wait, resume_point=""
        )
        queued_by.apply([Change(held.name, event, stands=("c",))])
        give_back(queued_by, 0)
        called = queued_by.line(now=NOW, routes=ROUTES, limit=10).called
        assert [(record.name, step) for record, step in called] == [(name_of(1), "c")]
        queued_by.apply([remove(name_of(1))])
        assert (status(queued_by).running, status(queued_by).waiting) == (0, 0)

    def test_it_tells_where_an_operation_and_its_steps_stand(self, queued_by: Store) -> None:
        bounded(queued_by, running=1)
        create_all(queued_by, row(0), seated(1, "a"), seated(2, "b"), seated(3, "a"), seated(4, "b", priority=-1))
        claim(queued_by, 0, 1)
        if type(queued_by).in_line is Store.in_line:
            pytest.skip("this store does not tell")
        first = in_line(queued_by, 1)
        assert first == [InLine(queue="q", key="a", held=True, since=NOW)]
        claim(queued_by, 2, 3, 4)
        assert take(queued_by, 0, "call\nx", "b") is False
        stands = {number: in_line(queued_by, number) for number in (2, 3, 4, 0)}
        assert {number: [place.ahead for place in found] for number, found in stands.items()} == {
            4: [Count(0)], 2: [Count(1)], 3: [Count(2)], 0: [Count(3)],
        }  # fmt: skip
        assert stands[0] == [
            InLine(queue="q", key="b", step="call", step_key="x", since=NOW, ahead=Count(3)),
        ]
        finish(queued_by, 1, rests=(Rest("q", "b", NOW + 60),))
        assert [in_line(queued_by, number)[0].rests_until for number in (2, 3)] == [NOW + 60, None]
        assert in_line(queued_by, 2, NOW + 60)[0].rests_until is None
        queued_by.change_queue("q", lambda terms: replace(terms, paused=True))
        assert in_line(queued_by, 2)[0].paused
        assert in_line(queued_by, 1) == []

    def test_two_clients_take_no_place_twice(self, clients: tuple[Store, Store]) -> None:
        first, second = clients
        if first.no_queues_reason:
            pytest.skip("this store has no queues")
        bounded(first, running=5)
        create_all(first, *(seated(n) for n in range(40)))

        def take(store: Store, begin: int) -> list[int]:
            return [n for n in range(begin, 40, 2) if claim(store, n)]

        with ThreadPoolExecutor(2) as pool:
            taken = [pool.submit(take, store, begin) for begin, store in enumerate((first, second))]
            assert len([n for future in taken for n in future.result(PATIENCE)]) == 5
        assert status(second).running == 5


class NoQueuesContract:
    """A store without queues says so."""

    def test_without_queues_it_says_why(self, store: Store) -> None:
        if not store.no_queues_reason:
            pytest.skip("this store has queues")
        with pytest.raises(StoreSchemaError, match="has no queues"):
            store.line(now=NOW, routes=ROUTES, limit=1)
        with pytest.raises(StoreSchemaError, match="has no queues"):
            store.queues(now=NOW)
        with pytest.raises(StoreSchemaError, match="has no queues"):
            store.change_queue("q", lambda terms: terms)
