"""``Client``: puts store, scheduler, handlers and clock together, and owns their life cycle."""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, Unpack, overload

from google.protobuf.message import Message

from lro_aio._missing import needs
from lro_aio.core.logs import event
from lro_aio.core.moments import Observer
from lro_aio.core.policies import (
    Duration,
    LeasePolicy,
    Limits,
    RetentionPolicy,
    SweepPolicy,
    seconds,
    whole,
)
from lro_aio.core.record import WakeReason
from lro_aio.core.results import unmarshal_operation
from lro_aio.core.webhooks import Webhook
from lro_aio.engine import bulk
from lro_aio.engine.children import Service, as_service
from lro_aio.engine.controls import Controls
from lro_aio.engine.engine import Engine
from lro_aio.engine.handlers import HandlerFunction, HandlerOptions, Handlers, Register, RegisterAs, Registered
from lro_aio.engine.life import NeverOpenedError
from lro_aio.engine.lookups import Lookups
from lro_aio.engine.operation import Operation
from lro_aio.engine.seeing import Seeing
from lro_aio.engine.settings import Settings, check_row
from lro_aio.engine.starting import StartOptions
from lro_aio.engine.suspension import Suspended
from lro_aio.engine.timing import SystemClock
from lro_aio.ports import Clock, Scheduler, Store
from lro_aio.schedulers.local import LocalScheduler
from lro_aio.stores import open_url
from lro_aio.telemetry import checked, chosen

if TYPE_CHECKING:
    from lro_aio.core.schedules import Schedule
    from lro_aio.engine.serving import ServerHost
    from lro_aio.webhooks import Webhooks

__all__ = ["Client"]

logger = logging.getLogger("lro_aio")

S = TypeVar("S")
O = TypeVar("O")  # noqa: E741 (the operation's type)
R = TypeVar("R")
M = TypeVar("M", bound=Message)
N = TypeVar("N", bound=Message)


