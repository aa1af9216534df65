"""``op.suspend(...)``: the arguments checked and made into what the worker commits."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol

from lro_aio.core import names, transitions
from lro_aio.core.calendars import epoch
from lro_aio.core.policies import Duration, seconds
from lro_aio.core.quick import dataclass
from lro_aio.core.record import NEVER, Record, Wait
from lro_aio.core.straight import JournalMovedError
from lro_aio.core.transitions import Holder

__all__ = ["Named", "Suspended", "check_children", "check_reach", "moment", "plan", "suspend_event"]


class Named(Protocol):
    """An ``Operation``, or an ``operations_pb2.Operation``."""

    @property
    def name(self) -> str:
        """Resource name."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Suspended:
    """What ``op.suspend(...)`` returns. It takes effect when the handler returns it."""

    resume_at: str
    sleep: float
    """Seconds from the commit; 0 with ``until``."""
    until: float | None
    """Epoch seconds."""
    children: tuple[str, ...]
    joins: bool
    """Children are all that was given, if only none."""
    timeout: float | None
    """Seconds of the children part, from the end of the sleep."""
    poll_interval: float
    max_poll_interval: float | None
    service: str
    poll_endpoint: str
    topics: tuple[str, ...] = ()
    """Of messages, of which one ends the wait."""
    unbounded: bool = False
    """Topics are all that was given: there is no sleep that ends."""

    def wait(self, *, now: float, token: str, on_cancel: str) -> Wait:
        """The row's wait, counted from the moment of the commit. For the engine."""
        wakes = now + self.sleep if self.until is None else max(now, self.until)
        if self.unbounded:
            wakes = NEVER
        return Wait(
            token=token,
            sleep_until=wakes,
            children=self.children,
            joins=self.joins and not self.children,
            service=self.service,
            deadline=None if self.timeout is None or not self.children else wakes + self.timeout,
            poll_interval=self.poll_interval,
            max_poll_interval=self.max_poll_interval,
            poll_endpoint=self.poll_endpoint,
            on_cancel=on_cancel,
            topics=self.topics,
        )


def plan(
    *,
    own_name: str,
    resume_at: str,
    sleep: Duration | None,
    until: datetime.datetime | float | None,
    children: Sequence[str | Named] | None,
    timeout: Duration | None,
    poll_interval: Duration,
    max_poll_interval: Duration | None,
    service: str | None,
    services: Collection[str],
    poll_endpoint: str | None,
    messages: Sequence[str] = (),
) -> Suspended:
    """Check the arguments of ``suspend``.

    Raises:
        ValueError: Nothing was given to wait for, a negative duration, both ``sleep`` and ``until``, the operation
            itself among its children, a service that the client does not have, or a ``poll_endpoint`` without one or
            that is no URL.
        InvalidOperationNameError: A child's name is malformed.
    """
    slept = 0.0 if sleep is None else seconds(sleep, "sleep")
    if until is not None and slept:
        raise ValueError("give sleep or until, not both")
    topics = check_topics(messages)
    if until is None and sleep is None and children is None and not topics:
        raise ValueError("nothing to wait for: give sleep, until, children or messages")
    if service is not None and service not in services:
        listed = ", ".join(sorted(services)) or "none"
        raise ValueError(
            f"no service {service!r}: name it in Client(services=...), so that the row can keep it; known: {listed}"
        )
    if poll_endpoint is not None:
        _check_endpoint(poll_endpoint, service)
    return Suspended(
        resume_at=resume_at,
        sleep=slept,
        until=None if until is None else moment(until),
        children=check_children(own_name, () if children is None else children, foreign=service is not None),
        joins=children is not None and until is None and not slept,
        timeout=None if timeout is None else seconds(timeout, "timeout"),
        poll_interval=seconds(poll_interval, "poll_interval", positive=True),
        max_poll_interval=None
        if max_poll_interval is None
        else seconds(max_poll_interval, "max_poll_interval", positive=True),
        service=service or "",
        poll_endpoint=poll_endpoint or "",
        topics=topics,
        unbounded=until is None and sleep is None and children is None,
    )


