"""Straight code for the crash tests: parallel steps, sleeps, messages and calls, with a line in the ledger for each."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import lro_aio as lro

MESSAGES = 3
PARTS = 4
CHILDREN = 2


def registry(ledger: Any) -> lro.Handlers:
    """The handlers of a worker that writes to this ledger."""
    handlers = lro.Handlers()

    async def paid(op: lro.Operation[Any], key: str) -> str:
        ledger.write("paid", name=op.name, key=key, claim=op.claim)
        await asyncio.sleep(random.uniform(0, 0.05))
        return key

    @handlers.handler("pipeline", state=dict[str, int])
    async def pipeline(op: lro.Operation[dict[str, int]]) -> dict[str, Any]:
        parts = [await op.step("first", paid, op, "first")]
        parts += await asyncio.gather(*(op.step("part", paid, op, f"part {n}", key=n) for n in range(PARTS)))
        await op.sleep("nap", random.uniform(0, 0.5))
        received = [await op.receive("go", int) for _ in range(MESSAGES)]
        late = await op.receive("never", timeout=0.2, default="late")
        children = await asyncio.gather(*(op.call("child", {"n": n}, key=str(n)) for n in range(CHILDREN)))
        parts.append(await op.step("last", paid, op, "last"))
        ledger.write("ended", name=op.name, claim=op.claim)
        return {"parts": parts, "received": received, "late": late, "children": children}

    @handlers.handler("child", state=dict[str, int])
    async def child(op: lro.Operation[dict[str, int]]) -> int:
        await op.sleep("nap", random.uniform(0, 0.3))
        await op.step("only", paid, op, "only")
        return op.state["n"]

    return handlers
