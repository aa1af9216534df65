"""A store of queues in a few dicts, for the tests of ``core.queueing``."""

from __future__ import annotations

from dataclasses import replace

from lro_aio.core.change import Change, run
from lro_aio.core.queueing import KNOWN_STARTS, KeyRow, QueueRow, Standing, Starts, Ticket, room
from lro_aio.core.record import Record, Seat, State
from lro_aio.core.step_places import StepPlaces

LEASE = 30.0


def waiting_row(uid: str, seat: Seat, now: float, handler: str = "h") -> Record:
    """A new row that wants to run."""
    return Record(
        name=f"operations/{uid}", uid=uid, state=State.PENDING, create_time=now, update_time=now, check_time=now,
        handler=handler, seat=seat,
    )  # fmt: skip


class Model:
    """Rows and queues. Every method is one transaction."""

    def __init__(self, *queues: QueueRow) -> None:
        self.rows: dict[str, Record] = {}
        self.queue_rows = {row.name: row for row in queues}
        self.keys: dict[tuple[str, str], KeyRow] = {}
        self.tickets: dict[str, Ticket] = {}
        self.kept: dict[tuple[str, str], dict[int, float]] = {}

    def queue(self, name: str) -> QueueRow | None:
        return self.queue_rows.get(name)

    def key(self, queue: str, key: str) -> KeyRow | None:
        return self.keys.get((queue, key))

    def ticket(self, uid: str) -> Ticket | None:
        return self.tickets.get(uid)

    def steps(self, uid: str) -> list[str]:
        return [place for place in self.tickets if place.startswith(f"{uid}\n")]

    def held(self, queue: str, key: str | None) -> int:
        return sum(t.held and t.queue == queue and key in (None, t.key) for t in self.tickets.values())

    def ready(self, queue: str) -> bool:
        return any(t.standing is Standing.READY and t.queue == queue for t in self.tickets.values())

    def starts(self, queue: str, key: str, after: int) -> list[tuple[int, float]]:
        found = sorted(item for item in self.kept.get((queue, key), {}).items() if item[0] > after)
        return found[:KNOWN_STARTS]

    def apply(self, *changes: Change) -> list[object]:
        """As a store does it."""
        places = StepPlaces(self)
        rows: dict[str, Record | None] = dict(self.rows)
        outcomes = run(changes, rows, None, places)
        self.rows = {name: row for name, row in rows.items() if row is not None}
        for uid, ticket in places.tickets().items():
            if ticket is None:
                self.tickets.pop(uid, None)
            else:
                self.tickets[uid] = ticket
        self.queue_rows |= {row.name: row for row in places.queues()}
        for start in places.started:
            self.kept.setdefault((start.queue, start.key), {})[start.number] = start.time
        for queue, key, number in places.trims():
            self.kept[queue, key] = {n: time for n, time in self.kept[queue, key].items() if n > number}
        for queue, key, ready in places.resettled():
            line = sorted(
                (t for t in self.tickets.values() if (t.queue, t.key) == (queue, key) and not t.held), key=order
            )
            for place, ticket in enumerate(line):
                standing = Standing.READY if place < ready else Standing.BEHIND
                self.tickets[ticket.uid] = replace(ticket, standing=standing)
            self.keys[queue, key] = places.key_row(queue, key, waits=bool(line))
        return list(outcomes)

    def line(self, queue: str, now: float, handlers: tuple[str, ...] = ("h",)) -> list[Ticket]:
        """Who is next."""
        row = self.queue_rows[queue]
        now = max(now, row.clock)
        rate = row.bounds.rate
        starts = None if rate is None else Starts(rate, row.starts, self.starts(queue, "", row.starts - rate.count))
        free = room(row, self.held(queue, None), starts, now)
        ripe = {key for (name, key), known in self.keys.items() if name == queue and (known.wakes or now + 1) <= now}
        heads = [
            min((t for t in self.tickets.values() if (t.queue, t.key) == (queue, key) and not t.held), key=order)
            for key in ripe
        ]
        first = [t for t in self.tickets.values() if t.queue == queue and t.standing is Standing.READY]
        found = {t.uid: t for t in [*first, *heads] if t.handler in handlers}
        return sorted(found.values(), key=order)[:free]


def order(ticket: Ticket) -> tuple[int, int, int]:
    return ticket.priority, ticket.turn, ticket.number
