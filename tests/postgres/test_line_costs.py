"""A hand-over of a place costs the same whether a hundred stand in line or thousands: the server's counters tell."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import psycopg
import pytest

from lro_aio.core.record import Record
from lro_aio.stores.postgres import PostgresStore, connections
from lro_aio.testing._store_queues import bounded, claim, finish, next_in_line, seated
from lro_aio.testing._store_rows import create_all, name_of

from ..waiting import block_until
from .programs import programs
from .schemas import a_schema_of_its_own, analyze_emptied
from .server import Server

pytestmark = pytest.mark.slow  # so many rows take seconds

FEW, MANY = 100, 2_000
TIMES = 50
KNOWN = ["nothing", "truth", "emptied"]
"""What the server believes of the tables."""
WORK = b"""SELECT sum(heap_blks_read + heap_blks_hit + idx_blks_read + idx_blks_hit)::bigint, (
    SELECT sum(idx_tup_read)::bigint FROM pg_stat_user_indexes WHERE schemaname = %(schema)s
) + (
    SELECT sum(seq_tup_read)::bigint FROM pg_stat_user_tables WHERE schemaname = %(schema)s
) FROM pg_statio_user_tables WHERE schemaname = %(schema)s"""

Work = tuple[int, int]
"""What the server reads for one call: pages, and entries of indexes and rows of tables."""


def alone(n: int) -> Record:
    """Waits in the line of the queue."""
    return seated(n)


def under_the_same_key(n: int) -> Record:
    """Waits behind all others in the line of a key."""
    return seated(n, "k")


def under_a_key_of_a_few(n: int) -> Record:
    """Waits with one other in the line of a key: there are as many keys as rows."""
    return seated(n, f"k{n // 2}")


@pytest.fixture(scope="module")
def alone_there(database: str) -> Iterator[str]:
    """A server without other tests: what left a line stays in its indexes as long as anybody has a transaction open."""
    if programs() is None:
        yield database
        return
    with Server() as server:
        yield server.url


@contextmanager
def line_of(database: str, waiting: int, waits: Callable[[int], Record]) -> Iterator[str]:
    """The URL of a store in which so many wait for one place."""
    with a_schema_of_its_own(database) as url:
        with closing(PostgresStore(url)) as store:
            store.open()
            bounded(store, running=1)
            create_all(store, *map(waits, range(waiting)))
        yield url


def work_of(database: str, url: str, plans: str, call: Callable[[PostgresStore], object]) -> Work:
    """What the server reads for each of so many calls of a store that has just been opened.

    Of what is read for a plan some is counted too. So all plans are made anew for each call, or none is.
    """
    schema = url.rpartition("=")[2]
    with psycopg.connect(database, autocommit=True) as sql:

        def count() -> Work:
            # A server process tells what it has done at the latest when it ends.
            there = b"SELECT FROM pg_stat_activity WHERE application_name = %s"
            block_until(lambda: not sql.execute(there, [schema]).fetchall())
            ((pages, entries),) = sql.execute(WORK, {"schema": schema}).fetchall()
            return pages, entries

        before = count()
        with pytest.MonkeyPatch.context() as patch, closing(PostgresStore(f"{url}&application_name={schema}")) as store:
            patch.setitem(connections._SETTINGS, "plan_cache_mode", plans)
            store.open()
            for _ in range(TIMES):
                call(store)
        after = count()
    return (after[0] - before[0]) // TIMES, (after[1] - before[1]) // TIMES


def hand_over(store: PostgresStore) -> None:
    """The first in line gets the place, and gives it back."""
    (name,) = next_in_line(store)
    number = int(name.rpartition("-")[2])
    assert claim(store, number) == [number]
    finish(store, number)


def analyze(database: str, url: str, known: str) -> None:
    """Let the server know of the tables nothing, the truth, or that they were empty once."""
    with psycopg.connect(database, autocommit=True) as sql:
        if known == "truth":
            sql.execute("ANALYZE")
        elif known == "emptied":
            analyze_emptied(sql, url.rpartition("=")[2])


def check_that_it_costs_no_more(
    database: str, waits: Callable[[int], Record], known: str, plans: str, call: Callable[[PostgresStore], object]
) -> None:
    work = []
    for waiting in (FEW, MANY):
        with line_of(database, waiting, waits) as url:
            analyze(database, url, known)
            work.append(work_of(database, url, plans, call))
    few, many = work
    assert many[0] < 2 * few[0], work
    assert many[1] < 2 * few[1], work


@pytest.mark.parametrize("plans", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize("known", KNOWN)
@pytest.mark.parametrize("waits", [alone, under_the_same_key, under_a_key_of_a_few])
def test_a_hand_over_costs_no_more_where_more_wait(
    alone_there: str, waits: Callable[[int], Record], known: str, plans: str
) -> None:
    check_that_it_costs_no_more(alone_there, waits, known, plans, hand_over)


@pytest.mark.parametrize("plans", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize("known", KNOWN)
def test_who_has_not_ended_is_found_by_name_however_many_have_not(alone_there: str, known: str, plans: str) -> None:
    names = [name_of(n) for n in range(10)]
    check_that_it_costs_no_more(alone_there, alone, known, plans, lambda store: store.unfinished(names))
