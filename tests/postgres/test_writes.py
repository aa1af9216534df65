"""How changes reach the table: few round trips, no deadlock, a conflict repeated, nothing written that need not be."""

from __future__ import annotations

import dataclasses
import itertools
import random
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg
import pytest

import lro_aio as lro
from lro_aio.core.change import Change
from lro_aio.core.journal import Entry
from lro_aio.core.record import Record
from lro_aio.ports import ListQuery
from lro_aio.stores.postgres import PostgresStore
from lro_aio.stores.postgres.errors import KINDS
from lro_aio.testing._store_rows import create_all, name_of, only, put, put_or_count, row, update

from ..waiting import block_until
from .proxy import Proxy


@pytest.fixture
def url(emptied: str) -> str:
    """Tables that the tests here share."""
    return emptied


@pytest.fixture
def store(url: str) -> Iterator[PostgresStore]:
    with closing(PostgresStore(url)) as store:
        store.open()
        yield store


def fail_first(sql: psycopg.Connection[tuple[object, ...]], code: str, times: int) -> None:
    """The first writes to the table end with this error."""
    sql.execute("CREATE SEQUENCE tries")
    sql.execute(
        f"""CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF nextval('{sql.execute("SELECT current_schema()").fetchone()[0]}.tries') <= {times}
            THEN RAISE EXCEPTION 'a fault of the test' USING ERRCODE = '{code}'; END IF;
            RETURN NEW; END $$""".encode()
    )
    sql.execute("CREATE TRIGGER fail BEFORE UPDATE ON operations FOR EACH STATEMENT EXECUTE FUNCTION fail()")


@pytest.mark.parametrize("code", ["40001", pytest.param("40P01", marks=pytest.mark.slow)])
def test_a_serialization_failure_and_a_deadlock_are_repeated(
    store: PostgresStore, sql: psycopg.Connection[tuple[object, ...]], code: str
) -> None:
    create_all(store, row())
    fail_first(sql, code, 3)
    (outcome,) = store.apply([update(name_of(1), claim=7)])
    assert isinstance(outcome, Record)
    assert only(store, name_of(1)).claim == 7


def test_a_conflict_that_does_not_end_is_an_outage_at_the_deadline(
    store: PostgresStore, sql: psycopg.Connection[tuple[object, ...]]
) -> None:
    create_all(store, row())
    fail_first(sql, "40001", 10**6)
    store._location = dataclasses.replace(store._location, timeout=1.5)
    with pytest.raises(lro.StoreUnavailableError):
        store.apply([update(name_of(1), claim=7)])
    (tried,) = sql.execute("SELECT last_value FROM tries").fetchone()
    assert tried > 1


@pytest.mark.parametrize(("code", "error"), [("53100", lro.StoreUnavailableError), ("22012", psycopg.Error)])
def test_a_full_disk_is_an_outage_and_a_bad_value_is_refused(
    store: PostgresStore,
    sql: psycopg.Connection[tuple[object, ...]],
    code: str,
    error: type[Exception],
) -> None:
    """Neither is repeated by itself, and nothing is written."""
    create_all(store, row())
    fail_first(sql, code, 1)
    with pytest.raises(error):
        store.apply([update(name_of(1), claim=7)])
    assert only(store, name_of(1)).claim == 0


@pytest.mark.parametrize("level", [pytest.param("repeatable read", marks=pytest.mark.slow), "serializable"])
def test_the_isolation_that_others_have_set_for_the_database_is_not_ours(url: str, level: str) -> None:
    """Two writers of one row take turns, instead of refusing each other."""
    strict = f"{url}&options=-c%20default_transaction_isolation%3D{level.replace(' ', '%5C%20')}"
    with closing(PostgresStore(strict)) as store, ThreadPoolExecutor(4) as pool:
        store.open()
        create_all(store, row())
        step = Change(name_of(1), lambda record: record.evolve(claim=record.claim + 1))
        list(pool.map(lambda _: store.apply([step]), range(40)))
        assert only(store, name_of(1)).claim == 40


