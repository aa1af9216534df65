"""Waits that cannot end are said once in the log: circles, and waits that hold the slots which others need."""

import asyncio
import logging

import pytest

import lro_aio as lro
from lro_aio.engine.standstill import circles


@pytest.fixture
def said(caplog):
    """``said(event)``: the messages of the log records of this kind."""
    caplog.set_level(logging.WARNING, "lro_aio")
    return lambda event: [record.getMessage() for record in caplog.records if record.event == event]


@pytest.fixture
def go():
    """Until it is set, no handler waits for another: what it waits for has to be there."""
    return asyncio.Event()


@pytest.fixture
def handlers(go):
    """``waiter`` is suspended on the operations in its state, ``in-place`` waits for them in its slot."""
    registry = lro.Handlers()

    @registry.handler("waiter", state=list[str], resume_points=("end",))
    async def waiter(op):
        await go.wait()
        return op.suspend(resume_at="end", children=op.state) if op.resume_point == "" else None

    @registry.handler("in-place", state=list[str])
    async def in_place(op):
        await go.wait()
        await op.wait(children=op.state, timeout=None)

    @registry.handler("long")
    async def long(op):
        await asyncio.Event().wait()

    return registry


async def some_passes(clock, count=4):
    for _ in range(count):
        await clock.advance(40)


@pytest.mark.slow
@pytest.mark.asyncio
@pytest.mark.parametrize("kinds", [("waiter", "waiter"), ("waiter", "in-place"), ("in-place",) * 2, ("waiter",) * 5])
async def test_operations_that_wait_for_each_other_are_named_once(
    open_client, store, lro_clock, handlers, go, kinds, said
):
    client = await open_client(store, handlers=[handlers])
    for number, kind in enumerate(kinds):
        await client.start(kind, [f"operations/o{(number + 1) % len(kinds)}"], operation_id=f"o{number}")
    go.set()
    await some_passes(lro_clock)
    circle = [f"operations/o{number}" for number in (*range(len(kinds)), 0)]
    assert said("waits_in_a_circle") == [
        f"operations wait for each other, so that none of them goes on: {' -> '.join(circle)}"
    ]


@pytest.mark.asyncio
@pytest.mark.parametrize("suspends", [True, False])
@pytest.mark.parametrize("reads_result", [True, False])
async def test_a_child_that_waits_for_its_parent_is_named(client, lro_clock, suspends, reads_result, said):
    @client.handler("child", resume_points=("end",))
    async def child(op):
        if op.resume_point == "end":
            return None
        parent = op.record.parent_operation
        if suspends:
            return op.suspend(resume_at="end", children=[parent])
        await op.wait(children=[parent], timeout=None)
        return None

    @client.handler("parent")
    async def parent(op):
        started = await op.start_child("child", key="one")
        await (started.result() if reads_result else op.wait(children=[started], timeout=None))

    await client.start("parent", operation_id="top")
    await some_passes(lro_clock)
    (message,) = said("waits_in_a_circle")
    assert message.count("operations/top") >= 1
    assert message.count(" -> ") == 2


@pytest.mark.asyncio
async def test_a_circle_is_found_though_no_process_watches_all_of_it(open_client, tmp_path, lro_clock, go, said):
    """Each process has one of the handlers, and waits in place or watches for itself alone."""
    url = f"sqlite:///{tmp_path}/o.db"
    here, there = lro.Handlers(), lro.Handlers()

    @here.handler("here")
    async def waits_in_place(op):
        await go.wait()
        await op.wait(children=["operations/b"], timeout=None)

    @there.handler("there", resume_points=("end",))
    async def suspends(op):
        await go.wait()
        return op.suspend(resume_at="end", children=["operations/a"]) if op.resume_point == "" else None

    first = await open_client(url, handlers=[here])
    second = await open_client(url, handlers=[there])
    await second.start("there", operation_id="b")
    await first.start("here", operation_id="a")
    go.set()
    await some_passes(lro_clock)
    assert said("waits_in_a_circle") == [
        "operations wait for each other, so that none of them goes on: operations/a -> operations/b -> operations/a"
    ]


@pytest.mark.asyncio
async def test_waits_that_can_end_are_not_spoken_of(open_client, store, lro_clock, handlers, go, said):
    """Chains, two that wait for one, and a circle that was there until one of it was cancelled."""
    client = await open_client(store, handlers=[handlers], max_running=8)
    await client.start("long", operation_id="end")
    await client.start("waiter", ["operations/end"], operation_id="a")
    await client.start("waiter", ["operations/end", "operations/a"], operation_id="b")
    await client.start("in-place", ["operations/a", "operations/b"], operation_id="c")
    await client.start("waiter", ["operations/y"], operation_id="x")
    await client.start("waiter", ["operations/x"], operation_id="y")
    go.set()
    await lro_clock.settle()
    assert (await client.operation("operations/x")).record.state == "SUSPENDED"
    await client.cancel_operation("operations/x")
    await some_passes(lro_clock)
    assert said("waits_in_a_circle") == said("slots_held_by_waits") == []


@pytest.mark.asyncio
async def test_waits_that_hold_all_slots_which_their_children_need_are_named_once(
    open_client, store, lro_clock, handlers, go, said
):
    client = await open_client(store, handlers=[handlers], max_running=2)
    for name in ("a", "b"):
        await client.start("in-place", [f"operations/{name}-child"], operation_id=name)
    for name in ("a", "b"):
        await client.start("long", operation_id=f"{name}-child")
    go.set()
    await some_passes(lro_clock)
    (message,) = said("slots_held_by_waits")
    assert "(max_running=2)" in message
    assert "operations/a, operations/b;" in message


@pytest.mark.asyncio
async def test_a_slot_that_does_work_is_no_standstill(open_client, store, lro_clock, handlers, go, said):
    client = await open_client(store, handlers=[handlers], max_running=2)
    await client.start("long")
    await client.start("in-place", ["operations/child"])
    await client.start("long", operation_id="child")
    go.set()
    await some_passes(lro_clock)
    assert said("slots_held_by_waits") == []


@pytest.mark.asyncio
async def test_a_child_that_waits_for_its_handler_does_not_wait_for_a_slot(
    open_client, tmp_path, lro_clock, handlers, go, said
):
    url = f"sqlite:///{tmp_path}/o.db"
    client = await open_client(url, handlers=[handlers], max_running=1)
    await client.start("in-place", ["operations/child"])
    await (await open_client(url, worker=False)).start("unknown", operation_id="child")
    go.set()
    await some_passes(lro_clock)
    assert said("slots_held_by_waits") == []
    assert said("handler_not_registered") != []


@pytest.mark.asyncio
async def test_children_that_run_in_another_process_are_no_standstill(
    open_client, tmp_path, lro_clock, handlers, go, said
):
    url = f"sqlite:///{tmp_path}/o.db"
    client = await open_client(url, handlers=[handlers], max_running=1)
    await client.start("in-place", ["operations/child"], operation_id="parent")
    other = await open_client(url, handlers=[handlers])
    await other.start("long", operation_id="child")
    go.set()
    await some_passes(lro_clock)
    assert (await client.operation("operations/parent")).record.state == "RUNNING"
    assert said("slots_held_by_waits") == []


def test_circles_are_found_apart_from_what_leads_into_them() -> None:
    graph = {"a": ("b",), "b": ("a", "x"), "c": ("a",), "d": ("d",), "e": ("f",), "x": ("y",)}
    assert sorted(circles(graph)) == [["a", "b", "a"], ["d", "d"]]
    assert list(circles({"a": ("b",), "b": ("c",)})) == []
