"""Get, list, iterate, wait, watch, delete and unmarshal, and what unknown and malformed names get."""

import asyncio

import pytest
from google.protobuf import struct_pb2, wrappers_pb2

import lro_aio as lro

VERBS = {
    "get": lambda client, name: client.get_operation(name),
    "wait": lambda client, name: client.wait_operation(name, timeout=1),
    "cancel": lambda client, name: client.cancel_operation(name),
    "delete": lambda client, name: client.delete_operation(name),
    "operation": lambda client, name: client.operation(name),
    "unmarshal": lambda client, name: client.unmarshal_operation(name),
    "watch": lambda client, name: anext(client.watch(name)),
    "history": lambda client, name: client.history(name),
    "module wait": lambda client, name: lro.wait_operation(name, client, timeout=1),
}
verbs = pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)


@verbs
@pytest.mark.asyncio
async def test_an_unknown_name_is_not_found_on_every_verb(client, store, verb):
    with pytest.raises(lro.OperationNotFoundError, match="'operations/nobody' does not exist") as caught:
        await verb(client, "operations/nobody")
    assert caught.value.code == lro.Code.NOT_FOUND
    assert not store.inner.read(["operations/nobody"])


@verbs
@pytest.mark.parametrize("name", ["", "nobody", "operations/", "operations/a b", "/operations/a", "operations/a/b"])
@pytest.mark.asyncio
async def test_a_malformed_name_is_refused_on_every_verb_before_the_store_is_asked(client, store, verb, name):
    await client.engine.batcher.settle()
    before = sum(store.calls.values())
    with pytest.raises(lro.InvalidOperationNameError):
        await verb(client, name)
    assert sum(store.calls.values()) == before


@verbs
@pytest.mark.asyncio
async def test_a_deleted_operation_is_not_found_on_every_verb(client, verb):
    op = await client.create()
    await op.delete()
    with pytest.raises(lro.OperationNotFoundError):
        await verb(client, op.name)


@pytest.mark.asyncio
async def test_an_unfinished_operation_that_was_deleted_is_hidden_runs_to_its_end_and_is_then_gone(client, store, row):
    gate, ended = asyncio.Event(), asyncio.Event()

    @client.handler("work")
    async def work(op):
        await gate.wait()
        ended.set()

    op = await client.start("work")
    await op.delete()
    assert row(op.name).deleted
    assert not (await client.list_operations()).operations
    gate.set()
    await asyncio.wait_for(ended.wait(), 5)
    await client.engine.batcher.settle()
    assert row(op.name) is None


@pytest.mark.asyncio
async def test_a_deleted_operations_creator_can_still_end_it(client, row):
    op = await client.create()
    await client.delete_operation(op.name)
    assert (await op.done()).done
    assert row(op.name) is None
    with pytest.raises((lro.OperationNotFoundError, lro.OperationDoneError, lro.LeaseLostError)):
        await op.fail("late")
    assert row(op.name) is None, "no write re-creates a deleted row"


@pytest.mark.asyncio
async def test_a_finished_operation_is_deleted_at_once(client, row):
    op = await client.create()
    await op.done()
    await client.delete_operation(op.name)
    assert row(op.name) is None


@pytest.mark.asyncio
async def test_retention_counts_from_the_end_and_the_sweep_removes_what_is_over(open_client, store, lro_clock, row):
    client = await open_client(store, retention=lro.RetentionPolicy(duration=100))
    op = await client.create()
    await lro_clock.advance(1000)
    await op.done()
    await lro_clock.advance(99)
    assert (await client.get_operation(op.name)).done
    await lro_clock.advance(1)
    with pytest.raises(lro.OperationNotFoundError):
        await client.get_operation(op.name)
    assert not (await client.list_operations()).operations
    await client.sweep()
    assert row(op.name) is None


@pytest.mark.asyncio
async def test_lists_are_newest_first_in_pages_that_join_up(client, lro_clock):
    names = []
    for _ in range(7):
        names.append((await client.create()).name)
        await lro_clock.advance(1)
    first = await client.list_operations(page_size=3)
    assert [op.name for op in first.operations] == names[:3:-1]
    second = await client.list_operations(page_size=3, page_token=first.next_page_token)
    third = await client.list_operations(page_size=3, page_token=second.next_page_token)
    seen = [op.name for page in (first, second, third) for op in page.operations]
    assert seen == names[::-1]
    assert not third.next_page_token
    assert [op.name async for op in client.iter_operations(page_size=2)] == names[::-1]


