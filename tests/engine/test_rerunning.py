"""Running an operation again that has ended: a new one, with what the first one began with and has paid for."""

import asyncio
import contextlib

import pytest

import lro_aio as lro
from lro_aio.core import rerunning
from lro_aio.core.change import Change
from lro_aio.core.errors import OperationNotDoneError
from lro_aio.core.journal import Entry, Kind
from lro_aio.core.record import State

STEPS = [Entry(kind=Kind.STEP, key=f"step {i}", time=1.0, payload=b"%d" % i, codec="json;v=1") for i in range(7)]
OTHERS = [Entry(kind=Kind.MESSAGE, key="m", time=2.0), Entry(kind=Kind.TIMER, key="t", time=3.0)]


@pytest.fixture
def log():
    """The states with which runs began."""
    return []


@pytest.fixture
def handlers(client, log):
    @client.handler("work", state=list[str], deadline=500)
    async def work(op):
        log.append(list(op.state))
        op.state.append("changed")
        await op.save()
        if len(log) == 1:
            raise ValueError
        op.state.append("again")

    @client.handler("plain")
    async def plain(op):
        log.append(op.state)

    return client


def append(store, name, entries):
    (outcome,) = store.inner.apply([Change(name, lambda row: row, appends=tuple(entries))])
    assert not isinstance(outcome, Exception)


def steps_of(store, name):
    return [(entry.kind, entry.key, entry.payload) for entry in store.inner.journal([name]).get(name, ())]


@pytest.mark.asyncio
async def test_a_rerun_begins_with_the_first_state_and_the_kept_steps(handlers, client, lro_clock, store, row, log):
    first = await client.start("work", ["a"])
    await lro_clock.advance(100)
    append(store, first.name, [*STEPS, *OTHERS])
    again = await client.rerun_operation(first.name)
    await asyncio.wait_for(again.result(), 5)
    assert again.name != first.name
    assert log == [["a"], ["a"]]
    assert steps_of(store, again.name) == [(entry.kind, entry.key, entry.payload) for entry in STEPS]
    assert row(again.name).deadline == row(again.name).create_time + 500
    assert row(first.name).state is State.FAILED


@pytest.mark.asyncio
async def test_the_histories_of_both_name_the_other(handlers, client, lro_clock):
    first = await client.start("plain")
    await lro_clock.settle()
    again = await client.rerun_operation(first.name)

    async def links(op):
        return [entry.text for entry in await client.history(op.name) if entry.kind == "RERUN"]

    assert await links(first) == [f"as {again.name}"]
    assert await links(again) == [f"of {first.name}"]


@pytest.mark.asyncio
async def test_a_reason_is_in_the_histories_of_both_and_the_links_are_the_names(handlers, client, lro_clock):
    first = await client.start("plain")
    await lro_clock.settle()
    again = await client.rerun_operation(first.name, reason="the disk\nis back")
    texts = [
        entry.text for name in (first.name, again.name) for entry in await client.history(name) if entry.kind == "RERUN"
    ]
    assert texts == [f"as {again.name} (the disk is back)", f"of {first.name} (the disk is back)"]
    assert (await client.describe(first.name)).reruns == (again.name,)
    assert (await client.describe(again.name)).rerun_of == first.name


@pytest.mark.asyncio
async def test_the_same_request_gives_the_same_rerun(handlers, client, lro_clock, store, log):
    first = await client.start("plain", request_id="r1")
    await lro_clock.settle()
    store.fail("apply", when="after")
    with contextlib.suppress(lro.StoreUnavailableError):
        await client.rerun_operation(first.name, request_id="r1")
    reruns = await asyncio.gather(*(client.rerun_operation(first.name, request_id="r1") for _ in range(3)))
    assert len({op.name for op in reruns} | {first.name}) == 2
    other = await client.rerun_operation(first.name, request_id="r2")
    assert other.name not in {op.name for op in reruns}
    await lro_clock.settle()
    assert len(log) == 3
    links = [entry for entry in await client.history(first.name) if entry.kind == "RERUN"]
    assert len(links) == 2


@pytest.mark.asyncio
async def test_what_has_not_ended_or_has_no_handler_is_refused(handlers, client, lro_clock):
    @client.handler("hangs")
    async def hangs(op):
        await asyncio.Event().wait()

    op = await client.start("hangs")
    with pytest.raises(OperationNotDoneError):
        await client.rerun_operation(op.name)
    made = await client.create()
    await made.done()
    with pytest.raises(lro.InvalidTransitionError, match="without a handler"):
        await client.rerun_operation(made.name)
    with pytest.raises(lro.OperationNotFoundError):
        await client.rerun_operation("operations/never")
    done = await client.start("plain")
    await lro_clock.settle()
    with pytest.raises(ValueError, match="request_id"):
        await client.rerun_operation(done.name, request_id="\n")


@pytest.mark.asyncio
async def test_many_steps_are_there_before_it_runs(handlers, client, lro_clock, store, log):
    most = rerunning.MOST_ENTRIES
    many = [Entry(kind=Kind.STEP, key=f"step {i}", time=1.0) for i in range(2 * most + 1)]
    first = await client.start("plain")
    await lro_clock.settle()
    append(store, first.name, many)
    store.fail("apply", nth=2)
    with pytest.raises(lro.StoreUnavailableError):
        await client.rerun_operation(first.name, request_id="r")
    await lro_clock.advance(1000)
    assert len(log) == 1
    (paused,) = [operation async for operation in client.iter_operations("paused = true")]
    assert len(steps_of(store, paused.name)) == most
    again = await client.rerun_operation(first.name, request_id="r")
    await asyncio.wait_for(again.result(), 5)
    assert again.name == paused.name
    assert [key for _, key, _ in steps_of(store, again.name)] == [entry.key for entry in many]


@pytest.mark.asyncio
async def test_an_operation_that_began_without_a_state_begins_so_again(client, lro_clock, row, log):
    @client.handler("lazy", state=str | None)
    async def lazy(op):
        log.append(op.state)
        op.state = "set"

    first = await client.start("lazy")
    await lro_clock.settle()
    assert row(first.name).initial_codec
    await client.rerun_operation(first.name)
    await lro_clock.settle()
    assert log == [None, None]
