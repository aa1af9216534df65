"""``start_child``: the same child in every run, the link to its parent, and the cancel that follows it."""

import asyncio
import math
from dataclasses import dataclass
from typing import Annotated

import pydantic
import pytest
from google.protobuf import wrappers_pb2

import lro_aio as lro
from lro_aio.core.record import State


@pytest.fixture
def families(client):
    """Handlers: ``leaf`` runs until it is cancelled; ``tree`` has ``state`` levels of two children each, and waits."""
    started = []

    @client.handler("leaf")
    async def leaf(op):
        started.append(op.name)
        await asyncio.Event().wait()

    @client.handler("tree", state=int, resume_points=("done",))
    async def tree(op):
        if op.resume_point == "done":
            return None
        handler, state = ("tree", op.state - 1) if op.state > 1 else ("leaf", None)
        children = [await op.start_child(handler, state, key=key) for key in ("left", "right")]
        return op.suspend(resume_at="done", children=[child.name for child in children])

    return started


async def states(client):
    page = await client.list_operations(page_size=100)
    return sorted(client.store.inner.read([op.name])[0].state.value for op in page.operations)


@pytest.mark.asyncio
async def test_a_child_is_linked_to_its_parent_and_shares_its_collection(client, row):
    names = []

    @client.handler("child")
    async def child(op):
        return None

    @client.handler("parent")
    async def parent(op):
        first = await op.start_child("child", key="a")
        again = await op.start_child(child, key="a")
        other = await op.start_child("child", key="b")
        names.extend([first.name, again.name, other.name])

    op = await client.start("parent", parent="tenants/t")
    await asyncio.wait_for(op.result(), 5)
    assert names[0] == names[1] != names[2]
    assert names[0].startswith("tenants/t/operations/")
    assert row(names[0]).parent_operation == op.name


@pytest.mark.asyncio
async def test_a_run_after_a_crash_finds_the_same_children(open_client, tmp_path, lro_clock, abandon):
    url = f"sqlite:///{tmp_path}/ops.db"
    handlers = lro.Handlers()
    found, crash = [], asyncio.Event()

    @handlers.handler("child", state=int)
    async def child(op):
        return wrappers_pb2.Int64Value(value=op.state)

    @handlers.handler("parent")
    async def parent(op):
        found.append([(await op.start_child("child", n, key=f"c{n}")).name for n in range(3)])
        if op.attempt == 1:
            crash.set()
            await asyncio.Event().wait()
        return wrappers_pb2.Int64Value(value=len(await op.wait(children=found[-1])))

    first = await open_client(url, handlers=[handlers])
    op = await first.start("parent")
    await asyncio.wait_for(crash.wait(), 5)
    abandon(first)
    second = await open_client(url, handlers=[handlers])
    await lro_clock.advance(46)
    result = await asyncio.wait_for((await second.operation(op.name)).result(wrappers_pb2.Int64Value), 5)
    assert result.value == 3
    assert found[0] == found[1]
    assert len((await second.list_operations('handler="child"')).operations) == 3


@pytest.mark.asyncio
async def test_a_key_that_stands_for_another_handlers_child_is_refused(client):
    errors = []

    @client.handler("child", state=int)
    async def child(op):
        return None

    @client.handler("parent")
    async def parent(op):
        await op.start_child("child", 1, key="a")
        for error, handler, key in ((lro.OperationAlreadyExistsError, "parent", "a"), (ValueError, "child", "")):
            try:
                await op.start_child(handler, key=key)
            except error as exc:
                errors.append(type(exc))

    op = await client.start("parent")
    await asyncio.wait_for(op.result(), 5)
    assert errors == [lro.OperationAlreadyExistsError, ValueError]


def differences(caplog):
    return [record for record in caplog.records if getattr(record, "event", "") == "child_differs"]


