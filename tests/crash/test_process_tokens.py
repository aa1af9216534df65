"""The life of a resume token over the death of the run that it started (rule 7), with the sweep switched off."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest
from google.protobuf import struct_pb2

import lro_aio as lro
from lro_aio.core.errors import OperationBusyError
from lro_aio.core.record import Record
from lro_aio.ports import SchedulerHost

from ..waiting import until
from .processes import PATIENCE, Workers
from .worker_process import Job

LEASE = 1.5


class Recorder:
    """A remote scheduler that never comes by itself: the test does."""

    local = False
    horizon = 3600.0

    def __init__(self) -> None:
        self.tokens: list[str] = []

    async def open(self, host: SchedulerHost) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""

    async def schedule(self, record: Record) -> str:
        assert record.wait is not None
        if record.wait.token not in self.tokens:  # a sweep that looks between commit and hand-over may come twice
            self.tokens.append(record.wait.token)
        return f"wait-{len(self.tokens)}"

    async def cancel(self, record: Record) -> None:
        """Nothing to forget."""


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_token_stays_good_until_the_run_that_it_started_commits(
    workers: Workers, store_url: str, tmp_path: Path, crash_handlers: lro.Handlers
) -> None:
    """Claimed, SIGKILL, the scheduler comes again: busy while the lease lives, then the operation goes on."""
    scheduler = Recorder()
    client = lro.Client(
        store_url,
        scheduler=scheduler,
        handlers=[crash_handlers],
        lease=lro.LeasePolicy(duration=LEASE),
        sweep=lro.SweepPolicy(interval=3600),
    )
    async with client:
        op = await client.start("token", Job(nap=0.05, last_claim=3))
        assert len(scheduler.tokens) == 1  # the first run too comes through the scheduler
        assert await client.resume(op.name, scheduler.tokens[0])
        await until(lambda: len(scheduler.tokens) == 2)
        assert not await client.resume(op.name, scheduler.tokens[0])  # that run committed a suspend
        token = scheduler.tokens[1]

        doomed = workers.start(store_url, lease=LEASE, remote=True, resume=[op.name, token])
        (begun,) = await workers.seen("begin", pid=doomed)
        assert (begun["claim"], begun["point"]) == (2, "again")
        shutil.rmtree(tmp_path / ".operations.db-lro")  # else the kernel may prove at once that it is dead
        workers.kill(doomed)
        with pytest.raises(OperationBusyError) as busy:
            await client.resume(op.name, token)
        assert 0 < (busy.value.retry_after or 0) <= LEASE

        refused = 0
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    assert await client.resume(op.name, token)
                    break
                except OperationBusyError as exc:
                    refused += 1
                    await asyncio.sleep(exc.retry_after or 0)
        assert refused < 20  # retry_after says when to come; who stood still himself begins anew with his evidence
        response = await op.result(struct_pb2.Struct, timeout=PATIENCE)
        assert isinstance(response, struct_pb2.Struct)
        assert (response["claim"], list(response["claims"])) == (3, [1])
        assert not await client.resume(op.name, token)  # and now it is over
    assert len(workers.entries("begin", pid=doomed)) == 1