def suspend_event(
    planned: Suspended,
    *,
    on_cancel: str,
    retention: float,
    changes: dict[str, Any],
    known: int | None = None,
    ready: bool = False,
) -> Callable[..., Record | None]:
    """The transition that commits a suspend; it still wants ``holder`` and ``now``.

    Args:
        planned: What the handler returned.
        on_cancel: The clean-up that a cancel of the wait runs; "" for none.
        retention: Seconds to keep the row, should it end here.
        changes: Columns to write with it.
        known: How many entries of the journal the run knows; another number is a ``JournalMovedError``. None: it does
            not matter.
        ready: Whether a message is there already that ends the wait.
    """
    token = names.new_id()

    def event(record: Record, *, holder: Holder, now: float) -> Record | None:
        if known is not None and record.entries != known:
            transitions.check_holder(record, holder)
            raise JournalMovedError(record.entries)
        wait = planned.wait(now=now, token=token, on_cancel=on_cancel)
        return transitions.suspend(
            record,
            holder=holder,
            now=now,
            retention=retention,
            wait=wait.told(now) if ready else wait,
            resume_point=planned.resume_at,
            changes=changes,
        )

    return event


def check_reach(planned: Suspended, *, now: float, most: float | None, reason: str) -> None:
    """Refuse a wait that the product may cut short by removing its row.

    Raises:
        ValueError: The sleep, or the end of the timeout behind it, is more than ``most`` seconds after ``now``.
    """
    end = planned.sleep if planned.until is None else max(0.0, planned.until - now)
    if planned.children and planned.timeout is not None:
        end += planned.timeout
    if most is not None and planned.unbounded:
        raise ValueError(f"a wait for messages needs a sleep= on this store, whose limit is {most:g} s: {reason}")
    if most is not None and end > most:
        raise ValueError(f"a wait of {end:g} s is too long for this store, whose limit is {most:g} s: {reason}")


def check_topics(messages: Sequence[str]) -> tuple[str, ...]:
    """The topics of messages to wait for, checked.

    Raises:
        ValueError: One is malformed.
        TypeError: One string instead of a sequence of topics.
    """
    if isinstance(messages, str):
        raise TypeError("messages must be a sequence of topics, not one string")
    return tuple(dict.fromkeys(names.check_given("topic", topic) for topic in messages))


def check_children(own_name: str, children: Sequence[str | Named], *, foreign: bool) -> tuple[str, ...]:
    """The names of operations to wait for, checked. A remote service names its operations as it likes.

    Raises:
        ValueError: The operation itself is among them: it would wait for ever.
        InvalidOperationNameError: A name is malformed; of a remote service: it is empty or has white space in it.
        TypeError: One string instead of a sequence of names.
    """
    if isinstance(children, str):
        raise TypeError("children must be a sequence of names, not one string")
    wanted = tuple(child if isinstance(child, str) else child.name for child in children)
    for child in wanted:
        if foreign:
            names.check_remote(child)
            continue
        names.check(child)
        if child == own_name:
            raise ValueError(f"operation {own_name!r} cannot wait for itself")
    return wanted


def _check_endpoint(poll_endpoint: str, service: str | None) -> None:
    if service is None:
        # Children would be looked for among the client's own, not be found, and count as ended.
        raise ValueError("poll_endpoint needs service: the children are read from it when the handler runs again")
    if not poll_endpoint.startswith(("https://", "http://")):
        raise ValueError(f"poll_endpoint must be the URL of the service's GetOperation, not {poll_endpoint!r}")


def moment(until: datetime.datetime | float) -> float:
    """A moment in epoch seconds.

    Raises:
        ValueError: A datetime without a time zone, or a number that is not finite.
        TypeError: Neither a datetime nor a number.
    """
    return epoch(until, "until")
