"""Everything about one operation, for operators: typed, and in words where a person reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from google.longrunning import operations_proto_pb2 as operations_pb2
from google.rpc import status_pb2

from lro_aio.core import trail
from lro_aio.core.codes import Code
from lro_aio.core.counts import Count
from lro_aio.core.history import HistoryEntry, history_of
from lro_aio.core.journal import Entry
from lro_aio.core.queues import InLine
from lro_aio.core.quick import dataclass
from lro_aio.core.record import Record, State
from lro_aio.core.rerunning import links
from lro_aio.core.status import reason_of
from lro_aio.core.timeline import CRASH, SEGMENT, STEP, Span, spans

__all__ = ["Description", "Problem", "described", "problem_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Why an operation has failed, or is paused."""

    code: str
    """Canonical name, such as NOT_FOUND."""
    reason: str
    """``ErrorInfo.reason``; "" for none."""
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """Everything about one operation. It may tell more than clients are to see. Times are epoch seconds."""

    operation: operations_pb2.Operation
    """As clients see it: metadata and result are there."""
    name: str
    uid: str
    handler: str
    """"" where its creator drives it."""
    state: State
    resume_point: str
    """Where the handler goes on; "" is its start."""
    create_time: float
    update_time: float
    end_time: float | None
    expire_time: float | None
    deadline: float | None
    """When it fails if it has not ended."""
    attempt: int
    """Runs of this segment that began, and got nowhere yet."""
    retries: int
    """Failed runs of this segment that were let run again."""
    runs: int
    """How often a process has begun to run it."""
    owner: str
    """The process that runs it; "" for none."""
    lease_expire_time: float | None
    check_time: float | None
    """When a sweep looks at it next."""
    waits_for: str
    """In words; "" where it does not wait."""
    queues: tuple[InLine, ...]
    """Where it and its steps stand in queues, or have places: up to ten, those that wait first."""
    paused: bool
    pause_reason: str
    cancel_requested: bool
    cleaning: bool
    """Runs its clean-up."""
    problem: Problem | None
    """Why it failed, or was paused or will fail; None where nothing is wrong."""
    parent_operation: str
    children: Mapping[State, Count]
    """Operations that it started and that are still there, by state."""
    rerun_of: str
    """The operation that it runs once more; "" for none."""
    reruns: tuple[str, ...]
    """Operations that run it once more."""
    entries: int
    """Of its journal."""
    timeline: tuple[Span, ...]
    """In the order in which they began."""
    history: tuple[HistoryEntry, ...]

    @property
    def steps(self) -> tuple[Span, ...]:
        """The steps of straight code."""
        return tuple(span for span in self.timeline if span.kind == STEP)

    @property
    def crashes(self) -> int:
        """How often a process died with it, as far as the timeline tells."""
        return sum(span.kind == CRASH for span in self.timeline)

    @property
    def owners(self) -> tuple[str, ...]:
        """The processes that ran it, as far as the timeline tells; the first one first."""
        return tuple(dict.fromkeys(span.owner for span in self.timeline if span.kind == SEGMENT))


def described(
    record: Record,
    journal: Sequence[Entry],
    children: Mapping[State, Count],
    now: float,
    *,
    queues: Sequence[InLine] = (),
) -> Description:
    """The description of an operation.

    Args:
        record: The row.
        journal: Its journal, in order.
        children: What it has started, by state.
        now: Epoch seconds.
        queues: Where it stands in queues.
    """
    pauses = [one.text for one in trail.happenings(record.trail) if one.kind == trail.PAUSED]
    return Description(
        operation=record.to_operation(),
        name=record.name,
        uid=record.uid,
        handler=record.handler,
        state=record.state,
        resume_point=record.resume_point,
        create_time=record.create_time,
        update_time=record.update_time,
        end_time=record.end_time,
        expire_time=record.expire_time,
        deadline=record.deadline,
        attempt=record.attempt,
        retries=record.retries,
        runs=record.claim,
        owner=record.owner,
        lease_expire_time=record.lease_expire_time,
        check_time=record.check_time,
        waits_for=_waits_for(record, now),
        queues=tuple(queues),
        paused=record.paused,
        pause_reason=pauses[-1] if record.paused and pauses else "",
        cancel_requested=record.cancel_requested,
        cleaning=record.cleaning,
        problem=problem_of(record),
        parent_operation=record.parent_operation,
        children=children,
        rerun_of=next(iter(links(record.trail, "of")), ""),
        reruns=links(record.trail, "as"),
        entries=record.entries,
        timeline=tuple(spans(record, journal)),
        history=tuple(history_of(record, journal)),
    )


def _waits_for(record: Record, now: float) -> str:
    if record.paused and record.state is State.SUSPENDED:
        return "until it is unpaused"
    if record.in_line and record.seat is not None:
        return f"for a place in the queue {record.seat.queue}"
    if record.state is State.PENDING:
        return "for a process that runs it"
    if record.state is not State.SUSPENDED or record.wait is None:
        return ""
    if record.wait.repeats:
        return "for its turn to run again"
    return trail.waits_for(record.wait, now, record.resume_point)


def problem_of(record: Record) -> Problem | None:
    """Why an operation has failed, or is paused or will fail; None where nothing is wrong."""
    told = record.failure or (record.error if record.done else b"")
    if not told:
        return None
    status = status_pb2.Status.FromString(told)
    return Problem(code=Code.of(status.code).name, reason=reason_of(status), message=status.message)
