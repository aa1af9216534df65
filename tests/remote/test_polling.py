"""What the poller of a transport does when waiters come, leave and fail in the middle of things."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import random
import time
from typing import Any

import grpc
import grpc.aio
import httpx
import pytest
from google.longrunning import operations_pb2
from google.protobuf import duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

import lro_aio as lro
from lro_aio.remote import GrpcTransport, HttpTransport, polling
from lro_aio.remote.transport import Place, Reply, Transport

from ..waiting import until
from .conftest import FAST, QUICK, Script
from .http_services import Answer, Asked, scripted

pytestmark = pytest.mark.asyncio

NAME = "operations/a"


def handle_of(transport: GrpcTransport, name: str = NAME) -> lro.RemoteOperation[Any]:
    return lro.RemoteOperation(transport, operations_pb2.Operation(name=name))


async def hold(request: Any, context: Any) -> None:
    await asyncio.Event().wait()


class TestCalls:
    async def test_a_long_poll_that_ends_with_its_channel_leaves_no_waiter_behind(
        self, channel: grpc.aio.Channel, script: Script
    ) -> None:
        """grpc.aio raises CancelledError then, though nobody cancelled the task."""
        script.answers["WaitOperation"] = hold
        waiter = asyncio.create_task(handle_of(GrpcTransport(channel)).wait_for_completion())
        await until(lambda: script.open == 1)
        await channel.close()
        with pytest.raises(lro.RemoteCallError, match="the call was cancelled") as caught:
            await asyncio.wait_for(waiter, 10)
        assert (caught.value.code, caught.value.name) == (lro.Code.CANCELLED, NAME)

    async def test_who_may_look_and_not_wait_polls(self, channel: grpc.aio.Channel, script: Script) -> None:
        async def refuse(request: Any, context: Any) -> None:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "operations.wait is not yours")

        script.answers["WaitOperation"] = refuse
        handle = handle_of(GrpcTransport(channel, poll=FAST, retry=QUICK))
        waiter = asyncio.create_task(handle.wait_for_completion())
        await until(lambda: script.count("GetOperation") >= 3)
        script.finish()
        await waiter
        assert script.count("WaitOperation") == 1

    async def test_who_may_do_neither_is_told_so(self, channel: grpc.aio.Channel, script: Script) -> None:
        async def refuse(request: Any, context: Any) -> None:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "not yours")

        script.answers["WaitOperation"] = script.answers["GetOperation"] = refuse
        with pytest.raises(lro.RemoteCallError, match="failed with PERMISSION_DENIED: not yours"):
            await handle_of(GrpcTransport(channel, poll=FAST, retry=QUICK)).wait_for_completion()
        assert [method for method, _ in script.asked] == ["WaitOperation", "GetOperation"]

    async def test_metadata_that_cannot_be_had_leaves_no_waiter_behind(self, channel: grpc.aio.Channel) -> None:
        async def refreshed() -> list[tuple[str, str]]:
            raise asyncio.CancelledError  # as of a shared refresh that somebody else cancelled

        with pytest.raises(lro.RemoteCallError, match="the call was cancelled"):
            await asyncio.wait_for(handle_of(GrpcTransport(channel, metadata=refreshed)).wait_for_completion(), 10)

    @pytest.mark.parametrize("failure", [TimeoutError("the token server is slow"), OSError("down"), KeyError("token")])
    async def test_metadata_that_cannot_be_had_now_is_a_failed_poll(
        self, channel: grpc.aio.Channel, script: Script, failure: Exception
    ) -> None:
        calls: list[str] = []

        async def fetched() -> list[tuple[str, str]]:
            calls.append("metadata")
            if len(calls) < 4:
                raise failure
            return [("authorization", "Bearer abc")]

        script.finish()
        handle = handle_of(GrpcTransport(channel, metadata=fetched, poll=FAST, retry=QUICK))
        await handle.wait_for_completion(timeout=60)
        assert script.metadata[-1]["authorization"] == "Bearer abc"

    async def test_metadata_that_cannot_be_had_at_all_ends_the_wait_and_say_why(
        self, channel: grpc.aio.Channel, script: Script
    ) -> None:
        """A timeout of the function is no timeout of the wait."""
        failure = TimeoutError("the token server is slow")

        def fetched() -> list[tuple[str, str]]:
            raise failure

        handle = handle_of(GrpcTransport(channel, metadata=fetched, poll=FAST, retry=QUICK))
        with pytest.raises(lro.RemoteCallError, match="failed with TimeoutError: the token server is slow") as caught:
            await handle.wait_for_completion(timeout=60)
        assert caught.value.__cause__ is failure
        assert script.asked == []

    async def test_metadata_that_never_come_are_a_failed_poll(self, channel: grpc.aio.Channel) -> None:
        async def fetched() -> list[tuple[str, str]]:
            await asyncio.Event().wait()
            raise AssertionError

        handle = handle_of(GrpcTransport(channel, metadata=fetched, timeout=0.05))
        with pytest.raises(lro.RemoteCallError, match=r"took longer than 0\.05 s") as caught:
            await handle.update_status()
        assert caught.value.transient

    async def test_a_proxy_that_cuts_every_long_poll_ends_no_wait(
        self, transport: GrpcTransport, script: Script
    ) -> None:
        """Between two of them a look tells that the service is there."""

        async def cut(request: Any, context: Any) -> None:
            if script.count("WaitOperation") > 2 * QUICK.max_attempts:
                script.finish() if not script.operation.done else None
            await context.abort(grpc.StatusCode.UNAVAILABLE, "upstream request timeout")

        script.answers["WaitOperation"] = cut
        await handle_of(transport).wait_for_completion(timeout=30)
        assert script.count("GetOperation") >= QUICK.max_attempts

    async def test_a_service_that_is_away_is_given_up_after_as_many_calls_as_allowed(
        self, transport: GrpcTransport, script: Script
    ) -> None:
        async def away(request: Any, context: Any) -> None:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "away")

        script.answers |= {"WaitOperation": away, "GetOperation": away}
        with pytest.raises(lro.RemoteCallError, match="away"):
            await handle_of(transport)
        assert len(script.asked) == QUICK.max_attempts


class TestProbe:
    """The first long-poll shows whether the service has them."""

    async def test_another_takes_its_place_if_its_waiter_leaves(self, transport: GrpcTransport, script: Script) -> None:
        tell = asyncio.Event()

        async def slow(request: Any, context: Any) -> None:
            await tell.wait()
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "no such method")

        script.answers["WaitOperation"] = slow
        waiters = [
            asyncio.create_task(handle_of(transport, f"operations/{n}").wait_for_completion()) for n in range(50)
        ]
        await until(lambda: script.open == 1)
        waiters[0].cancel()
        await until(lambda: script.count("WaitOperation") == 2)
        tell.set()
        await until(lambda: script.count("GetOperation") > 50)
        assert script.count("WaitOperation") == 2
        for waiter in waiters:
            waiter.cancel()

    async def test_a_404_that_comes_late_is_still_a_missing_route_and_no_missing_operation(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(polling, "PROBE", 0.0)

        def answer(asked: Asked) -> Answer:
            return Answer(404) if asked.method == "POST" else Answer(body={"name": NAME, "done": True})

        async with scripted() as service, httpx.AsyncClient() as http:
            service.otherwise = answer
            transport = HttpTransport(http, service.url, long_polls=True, poll=FAST, retry=QUICK)
            handles = [lro.RemoteOperation[Any].from_name(transport, f"operations/{n}") for n in range(5)]
            assert await lro.remote.gather(*handles, timeout=30) == [None] * 5
        assert transport.long_polls is False


class TestPauses:
    async def test_what_exceeds_the_long_polls_is_polled_ever_less_often(
        self, channel: grpc.aio.Channel, script: Script
    ) -> None:
        script.answers["WaitOperation"] = hold
        doubling = lro.PollPolicy(interval=0.02, multiplier=2, max_interval=60, jitter=0)
        transport = GrpcTransport(channel, poll=doubling, max_waits=1)
        waiters = [asyncio.create_task(handle_of(transport, f"operations/{n}").wait_for_completion()) for n in "ab"]
        began = time.monotonic()
        await until(lambda: script.count("GetOperation") >= 6)
        assert time.monotonic() - began >= 0.02 + 0.04 + 0.08 + 0.16 + 0.32
        for waiter in waiters:
            waiter.cancel()

    async def test_who_comes_later_and_is_in_a_hurry_does_not_wait_for_the_others_pause(
        self, transport: GrpcTransport, script: Script
    ) -> None:
        handle = handle_of(transport)
        slow = asyncio.create_task(handle.wait_for_completion(polling_interval=30))
        await until(lambda: transport.poller is not None and transport.poller._watches)
        script.finish()
        await handle.wait_for_completion(polling_interval=0.05, timeout=10)
        await slow
        assert script.count("GetOperation") == 1

    async def test_who_comes_later_keeps_to_the_pause_that_the_service_asked_for(
        self, transport: GrpcTransport, script: Script
    ) -> None:
        status = status_pb2.Status(code=code_pb2.UNAVAILABLE, message="a deploy")
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=30)))
        trailers = tuple(rpc_status.to_status(status).trailing_metadata)

        async def later(request: Any, context: Any) -> None:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "a deploy", trailers)

        script.answers["GetOperation"] = later
        handle = handle_of(transport)
        slow = asyncio.create_task(handle.wait_for_completion(polling_interval=0.01))
        await until(lambda: script.count("GetOperation") == 1 and script.open == 0)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(handle.wait_for_completion(polling_interval=0.01), 0.3)
        assert script.count("GetOperation") == 1
        slow.cancel()

    async def test_a_service_that_holds_long_polls_for_less_than_asked_is_never_without_one(
        self, channel: grpc.aio.Channel, script: Script, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(polling, "HELD", 0.1)

        async def capped(request: Any, context: Any) -> operations_pb2.Operation:
            await asyncio.sleep(0.15)  # real time: less than was asked for, and more than HELD
            return operations_pb2.Operation(name=NAME)

        script.answers["WaitOperation"] = capped
        growing = lro.PollPolicy(interval=1, multiplier=10, max_interval=60, jitter=0)
        waiter = asyncio.create_task(handle_of(GrpcTransport(channel, poll=growing)).wait_for_completion())
        await until(lambda: script.count("WaitOperation") >= 6)  # with pauses, the sixth would be minutes away
        waiter.cancel()


USER: contextvars.ContextVar[str] = contextvars.ContextVar("USER")


async def test_each_is_looked_at_in_the_context_of_who_waits_for_it(channel: grpc.aio.Channel, script: Script) -> None:
    """Whoever starts the next look, its metadata are not another user's."""
    transport = GrpcTransport(
        channel, metadata=lambda: {"user": USER.get()}, wait_operation=False, max_calls=1, poll=FAST
    )
    asked: list[tuple[str, str]] = []

    async def get(request: Any, context: Any) -> operations_pb2.Operation:
        asked.append((request.name, dict(context.invocation_metadata())["user"]))
        return operations_pb2.Operation(name=request.name)

    async def wait_as(user: str) -> None:
        USER.set(user)
        await handle_of(transport, f"operations/{user}").wait_for_completion()

    script.answers["GetOperation"] = get
    waiters = [asyncio.create_task(wait_as(user)) for user in ("anna", "ben", "cleo")]
    await until(lambda: len(asked) > 12)
    for waiter in waiters:
        waiter.cancel()
    assert set(asked) == {(f"operations/{user}", user) for user in ("anna", "ben", "cleo")}


