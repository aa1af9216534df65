"""The guard that fails a test which blocks the event loop, in all the ways in which one can."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import socket
import subprocess
import sys
import threading
import time

import pytest

from .. import loop_guard as module
from ..loop_guard import LoopBlockedError, LoopGuard

pytestmark = pytest.mark.blocks_the_loop("as far as the guard lets it, which each test has for itself")


@pytest.fixture
def guard():
    """One of the test's own, whose problems are not those of the test."""
    with LoopGuard(cpu_limit=0.05) as inner:
        yield inner


@pytest.mark.asyncio
async def test_a_sleep_is_refused_and_cannot_be_hidden(guard):
    began = time.perf_counter()
    with pytest.raises(LoopBlockedError, match=r"time\.sleep, called by test_loop_guard\.py:"):
        time.sleep(60)
    assert time.perf_counter() - began < 30
    with pytest.raises(LoopBlockedError, match=r"(?s)was blocked.*time\.sleep"):
        guard.check()


@pytest.mark.asyncio
async def test_a_store_call_on_the_loop_is_refused(guard, monkeypatch, open_client, store):
    """As by an engine that forgot the thread."""
    client = await open_client(store)
    op = await client.create()
    await client.engine.batcher.settle()

    def on_the_loop(function, _work, _told):
        return function()

    monkeypatch.setattr(client.engine.batcher._readers, "run", on_the_loop)
    with pytest.raises(LoopBlockedError, match=r"FaultyStore\.list, called by listing\.py"):
        await client.list_operations()
    monkeypatch.undo()
    assert len(guard.problems) == 1
    assert store.inner.read([op.name]), "a test may look into its store"
    assert len(guard.problems) == 1


def never():
    return concurrent.futures.Future()


@pytest.mark.parametrize(
    "wait",
    [
        lambda: threading.Event().wait(60),
        lambda: never().result(60),
        lambda: concurrent.futures.wait([never()], 60),
        lambda: threading.main_thread().join(60),
        lambda: socket.create_connection(("127.0.0.1", 1), 60),
        lambda: socket.getaddrinfo("localhost", 80),
    ],
    ids=["event", "result", "futures", "join", "connect", "resolve"],
)
@pytest.mark.asyncio
async def test_a_wait_for_another_thread_or_host_is_refused(guard, wait):
    with pytest.raises(LoopBlockedError):
        wait()
    assert len(guard.problems) == 1


@pytest.mark.asyncio
async def test_a_wait_for_a_process_or_a_socket_is_refused(guard):
    with subprocess.Popen(["sleep", "60"]) as process:
        with pytest.raises(LoopBlockedError):
            process.wait(60)
        process.kill()
        await asyncio.to_thread(process.wait)
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(LoopBlockedError, match=r"socket\.recv"):
        ours.recv(1)
    assert len(guard.problems) == 2


async def work(seconds):
    """So much CPU time in one callback."""

    def busy():
        ends = time.thread_time() + seconds
        while time.thread_time() < ends:
            pass

    asyncio.get_running_loop().call_soon(busy)
    await asyncio.sleep(0)


@pytest.mark.slow
def test_much_work_in_one_callback_is_noticed(guard):
    asyncio.run(work(0.5))
    (problem,) = guard.problems
    assert "busy" in problem
    assert "s of CPU time" in problem


@pytest.fixture(params=["settrace", "monitoring"])
def tracer(request):
    """A tracer that does nothing, in the ways in which coverage has one."""
    before = sys.gettrace()
    if request.param == "settrace":
        sys.settrace(lambda *_: None)
        yield
        sys.settrace(before)
    elif not hasattr(sys, "monitoring"):
        pytest.skip("Python 3.12 is the first to have it")
    else:
        sys.monitoring.use_tool_id(4, "tests")
        yield
        sys.monitoring.free_tool_id(4)


@pytest.mark.slow
@pytest.mark.usefixtures("tracer")
def test_under_a_tracer_it_may_be_three_times_as_much():
    with LoopGuard(cpu_limit=0.1) as guard:
        asyncio.run(work(0.15))
        assert guard.problems == []
        asyncio.run(work(0.5))
        assert len(guard.problems) == 1


def test_the_garbage_collector_does_not_count(guard):
    """It may come at any time, and its time is that of all that the test session keeps."""

    async def main():
        spent = 0.0
        while spent < 0.1:
            began = time.thread_time()
            gc.collect()
            spent += time.thread_time() - began

    guard._cpu_limit = 0.08
    asyncio.run(main())
    assert guard.problems == []


def test_what_only_seems_to_wait_is_let_through(guard):
    async def main():
        await asyncio.sleep(0.01)
        time.sleep(0)
        assert await asyncio.to_thread(time.sleep, 0.01) is None
        thread = threading.Thread(target=lambda: None)
        thread.start()
        await asyncio.to_thread(thread.join)
        thread.join()
        done = never()
        done.set_result(1)
        assert done.result(60) == 1
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        await writer.wait_closed()
        assert await reader.read() == b""

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        asyncio.run(main())
    assert guard.problems == []
    assert guard.callbacks


def test_a_test_that_blocks_the_loop_fails_unless_it_says_so(pytester):
    pytester.makepyfile(
        """
        import contextlib, time, pytest

        @pytest.mark.asyncio
        async def test_one():
            with contextlib.suppress(Exception):
                time.sleep(0.01)

        @pytest.mark.asyncio
        @pytest.mark.blocks_the_loop("on purpose")
        async def test_two():
            time.sleep(0.01)
        """
    )
    result = pytester.runpytest_inprocess("-p", "no:hypothesispytest", "-W", "ignore", plugins=[module])
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*LoopBlockedError: the event loop was blocked:", "*time.sleep, called by *"])
