"""Tests of straight code that a user could have written: with the fixtures, in milliseconds."""

from __future__ import annotations

import asyncio
import datetime
import threading
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel

import lro_aio as lro
from lro_aio.testing import ManualClock
from lro_aio.testing.plugin import FixtureClient

pytestmark = pytest.mark.asyncio


@dataclass
class Order:
    text: str = ""


class Decision(BaseModel):
    ok: bool


class Bill:
    """What was paid for."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    async def render(self, part: str) -> str:
        self.calls.append(part)
        return part.upper()

    def publish(self, parts: list[str]) -> str:
        self.calls.append("publish")
        return " ".join(parts)


@pytest.fixture
def bill() -> Bill:
    return Bill()


@pytest.fixture
def lro_handlers(bill: Bill) -> lro.Handlers:
    handlers = lro.Handlers()

    @handlers.handler("book")
    async def book(op: lro.Operation[Order]) -> str:
        parts = await asyncio.gather(
            *(op.step("render", bill.render, part, key=part) for part in op.state.text.split())
        )
        decision = await op.receive("approval", Decision, timeout=datetime.timedelta(days=3))
        if not decision.ok:
            raise lro.OperationFailedError("rejected", code=lro.Code.FAILED_PRECONDITION)
        await op.sleep("embargo", datetime.timedelta(days=30))
        return await op.step("publish", bill.publish, list(parts))

    @handlers.handler("chapter")
    async def chapter(op: lro.Operation[str]) -> str:
        await op.sleep("ink dries", 3600)
        return op.state.title()

    @handlers.handler("volume")
    async def volume(op: lro.Operation[list[str]]) -> list[str]:
        return await asyncio.gather(*(op.call(chapter, name, key=name) for name in op.state))

    @handlers.handler("scan")
    async def scan(op: lro.Operation[str]) -> list[Any]:
        text = await op.step("read", op.resources.read, op.state)  # a plain function: it runs in a thread
        first = await op.receive("stamp", str, timeout=datetime.timedelta(days=3), default="none")
        return [text, first, await op.receive("stamp", str)]

    return handlers


class Scanner:
    """Stands for what the application opens for its handlers."""

    def __init__(self) -> None:
        self.ready = threading.Event()

    def read(self, page: str) -> str:
        self.ready.wait(10)
        return f"text of {page}"


@pytest.fixture
def scanner() -> Scanner:
    return Scanner()


@pytest.fixture
def lro_options(scanner: Scanner) -> dict[str, Any]:
    return {"resources": scanner}


async def test_approval_and_embargo_take_no_time(lro_client: FixtureClient, lro_clock: ManualClock, bill: Bill) -> None:
    op = await lro_client.start("book", Order("a b"))
    await lro_clock.advance(datetime.timedelta(days=2))
    assert (await lro_client.operation(op.name)).record.state == "SUSPENDED"

    await lro_client.send(op.name, "approval", {"ok": True})
    await lro_clock.advance(datetime.timedelta(days=29))
    assert not (await op.fetch()).done

    await lro_clock.advance(datetime.timedelta(days=1))
    await lro_client.until(op)
    assert await op.result() == "A B"
    assert sorted(bill.calls) == ["a", "b", "publish"]


async def test_nobody_approves_for_three_days(lro_client: FixtureClient, lro_clock: ManualClock, bill: Bill) -> None:
    op = await lro_client.start("book", Order("a"))
    await lro_clock.advance(datetime.timedelta(days=3) - datetime.timedelta(seconds=1))
    assert not (await op.fetch()).done
    await lro_clock.advance(1)
    with pytest.raises(lro.OperationFailedError, match="approval"):
        await op.result()
    assert bill.calls == ["a"]


async def test_a_rejection_ends_it_at_once(lro_client: FixtureClient) -> None:
    op = await lro_client.start("book", Order("a"))
    await lro_client.send(op.name, "approval", Decision(ok=False))
    with pytest.raises(lro.OperationFailedError, match="rejected"):
        await op.result()


async def test_a_message_before_the_wait_is_kept(lro_client: FixtureClient, lro_clock: ManualClock) -> None:
    op = await lro_client.start("book", Order(""))
    for _ in range(2):
        await lro_client.send(op.name, "approval", {"ok": True}, message_id="mail-1")
    await lro_clock.advance(datetime.timedelta(days=30))
    await lro_client.until(op)
    assert await op.result() == ""


async def test_children_that_sleep(lro_client: FixtureClient, lro_clock: ManualClock) -> None:
    op = await lro_client.start("volume", ["one", "two"])
    await lro_clock.advance(3600)
    assert await op.result() == ["One", "Two"]


async def test_the_linger_passes_by_the_clock_of_the_test(lro_client: FixtureClient, lro_clock: ManualClock) -> None:
    op = await lro_client.start("book", Order("a"))
    await lro_clock.settle()
    assert (await lro_client.operation(op.name)).record.state == "RUNNING"
    await lro_clock.advance(1)
    assert (await lro_client.operation(op.name)).record.state == "SUSPENDED"


async def test_it_goes_on_in_the_next_process(tmp_path: Any, lro_handlers: lro.Handlers, bill: Bill) -> None:
    url, clock = f"sqlite:///{tmp_path}/operations.db", ManualClock()
    async with lro.Client(url, handlers=[lro_handlers], clock=clock) as client:
        name = (await client.start("book", Order("a b"))).name
        await clock.settle()
    assert sorted(bill.calls) == ["a", "b"]

    async with lro.Client(url, handlers=[lro_handlers], clock=clock) as client:
        await client.send(name, "approval", {"ok": True})
        await clock.advance(datetime.timedelta(days=30))
        assert await (await client.operation(name)).result() == "A B"
    assert sorted(bill.calls) == ["a", "b", "publish"]


async def test_time_is_skipped_after_what_takes_real_time(
    lro_client: FixtureClient, lro_clock: ManualClock, scanner: Scanner
) -> None:
    op = await lro_client.start("scan", "page 1")
    asyncio.get_running_loop().call_later(0.05, scanner.ready.set)
    await lro_client.until(op, "SUSPENDED")  # nothing but the message is left to wait for
    await lro_clock.advance(datetime.timedelta(days=3))
    await lro_client.send(op.name, "stamp", "late")
    assert await op.result() == ["text of page 1", "none", "late"]


async def test_messages_one_after_another_need_no_time(lro_client: FixtureClient, scanner: Scanner) -> None:
    scanner.ready.set()
    op = await lro_client.start("scan", "page 1")
    for stamp in ("one", "two"):
        await lro_client.until(op, "SUSPENDED")
        await lro_client.send(op.name, "stamp", stamp)
    assert await op.result() == ["text of page 1", "one", "two"]


async def test_a_state_that_will_never_come_is_told_at_once(lro_client: FixtureClient) -> None:
    op = await lro_client.start("book", Order(""))
    await lro_client.send(op.name, "approval", {"ok": False})
    with pytest.raises(lro.OperationDoneError, match="FAILED"):
        await lro_client.until(op, "SUCCEEDED", timeout=1e9)