class Moody(Transport):
    """Ends each operation within half a second, and fails now and then in every way that there is."""

    kind = "moody"

    def __init__(self, seed: int, long_polls: bool | None) -> None:
        super().__init__(
            long_polls=False if long_polls is False else None,
            max_calls=4,
            max_waits=20,
            poll=lro.PollPolicy(interval=0.02, multiplier=1.3, max_interval=0.2),
            retry=lro.RetryPolicy(max_attempts=5, initial_delay=0.01, max_delay=0.05),
        )
        self.random = random.Random(seed)
        self.has_long_polls = long_polls is True
        self.ends: dict[str, float] = {}
        self.open = self.most = 0

    def place(self, name: str) -> Place:
        return Place(name)

    def started(self, answer: Any) -> Reply:
        return Reply(Place(answer), answer, done=False)

    def answer(self, place: Place) -> Reply:
        if (mood := self.random.random()) < 0.1:
            code = self.random.choice([lro.Code.UNAVAILABLE, lro.Code.DEADLINE_EXCEEDED])
            raise lro.RemoteCallError(place.name, "away", code=code, transient=True)
        if mood < 0.11:
            raise asyncio.CancelledError
        if mood < 0.12:
            raise ZeroDivisionError
        end = self.ends.setdefault(place.name, time.monotonic() + self.random.random() / 2)
        return Reply(place, place, done=time.monotonic() >= end)

    async def fetch(self, place: Place, options: Any) -> Reply:
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            await asyncio.sleep(self.random.random() / 300)
            return self.answer(place)
        finally:
            self.open -= 1

    async def wait(self, place: Place, length: float, options: Any) -> Reply:
        await asyncio.sleep(self.random.random() / 30)
        if not self.has_long_polls:
            raise lro.RemoteCallError(place.name, "no such method", code=lro.Code.UNIMPLEMENTED)
        while not (reply := self.answer(place)).done and self.random.random() < 0.9:
            await asyncio.sleep(0.01)
        return reply

    async def cancel(self, place: Place, options: Any) -> None:
        raise AssertionError

    delete = cancel


