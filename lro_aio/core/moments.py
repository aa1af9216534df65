"""What happens in a process, as typed values: what an ``Observer`` is told. None is to be altered.

A pair of them, such as ``RunBegan`` and ``RunEnded``, is told where it happens: in the task of the run, of the step, or
of whoever starts or sends. What a commit did to an operation is told once, by the process that committed it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol, get_args

from google.rpc import status_pb2

from lro_aio.core.codes import Code
from lro_aio.core.quick import dataclass
from lro_aio.core.record import Record, State, WakeReason
from lro_aio.core.status import reason_of

__all__ = [
    "Committed",
    "Ended",
    "LeaseLost",
    "Moment",
    "Observer",
    "Received",
    "Retried",
    "RunBegan",
    "RunEnded",
    "SendBegan",
    "SendEnded",
    "StartBegan",
    "StartEnded",
    "Started",
    "StepBegan",
    "StepEnded",
    "Suspended",
    "Swept",
    "TakenOver",
    "fact",
    "failure",
    "lateness",
    "outcome",
]


@dataclass(slots=True, kw_only=True, eq=False)
class StartBegan:
    """A call of ``start`` or ``create`` is about to write its row. What ``observe`` returns is its ``traceparent``."""

    name: str
    """Of the operation. One that exists already has the same."""
    handler: str
    """"" for an operation that its creator drives."""
    parent_operation: str
    """Name of the operation that starts it as its child; "" for none."""
    traceparent: str
    """Of the caller; "" for none."""
    explicit: bool
    """Whether the caller gave it as an argument: else a span that is current knows better."""


@dataclass(slots=True, kw_only=True, eq=False)
class StartEnded:
    """The call has its answer."""

    began: StartBegan
    new: bool = False
    """Whether it was made by this call; a repeated request finds it."""
    error: str = ""
    """Type of the exception."""


@dataclass(slots=True, kw_only=True, eq=False)
class RunBegan:
    """A run of a handler begins. What ``observe`` returns is what the next run gets as ``before``."""

    name: str
    handler: str
    resume_point: str
    """"" for the start of the handler."""
    attempt: int
    """Runs of this segment that ended without a result, with this one."""
    retries: int
    """Runs of this segment that failed, and that the retry policy let run again."""
    wake: WakeReason | str | None
    """Why a suspended operation goes on, perhaps for a reason of a newer release; None for its first segment."""
    late: float | None
    """Seconds by which it begins after it was due; None where that is not known, or where it was begun by its start."""
    takeover: bool
    """Whether the last run died with its process, or lost its lease."""
    traceparent: str
    """Of the start."""
    before: str
    """Trace context of the run that ended the segment before, or of the one that failed; "" for none."""


@dataclass(slots=True, kw_only=True, eq=False)
class RunEnded:
    """The run has ended, and what it left is committed."""

    began: RunBegan
    outcome: str
    """SUSPENDED, SUCCEEDED, FAILED, CANCELLED; RETRIED; CLEANUP: the clean-up comes next; PAUSED; RELEASED: another
    process goes on; DELETED: the end of an operation that was deleted; LEASE_LOST; LEFT: nothing was committed."""
    seconds: float
    error: str
    """Type of the exception that left the handler, or the reason of the failure; "" for none."""


@dataclass(slots=True, kw_only=True, eq=False)
class StepBegan:
    """The function of a step is called."""

    name: str
    """Of the operation."""
    handler: str
    step: str
    key: str
    """"" for none."""
    attempt: int
    """1 for the first try."""


@dataclass(slots=True, kw_only=True, eq=False)
class StepEnded:
    """The function of the step has returned, or raised."""

    began: StepBegan
    seconds: float
    error: str
    """Type of the exception; "" for none."""


@dataclass(slots=True, kw_only=True, eq=False)
class SendBegan:
    """A message is about to be stored."""

    name: str
    topic: str


@dataclass(slots=True, kw_only=True, eq=False)
class SendEnded:
    """It is stored, or was refused."""

    began: SendBegan
    error: str
    """Type of the exception; "" for none."""


@dataclass(slots=True, kw_only=True, eq=False)
class Received:
    """A handler has got a message. A handler that begins again from the top gets it again, and so it is told again."""

    name: str
    handler: str
    topic: str
    age: float
    """Seconds since it was sent."""


@dataclass(slots=True, kw_only=True, eq=False)
class Started:
    """An operation was made."""

    name: str
    handler: str
    """"" for one that its creator drives."""


@dataclass(slots=True, kw_only=True, eq=False)
class Suspended:
    """An operation waits, and holds nobody."""

    name: str
    handler: str
    resume_point: str


@dataclass(slots=True, kw_only=True, eq=False)
class Retried:
    """A run failed, and its segment runs again."""

    name: str
    handler: str
    resume_point: str
    retries: int
    delay: float
    """Seconds."""


@dataclass(slots=True, kw_only=True, eq=False)
class Ended:
    """An operation has ended."""

    name: str
    handler: str
    outcome: str
    """SUCCEEDED, FAILED or CANCELLED; DELETED where it was deleted before."""
    seconds: float | None
    """From its start; None where it was deleted."""
    code: str = ""
    """Name of the canonical code of a failure."""
    reason: str = ""
    """Of the failure, as in ``ErrorInfo``."""


@dataclass(slots=True, kw_only=True, eq=False)
class LeaseLost:
    """This process ran or drove an operation, and another one has it now."""

    name: str
    handler: str


@dataclass(slots=True, kw_only=True, eq=False)
class TakenOver:
    """This process took an operation whose process died, or stopped renewing its lease."""

    name: str
    handler: str
    owner: str
    """The process that had it."""


@dataclass(slots=True, kw_only=True, eq=False)
class Committed:
    """A transaction of this process is over."""

    changes: int
    refused: int
    """Those of them that wrote nothing, because they were illegal or the store did not answer."""
    seconds: float


@dataclass(slots=True, kw_only=True, eq=False)
class Swept:
    """This process has looked for what is due."""

    due: int
    """Rows that it found; a look has a limit."""
    age: float
    """Seconds for which the oldest of them has been due; 0 for none."""


Moment = (
    StartBegan
    | StartEnded
    | RunBegan
    | RunEnded
    | StepBegan
    | StepEnded
    | SendBegan
    | SendEnded
    | Received
    | Started
    | Suspended
    | Retried
    | Ended
    | LeaseLost
    | TakenOver
    | Committed
    | Swept
)
"""What an observer is told. A later release may have more: ignore what you do not know."""
ALL: frozenset[type[Any]] = frozenset(get_args(Moment))
FACTS: frozenset[type[Any]] = frozenset({Started, Suspended, Retried, Ended, TakenOver})
"""What a commit did to an operation."""
_WAITS: frozenset[type[Any]] = frozenset({Suspended, Retried})


class Observer(Protocol):
    """Somebody who is told what happens: ``Client(observers=[...])``."""

    def observe(self, moment: Moment) -> str | None:
        """Take note of a moment. Called on the event loop, which it must not hold up.

        An exception is logged, once for each observer, and harms nothing.

        Args:
            moment: One of the classes of ``lro_aio.moments``.

        Returns:
            For ``StartBegan`` and ``RunBegan`` a W3C trace context that is kept in the row; None or "" for none. Of
            several observers the first one's counts. For any other moment it does not matter.
        """
        ...


class Selective:
    """Part of an observer of this package's own, which wants some moments only: others are not made for it."""

    wanted: frozenset[type[Any]] = ALL
    """Types of moments. Without any of ``FACTS``, the ``late`` and ``takeover`` of a ``RunBegan`` are not found out."""


