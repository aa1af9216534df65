"""What the measured programs share measures what it says."""

import asyncio
import itertools
import sys
import time
from types import SimpleNamespace

import pytest

from benchmarks.programs import common
from benchmarks.programs.common import callers, crowd_of, helper, sleepers, spread
from benchmarks.programs.http_calls import HttpCalls
from benchmarks.programs.lro_fill import expire, fill
from lro_aio.ports import ListQuery

from ..tcp_server import tcp_server


def test_a_spread_is_given_in_milliseconds():
    values = [number / 1000 for number in range(1, 101)]
    assert spread(values) == {"p50": pytest.approx(50.5), "p99": pytest.approx(99.01)}
    assert spread([2.0]) == {"p50": 2000.0, "p99": 2000.0}


@pytest.mark.asyncio
async def test_callers_count_what_was_done_in_the_measured_time_only():
    """The warm-up's commits are not among those for each call."""
    commits = itertools.count()
    made = 0

    async def once():
        nonlocal made
        made += 1
        next(commits)
        await asyncio.sleep(0.001)

    figures = await callers(once, 4, 0.1, commits=lambda: made)
    assert 0 < figures["rate"] < 4000
    assert figures["commits"] == pytest.approx(1.0)
    assert figures["p50"] >= 1.0
    assert made > figures["rate"] * 0.1  # there was a warm-up


@pytest.mark.asyncio
async def test_a_crowd_does_each_number_once_and_so_many_at_a_time():
    under_way, most = 0, 0

    async def once(number):
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)  # one turn of the loop, in which whoever may begins
        under_way -= 1
        return number * 2

    assert await crowd_of(10, 3, once) == [number * 2 for number in range(10)]
    assert most == 3


@pytest.mark.asyncio
async def test_sleepers_are_measured_from_their_common_moment(monkeypatch):
    """On a clock that only sleeping moves."""
    now, asleep, late, pause = 0.0, [], [], asyncio.sleep

    async def sleep(seconds):
        nonlocal now, asleep
        now += seconds
        late.extend(0.25 for due in asleep if due <= now)
        asleep = [due for due in asleep if due > now]
        await pause(0)

    monkeypatch.setattr(common.asyncio, "sleep", sleep)
    clock = SimpleNamespace(**vars(common.time) | {"time": lambda: now, "monotonic": lambda: now})
    monkeypatch.setattr(common, "time", clock)

    async def begin(count, due):
        asleep.extend([due] * count)

    def woken():
        new = late[:]
        late.clear()
        return new

    figures = await sleepers(10, 0.01, begin=begin, asleep=lambda: 10, woken=woken, settle=1.5)
    assert (figures["p50"], figures["p99"], figures["last"]) == (250.0, 250.0, 0.25)
    assert figures["idle"] is not None


@pytest.mark.asyncio
async def test_a_helper_that_dies_before_it_is_ready_is_an_error(tmp_path):
    with pytest.raises(RuntimeError, match="ended before it was ready, with status 3"):
        async with helper(sys.executable, "-c", "raise SystemExit(3)", cwd=tmp_path):
            pass


@pytest.mark.asyncio
async def test_a_helper_ends_with_its_standard_input(tmp_path):
    code = "import sys; print('ready', flush=True); sys.stdin.read()"
    async with helper(sys.executable, "-c", code, cwd=tmp_path) as (process, line):
        assert line == "ready"
    assert process.returncode == 0


@pytest.mark.asyncio
async def test_http_calls_read_every_kind_of_body_and_refuse_errors():
    """Sized, chunked and empty; the connection is used again."""
    answers = {
        b"/sized": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"/chunked": b"HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
        b"/empty": b"HTTP/1.1 204 No Content\r\n\r\n",
        b"/broken": b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 4\r\n\r\noops",
    }
    connections = 0

    async def serve(reader, writer):
        nonlocal connections
        connections += 1
        while head := await reader.readuntil(b"\r\n\r\n"):
            path = head.split()[1]
            if head.startswith(b"POST"):
                assert await reader.readexactly(2) == b"{}"
            writer.write(answers[path])
            if path == b"/broken":
                break

    async with tcp_server(serve) as port, HttpCalls(port) as http:
        assert await http.get("/sized") == b"hello"
        assert await http.post("/chunked", b"{}") == b"abcde"
        assert await http.get("/empty") == b""
        with pytest.raises(RuntimeError, match=r"GET /broken HTTP/1\.1 was answered with 500: oops"):
            await http.get("/broken")
    assert connections == 1


@pytest.mark.asyncio
async def test_a_filled_store_holds_rows_as_the_engine_leaves_them(tmp_path):
    """Finished ones have their responses; sleepers sleep on, and nothing is due."""
    import lro_aio as lro

    path = tmp_path / "operations.db"
    fill(path, finished=30, suspended=3)
    handlers = lro.Handlers()

    @handlers.handler("sleeper", state=float, resume_points=("woken",))
    async def sleeper(op):
        raise AssertionError("it was woken")

    async with lro.Client(lro.SqliteStore(path), handlers=[handlers]) as client:
        await client.sweep()
        done = await client.list_operations(filter="done = true", page_size=100)
        alive = await client.list_operations(filter='done = false AND handler = "sleeper"', page_size=100)
    assert len(done.operations) == 30
    assert all(operation.HasField("response") for operation in done.operations)
    assert len(alive.operations) == 3


def test_what_has_expired_is_older_than_all_others_and_goes_with_its_journal(tmp_path):
    import lro_aio as lro

    path = tmp_path / "operations.db"
    fill(path, finished=30, suspended=3)
    expire(path, 20)
    store = lro.SqliteStore(path)
    store.open()
    try:
        oldest = store.list(ListQuery(now=0.0, limit=100))[-20:]
        assert store.purge(now=time.time(), limit=100) == 20
        assert store.read([record.name for record in oldest]) == []
        assert store.journal([record.name for record in oldest]) == {}
        assert len(store.list(ListQuery(now=0.0, limit=100))) == 33
    finally:
        store.close()
