"""``FakeCloudTasks``: a loopback server of the part of Cloud Tasks that the scheduler uses, on any clock.

A test aid, written from Cloud Tasks' documentation (cloud.google.com/tasks/docs).
"""

from __future__ import annotations

import asyncio
import http.client
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, Self
from urllib.parse import urlsplit

import grpc
import grpc.aio
from google.cloud.tasks_v2 import types
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcAsyncIOTransport
from google.protobuf import empty_pb2

from lro_aio.engine.timing import SystemClock
from lro_aio.ports import Clock

__all__ = ["FakeCloudTasks"]

Deliver = Callable[[Any], Awaitable[int]]
"""Carries out one attempt of a task's HTTP request; returns the status."""

LONGEST = 30 * 86400.0
"""Most seconds that a task may be scheduled ahead."""
TOMBSTONE = 3600.0
"""Seconds for which the name of a removed task cannot be used again."""
THREADS = 64
"""Most attempts that are sent at a time."""
MIN_BACKOFF, MAX_BACKOFF = 0.1, 3600.0
"""Seconds between attempts: a queue's defaults."""

_Task = types.Task.pb()


class FakeCloudTasks:
    """Cloud Tasks for tests: every queue exists, and tasks are dispatched at their time by ``clock``.

    It models, each with the page that says so: named tasks, and names that cannot be used again for an hour
    (cloud.google.com/tasks/docs/reference/rpc/google.cloud.tasks.v2#createtaskrequest); tasks at most 30 days ahead and
    dispatch deadlines of 15 s to 30 min (the same page, "Task"); attempts until one is answered with 2xx, with back-off
    from 0.1 s to an hour (cloud.google.com/tasks/docs/configuring-queues); a task that runs can still be read and
    deleted. It does not model rates, App Engine, leases and purging.

    Args:
        clock: Its time. A ``ManualClock`` dispatches tasks as it is advanced.
        deliver: Carries out a task's request and returns the HTTP status; without it, the request is sent. A
            ``ManualClock`` waits for it.
        token: Makes the OIDC token of a task from (audience, service account).
        patience: Real seconds after which ``settle`` counts an attempt without an answer as idle: its handler may be
            waiting for the clock.
    """

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        deliver: Deliver | None = None,
        token: Callable[[str, str], str] | None = None,
        patience: float = 1.0,
    ) -> None:
        self.rpcs: Counter[str] = Counter()
        """Calls by RPC."""
        self.tasks: dict[str, Any] = {}
        """The tasks that exist, by name."""
        self.statuses: list[int] = []
        """The HTTP statuses of the attempts, in order; 0 for no answer."""
        self._clock = clock if clock is not None else SystemClock()
        self._deliver = deliver if deliver is not None else self._send
        self._token = token
        self._patience = patience
        self._gone: dict[str, float] = {}
        self._timers: dict[str, Callable[[], None]] = {}
        self._running: dict[asyncio.Task[None], float] = {}
        """The start of each attempt that is under way (``time.monotonic``)."""
        self._faults: dict[str, deque[tuple[grpc.StatusCode, str]]] = {}
        # Threads of its own: in the loop's threads, attempts that wait for an answer would block the verifier.
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="fake-cloud-tasks")
        self._server: grpc.aio.Server | None = None
        self._channel: grpc.aio.Channel | None = None
        self._detach: Callable[[], None] | None = None

    async def __aenter__(self) -> Self:
        self._server = grpc.aio.server()
        methods: dict[str, tuple[Callable[[Any], Any], Any, Any]] = {
            "CreateTask": (self._create, types.CreateTaskRequest, _Task),
            "GetTask": (self._get, types.GetTaskRequest, _Task),
            "DeleteTask": (self._delete, types.DeleteTaskRequest, empty_pb2.Empty),
        }
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                self._counted(name, method),
                request_deserializer=request.pb().FromString,
                response_serializer=response.SerializeToString,
            )
            for name, (method, request, response) in methods.items()
        }
        service = grpc.method_handlers_generic_handler("google.cloud.tasks.v2.CloudTasks", handlers)
        self._server.add_generic_rpc_handlers((service,))
        port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        self._detach = self._clock.attach(self.settle)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._detach is not None:
            self._detach()
        for cancel in self._timers.values():
            cancel()
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)
        if self._channel is not None:
            await self._channel.close()
        if self._server is not None:
            await self._server.stop(0)
        self._threads.shutdown(wait=False)

    def transport(self) -> CloudTasksGrpcAsyncIOTransport:
        """For ``CloudTasksScheduler(transport=...)``."""
        return CloudTasksGrpcAsyncIOTransport(channel=self._channel)

    def fail(
        self, rpc: str, code: grpc.StatusCode, times: int = 1, when: Literal["before", "after"] = "before"
    ) -> None:
        """Make the next calls of an RPC fail, after those that are already to fail.

        Args:
            rpc: Its name, such as "CreateTask".
            code: The code that the caller gets.
            times: How many calls; 0 clears the faults of the RPC.
            when: "before": the call does nothing; "after": it is carried out, and only the answer is lost.
        """
        planned = self._faults.setdefault(rpc, deque())
        if not times:
            planned.clear()
        planned.extend([(code, when)] * times)

    async def settle(self) -> None:
        """Return once no attempt is under way, except those that have waited for their answer for too long."""
        while True:
            soonest = time.monotonic() - self._patience
            busy = {attempt: began for attempt, began in self._running.items() if began > soonest}
            if not busy:
                return
            left = min(busy.values()) - soonest
            await asyncio.wait(busy, timeout=left, return_when=asyncio.FIRST_COMPLETED)

    def _counted(self, name: str, method: Callable[[Any], Any]) -> Callable[[Any, Any], Awaitable[Any]]:
        async def serve(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            self.rpcs[name] += 1
            planned = self._faults.get(name)
            code, when = planned.popleft() if planned else (None, "")
            if code is not None and when == "before":
                await context.abort(code, "a fault of the fake Cloud Tasks")
            try:
                answer = method(request)
            except _RefusedError as exc:
                await context.abort(exc.code, str(exc))
            if code is not None:
                await context.abort(code, "a fault of the fake Cloud Tasks, after the call was carried out")
            return answer

        return serve

    def _create(self, request: Any) -> Any:
        task, now = request.task, self._clock.time()
        name = task.name
        if not name.startswith(f"{request.parent}/tasks/"):
            raise _RefusedError(grpc.StatusCode.INVALID_ARGUMENT, "the task's name must begin with its queue's")
        if name in self.tasks or self._gone.get(name, 0.0) > now:
            raise _RefusedError(grpc.StatusCode.ALREADY_EXISTS, "the task exists, or existed within the last hour")
        when = task.schedule_time.seconds + task.schedule_time.nanos / 1e9
        if when > now + LONGEST:
            raise _RefusedError(grpc.StatusCode.INVALID_ARGUMENT, "the schedule time is more than 30 days ahead")
        if not 15 <= task.dispatch_deadline.seconds <= 1800:
            raise _RefusedError(grpc.StatusCode.INVALID_ARGUMENT, "the dispatch deadline must be from 15 s to 30 min")
        self.tasks[name] = task
        self._dispatch_at(name, when, MIN_BACKOFF)
        return task

    def _get(self, request: Any) -> Any:
        if request.name not in self.tasks:
            raise _RefusedError(grpc.StatusCode.NOT_FOUND, "no such task")
        return self.tasks[request.name]

    def _delete(self, request: Any) -> Any:
        self._get(request)
        self._forget(request.name)
        return empty_pb2.Empty()

    def _forget(self, name: str) -> None:
        if self.tasks.pop(name, None) is not None:
            self._gone[name] = self._clock.time() + TOMBSTONE
        cancel = self._timers.pop(name, None)
        if cancel is not None:
            cancel()

    def _dispatch_at(self, name: str, when: float, backoff: float) -> None:
        def begin() -> None:
            self._timers.pop(name, None)
            attempt = asyncio.get_running_loop().create_task(self._attempt(name, backoff), name="fake-cloud-task")
            self._running[attempt] = time.monotonic()
            attempt.add_done_callback(self._running.pop)

        self._timers[name] = self._clock.call_at(when, begin)

    async def _attempt(self, name: str, backoff: float) -> None:
        task = self.tasks.get(name)
        if task is None:
            return
        try:
            status = await self._deliver(task.http_request)
        except OSError:
            status = 0
        self.statuses.append(status)
        if 200 <= status < 300:
            self._forget(name)
        elif name in self.tasks:
            self._dispatch_at(name, self._clock.time() + backoff, min(MAX_BACKOFF, backoff * 2))

    async def _send(self, request: Any) -> int:
        headers = dict(request.headers)
        if self._token is not None:
            oidc = request.oidc_token
            headers["Authorization"] = f"Bearer {self._token(oidc.audience, oidc.service_account_email)}"
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, _post, request.url, request.body, headers)


class _RefusedError(Exception):
    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code


def _post(url: str, body: bytes, headers: dict[str, str]) -> int:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    try:
        connection.request("POST", parts.path, body, headers)
        return connection.getresponse().status
    finally:
        connection.close()
