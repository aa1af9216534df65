"""A process that is killed while it tells of an end: another tells of it, with the same id."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import lro_aio as lro

from ..receiver import SECRET, receiving, response
from ..waiting import reached

PROGRAM = """
import asyncio, sys
import lro_aio as lro

handlers = lro.Handlers()

@handlers.handler("works")
async def works(op):
    return "made"

async def main(store, origin, secret):
    rules = lro.Webhooks(secrets=secret, origins=[origin], allow_private=True)
    async with lro.Client(store, handlers=handlers, webhooks=rules, lease=lro.LeasePolicy(1.5)):
        await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


@contextlib.asynccontextmanager
async def process(store: str, origin: str) -> AsyncIterator[int]:
    """The id of a process that works and delivers."""
    environment = {**os.environ, "PYTHONPATH": str(Path(lro.__file__).parents[1])}
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, store, origin, SECRET, env=environment, stdout=subprocess.DEVNULL
    )
    try:
        yield running.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            running.kill()
        await running.wait()


@pytest.mark.slow
@pytest.mark.asyncio
@pytest.mark.parametrize("answered", [False, True])
async def test_another_process_tells_what_a_killed_one_was_about_to_tell(tmp_path: Path, answered: bool) -> None:
    store = f"sqlite:///{tmp_path}/o.db"
    victim = 0

    async def kill(writer: asyncio.StreamWriter) -> None:
        if answered:
            writer.write(response(200))
            await writer.drain()
        assert victim, "0 would be all of us"
        os.kill(victim, signal.SIGKILL)

    async with (
        receiving(kill) as receiver,
        lro.Client(store, worker=False, webhooks=receiver.rules()) as client,
    ):
        op = await client.start("works", webhook=lro.Webhook(receiver.url))
        async with process(store, receiver.origin) as victim:
            await reached(client, op.name, "SUCCEEDED")
            (told,) = [entry.text for entry in await client.history(op.name) if entry.kind == "WEBHOOK"]
            name = told.split(" to ")[1]
            async with process(store, receiver.origin):
                await reached(client, name, "SUCCEEDED")
        assert len({(request.id, request.body) for request in receiver.requests}) == 1
        assert len(receiver.requests) == 2 or answered
