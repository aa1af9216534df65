"""Stores with several lanes: what is committed first may be answered last."""

from __future__ import annotations

import asyncio
import threading
from functools import partial

import pytest

import lro_aio as lro
from lro_aio.core import transitions
from lro_aio.core.change import Change
from lro_aio.core.record import Record, State
from lro_aio.engine.lanes import MANY, MOST_TOLD, Lanes, Newest
from lro_aio.testing import FaultyStore

from ..waiting import PATIENCE, block_until


class SlowRenewals(FaultyStore):
    """A store with several lanes, whose renewals are committed at once and answered after ``go``."""

    def __init__(self, inner):
        super().__init__(inner)
        self.lanes = 4
        self.go = threading.Event()
        self.committed = threading.Event()

    def apply(self, changes):
        outcomes = super().apply(changes)
        if any(isinstance(change.event, partial) and change.event.func is transitions.renew for change in changes):
            self.committed.set()
            self.go.wait(10)
        return outcomes


@pytest.mark.asyncio
async def test_an_end_is_the_last_word_though_a_renewal_before_it_is_answered_later(tmp_path, lro_clock):
    handlers, go = lro.Handlers(), asyncio.Event()

    @handlers.handler("job")
    async def job(op) -> int:
        await go.wait()
        return 3

    store = SlowRenewals(lro.SqliteStore(f"{tmp_path}/o.db"))
    async with lro.Client(store, handlers=[handlers], clock=lro_clock) as client:
        op = await client.start(job)
        renewing = asyncio.create_task(lro_clock.advance(20))
        assert await asyncio.to_thread(store.committed.wait, 10)
        go.set()
        assert await op.result() == 3
        store.go.set()
        await renewing
        assert await asyncio.wait_for(op.result(), 5) == 3
        assert (await asyncio.wait_for(client.wait_operation(op.name), 5)).done


def told(uid="u", revision=1):
    return Record(
        name="operations/a", uid=uid, revision=revision, state=State.RUNNING, create_time=1.0, update_time=1.0
    )


def test_what_is_older_than_what_was_told_is_outdated():
    newest = Newest()
    seen = [told(revision=2), told(revision=2), told(revision=1), told(revision=3), None, told(revision=3), told("v")]
    assert [newest.outdated("operations/a", row) for row in seen] == [False, False, True, False, False, True, False]


def test_rows_of_other_programs_have_no_order():
    newest = Newest()
    assert [newest.outdated("operations/a", told("", revision)) for revision in (2, 1)] == [False, False]


def test_it_keeps_no_more_than_is_on_its_way():
    newest = Newest()
    for number in range(2 * MOST_TOLD):
        newest.outdated(f"operations/{number}", told())
    assert len(newest._told) == MOST_TOLD


class Held:
    """Transactions that last until ``go``, each as the names of its rows."""

    def __init__(self):
        self.batches = []
        self.go = threading.Event()

    def __call__(self, batch):
        self.batches.append([change.name for change, _, _ in batch])
        assert self.go.wait(PATIENCE)


@pytest.fixture
def held():
    commit = Held()
    lanes = Lanes(commit, lambda: None)
    lanes.open(2, None)
    commit.put = lambda *names: [lanes.put((Change(name, lambda row: row), None, None)) for name in names]
    yield commit
    commit.go.set()
    lanes.close()()


def test_few_rows_wait_for_one_transaction_and_share_the_next(held):
    held.put("first")
    block_until(lambda: held.batches)
    held.put("a", "b", "c")
    held.go.set()
    block_until(lambda: len(held.batches) == 2)
    assert held.batches == [["first"], ["a", "b", "c"]]


def test_of_many_rows_another_transaction_begins_while_one_is_under_way(held):
    held.put("first")
    block_until(lambda: held.batches)
    held.put(*map(str, range(MANY)))
    block_until(lambda: len(held.batches) == 2)
    assert held.batches == [["first"], [str(MANY - 1)]], "those before it were few, and share the next one"


def test_of_many_rows_those_for_which_no_lane_is_idle_follow_the_oldest_transaction(held):
    held.put("first")
    block_until(lambda: held.batches)
    held.put(*map(str, range(MANY)))
    block_until(lambda: len(held.batches) == 2)
    held.put("late")
    held.go.set()
    block_until(lambda: len(held.batches) == 3)
    assert held.batches[2] == [*map(str, range(MANY - 1)), "late"]
