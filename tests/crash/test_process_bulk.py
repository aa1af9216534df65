"""A bulk action whose process is killed: another goes on with it; every operation is acted on and counted once."""

from __future__ import annotations

import contextlib

import pytest
from google.protobuf import struct_pb2

import lro_aio as lro

from .processes import Workers

LEASE = 1.5
NUMBER = 60


@pytest.mark.slow
@pytest.mark.asyncio
async def test_another_process_goes_on_where_a_killed_one_was(workers: Workers, store_url: str) -> None:
    """Killed twice: in the middle of what it does, and between two parts of it."""
    async with lro.Client(store_url, worker=False) as client:
        names = [(await client.start("nobody has it")).name for _ in range(NUMBER)]
        op = await client.pause_operations('handler = "nobody has it"', force=True, per_second=20)

        async def has_done(least: int) -> None:
            async with contextlib.aclosing(client.watch(op.name)) as snapshots:
                async for snapshot in snapshots:
                    told = struct_pb2.Struct()
                    if snapshot.metadata.Unpack(told) and told["done"] >= least:
                        return

        for least in (1, 25):
            doomed = workers.start(store_url, lease=LEASE)
            await has_done(least)
            workers.kill(doomed)
        assert not (await op.fetch()).done
        workers.start(store_url, lease=LEASE)
        result = await op.result(timeout=60)
        assert result == lro.BulkResult(done=NUMBER, skipped=0, failed=0)
        for name in names:
            assert [entry.kind for entry in await client.history(name)].count("PAUSED") == 1