@pytest.mark.parametrize("long_polls", [True, False, None])
@pytest.mark.parametrize("seed", range(3))
async def test_whoever_leaves_or_fails_every_other_waiter_is_woken_and_nothing_is_left(
    seed: int, long_polls: bool | None
) -> None:
    transport = Moody(seed, long_polls)
    handles = [lro.RemoteOperation[Any](transport, f"operations/{number}") for number in range(100)]
    dice = random.Random(seed)

    async def wait(handle: lro.RemoteOperation[Any]) -> None:
        while not handle.has_completed:
            interval = dice.choice([None, 0.01, 0.05])
            with contextlib.suppress(lro.WaitDeadlineExceededError, lro.RemoteCallError, ZeroDivisionError):
                await handle.wait_for_completion(interval, timeout=dice.choice([None, 0.05, 0.2]))

    waiters = [asyncio.create_task(wait(dice.choice(handles))) for _ in range(300)]
    await until(lambda: len(transport.ends) > 50)
    leaving = dice.sample(waiters, 100)
    for waiter in leaving:
        waiter.cancel()
    async with asyncio.timeout(30):
        await asyncio.gather(*set(waiters) - set(leaving))
        await asyncio.wait(leaving)
    await until(lambda: not transport.poller._calls and not transport.poller._waits)
    poller = transport.poller
    assert (poller._watches, list(poller._ready), poller._held, poller._probe) == ({}, [], [], None)
    assert transport.most <= transport.max_calls
    assert "lro-aio-remote-poll" not in {task.get_name() for task in asyncio.all_tasks()}
