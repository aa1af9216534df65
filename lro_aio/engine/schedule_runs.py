"""The runs of schedules: a schedule is an operation that sleeps until its next moment, starts another, and sleeps on.

Each has a handler of its own name, which every client has that declares it: so it runs only where it is declared.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from google.protobuf import struct_pb2

from lro_aio.core.calendars import iso
from lro_aio.core.codec import StateCodec, fingerprint, pack
from lro_aio.core.errors import OperationAlreadyExistsError, StateCodecError
from lro_aio.core.logs import event
from lro_aio.core.policies import RetryPolicy
from lro_aio.core.schedules import (
    HANDLER,
    MOST_MISSED,
    Definition,
    Schedule,
    ScheduleState,
    handler_of,
    pauses,
    request_of,
    row_of,
    with_moment,
)
from lro_aio.engine.engine import Engine
from lro_aio.engine.handlers import Handlers, OwnHandlers
from lro_aio.engine.operation import Operation
from lro_aio.engine.suspension import Suspended

__all__ = ["defined", "handlers_of", "metadata_of"]

logger = logging.getLogger("lro_aio")

NEXT_LOOK = 365 * 86400.0
"""Seconds until a schedule whose moments have all come is looked at again."""
NARROW = 60.0
"""Seconds before the longest wait that a store allows."""
_RETRY = RetryPolicy(on=(Exception,), max_attempts=1_000_000, initial_delay=1.0, max_delay=60.0)
"""A schedule goes on, whatever happens to one of its runs."""


async def schedule(op: Operation[ScheduleState]) -> Suspended | None:
    """Start what is due, and sleep until the next moment."""
    name = op.record.handler.removeprefix(HANDLER)
    if op.record.deleted or op.name != row_of(name):  # a rerun is no schedule: it would start everything twice
        return None
    return await _Run(op).go()


def handlers_of(schedules: Iterable[Schedule]) -> Handlers:
    """The handlers of these schedules.

    Raises:
        ValueError: Two have one name.
        TypeError: One is something else.
    """
    handlers = OwnHandlers(light=True)
    known: set[str] = set()
    for declared in schedules:
        if not isinstance(declared, Schedule):
            raise TypeError(f"schedules must be Schedule objects, not {type(declared).__name__}")
        if declared.name in known:
            raise ValueError(f"schedules: two are named {declared.name!r}")
        known.add(declared.name)
        register = handlers.handler(
            handler_of(declared.name), state=ScheduleState, retry=_RETRY, pause_on_failure=False, resume_points=()
        )
        register(schedule)
    return handlers


def defined(schedules: Iterable[Schedule], handlers: Handlers, *, worker: bool) -> dict[str, Definition]:
    """What these schedules are, by name.

    Args:
        schedules: As they are declared.
        handlers: The client's.
        worker: False for a front end, which declares only those whose handlers it knows.

    Raises:
        UnknownHandlerError: A handler is not registered.
        StateCodecError: A state cannot be encoded. It names the field.
    """
    found = {}
    for declared in schedules:
        given = declared.handler
        try:
            if not worker and isinstance(given, str) and handlers.find(given) is None:
                continue  # a guess at how its state is stored would be another definition
            known = handlers.get(given)
            data, tag = _encoded(declared, known.codec)
            found[declared.name] = declared.defined(known.name, data, tag, _digest(known.name, declared, data))
        except Exception as exc:
            exc.add_note(f"of the schedule {declared.name!r}")
            raise
    return found


def _encoded(declared: Schedule, codec: StateCodec[Any]) -> tuple[bytes, str]:
    """The state of what a schedule starts, once it is known that it can be read with a moment in it."""
    if not declared.moment:
        return codec.encode_start(declared.state)
    data, tag = codec.encode(declared.state if declared.state is not None else codec.default())
    codec.decode(with_moment(data, declared.moment, 0.0), tag)
    return data, tag


def _digest(handler: str, declared: Schedule, data: bytes) -> str:
    try:
        return fingerprint(handler, declared.state)
    except StateCodecError:  # it has no canonical form
        return fingerprint(handler, None, data)


def metadata_of(name: str, state: ScheduleState) -> struct_pb2.Struct:
    """What whoever looks at a schedule's row sees of it."""
    definition = state.definition
    told = struct_pb2.Struct()
    upcoming = "no moment comes" if state.next is None else f"the next moment is {iso(state.next)}"
    told.update(
        {
            "schedule": name,
            "handler": definition.handler,
            "cron": definition.cron,
            "every": definition.every,
            "timezone": definition.timezone,
            "fingerprint": definition.fingerprint,
            "version": state.version,
            "next": None if state.next is None else iso(state.next),
            "last": None if state.last is None else iso(state.last),
            "lastOperation": state.last_operation,
            "started": state.started,
            "skipped": state.skipped,
            "missed": state.missed,
            "failures": state.failures,
            "message": upcoming,
        }
    )
    return told


