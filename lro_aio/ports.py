"""The seams of the engine: what a store, a scheduler, a foreign service and a clock must do.

The docstrings are the contracts. ``lro_aio.testing`` ships suites that hold an implementation to them.
"""

from __future__ import annotations

import abc
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from google.longrunning import operations_proto_pb2 as operations_pb2

from lro_aio.core.change import Change, Outcome
from lro_aio.core.record import Record, State, WakeReason

__all__ = [
    "Clock",
    "GetOperationStub",
    "ListQuery",
    "Look",
    "OperationsService",
    "Route",
    "Scheduler",
    "SchedulerHost",
    "Store",
]

Route = tuple[str, str]
"""A (handler, resume point) that a process can run. ("", "") stands for rows that their creators drive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListQuery:
    """One page of a list, newest first: ``create_time`` descending, then ``name`` ascending.

    Every condition that is not None must hold. Deleted rows, and rows whose ``expire_time`` is at or before ``now``,
    are never in a page.
    """

    now: float
    limit: int
    parent: str | None = None
    """What stands before ``/operations/`` in the name; "" for none. None: any."""
    done: bool | None = None
    states: frozenset[State] | None = None
    handler: str | None = None
    parent_operation: str | None = None
    created_from: float | None = None
    """Epoch seconds, inclusive."""
    created_to: float | None = None
    """Epoch seconds, inclusive."""
    after: tuple[float, str] | None = None
    """(create_time, name) of the last row of the page before."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a sweep learns in one round trip."""

    due: list[Record]
    """The rows that must be looked at now, soonest first."""
    next_check: float | None = None
    """Epoch seconds: the least ``check_time`` after now that the routes have. None: none."""
    unknown: Route | None = None
    """A route that was not asked for, and whose rows wait too long."""


class Store(abc.ABC):
    """Keeps rows and applies changes to them. Blocking, and callable from any thread.

    Construction does no I/O. Every method may raise ``StoreUnavailableError``, after which the same call may be
    repeated; a store has a deadline of its own and never blocks for longer.
    """

    url: str
    """For people: where the rows are. Holds no secret."""

    lanes: int = 1
    """How many threads may call ``apply`` at a time with gain. The engine never has one row in two of them."""

    foreign_poll_interval: float | None = None
    """Seconds between calls of ``changed_elsewhere``; None where the store cannot tell and readers have to poll."""

    ordered_names: bool = False
    """Whether names that rise with time are stored best: in one b-tree, not in ranges that are spread over machines."""

    expires_rows: bool = False
    """Whether the product removes expired rows by itself. The engine then never calls ``purge``."""

    clock_offset: float = 0.0
    """Seconds by which the store's clock is ahead of this machine's, as last measured. 0.0 where they are the same."""

    max_row: int | None = None
    """Bytes of payload that the store takes in one row: state, metadata and response together. None: any."""

    max_wait: float | None = None
    """Seconds after which a waiting row may be removed, by a retention policy that is not the engine's. None: never.

    Known once the store is open.
    """

    max_wait_reason: str = ""
    """For people: what would remove the row, and what to do about it."""

    @abc.abstractmethod
    def open(self) -> None:
        """Connect, and make or upgrade the schema where the store does that by itself.

        Raises:
            StoreSchemaError: The schema is missing, newer than this code, or not ours.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Let go of everything within a second. May be called twice."""

    @abc.abstractmethod
    def read(self, names: Sequence[str]) -> list[Record]:
        """The rows with these names, in any order, in one round trip. Missing ones are left out.

        Deleted and expired rows are returned as long as they are stored: hiding them is the engine's part. A row
        that is returned reflects every change whose ``apply`` returned before this call. One that cannot be decoded is
        returned as an ``UnreadableRecord``, so that the others reach their readers.
        """

    @abc.abstractmethod
    def apply(self, changes: Sequence[Change]) -> list[Outcome]:
        """Apply changes in their order, and return the outcome of each at its place.

        Each change is called with its row as the changes before it left it. One that raises is refused alone: its
        exception is its outcome and the others commit. What is returned is durable: it survives the process and, as
        far as the product goes, the machine.

        All changes are one transaction, unless conflicts with other processes keep that from committing. The store may
        then divide the batch, but never the changes of one row: each part is a transaction of its own, and the error
        of a part is the outcome of its changes.

        Raises:
            StoreUnavailableError: Nothing is known of any change: it may have been committed. This is also how a
                transaction ends that conflicts until the store's deadline.
            Exception: Any other error means that nothing was committed, and that the same batch will be refused again;
                the engine then bisects it to find the change that is to blame.
        """

    @abc.abstractmethod
    def unfinished(self, names: Sequence[str]) -> set[str]:
        """Those of the names whose rows exist, are not deleted and have not ended. One round trip, no payloads."""

    @abc.abstractmethod
    def look(
        self,
        *,
        now: float,
        routes: Sequence[Route],
        limit: int,
        owner: str,
        own: bool = False,
        overdue: float | None = None,
    ) -> Look:
        """What a sweep must look at, and when it must look again. One round trip.

        Args:
            now: Epoch seconds.
            routes: The (handler, resume_point) pairs that this process runs. Rows of others are not counted in
                ``limit`` (rule 14).
            limit: Most rows to return. 0: none, and the rest of the answer all the same.
            owner: Who asks. The rows that it holds are left out of everything, since their owner renews them.
                "" holds none.
            own: Return those that ``owner`` holds too, where they are due. They are left out of ``next_check`` all
                the same.
            overdue: Epoch seconds, ``now`` at the latest. Look also for a route that nobody here runs and that has a
                row due at or before this moment. None: do not.

        Returns:
            ``due``: the rows whose ``check_time`` is at or before ``now``, soonest first. A row that another program
            ended, and that has no ``expire_time`` yet, is due at once and for everybody, whatever its route.
            ``next_check``: the least ``check_time`` after ``now``; a due row that found no place in ``limit`` does not
            count in it. ``unknown``: one such route, any; None where there is none.
        """

    @abc.abstractmethod
    def list(self, query: ListQuery) -> list[Record]:
        """One page of rows."""

    @abc.abstractmethod
    def purge(self, *, now: float, limit: int) -> int:
        """Remove up to ``limit`` rows that are past their ``expire_time``; return how many were."""

    def changed_elsewhere(self) -> bool:
        """Whether another process has committed since the last call. Called on a writer thread only."""
        return False


