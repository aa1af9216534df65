"""A process dies just before, or just after, each transaction of an operation's life; another one goes on."""

from __future__ import annotations

import asyncio
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import struct_pb2

import lro_aio as lro
from lro_aio.core.record import Record, State
from lro_aio.ports import ListQuery

from .processes import Workers

LEASE = 0.6
FAN = 2
START = ("campaign", {"index": 7, "work": 0.03, "fan": FAN, "nap": 0.02}, "the-one")
"""Two suspends and a fan-out: every kind of transaction that there is."""
LAST = ("end", "campaign", False)
"""Of the ledger's last line but for the process's own."""
AT_ONCE = 6


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_kill_around_any_transaction_loses_nothing_and_doubles_nothing(
    workers: Workers, tmp_path: Path
) -> None:
    steps = await _steps(workers, tmp_path)
    assert steps >= 8, "create, suspend, claim, children, suspend, their ends, claim, finish"
    points = list(itertools.product(range(1, steps + 1), ("before", "after")))
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(nth: int, when: str) -> bool:
        async with gate:
            return await _die_and_follow(workers, tmp_path, nth, when)

    died = await asyncio.gather(*(one(*point) for point in points))
    # Changes that arrive together share a transaction, so the last points are reached on some machines only.
    assert sum(died) >= len(points) * 0.6


async def _steps(workers: Workers, folder: Path) -> int:
    """How many transactions the operation takes when nobody dies."""
    url = f"sqlite:///{folder / 'counted.db'}"
    pid = workers.start(url, lease=LEASE, starts=[START], kill={"nth": 0, "when": "before"})
    await workers.seen("end", pid=pid, suspends=False, handler="campaign")
    workers.terminate(pid)
    (down,) = await workers.seen("down", pid=pid)
    steps = down["steps"]
    assert isinstance(steps, int)
    return steps


async def _die_and_follow(workers: Workers, folder: Path, nth: int, when: str) -> bool:
    """Kill a process at the point; let another one with the same request end the operation. Whether the first died."""
    path = folder / f"{nth}-{when}.db"
    url, ledger = f"sqlite:///{path}", str(folder / f"{nth}-{when}.jsonl")
    first = workers.start(url, lease=LEASE, starts=[START], kill={"nth": nth, "when": when}, ledger=ledger)

    def lines() -> list[dict[str, Any]]:
        text = Path(ledger).read_text() if Path(ledger).exists() else ""
        return [json.loads(line) for line in text.splitlines()]

    def ended() -> bool:
        return any(
            line["event"] == "end" and line["handler"] == "campaign" and not line["suspends"] for line in lines()
        )

    def where() -> str:
        return f"killed {when} transaction {nth}: " + "\n".join(map(str, lines()))

    await workers.until(lambda: not workers.alive(first) or ended(), what=where())
    second = workers.start(url, lease=LEASE, starts=[START], ledger=ledger)
    await workers.until(lambda: _all_done(url) or not workers.alive(second), what=where())
    died = not workers.alive(first)
    _check(_rows(url), lines(), where())
    for pid in (first, second):
        if workers.alive(pid):
            workers.terminate(pid)
    return died


def _rows(url: str) -> list[Record]:
    store = lro.SqliteStore.from_url(url)
    store.open()
    try:
        return store.list(ListQuery(now=0.0, limit=100))
    finally:
        store.close()


def _all_done(url: str) -> bool:
    rows = _rows(url)
    return len(rows) == 1 + FAN and all(row.done for row in rows)


def _check(rows: list[Record], lines: list[dict[str, Any]], where: str) -> None:
    """One operation and its children, each ended once, by the claim that its response names."""
    assert len(rows) == 1 + FAN, where
    begun = [line for line in lines if line["event"] == "begin"]
    for row in rows:
        response = struct_pb2.Struct()
        assert row.state is State.SUCCEEDED, where
        assert row.to_operation().response.Unpack(response), where
        claims = [line["claim"] for line in begun if line["name"] == row.name]
        assert claims == sorted(set(claims)), where
        assert response["claim"] == row.claim == claims[-1], where
        assert (row.owner, row.lease_expire_time) == ("", None), where
        assert row.check_time is None or row.parent_operation, where  # a child is kept for its parent
        if row.handler == "campaign":
            assert list(response["parts"]) == [700.0, 701.0], where
            points = [line["point"] for line in begun if line["name"] == row.name]
            assert points == sorted(points, key=["", "slept", "collect"].index), where
            assert len(response["claims"]) == 2, where