@pytest.mark.asyncio
async def test_a_filter_lets_through_what_it_says(client):
    done, open_ = await client.create(), await client.create()
    await done.fail("broken")
    assert [op.name for op in (await client.list_operations("done=true")).operations] == [done.name]
    assert [op.name for op in (await client.list_operations("done=false")).operations] == [open_.name]
    assert [op.name async for op in client.iter_operations("error.code=2", page_size=1)] == [done.name]


@pytest.mark.asyncio
async def test_bad_list_arguments_are_refused(client):
    for _ in range(3):
        await client.create()
    page = await client.list_operations(page_size=1)
    with pytest.raises(ValueError, match="page_size"):
        await client.list_operations(page_size=-1)
    with pytest.raises(lro.InvalidPageTokenError):
        await client.list_operations(page_token="made up")
    with pytest.raises(lro.InvalidPageTokenError):
        altered = page.next_page_token[:-2] + ("AA" if page.next_page_token[-2:] != "AA" else "BB")
        await client.list_operations(page_token=altered)
    with pytest.raises(lro.InvalidPageTokenError):
        await client.list_operations("done=true", page_token=page.next_page_token)
    with pytest.raises(lro.InvalidFilterError) as caught:
        await client.list_operations("done=true AND (")
    assert caught.value.position >= 14
    with pytest.raises(lro.InvalidOperationNameError):
        await client.list_operations(parent="a//b")


@pytest.mark.asyncio
async def test_a_page_is_clipped_at_its_bytes_and_goes_on(open_client, store):
    client = await open_client(store, limits=lro.Limits(page_bytes=1000))
    for _ in range(6):
        await client.create(wrappers_pb2.BytesValue(value=b"x" * 300), lease=False)
    page = await client.list_operations()
    assert len(page.operations) == 2
    assert page.next_page_token
    assert len([op async for op in client.iter_operations()]) == 6


@pytest.mark.asyncio
async def test_a_wait_ends_with_the_operation_or_with_its_latest_state_at_the_timeout(client, lro_clock):
    op = await client.create()
    waiting = asyncio.create_task(client.wait_operation(op.name, timeout=60))
    await lro_clock.advance(59)
    assert not waiting.done()
    await lro_clock.advance(1)
    assert not (await waiting).done
    waiting = asyncio.create_task(client.wait_operation(op.name))
    await lro_clock.advance(1)
    await op.done()
    assert (await waiting).done
    assert (await client.wait_operation(op.name, timeout=0)).done


@pytest.mark.asyncio
async def test_the_modules_wait_raises_at_the_timeout_with_the_operation_as_last_seen(client, lro_clock):
    op = await client.create()
    waiting = asyncio.create_task(lro.wait_operation(op.name, client, timeout=77, clock=lro_clock))
    await lro_clock.advance(77)
    with pytest.raises(lro.WaitDeadlineExceededError, match="waited 77 s") as caught:
        await waiting
    assert caught.value.operation.name == op.name
    assert caught.value.pending == (op.name,)


@pytest.mark.parametrize("timeout", [-1, float("nan"), float("inf"), "1"])
@pytest.mark.asyncio
async def test_a_bad_timeout_is_the_callers_mistake(client, timeout):
    op = await client.create()
    with pytest.raises((ValueError, TypeError), match="timeout"):
        await client.wait_operation(op.name, timeout=timeout)
    with pytest.raises((ValueError, TypeError), match="timeout"):
        await op.result(timeout=timeout)