def test_every_class_of_errors_that_psycopg_knows_has_been_thought_of() -> None:
    """A new one is refused for good until somebody has said what it means."""
    classes = {code[:2] for code in psycopg.errors._sqlcodes if len(code) == 5 and any(map(str.isdigit, code))}
    assert len(classes) > 30
    assert classes - {code[:2] for code in KINDS} == set()


def test_a_call_is_as_few_round_trips_as_can_be(url: str) -> None:
    """Two for a batch of changes, whatever is in it; one where their rows are known, and for anything that reads."""
    with Proxy(url) as proxy, closing(PostgresStore(proxy.url)) as store, closing(PostgresStore(url)) as other:
        store.open()
        other.open()
        store._notices.close()  # its heartbeat would count
        proxy.delay = 0.05
        create_all(store, *(row(i, owner="me") for i in range(8)))
        keys = map(str, itertools.count())

        def mixed() -> None:
            entry = Entry(kind="STEP", key=next(keys), time=0.0)
            changes = [update(name_of(i), claim=i) for i in range(4)]
            changes += [
                put(row(uuid.uuid4().hex)),
                Change(name_of(7), lambda _: None),
                put(row(7, owner="me", state_data=b"x")),
            ]
            changes.append(Change(name_of(5), lambda record: record.evolve(claim=9), appends=(entry,)))
            assert all(outcome is None or isinstance(outcome, Record) for outcome in store.apply(changes))

        def met() -> None:
            """Another process has changed one of the rows."""
            other.apply([update(name_of(3), claim=99)])
            mixed()

        calls = {
            mixed: 1,
            met: 3,
            lambda: store.apply([update(name_of(1), claim=1), update("operations/none", claim=1)]): 2,
            lambda: store.read([name_of(1), name_of(2)]): 1,
            lambda: store.look(now=1e12, routes=[("job", ""), ("x", None)], limit=9, owner="", overdue=0.0): 1,
            lambda: store.journal([name_of(5)]): 1,
            lambda: store.unfinished([name_of(1)]): 1,
            lambda: store.list(ListQuery(now=0.0, limit=5)): 1,
            lambda: store.purge(now=0.0, limit=5): 1,
        }
        for call, trips in calls.items():
            call()  # statements are prepared once
            before = proxy.turns
            call()
            assert proxy.turns - before == trips, call


@pytest.mark.slow
def test_batches_of_the_same_rows_in_any_order_do_not_wait_for_each_other(url: str) -> None:
    """Everybody locks in the order of the names: not one deadlock, which would cost a second each."""
    with closing(PostgresStore(url, lanes=8)) as store:
        store.open()
        dice = random.Random(5)
        count = 12
        create_all(store, *(row(i) for i in range(count)))

        def batch(number: int) -> None:
            chosen = dice.sample(range(count), 6)
            changes = [Change(name_of(i), lambda r: dataclasses.replace(r, claim=r.claim + 1)) for i in chosen]
            fresh = [f"new-{i}" for i in dice.sample(range(400), 4)]
            changes += [Change(name_of(f), lambda r, f=f: r or row(f), creates=True) for f in fresh]
            dice.shuffle(changes)
            for outcome in store.apply(changes):
                assert isinstance(outcome, Record), outcome

        before = deadlocks(url)  # of other tests on this server, too
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(batch, range(80)))
        assert sum(record.claim for record in store.read([name_of(i) for i in range(count)])) == 80 * 6
    assert deadlocks(url) == before


