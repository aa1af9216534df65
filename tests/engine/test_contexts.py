"""Context variables: a handler sees what was set around the client, and nothing of other operations or callers."""

import contextvars

import pytest

import lro_aio as lro

from ..waiting import reached

tenant = contextvars.ContextVar("tenant", default="unset")


@pytest.fixture
def seen():
    return []


@pytest.fixture
def handlers(seen):
    registry = lro.Handlers()

    @registry.handler("look", resume_points=("again",))
    async def look(op):
        seen.append(tenant.get())
        tenant.set(op.name)
        return op.suspend(resume_at="again", sleep=1) if op.resume_point == "" else None

    return registry


@pytest.mark.asyncio
async def test_what_was_set_around_the_client_is_seen_in_every_segment(open_client, store, lro_clock, handlers, seen):
    tenant.set("around")
    client = await open_client(store, handlers=[handlers])
    tenant.set("later, by a caller")
    op = await client.start("look")
    await lro_clock.advance(2)
    assert (await reached(client, op.name, "SUCCEEDED")).done
    assert seen == ["around", "around"]


@pytest.mark.asyncio
async def test_nothing_leaks_from_one_operation_to_another_or_to_a_caller(
    open_client, store, lro_clock, handlers, seen
):
    client = await open_client(store, handlers=[handlers])
    for _ in range(3):
        await client.start("look")
        await lro_clock.advance(2)
    assert seen == ["unset"] * 6
    assert tenant.get() == "unset"


@pytest.mark.asyncio
async def test_a_child_does_not_see_what_its_parent_has_set(open_client, store, lro_clock, seen):
    handlers = lro.Handlers()

    @handlers.handler("parent")
    async def parent(op):
        tenant.set("the parent's")
        await op.start_child("child", key="a")

    @handlers.handler("child")
    async def child(op):
        seen.append(tenant.get())

    client = await open_client(store, handlers=[handlers])
    await client.start("parent")
    await lro_clock.settle()
    assert seen == ["unset"]


@pytest.mark.asyncio
async def test_each_life_of_a_client_has_the_context_in_which_it_was_opened(lro_clock, handlers, seen):
    client = lro.Client("sqlite://", handlers=[handlers], clock=lro_clock, drain_timeout=0)
    for value in ("first", "second"):
        tenant.set(value)
        async with client:
            await client.start("look")
            await lro_clock.settle()
    assert seen == ["first", "second"]
