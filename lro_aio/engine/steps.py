"""The steps of one run: each is run once, and its result is kept in the journal."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from lro_aio.core.change import Outcome
from lro_aio.core.journal import Entry, Kind, key_of
from lro_aio.core.kept import decode_value, encode_value
from lro_aio.core.logs import event
from lro_aio.core.policies import Limits, RetryPolicy
from lro_aio.core.queues import Queue, RateLimited
from lro_aio.core.record import Record
from lro_aio.core.status import described
from lro_aio.engine.annotations import returned_by
from lro_aio.engine.handlers import RetryLater
from lro_aio.engine.journal import RunJournal
from lro_aio.engine.observing import Observing
from lro_aio.engine.step_places import StepPlace
from lro_aio.engine.timing import sleep_for, timeout_at
from lro_aio.engine.waits import Waits
from lro_aio.ports import Clock

__all__ = ["IN_STEP", "Steps"]

logger = logging.getLogger("lro_aio")

MAX_ERROR = 1000
"""Characters of the error of a try that are kept."""

IN_STEP: ContextVar[str] = ContextVar("lro_aio_step", default="")
"""In the function of a step, and in the tasks that it makes: its name."""

_RETURNED: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
"""The type that a function's annotation says it returns."""


class Steps:
    """Runs the steps of a run.

    Args:
        name: The operation's.
        journal: The run's.
        clock: Engine time.
        limits: Of a result.
        linger: Seconds up to which a step is tried again in place; a longer delay is a durable wait.
        stopped: Whether the handler was told to stop.
        handler: The operation's.
        observing: Told of each try; None: nobody wants to know.
        place: Makes the place of a step, from its queue, its key there, and its identity.
    """

    def __init__(
        self,
        name: str,
        *,
        journal: RunJournal,
        clock: Clock,
        limits: Limits,
        linger: float,
        stopped: Callable[[], bool],
        handler: str = "",
        observing: Observing | None = None,
        place: Callable[[Queue, str, str], StepPlace],
    ) -> None:
        self._name = name
        self._journal = journal
        self._clock = clock
        self._limits = limits
        self._linger = linger
        self._stopped = stopped
        self._handler = handler
        self._observing = observing
        self._place = place
        self.in_line: set[str] = set()
        """Identities: steps that wait for a place."""
        self._used: set[str] = set()
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._resting: set[asyncio.Task[Any]] = set()
        """Those that wait for their next try."""
        self._awaited: dict[Any, asyncio.Task[None]] = {}
        """By the task that awaits it."""

    def awaited_by(self, task: Any) -> asyncio.Task[None] | bool:
        """The step that a task awaits; False for none."""
        return self._awaited.get(task, False)

    async def run(
        self,
        waits: Waits,
        name: str,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        *,
        key: str | None,
        retry: RetryPolicy | None,
        timeout: float | None,
        queue: Queue | None,
        queue_key: str,
        result_type: Any,
    ) -> Any:
        """See ``Operation.step``."""
        identity = key_of(name, key)
        if identity in self._used:
            raise ValueError(f"step {name!r} runs twice in one run of the handler{_with(key)}: give key=")
        self._used.add(identity)
        kind = _returned(function) if result_type is None else result_type
        kept = self._journal.find(Kind.STEP, identity)
        if kept is None:
            place = None if queue is None else self._place(queue, queue_key, identity)
            work = partial(self._work, waits, name, key, function, args, retry or _ONCE, timeout, kind, place)
            kept = await self._begin(work)
        return decode_value(kept.payload, kept.codec, kind)

    async def _begin(self, work: Callable[[asyncio.Future[Entry]], Coroutine[Any, Any, None]]) -> Entry:
        """Run a step in a task of its own: what was begun is let end, also where its caller was cancelled.

        The caller hears of a result as soon as it is stored, and not only when the task has ended: an event loop that
        goes round for each of them costs more than the rest of a small step.
        """
        caller = asyncio.current_task()
        answer: asyncio.Future[Entry] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(work(answer), name=f"lro-aio-step {self._name}")
        self._tasks[task] = None
        task.add_done_callback(partial(self._ended, answer))
        self._awaited[caller] = task
        try:
            return await answer
        except asyncio.CancelledError:
            if self._stopped() and not task.done():
                await asyncio.wait((task,))  # it was cancelled too, and may clean up first
            raise
        finally:
            self._awaited.pop(caller, None)

    def _ended(self, answer: asyncio.Future[Entry], task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        exc = None if task.cancelled() else task.exception()
        if not answer.done():  # whoever awaits it is still there
            if exc is None:
                answer.cancel()
            else:
                answer.set_exception(exc)
        elif exc is not None and task not in self._awaited.values():
            logger.warning(
                "a step of %s failed after its handler had gone on: %r",
                self._name,
                exc,
                extra=event("step_failed_alone", operation=self._name),
            )

    def stop(self) -> None:
        """Cancel what is under way: the handler was told to stop."""
        for task in list(self._tasks):
            task.cancel()

    async def settle(self, timeout: float) -> None:
        """Let what is under way end, and be kept: it may have been paid for.

        Args:
            timeout: Real seconds; what takes longer is cancelled. Steps that wait for another try are at once.
        """
        if self._stopped():
            self.stop()
        for task in self._resting & self._tasks.keys():
            task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=timeout)
        self.stop()
        if self._tasks:
            await asyncio.wait(list(self._tasks))

    async def _work(
        self,
        waits: Waits,
        name: str,
        key: str | None,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        retry: RetryPolicy,
        timeout: float | None,
        kind: Any,
        place: StepPlace | None,
        answer: asyncio.Future[Entry],
    ) -> None:
        """Run the function until it succeeds or is not to be tried again, and store its result: that is the answer."""
        IN_STEP.set(name)
        tries = 0
        while (again := self._journal.find(Kind.RETRY, _try_key(name, key, tries + 1))) is not None:
            tries += 1
            await self._rest(waits, json.loads(again.payload)["until"])
        value = await self._called(waits, name, key, partial(self._call, function, args, timeout), retry, tries, place)
        gives = () if place is None else (place.step,)

        def stored(outcome: Outcome) -> None:
            if isinstance(outcome, Record) and not answer.done():
                answer.set_result(entry)

        try:
            data, tag = encode_value(value, kind)
            self._limits.check("step", len(data))
            entry = Entry(kind=Kind.STEP, key=key_of(name, key), time=self._clock.time(), payload=data, codec=tag)
            await self._journal.keep(entry, progress=True, gives=gives, answered=stored)
        except Exception:  # it cannot be kept, which its handler may get over
            if place is not None:
                await place.give_back()
            raise

    async def _called(
        self,
        waits: Waits,
        name: str,
        key: str | None,
        call: Callable[[], Any],
        retry: RetryPolicy,
        tries: int,
        place: StepPlace | None,
    ) -> Any:
        """What the function returns, after ``tries`` tries by earlier runs and some more."""
        while True:
            if place is not None:
                await self._queued(waits, place)
            try:
                with self._observed(name, key, tries):
                    return await call()
            except RateLimited as exc:
                await self._rate_limited(waits, name, exc, place)
                continue
            except Exception as exc:
                tries += 1
                delay = _delay(retry, exc, tries)
                if place is not None and (delay is None or delay > self._linger):
                    await place.give_back()
                if delay is None:
                    raise
                logger.warning(
                    "step %r of %s runs again in %.1f s: %r",
                    name,
                    self._name,
                    delay,
                    exc,
                    extra=event("step_runs_again", operation=self._name),
                )
                error = described(exc)[:MAX_ERROR]
            if delay <= self._linger:
                await sleep_for(self._clock, delay)
                continue
            now = self._clock.time()
            told = json.dumps({"until": now + delay, "error": error}).encode()
            entry = Entry(kind=Kind.RETRY, key=_try_key(name, key, tries), time=now, payload=told, codec="json;v=1")
            self._journal.unsaved[entry.kind, entry.key] = entry
            await self._rest(waits, now + delay)

    def _observed(self, name: str, key: str | None, tries: int) -> AbstractContextManager[None]:
        if self._observing is None:
            return nullcontext()
        return self._observing.step(self._name, self._handler, name, key or "", tries + 1)

    async def _queued(self, waits: Waits, place: StepPlace) -> None:
        """Wait for a place, durably."""
        task = asyncio.current_task()
        assert task is not None
        self._resting.add(task)
        try:
            await place.take(waits)
        finally:
            self._resting.discard(task)

    async def _rate_limited(self, waits: Waits, name: str, exc: RateLimited, place: StepPlace | None) -> None:
        """Put the queue's key to rest; without a queue, the step alone. No try is counted."""
        now = self._clock.time()
        until = exc.ends(now)
        logger.info(
            "step %r of %s runs again in %.1f s: %s",
            name,
            self._name,
            max(0.0, until - now),
            exc,
            extra=event("rate_limited", operation=self._name),
        )
        if place is not None:
            await place.rest(until)
        else:
            await self._rest(waits, until)

    async def _rest(self, waits: Waits, until: float) -> None:
        """Wait for the next try, durably."""
        if self._clock.time() >= until:
            return
        task = asyncio.current_task()
        assert task is not None
        self._resting.add(task)
        try:
            await waits.wait(until=until)
        finally:
            self._resting.discard(task)

    async def _call(self, function: Callable[..., Any], args: tuple[Any, ...], timeout: float | None) -> Any:
        if timeout is None:
            return await _result_of(function, args)
        async with timeout_at(self._clock, self._clock.monotonic() + timeout):
            return await _result_of(function, args)


_ONCE = RetryPolicy()
"""Nothing is tried again but what asks for it."""


def _delay(retry: RetryPolicy, exc: Exception, tries: int) -> float | None:
    """Seconds before the next try; None where there is none."""
    if not isinstance(exc, (RetryLater, *retry.on)) or tries >= retry.max_attempts:
        return None
    if isinstance(exc, RetryLater) and exc.after is not None:
        return exc.after
    return retry.delay(tries - 1)


async def _result_of(function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """What an async function returns, or a plain one in a thread; that may itself give something to await."""
    if inspect.iscoroutinefunction(function):
        return await function(*args)
    value = await asyncio.to_thread(function, *args)
    return await value if inspect.isawaitable(value) else value


def _try_key(name: str, key: str | None, number: int) -> str:
    return key_of(name, f"{key or ''}#{number}")


def _with(key: str | None) -> str:
    return "" if key is None else f" with the key {key!r}"


def _returned(function: Any) -> Any:
    """The type that the annotation of a step's function says; None where it says none."""
    try:
        if function not in _RETURNED:
            _RETURNED[function] = returned_by(function)
        return _RETURNED[function]
    except TypeError:  # it cannot be kept: a builtin, say
        return returned_by(function)