class _Run:
    """One run. What it starts has the moment for its id: after a crash, the same is found."""

    def __init__(self, op: Operation[ScheduleState]) -> None:
        self._op = op
        self._engine: Engine = op.client.engine
        self._state = op.state
        self._name = op.id

    async def go(self) -> Suspended:
        """Start what is due; then suspend."""
        state, now = self._state, self._engine.clock.time()
        running = await self._last_runs()
        held = pauses(self._op.record.trail, now)
        due = state.due(self._name, now, held, queued=bool(state.queue))
        state.since = due.since
        state.missed += due.missed
        moments = list(due.start)
        if state.definition.overlap == "queue":
            waiting = state.queue + moments
            state.missed += max(0, len(waiting) - MOST_MISSED)
            state.queue = waiting[-MOST_MISSED:]
            moments = [state.queue.pop(0)] if state.queue and not running else []
        else:  # what an earlier definition left in the queue
            moments, state.queue = state.queue + moments, []
        if state.definition.overlap == "skip":
            most = 0 if running else 1
            state.skipped += len(moments[most:])
            moments = moments[:most]
        for moment in moments:
            await self._start(moment)
        return self._suspend()

    async def _last_runs(self) -> bool:
        """Whether the last operation that was started has not ended. Its end is counted once."""
        state = self._state
        return not (state.judged or state.judge(await self._engine.rows.find(state.last_operation)))

    async def _start(self, moment: int) -> None:
        state = self._state
        definition = state.definition
        try:
            started = await self._engine.starter.start_kept(
                definition.handler,
                definition.begins_with(moment),
                definition.codec,
                request_id=request_of(self._name, moment),
                by=self._op._hold,  # noqa: SLF001 (a part of the engine)
            )
        except OperationAlreadyExistsError as exc:  # somebody has deleted it, and it has not ended
            name = exc.name
        else:
            name = started.record.name
        state.last, state.last_operation, state.judged = moment, name, False
        state.started += 1
        logger.info(
            "schedule %s has started %s for %s",
            self._name,
            name,
            iso(moment),
            extra=event("schedule_started", operation=name, handler=definition.handler),
        )

    def _suspend(self) -> Suspended:
        op, state = self._op, self._state
        state.next = next(state.definition.calendar.after(state.since), None)
        op._hold.progress.keep(pack(metadata_of(self._name, state)))  # noqa: SLF001 (in one write with the rest)
        if state.queue:
            return op.suspend(resume_at="", children=[state.last_operation])
        if state.next is None:
            return op.suspend(resume_at="", sleep=NEXT_LOOK)
        until = state.definition.comes(self._name, state.next)
        most = self._engine.rows.store.max_wait
        if most is not None:  # it is woken early, and sleeps on
            until = min(until, self._engine.clock.time() + most - NARROW)
        return op.suspend(resume_at="", until=until)
