"""How SpannerStore spends its calls, and what it does when they fail: over a real socket, against the fake."""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from google.api_core.exceptions import GoogleAPICallError
from google.cloud.spanner_v1 import types

import lro_aio as lro
from lro_aio.core import transitions
from lro_aio.core.change import Change
from lro_aio.core.record import Record, State
from lro_aio.ports import ListQuery
from lro_aio.stores.spanner import connection, sessions
from lro_aio.stores.spanner.errors import KINDS
from lro_aio.testing import FakeSpanner
from lro_aio.testing._store_rows import (
    NOW,
    any_of,
    claimant,
    create_all,
    holder,
    name_of,
    names,
    only,
    put,
    row,
    update,
)

from ..waiting import block_until

UNAVAILABLE, DEADLINE_EXCEEDED, ABORTED = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.ABORTED,
)

SOON = 15.0
"""Seconds: more than the two after which a call of the store is given up, on a busy machine too, and far below what
would be waited for otherwise: the sixty after which the fake gives up an idle transaction here, or for ever."""

pytestmark = pytest.mark.skipif(bool(os.environ.get("SPANNER_EMULATOR_HOST")), reason="faults and counts of the fake")


@pytest.fixture(params=["proto", "bytes"])
def fake(request: pytest.FixtureRequest) -> Iterator[FakeSpanner]:
    with FakeSpanner(variant=request.param) as fake:
        fake.idle_limit = 60.0
        yield fake


@pytest.fixture
def store(fake: FakeSpanner) -> Iterator[lro.SpannerStore]:
    store = lro.SpannerStore.from_url(f"{fake.url}&timeout=2")
    store.open()
    fake.rpcs.clear()
    yield store
    store.close()


def step(name: str) -> Change:
    """A change that tells how often it was carried out."""
    return Change(name, lambda record: dataclasses.replace(record, claim=record.claim + 1))