class SchedulerHost(Protocol):
    """What a scheduler may ask of the engine that runs it."""

    @property
    def clock(self) -> Clock:
        """Engine time."""
        ...

    @property
    def lease(self) -> float:
        """Seconds that a claim lasts without renewal: also how long a dead process's waits may go unwatched."""
        ...

    @property
    def notices(self) -> bool:
        """Whether ``listen`` tells of other processes' commits; where it does not, only looking does."""
        ...

    async def wake(self, record: Record, reason: WakeReason, *, pending: Sequence[str] = ()) -> None:
        """Claim a suspended row and run it here, now or as soon as there is a free place.

        Returns once it is claimed, refused for good (another process was first), or queued.

        Raises:
            StoreUnavailableError: Nothing is known of the claim; wake it again.
        """
        ...

    async def hand_back(self, records: Sequence[Record]) -> None:
        """Make these waits due at once, so that another process watches them; best effort."""
        ...

    async def unfinished(self, names: Sequence[str]) -> set[str]:
        """Those of the client's own operations that have not ended, read in one go with everybody else's."""
        ...

    def has_service(self, name: str) -> bool:
        """Whether this process has the foreign service of this name."""
        ...

    async def poll(
        self, service: str, names: Sequence[str], *, until: float | None = None
    ) -> list[operations_pb2.Operation]:
        """Operations of a foreign service, in the order asked for; a missing one is done with NOT_FOUND.

        Args:
            service: The service's name.
            names: The operations' names.
            until: Epoch seconds at which a service that does not answer is given up; in the past: no such bound.

        Raises:
            Exception: Whatever the service raised for anything else.
        """
        ...

    def listen(self, commit: Callable[[str, Record | None], None], elsewhere: Callable[[], None]) -> Callable[[], None]:
        """Hear of every row that this process commits, and that another process committed something.

        Returns the undo.
        """
        ...


class Scheduler(Protocol):
    """Brings suspended rows back at their time. A hint only: the rows are the truth, and a sweep repairs a loss.

    Every method may be called again with the same row, in any process, at any time after the first.
    """

    local: bool
    """True where the wake-up happens in this process and ``start`` should run the operation here."""
    horizon: float
    """Seconds after a hand-over at which a sweep looks whether it was lost."""

    async def open(self, host: SchedulerHost) -> None:
        """Called once before anything else, on the event loop of the client."""
        ...

    async def close(self) -> None:
        """Let go; what was scheduled stays scheduled where it outlives the process."""
        ...

    async def schedule(self, record: Record) -> str | None:
        """Take the wait of a row that was just committed, or that a sweep found due.

        Returns:
            The scheduler's handle for the wait, "" for none: the engine notes the hand-over in the row, which the sweep
            then leaves alone for ``horizon`` seconds. None where there is nothing to note.

        Raises:
            SchedulerUnavailableError: It did not take it. The row stays, and the sweep hands it over again.
        """
        ...

    async def cancel(self, record: Record) -> None:
        """Forget the wait with ``record.schedule_handle``, best effort: a wake-up that comes all the same is harmless.

        Raises:
            SchedulerUnavailableError: It did not answer.
        """
        ...


@runtime_checkable
class OperationsService(Protocol):
    """A service whose operations can be waited for.

    ``GetOperationStub``, the form of a gRPC stub, is taken wherever this is.
    """

    def get_operation(self, name: str, /) -> Awaitable[operations_pb2.Operation]:
        """The operation as it is now."""
        ...


@runtime_checkable
class GetOperationStub(Protocol):
    """The stub that grpc generates for ``google.longrunning.Operations``, or for any service with such a method."""

    GetOperation: Callable[..., Awaitable[Any]]


class Clock(Protocol):
    """Engine time: epoch seconds, and a way to wait for them. Tests drive it by hand."""

    def time(self) -> float:
        """Now, in epoch seconds."""
        ...

    def call_at(self, when: float, callback: Callable[[], None]) -> Callable[[], None]:
        """Call ``callback`` on the running event loop once ``time()`` has reached ``when``; returns a cancel."""
        ...

    def every(self, interval: float, tick: Callable[[], None]) -> Callable[[], None]:
        """Call ``tick`` every ``interval`` seconds, off the event loop; returns a function that stops it.

        The function returns once no call is under way. ``tick`` must not raise.
        """
        ...

    def attach(self, settle: Callable[[], Awaitable[None]]) -> Callable[[], None]:
        """Register an engine's "return when you are idle", for a clock that is driven; returns the undo."""
        ...
