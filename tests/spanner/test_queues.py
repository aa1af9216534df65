"""Queues on Spanner: what they cost, tables that have none, and what lost answers, conflicts and expiries leave."""

import asyncio
import math
import re
from collections import Counter
from dataclasses import replace

import grpc
import pytest
from google.longrunning import operations_pb2
from google.protobuf import empty_pb2

import lro_aio as lro
from lro_aio.core.queueing import Rest
from lro_aio.core.queues import Bounds, Rate
from lro_aio.core.stats import Count
from lro_aio.stores.spanner import floors, queue_queries, queues, schema
from lro_aio.stores.spanner.location import Location
from lro_aio.stores.spanner.migrate import migrate
from lro_aio.stores.spanner.queue_tables import QUEUE_TABLES, queues_ddl
from lro_aio.stores.spanner.table import WITH_QUEUES
from lro_aio.testing import FakeSpanner
from lro_aio.testing._store_queues import (
    ROUTES,
    NoQueuesContract,
    bounded,
    claim,
    finish,
    give_back,
    in_line,
    keep,
    next_in_line,
    seated,
    status,
    take,
)
from lro_aio.testing._store_rows import NOW, create_all, name_of, only, put, remove, row

QUEUE = lro.Queue("q", running=3, per_key=2)
both_variants = pytest.mark.parametrize("variant", schema.VARIANTS)


def ddl_of_before(variant, table="Operations"):
    """The table as the releases before made it: without queues."""
    statements = [text for text in schema.ddl(table, variant) if text not in queues_ddl(table)]
    return [re.sub(rf"^  ({'|'.join(WITH_QUEUES)}) .*,\n", "", text, flags=re.MULTILINE) for text in statements]


def end_without_queues(fake, number, variant):
    """As a release that knows of none: the ticket stays."""
    message = operations_pb2.Operation(name=name_of(number), done=True)
    message.response.Pack(empty_pb2.Empty())
    ended = {"Operation": message.SerializeToString(), "Status": "SUCCEEDED", "Owner": ""}
    if variant == "bytes":
        ended["Outcome"] = 1
    fake.write("Operations", "update", ["key", *ended], [[name_of(number), *ended.values()]])


@pytest.fixture
def fake():
    with FakeSpanner() as running:
        yield running


@pytest.fixture
def store(fake, open_store):
    return open_store(fake.url)


class Calls:
    """The calls that one block makes, and what they cost."""

    def __init__(self, fake):
        self.fake = fake

    def __enter__(self):
        self.before = Counter(self.fake.rpcs)
        self.work = Counter(self.fake.work)
        return self

    def __exit__(self, *_):
        self.made = Counter(self.fake.rpcs) - self.before
        self.work = Counter(self.fake.work) - self.work


# What it costs


@pytest.mark.not_on_emulator("it counts no calls")
def test_what_has_no_queue_costs_no_call_and_no_column_more(fake, store):
    with Calls(fake) as calls:
        create_all(store, row(0))
        claim(store, 0)
        finish(store, 0)
    assert calls.made == {"Read": 4, "Commit": 3}  # one read is the test's own
    assert all(not fake.rows(one.name("Operations")) for one in QUEUE_TABLES)


@pytest.mark.not_on_emulator("it counts no calls")
@pytest.mark.parametrize("bounds", [{"running": 3}, {"rate": Rate(9, per=9), "rate_per_key": Rate(9, per=9)}])
def test_a_claim_in_a_queue_is_one_statement_more(fake, store, bounds):
    bounded(store, **bounds)
    create_all(store, seated(0, "a"), seated(1, "a"))
    with Calls(fake) as calls:
        assert claim(store, 0) == [0]
    assert calls.made == {"Read": 1, "ExecuteSql": 1, "Commit": 1}
    with Calls(fake) as calls:
        finish(store, 0)
    assert calls.made == {"Read": 2, "ExecuteSql": 1, "Commit": 1}  # one read is the test's own


