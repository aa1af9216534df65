"""What a client that opens does for its schedules: their rows are made, or get another definition.

Who opened last with another definition has its way, and writes at no other time: the row stays as it is while
processes of two releases run. A definition that was replaced a short time ago comes back only after a while, so that a
process of the old release that begins anew in the midst of a deploy changes nothing, unless it is still there then.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial

from lro_aio.core.change import Change
from lro_aio.core.errors import LroError, OperationAlreadyExistsError, OperationNotFoundError, StateCodecError
from lro_aio.core.logs import event
from lro_aio.core.record import Record, State
from lro_aio.core.schedules import (
    PARENT,
    Definition,
    ScheduleState,
    forgotten,
    handler_of,
    redeclared,
    row_of,
    state_codec,
)
from lro_aio.engine.engine import Engine
from lro_aio.engine.schedule_runs import metadata_of

__all__ = ["Declarations"]

logger = logging.getLogger("lro_aio")

AGAIN = 5.0
"""Seconds after which a row that is busy is looked at again. It is at once when it has changed."""


class Declarations:
    """Of one engine that has just opened.

    Args:
        engine: Open.
        definitions: By the name of the schedule.
    """

    def __init__(self, engine: Engine, definitions: Mapping[str, Definition]) -> None:
        self._engine = engine
        self._rows = engine.rows
        self._clock = engine.clock
        self._definitions = definitions
        self._told: set[str] = set()

    async def begin(self) -> None:
        """Bring every row up to date, or close the engine. What has to wait is done in the background.

        Raises:
            StoreUnavailableError: The store did not answer.
        """
        try:
            await self._declare()
        except BaseException:
            await self._engine.close()
            raise

    async def _declare(self) -> None:
        for name, definition in self._definitions.items():
            delay = await self._attempt(name, definition)
            if delay is not None:
                self._engine.host.tasks.spawn(self._insist(name, definition, delay), f"lro-aio-declare {name}")

    async def _insist(self, name: str, definition: Definition, delay: float | None) -> None:
        row = row_of(name)
        while delay is not None:
            with self._rows.subscribe((row,)) as changes:
                await changes.wait(self._clock, self._clock.monotonic() + delay)
            try:
                delay = await self._attempt(name, definition)
            except LroError as exc:
                logger.warning(
                    "schedule %s is not declared yet: %s",
                    name,
                    exc,
                    extra=event("schedule_not_declared", operation=row_of(name), handler=handler_of(name)),
                )
                delay = AGAIN

    async def _attempt(self, name: str, definition: Definition) -> float | None:
        """Declare one; returns the seconds after which it has to be tried again, None where all is done."""
        row, now = row_of(name), self._clock.time()
        record = await self._rows.find(row)
        if record is not None and (record.done or record.deleted):  # somebody cancelled it, or forgot it
            record = await self._forget(row)
            if record is not None:
                return AGAIN
        if record is None:
            return await self._make(name, definition)
        try:
            state = state_codec.decode(record.state_data, record.state_codec)
        except StateCodecError as exc:
            logger.warning(
                "schedule %s is left as it is: %s",
                name,
                exc,
                extra=event("schedule_unreadable", operation=row_of(name), handler=handler_of(name)),
            )
            return None
        assert state is not None
        if state.definition.fingerprint == definition.fingerprint:
            return None
        left = state.settles(definition) - now
        if left > 0:
            self._tell_of_another(name, left)
            return left
        return await self._replace(name, state, definition)

    async def _make(self, name: str, definition: Definition) -> float | None:
        now = self._clock.time()
        state = ScheduleState(definition=definition, since=now, next=next(definition.calendar.after(now), None))
        try:
            made = await self._engine.starter.start(
                handler_of(name),
                state,
                operation_id=name,
                parent=PARENT,
                metadata=metadata_of(name, state),
                fingerprint=handler_of(name),  # whoever declares it: what is declared may differ
            )
        except OperationAlreadyExistsError:
            return AGAIN
        found = state_codec.decode(made.record.state_data, made.record.state_codec)
        same = found is not None and found.definition.fingerprint == definition.fingerprint
        return None if same else AGAIN

    async def _replace(self, name: str, state: ScheduleState, definition: Definition) -> float | None:
        change = Change(row_of(name), partial(redeclared, definition=definition, now=self._clock.time()))
        try:
            record = await self._rows.submit(change)
        except OperationNotFoundError:
            record = None
        if record is None:
            return AGAIN
        found = state_codec.decode(record.state_data, record.state_codec)
        if found is None or found.definition.fingerprint != definition.fingerprint:
            return AGAIN  # it runs, or is about to
        returns = definition.fingerprint in state.former
        logger.log(
            logging.WARNING if returns else logging.INFO,
            "schedule %s has a definition that %s: %s instead of %s",
            name,
            "was replaced before and is back" if returns else "is new",
            definition.fingerprint,
            state.definition.fingerprint,
            extra=event("schedule_changed", operation=row_of(name), handler=handler_of(name)),
        )
        if record.state is State.SUSPENDED and not record.paused:
            self._engine.dispatcher.push(record)
        return None

    async def _forget(self, row: str) -> Record | None:
        """Remove a row that nobody is to go on with; returns it where it has to stay."""
        try:
            return await self._rows.submit(Change(row, forgotten))
        except OperationNotFoundError:
            return None

    def _tell_of_another(self, name: str, left: float) -> None:
        if name in self._told:
            return
        self._told.add(name)
        logger.warning(
            "schedule %s was declared otherwise by another release a short time ago: this definition takes its place in"
            " %.0f s, if this process is still there",
            name,
            left,
            extra=event("schedule_declared_twice", operation=row_of(name), handler=handler_of(name)),
        )
