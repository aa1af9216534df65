"""What happened to an operation, as ``client.history`` tells it, and what the telling costs."""

import asyncio

import pytest
from google.protobuf import wrappers_pb2

import lro_aio as lro
from lro_aio.core.change import Change
from lro_aio.core.journal import Entry, Kind, key_of


def kinds(history):
    return [entry.kind for entry in history]


@pytest.mark.asyncio
async def test_a_life_is_told_from_its_start_to_its_end(client, lro_clock):
    policy = lro.RetryPolicy(on=(ValueError,), initial_delay=5, jitter=0)

    @client.handler("work", resume_points=["collect"], retry=policy)
    async def work(op):
        if op.resume_point == "collect":
            return wrappers_pb2.Int64Value(value=1)
        if op.retries == 0:
            raise ValueError("not\nyet")
        return op.suspend(resume_at="collect", sleep=60)

    op = await client.start("work")
    await lro_clock.advance(5)
    await lro_clock.advance(60)
    await op.result()
    history = await client.history(op.name)
    assert all(isinstance(entry, lro.HistoryEntry) for entry in history)
    assert kinds(history) == [
        *("CREATED", "CLAIMED", "RETRIED", "CLAIMED"),
        *("SUSPENDED", "WOKEN", "CLAIMED", "SUCCEEDED"),
    ]
    created, claimed, retried, _, suspended, woken, _, ended = history
    assert (created.name, created.time) == ("work", (await client.engine.rows.record(op.name)).create_time)
    assert claimed.text == client.engine.settings.owner
    assert retried.error == "ValueError: not yet"
    assert suspended.text.endswith("; then collect")
    assert woken.text == "ELAPSED"
    assert ended.time - created.time == pytest.approx(65)
    assert [entry.time for entry in history] == sorted(entry.time for entry in history)


@pytest.mark.asyncio
async def test_a_failure_says_why_and_a_cancel_that_it_was_asked_for(client):
    @client.handler("broken")
    async def broken(op):
        raise lro.OperationFailedError("no disk", code=lro.Code.RESOURCE_EXHAUSTED)

    op = await client.start("broken")
    with pytest.raises(lro.OperationFailedError):
        await op.result()
    assert (await client.history(op.name))[-1].error == "RESOURCE_EXHAUSTED OPERATION_FAILED: no disk"
    idle = await client.create(lease=False)
    await client.cancel_operation(idle.name)
    await idle.fail(lro.OperationCancelledError())
    assert kinds(await client.history(idle.name)) == ["CREATED", "CANCEL", "CANCELLED"]


@pytest.mark.asyncio
async def test_an_error_without_a_text_runs_again_all_the_same(client, lro_clock):
    class Broken(Exception):
        def __str__(self):
            raise KeyError

    @client.handler("work", retry=lro.RetryPolicy(on=(Broken,), initial_delay=5))
    async def work(op):
        if op.retries == 0:
            raise Broken

    op = await client.start("work")
    await lro_clock.advance(10)
    await op.result()
    (retried,) = [entry for entry in await client.history(op.name) if entry.kind == "RETRIED"]
    assert retried.error == "Broken: (its text cannot be shown)"


@pytest.mark.asyncio
async def test_a_shutdown_gives_the_operation_back(store, open_client, lro_clock):
    first = await open_client(store)
    started = lro_clock.time()

    @first.handler("work")
    async def work(op):
        await asyncio.Event().wait()

    op = await first.start("work")
    await lro_clock.settle()
    await first.drain(0)
    history = await first.history(op.name)
    assert kinds(history) == ["CREATED", "CLAIMED", "RELEASED"]
    assert history[-1].time >= started


@pytest.mark.asyncio
async def test_the_journal_is_read_only_where_there_are_entries(client, store, lro_clock):
    op = await client.create(lease=False)
    await lro_clock.settle()
    before = store.calls.copy()
    assert kinds(await client.history(op.name)) == ["CREATED"]
    assert store.calls - before == {"read": 1}
    entry = Entry(
        kind=Kind.MESSAGE, key=key_of("approval", "m1"), time=client.clock.time(), payload=b"{}", codec="json"
    )
    await client.engine.rows.submit(Change(op.name, lambda row: row, appends=(entry,)))
    before = store.calls.copy()
    (_, message) = await client.history(op.name)
    assert store.calls - before == {"read": 1, "journal": 1}
    assert (message.kind, message.name, message.key, message.text) == ("MESSAGE", "approval", "m1", "{}")


@pytest.mark.asyncio
async def test_large_entries_make_small_batches(client, store, lro_clock):
    """Sixteen results of 1 MiB at a time are several transactions of 4 MiB, not one."""
    made = [await client.create(lease=False) for _ in range(16)]
    await lro_clock.settle()
    largest = Entry(kind=Kind.STEP, key="a", time=0.0, payload=bytes(2**20))
    held = store.hold("apply")
    first = asyncio.ensure_future(client.create(lease=False))
    await held.reached()
    before = store.calls["apply"]
    appended = [client.engine.rows.submit(Change(op.name, lambda row: row, appends=(largest,))) for op in made]
    held()
    await asyncio.gather(first, *appended)
    assert store.calls["apply"] - before == 4


@pytest.mark.asyncio
async def test_an_operation_that_uses_no_journal_asks_nothing_of_it(client, store, lro_clock):
    @client.handler("work", resume_points=["again"])
    async def work(op):
        return None if op.resume_point else op.suspend(resume_at="again", sleep=60)

    op = await client.start("work")
    await lro_clock.advance(60)
    await op.result()
    await client.cancel_operation(op.name)
    await client.delete_operation(op.name)
    await client.sweep()
    assert "journal" not in store.calls
