"""The seams of the engine: what a store, a scheduler, a remote service and a clock must do.

The docstrings are the contracts. ``lro_aio.testing`` ships suites that test an implementation against them.
"""

from __future__ import annotations

import abc
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from google.longrunning import operations_proto_pb2 as operations_pb2

from lro_aio.core.change import Change, Outcome
from lro_aio.core.errors import StoreSchemaError
from lro_aio.core.journal import Entry
from lro_aio.core.queues import InLine, QueueStatus, QueueTerms
from lro_aio.core.quick import dataclass
from lro_aio.core.record import Record, State, WakeReason

if TYPE_CHECKING:
    from lro_aio.core.stats import Stats

__all__ = [
    "Clock",
    "GetOperationStub",
    "ListQuery",
    "Look",
    "OperationsService",
    "Route",
    "Scheduler",
    "SchedulerHost",
    "StatsQuery",
    "Store",
]

Route = tuple[str, str | None]
"""A (handler, resume point) that a process can run. ("", "") stands for rows that their creators drive, (handler, None)
for every resume point of the handler."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListQuery:
    """One page of a list, newest first: ``create_time`` descending, then ``name`` ascending.

    Every condition that is not None must hold. A page never has deleted rows, or rows whose ``expire_time`` is at or
    before ``now``.
    """

    now: float
    limit: int
    parent: str | None = None
    """The part of the name before ``/operations/``; "" for none. None: any."""
    done: bool | None = None
    states: frozenset[State] | None = None
    handler: str | None = None
    parent_operation: str | None = None
    paused: bool | None = None
    created_from: float | None = None
    """Epoch seconds, inclusive."""
    created_to: float | None = None
    """Epoch seconds, inclusive."""
    after: tuple[float, str] | None = None
    """(create_time, name) of the last row of the previous page."""
    max_bytes: int | None = None
    """The page may end before ``limit``, at the row with which the sizes (``Record.size``) come to so many bytes."""
    outline: bool = False
    """Whether the rows come without their payloads, as ``Record.outline`` makes them."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a sweep learns from one scan, in one round trip."""

    due: list[Record]
    """The rows that are due now, soonest first, without their payloads: ``Record.outline``."""
    next_check: float | None = None
    """Epoch seconds: the least ``check_time`` after now among the routes' rows. None: no row has one."""
    unknown: Route | None = None
    """A route that was not asked for, and whose rows have waited too long."""
    dead: frozenset[str] = frozenset()
    """Owners of rows in ``due`` of whom it is certain that they are dead and begin no write any more. Their leases are
    over, whatever their time."""
    called: Sequence[tuple[Record, str]] = ()
    """Of ``Store.line``: rows that run or are suspended, each with the step of it that may have a place now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatsQuery:
    """How far ``Store.stats`` counts."""

    now: float
    """Epoch seconds."""
    most: int = 10_000
    """No number goes beyond it: ``Count.more`` says then that there are more."""
    failures: int = 1_000
    """Of so many of the newest failed rows, the errors are read."""


class Store(abc.ABC):
    """Keeps rows and applies changes to them. Blocking, and callable from any thread.

    Construction does no I/O. Every method may raise ``StoreUnavailableError``; the same call may then be repeated. A
    store has a deadline of its own, and never blocks for longer.
    """

    url: str
    """For people: where the rows are. Holds no secret."""

    lanes: int = 1
    """How many threads can usefully call ``apply`` at a time. The engine never has one row in two of them."""

    foreign_poll_interval: float | None = None
    """Seconds between calls of ``changed_elsewhere``; None where the store cannot tell, so that readers must poll.

    Which of the two it is must be known before the store is open; how many seconds, once it is joined.
    """

    ordered_names: bool = False
    """Whether the store works best with names that rise with time: one b-tree does, ranges on many machines do not."""

    expires_rows: bool = False
    """Whether the product removes expired rows by itself. If so, the engine never calls ``purge``."""

    clock_offset: float = 0.0
    """Seconds by which the store's clock is ahead of this machine's, as last measured. 0.0 where they are the same."""

    keeps_journal: bool = True
    """Whether it has a journal, and rows a trail, pauses and deadlines. Known once the store is open.

    Where it has none, rows come back without the fields in ``core.record.LATER``, and a change that appends is refused
    with ``StoreSchemaError``, which says what to do; the engine then asks for no pause and no deadline.
    """

    no_journal_reason: str = ""
    """For people: why it has none, and what to do about it."""

    no_queues_reason: str = "it is of a kind that has none"
    """For people: why it has no queues, and what to do about it. "" where it has: what is in line is then told by
    ``line``, and ``apply`` asks ``core.queueing.Places``. Known once the store is open."""

    max_row: int | None = None
    """Most bytes of payload in one row: state, metadata and response together. None: no limit."""

    max_wait: float | None = None
    """Seconds after which a retention policy that is not the engine's may remove a waiting row. None: never.

    Known once the store is open.
    """

    max_wait_reason: str = ""
    """For people: what would remove the row, and what to do about it."""

    @abc.abstractmethod
    def open(self) -> None:
        """Connect, and create or upgrade the schema where the store does that by itself.

        Raises:
            StoreSchemaError: The schema is missing, newer than this code, or not ours.
        """

    def join(self, owner: str, heard: Callable[[], None]) -> None:  # noqa: B027 (most stores have no such hints)
        """Let other processes know that this one lives, and hear of their commits as they happen. Best effort.

        Called once after ``open``, before this process holds anything, where it is a client's store. It raises nothing:
        where nobody can be known, leases and polls are enough.

        Args:
            owner: The name under which this process will hold rows. It is never used again by another one.
            heard: To be called, on any thread, when another process says that it has committed.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Release everything within a second. May be called twice."""

    @abc.abstractmethod
    def read(self, names: Sequence[str]) -> list[Record]:
        """The rows with these names, in any order, in one round trip. Missing ones are left out.

        Deleted and expired rows are returned for as long as they are stored: the engine hides them. Each row reflects
        every change whose ``apply`` returned before this call. A row that cannot be
        decoded is returned as an ``UnreadableRecord``, so that the others reach their readers.
        """

    @abc.abstractmethod
    def apply(self, changes: Sequence[Change]) -> list[Outcome]:
        """Apply changes in order, and return their outcomes in the same order.

        Each change is called with its row as the changes before it left it. A change that raises is refused alone: its
        exception is its outcome, and the others commit. What is returned is durable: it survives the process and, as
        far as the product can promise it, the machine.

        All changes are one transaction, unless conflicts with other processes keep that from committing. The store may
        then divide the batch, but never the changes of one row: each part is a transaction of its own, and the error
        of a part is the outcome of its changes.

        A change may make rows besides its own, the deliveries of webhooks: ``core.change.run`` leaves them among the
        rows, to be written with it.

        What a change appends to the journal is committed with its row, or not at all. An entry whose (uid, kind, key)
        is stored already is left as it is; ``core.journal.Appending`` decides which are new, and numbers them. Entries
        disappear with their row, whatever removes it.

        Raises:
            StoreUnavailableError: It is not known whether any change was committed. A transaction that conflicts until
                the store's deadline ends so too.
            Exception: Any other error means that nothing was committed, and that the same batch would be refused again;
                the engine then bisects it to find the change that is to blame.
        """

    @abc.abstractmethod
    def journal(self, names: Sequence[str], kinds: Collection[str] | None = None) -> dict[str, list[Entry]]:
        """The journals of these rows, each in the order of its numbers. Names without entries are absent.

        One round trip. Journals of deleted and expired rows are returned for as long as the rows are stored.

        Args:
            names: Of the operations.
            kinds: Only entries of these kinds; None: all.
        """

    @abc.abstractmethod
    def unfinished(self, names: Sequence[str]) -> set[str]:
        """The names whose rows exist, are not deleted and have not ended. One round trip, no payloads."""

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
        """Scan for the rows that are due, and for the time of the next scan. One round trip.

        Args:
            now: Epoch seconds.
            routes: The (handler, resume_point) pairs that this process runs; None as the point stands for all of the
                handler's. Rows of other routes do not count in ``limit`` (rule 14).
            limit: Most rows to return. 0 returns no row, but the rest of the answer.
            owner: The process that asks. The rows that it holds are left out of the whole answer, since it renews
                them. "" holds none.
            own: Return also the rows that ``owner`` holds, where they are due. They still do not count in
                ``next_check``.
            overdue: Epoch seconds, at most ``now``. Find also a route that is not in ``routes`` and has a row due at
                or before this moment. None: do not.

        Returns:
            ``due``: the rows whose ``check_time`` is at or before ``now``, soonest first. Before them, those that run
            and whose owner is certain to be dead (``dead``), whatever their ``check_time``. They come without their
            payloads (``Record.outline``): most are not for the process that asks, and hundreds of them would fill its
            memory. A row that another program
            ended, and that has no ``expire_time`` yet, is due at once and for every process, whatever its route.
            ``next_check``: the least ``check_time`` after ``now``; a due row that ``limit`` cuts off does not count in
            it. ``unknown``: any one such route; None where there is none.
        """

    @abc.abstractmethod
    def list(self, query: ListQuery) -> list[Record]:
        """One page of rows."""

    @abc.abstractmethod
    def purge(self, *, now: float, limit: int) -> int:
        """Remove up to ``limit`` rows that are past their ``expire_time``; return how many were removed."""

    def stats(self, query: StatsQuery) -> Stats | None:  # noqa: ARG002 (for those who can tell)
        """How it goes with all rows that are not deleted: counts by handler and state, what is due, what has failed.

        A number is exact up to ``query.most``, or a lower bound that says so (``Count.more``). Its cost is bounded by
        ``most`` and the number of handlers, and not by the number of rows. Rows past their ``expire_time`` may count
        until they are removed. ``unserved`` is left to the caller.

        ``due`` has one entry for each (handler, resume point) with a row whose ``check_time`` is at or before ``now``,
        whoever holds it, the oldest first; ``running`` all rows that are RUNNING. ``failures`` are of FAILED rows
        alone, of some of those that were created last.

        Returns:
            None where the store cannot tell.
        """
        return None

    def line(self, *, now: float, routes: Sequence[Route], limit: int) -> Look:  # noqa: ARG002 (for those that have)
        """Who is next in the queues: PENDING rows that may be claimed now. One round trip where there is no place.

        Args:
            now: Epoch seconds.
            routes: What this process runs, as for ``look``: others are not in its way.
            limit: Most rows to return.

        Returns:
            ``due`` and ``called``: of each queue, as many of its first READY tickets as there are places, as outlines;
            a claim may be refused all the same. Left out are those that a scheduler has, and what is paused.
            ``next_check``: when there will be more without anybody giving back a place: a rate, or the end of a rest.
            Its cost grows with the queues and the places, never with the line.

        Raises:
            StoreSchemaError: It has no queues.
        """
        raise StoreSchemaError(f"{self.url} has no queues: {self.no_queues_reason}")

    def queues(
        self,
        *,
        now: float,  # noqa: ARG002 (for those that have any)
        names: Sequence[str] | None = None,  # noqa: ARG002
    ) -> Sequence[QueueStatus]:
        """How it goes with the queues, by name; those of ``names`` alone where it is given.

        Raises:
            StoreSchemaError: It has no queues.
        """
        raise StoreSchemaError(f"{self.url} has no queues: {self.no_queues_reason}")

    def in_line(self, name: str, uid: str, *, now: float) -> Sequence[InLine]:  # noqa: ARG002 (for those who can tell)
        """Where an operation and its steps stand in queues: some of them, those that wait first.

        Its cost is bounded, as that of ``queues``: who stands before one is counted up to ``MOST_COUNTED``.

        Args:
            name: The operation's.
            uid: Another operation may have had its name before.
            now: Epoch seconds.

        Returns:
            Nothing where it stands in no queue, or where the store cannot tell.
        """
        return ()

    def change_queue(
        self,
        name: str,  # noqa: ARG002 (for those that have any)
        change: Callable[[QueueTerms], QueueTerms],  # noqa: ARG002
    ) -> tuple[QueueTerms, QueueTerms]:
        """Change what holds of a queue, in one transaction, and tell other processes as of a commit.

        What waits is then judged by the new bounds. Of a queue that is not known, ``change`` gets empty terms.

        Returns:
            What held before, and what holds now.

        Raises:
            StoreSchemaError: It has no queues.
        """
        raise StoreSchemaError(f"{self.url} has no queues: {self.no_queues_reason}")

    def changed_elsewhere(self) -> bool:
        """Whether another process has committed, or was found to have died, since the last call.

        Called on a writer thread only. It blocks nobody, and may be told of a commit a moment later than the commit's
        readers.
        """
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
        """Whether ``listen`` reports other processes' commits; where it does not, only polling finds them."""
        ...

    async def wake(self, record: Record, reason: WakeReason, *, pending: Sequence[str] = ()) -> None:
        """Claim a suspended row and run it here, now or as soon as a slot is free.

        Returns once the row is claimed, refused for good (another process was first), or queued.

        Raises:
            StoreUnavailableError: It is not known whether the row was claimed; wake it again.
        """
        ...

    async def hand_back(self, records: Sequence[Record]) -> None:
        """Make these waits due at once, so that another process watches them. Best effort."""
        ...

    async def unfinished(self, names: Sequence[str]) -> set[str]:
        """Which of these operations of the client itself have not ended. One read serves all callers of the moment."""
        ...

    def has_service(self, name: str) -> bool:
        """Whether this process has the remote service of this name."""
        ...

    async def poll(
        self, service: str, names: Sequence[str], *, until: float | None = None
    ) -> list[operations_pb2.Operation]:
        """Operations of a remote service, in the order of ``names``; a missing one is done with NOT_FOUND.

        Args:
            service: The service's name.
            names: The operations' names.
            until: Epoch seconds at which to give up on a service that does not answer; a time in the past is no bound.

        Raises:
            Exception: What the service raised, unless it said that an operation is missing.
        """
        ...

    def listen(self, commit: Callable[[str, Record | None], None], elsewhere: Callable[[], None]) -> Callable[[], None]:
        """Call ``commit`` for every row that this process commits, and ``elsewhere`` after another process's commits.

        Returns a function that unregisters both.
        """
        ...