class TestCalls:
    @pytest.fixture
    def store(self, fake: FakeSpanner) -> Iterator[lro.SpannerStore]:
        """With time for large batches on a busy machine."""
        store = lro.SpannerStore.from_url(f"{fake.url}&timeout=20")
        store.open()
        fake.rpcs.clear()
        yield store
        store.close()

    def test_a_batch_is_two_calls(self, fake: FakeSpanner, store: lro.SpannerStore) -> None:
        create_all(store, *(row(i) for i in range(200)))
        assert fake.rpcs == {"Read": 1, "Commit": 1}

    def test_a_batch_that_changes_nothing_is_one_call(self, fake: FakeSpanner, store: lro.SpannerStore) -> None:
        """It has locked nothing, so there is nothing to let go of."""
        create_all(store, row())
        fake.rpcs.clear()
        store.apply([Change(name_of(1), lambda record: record)])
        assert fake.rpcs == {"Read": 1}

    def test_one_that_locks_and_changes_nothing_lets_go(self, fake: FakeSpanner, store: lro.SpannerStore) -> None:
        """The third attempt locks what it reads."""
        create_all(store, row())
        fake.fail("Commit", ABORTED, times=2)
        fake.rpcs.clear()
        turns = iter([1, 2])
        change = Change(
            name_of(1), lambda record: dataclasses.replace(record, claim=turn) if (turn := next(turns, 0)) else record
        )
        store.apply([change])
        assert fake.rpcs == {"Read": 3, "Commit": 2, "Rollback": 1}
        assert only(store, name_of(1)).claim == 0

    @pytest.mark.slow
    def test_many_rows_are_one_read(self, fake: FakeSpanner, store: lro.SpannerStore) -> None:
        create_all(store, *(row(i) for i in range(1000)))
        fake.rpcs.clear()
        assert len(store.read([name_of(i) for i in range(1000)])) == 1000
        assert fake.rpcs == {"Read": 1}
        store.unfinished([name_of(i) for i in range(1000)])
        assert fake.rpcs == {"Read": 2}

    def test_a_read_of_more_keys_than_one_request_takes_is_split(
        self, fake: FakeSpanner, store: lro.SpannerStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("lro_aio.stores.spanner.store.MAX_KEYS", 4)
        create_all(store, *(row(i) for i in range(10)))
        fake.rpcs.clear()
        assert sorted(names(store.read([name_of(i) for i in range(12)]))) == [name_of(i) for i in range(10)]
        assert fake.rpcs == {"Read": 3}

    @pytest.mark.slow
    def test_rows_of_more_than_ten_megabytes_are_read_in_parts(
        self, fake: FakeSpanner, store: lro.SpannerStore
    ) -> None:
        """By key, as a page, and by a change of them all."""
        large = [row(i, state_data=bytes(1024 * 1024)) for i in range(14)]
        for record in large:
            create_all(store, record)
        assert sorted(store.read(names(large)), key=lambda record: record.name) == large
        page = store.list(lro_query(limit=20))
        assert sorted(page, key=lambda record: record.name) == large
        assert [o.claim for o in store.apply([step(name) for name in names(large)]) if isinstance(o, Record)] == [
            1
        ] * 14

    def test_nothing_asked_is_nothing_sent(self, fake: FakeSpanner, store: lro.SpannerStore) -> None:
        assert store.read([]) == []
        assert store.apply([]) == []
        assert store.unfinished([]) == set()
        assert store.list(lro_query(limit=5, states=frozenset())) == []
        assert store.purge(now=NOW, limit=0) == 0
        assert not fake.rpcs


def lro_query(**options: object) -> ListQuery:
    return ListQuery(now=NOW, **options)


def test_a_transaction_says_its_isolation_level_beside_its_lock_mode(
    fake: FakeSpanner, store: lro.SpannerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a lock mode means depends on it. The first attempts lock nothing, the third one does."""
    seen = []
    read = store._connection._client.read

    def noted(request: types.ReadRequest, **options: object) -> object:
        begun = request.transaction.begin
        seen.append((begun.isolation_level.name, begun.read_write.read_lock_mode.name))
        return read(request=request, **options)

    monkeypatch.setattr(store._connection._client, "read", noted)
    fake.fail("Commit", ABORTED, times=2)
    create_all(store, row())
    assert seen == [("SERIALIZABLE", "OPTIMISTIC")] * 2 + [("SERIALIZABLE", "PESSIMISTIC")]


class TestLostAnswers:
    @pytest.mark.parametrize("code", [UNAVAILABLE, DEADLINE_EXCEEDED])
    @pytest.mark.parametrize("when", ["before", "after"])
    @pytest.mark.parametrize("times", [1, 3])
    def test_a_commit_is_carried_out_once(
        self, fake: FakeSpanner, store: lro.SpannerStore, code: grpc.StatusCode, when: str, times: int
    ) -> None:
        """An insert that was applied does not report itself as a duplicate, a step is not made twice."""
        fake.fail("Commit", code, times=times, when=when)
        create_all(store, row())
        fake.fail("Commit", code, times=times, when=when)
        (outcome,) = store.apply([step(name_of(1))])
        assert isinstance(outcome, Record)
        assert outcome.claim == only(store, name_of(1)).claim == 1
        assert fake.rpcs["Commit"] == 2 + 2 * times

    @pytest.mark.parametrize("code", [UNAVAILABLE, DEADLINE_EXCEEDED, ABORTED])
    def test_a_read_comes_again(self, fake: FakeSpanner, store: lro.SpannerStore, code: grpc.StatusCode) -> None:
        create_all(store, row())
        fake.fail("Read", code, times=2)
        assert names(store.read([name_of(1)])) == [name_of(1)]
        fake.fail("ExecuteSql", code, times=2)
        assert names(store.list(lro_query(limit=5))) == [name_of(1)]
        fake.fail("Read", code, times=2)
        assert [o.claim for o in store.apply([step(name_of(1))]) if isinstance(o, Record)] == [1]

    def test_a_commit_that_is_never_answered_is_unknown(self, fake: FakeSpanner, store: lro.SpannerStore) -> None:
        """The caller may try again, and finds what became of it."""
        create_all(store, row())
        fake.fail("Commit", UNAVAILABLE, times=1000, when="after")
        began = time.monotonic()
        with pytest.raises(lro.StoreUnavailableError):
            store.apply([step(name_of(1))])
        assert time.monotonic() - began < SOON
        fake.fail("Commit", UNAVAILABLE, times=0)
        assert only(store, name_of(1)).claim == 1

    @pytest.mark.parametrize("when", ["before", "after"])
    def test_a_rollback_whose_answer_is_lost_is_sent_again(
        self, fake: FakeSpanner, store: lro.SpannerStore, when: str
    ) -> None:
        """It decides what a commit that was lost and is then refused has come to: nothing, so it is run again."""
        create_all(store, row())
        fake.fail("Commit", UNAVAILABLE)
        fake.fail("Commit", grpc.StatusCode.FAILED_PRECONDITION)
        fake.fail("Rollback", UNAVAILABLE, when=when)
        fake.rpcs.clear()
        assert [o.claim for o in store.apply([step(name_of(1))]) if isinstance(o, Record)] == [1]
        assert fake.rpcs == {"Read": 2, "Commit": 3, "Rollback": 2}

    def test_a_rollback_that_comes_too_late_tells_that_the_commit_was_carried_out(
        self, fake: FakeSpanner, store: lro.SpannerStore
    ) -> None:
        create_all(store, row())
        fake.fail("Commit", UNAVAILABLE, when="after")
        fake.fail("Commit", grpc.StatusCode.FAILED_PRECONDITION)
        fake.rpcs.clear()
        assert [o.claim for o in store.apply([step(name_of(1))]) if isinstance(o, Record)] == [1]
        assert fake.rpcs == {"Read": 1, "Commit": 2, "Rollback": 1}
        assert only(store, name_of(1)).claim == 1

    def test_a_rollback_that_does_not_arrive_leaves_no_lock(self, fake: FakeSpanner, store: lro.SpannerStore) -> None:
        """The server would keep the locks for ten seconds, longer than a call may take."""
        create_all(store, row())
        fake.fail("Commit", ABORTED, times=2)  # the third attempt locks what it reads
        fake.fail("Rollback", UNAVAILABLE)
        turns = iter([1, 2])
        change = Change(
            name_of(1), lambda record: dataclasses.replace(record, claim=turn) if (turn := next(turns, 0)) else record
        )
        store.apply([change])
        began = time.monotonic()
        assert isinstance(store.apply([step(name_of(1))])[0], Record)
        assert time.monotonic() - began < SOON

    def test_a_session_that_is_lost_with_the_answer_is_unknown(
        self, fake: FakeSpanner, store: lro.SpannerStore
    ) -> None:
        """To run the changes again could carry them out twice."""
        create_all(store, row())
        commit = store._connection._client.commit

        def lose_the_answer(**arguments: object) -> object:
            fake.lose_sessions()
            return commit(**arguments)

        fake.fail("Commit", UNAVAILABLE, when="after")
        first = [commit]
        store._connection._client.commit = lambda **arguments: (first.pop() if first else lose_the_answer)(**arguments)
        with pytest.raises(lro.StoreUnavailableError):
            store.apply([step(name_of(1))])
        assert only(store, name_of(1)).claim == 1


class TestAborts:
    def test_the_changes_run_again_on_the_rows_as_they_are_then(
        self, fake: FakeSpanner, store: lro.SpannerStore
    ) -> None:
        create_all(store, row())
        seen: list[int] = []

        def look(record: Record) -> Record:
            seen.append(record.claim)
            if len(seen) == 1:  # somebody else is faster
                columns = ["Claim", "key", "UpdateTime", "CreateTime", "SchemaVersion"]
                now = int(NOW) * 1_000_000_000
                fake.write("Operations", "update", columns, [[7, name_of(1), now, now, 1]])
            return dataclasses.replace(record, claim=record.claim + 1)

        (outcome,) = store.apply([Change(name_of(1), look)])
        assert seen == [0, 7]
        assert isinstance(outcome, Record)
        assert outcome.claim == only(store, name_of(1)).claim == 8

    def test_a_batch_that_is_aborted_again_and_again_is_split(self, fake: FakeSpanner, store: lro.SpannerStore) -> None:
        create_all(store, *(row(i) for i in range(4)))
        fake.rpcs.clear()
        fake.fail("Commit", ABORTED, times=5)
        outcomes = store.apply([step(name_of(i)) for i in (0, 1, 2, 3, 0)])
        assert [o.claim for o in outcomes if isinstance(o, Record)] == [1, 1, 1, 1, 2]
        assert fake.rpcs == {"Read": 9, "Commit": 9}

    def test_a_row_that_is_always_aborted_ends_within_the_timeout(
        self, fake: FakeSpanner, store: lro.SpannerStore
    ) -> None:
        create_all(store, row())
        fake.rpcs.clear()
        fake.fail("Commit", ABORTED, times=1000)
        began = time.monotonic()
        with pytest.raises(lro.StoreUnavailableError):
            store.apply([step(name_of(1))])
        assert time.monotonic() - began < SOON
        assert fake.rpcs["Commit"] < 40  # with pauses that grow
        fake.fail("Commit", ABORTED, times=0)
        assert only(store, name_of(1)).claim == 0

    @pytest.mark.parametrize("rpc", ["Read", "Commit"])
    def test_a_batch_that_is_always_aborted_is_unavailable_and_nothing_else(
        self, fake: FakeSpanner, store: lro.SpannerStore, rpc: str
    ) -> None:
        """However it is divided: the caller may repeat it, and must not look for the change that is to blame."""
        create_all(store, *(row(i) for i in range(20)))
        fake.fail(rpc, ABORTED, times=10_000)
        began = time.monotonic()
        with pytest.raises(lro.StoreUnavailableError):
            store.apply([step(name_of(i)) for i in range(20)])
        assert time.monotonic() - began < SOON
        fake.fail(rpc, ABORTED, times=0)
        assert [record.claim for record in store.read([name_of(i) for i in range(20)])] == [0] * 20

    def test_a_row_that_is_always_aborted_is_the_only_one_of_its_batch_that_is_unavailable(
        self, fake: FakeSpanner, store: lro.SpannerStore
    ) -> None:
        create_all(store, *(row(i) for i in range(20)))

        def lose(record: Record) -> Record:  # somebody else is faster each time
            fake.write("Operations", "update", ["key", "Attempt"], [[name_of(7), record.attempt + 1]])
            return dataclasses.replace(record, claim=record.claim + 1)

        outcomes = store.apply([Change(name_of(i), lose) if i == 7 else step(name_of(i)) for i in range(20)])
        assert [i for i, outcome in enumerate(outcomes) if not isinstance(outcome, Record)] == [7]
        assert isinstance(outcomes[7], lro.StoreUnavailableError)
        assert [record.claim for record in store.read([name_of(i) for i in range(20)])] == [1] * 7 + [0] + [1] * 12

    def test_a_commit_asked_for_once_more_is_sent_once_more(self, fake: FakeSpanner, store: lro.SpannerStore) -> None:
        """The answer to a Commit may be another precommit token; nothing is stored before it comes back."""
        fake.commit_retry = True
        create_all(store, row())
        assert [o.claim for o in store.apply([step(name_of(1))]) if isinstance(o, Record)] == [1]
        assert fake.rpcs["Commit"] == 4
        assert only(store, name_of(1)).claim == 1


class TestRefusals:
    def test_the_one_that_spanner_refuses_fails_alone(self, fake: FakeSpanner, store: lro.SpannerStore) -> None:
        """A text of more characters than a cell takes, in a batch of four; nobody's locks are left behind."""
        create_all(store, *(row(i) for i in range(4)))
        changes = [
            step(name_of(0)),
            step(name_of(1)),
            update(name_of(2), owner="x" * 2_621_441),
            step(name_of(3)),
        ]
        outcomes = _bisected(store, changes)
        assert [o.claim for o in outcomes if isinstance(o, Record)] == [1, 1, 1]
        assert isinstance(outcomes[2], GoogleAPICallError)
        began = time.monotonic()
        assert isinstance(store.apply([step(name_of(2))])[0], Record)
        assert time.monotonic() - began < SOON

    def test_an_exception_between_read_and_commit_leaves_no_lock(
        self, fake: FakeSpanner, store: lro.SpannerStore
    ) -> None:
        """Nor does one after attempts that were aborted, from which on the rows are locked."""
        create_all(store, row())
        with pytest.raises(UnicodeError):
            store.apply([update(name_of(1), owner="\ud800")])
        assert fake.rpcs["Rollback"] == 0
        fake.fail("Commit", ABORTED, times=2)
        owners = iter(["a", "b", "\ud800"])
        with pytest.raises(UnicodeError):
            store.apply([Change(name_of(1), lambda record: dataclasses.replace(record, owner=next(owners)))])
        assert fake.rpcs["Rollback"] == 1
        began = time.monotonic()
        assert isinstance(store.apply([step(name_of(1))])[0], Record)
        assert time.monotonic() - began < SOON

    def test_every_code_has_a_kind(self) -> None:
        assert set(KINDS) == set(grpc.StatusCode) - {grpc.StatusCode.OK}

    @pytest.mark.parametrize("code", [grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED])
    def test_a_right_that_is_taken_away_is_an_outage(
        self, fake: FakeSpanner, store: lro.SpannerStore, code: grpc.StatusCode
    ) -> None:
        """It may come back; the operations do not fail for it."""
        create_all(store, row())
        for rpc, call in (
            ("Read", lambda: store.read([name_of(1)])),
            ("Commit", lambda: store.apply([step(name_of(1))])),
            ("ExecuteSql", lambda: store.list(lro_query(limit=1))),
        ):
            fake.fail(rpc, code)
            with pytest.raises(lro.StoreUnavailableError):
                call()


def _bisected(store: lro.SpannerStore, changes: list[Change]) -> list[object]:
    """As the engine does where the store raises."""
    try:
        return list(store.apply(changes))
    except lro.StoreUnavailableError:
        raise
    except Exception as exc:
        if len(changes) == 1:
            return [exc]
        half = len(changes) // 2
        return _bisected(store, changes[:half]) + _bisected(store, changes[half:])


class TestSessions:
    def test_one_session_serves_all(self, fake: FakeSpanner) -> None:
        store = lro.SpannerStore.from_url(fake.url)
        store.open()
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda i: create_all(store, row(i)), range(40)))
        store.close()
        assert fake.rpcs["CreateSession"] == 1

    @pytest.mark.parametrize("code", ["read", "begin", "commit", "query"])
    def test_a_lost_session_is_replaced(self, fake: FakeSpanner, store: lro.SpannerStore, code: str) -> None:
        create_all(store, row())
        if code == "commit":
            lost: list[int] = []

            def lose(record: Record) -> Record:
                if not lost:
                    lost.append(1)
                    fake.lose_sessions()
                return dataclasses.replace(record, claim=record.claim + 1)

            store.apply([Change(name_of(1), lose)])
            assert only(store, name_of(1)).claim == 1
        else:
            fake.lose_sessions()
            {
                "read": lambda: store.read([name_of(1)]),
                "begin": lambda: store.apply([step(name_of(1))]),
                "query": lambda: store.list(lro_query(limit=1)),
            }[code]()
        assert fake.rpcs["CreateSession"] == 1

    def test_a_session_is_replaced_before_it_ages_out(
        self, fake: FakeSpanner, store: lro.SpannerStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store.read([name_of(1)])
        assert fake.rpcs["CreateSession"] == 0
        monkeypatch.setattr(sessions, "MAX_AGE", 0.0)
        store.read([name_of(1)])
        assert fake.rpcs["CreateSession"] == 1

    def test_without_multiplexed_sessions_every_transaction_has_its_own(self, fake: FakeSpanner) -> None:
        """As on the emulator, where a session holds one transaction at a time."""
        made: list[str] = []

        def create(timeout: float) -> tuple[str, bool]:
            made.append(f"s{len(made)}")
            return made[-1], False

        pool = sessions.Sessions(create)
        assert pool.shared(1) == "s0"
        first, second = pool.take(1), pool.take(1)
        assert len({"s0", first, second}) == 3
        pool.give_back(first)
        assert pool.take(1) == first
        pool.forget(second)
        assert pool.shared(1) == "s0"


class TestOutages:
    def test_a_dead_server_costs_the_timeout_and_no_cpu(self, fake: FakeSpanner, store: lro.SpannerStore) -> None:
        create_all(store, row())
        fake.stop()
        began, cpu = time.monotonic(), time.process_time()
        for call in (lambda: store.read([name_of(1)]), lambda: store.apply([step(name_of(1))])):
            with pytest.raises(lro.StoreUnavailableError):
                call()
        took = time.monotonic() - began
        assert took < SOON
        assert time.process_time() - cpu < 0.2 * took + 0.2
        fake.__enter__()
        assert only(store, name_of(1)).claim == 0
        assert [o.claim for o in store.apply([step(name_of(1))]) if isinstance(o, Record)] == [1]

    def test_a_server_that_hangs_is_given_up(self, fake: FakeSpanner, store: lro.SpannerStore) -> None:
        create_all(store, row())
        fake.latency = 30
        began = time.monotonic()
        with pytest.raises(lro.StoreUnavailableError):
            store.read([name_of(1)])
        assert time.monotonic() - began < SOON
        fake.latency = 0
        assert only(store, name_of(1)) == row()

    def test_close_ends_what_is_under_way(self, fake: FakeSpanner, store: lro.SpannerStore) -> None:
        """Within a second, whether a call hangs or is between two attempts; its caller is told."""
        create_all(store, row())
        fake.latency = 30
        with ThreadPoolExecutor(2) as pool:
            hanging = pool.submit(store.read, [name_of(1)])
            writing = pool.submit(store.apply, [step(name_of(1))])
            block_until(lambda: fake.rpcs["Read"] == 3)  # that of the row that was made, and theirs
            began = time.monotonic()
            store.close()
            assert time.monotonic() - began < SOON
            for call in (hanging, writing):
                with pytest.raises((lro.StoreUnavailableError, RuntimeError)):
                    call.result(SOON)
            assert time.monotonic() - began < SOON
        fake.latency = 0
        store.close()
        with pytest.raises(RuntimeError, match="not open"):
            store.read([name_of(1)])

    def test_it_may_be_opened_again(self, fake: FakeSpanner, store: lro.SpannerStore) -> None:
        create_all(store, row())
        with pytest.raises(RuntimeError, match="is already open"):
            store.open()
        store.close()
        store.open()
        assert only(store, name_of(1)) == row()

    def test_the_clock_is_compared_with_every_commit(self, fake: FakeSpanner, store: lro.SpannerStore) -> None:
        assert abs(store.clock_offset) < 0.5
        fake.clock_offset = 60
        create_all(store, row())
        assert store.clock_offset == pytest.approx(60, abs=1)
        fake.clock_offset = 0

    def test_a_fork_is_noticed(
        self, fake: FakeSpanner, store: lro.SpannerStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(store, "_pid", -1)
        with pytest.raises(RuntimeError, match="fork"):
            store.read([name_of(1)])


def test_a_lock_of_somebody_else_is_waited_for(fake: FakeSpanner, store: lro.SpannerStore) -> None:
    """A process that died between read and commit holds its locks until Spanner takes them away."""
    create_all(store, row(1), row(2))
    other = connection.Connection(store._location)
    other.open()
    fake.idle_limit = 0.5
    other.begin(("key",), [name_of(1)], previous=b"", budget=other.budget(), tag="t")
    began = time.monotonic()
    outcomes = store.apply([step(name_of(1)), step(name_of(2))])
    assert [o.claim for o in outcomes if isinstance(o, Record)] == [1, 1]
    assert time.monotonic() - began < SOON
    other.close()


@pytest.mark.slow
def test_of_many_writers_none_is_lost(fake: FakeSpanner) -> None:
    """Three stores, twelve threads, five rows, and a batch of two rows at a time."""
    stores = [lro.SpannerStore.from_url(fake.url) for _ in range(3)]
    for store in stores:
        store.open()
    create_all(stores[0], *(row(i) for i in range(5)))
    gate = threading.Barrier(12)

    def work(number: int) -> int:
        gate.wait(10)
        done = 0
        for turn in range(5):
            pair = {name_of((number + turn) % 5), name_of((number * 2 + turn) % 5)}
            outcomes = stores[number % 3].apply([step(name) for name in sorted(pair)])
            done += sum(isinstance(outcome, Record) for outcome in outcomes)
        return done

    with ThreadPoolExecutor(12) as pool:
        total = sum(pool.map(work, range(12), timeout=40))
    assert sum(record.claim for record in stores[1].read([name_of(i) for i in range(5)])) == total
    for store in stores:
        store.close()


def test_a_row_may_end_and_another_take_its_name_in_one_batch(fake: FakeSpanner, store: lro.SpannerStore) -> None:
    """Nothing of the old row is left, in our columns or anybody's."""
    create_all(store, row(1, metadata=any_of(b"old")))
    held = only(store, name_of(1))
    (claimed,) = store.apply([Change(name_of(1), lambda r: transitions.claim(r, now=NOW, by=claimant()))])
    assert isinstance(claimed, Record)
    fresh = row(1, uid="another")
    store.apply(
        [
            Change(
                name_of(1),
                lambda r: transitions.finish(r, holder=holder(claimed), now=NOW, retention=1.0),
            ),
            put(fresh),
        ]
    )
    assert only(store, name_of(1)) == fresh
    assert held.uid != fresh.uid
    assert only(store, name_of(1)).state is State.PENDING
