"""``client.schedules``: what is done with schedules while they run."""

from __future__ import annotations

import asyncio
import datetime
import itertools
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import anyio.to_thread

from lro_aio.core import names, trail
from lro_aio.core.calendars import Calendar, epoch, iso
from lro_aio.core.errors import InvalidTransitionError, OperationNotFoundError
from lro_aio.core.quick import dataclass
from lro_aio.core.record import Record, State
from lro_aio.core.schedules import (
    HANDLER,
    PARENT,
    ScheduleInfo,
    ScheduleState,
    handler_of,
    request_of,
    row_of,
    state_codec,
)
from lro_aio.engine.engine import Engine
from lro_aio.engine.operation import Operation
from lro_aio.engine.readers import Work
from lro_aio.engine.timing import sleep_for
from lro_aio.ports import ListQuery

__all__ = ["FASTEST", "UPCOMING", "Schedules"]

UPCOMING = 5
"""Moments that are told of."""
PAGE = 500
MOST_FILLED = 10_000
"""Moments of one ``backfill``."""
FASTEST = 1000
"""Operations a second that can be asked for."""


@dataclass(frozen=True, slots=True)
class Backfilled:
    """What one call of a backfill has come to."""

    made: tuple[Operation[Any], ...]
    next_start: float | None = None
    """The moment from which to go on; None where nothing is left."""
    next_time: float = 0.0
    """When to go on, at the earliest. Epoch seconds."""