class Client(Controls, bulk.Bulk, Lookups, Seeing):
    """Starts, runs and watches long-running operations over one store.

    Constructing one does no I/O; ``async with client:`` opens it, and leaving the block drains and closes it. It can be
    opened again then, in another event loop too. While it is open, it belongs to the event loop that opened it, and is
    not safe for use from other threads. One that is constructed before a fork may be opened in each process; one that
    was opened before the fork refuses.

    Args:
        store: A URL (``sqlite:///relative.db``, ``sqlite:////absolute.db``, ``sqlite://`` in memory,
            ``postgresql://...``, ``spanner://...``, or that of another package's store) or a ``Store``.
        scheduler: Wakes suspended operations. Default: this process does (``LocalScheduler``).
        handlers: Registries of the handlers that can run here, or a single one.
        worker: False for a front end that starts, watches and cancels operations, but runs none. It may start handlers
            that it does not know.
        dispatch: Where a first run happens: "local" in this process, "scheduler" through a wake-up of the scheduler.
            Default: "local" with a local scheduler, else "scheduler".
        services: Remote services by name, for ``wait(service=...)`` and ``suspend(service=...)``.
        max_running: Most handlers that run at a time.
        lease: How long a claim lasts.
        sweep: The repair pass.
        retention: How long finished operations are kept.
        limits: Payload sizes and page bounds.
        max_attempts: Claims of one segment that may end in a crash before the operation fails.
        drain_timeout: Seconds that running handlers get when the client closes, before they are left to another
            process.
        expose_errors: Whether clients see the text of exceptions that are not this package's.
        linger: How long a durable wait (``op.receive``, ``op.sleep``, ``op.call``, ``op.join``) holds its process
            before the operation is suspended, where nothing but waits is left in its handler.
        resources: What handlers get as ``op.resources``: pools, HTTP clients.
        pause_on_failure: What ``handler(pause_on_failure=)`` is where a handler says nothing of it.
        observers: Told what happens here: see ``Observer``.
        schedules: What is started again and again: see ``Schedule``.
        telemetry: Whether OpenTelemetry gets spans and metrics, where it is installed; or a ``Telemetry``.
        webhooks: Whom operations may tell of their ends, and how. Needs the extra ``http``.
        clock: For tests.

    Raises:
        ValueError: A malformed URL or option, or ``limits`` that allow more than a row of the store can hold.
        TypeError: ``store`` is not a store, or a policy is of another type than its option needs.
    """

    def __init__(
        self,
        store: str | Store = "sqlite:///operations.db",
        *,
        scheduler: Scheduler | None = None,
        handlers: Iterable[Handlers] | Handlers = (),
        worker: bool = True,
        dispatch: Literal["local", "scheduler"] | None = None,
        services: Mapping[str, Service] | None = None,
        max_running: int = 256,
        lease: LeasePolicy | None = None,
        sweep: SweepPolicy | None = None,
        retention: RetentionPolicy | None = None,
        limits: Limits | None = None,
        max_attempts: int = 5,
        drain_timeout: Duration = 7,
        expose_errors: bool = False,
        linger: Duration = 1.0,
        resources: Any = None,
        pause_on_failure: bool = False,
        observers: Iterable[Observer] = (),
        schedules: Iterable[Schedule] = (),
        telemetry: bool | Observer = True,
        webhooks: Webhooks | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.store = open_url(store) if isinstance(store, str) else store
        if not isinstance(self.store, Store):
            raise TypeError(f"store must be a URL or a Store, not {type(store).__name__}")
        self.scheduler: Scheduler = scheduler if scheduler is not None else LocalScheduler()
        self._declared = tuple(schedules)
        self.handlers = Handlers()
        given = [handlers] if isinstance(handlers, Handlers) else handlers
        for registry in (bulk.handlers, *given):
            self.handlers.include(registry)
        if self._declared:
            from lro_aio.engine.schedule_runs import handlers_of

            self.handlers.include(handlers_of(self._declared))
        if dispatch not in (None, "local", "scheduler"):
            raise ValueError(f'dispatch must be "local" or "scheduler", not {dispatch!r}')
        for name, value in (("max_running", max_running), ("max_attempts", max_attempts)):
            whole(value, name)
        _check_policies(lease=lease, sweep=sweep, retention=retention, limits=limits)
        bounds = limits if limits is not None else Limits()
        check_row(self.store, bounds)
        if webhooks is not None:
            from lro_aio.webhooks import installed

            webhooks = installed(webhooks, self.handlers, self.scheduler, max_running)
        self._settings = Settings(
            worker=worker,
            dispatch=dispatch if dispatch is not None else ("local" if self.scheduler.local else "scheduler"),
            max_running=max_running,
            lease=lease if lease is not None else LeasePolicy(),
            sweep=sweep if sweep is not None else SweepPolicy(),
            retention=retention if retention is not None else RetentionPolicy(),
            limits=bounds,
            max_attempts=max_attempts,
            drain_timeout=seconds(drain_timeout, "drain_timeout"),
            expose_errors=expose_errors,
            linger=seconds(linger, "linger"),
            resources=resources,
            pause_on_failure=pause_on_failure,
            observers=tuple(observers),
            webhooks=webhooks,
        )
        self._telemetry = checked(telemetry)
        self.clock: Clock = clock if clock is not None else SystemClock()
        """Engine time."""
        self._services = {name: as_service(service) for name, service in (services or {}).items()}
        self._engine: Engine | None = None

    @classmethod
    def from_env(
        cls,
        *,
        project: str | None = None,
        location: str | None = None,
        resume_host: str | None = None,
        table: str | None = None,
        workflow: str | None = None,
        spanner_project: str | None = None,
        instance: str | None = None,
        database: str | None = None,
        **options: Any,
    ) -> Self:
        """A client on Spanner and Cloud Workflows, from the environment variables of the Go package.

        An argument overrides its variable.

        Args:
            project: Project of the workflow; ``ALIS_OS_PROJECT``.
            location: Its region; ``ALIS_REGION``.
            resume_host: URL at which the resume endpoints are served; without it,
                ``https://internal-gateway-{ALIS_RUN_HASH}.run.app``.
            table: Table of the operations; without it, the project's name with ``_`` for ``-``, and ``_Operations``.
            workflow: Id of the workflow; "lro-aio" without it.
            spanner_project: Project of the database; ``ALIS_MANAGED_SPANNER_PROJECT``.
            instance: Spanner instance; ``ALIS_MANAGED_SPANNER_INSTANCE``.
            database: Its database; ``ALIS_MANAGED_SPANNER_DB``.
            **options: The other arguments of ``Client``.

        Raises:
            ValueError: An argument and its variable are both missing, or one is malformed. It names all that are
                missing.
            ImportError: An extra is missing: ``lro-aio[spanner,workflows]``.
        """
        wanted = {
            "project": (project, "ALIS_OS_PROJECT"),
            "location": (location, "ALIS_REGION"),
            "resume_host": (resume_host, "ALIS_RUN_HASH"),
            "spanner_project": (spanner_project, "ALIS_MANAGED_SPANNER_PROJECT"),
            "instance": (instance, "ALIS_MANAGED_SPANNER_INSTANCE"),
            "database": (database, "ALIS_MANAGED_SPANNER_DB"),
        }
        found = {name: given or os.environ.get(variable, "") for name, (given, variable) in wanted.items()}
        missing = [f"{name} (or {wanted[name][1]})" for name, value in found.items() if not value]
        if missing:
            raise ValueError(f"Client.from_env needs {', '.join(missing)}")
        try:
            from lro_aio.schedulers.workflows import WorkflowsScheduler
            from lro_aio.stores.spanner import SpannerStore
        except ImportError as exc:
            raise needs("Client.from_env", "spanner,workflows") from exc
        store = SpannerStore(
            project=found["spanner_project"],
            instance=found["instance"],
            database=found["database"],
            table=table or f"{found['project'].replace('-', '_')}_Operations",
        )
        scheduler = WorkflowsScheduler(
            project=found["project"],
            location=found["location"],
            workflow=workflow or "lro-aio",
            resume_host=resume_host or f"https://internal-gateway-{found['resume_host']}.run.app",
        )
        return cls(store, scheduler=scheduler, **options)

    async def __aenter__(self) -> Self:
        """Open store, worker and scheduler.

        Raises:
            StoreSchemaError: The store is not one that can be used.
            StoreUnavailableError: It does not answer.
            ClockSkewError: Its clock and this machine's differ by more than a quarter of the lease.
            RuntimeError: It is open already, or was opened by the process that this one was forked from.
            UnknownHandlerError: A schedule's handler is not registered.
            StateCodecError: A schedule's state cannot be encoded. It names the field.
        """
        if self._engine is not None and self._engine.life.begun and not self._engine.life.closed:
            self._engine.life.check_open()  # on another loop, or in a process that was forked: says what to do
            raise RuntimeError("the client is open already")
        definitions = {}
        if self._declared:
            from lro_aio.engine.schedule_runs import defined

            definitions = defined(self._declared, self.handlers, worker=self._settings.worker)
        self._engine = Engine(
            self,
            self.store,
            self.scheduler,
            self.handlers,
            self.clock,
            self._settings.for_a_life(chosen(self._telemetry)),
            self._services,
        )
        await self._engine.open()
        if definitions:
            from lro_aio.engine.declaring import Declarations

            await Declarations(self._engine, definitions).begin()
        if self.scheduler.local and self._settings.worker and os.environ.get("K_SERVICE"):
            logger.warning(
                "this runs on Cloud Run with a local scheduler: background work is frozen between requests, unless CPU"
                " is always allocated (--no-cpu-throttling) and --min-instances is 1 or more; pass"
                " Client(scheduler=WorkflowsScheduler(...)) to run handlers inside requests",
                extra=event("local_scheduler_on_cloud_run"),
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Drain and close; what still runs is released for other processes. May be called twice."""
        if self._engine is not None:
            await self._engine.close()

    async def drain(self, timeout: Duration | None = None) -> None:
        """Take no more work, and let the runs end. Call it on SIGTERM, while the server still answers.

        Args:
            timeout: Seconds that the handlers get; None takes ``drain_timeout``.
        """
        await self.engine.drain(None if timeout is None else seconds(timeout, "timeout"))

    @property
    def engine(self) -> Engine:
        """The present life of the client, or its last one; raises ``NeverOpenedError`` before. For the engine."""
        if self._engine is None:
            raise NeverOpenedError
        return self._engine

    @property
    def is_open(self) -> bool:
        """Whether it takes calls: after ``async with`` has begun, and before it has ended."""
        return self._engine is not None and self._engine.life.begun and not self._engine.life.closed

    @property
    def expose_errors(self) -> bool:
        """Whether clients see the text of exceptions that are not this package's."""
        return self._settings.expose_errors

    @property
    def server_host(self) -> ServerHost:
        """What servers need from the client, besides the methods here. For the engine."""
        return self.engine.server_host

    @overload
    def handler(self, name: Callable[[O], Coroutine[Any, Any, Suspended]]) -> Registered[O, Any]: ...

    @overload
    def handler(self, name: Callable[[O], Coroutine[Any, Any, R | Suspended]]) -> Registered[O, R]: ...

    @overload
    def handler(
        self, name: str | None = None, *, response: type[R], **options: Unpack[HandlerOptions]
    ) -> RegisterAs[R]: ...

    @overload
    def handler(
        self, name: str | None = None, *, response: Any = None, **options: Unpack[HandlerOptions]
    ) -> Register: ...

    def handler(
        self, name: str | Callable[[Any], Coroutine[Any, Any, Any]] | None = None, **options: Any
    ) -> Registered[Any, Any] | Register | RegisterAs[Any]:
        """Register a handler with this client alone; see ``Handlers.handler``."""
        return self.handlers.handler(name, **options)

    @overload
    async def start(
        self,
        handler: Callable[[Operation[S]], Awaitable[R | Suspended]],
        state: S | None = None,
        **options: Unpack[StartOptions],
    ) -> Operation[S, R]: ...

    @overload
    async def start(self, handler: str, state: Any = None, **options: Unpack[StartOptions]) -> Operation[Any]: ...

    async def start(
        self,
        handler: str | HandlerFunction,
        state: Any = None,
        *,
        metadata: Message | None = None,
        request_id: str | None = None,
        operation_id: str | None = None,
        parent: str = "",
        fingerprint: str | bytes | Message | None = None,
        traceparent: str = "",
        deadline: Duration | None = None,
        webhook: Webhook | None = None,
        queue_key: str | None = None,
        priority: int | None = None,
    ) -> Operation[Any]:
        """Start an operation. Returns once it is durable; the handler runs in the background.

        Args:
            handler: The handler's name, or the decorated function.
            state: The initial state. None stores none: the handler gets one with the state type's defaults, or None
                where the type allows it.
            metadata: What clients see while the operation runs.
            request_id: The caller's id for the request (AIP-155), 1 to 128 printable ASCII characters; "" is none. A
                repeat with the same id returns the same operation, for as long as it is kept.
            operation_id: The last segment of the name; repeats are handled as with ``request_id``.
            parent: Resource prefix, such as ``projects/p/locations/l``; "" and "operations" are the same.
            fingerprint: What makes two requests the same, where that is not the state.
            traceparent: W3C trace context of the caller's request; ``op.traceparent`` in each segment, and in children.
            deadline: Seconds or a timedelta after which it fails with DEADLINE_EXCEEDED if it has not ended, waits
                included. None: what the handler declares.
            webhook: Who is told of its end; ``Client(webhooks=...)`` says who may be. A repeat changes nothing of it.
            queue_key: In the handler's queue, those of one key share what it allows each key. 1 to 256 printable
                characters. None: what the handler's ``queue_key`` says.
            priority: In that queue, lower ones come first. None: 0.

        Returns:
            The operation, in the hands of a visitor: ``op.proto`` is what a service method returns.

        Raises:
            UnknownHandlerError: The handler is not registered, and this client is a worker.
            StateCodecError: The state cannot be encoded, or would be read back as something else. It names the field.
            PayloadTooLargeError: State, metadata, ``traceparent`` or the handler's name is over its limit.
            OperationAlreadyExistsError: The id stands for another request.
            ValueError: ``request_id``, ``operation_id``, ``queue_key`` or the handler's name is malformed, its
                ``queue_key`` fails, or the webhook is not allowed, which servers answer with INVALID_ARGUMENT; or both
                ids are given, or ``queue_key`` or ``priority`` for a handler that has no queue.
            InvalidOperationNameError: ``parent`` is malformed.
            StoreSchemaError: A deadline, a webhook or a handler with a queue, and the store's tables have none.
            StoreUnavailableError: It is not known whether the operation was started. With a ``request_id``, the call
                may safely be repeated.
        """
        holding = await self.engine.starter.start(
            handler,
            state,
            metadata=metadata,
            request_id=request_id,
            operation_id=operation_id,
            parent=parent,
            fingerprint=fingerprint,
            traceparent=traceparent,
            deadline=deadline,
            webhook=webhook,
            queue_key=queue_key,
            priority=priority,
        )
        return Operation(holding)

    async def create(
        self,
        metadata: Message | None = None,
        *,
        lease: bool = True,
        request_id: str | None = None,
        operation_id: str | None = None,
        parent: str = "",
        fingerprint: str | bytes | Message | None = None,
        traceparent: str = "",
        state: Any = None,
        webhook: Webhook | None = None,
    ) -> Operation[Any]:
        """Create an operation without a handler: the caller drives it, with ``done``, ``fail`` and ``set_metadata``.

        Args:
            metadata: What clients see while the operation runs.
            lease: Whether this process answers for it: if the process dies, the operation fails with ABORTED. False:
                it is driven from outside, by any caller that has its name, and is never swept.
            request_id: As in ``start``. A repeat returns the operation in the hands of a visitor.
            operation_id: As in ``start``.
            parent: As in ``start``.
            fingerprint: As in ``start``.
            traceparent: As in ``start``.
            state: Type of ``op.state``, for ``op.save()``.
            webhook: As in ``start``.

        Raises:
            The errors of ``start``.
        """
        holding = await self.engine.starter.create(
            metadata=metadata,
            lease=lease,
            request_id=request_id,
            operation_id=operation_id,
            parent=parent,
            fingerprint=fingerprint,
            traceparent=traceparent,
            state=state,
            webhook=webhook,
        )
        return Operation(holding)

    @overload
    async def operation(self, name: str, *, state: Any = None, response: type[R]) -> Operation[Any, R]: ...

    @overload
    async def operation(self, name: str, *, state: Any = None, response: Any = None) -> Operation[Any]: ...

    async def operation(self, name: str, *, state: Any = None, response: Any = None) -> Operation[Any, Any]:
        """An existing operation, in the hands of a visitor.

        Args:
            name: Resource name.
            state: Type of ``op.state``, where no handler that is registered here declares it.
            response: Type of the result, likewise.

        Raises:
            InvalidOperationNameError: Malformed name.
            OperationNotFoundError: Never created, deleted or expired.
            StoreUnavailableError: The store did not answer.
        """
        return await self.engine.operation(name, state=state, response=response)

    async def resume(
        self,
        name: str,
        token: str,
        *,
        reason: WakeReason | None = WakeReason.ELAPSED,
        pending: Sequence[str] = (),
        error: str = "",
    ) -> bool:
        """Wake a suspended operation and run it here. Returns once it is claimed. A scheduler's wake-up calls this.

        With a ``reason``, the operation wakes even if what it waits for has not happened yet.

        Args:
            name: Resource name.
            token: The wait's token.
            reason: Why it wakes. None: check the wait; one that goes on is handed to the scheduler again.
            pending: Children that have not ended.
            error: What the scheduler could not do.

        Returns:
            False where there is nothing to do: an old token, an operation that has ended, an unknown name, or a wait
            that goes on.

        Raises:
            OperationBusyError: A live run holds the operation; try again in ``retry_after`` seconds.
            WorkerUnavailableError: This process is draining, is full, or does not have the handler.
            StoreUnavailableError: The store did not answer.
        """
        why = None if reason is None else WakeReason(reason)
        run = await self.engine.dispatcher.resume(name, token, reason=why, pending=pending, error=error)
        return run is not None

    async def sweep(self) -> None:
        """Run one repair pass: expired leases, lost wake-ups, expired rows. Workers do so by themselves, regularly.

        Raises:
            StoreUnavailableError: The store did not answer.
        """
        await self.engine.sweep()

    async def unmarshal_operation(
        self, name: str, response: type[R] | M | None = None, metadata: type[S] | N | None = None
    ) -> tuple[R | M | None, S | N | None]:
        """Response and metadata of a finished operation, unpacked; see ``lro_aio.unmarshal_operation``."""
        return unmarshal_operation(await self.get_operation(name), response, metadata)


_POLICIES: dict[str, type] = {
    "lease": LeasePolicy,
    "sweep": SweepPolicy,
    "retention": RetentionPolicy,
    "limits": Limits,
}


def _check_policies(**given: object) -> None:
    for name, policy in given.items():
        kind = _POLICIES[name]
        if policy is not None and not isinstance(policy, kind):
            raise TypeError(f"{name} must be a {kind.__name__}, not {type(policy).__name__}")
