"""Places for steps: as those of operations, but for a call that a handler makes while it runs.

A step's ticket belongs to its operation, and its place to the run that took it. It is given back with the entry that
keeps the step's result, or when the run comes to a stop. What waits in line when a handler is suspended waits on; a run
that takes over from a dead one finds the places of its steps given back, and their tickets where they were in line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lro_aio.core.queueing import Places, Rest, Ticket
from lro_aio.core.quick import dataclass
from lro_aio.core.record import Record, Seat, State

__all__ = ["StepPlaces", "Take", "step_of", "ticket_of"]


@dataclass(slots=True, eq=False)
class Take:
    """That a step wants a place. Its answer is in ``granted`` once the change that brings it is applied."""

    step: str
    """Its identity in the journal."""
    queue: str
    key: str
    moment: float
    """Epoch seconds."""
    granted: bool = False
    """Whether it has one; else it stands in line. Of the last time that the change was applied."""


def ticket_of(uid: str, step: str) -> str:
    """What stands for the uid in the ticket of a step."""
    return f"{uid}\n{step}"


def step_of(ticket: Ticket) -> str:
    """The step of a ticket; "" for the ticket of an operation."""
    return ticket.uid.partition("\n")[2]


class StepPlaces(Places):
    """``Places`` for operations and their steps."""

    def settled(
        self,
        before: Record | None,
        row: Record | None,
        *,
        rests: Sequence[Rest] = (),
        gives: Sequence[str] = (),
        stands: Sequence[str] = (),
    ) -> Record | None:
        """As ``after``, also for the steps.

        Args:
            before: The row before the change.
            row: What the change made of it.
            rests: What the change puts to rest.
            gives: Steps that need their places no longer.
            stands: Steps that wait in line from here on, also where the run ends.
        """
        found = self.after(before, row, rests)
        if not (_has_steps(before) or _has_steps(found)):
            return found
        if before is not None and (found is None or found.uid != before.uid or found.done):
            for ticket in self._of(before.uid):
                self._drop(ticket.uid)
            return found
        if before is None or found is None:
            return found
        stops = before.state is State.RUNNING and found.state is not State.RUNNING
        for step in gives:
            self._drop(ticket_of(found.uid, step))
        if stops:
            for ticket in self._of(found.uid):
                if step_of(ticket) not in stands:
                    self._drop(ticket.uid)
        if stops or found.claim != before.claim:
            self._back_in_line(self._of(found.uid))
        elif stands:
            held = (self._ticket(ticket_of(found.uid, step)) for step in stands)
            self._back_in_line([ticket for ticket in held if ticket is not None])
        return found

    def _back_in_line(self, tickets: Sequence[Ticket]) -> None:
        for ticket in tickets:
            if ticket.held:
                self._give_back(ticket.uid)
                self._stand(ticket)

    def take(self, row: Record, take: Take) -> None:
        """Give a step of a row a place, or let it stand in line.

        Args:
            row: The row.
            take: What the step wants; gets the answer, too.
        """
        place = ticket_of(row.uid, take.step)
        ticket = self._ticket(place)
        take.granted = ticket is not None and ticket.held
        if take.granted:
            return
        line, now = self._line(take.queue), self._at(take.queue, take.moment)
        priority = row.seat.priority if row.seat is not None else 0
        seat = Seat(queue=take.queue, key=take.key, priority=priority)
        if ticket is not None and (ticket.queue, ticket.key) != (take.queue, take.key):  # a release has changed it
            self._drop(place)
            ticket = None
        take.granted = self._admits(line, seat, now, in_line=ticket is not None)
        if take.granted:
            self._hold(ticket or replace(self._draw(row, seat, now), uid=place), now)
        elif ticket is None:
            self._stand(replace(self._draw(row, seat, now), uid=place))
        elif seat.key:
            self._key(line, seat.key).changed = True

    def _of(self, uid: str) -> list[Ticket]:
        """The tickets of an operation's steps."""
        for place in self._reader.steps(uid):
            self._ticket(place)
        return [t for place, t in self._tickets.items() if t is not None and place.startswith(f"{uid}\n")]


def _has_steps(row: Record | None) -> bool:
    return row is not None and row.seat is not None and row.seat.steps