@pytest.mark.not_on_emulator("it counts no calls")
def test_a_line_without_a_place_is_one_statement(fake, store):
    bounded(store, running=1)
    create_all(store, seated(0), seated(1))
    with Calls(fake) as calls:
        assert next_in_line(store) == [name_of(0)]
    assert calls.made == {"ExecuteSql": 2, "Read": 1}
    claim(store, 0)
    with Calls(fake) as calls:
        assert next_in_line(store) == []
    assert calls.made == {"ExecuteSql": 1}


@pytest.mark.not_on_emulator("it counts no calls")
@pytest.mark.asyncio
async def test_a_worker_asks_once_for_queues_where_there_are_none(fake, lro_clock):
    async with lro.Client(fake.url, clock=lro_clock, drain_timeout=0) as client:
        await lro_clock.settle()
        assert dict(fake.rpcs) == {"CreateSession": 1, "ExecuteSql": 9}  # the last one is its first sweep
        await client.sweep()
        assert (fake.rpcs["ExecuteSql"], fake.rpcs.total()) == (10, 11)


@pytest.mark.not_on_emulator("it counts no entries")
@pytest.mark.parametrize("key", ["", "a"])
def test_who_waits_costs_nothing_however_many_there_are(fake, store, key):
    """Neither a look at the line nor a hand-over reads more, and no row is looked up for an entry of an index."""
    bounded(store, running=2, per_key=1)
    seen = []
    for first in (0, 20, 220):
        create_all(store, *(seated(n, key) for n in range(first, max(20, 10 * first))[:200]))
        with Calls(fake) as calls:
            (number, *_) = [int(name[-4:]) for name in next_in_line(store)]
            assert claim(store, number) == [number]
            finish(store, number)
        assert not calls.work["rows_looked_up"]
        seen.append(calls.work["entries_read"])
    assert seen[1] <= seen[0] + 4
    assert seen[2] <= seen[0] + 4


@pytest.mark.not_on_emulator("it counts no entries")
def test_where_one_stands_is_one_statement_and_counts_no_further_than_it_says(fake, store, monkeypatch):
    """Who has a place counts nobody, and of another operation that had the name before there is nothing."""
    monkeypatch.setattr(queue_queries, "MOST", 20)
    monkeypatch.setattr("lro_aio.stores._places.MOST", 20)
    bounded(store, running=1)
    create_all(store, *(seated(n) for n in range(30)))
    claim(store, 0)
    seen = []
    for number, count in ((29, Count(20, more=True)), (0, Count(0))):
        uid = only(store, name_of(number)).uid
        with Calls(fake) as calls:
            (found,) = store.in_line(name_of(number), uid, now=NOW)
        assert (found.ahead, calls.made) == (count, {"ExecuteSql": 1})
        assert not calls.work["rows_looked_up"]
        seen.append(calls.work["entries_read"])
    assert seen == [21, 0]
    assert store.in_line(name_of(29), "another", now=NOW) == []


@pytest.mark.not_on_emulator("it counts no entries")
def test_of_many_steps_the_first_that_wait_are_told(fake, store):
    bounded(store, running=2)
    create_all(store, row(0))
    claim(store, 0)
    assert [take(store, 0, f"step{n:02}") for n in range(15)] == [True] * 2 + [False] * 13
    assert [place.step for place in in_line(store, 0)] == [f"step{n:02}" for n in range(2, 12)]


# What is decided


def test_more_may_leave_a_line_at_once_than_are_in_a_window(spanner_database, open_store):
    store = open_store(spanner_database())
    bounded(store, per_key=1)
    create_all(store, *(seated(n, "a") for n in range(60)))
    store.apply([remove(name_of(n)) for n in range(50)])
    assert (status(store).waiting, next_in_line(store)) == (10, [name_of(50)])
    assert claim(store, 50) == [50]
    finish(store, 50)
    assert next_in_line(store) == [name_of(51)]


def test_a_rate_that_was_lowered_counts_the_last_starts_alone(spanner_database, open_store):
    store = open_store(spanner_database())
    bounded(store, rate=Rate(100, per=60))
    create_all(store, *(seated(n) for n in range(90)))
    for n in range(0, 80, 20):
        assert len(claim(store, *range(n, n + 20), now=NOW + n)) == 20
    bounded(store, rate=Rate(3, per=60))
    assert claim(store, 80, now=NOW + 60) == []
    assert store.line(now=NOW + 60, routes=ROUTES, limit=9).next_check == NOW + 120
    assert claim(store, 80, now=NOW + 120) == [80]


