"""One execution: the thread that runs it, and what a test can see of it."""

from __future__ import annotations

import asyncio
import http.client
import itertools
import json
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from lro_aio.ports import Clock
from lro_aio.testing.workflows.definition import Definition
from lro_aio.testing.workflows.engine import run
from lro_aio.testing.workflows.requests import Caller
from lro_aio.testing.workflows.values import WorkflowError

__all__ = ["FakeExecution", "State", "World"]

State = Literal["ACTIVE", "SUCCEEDED", "FAILED", "CANCELLED"]


@dataclass(frozen=True, slots=True)
class World:
    """What all executions of a fake share."""

    definition: Definition
    clock: Clock
    loop: asyncio.AbstractEventLoop
    caller: Caller
    changed: Callable[[], None]
    """Called from any thread when an execution may have become idle."""


class _Ended(BaseException):
    """Unwinds the threads of an execution that was cancelled or killed; nothing in the engine catches it."""


class FakeExecution:
    """An execution. Its attributes may be read at any time; its methods are for the fake.

    Args:
        name: Resource name.
        argument: JSON text.
        labels: From the request.
        call_log_level: From the request, as a number.
        world: What all executions of the fake share.
    """

    def __init__(
        self, name: str, argument: str, *, labels: Mapping[str, str], call_log_level: int, world: World
    ) -> None:
        self.name = name
        self.argument_text = argument
        self.argument: Any = json.loads(argument) if argument else None
        """What it was started with."""
        self.labels = dict(labels)
        self.call_log_level = call_log_level
        self.state: State = "ACTIVE"
        self.result: Any = None
        """What the definition returned: of the one in this package, the reason of the callback."""
        self.error: Any = None
        """Why it failed: the error map of the workflow, or a sentence."""
        self.started = world.clock.time()
        """Engine time."""
        self.ended: float | None = None
        """Engine time."""
        self.steps = 0
        """How many steps it has taken; ``engine.py`` says what counts as one."""
        self.memory_peak = 0
        """The most bytes that its variables have held."""
        self.log_entries: list[dict[str, Any]] = []
        """The arguments of its calls of ``sys.log``."""
        self._world = world
        self._lock = threading.RLock()
        self._over = False
        self._live = 1  # threads that run steps: the main one, or those of the iterations that it waits for
        self._sleeps: dict[int, tuple[float, threading.Event]] = {}
        self._calls: dict[int, _Call] = {}
        self._numbers = itertools.count()
        self._thread = threading.Thread(target=self._run, name=f"fake-workflows-{name[-8:]}", daemon=True)

    @property
    def sleeping_until(self) -> float | None:
        """Engine time at which it wakes; None: it is not asleep."""
        with self._lock:
            return min((when for when, _ in self._sleeps.values()), default=None)

    # For the fake

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, state: State, error: Any = None) -> bool:
        """End it from outside, at once; False: it had ended before."""
        with self._lock:
            if self.state != "ACTIVE":
                return False
            self.state, self.error, self.ended = state, error, self._world.clock.time()
            self._over = True
            sleeps, calls = list(self._sleeps.values()), list(self._calls.values())
        for _, woken in sleeps:
            woken.set()
        for call in calls:
            call.cut()
        self._world.changed()
        return True

    def join(self, timeout: float) -> None:
        """Wait for its thread."""
        self._thread.join(timeout)

    @property
    def busy(self) -> bool:
        """Whether it can go on without time moving. A call that has had no answer for long enough does not count."""
        with self._lock:
            idle = len(self._sleeps) + sum(call.stalled for call in self._calls.values())
            return self.state == "ACTIVE" and idle < self._live

    def grow_impatient(self, patience: float) -> None:
        """Count calls without an answer for so many real seconds as idle."""
        with self._lock:
            for call in self._calls.values():
                call.stalled = call.stalled or time.monotonic() - call.began >= patience

    # The life of its thread

    def _run(self) -> None:
        state: State = "FAILED"
        result = error = None
        try:
            result = run(self._world.definition, self.argument, self)
            state = "SUCCEEDED"
        except _Ended:
            return
        except WorkflowError as exc:
            error = exc.payload
        except Exception as exc:  # noqa: BLE001 (whatever it is, the execution has ended by it)
            error = {"message": f"{type(exc).__name__}: {exc}", "tags": [type(exc).__name__]}
        with self._lock:
            if self.state == "ACTIVE":
                self.state, self.result, self.error = state, result, error
                self.ended = self._world.clock.time()
        self._world.changed()

    def _check(self) -> None:
        if self._over:
            raise _Ended

    # engine.Host

    def now(self) -> float:
        """Engine time."""
        return self._world.clock.time()

    def sleep(self, seconds: float) -> None:
        """Return when the clock has moved so far."""
        self._check()
        if seconds <= 0:
            return
        number, when, woken = next(self._numbers), self.now() + seconds, threading.Event()

        def wake() -> None:
            with self._lock:  # it is busy from now on, before its thread has noticed
                self._sleeps.pop(number, None)
            woken.set()

        def arm() -> None:
            with self._lock:
                self._sleeps[number] = (when, woken)
                over = self._over
            if over:
                woken.set()
                return
            self._world.clock.call_at(when, wake)
            self._world.changed()

        self._on_loop(arm)
        woken.wait()
        self._check()

    def _on_loop(self, callback: Callable[[], None]) -> None:
        try:
            self._world.loop.call_soon_threadsafe(callback)
        except RuntimeError:  # the test's loop is closed: nothing will ever wake it
            raise _Ended from None

    def request(self, method: str, args: dict[str, Any]) -> dict[str, Any]:
        """Make an HTTP call."""
        self._check()
        call = _Call()
        number = next(self._numbers)
        with self._lock:
            self._calls[number] = call
        try:
            return self._world.caller.call(self.name, self.now(), method, args, call.opened)
        finally:
            with self._lock:
                del self._calls[number]
            self._check()

    def log(self, entry: dict[str, Any]) -> None:
        """Keep what was logged."""
        self.log_entries.append(entry)

    def step(self, name: str) -> int:  # noqa: ARG002 (only the number matters)
        """Count a step."""
        self._check()
        with self._lock:
            self.steps += 1
            return self.steps

    def memory(self, used: int) -> None:
        """Keep the most."""
        self.memory_peak = max(self.memory_peak, used)

    def branches(self, count: int) -> Callable[[], None]:
        """Threads begin to run iterations, and the one that began them waits until the last of them has ended."""
        left = [count]
        with self._lock:
            self._live += count - 1

        def ended() -> None:
            with self._lock:
                left[0] -= 1
                if left[0]:
                    self._live -= 1
            self._world.changed()

        return ended


class _Call:
    """An HTTP call that is under way."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.stalled = False
        self._over = False
        self._connection: http.client.HTTPConnection | None = None

    def opened(self, connection: http.client.HTTPConnection) -> None:
        """Its connection is open."""
        self._connection = connection
        if self._over:
            self.cut()

    def cut(self) -> None:
        """Break the connection, so that the thread that waits for the answer can go on."""
        self._over = True
        connection = self._connection
        if connection is not None and connection.sock is not None:
            with suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)