@pytest.mark.asyncio
async def test_for_a_child_the_key_decides_and_a_difference_is_told_once(client, lro_clock, caplog):
    """A state with a clock or a random number in it is another each time that the segment runs."""
    seen, names = [], []

    @client.handler("child", state=dict)
    async def child(op):
        seen.append(op.state)

    @client.handler("parent", retry=lro.RetryPolicy(on=(ConnectionError,), max_attempts=5, jitter=0))
    async def parent(op):
        names.append((await op.start_child("child", {"to": "ada", "run": len(names)}, key="ada")).name)
        await op.start_child("child", {"to": "bob"}, key="bob")
        if len(names) < 3:
            raise ConnectionError("worth a retry")
        return wrappers_pb2.Int64Value(value=len(await op.wait(children=names[:1])))

    op = await client.start("parent")
    await lro_clock.advance(1000)
    assert (await asyncio.wait_for(op.result(wrappers_pb2.Int64Value), 5)).value == 1
    assert len(names) == 3
    assert len(set(names)) == 1
    assert seen == [{"to": "ada", "run": 0}, {"to": "bob"}]
    assert [record.operation for record in differences(caplog)] == names[:1]


@pytest.mark.asyncio
async def test_a_childs_state_needs_no_canonical_form(client, lro_clock, caplog):
    """There is nothing that start_child could be given instead."""

    class Part:
        def __init__(self, text):
            self.text = text

    kind = Annotated[
        Part,
        pydantic.PlainValidator(lambda value: value if isinstance(value, Part) else Part(value)),
        pydantic.PlainSerializer(lambda part: part.text),
    ]

    @client.handler("child", state=kind)
    async def child(op):
        return wrappers_pb2.StringValue(value=op.state.text)

    @client.handler("parent", retry=lro.RetryPolicy(on=(ConnectionError,)))
    async def parent(op):
        found = await op.start_child("child", Part("made"), key="a")
        if not op.retries:
            raise ConnectionError("worth a retry")
        return await found.result(wrappers_pb2.StringValue)

    op = await client.start("parent")
    await lro_clock.advance(100)
    assert (await asyncio.wait_for(op.result(wrappers_pb2.StringValue), 5)).value == "made"
    assert not differences(caplog)


@pytest.mark.asyncio
async def test_a_release_that_adds_a_field_finds_the_children_of_the_one_before(
    open_client, tmp_path, lro_clock, caplog
):
    @dataclass
    class Before:
        number: int = 0

    @dataclass
    class After:
        number: int = 0
        dpi: int = 300

    names, held = [], asyncio.Event()

    def release(page, hold):
        handlers = lro.Handlers()

        @handlers.handler("page", state=page)
        async def render(op): ...

        @handlers.handler("report")
        async def report(op):
            names.append([(await op.start_child("page", page(n), key=f"page-{n}")).name for n in range(2)])
            if hold:
                held.set()
                await asyncio.Event().wait()

        return handlers

    url = f"sqlite:///{tmp_path}/ops.db"
    first = await open_client(url, handlers=[release(Before, hold=True)])
    op = await first.start("report")
    asked = await first.start("page", Before(7), request_id="7")
    await asyncio.wait_for(held.wait(), 5)
    await first.aclose()
    second = await open_client(url, handlers=[release(After, hold=False)])
    await lro_clock.advance(10)
    await asyncio.wait_for((await second.operation(op.name)).result(), 5)
    assert names[0] == names[1]
    assert not differences(caplog)
    assert (await second.start("page", After(7), request_id="7")).name == asked.name
    with pytest.raises(lro.OperationAlreadyExistsError):
        await second.start("page", After(7, dpi=72), request_id="7")