def test_a_rest_beyond_all_times_is_stored(spanner_database, open_store):
    store = open_store(spanner_database())
    bounded(store, running=1)
    create_all(store, seated(0, "a"))
    claim(store, 0)
    give_back(store, 0, rests=(Rest("q", "a", 1e15), Rest("q", "", 1e15)))
    assert (next_in_line(store), status(store).rests_until) == ([], 253_402_300_799.0)


def test_all_keys_are_woken_however_many_they_are(spanner_database, open_store, monkeypatch):
    monkeypatch.setattr(queues, "WOKEN", 2)
    store = open_store(spanner_database())
    bounded(store, per_key=1)
    create_all(store, *(seated(n, f"k{n % 5}") for n in range(10)))
    assert len(claim(store, *range(10))) == 5
    assert next_in_line(store) == []
    store.change_queue("q", lambda terms: replace(terms, override=Bounds(per_key=2)))
    assert len(next_in_line(store)) == 5


@pytest.mark.parametrize("declared", [False, True])
def test_limits_that_are_said_again_wake_those_whom_the_first_time_did_not_reach(
    spanner_database, open_store, monkeypatch, declared
):
    """The limits are committed, and then Spanner does not answer: whoever said them says them again."""
    monkeypatch.setattr(queues, "WOKEN", 2)
    store = open_store(spanner_database())
    turns, sleeping = iter(range(9)), queues._sleeping

    def second_fails(*args):
        if next(turns) == 1:
            raise lro.StoreUnavailableError("a fault of the test")
        return sleeping(*args)

    bounded(store, per_key=1)
    create_all(store, *(seated(n, f"k{n % 5}") for n in range(10)))
    assert len(claim(store, *range(10))) == 5

    def change(now):
        if declared:
            store.change_queue("q", lambda terms: terms.declare("a", Bounds(per_key=2), now))
        else:
            store.change_queue("q", lambda terms: replace(terms, override=Bounds(per_key=2)))

    monkeypatch.setattr(queues, "_sleeping", second_fails)
    with pytest.raises(lro.StoreUnavailableError):
        change(NOW)
    assert len(next_in_line(store)) == 2
    change(NOW + 1)
    assert len(next_in_line(store)) == 5


# Faults


@pytest.mark.not_on_emulator("it has no fault points")
@both_variants
def test_a_commit_whose_answer_is_lost_takes_one_place(variant, open_store):
    with FakeSpanner(variant=variant) as fake:
        store = open_store(fake.url)
        bounded(store, running=2)
        create_all(store, seated(0, "a"), seated(1, "a"), seated(2, "a"))
        fake.fail("Commit", grpc.StatusCode.UNAVAILABLE, when="after")
        assert claim(store, 0) == [0]
        assert (status(store).running, claim(store, 1, 2)) == (1, [1])
        fake.fail("Commit", grpc.StatusCode.UNAVAILABLE, when="after")
        finish(store, 0)
        assert (status(store).running, next_in_line(store)) == (1, [name_of(2)])


@pytest.mark.not_on_emulator("it has no fault points")
@pytest.mark.parametrize("code", [grpc.StatusCode.ABORTED, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.NOT_FOUND])
def test_a_statement_of_a_transaction_that_fails_is_repeated_with_it(fake, store, code):
    bounded(store, running=1)
    create_all(store, seated(0), seated(1))
    if code is grpc.StatusCode.NOT_FOUND:
        fake.lose_sessions()
    else:
        fake.fail("ExecuteSql", code)
    assert claim(store, 0, 1) == [0]
    assert status(store).running == 1


@pytest.mark.not_on_emulator("it has no fault points")
def test_a_batch_that_meets_others_at_a_queue_is_not_divided(fake, store):
    """In parts it would meet them there again, and itself."""
    bounded(store, running=9)
    create_all(store, *(seated(n) for n in range(9)))
    fake.fail("Commit", grpc.StatusCode.ABORTED, times=7)
    with Calls(fake) as calls:
        assert len(claim(store, *range(9))) == 9
    assert calls.made == {"Read": 8, "ExecuteSql": 8, "Commit": 8}