class Scheduler(Protocol):
    """Wakes suspended rows when their time comes. A wake-up is a hint: the rows are the truth, a sweep repairs a loss.

    What there is to do for a row's wait, ``record.wait.plan(now)`` tells.

    One that hears by itself of the ends of children may have ``watches(name) -> bool``: whether it will wake this
    operation without being told. The end of a child is not pushed to it then.

    Every method may be called again with the same row, in any process, at any time after the first call.
    """

    local: bool
    """True where the wake-up happens in this process and ``start`` should run the operation here."""
    horizon: float
    """Seconds after a hand-over at which a sweep checks whether it was lost."""

    async def open(self, host: SchedulerHost) -> None:
        """Called once before anything else, on the event loop of the client."""
        ...

    async def close(self) -> None:
        """Release everything. Wake-ups stay scheduled where the scheduler outlives the process."""
        ...

    async def schedule(self, record: Record) -> str | None:
        """Take over the wait of a row that was just committed, or that a sweep found due.

        Returns:
            The scheduler's handle for the wait, "" for none: the engine notes the hand-over in the row, and the sweep
            then leaves the row alone for ``horizon`` seconds. None where there is nothing to note.

        Raises:
            SchedulerUnavailableError: The scheduler did not accept the wait. The row is safe: the sweep hands it over
                again.
        """
        ...

    async def cancel(self, record: Record) -> None:
        """Forget the wait with ``record.schedule_handle``. Best effort: a wake-up that comes anyway is harmless.

        Raises:
            SchedulerUnavailableError: The scheduler did not answer.
        """
        ...


