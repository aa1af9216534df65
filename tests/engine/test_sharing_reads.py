"""Reads that are asked for at a time: one for all, whatever becomes of it and of those who asked."""

from __future__ import annotations

import asyncio

import pytest

import lro_aio as lro

pytestmark = pytest.mark.asyncio


async def test_what_is_asked_for_during_a_read_is_read_once_and_after_it(client, store):
    ops = [await client.create() for _ in range(3)]
    held = store.hold("read")
    first = asyncio.create_task(client.get_operation(ops[0].name))
    await held.reached()
    others = [asyncio.create_task(client.get_operation(op.name)) for op in ops for _ in range(100)]
    await asyncio.sleep(0)
    held()
    assert (await first).name == ops[0].name
    assert [got.name for got in await asyncio.gather(*others)] == [op.name for op in ops for _ in range(100)]
    assert store.calls["read"] == 2


async def test_an_error_is_everybodys_and_the_next_read_is_another_one(client, store):
    op = await client.create()
    store.fail("read")
    failed = await asyncio.gather(*(client.get_operation(op.name) for _ in range(10)), return_exceptions=True)
    assert [type(exc) for exc in failed] == [lro.StoreUnavailableError] * 10
    assert (await client.get_operation(op.name)).name == op.name
    assert store.calls["read"] == 2


async def test_whoever_is_cancelled_takes_nobody_along(client, store):
    op = await client.create()
    held = store.hold("read")
    asking = [asyncio.create_task(client.get_operation(op.name)) for _ in range(3)]
    await held.reached()
    later = [asyncio.create_task(client.get_operation(op.name)) for _ in range(3)]
    await asyncio.sleep(0)
    asking[1].cancel()
    later[1].cancel()
    held()
    got = await asyncio.gather(*asking, *later, return_exceptions=True)
    assert [isinstance(answer, asyncio.CancelledError) for answer in got] == [False, True, False] * 2
    assert {answer.name for answer in got if not isinstance(answer, BaseException)} == {op.name}


async def test_a_close_answers_those_who_asked_before_it(open_client, store):
    client = await open_client(store)
    op = await client.create()
    held = store.hold("read")
    first = asyncio.create_task(client.get_operation(op.name))
    await held.reached()
    second = asyncio.create_task(client.get_operation(op.name))
    await asyncio.sleep(0)
    closing = asyncio.create_task(client.aclose())
    await asyncio.sleep(0)
    held()
    assert [(await asked).name for asked in (first, second)] == [op.name] * 2
    await closing


async def test_a_defect_of_whoever_hears_of_an_outage_leaves_nobody_without_an_answer(client, store, monkeypatch):
    def defect():
        raise ZeroDivisionError

    op = await client.create()
    monkeypatch.setattr(client.engine.batcher, "_away", defect)
    heard = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context["exception"]))
    store.fail("read")
    with pytest.raises(lro.StoreUnavailableError):
        await asyncio.wait_for(client.get_operation(op.name), 5)
    assert [type(exc) for exc in heard] == [ZeroDivisionError]
    assert (await asyncio.wait_for(client.get_operation(op.name), 5)).name == op.name