@pytest.mark.asyncio
async def test_a_child_that_was_deleted_meanwhile_is_one_that_does_not_exist(client, lro_clock, store, row):
    """The child is made, the answer is lost, somebody deletes it, and the segment runs again."""
    started, seen = [], []

    @client.handler("child")
    async def child(op):
        started.append(op.name)
        await asyncio.Event().wait()

    @client.handler("parent", resume_points=("collect",), retry=lro.RetryPolicy(on=(lro.StoreUnavailableError,)))
    async def parent(op):
        if op.resume_point == "collect":
            seen.extend((child.done, child.error.code) for child in op.children)
            return None
        made = await op.start_child("child", key="a")
        if len(seen) == 0:
            seen.append(made.name)
            await client.delete_operation(made.name)
            raise lro.StoreUnavailableError("the answer is lost")
        return op.suspend(resume_at="collect", children=[made])

    op = await client.start("parent")
    await lro_clock.advance(60)
    assert (await op.fetch()).done
    await asyncio.wait_for(op.result(), 5)
    assert started == seen[:1], "it is not started again"
    assert seen[1:] == [(True, lro.Code.NOT_FOUND)]
    assert row(started[0]).deleted


@pytest.mark.asyncio
async def test_cancelling_the_parent_cancels_the_whole_tree(client, lro_clock, families):
    op = await client.start("tree", 3)
    await lro_clock.settle()
    assert len(families) == 8
    await op.cancel()
    await lro_clock.settle()
    assert await states(client) == ["CANCELLED"] * 15


@pytest.mark.asyncio
async def test_the_children_go_on_if_asked_for(client, lro_clock, families):
    op = await client.start("tree", 1)
    await lro_clock.settle()
    await op.cancel(cancel_children=False)
    await lro_clock.settle()
    assert await states(client) == ["CANCELLED", "RUNNING", "RUNNING"]


@pytest.mark.asyncio
async def test_a_running_parents_children_are_cancelled_and_it_can_start_no_more(client, lro_clock, families):
    gate = asyncio.Event()
    refused = []

    @client.handler("stubborn")
    async def stubborn(op):
        await op.start_child("leaf", key="before")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await gate.wait()
        try:
            await op.start_child("leaf", key="after")
        except lro.InvalidTransitionError as exc:
            refused.append(exc)
            raise

    op = await client.start("stubborn")
    await lro_clock.settle()
    await op.cancel()
    await lro_clock.settle()
    assert await states(client) == ["CANCELLED", "RUNNING"]
    gate.set()
    await lro_clock.settle()
    assert await states(client) == ["CANCELLED", "CANCELLED"]
    assert len(refused) == 1


@pytest.mark.asyncio
async def test_a_cascade_that_the_store_interrupts_is_finished_by_the_sweep(client, store, lro_clock, families):
    op = await client.start("tree", 2)
    await lro_clock.settle()
    store.fail("list", times=math.inf)
    await op.cancel()
    assert (await op.fetch()).error.code == lro.Code.CANCELLED
    assert {store.inner.read([name])[0].state for name in families} == {State.RUNNING}
    store.fail("list", times=0)
    await lro_clock.advance(6)  # others leave some seconds to whoever requested the cancel
    assert await states(client) == ["CANCELLED"] * 7
    assert not store.inner.read([op.name])[0].cancel_children


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_cascade_reaches_more_children_than_one_page_holds(client, lro_clock):
    @client.handler("child", resume_points=("on",))
    async def child(op):
        return op.suspend(resume_at="on", sleep=1000)

    @client.handler("parent", resume_points=("on",))
    async def parent(op):
        await asyncio.gather(*(op.start_child("child", key=str(n)) for n in range(1100)))
        return op.suspend(resume_at="on", sleep=1000)

    op = await client.start("parent")
    await lro_clock.settle()
    await op.cancel()
    await lro_clock.settle()
    assert len([o async for o in client.iter_operations('state="CANCELLED"', page_size=1000)]) == 1101


@pytest.mark.asyncio
async def test_a_childs_cancel_is_not_the_parents(client, lro_clock, row, families):
    op = await client.start("tree", 1)
    await lro_clock.settle()
    for name in families:
        await client.cancel_operation(name)
    await lro_clock.settle()
    assert row(op.name).state is State.SUCCEEDED