@pytest.mark.not_on_emulator("it has no fault points")
def test_what_waits_in_queues_does_not_hold_up_the_rest_of_a_batch(fake, store):
    """Each of the others is then alone, and those that stand in queues are one part, the last one."""
    bounded(store, running=9)
    create_all(store, *(seated(n) for n in range(4)), *(row(n) for n in range(4, 7)))
    fake.fail("Commit", grpc.StatusCode.ABORTED, times=4)
    with Calls(fake) as calls:
        assert claim(store, *range(7)) == [*range(7)]
    assert calls.made == {"Read": 8, "ExecuteSql": 5, "Commit": 8}


@pytest.mark.not_on_emulator("it has no precommit tokens")
def test_the_newest_precommit_token_goes_with_the_commit(fake, store):
    fake.commit_retry = True
    bounded(store, running=1)
    create_all(store, seated(0), seated(1))
    assert claim(store, 0, 1) == [0]


@pytest.mark.not_on_emulator("another program writes to the fake alone")
def test_whoever_removes_a_row_gives_back_its_places(fake, store):
    """Spanner's own expiry, or a program that knows of no queues: the tickets go with the row."""
    bounded(store, running=2)
    create_all(store, seated(0), row(1), seated(2), seated(3))
    claim(store, 0, 1, 2)
    assert take(store, 1, "step") is False
    assert (status(store).running, status(store).waiting) == (2, 2)
    fake.write("Operations", "delete", ["key"], [[name_of(0)], [name_of(1)], [name_of(2)]])
    assert (status(store).running, status(store).waiting) == (0, 1)
    assert claim(store, 3) == [3]


@pytest.mark.not_on_emulator("another program writes to the fake alone")
@both_variants
def test_places_of_what_a_release_without_queues_ended_come_back_once_in_a_while(variant, open_store):
    """Where somebody waits: of an operation and of a step, with a key and without one."""
    with FakeSpanner(variant=variant) as fake:
        store, later = open_store(fake.url), open_store(fake.url)
        bounded(store, running=3, per_key=1)
        create_all(store, *(seated(n, "a") for n in range(3)), row(3), seated(4))
        assert claim(store, 0, 3, 4) == [0, 3, 4]
        assert take(store, 3, "step")
        create_all(store, seated(5))
        for number in (0, 3):
            end_without_queues(fake, number, variant)
        assert (next_in_line(store), next_in_line(later)) == ([], [])
        later._floors.stale = floors.Rarely(lambda: math.inf)
        next_in_line(later)
        assert (status(store).running, next_in_line(store)) == (1, [name_of(1), name_of(5)])
        assert claim(store, 1, 2, 5) == [1, 5]


@pytest.mark.not_on_emulator("another program writes to the fake alone")
@both_variants
def test_what_a_release_without_queues_ended_in_line_is_in_nobodys_way(variant, open_store):
    """Its turn comes, and nobody takes it."""
    with FakeSpanner(variant=variant) as fake:
        store = open_store(fake.url)
        bounded(store, per_key=1)
        create_all(store, *(seated(n, "a") for n in range(3)))
        assert claim(store, 0) == [0]
        end_without_queues(fake, 1, variant)
        finish(store, 0)
        assert next_in_line(store) == []
        store._floors.stale = floors.Rarely(lambda: math.inf)
        next_in_line(store)
        assert (next_in_line(store), status(store).waiting) == ([name_of(2)], 1)
        assert claim(store, 2) == [2]


@pytest.mark.not_on_emulator("another program writes to the fake alone")
def test_those_whom_it_ended_behind_a_row_that_was_removed_are_in_nobodys_way(fake, store):
    """Nobody made them the next of their key."""
    bounded(store, per_key=1)
    create_all(store, *(seated(n, "a") for n in range(4)))
    assert claim(store, 0) == [0]
    for number in (1, 2):
        end_without_queues(fake, number, "proto")
    fake.write("Operations", "delete", ["key"], [[name_of(0)]])
    for _ in range(2):
        store._floors.stale = floors.Rarely(lambda: math.inf)
        next_in_line(store)
    assert next_in_line(store) == [name_of(3)]
    assert claim(store, 3) == [3]