@pytest.mark.asyncio
async def test_result_gives_the_message_or_raises_what_became_of_it(client, lro_clock):
    good, bad, late = await client.create(), await client.create(), await client.create()
    await good.done(wrappers_pb2.Int64Value(value=7))
    await bad.fail(lro.OperationFailedError("no room", code=lro.Code.RESOURCE_EXHAUSTED))
    assert (await good.result(wrappers_pb2.Int64Value)).value == 7
    assert (await good.result()).value == 7
    with pytest.raises(TypeError, match="Int64Value"):
        await good.result(wrappers_pb2.StringValue)
    with pytest.raises(lro.OperationFailedError, match="RESOURCE_EXHAUSTED: no room") as caught:
        await bad.result()
    assert (caught.value.code, caught.value.message) == (lro.Code.RESOURCE_EXHAUSTED, "no room")
    waiting = asyncio.create_task(late.result(timeout=5))
    await lro_clock.advance(5)
    with pytest.raises(lro.WaitDeadlineExceededError) as ran_out:
        await waiting
    assert ran_out.value.operation.name == late.name
    await late.cancel()
    with pytest.raises(lro.OperationCancelledError):
        await late.result()


@pytest.mark.asyncio
async def test_a_watcher_sees_changes_in_order_and_ends_with_the_terminal_one(client):
    op = await client.create()
    seen = []

    async def watch():
        async for snapshot in client.watch(op.name):
            value = wrappers_pb2.Int64Value()
            snapshot.metadata.Unpack(value)
            seen.append((value.value, snapshot.done))

    watcher = asyncio.create_task(watch())
    for step in range(1, 6):
        await op.set_metadata(wrappers_pb2.Int64Value(value=step))
    await op.done()
    await asyncio.wait_for(watcher, 5)
    assert seen == sorted(seen)
    assert seen[-1] == (5, True)
    assert [done for _, done in seen].count(True) == 1


@pytest.mark.asyncio
async def test_watching_an_operation_that_is_deleted_meanwhile_is_not_found(client):
    op = await client.create()
    watcher = client.watch(op.name)
    await anext(watcher)
    await op.delete()
    with pytest.raises(lro.OperationNotFoundError):
        await asyncio.wait_for(anext(watcher), 5)


@pytest.mark.asyncio
async def test_a_watcher_sees_what_another_client_of_the_file_commits(open_client, tmp_path, lro_clock):
    url = f"sqlite:///{tmp_path}/ops.db"
    one, other = await open_client(url), await open_client(url)
    op = await one.create()
    waiting = asyncio.create_task(other.wait_operation(op.name))
    await lro_clock.settle()
    await op.done()
    assert (await asyncio.wait_for(waiting, 5)).done


@pytest.mark.asyncio
async def test_unmarshal_unpacks_classes_and_fills_instances(client):
    op = await client.create(struct_pb2.Struct())
    with pytest.raises(lro.OperationNotDoneError):
        await client.unmarshal_operation(op.name)
    await op.done(wrappers_pb2.Int64Value(value=7))
    target = wrappers_pb2.Int64Value()
    response, metadata = await client.unmarshal_operation(op.name, target, struct_pb2.Struct)
    assert response is target
    assert (target.value, metadata) == (7, struct_pb2.Struct())
    assert await client.unmarshal_operation(op.name) == (None, None)
    with pytest.raises(TypeError):
        await client.unmarshal_operation(op.name, wrappers_pb2.StringValue)
    failed = await client.create()
    await failed.fail("broken")
    with pytest.raises(lro.OperationFailedError, match="broken"):
        await client.unmarshal_operation(failed.name, wrappers_pb2.Int64Value)


@pytest.mark.asyncio
async def test_an_existing_operation_with_a_handler_can_be_seen_and_cancelled_but_not_written(client):
    @client.handler("work")
    async def work(op):
        await asyncio.Event().wait()

    started = await client.start("work")
    visitor = await client.operation(started.name)
    for write in (visitor.done(), visitor.fail("no"), visitor.set_metadata(struct_pb2.Struct())):
        with pytest.raises(lro.LeaseLostError):
            await write
    assert not (await visitor.fetch()).done
    await visitor.cancel()
    with pytest.raises(lro.OperationCancelledError):
        await asyncio.wait_for(visitor.result(), 5)


@pytest.mark.asyncio
async def test_who_shares_a_read_gets_only_what_it_asked_for(open_client, store):
    client = await open_client(store)
    asked = [(await client.create(lease=False)).name for _ in range(2)]
    found = await asyncio.gather(*(client.server_host.records([name]) for name in asked))
    assert [list(records) for records in found] == [[name] for name in asked]