def deadlocks(url: str) -> int:
    """How many the server has found in the database."""
    with psycopg.connect(url.partition("?")[0]) as connection:
        (found,) = connection.execute(
            "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        ).fetchone()
    return int(found)


def test_a_payload_that_does_not_change_is_not_written_again(
    store: PostgresStore, sql: psycopg.Connection[tuple[object, ...]]
) -> None:
    """A renewal of a lease leaves a state of a megabyte where it is: PostgreSQL would store all of it anew."""
    create_all(store, row(state_data=random.Random(1).randbytes(2**20), state_codec="json;v=1"))
    before = sql.execute("SELECT pg_current_wal_insert_lsn()").fetchone()
    store.apply([update(name_of(1), check_time=5.0, lease_expire_time=9.0)])
    (written,) = sql.execute("SELECT pg_current_wal_insert_lsn() - %s::pg_lsn", before).fetchone()
    assert written < 2**18


def test_what_a_reader_may_have_at_most_is_cut_by_the_server(store: PostgresStore) -> None:
    """A page of large rows is not sent to be thrown away."""
    create_all(store, *(row(i, state_data=bytes(2**18), state_codec="json;v=1") for i in range(20)))
    assert len(store.list(ListQuery(now=0.0, limit=20, max_bytes=2**19))) == 2


def test_a_commit_whose_notice_fails_is_a_commit(store: PostgresStore, caplog: pytest.LogCaptureFixture) -> None:
    """As where the queue of notices is full, since some listener does not listen: nothing of it is done again."""
    create_all(store, row())
    store._texts._texts["notify"] = "SELECT length(%s || %s) / 0"
    (outcome,) = store.apply([Change(name_of(1), lambda record: record.evolve(claim=record.claim + 1))])
    assert outcome.claim == only(store, name_of(1)).claim == 1
    assert [record.event for record in caplog.records if record.name == "lro_aio"] == ["notice_failed"]


def test_a_zero_byte_is_refused_for_good(store: PostgresStore) -> None:
    """A text of PostgreSQL cannot hold one: the engine is not to try again."""
    with pytest.raises(psycopg.DataError):
        store.apply([put(row(owner="a\0b"))])
    create_all(store, row())


def make(number: int, **fields: object) -> Change:
    """Make a row, and keep the one that is there."""
    new = row(number, **fields)
    return Change(new.name, lambda there: there or new, creates=True)


def test_of_rows_that_are_to_be_made_those_that_are_there_stay(store: PostgresStore) -> None:
    create_all(store, row(2, claim=7))
    outcomes = store.apply([make(number, claim=number) for number in (3, 2, 1)])
    assert [(one.name, one.claim) for one in outcomes if isinstance(one, Record)] == [
        (name_of(3), 3), (name_of(2), 7), (name_of(1), 1),
    ]  # fmt: skip
    assert sorted(record.claim for record in store.read([name_of(number) for number in (1, 2, 3)])) == [1, 3, 7]


def test_a_row_that_is_to_be_made_and_changed_in_one_batch_is_both(store: PostgresStore) -> None:
    outcomes = store.apply([make(1), make(1), update(name_of(1), claim=7)])
    assert [one.claim for one in outcomes if isinstance(one, Record)] == [0, 0, 7]
    assert only(store, name_of(1)).claim == 7


def test_what_a_batch_has_made_is_not_met_again_where_the_rest_of_it_is_repeated(
    store: PostgresStore, sql: psycopg.Connection[tuple[object, ...]]
) -> None:
    create_all(store, row(2))
    fail_first(sql, "40001", 2)
    outcomes = store.apply([put_or_count(row(number)) for number in (1, 2, 3)])
    assert [one.claim for one in outcomes if isinstance(one, Record)] == [0, 1, 0]
    assert [only(store, name_of(number)).claim for number in (1, 2, 3)] == [0, 1, 0]


def test_new_rows_do_not_wait_for_one_that_is_being_removed(
    store: PostgresStore, url: str, sql: psycopg.Connection[tuple[object, ...]]
) -> None:
    """Whoever removes it may go on to make one of them: each would wait for the other."""
    with closing(PostgresStore(url)) as other:
        other.open()
        create_all(other, row(2))
    with ThreadPoolExecutor(1) as pool, sql.transaction(force_rollback=True):
        sql.execute("DELETE FROM operations WHERE name = %s", [name_of(2)])
        outcomes = pool.submit(store.apply, [make(1, claim=1), make(2, claim=2)])
        block_until(lambda: store.read([name_of(1)]))
    assert [one.claim for one in outcomes.result(20) if isinstance(one, Record)] == [1, 0]


def test_a_refused_start_is_refused_alone(store: PostgresStore) -> None:
    def refuse(there: Record | None) -> Record:
        raise ValueError("not so")

    outcomes = store.apply([make(1), Change(name_of(2), refuse, creates=True), make(3)])
    assert [type(outcome) for outcome in outcomes] == [Record, ValueError, Record]
    assert {record.name for record in store.read([name_of(i) for i in (1, 2, 3)])} == {name_of(1), name_of(3)}