@pytest.mark.not_on_emulator("another program writes to the fake alone")
def test_who_stood_behind_a_row_that_another_program_removed_goes_on(fake, store):
    """Its tickets go with it, and nobody decides about its key."""
    bounded(store, per_key=1)
    create_all(store, *(seated(n, "a") for n in range(3)), seated(3, "b"), seated(4, "b"))
    assert claim(store, 0, 3) == [0, 3]
    fake.write("Operations", "delete", ["key"], [[name_of(0)]])
    assert next_in_line(store) == []
    store._floors.stale = floors.Rarely(lambda: math.inf)
    next_in_line(store)
    assert next_in_line(store) == [name_of(1)]
    assert claim(store, 1, 2, 4) == [1]


@pytest.mark.not_on_emulator("it counts no calls")
def test_places_that_were_left_are_looked_for_every_ten_minutes_where_somebody_waits(fake, store):
    now = 0.0
    store._floors.stale = floors.Rarely(lambda: now)
    bounded(store, running=1)
    create_all(store, seated(0))
    claim(store, 0)
    made = []
    for minute in (0, 9, 10, 11, 19, 20):
        if minute == 11:
            create_all(store, seated(1))
        now = minute * 60.0
        with Calls(fake) as calls:
            assert next_in_line(store) == []
        made.append(calls.made["ExecuteSql"])
    assert made == [1, 1, 1, 3, 1, 1]


@pytest.mark.not_on_emulator("it has no fault points")
@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INVALID_ARGUMENT])
@pytest.mark.parametrize("method", ["ExecuteSql", "Commit"])
def test_who_is_next_is_told_though_places_that_were_left_cannot_be_given_back(
    method, code, open_store, caplog, monkeypatch
):
    """It is a line in the log, and takes little of the time of the call."""
    # The rest of the calls keep their time: on a busy machine they need it.
    monkeypatch.setattr("lro_aio.stores.spanner.store.GIVE_BACK_TIMEOUT", 0.3)
    with FakeSpanner(variant="bytes") as fake:
        store = open_store(fake.url)
        bounded(store, running=2)
        create_all(store, *(seated(n) for n in range(3)))
        assert claim(store, 0) == [0]
        end_without_queues(fake, 0, "bytes")

        def moments():
            yield 0.0
            fake.fail(method, code, times=1_000)  # from when it is looked for
            yield math.inf

        store._floors.stale = floors.Rarely(moments().__next__)
        with caplog.at_level("WARNING", "lro_aio"), Calls(fake) as calls:
            assert next_in_line(store) == [name_of(1)]
        assert [record.event for record in caplog.records] == ["left_places_kept"]
        assert calls.made[method] <= 9  # with growing pauses; in the time of the whole call there are more than ten


@pytest.mark.not_on_emulator("it expires no rows")
def test_what_nobody_needs_any_more_expires(fake, store):
    """Keys that are idle, and starts that count no more; a key that is in use does not."""
    bounded(store, rate_per_key=Rate(1, per=10))
    create_all(store, seated(0, "a"), seated(1, "b"), seated(2, "b"))
    claim(store, 0, 1)
    finish(store, 0)
    fake.expire_rows(NOW + 5)
    assert len(fake.rows("Operations_Starts")) == len(fake.rows("Operations_Keys")) == 2
    fake.expire_rows(NOW + 11)
    assert fake.rows("Operations_Starts") == []
    assert [found["QueueKey"] for found in fake.rows("Operations_Keys")] == ["b"]
    create_all(store, seated(3, "a"))
    assert claim(store, 3, 2, now=NOW + 11) == [3, 2]