@runtime_checkable
class OperationsService(Protocol):
    """A service whose operations can be waited for.

    A ``GetOperationStub``, which has the form of a gRPC stub, is accepted wherever this is.
    """

    def get_operation(self, name: str, /) -> Awaitable[operations_pb2.Operation]:
        """The operation as it is now."""
        ...


@runtime_checkable
class GetOperationStub(Protocol):
    """The stub that grpc generates for ``google.longrunning.Operations``, or for any service with such a method."""

    GetOperation: Callable[..., Awaitable[Any]]


class Clock(Protocol):
    """Engine time: the time of day for what is stored, monotonic time for durations. Tests drive both by hand."""

    def time(self) -> float:
        """Now, in epoch seconds. It may be set forward or back."""
        ...

    def monotonic(self) -> float:
        """Seconds since an arbitrary moment. They only rise, and cannot be set."""
        ...

    def call_at(self, when: float, callback: Callable[[], None]) -> Callable[[], None]:
        """Call ``callback`` on the running event loop once ``time()`` reaches ``when``; returns its undo.

        A clock that is set forward makes the call come sooner. One that is set back does not make it come later than it
        would have come otherwise.
        """
        ...

    def call_later(self, delay: float, callback: Callable[[], None]) -> Callable[[], None]:
        """Call ``callback`` on the running event loop after ``delay`` seconds of monotonic time; returns its undo."""
        ...

    def every(self, interval: float, tick: Callable[[], None]) -> Callable[[], None]:
        """Call ``tick`` every ``interval`` seconds, off the event loop; returns a function that stops it.

        That function returns once no call is under way. ``tick`` must not raise.
        """
        ...

    def attach(self, settle: Callable[[], Awaitable[None]]) -> Callable[[], None]:
        """Register a function that returns once an engine is idle, for a clock that is driven; returns the undo."""
        ...
