"""Fails a test in which something blocks the event loop.

Time on the wall says little where other processes and threads run, so the guard looks at what does not depend on them:

- calls that block by their nature, made on the thread of a running loop: ``time.sleep``, waits for threads, futures of
  threads and processes, blocking sockets, and, from within ``lro_aio``, the methods of a store;
- the CPU time that its thread spends in one callback, without that of the garbage collector.

The first raise where they are made, so that a test fails instead of hanging, and are noted besides, since what they
raise may be caught. All are reported at the end of the test.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Self

import pytest

import lro_aio
from lro_aio.ports import Store

CPU_LIMIT = 0.25
"""Seconds of CPU time in one callback."""

_TRACED = 3.0
"""So many times as much under a tracer, such as that of coverage."""

_STEP = 0.02
"""Seconds for which a reading of the clock of CPU time will do."""

_PACKAGE = Path(lro_aio.__file__).parent
_STORES = (str(_PACKAGE / "stores"), str(_PACKAGE / "testing" / "faults.py"))
_OURS = (str(_PACKAGE), str(Path(__file__).parent))
_METHODS = [name for name, value in vars(Store).items() if inspect.isfunction(value) and not name.startswith("_")]


class LoopBlockedError(AssertionError):
    """A call that blocks was made on the thread of a running event loop."""


class LoopGuard:
    """Watches every event loop of the process while it is entered. One at a time.

    Attributes:
        problems: What blocked a loop, in words.
        callbacks: How many callbacks were measured.
    """

    def __init__(self, *, cpu_limit: float = CPU_LIMIT) -> None:
        self.problems: list[str] = []
        self.callbacks = 0
        self._cpu_limit = cpu_limit * (_TRACED if _is_traced() else 1.0)
        self._patches = pytest.MonkeyPatch()
        self._collecting = _CollectorTime()

    def __enter__(self) -> Self:
        self._patches.setattr(asyncio.events.Handle, "_run", self._measured(asyncio.events.Handle._run))
        self._patches.setattr(time, "sleep", self._awake(time.sleep))
        self._patches.setattr(threading.Condition, "wait", self._unless_now(threading.Condition.wait))
        self._patches.setattr(threading.Thread, "join", self._unless_now(threading.Thread.join))
        self._patches.setattr(subprocess.Popen, "wait", self._unless_now(subprocess.Popen.wait))
        for name in ("accept", "connect", "recv", "recv_into", "send", "sendall"):
            self._patches.setattr(socket.socket, name, self._unless_blocking(getattr(socket.socket, name), name))
        for name in ("getaddrinfo", "gethostbyname"):
            self._patches.setattr(socket, name, self._never(getattr(socket, name), f"socket.{name}"))
        for store in _store_classes():
            for name in set(_METHODS) & set(vars(store)):
                self._patches.setattr(store, name, self._off_loop(getattr(store, name), f"{store.__name__}.{name}"))
        gc.callbacks.append(self._collecting)
        return self

    def __exit__(self, *_: object) -> None:
        gc.callbacks.remove(self._collecting)
        self._patches.undo()

    def check(self) -> None:
        """Fail if something blocked a loop.

        Raises:
            LoopBlockedError: It names what, and where.
        """
        if self.problems:
            raise LoopBlockedError("the event loop was blocked:\n" + "\n".join(self.problems))

    def refuse(self, what: str) -> None:
        """Note a call that blocks, and do not let it happen."""
        problem = f"{what}, called by {_trace(sys._getframe(1))}"
        self.problems.append(problem)
        raise LoopBlockedError(problem)

    def _measured(self, run: Callable[[Any], None]) -> Callable[[Any], None]:
        limit, local = self._cpu_limit, threading.local()

        def measured(handle: Any) -> None:
            self.callbacks += 1
            began, collecting = time.perf_counter(), self._collecting.seconds
            # The clock of CPU time costs as much as many a callback: it is read now and then, and where one was long.
            if began - getattr(local, "checked", -_STEP) >= _STEP:
                local.checked, local.cpu = began, time.thread_time()
            try:
                run(handle)
            finally:
                if time.perf_counter() - began > limit:
                    before = began - local.checked
                    took = time.thread_time() - local.cpu - before - (self._collecting.seconds - collecting)
                    if took > limit:
                        self.problems.append(f"{handle!r} took {took:.2f} s of CPU time")

        return measured

    def _unless_now(self, wait: Callable[..., Any]) -> Callable[..., Any]:
        """For waits with a timeout, where 0 does not wait."""

        def guarded(target: Any, timeout: float | None = None) -> Any:
            if timeout != 0 and _on_loop() and not _is_momentary(target, sys._getframe(1)):
                self.refuse(f"a wait for {target!r}")
            return wait(target, timeout)

        return guarded

    def _awake(self, sleep: Callable[[float], None]) -> Callable[[float], None]:
        """For ``time.sleep``, which Python 3.13 is the first to audit."""

        def guarded(seconds: float) -> None:
            if seconds != 0 and _on_loop():
                self.refuse("time.sleep")
            sleep(seconds)

        return guarded

    def _unless_blocking(self, call: Callable[..., Any], name: str) -> Callable[..., Any]:
        """For methods of sockets."""

        def guarded(target: socket.socket, *args: Any) -> Any:
            if _on_loop() and target.gettimeout() != 0:
                self.refuse(f"socket.{name}")
            return call(target, *args)

        return guarded

    def _never(self, call: Callable[..., Any], name: str) -> Callable[..., Any]:
        """For functions that have no form that does not block."""

        def guarded(*args: Any, **kwargs: Any) -> Any:
            if _on_loop():
                self.refuse(name)
            return call(*args, **kwargs)

        return guarded

    def _off_loop(self, call: Callable[..., Any], name: str) -> Callable[..., Any]:
        """For the methods of a store; tests look into their stores where they please."""

        def guarded(*args: Any, **kwargs: Any) -> Any:
            if _on_loop() and _caller(sys._getframe(1)).startswith(str(_PACKAGE)):
                self.refuse(name)
            return call(*args, **kwargs)

        return guarded


class _CollectorTime:
    """CPU seconds of the garbage collector; it comes when it comes, and collects for everybody."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._began = 0.0

    def __call__(self, phase: str, _info: dict[str, int]) -> None:
        if phase == "start":
            self._began = time.thread_time()
        else:
            self.seconds += time.thread_time() - self._began


