"""A run that kills its process takes its neighbours with it: it is given up, and they are not."""

import asyncio
import os
import signal
import sys
from collections import Counter

import pytest

import lro_aio as lro

handlers = lro.Handlers()
INNOCENT = 8
LEASE = lro.LeasePolicy(duration=2)
"""A run that is on trial may take two thirds of it longer than the one before, which a busy machine makes it do."""
SWEEP = lro.SweepPolicy(interval=0.5)


@handlers.handler("poison")
async def poison(op: lro.Operation[None]) -> None:
    """Kills its process as the kernel does that is out of memory."""
    await asyncio.sleep(0.3)
    os.kill(os.getpid(), signal.SIGKILL)


@handlers.handler("innocent")
async def innocent(op: lro.Operation[None]) -> None:
    """A second and a half of honest work."""
    await asyncio.sleep(1.5)


async def work(url: str) -> None:
    """Be a worker until something kills this process."""
    async with lro.Client(url, handlers=[handlers], lease=LEASE, sweep=SWEEP):
        await asyncio.Event().wait()


@pytest.mark.slow
@pytest.mark.asyncio
async def test_two_poisons_are_given_up_and_all_of_their_neighbours_succeed(store_url):
    crashes = 0
    async with lro.Client(store_url, worker=False) as client:
        for _ in range(2):
            await client.start("poison")
        names = [(await client.start("innocent")).name for _ in range(INNOCENT)]

        async def supervise() -> None:
            nonlocal crashes
            while True:
                worker = await asyncio.create_subprocess_exec(sys.executable, "-m", __name__, store_url)
                try:
                    await worker.wait()
                finally:
                    if worker.returncode is None:
                        worker.kill()
                        await worker.wait()
                crashes += 1

        supervisor = asyncio.create_task(supervise())
        try:
            async with asyncio.timeout(180):
                page = await client.list_operations(page_size=100)
                for found in page.operations:
                    await client.wait_operation(found.name, 180)
        finally:
            supervisor.cancel()
            await asyncio.wait([supervisor])
        page = await client.list_operations(page_size=100)
    ends = Counter((found.name in names, found.HasField("response")) for found in page.operations)
    assert ends == {(True, True): INNOCENT, (False, False): 2}
    assert crashes <= 2 + 4 + 2 * 4, "from its second crash on, each poison is soon alone"


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1]))
