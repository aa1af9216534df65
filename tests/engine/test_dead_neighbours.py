"""What a dead process held goes on at once where the store knows that it is dead; time does not move in these tests."""

import asyncio
import os

import pytest
import pytest_asyncio

import lro_aio as lro
from lro_aio.core.record import State
from lro_aio.testing import FaultyStore
from lro_aio.testing._store_rows import update

from ..postgres.schemas import a_schema_of_its_own
from ..waiting import reached, until


@pytest.fixture
def handlers():
    """The handler "work" ends in its second claim; who ran it, with claim and attempt."""
    handlers = lro.Handlers()
    handlers.runs = []

    @handlers.handler("work")
    async def work(op):
        handlers.runs.append((op.name, op.claim, op.attempt))
        if op.claim == 1:
            await asyncio.Event().wait()

    return handlers


@pytest.fixture
def shared(tmp_path):
    """``shared()``: a store; all are on one file, or on one table of the server of ``make test-postgres``."""
    if "LRO_TEST_POSTGRES" in os.environ:
        with a_schema_of_its_own(os.environ["LRO_TEST_POSTGRES"]) as url:
            yield lambda: FaultyStore(lro.PostgresStore(url))
    else:
        yield lambda: FaultyStore(lro.SqliteStore(tmp_path / "ops.db"))


@pytest_asyncio.fixture
async def host(shared, open_client, handlers):
    """``await host()``: a process."""

    async def start(**options):
        return await open_client(shared(), handlers=[handlers], **options)

    return start


@pytest.fixture
def kill(abandon):
    """``await kill(client)``: its process dies, also as far as the kernel can tell."""

    async def die(client):
        abandon(client)
        neighbours = client.store.inner._neighbours
        await asyncio.to_thread(neighbours._bell.close)
        os.close(neighbours._held)
        neighbours._held = -1

    return die


@pytest.mark.asyncio
async def test_a_run_goes_on_in_another_process_and_its_crash_counts(host, kill, handlers, caplog):
    first = await host()
    op = await first.start("work")
    await until(lambda: handlers.runs)
    second = await host()
    await kill(first)
    assert (await second.wait_operation(op.name)).done
    assert handlers.runs == [(op.name, 1, 1), (op.name, 2, 2)]
    assert f"{op.name} runs again: its process is dead" in caplog.text
    assert "LEASE_LOST" in [entry.kind for entry in await second.history(op.name)]


@pytest.mark.asyncio
async def test_a_process_that_begins_later_goes_on_with_it_too(host, kill, handlers):
    first = await host()
    op = await first.start("work")
    await until(lambda: handlers.runs)
    await kill(first)
    second = await host()
    assert (await second.wait_operation(op.name)).done


@pytest.mark.asyncio
async def test_what_is_committed_for_it_while_the_first_look_is_under_way_does_not_hide_it(
    host, kill, handlers, open_client, shared
):
    """As the message, or the repeat of a request, with which a caller comes back to a process that has just begun."""
    first = await host()
    op = await first.start("work")
    await until(lambda: handlers.runs)
    await kill(first)
    store = shared()
    answer = store.hold("look", when="after")
    second = await open_client(store, handlers=[handlers])
    await answer.reached()
    await second.send(op.name, "news", "are you there?")
    answer()
    async with asyncio.timeout(10):
        assert (await second.wait_operation(op.name)).done


@pytest.mark.asyncio
async def test_all_of_many_go_on_although_there_are_few_slots(host, kill, handlers):
    first = await host()
    names = [(await first.start("work")).name for _ in range(20)]
    await until(lambda: len(handlers.runs) == 20)
    second = await host(max_running=3, sweep=lro.SweepPolicy(batch=5))
    await kill(first)
    for name in names:
        assert (await second.wait_operation(name)).done
    assert sorted(run[1:] for run in handlers.runs) == [(1, 1)] * 20 + [(2, 2)] * 20


@pytest.mark.asyncio
async def test_a_dead_creator_is_lost_at_once(host, kill):
    first, second = await host(), await host()
    op = await first.create()
    await kill(first)
    assert b"CREATOR_LOST" in (await second.wait_operation(op.name)).error.SerializeToString()


@pytest.mark.asyncio
async def test_a_cancel_that_the_dead_process_did_not_hear_ends_its_operation(host, kill, handlers):
    first = await host()
    op = await first.start("work")
    await until(lambda: handlers.runs)
    second = await host()
    await second.cancel_operation(op.name)
    await kill(first)
    assert (await second.wait_operation(op.name)).error.code == 1
    assert len(handlers.runs) == 1


@pytest.mark.asyncio
async def test_a_suspect_is_on_trial_whoever_says_that_its_holder_is_dead(host, kill, handlers):
    """A second crash in a row: it begins when everything else has run for as long as its trial lasts."""
    first = await host()
    op = await first.start("work")
    await until(lambda: handlers.runs)
    first.store.inner.apply([update(op.name, attempt=2)])
    second = await host()
    other = await second.start("work")
    await until(lambda: len(handlers.runs) == 2)
    await kill(first)
    await until(lambda: op.name in second.engine.trials.waiting)
    await second.clock.advance(20)
    assert handlers.runs[2:] == [(op.name, 2, 3)]
    await reached(second, op.name, State.SUCCEEDED)
    assert not (await second.get_operation(other.name)).done


@pytest.mark.asyncio
async def test_one_that_has_crashed_too_often_is_given_up_at_once(host, kill, handlers):
    first = await host()
    op = await first.start("work")
    await until(lambda: handlers.runs)
    second = await host(max_attempts=1)
    await kill(first)
    assert b"ATTEMPTS_EXHAUSTED" in (await second.wait_operation(op.name)).error.SerializeToString()
    assert len(handlers.runs) == 1


@pytest.mark.asyncio
async def test_a_process_that_lives_keeps_what_it_has_whatever_dies_beside_it(host, kill, handlers):
    first, second, third = await host(), await host(), await host()
    kept = await first.start("work")
    lost = await second.start("work")
    await until(lambda: len(handlers.runs) == 2)
    await kill(second)
    assert (await third.wait_operation(lost.name)).done
    assert [run for run in handlers.runs if run[0] == kept.name] == [(kept.name, 1, 1)]


@pytest.mark.asyncio
async def test_what_two_processes_find_dead_is_run_by_one(host, kill, handlers):
    first = await host()
    names = [(await first.start("work")).name for _ in range(10)]
    await until(lambda: len(handlers.runs) == 10)
    others = [await host(), await host()]
    await kill(first)
    for name in names:
        assert (await others[0].wait_operation(name)).done
    assert sorted(run[1] for run in handlers.runs) == [1] * 10 + [2] * 10


@pytest.mark.asyncio
async def test_a_closed_client_is_not_dead_although_its_operation_was_not_given_back(host, abandon, handlers):
    """Its process lives, and a handler may run on in it: its lease decides."""
    first = await host()
    op = await first.start("work")
    await until(lambda: handlers.runs)
    second = await host()
    abandon(first)
    await first.engine.close()
    assert not second.store.inner._neighbours.dead
    await second.clock.advance(29)
    assert len(handlers.runs) == 1
    await second.clock.advance(60)
    assert (await second.wait_operation(op.name)).done