def _is_traced() -> bool:
    monitoring = getattr(sys, "monitoring", None)  # Python 3.12 is the first to have it
    tools = monitoring is not None and any(monitoring.get_tool(number) for number in range(6))
    return tools or sys.gettrace() is not None


def _on_loop() -> bool:
    return asyncio._get_running_loop() is not None


_MOMENTS = {
    threading.Thread.start.__code__,  # waits until the thread runs
    asyncio.BaseEventLoop.shutdown_default_executor.__code__,  # joins a thread that has said that it is at its end
}
"""Code of the standard library that waits for a moment only."""


def _is_momentary(target: Any, frame: FrameType | None) -> bool:
    if isinstance(target, threading.Thread) and (not target.is_alive() or target.name.endswith("(_poll_wrapper)")):
        return True  # over, or the one that gRPC stops with its last channel, whenever that is collected
    if isinstance(target, subprocess.Popen) and target.returncode is not None:
        return True
    depth = 2  # Condition.wait is called by Event.wait, and that by Thread.start
    while frame is not None and depth and frame.f_code not in _MOMENTS:
        frame, depth = frame.f_back, depth - 1
    return frame is not None and frame.f_code in _MOMENTS


def _caller(frame: FrameType | None) -> str:
    """The file of the code that called a store, from outside of any."""
    while frame is not None:
        file = frame.f_code.co_filename
        is_store = file.startswith(_STORES) or isinstance(frame.f_locals.get("self"), Store)
        if file.startswith(_OURS) and file != __file__ and not is_store:
            return file
        frame = frame.f_back
    return ""


def _store_classes() -> Iterator[type[Store]]:
    classes: list[type[Store]] = list(Store.__subclasses__())
    for store in classes:
        classes += store.__subclasses__()
        if store.__module__.startswith("lro_aio."):
            yield store


def _trace(frame: FrameType | None) -> str:
    """The innermost lines of this repository that led here."""
    lines: list[str] = []
    while frame is not None and len(lines) < 5:
        file = frame.f_code.co_filename
        if file.startswith(_OURS) and file != __file__:
            lines.append(f"{Path(file).name}:{frame.f_lineno}")
        frame = frame.f_back
    return " < ".join(lines)


@pytest.fixture(autouse=True)
def loop_guard(request: pytest.FixtureRequest) -> Iterator[LoopGuard | None]:
    """Fails the test if something blocked an event loop, unless it is marked ``blocks_the_loop``."""
    if request.node.get_closest_marker("blocks_the_loop") is not None:
        yield None
        return
    with LoopGuard() as guard:
        yield guard
    guard.check()