class Schedules:
    """The schedules of a store: all of them, also those that this process does not declare.

    A method that takes a name raises ``OperationNotFoundError`` where there is no such schedule, and
    ``StoreUnavailableError`` where the store did not answer.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._rows = engine.rows
        self._clock = engine.clock

    async def list(self) -> list[ScheduleInfo]:
        """Every schedule, by name, with its next five moments."""
        self._rows.check_open()
        now = self._clock.time()
        query = ListQuery(now=now, limit=PAGE, parent=PARENT)
        found: list[Record] = []
        while True:
            page = await self._rows.call(partial(self._rows.store.list, query), Work.LIST)
            found += [record for record in page if record.handler.startswith(HANDLER)]
            if len(page) < PAGE:
                break
            query = replace(query, after=(page[-1].create_time, page[-1].name))
        return sorted(await self._told(found), key=lambda info: info.name)

    async def get(self, name: str) -> ScheduleInfo:
        """One schedule."""
        return (await self._told([await self._record(name)]))[0]

    async def upcoming(self, name: str, count: int = UPCOMING) -> tuple[float, ...]:
        """The next moments of a schedule, in epoch seconds. None is after the year 9999, so there may be fewer.

        Args:
            name: Of the schedule.
            count: How many, up to 1000.

        Raises:
            ValueError: ``count`` is not from 1 to 1000.
        """
        if not 1 <= count <= 1000:
            raise ValueError(f"count must be from 1 to 1000, not {count!r}")
        return (await self._upcoming([self._state(await self._record(name))], count))[0]

    async def pause(self, name: str, reason: str = "") -> None:
        """Start nothing until ``unpause``. Moments that come meanwhile are nobody's: they are never made up for.

        Args:
            name: Of the schedule.
            reason: For its history.
        """
        await self._engine.pauser.pause((await self._record(name)).name, reason)

    async def unpause(self, name: str, reason: str = "") -> None:
        """Go on with the moments from now on. One that is not paused stays as it is.

        Args:
            name: Of the schedule.
            reason: For its history.
        """
        record = await self._record(name)
        try:
            await self._engine.pauser.unpause(record.name, reason)
        except InvalidTransitionError:
            if (await self._rows.record(record.name)).paused:
                raise

    async def delete(self, name: str) -> None:
        """Forget the schedule. What it has started goes on. A client that declares it makes it anew when it opens."""
        record = await self._record(name)
        if not record.done:
            await self._engine.pauser.pause(record.name, "it is to be deleted")
        with suppress(OperationNotFoundError):  # a repeat
            await self._rows.delete(record.name)

    async def run(self, name: str, *, request_id: str | None = None) -> Operation[Any]:
        """Start an operation of the schedule now, whatever its moments. ``overlap`` does not count it.

        Args:
            name: Of the schedule.
            request_id: The caller's id for the request, as in ``Client.start``. A repeat returns the same operation.

        Raises:
            ValueError: ``request_id`` is malformed.
            PayloadTooLargeError: The state is over its limit in this process.
        """
        state = self._state(await self._record(name))
        now = self._clock.time()
        return await self._start(state, now, request_id or f"{PARENT}/run/{names.new_id()}")

    async def backfill(
        self,
        name: str,
        start: datetime.datetime | float,
        end: datetime.datetime | float,
        *,
        per_second: float = 10,
    ) -> tuple[Operation[Any], ...]:
        """Start the operations of the moments in the past from ``start`` up to ``end``. Returns once all are durable.

        A moment that has its operation keeps it: the call may be repeated, and go on with what an earlier one left
        undone. ``overlap`` does not count them.

        Args:
            name: Of the schedule.
            start: An aware datetime or epoch seconds; the moment itself is one of them.
            end: Likewise; the moment itself is not.
            per_second: Operations at most.

        Raises:
            ValueError: ``start`` or ``end`` has no time zone, ``start`` is before 1970, ``end`` is in the future or not
                after ``start``, there are more than 10,000 moments between them, or ``per_second`` is not from 0.001 to
                1000.
        """
        return (await self.backfill_for(math.inf, name, start, end, per_second=per_second)).made

    async def backfill_for(
        self,
        lasts: float,
        name: str,
        start: datetime.datetime | float,
        end: datetime.datetime | float,
        *,
        per_second: float,
    ) -> Backfilled:
        """As ``backfill``; for so many seconds, or until a drain.

        Whoever goes on at once keeps ``per_second`` all the same: what ends early ends with a pause. Only one that is
        longer than ``lasts`` is not waited for.

        But for a missing time zone, what is refused is a ``MalformedIdError``: servers answer it with INVALID_ARGUMENT.
        For the engine.
        """
        first, last = self._window(start, end)
        if isinstance(per_second, bool) or not 0.001 <= per_second <= FASTEST:
            raise names.MalformedIdError("per_second", f"must be from 0.001 to {FASTEST}")
        state = self._state(await self._record(name))
        moments = await anyio.to_thread.run_sync(_moments, state.definition.calendar, first, last)
        size = max(1, int(per_second))
        pause, ends = size / per_second, self._clock.monotonic() + lasts
        made: list[Operation[Any]] = []
        for begin in range(0, len(moments), size):
            part = (self._start(state, moment, request_of(name, moment)) for moment in moments[begin : begin + size])
            made += await asyncio.gather(*part)
            left, ready = moments[begin + size :], self._clock.monotonic() + pause
            if left and not (await self._rest(pause, lasts) and self._clock.monotonic() + pause <= ends):
                next_time = self._clock.time() + max(0.0, ready - self._clock.monotonic())
                return Backfilled(tuple(made), left[0], next_time)
        return Backfilled(tuple(made))

    def _window(self, start: datetime.datetime | float, end: datetime.datetime | float) -> tuple[float, float]:
        """In epoch seconds. Raises as ``backfill_for``."""
        first, last = epoch(start, "start"), epoch(end, "end")
        if first < 0:
            raise names.MalformedIdError("start", "must not be before 1970")
        if last > self._clock.time():
            raise names.MalformedIdError("end", "must not be in the future")
        if last <= first:
            raise names.MalformedIdError("end", "must be after start")
        return first, last

    async def _rest(self, pause: float, lasts: float) -> bool:
        """Let the pause between two parts pass; whether to go on. A call without an end goes on during a drain."""
        if math.isinf(lasts):
            await sleep_for(self._clock, pause)
            return True
        return await self._rows.pause(self._clock, min(pause, lasts))

    async def _start(self, state: ScheduleState, moment: float, request_id: str) -> Operation[Any]:
        definition = state.definition
        holding = await self._engine.starter.start_kept(
            definition.handler, definition.begins_with(moment), definition.codec, request_id=request_id
        )
        return Operation(holding)

    async def _record(self, name: str) -> Record:
        record = await self._rows.record(row_of(name))
        if record.handler != handler_of(name):  # an operation of the application's own, under this parent
            raise OperationNotFoundError(record.name)
        return record

    def _state(self, record: Record) -> ScheduleState:
        state = state_codec.decode(record.state_data, record.state_codec)
        assert state is not None
        return state

    async def _upcoming(self, states: Sequence[ScheduleState], count: int) -> Sequence[tuple[float, ...]]:
        """The next moments of each."""
        now = self._clock.time()
        pairs = [(state.definition.calendar, max(state.since, now)) for state in states]
        return await anyio.to_thread.run_sync(_coming, pairs, count)

    async def _told(self, records: Sequence[Record]) -> Sequence[ScheduleInfo]:
        states = [self._state(record) for record in records]
        ended = await self._rows.read_many([state.last_operation for state in states if not state.judged])
        for state in states:
            state.judge(ended.get(state.last_operation))
        upcoming = await self._upcoming(states, UPCOMING)
        return [self._info(*one) for one in zip(records, states, upcoming, strict=True)]

    def _info(self, record: Record, state: ScheduleState, upcoming: tuple[float, ...]) -> ScheduleInfo:
        definition = state.definition
        return ScheduleInfo(
            name=names.parse(record.name).id,
            operation=record.name,
            handler=definition.handler,
            cron=definition.cron,
            every=definition.every,
            timezone=definition.timezone,
            overlap=definition.overlap,
            catch_up=definition.catch_up,
            jitter=definition.jitter,
            fingerprint=definition.fingerprint,
            version=state.version,
            paused=record.paused,
            reason=self._reason(record),
            upcoming=upcoming,
            last=state.last,
            last_operation=state.last_operation,
            queued=len(state.queue),
            started=state.started,
            skipped=state.skipped,
            missed=state.missed,
            failures=state.failures,
        )

    def _reason(self, record: Record) -> str:
        """Why it does not run; "" where it does."""
        if record.done:
            return "it was cancelled" if record.state is State.CANCELLED else "it has failed"
        if record.paused:
            said = [one.text for one in trail.happenings(record.trail) if one.kind == trail.PAUSED]
            return (said[-1] if said else "") or "it is paused"
        due, patience = record.check_time, 2 * self._engine.settings.sweep.interval
        if record.state is not State.RUNNING and due is not None and due + patience < self._clock.time():
            return f"no process that declares it has run since {iso(due)}"
        return ""


def _coming(pairs: Sequence[tuple[Calendar, float]], count: int) -> Sequence[tuple[float, ...]]:
    """The next moments of each calendar after a moment: of those that come seldom, they take a while to find."""
    return [tuple(itertools.islice(calendar.after(moment), count)) for calendar, moment in pairs]


def _moments(calendar: Calendar, first: float, last: float) -> Sequence[int]:
    """The moments from ``first`` up to ``last``. To find thousands of them takes a while.

    Raises:
        MalformedIdError: There are too many.
    """
    coming = itertools.takewhile(lambda moment: moment < last, calendar.after(first - 1))
    found = [moment for moment in itertools.islice(coming, MOST_FILLED + 2) if moment >= first]
    if len(found) > MOST_FILLED:
        problem = f"is more than {MOST_FILLED:,} moments after start; ask for fewer at a time"
        raise names.MalformedIdError("end", problem)
    return found
