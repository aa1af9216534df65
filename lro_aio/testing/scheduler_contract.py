"""The contract of ``lro_aio.ports.Scheduler``, as tests of a client that has one.

Subclass ``SchedulerContract`` in a test module, and say how a scheduler is made::

    from lro_aio.testing.scheduler_contract import SchedulerContract

    class TestMyScheduler(SchedulerContract):
        @pytest.fixture
        def make_scheduler(self, lro_clock):
            return lambda: MyScheduler(FakeBackend(lro_clock))

``make_scheduler`` gives a function, which makes a scheduler for each client of a test. Engine time is ``lro_clock``.
The back end of a remote scheduler is a fake on that clock, and ``connect`` says how its wake-ups reach a client. Needs
pytest-asyncio.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from lro_aio.client import Client
from lro_aio.core.policies import SweepPolicy
from lro_aio.core.record import Record, State, WakeReason
from lro_aio.engine.handlers import Handlers
from lro_aio.engine.operation import Operation
from lro_aio.ports import Scheduler
from lro_aio.stores.sqlite import SqliteStore
from lro_aio.testing.clock import ManualClock

__all__ = ["SchedulerContract"]

OpenClient = Callable[[], Awaitable[Client]]


class SchedulerContract:
    """What every scheduler promises. A subclass has a fixture ``make_scheduler``, as this module's docstring says."""

    poll_slack = 10.0
    """Engine seconds by which a wake-up may be late where it depends on polling children."""

    async def advance(self, clock: ManualClock, seconds: float) -> None:
        """Move ``clock`` by ``seconds``, and the scheduler's back end with it."""
        await clock.advance(seconds)

    def connect(self, scheduler: Scheduler, client: Client) -> None:
        """Connect a ``client`` to its ``scheduler``; called before the client is opened.

        A scheduler that wakes rows by itself needs nothing here.
        """

    @pytest.fixture
    def wakes(self) -> list[tuple[float, WakeReason | None, list[tuple[str, bool]]]]:
        """(time, reason, [(child, done)]) of every segment that a wake-up ran, in order."""
        return []

    @pytest.fixture
    def registry(self, wakes: list[Any], lro_clock: ManualClock) -> Handlers:
        """One handler, which suspends with its state as the arguments, and ends when it is woken."""
        handlers = Handlers()

        @handlers.handler("waiter", state=dict[str, Any], resume_points=("woken",))
        async def waiter(op: Operation[dict[str, Any]]) -> Any:
            if op.resume_point == "":
                return op.suspend(resume_at="woken", **op.state)
            wakes.append((lro_clock.time(), op.wake_reason, [(child.name, child.done) for child in op.children]))
            return None

        @handlers.handler("straight", state=dict[str, Any])
        async def straight(op: Operation[dict[str, Any]]) -> Any:
            def begun() -> None:
                wakes.append((lro_clock.time(), None, []))

            async def wait(name: str) -> Any:
                if name == "sleep":
                    return await op.sleep("sleep", op.state["sleep"])
                if name == "receive":
                    return await op.receive("topic", timeout=op.state.get("timeout"), default=None)
                if name == "call":
                    return await op.call("straight", {"receive": True}, key="child")
                return await op.join(op.state["join"])

            await op.step("step", begun)
            await asyncio.gather(*(wait(name) for name in ("sleep", "receive", "call", "join") if name in op.state))
            wakes.append((lro_clock.time(), None, []))

        return handlers

    @pytest_asyncio.fixture
    async def open_client(
        self, tmp_path: Path, make_scheduler: Callable[[], Scheduler], lro_clock: ManualClock, registry: Handlers
    ) -> AsyncIterator[OpenClient]:
        """Each call opens one more client of the same rows, with a scheduler of its own."""
        async with AsyncExitStack() as stack:

            async def make() -> Client:
                scheduler = make_scheduler()
                client = Client(
                    SqliteStore(tmp_path / "operations.db"),
                    scheduler=scheduler,
                    handlers=[registry],
                    clock=lro_clock,
                    drain_timeout=0,
                    linger=0,
                    sweep=SweepPolicy(interval=3600),
                )
                self.connect(scheduler, client)
                return await stack.enter_async_context(client)

            yield make

    async def suspended(self, client: Client, clock: ManualClock, **waits: Any) -> Operation[Any]:
        """Start an operation of ``client`` that suspends with ``waits``; return once it has, by ``clock``."""
        op = await client.start("waiter", waits)
        await self.reached(client, clock, op, State.SUSPENDED)
        return op

    async def reached(self, client: Client, clock: ManualClock, op: Operation[Any], *states: State) -> Record:
        """The row of ``op``, once ``client`` sees it in one of the ``states``. ``clock`` stands still meanwhile."""
        async with asyncio.timeout(10):
            while (record := await client.server_host.record(op.name)).state not in states:
                await self.advance(clock, 0)
                await asyncio.sleep(0.005)
        return record

    @pytest.mark.asyncio
    async def test_a_sleep_ends_at_its_time(
        self, open_client: OpenClient, lro_clock: ManualClock, wakes: list[Any]
    ) -> None:
        """Not earlier, and only once."""
        client = await open_client()
        began = lro_clock.time()
        op = await self.suspended(client, lro_clock, sleep=100)
        await self.advance(lro_clock, 99)
        assert not wakes
        await self.advance(lro_clock, 1)
        await self.reached(client, lro_clock, op, State.SUCCEEDED)
        await self.advance(lro_clock, 1000)
        assert wakes == [(began + 100, WakeReason.ELAPSED, [])]

    @pytest.mark.asyncio
    async def test_many_sleeps_end_each_at_its_time(
        self, open_client: OpenClient, lro_clock: ManualClock, wakes: list[Any]
    ) -> None:
        """In whatever order they began."""
        client = await open_client()
        began = lro_clock.time()
        ops = [(sleep, await self.suspended(client, lro_clock, sleep=sleep)) for sleep in (50, 10, 30, 10)]
        for now in range(10, 61, 10):
            await self.advance(lro_clock, 10)
            for sleep, op in ops:
                if sleep == now:  # a back end over the network may need a moment
                    await self.reached(client, lro_clock, op, State.SUCCEEDED)
        assert [at - began for at, _, _ in wakes] == [10, 10, 30, 50]

    @pytest.mark.asyncio
    async def test_children_end_the_wait_when_all_have_ended(
        self, open_client: OpenClient, lro_clock: ManualClock, wakes: list[Any]
    ) -> None:
        """One that has ended before, one that ends later, and one that does not exist."""
        client = await open_client()
        early, late = await client.create(), await client.create()
        await early.done()
        children = [late.name, "operations/nobody", early.name]
        op = await self.suspended(client, lro_clock, children=children)
        await self.advance(lro_clock, 3 * self.poll_slack)
        assert not wakes
        await late.fail("no")
        await self.advance(lro_clock, self.poll_slack)
        await self.reached(client, lro_clock, op, State.SUCCEEDED)
        assert [wake[1:] for wake in wakes] == [(WakeReason.CHILDREN_DONE, [(name, True) for name in children])]

    @pytest.mark.asyncio
    async def test_the_sleep_comes_before_the_children(
        self, open_client: OpenClient, lro_clock: ManualClock, wakes: list[Any]
    ) -> None:
        """Children that have all ended do not shorten it."""
        client = await open_client()
        child = await client.create()
        await child.done()
        op = await self.suspended(client, lro_clock, sleep=100, children=[child.name])
        await self.advance(lro_clock, 99)
        assert not wakes
        await self.advance(lro_clock, 1 + self.poll_slack)
        await self.reached(client, lro_clock, op, State.SUCCEEDED)
        assert wakes[0][1] is WakeReason.CHILDREN_DONE

    @pytest.mark.asyncio
    async def test_the_timeout_bounds_the_children_part(
        self, open_client: OpenClient, lro_clock: ManualClock, wakes: list[Any]
    ) -> None:
        """It counts from the end of the sleep; the handler sees which children are pending."""
        client = await open_client()
        done, pending = await client.create(), await client.create()
        await done.done()
        children = [done.name, pending.name]
        op = await self.suspended(client, lro_clock, sleep=50, timeout=100, children=children)
        await self.advance(lro_clock, 149)
        assert not wakes
        await self.advance(lro_clock, 1 + self.poll_slack)
        await self.reached(client, lro_clock, op, State.SUCCEEDED)
        assert [wake[1:] for wake in wakes] == [
            (WakeReason.CHILDREN_TIMEOUT, [(done.name, True), (pending.name, False)])
        ]

    async def straight(self, client: Client, clock: ManualClock, **waits: Any) -> Operation[Any]:
        """Start an operation of ``client`` that awaits ``waits``; return once it has suspended, by ``clock``."""
        op = await client.start("straight", waits)
        await self.reached(client, clock, op, State.SUSPENDED)
        async with asyncio.timeout(10):  # the first run may itself be handed over
            while (await client.server_host.record(op.name)).entries == 0:
                await self.advance(clock, 0)
        await self.reached(client, clock, op, State.SUSPENDED)
        return op

    @pytest.mark.asyncio
    @pytest.mark.parametrize("waits", [{"sleep": 200}, {"receive": True, "timeout": 200}], ids=["sleep", "timeout"])
    async def test_straight_code_goes_on_at_its_time(
        self, open_client: OpenClient, lro_clock: ManualClock, wakes: list[Any], waits: dict[str, Any]
    ) -> None:
        """At the moment that was stored: of a sleep, and of a message that does not come."""
        client = await open_client()
        began = lro_clock.time()
        op = await self.straight(client, lro_clock, **waits)
        await self.advance(lro_clock, 199)
        assert len(wakes) == 1
        await self.advance(lro_clock, 2)
        await self.reached(client, lro_clock, op, State.SUCCEEDED)
        assert began + 200 <= wakes[-1][0] <= began + 201

    @pytest.mark.asyncio
    async def test_a_message_wakes_straight_code_at_once(
        self, open_client: OpenClient, lro_clock: ManualClock, wakes: list[Any]
    ) -> None:
        """Whatever else it waits for, and for however long."""
        client = await open_client()
        driven = await client.create()
        op = await self.straight(client, lro_clock, receive=True)
        other = await self.straight(client, lro_clock, receive=True, timeout=1000)
        both = await self.straight(client, lro_clock, join=[driven.name], receive=True)
        await self.advance(lro_clock, 300)
        assert len(wakes) == 3
        for name in (op.name, other.name, both.name):
            await client.send(name, "topic", name)
        await self.reached(client, lro_clock, op, State.SUCCEEDED)
        await self.reached(client, lro_clock, other, State.SUCCEEDED)
        assert lro_clock.time() - wakes[-1][0] <= 2
        await driven.done()
        await self.advance(lro_clock, self.poll_slack)
        await self.reached(client, lro_clock, both, State.SUCCEEDED)
        assert len(wakes) == 6

    @pytest.mark.asyncio
    async def test_the_end_of_a_child_is_pushed(
        self, open_client: OpenClient, lro_clock: ManualClock, wakes: list[Any]
    ) -> None:
        """A call goes on at once, also where the child has run for long and polls have become rare."""
        client = await open_client()
        op = await self.straight(client, lro_clock, call=True)
        (child,) = (await client.server_host.record(op.name)).wait.children  # type: ignore[union-attr]
        await self.advance(lro_clock, 400)
        assert len(wakes) == 2
        await client.send(child, "topic", 1)
        await self.advance(lro_clock, 2)
        await self.reached(client, lro_clock, op, State.SUCCEEDED)

    @pytest.mark.asyncio
    async def test_any_part_wakes_straight_code(self, open_client: OpenClient, lro_clock: ManualClock) -> None:
        """A child that nobody pushes, beside a longer sleep; and the sleep, beside one that does not end."""
        client = await open_client()
        driven = await client.create()
        first = await self.straight(client, lro_clock, join=[driven.name], sleep=800)
        second = await self.straight(client, lro_clock, join=["operations/nobody", driven.name], sleep=100)
        await self.advance(lro_clock, 3 * self.poll_slack + 100)
        claims = (await client.server_host.record(second.name)).claim
        await driven.done()
        await self.advance(lro_clock, 2 * self.poll_slack)
        await self.reached(client, lro_clock, second, State.SUCCEEDED)
        assert claims > 1
        assert (await self.reached(client, lro_clock, first, State.SUSPENDED)).claim > 1
        await self.advance(lro_clock, 800)
        await self.reached(client, lro_clock, first, State.SUCCEEDED)

    @pytest.mark.asyncio
    async def test_schedule_may_be_repeated(
        self, open_client: OpenClient, lro_clock: ManualClock, wakes: list[Any]
    ) -> None:
        """Before the time, at it, and after the end: the operation still runs once."""
        client = await open_client()
        child = await client.create()
        slept = await self.suspended(client, lro_clock, sleep=100)
        waited = await self.suspended(client, lro_clock, children=[child.name])
        records = [await client.server_host.record(op.name) for op in (slept, waited)]
        for _ in range(3):
            for record in records:
                await client.scheduler.schedule(record)
        await child.done()
        await self.advance(lro_clock, 100 + self.poll_slack)
        for op in (slept, waited):
            await self.reached(client, lro_clock, op, State.SUCCEEDED)
        for record in records:
            await client.scheduler.schedule(record)
        await self.advance(lro_clock, 1000)
        assert len(wakes) == 2

    @pytest.mark.asyncio
    async def test_cancel_forgets_a_wait_and_may_be_repeated(
        self, open_client: OpenClient, lro_clock: ManualClock, wakes: list[Any]
    ) -> None:
        """The operation has ended; a wake-up that comes anyway has nothing to do."""
        client = await open_client()
        op = await self.suspended(client, lro_clock, sleep=100)
        record = await client.server_host.record(op.name)
        await op.cancel()
        for _ in range(2):
            await client.scheduler.cancel(record)
        await self.advance(lro_clock, 1000)
        assert (await client.server_host.record(op.name)).state is State.CANCELLED
        assert not wakes

    @pytest.mark.asyncio
    async def test_a_restart_loses_no_wait(
        self, open_client: OpenClient, lro_clock: ManualClock, wakes: list[Any]
    ) -> None:
        """The next process sees the sleeps and the children that end while no process runs."""
        first = await open_client()
        child = await first.create(lease=False)
        short = await self.suspended(first, lro_clock, sleep=10)
        long = await self.suspended(first, lro_clock, sleep=100)
        waited = await self.suspended(first, lro_clock, children=[child.name])
        await first.aclose()
        await self.advance(lro_clock, 50)
        second = await open_client()
        await (await second.operation(child.name)).done()
        await self.advance(lro_clock, 40)
        await second.sweep()
        await self.advance(lro_clock, self.poll_slack)
        for op in (short, waited, long):
            await self.reached(second, lro_clock, op, State.SUCCEEDED)
        assert len(wakes) == 3
