"""Tells observers what happens. Where there are none, there is no ``Observing``, and nothing is made to be told."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import NamedTuple

from lro_aio.core import moments
from lro_aio.core.change import Change, Outcome
from lro_aio.core.logs import event
from lro_aio.core.moments import Moment, Observer
from lro_aio.core.record import Record
from lro_aio.engine.lanes import Answered
from lro_aio.ports import Clock

__all__ = ["Found", "Observing"]

logger = logging.getLogger("lro_aio")

LONGEST = 256
"""Characters of a trace context that a row keeps. Those of today have 55."""


class Found(NamedTuple):
    """How a claim found its row."""

    late: float | None = None
    """Seconds after it was due; None where nobody knows."""
    takeover: bool = False
    """Whether another process had it."""


NEVER_DUE = Found()
"""Of a row that is nobody's claim, or that was never due."""


class Observing:
    """The observers of one engine.

    Args:
        observers: Told in this order.
        clock: Engine time.
    """

    def __init__(self, observers: Sequence[Observer], clock: Clock) -> None:
        self._observers = observers
        self._clock = clock
        wanted = self._wanted = moments.wanted_by(observers)
        self._facts = not moments.FACTS.isdisjoint(wanted)
        self._starts = moments.StartBegan in wanted or moments.StartEnded in wanted
        self._faulty: set[int] = set()
        self.found = NEVER_DUE
        """How the claim that is being answered found its row."""

    def wants(self, kind: type[Moment]) -> bool:
        """Whether anybody does. To make a moment that nobody wants is a waste."""
        return kind in self._wanted

    def tell(self, moment: Moment) -> str:
        """Tell everybody; returns the trace context to keep, "" for none."""
        kept = ""
        for place, observer in enumerate(self._observers):
            try:
                given = observer.observe(moment)
            except (Exception, asyncio.CancelledError) as exc:  # noqa: BLE001 (whatever it is, it is not the work's)
                self._note_fault(place, observer, moment, exc)
            else:
                if given is not None and not kept and isinstance(given, str) and len(given) <= LONGEST:
                    kept = given
        return kept

    def _note_fault(self, place: int, observer: Observer, moment: Moment, exc: BaseException) -> None:
        if place not in self._faulty:
            self._faulty.add(place)
            logger.error(
                "the observer %r failed at %s; what it raises from now on is not logged",
                observer,
                type(moment).__name__,
                exc_info=exc,
                extra=event("observer_failed"),
            )

    def watched(self, change: Change, answered: Answered | None) -> tuple[Change, Answered | None]:
        """A change that is about to be committed, and its callback: once it is answered, they tell what it did."""
        if not self._facts:
            return change, answered
        watched = _Watched(self, change.event, answered)
        change.event = watched
        return change, watched.told

    def tell_fact(self, before: Record | None, after: Record | None) -> None:
        """Tell what a commit did to an operation, and note how it found the row."""
        self.found = NEVER_DUE
        moment = moments.fact(before, after, self._wanted)
        if moment is not None:
            self.tell(moment)
        if before is not None and after is not None and after.claim > before.claim:
            self.found = Found(moments.lateness(before, after), isinstance(moment, moments.TakenOver))

    def made(self, record: Record) -> None:
        """A row was made by the change of another."""
        if self._facts:
            self.tell_fact(None, record)

    def committed(self, outcomes: Iterable[Outcome], changes: int, seconds: float) -> None:
        """A transaction is over."""
        if moments.Committed not in self._wanted:
            return
        refused = sum(1 for outcome in outcomes if isinstance(outcome, Exception))
        self.tell(moments.Committed(changes=changes, refused=refused, seconds=seconds))

    def swept(self, due: Sequence[Record], now: float) -> None:
        """A look for what is due is over."""
        if moments.Swept not in self._wanted:
            return
        oldest = min((record.check_time for record in due if record.check_time is not None), default=now)
        self.tell(moments.Swept(due=len(due), age=max(0.0, now - oldest)))

    def start(
        self, record: Record, *, explicit: bool, make: Callable[[Record], Awaitable[Record]]
    ) -> Awaitable[Record]:
        """Make an operation.

        Args:
            record: The row to write, with the caller's trace context.
            explicit: Whether the caller gave that as an argument.
            make: Writes it; gives the row that is there then.
        """
        return self._start(record, explicit, make) if self._starts else make(record)

    async def _start(self, record: Record, explicit: bool, make: Callable[[Record], Awaitable[Record]]) -> Record:
        began = moments.StartBegan(
            name=record.name,
            handler=record.handler,
            parent_operation=record.parent_operation,
            traceparent=record.traceparent,
            explicit=explicit,
        )
        given = self.tell(began)
        try:
            created = await make(record.evolve(traceparent=given) if given else record)
        except BaseException as exc:
            self.tell(moments.StartEnded(began=began, error=type(exc).__name__))
            raise
        self.tell(moments.StartEnded(began=began, new=created.uid == record.uid))
        return created

    def step(self, name: str, handler: str, step: str, key: str, attempt: int) -> AbstractContextManager[None]:
        """The function of a step is called inside. The arguments are those of ``StepBegan``."""
        if moments.StepBegan not in self._wanted and moments.StepEnded not in self._wanted:
            return nullcontext()
        began = moments.StepBegan(name=name, handler=handler, step=step, key=key, attempt=attempt)
        since, now = self._clock.monotonic(), self._clock.monotonic
        return self._around(began, lambda error: moments.StepEnded(began=began, seconds=now() - since, error=error))

    def send(self, name: str, topic: str) -> AbstractContextManager[None]:
        """A message is stored inside."""
        if moments.SendBegan not in self._wanted and moments.SendEnded not in self._wanted:
            return nullcontext()
        began = moments.SendBegan(name=name, topic=topic)
        return self._around(began, lambda error: moments.SendEnded(began=began, error=error))

    @contextmanager
    def _around(self, began: Moment, ended: Callable[[str], Moment]) -> Iterator[None]:
        """Tell of both ends of what happens inside; ``ended`` makes the second from the type of the exception."""
        error = ""
        self.tell(began)
        try:
            yield
        except BaseException as exc:
            error = type(exc).__name__
            raise
        finally:
            self.tell(ended(error))


class _Watched:
    """The event of a change, which remembers the row that it was called with last: a transaction may be repeated.

    One object, and no closure beside it: each change has one until it is answered, and the collector of cycles walks
    through all of them.
    """

    __slots__ = ("_answered", "_before", "_event", "_observing")

    def __init__(self, observing: Observing, change: Callable[..., Record | None], answered: Answered | None) -> None:
        self._observing = observing
        self._event = change
        self._answered = answered
        self._before: Record | None = None

    def __call__(self, record: Record | None) -> Record | None:
        self._before = record
        return self._event(record)

    def told(self, outcome: Outcome) -> None:
        """The change is answered."""
        if not isinstance(outcome, Exception):
            self._observing.tell_fact(self._before, outcome)
        if self._answered is not None:
            self._answered(outcome)