@pytest.mark.not_on_emulator("it counts no calls")
def test_a_place_of_a_step_costs_a_statement_and_two_when_it_is_given_back(fake, store):
    bounded(store, running=1)
    create_all(store, row(0))
    claim(store, 0)
    with Calls(fake) as calls:
        assert take(store, 0, "a") is True
        keep(store, 0, "a")
    assert (calls.made["Commit"], calls.made["ExecuteSql"]) == (2, 3)


# Tables that have none


@both_variants
def test_a_table_of_the_release_before_goes_on_and_a_migration_gives_it_queues(
    variant, spanner_database, apply_ddl, open_store
):
    url = spanner_database(None)
    apply_ddl(url, ddl_of_before(variant))
    old = open_store(url)
    assert old.keeps_journal
    assert re.search("has no tables for them yet.* run `lro spanner migrate", old.no_queues_reason)
    (made,) = old.apply([put(seated(0))])
    assert made == only(old, name_of(0)) == row(0)
    assert claim(old, 0) == [0]

    assert len(migrate(Location.parse(url)).statements) == len(queues_ddl("T")) + len(WITH_QUEUES)
    assert migrate(Location.parse(url)).statements == ()
    new = open_store(url)
    assert new.no_queues_reason == ""
    bounded(new, running=1)
    create_all(new, seated(1), seated(2))
    assert claim(new, 1, 2) == [1]
    finish(old, 0)
    assert next_in_line(new) == []


@pytest.mark.parametrize("part", range(len(queues_ddl("T"))))
def test_a_migration_that_was_interrupted_is_finished_by_the_next(part, spanner_database, apply_ddl, open_store):
    url = spanner_database(None)
    whole = schema.ddl("Operations", "bytes")
    made = whole[: len(whole) - len(queues_ddl("Operations")) + part]
    apply_ddl(url, made)
    assert "lro spanner migrate" in open_store(url).no_queues_reason
    assert len(migrate(Location.parse(url)).statements) == len(whole) - len(made)
    assert open_store(url).no_queues_reason == ""


def test_another_table_under_the_name_of_one_of_theirs_is_left_alone(spanner_database, apply_ddl, open_store):
    url = spanner_database(None)
    theirs = "CREATE TABLE Operations_Tickets (key STRING(MAX) NOT NULL, Price INT64) PRIMARY KEY (key)"
    apply_ddl(url, [*ddl_of_before("bytes"), theirs])
    store = open_store(url)
    assert "the table Operations_Tickets is not one of its queues' tables" in store.no_queues_reason
    create_all(store, row(0))
    assert claim(store, 0) == [0]
    with pytest.raises(lro.StoreSchemaError, match="Operations_Tickets is not one of its queues' tables"):
        migrate(Location.parse(url))


class TestWithoutQueues(NoQueuesContract):
    """What is asked of queues is refused with what to do about it."""

    @pytest.fixture
    def store(self, spanner_database, apply_ddl, open_store):
        url = spanner_database(None)
        apply_ddl(url, ddl_of_before("proto"))
        return open_store(url)


# With the engine


@pytest.mark.asyncio
async def test_no_more_run_than_a_queue_allows_over_several_clients(spanner_database):
    """In real time, with keys and a step, on one database."""
    running, peak, handlers = Counter(), Counter(), lro.Handlers()

    async def busy(what):
        running[what] += 1
        peak[what] = max(peak[what], running[what])
        await asyncio.sleep(0.01)
        running[what] -= 1

    @handlers.handler("work", state=int, response=int, queue=QUEUE, queue_key=lambda n: f"k{n % 3}")
    async def work(op):
        await busy("runs")
        await op.step("call", busy, "calls", queue=lro.Queue("calls", running=1))
        return op.state

    url = spanner_database()
    options = {"handlers": [handlers], "sweep": lro.SweepPolicy(interval=0.2), "drain_timeout": 0}
    async with lro.Client(url, **options) as first, lro.Client(url, **options) as second:
        ops = [await client.start("work", n) for n in range(6) for client in (first, second)]
        results = await asyncio.gather(*(op.result(timeout=60) for op in ops))
        seen = await first.queues.get("q")
    assert sorted(results) == sorted([*range(6), *range(6)])
    assert (peak["calls"], seen.running, seen.waiting) == (1, 0, 0)
    assert peak["runs"] <= 3