def wanted_by(observers: Iterable[Observer]) -> frozenset[type[Any]]:
    """The types of moments that any of them wants."""
    wanted: frozenset[type[Any]] = frozenset()
    for observer in observers:
        wanted |= observer.wanted if isinstance(observer, Selective) else ALL
    return wanted


def fact(before: Record | None, after: Record | None, wanted: frozenset[type[Any]] = ALL) -> Moment | None:
    """What a commit did to an operation; None for nothing that anybody is told of.

    Args:
        before: The row before it; None: there was none.
        after: The row after it; None: it was removed.
        wanted: Types of moments. An operation that waits is no moment where nobody wants that.
    """
    if after is before:
        return None
    if after is None:
        if before is None or before.done:
            return None
        return Ended(name=before.name, handler=before.handler, outcome="DELETED", seconds=None)
    name, handler = after.name, after.handler
    if before is None or before.uid != after.uid:
        return Started(name=name, handler=handler)
    if before.state is not State.RUNNING or after.done:
        return _ended(after) if after.done and not before.done else None
    if after.claim > before.claim:
        return TakenOver(name=name, handler=handler, owner=before.owner)
    if after.state is not State.SUSPENDED or after.paused or _WAITS.isdisjoint(wanted):
        return None
    wait, point = after.wait, after.resume_point
    if wait is None or not wait.repeats:
        return Suspended(name=name, handler=handler, resume_point=point)
    delay = max(0.0, wait.sleep_until - after.update_time)
    return Retried(name=name, handler=handler, resume_point=point, retries=after.retries, delay=delay)


def lateness(before: Record | None, after: Record) -> float | None:
    """Seconds by which a run that was just claimed begins after it was due; None where nobody knows.

    Args:
        before: The row before the claim; None: it was claimed in the write that made it, and was never due.
        after: The row as it was claimed.
    """
    if before is None:
        return None
    if before.state is State.PENDING and not before.claim:
        return max(0.0, after.update_time - before.create_time)
    wait, wake = before.wait, after.wake
    if before.state is not State.SUSPENDED or wait is None:
        return None
    if wait.news is not None:
        due: float | None = wait.news
    elif wait.union or wait.rerun or wake is None:
        due = wait.ends
    else:
        due = {WakeReason.ELAPSED: wait.ends, WakeReason.CHILDREN_TIMEOUT: wait.deadline}.get(wake.reason)
    return None if due is None or due > after.update_time else after.update_time - due


def outcome(after: Record, before: Record) -> str:
    """What a run has led to; see ``RunEnded.outcome``.

    Args:
        after: The row as the run left it.
        before: The row as the run found it.
    """
    if after.done:
        return after.state.value
    if after.paused:
        return "PAUSED"
    if after.state is State.PENDING:
        return "CLEANUP" if after.cleaning and not before.cleaning else "RELEASED"
    if after.state is State.SUSPENDED:
        return "RETRIED" if after.wait is not None and after.wait.repeats else "SUSPENDED"
    return "LEFT"


def failure(after: Record) -> tuple[str, str]:
    """The name of the code of a row's error, and its reason; "" for each that there is not."""
    if not after.error:
        return "", ""
    status = status_pb2.Status.FromString(after.error)
    return Code.of(status.code).name, reason_of(status)


def _ended(after: Record) -> Ended:
    code, reason = failure(after)
    return Ended(
        name=after.name,
        handler=after.handler,
        outcome=after.state.value,
        seconds=max(0.0, after.ended - after.create_time),
        code=code,
        reason=reason,
    )
