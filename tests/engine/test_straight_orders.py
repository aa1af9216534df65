"""Every order of what may happen around the waits of straight code: a message, a timeout, a child's end, a cancel, a
crash. Whatever the order, the handler is told one story, and every run of it the same."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, field
from typing import Any

import pytest

import lro_aio as lro

from ..waiting import reached

EVENTS = ("message", "timeout", "child", "cancel", "crash")
TIMEOUT = 10_000.0
ORDERS = list(itertools.permutations(EVENTS))


@dataclass
class Model:
    """What the operation should come to."""

    decided: Any = None
    child: bool = False
    state: str = ""
    stories: list[Any] = field(default_factory=list)

    def happens(self, event: str) -> None:
        if self.state:
            return
        if event == "message" and self.decided is None:
            self.decided = "yes"
        elif event == "timeout" and self.decided is None:
            self.decided = "late"
        elif event == "child":
            self.child = True
        elif event == "cancel":
            self.state = "CANCELLED"
            return
        if self.decided is not None and self.child:
            self.state = "SUCCEEDED"


def handlers(told: list[Any]) -> lro.Handlers:
    registry = lro.Handlers()

    @registry.handler("child")
    async def child(op: lro.Operation[Any]) -> int:
        return await op.receive("end", int)

    @registry.handler("job")
    async def job(op: lro.Operation[Any]) -> list[Any]:
        async def decide() -> str:
            decided = await op.receive("go", str, timeout=TIMEOUT, default="late")
            told.append(decided)
            return decided

        async with asyncio.TaskGroup() as tasks:
            decided = tasks.create_task(decide())
            found = tasks.create_task(op.call("child", key="c", response_type=int))
        return [decided.result(), found.result()]

    return registry


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "order",
    [
        pytest.param(order, id="-".join(order), marks=[] if number % 40 == 0 else [pytest.mark.slow])
        for number, order in enumerate(ORDERS)
    ],
)
async def test_an_order(open_client, tmp_path, lro_clock, abandon, order):
    url, told, model = f"sqlite:///{tmp_path}/operations.db", [], Model()
    client = await open_client(url, handlers=[handlers(told)], linger=0)
    op = await client.start("job")
    (child,) = (await reached(client, op.name, "SUSPENDED")).wait.children
    await reached(client, child, "SUSPENDED")
    for event in order:
        if event == "crash":
            abandon(client)
            client = await open_client(url, handlers=[handlers(told)], linger=0)
            await lro_clock.advance(100)
        elif event == "timeout":
            await lro_clock.advance(TIMEOUT)
        elif event == "cancel":
            await client.cancel_operation(op.name)
        elif not (await client.get_operation(op.name if event == "message" else child)).done:
            await client.send(
                op.name if event == "message" else child, *(("go", "yes") if event == "message" else ("end", 7))
            )
        model.happens(event)
        await lro_clock.advance(3)
        record = await reached(client, op.name, model.state or "SUSPENDED")
    assert record.state == (model.state or "SUSPENDED")
    if record.state == "SUCCEEDED":
        assert await (await client.operation(op.name, response=list)).result() == [model.decided, 7]
    assert set(told) <= {model.decided}, told
