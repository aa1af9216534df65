"""Queues on PostgreSQL: decided alone, in few round trips, without a deadlock, and beside an older release."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from functools import partial

import psycopg
import pytest

import lro_aio as lro
from lro_aio.core.change import Change, Outcome
from lro_aio.core.queues import Bounds
from lro_aio.core.record import Record, Seat, State
from lro_aio.core.step_places import Take
from lro_aio.stores import _sql
from lro_aio.stores.postgres import PostgresStore, queues, schema
from lro_aio.testing._store_queues import bounded, claim, claiming, finish, next_in_line, seated, status, take
from lro_aio.testing._store_rows import NOW, create_all, name_of, only, put, row, update

from ..large_limits import check_that_they_hold_nobody_up
from ..waiting import block_until
from .proxy import Proxy

PATIENCE = 60.0
"""Seconds after which a test gives up on its threads."""


@pytest.fixture
def shared_url(emptied: str) -> str:
    """Tables that tests share."""
    return emptied


@pytest.fixture
def store(shared_url: str) -> Iterator[PostgresStore]:
    with closing(PostgresStore(shared_url, timeout=20)) as store:
        store.open()
        yield store


def other_queue(number: int, queue: str, key: str = "") -> Record:
    """A row that waits in another queue."""
    return row(number, seat=Seat(queue=queue, key=key))


def test_a_decision_costs_one_round_trip_more_and_what_has_no_queue_none(shared_url: str) -> None:
    with Proxy(shared_url) as proxy, closing(PostgresStore(proxy.url)) as store:
        store.open()
        store._notices.close()  # its heartbeat would count
        proxy.delay = 0.05
        bounded(store, running=20, per_key=2)
        create_all(store, *(seated(n, f"k{n % 5}") for n in range(100)), row(100, owner="me"))
        numbers = iter(range(100))

        def turns(call: object) -> int:
            before = proxy.turns
            call()
            return proxy.turns - before

        calls = [
            (lambda: store.apply([claiming(next(numbers))]), 3),
            (lambda: store.apply([claiming(next(numbers)), claiming(next(numbers)), put(row(200))]), 3),
            (lambda: claim(store, 95), 3),  # its key has no place left
            (lambda: store.apply([put(seated(uuid.uuid4().int % 10**6 + 1000, "new"))]), 3),
            (lambda: store.apply([update(name_of(0), metadata=b"x")]), 1),  # it has its place, and keeps it
            (lambda: store.apply([update(name_of(100), claim=1)]), 1),
            (lambda: store.purge(now=0.0, limit=5), 1),
            (lambda: store.line(now=NOW, routes=[("job", None)], limit=10), 2),
            (lambda: store.line(now=NOW, routes=[("elsewhere", None)], limit=10), 1),
            (lambda: store.queues(now=NOW), 1),
            (lambda: store.change_queue("q", lambda terms: terms), 2),
        ]
        for call, trips in calls:
            call()  # statements are prepared once
            assert turns(call) == trips


def test_steps_that_wait_cost_the_next_run_no_further_round_trip(shared_url: str) -> None:
    with Proxy(shared_url) as proxy, closing(PostgresStore(proxy.url)) as store:
        store.open()
        store._notices.close()  # its heartbeat would count
        proxy.delay = 0.05
        bounded(store, running=2)
        create_all(store, *(replace(seated(n), seat=Seat(queue="q", steps=True)) for n in range(4)))
        trips = []
        for number in range(4):
            before = proxy.turns
            assert claim(store, number) == [number]
            trips.append(proxy.turns - before)
            finish(store, number)
        assert trips[1:] == [3, 3, 3]


def claim_with_a_step(store: PostgresStore) -> tuple[list[Outcome], Take]:
    """The decision that knows of no queue refuses the claim, and so never comes to the step behind it."""
    for queue in ("a", "z"):
        store.change_queue(queue, lambda terms: terms.declare("p", Bounds(running=1), NOW))
    create_all(store, other_queue(0, "z"), other_queue(1, "z"))

    def wants(record: Record) -> Record:
        if record.state is not State.RUNNING:
            raise ValueError("it does not run")
        return record.evolve(seat=Seat(queue="z", steps=True))

    wanted = Take(step="s", queue="a", key="", moment=NOW)
    return store.apply([claiming(0), Change(name_of(0), wants, takes=wanted)]), wanted


def test_what_only_a_place_lets_a_batch_ask_for_is_found_too(store: PostgresStore) -> None:
    outcomes, wanted = claim_with_a_step(store)
    assert [outcome.state for outcome in outcomes if isinstance(outcome, Record)] == [State.RUNNING] * 2
    assert wanted.granted
    assert {queue.name: queue.running for queue in store.queues(now=NOW)} == {"a": 1, "z": 1}


def test_a_transaction_that_begins_again_leaves_its_connection_in_order(store: PostgresStore) -> None:
    """A ROLLBACK has psycopg forget what is prepared: nothing that it has prepared since may be forgotten with it."""
    claim_with_a_step(store)
    (link,) = store._pools[0]._idle
    for number in range(2, 5):
        create_all(store, row(number))
    assert list(store._pools[0]._idle) == [link]


@pytest.mark.slow
def test_batches_of_several_queues_in_any_order_do_not_wait_for_each_other(shared_url: str) -> None:
    """Operations are locked by their names, and queues after them by theirs. The server looks for no deadlock here."""
    queues = [f"q{n}" for n in range(6)]
    patient = f"{shared_url}&options=-c%20deadlock_timeout%3D1h"
    with closing(PostgresStore(patient, lanes=8, timeout=15)) as store:
        store.open()
        for queue in queues:
            store.change_queue(queue, lambda terms: terms.declare("a", Bounds(running=5, per_key=2), NOW))
        create_all(store, *(other_queue(n, queues[n % 6], f"k{n % 4}") for n in range(240)))

        def work(seed: int) -> None:
            rng = random.Random(seed)
            for turn in range(10):
                ran = claim(store, *rng.sample(range(seed * 30, seed * 30 + 30), 8))
                for number in rng.sample(ran, len(ran)):
                    finish(store, number)
                first = 1000 + seed * 1000 + turn * 10
                numbers = rng.sample(range(first, first + 6), 6)
                create_all(store, *(other_queue(n, rng.choice(queues), f"k{n % 4}") for n in numbers))
                store.purge(now=NOW, limit=10)

        with ThreadPoolExecutor(8) as pool:
            for done in [pool.submit(work, seed) for seed in range(8)]:
                done.result(PATIENCE)
        assert [status.running for status in store.queues(now=NOW)] == [0] * 6


@pytest.mark.slow
def test_no_bound_is_exceeded_by_one_though_many_decide_at_a_time(shared_url: str) -> None:
    stores = [PostgresStore(shared_url, lanes=4, timeout=20) for _ in range(3)]
    for store in stores:
        store.open()
    try:
        bounded(stores[0], running=4, per_key=2)
        create_all(stores[0], *(seated(n, f"k{n % 3}") for n in range(60)))

        def work(begin: int) -> int:
            served, store = 0, stores[begin % 3]
            for number in range(begin, 60, 6):
                for _ in range(3):
                    if claim(store, number):
                        found = status(store)
                        assert found.running <= 4
                        assert all(key.running <= 2 for key in found.keys)
                        finish(store, number)
                        served += 1
                        break
            return served

        with ThreadPoolExecutor(6) as pool:
            assert sum(future.result(PATIENCE) for future in [pool.submit(work, n) for n in range(6)]) > 0
        found = status(stores[0])
        assert found.running == 0
        for _ in range(60):  # whoever is left is found in the line, and nobody is forgotten
            following = next_in_line(stores[0])
            if not following:
                break
            number = int(following[0].rpartition("-")[2])
            assert claim(stores[0], number) == [number]
            finish(stores[0], number)
        assert status(stores[0]).waiting == 0
    finally:
        for store in stores:
            store.close()


@pytest.mark.parametrize("half", [1, 2, 3])
def test_a_lost_answer_takes_no_place_twice(shared_url: str, half: int) -> None:
    """The connection breaks while a claim looks at the row, while it looks at the queue, or while it is committed."""
    with Proxy(shared_url) as proxy, closing(PostgresStore(proxy.url, timeout=5)) as store:
        store.open()
        bounded(store, running=1)
        create_all(store, seated(0), seated(1))
        store._notices.close()  # only the claim is to break
        sent: list[bytes] = []

        def resets(data: bytes) -> bool:
            sent.append(data)
            return len(sent) == half

        proxy.resets = resets
        try:
            assert claim(store, 0) == [0]
        except lro.StoreUnavailableError:
            assert half == 3
            claim(store, 0)
        assert len(sent) > half
        assert status(store).running == 1
        assert claim(store, 1) == []
        finish(store, 0)
        assert (status(store).running, claim(store, 1)) == (0, [1])


def test_an_operation_that_a_release_put_into_another_queue_leaves_the_first_one(store: PostgresStore) -> None:
    """Its ticket says where it stood: both queues are locked, in one order, whichever is named first."""
    for first, second in (("a", "z"), ("z", "a")):
        for queue in (first, second):
            store.change_queue(queue, lambda terms: terms.declare("p", Bounds(running=1), NOW))
        number = ord(first)
        create_all(store, other_queue(number, first), other_queue(number + 1, first))
        assert claim(store, number) == [number]
        moved = partial(lambda queue, record: record.evolve(seat=Seat(queue=queue)), second)
        store.apply([Change(name_of(number), moved)])
        finish(store, number)
        found = {queue.name: (queue.running, queue.waiting) for queue in store.queues(now=NOW)}
        assert found[first] == (0, 1)
        assert found[second][0] == 0
        assert claim(store, number + 1) == [number + 1]
        finish(store, number + 1)


def test_steps_whose_keys_hold_any_bytes_have_places(store: PostgresStore) -> None:
    bounded(store, running=2)
    create_all(store, row(0))
    claim(store, 0)
    assert [take(store, 0, step) for step in ("a\0b", "a\nb", "ü")] == [True, True, False]
    finish(store, 0)
    assert (status(store).running, status(store).waiting) == (0, 0)


def test_what_expires_leaves_no_ticket(store: PostgresStore) -> None:
    bounded(store, running=1)
    create_all(store, seated(0, expire_time=NOW), seated(1))
    claim(store, 0)
    assert store.purge(now=NOW + 1, limit=10) == 1
    assert claim(store, 1) == [1]


def test_a_key_that_is_used_while_a_purge_forgets_it_stays(
    store: PostgresStore, shared_url: str, database: str, broom: psycopg.Connection[tuple[object, ...]]
) -> None:
    bounded(store, per_key=1)
    create_all(store, seated(0, "used"), seated(1, "not"))
    assert claim(store, 0, 1) == [0, 1]
    finish(store, 0)
    finish(store, 1)
    left = b"SELECT key FROM operations_queue_keys ORDER BY key"
    assert broom.execute(left).fetchall() == [("not",), ("used",)]
    waits = b"SELECT FROM pg_stat_activity WHERE application_name = 'purges' AND wait_event_type = 'Lock'"
    purging = PostgresStore(f"{shared_url}&application_name=purges", timeout=20)
    with psycopg.connect(database, autocommit=True) as watch, closing(purging), ThreadPoolExecutor(1) as pool:
        purging.open()
        with broom.transaction():
            broom.execute(b"UPDATE operations_queue_keys SET idle = NULL WHERE key = 'used'")
            purged = pool.submit(purging.purge, now=NOW + 1000, limit=10)
            block_until(lambda: bool(watch.execute(waits).fetchall()))
        purged.result(PATIENCE)
    assert broom.execute(left).fetchall() == [("used",)]


def test_limits_that_an_older_release_let_be_too_large_hold_nobody_up(
    store: PostgresStore, broom: psycopg.Connection[tuple[object, ...]]
) -> None:
    change = "UPDATE operations_queues SET bounds = %s, override = %s"
    check_that_they_hold_nobody_up(store, lambda text: broom.execute(change, (text, text)))


class TestBesideAnOlderRelease:
    """It was there before there were queues, has the table open, and writes as it always did."""

    @pytest.fixture
    def sql(self, database: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
        with psycopg.connect(database, autocommit=True) as connection:
            yield connection

    @pytest.fixture
    def role(self, sql: psycopg.Connection[tuple[object, ...]]) -> Iterator[str]:
        """It may do what a role may that was made for the older release."""
        role = f"r{uuid.uuid4().hex[:12]}"
        sql.execute(f'CREATE ROLE "{role}" LOGIN'.encode())
        yield role
        sql.execute(f'DROP OWNED BY "{role}"; DROP ROLE "{role}"'.encode())

    @pytest.fixture
    def older(self, url: str, role: str, sql: psycopg.Connection[tuple[object, ...]]) -> str:
        """The URL of a table as the older release made it, with one row."""
        name = url.rpartition("=")[2]
        location = PostgresStore(url)._location
        script = schema._filled(_sql.migrations("lro_aio.stores.postgres")[1], location)
        sql.execute(f'CREATE SCHEMA "{name}"; {script}'.encode())
        sql.execute(f"COMMENT ON TABLE {location.qualified} IS 'lro_aio schema 1'".encode())
        sql.execute(f'GRANT USAGE ON SCHEMA "{name}" TO "{role}"'.encode())
        sql.execute(f'GRANT SELECT, INSERT, UPDATE, DELETE ON {location.qualified} TO "{role}"'.encode())
        sql.execute(f'GRANT SELECT, INSERT, DELETE ON {location.journal} TO "{role}"'.encode())
        return url

    def test_rows_are_kept_and_the_role_goes_on_without_another_grant(
        self, older: str, role: str, sql: psycopg.Connection[tuple[object, ...]]
    ) -> None:
        table = PostgresStore(older)._location.qualified
        with closing(PostgresStore(older)) as owner:
            owner.open()
            create_all(owner, row(7))
            assert only(owner, name_of(7)) == row(7)
        with closing(PostgresStore(older.replace("lro@", f"{role}@"), migrate=False)) as store:
            store.open()
            bounded(store, running=1)
            create_all(store, seated(0), seated(1, "a"), row(2))
            assert claim(store, 0) == [0]
            assert take(store, 0, "step") is False
            # It removes the one that has the place, and knows nothing of tickets.
            with psycopg.connect(older.replace("lro@", f"{role}@").partition("?")[0], autocommit=True) as old:
                old.execute(f"DELETE FROM {table} WHERE name = %s".encode(), [name_of(0)])
            assert (status(store).running, status(store).waiting) == (0, 1)
            assert claim(store, 1) == [1]

    def test_a_place_of_what_it_ended_comes_back_with_the_next_purge(
        self, older: str, sql: psycopg.Connection[tuple[object, ...]]
    ) -> None:
        with closing(PostgresStore(older)) as store:
            store.open()
            bounded(store, running=2)
            create_all(store, seated(0), row(1))
            assert claim(store, 0, 1) == [0, 1]
            assert take(store, 1, "step")
            create_all(store, seated(2))
            sql.execute(
                f"UPDATE {store._location.qualified} SET state = 'SUCCEEDED', outcome = 1 WHERE owner <> ''".encode()
            )
            assert claim(store, 2) == []
            store.purge(now=0.0, limit=10)
            assert status(store).running == 0
            assert claim(store, 2) == [2]

    @pytest.fixture
    def ended(self, older: str, sql: psycopg.Connection[tuple[object, ...]]) -> Iterator[PostgresStore]:
        """Of two keys, it has ended who had the place. Of one, others stand behind."""
        with closing(PostgresStore(older)) as store:
            store.open()
            bounded(store, per_key=1)
            create_all(store, *(seated(n, "a") for n in range(3)), seated(3, "b"))
            assert claim(store, 0, 3) == [0, 3]
            sql.execute(
                f"UPDATE {store._location.qualified} SET state = 'SUCCEEDED', outcome = 1 WHERE owner <> ''".encode()
            )
            assert next_in_line(store) == []
            yield store

    def test_who_stands_behind_it_in_a_key_is_next_and_a_key_without_anybody_is_forgotten(
        self, ended: PostgresStore, sql: psycopg.Connection[tuple[object, ...]]
    ) -> None:
        ended.purge(now=NOW, limit=10)
        assert next_in_line(ended) == [name_of(1)]
        ended.purge(now=NOW, limit=10)
        keys = schema.tables(ended._location)["{queue_keys}"]
        assert sql.execute(f"SELECT key FROM {keys}".encode()).fetchall() == [("a",)]
        assert claim(ended, 1, 2) == [1]

    @pytest.mark.parametrize("last", [False, True])
    def test_what_it_ended_in_line_is_in_nobodys_way(
        self, older: str, sql: psycopg.Connection[tuple[object, ...]], last: bool
    ) -> None:
        """Its turn comes, and nobody takes it; where nobody else waits there, its key is forgotten."""
        with closing(PostgresStore(older)) as store:
            store.open()
            bounded(store, per_key=1)
            create_all(store, *(seated(n, "a") for n in range(2 if last else 3)))
            assert claim(store, 0) == [0]
            table = store._location.qualified
            sql.execute(f"UPDATE {table} SET state = 'CANCELLED', outcome = 2 WHERE name = %s".encode(), [name_of(1)])
            finish(store, 0)
            assert next_in_line(store) == []
            store.purge(now=NOW, limit=10)
            assert next_in_line(store) == ([] if last else [name_of(2)])
            assert status(store).waiting == (0 if last else 1)
            store.purge(now=NOW + 1, limit=10)
            keys = schema.tables(store._location)["{queue_keys}"]
            assert sql.execute(f"SELECT key FROM {keys}".encode()).fetchall() == ([] if last else [("a",)])

    def test_those_whom_it_ended_behind_each_other_are_in_nobodys_way(
        self, ended: PostgresStore, sql: psycopg.Connection[tuple[object, ...]]
    ) -> None:
        """Also of the first ones nobody decides: they were READY never."""
        table = ended._location.qualified
        sql.execute(f"UPDATE {table} SET state = 'CANCELLED', outcome = 2 WHERE name = %s".encode(), [name_of(1)])
        for _ in range(3):
            ended.purge(now=NOW, limit=10)
        assert next_in_line(ended) == [name_of(2)]
        assert claim(ended, 2) == [2]

    def test_a_queue_about_which_somebody_decides_is_left_for_the_next_purge(
        self, ended: PostgresStore, sql: psycopg.Connection[tuple[object, ...]]
    ) -> None:
        with sql.transaction():
            sql.execute(f"SELECT FROM {schema.tables(ended._location)['{queues}']} FOR UPDATE".encode())
            ended.purge(now=NOW, limit=10)
            assert (status(ended).running, next_in_line(ended)) == (2, [])
        ended.purge(now=NOW, limit=10)
        assert (status(ended).running, next_in_line(ended)) == (0, [name_of(1)])

    def test_others_are_told_of_a_place_that_came_back(self, ended: PostgresStore) -> None:
        with closing(PostgresStore(ended.url)) as other:
            other.open()
            ended.purge(now=NOW, limit=10)
            block_until(other.changed_elsewhere)

    @pytest.mark.parametrize("window", [1, 100])
    def test_who_stands_behind_what_it_removed_goes_on(
        self, older: str, sql: psycopg.Connection[tuple[object, ...]], window: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A purge looks at some keys, and the next one at those behind them."""
        monkeypatch.setattr(queues, "LOOKED_AT", window)
        with closing(PostgresStore(older)) as store:
            store.open()
            bounded(store, per_key=1)
            create_all(store, seated(0, "a"), seated(1, "b"), seated(2, "b"), seated(3, "c"), seated(4, "c"))
            assert claim(store, 0, 1, 3) == [0, 1, 3]
            removed = f"DELETE FROM {store._location.qualified} WHERE name = ANY(%s)"
            sql.execute(removed.encode(), [[name_of(0), name_of(3)]])
            assert next_in_line(store) == []
            for _ in range(2 if window > 3 else 5):
                store.purge(now=NOW, limit=10)
            assert next_in_line(store) == [name_of(4)]
            keys = schema.tables(store._location)["{queue_keys}"]
            assert sql.execute(f"SELECT key FROM {keys} ORDER BY key".encode()).fetchall() == [("b",), ("c",)]
