"""Polling the operations of another service: one poll with its bounds, and ``lro.wait_operation``, which repeats it."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, TypeVar, overload

from google.longrunning import operations_proto_pb2 as operations_pb2

from lro_aio.core import names
from lro_aio.core.call_failures import call_failure, is_transient, sentence
from lro_aio.core.codes import Code
from lro_aio.core.data import decode_response
from lro_aio.core.errors import (
    LroError,
    OperationNotFoundError,
    RemoteCallError,
    WaitDeadlineExceededError,
    WorkerUnavailableError,
)
from lro_aio.core.logs import event
from lro_aio.core.policies import Duration, PollPolicy, seconds
from lro_aio.core.results import response_of
from lro_aio.core.status import to_status
from lro_aio.engine.timing import SystemClock, sleep_for, timeout_at
from lro_aio.ports import Clock, GetOperationStub, OperationsService

__all__ = ["CALL_TIMEOUT", "Service", "as_service", "cut_short", "fetch", "log_failed_poll", "wait_operation"]

logger = logging.getLogger("lro_aio")

T = TypeVar("T")

Service = OperationsService | GetOperationStub

CALL_TIMEOUT = 30.0
"""Real seconds that one call may take: a stub without a deadline of its own may hang for ever."""

LAST_POLL = 2.0
"""Real seconds that a poll may take which begins when the time is up: of ``timeout=0``, the only one."""


def as_service(service: object) -> Service:
    """Check that an object can be asked for operations.

    Raises:
        TypeError: It has neither ``get_operation`` nor ``GetOperation``.
    """
    if isinstance(service, OperationsService | GetOperationStub):
        return service
    raise TypeError(f"{type(service).__name__} has neither get_operation(name) nor a stub's GetOperation(request)")


async def fetch(service: Service, name: str, *, most: float = CALL_TIMEOUT) -> operations_pb2.Operation:
    """One operation of a service.

    Args:
        service: Who has it.
        name: As that service gives names.
        most: Real seconds that the call may take.

    Raises:
        OperationNotFoundError: The service answered NOT_FOUND.
        RemoteCallError: It did not answer in time, or the call was cancelled in this process.
        Exception: Whatever the service raised for anything else.
    """
    bound = asyncio.timeout(most)
    try:
        async with bound:
            if isinstance(service, GetOperationStub):
                operation = await service.GetOperation(operations_pb2.GetOperationRequest(name=name))
            else:
                operation = await service.get_operation(name)
    except TimeoutError as exc:
        if not bound.expired():  # the service's own
            raise
        problem = f"no answer within {most:g} s"
        raise RemoteCallError(name, problem, code=Code.DEADLINE_EXCEEDED, transient=True) from exc
    except asyncio.CancelledError as exc:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        problem = "the call was cancelled in this process, as happens when its channel is closed"
        raise RemoteCallError(name, problem, code=Code.CANCELLED) from exc
    except Exception as exc:  # every stub has its own NOT_FOUND; anything else is raised again
        if to_status(exc).code == Code.NOT_FOUND and not isinstance(exc, OperationNotFoundError):
            raise OperationNotFoundError(name, sentence(exc)) from exc
        raise
    if not isinstance(operation, operations_pb2.Operation):
        raise TypeError(f"{type(service).__name__} answered with {type(operation).__name__}, not with an Operation")
    return operation


def log_failed_poll(name: str, exc: Exception) -> None:
    """One line for each failed poll, so that a wait that goes on and on shows why."""
    logger.warning("a poll of operation %s failed: %s", name, sentence(exc), extra=event("poll_failed", operation=name))


@overload
async def wait_operation(
    operation: str,
    service: Service,
    timeout: Duration = 77.0,
    *,
    response_type: None = None,
    poll: PollPolicy | None = None,
    clock: Clock | None = None,
) -> operations_pb2.Operation: ...


@overload
async def wait_operation(
    operation: str,
    service: Service,
    timeout: Duration = 77.0,
    *,
    response_type: type[T],
    poll: PollPolicy | None = None,
    clock: Clock | None = None,
) -> T: ...


async def wait_operation(
    operation: str,
    service: Service,
    timeout: Duration = 77.0,
    *,
    response_type: Any = None,
    poll: PollPolicy | None = None,
    clock: Clock | None = None,
) -> Any:
    """Wait for an operation of any service; raise when the time is up.

    The function of the Go package ``go.alis.build/lro``. ``Client.wait_operation`` is the RPC instead: at the timeout
    it returns the latest state. A poll that fails in a way that may pass, such as UNAVAILABLE, is logged and repeated
    until the timeout.

    Args:
        operation: The name, in the form that the service gives its names.
        service: An ``OperationsService``, or a gRPC stub with ``GetOperation(request)``. A ``Client`` is one.
        timeout: Seconds or a timedelta. 0 polls once.
        response_type: A protobuf message class, or any type that pydantic can validate, for data: return the response.
        poll: How often to poll.
        clock: For tests.

    Returns:
        The operation, done, whether it succeeded or failed; with ``response_type``, the response of one that succeeded.

    Raises:
        InvalidOperationNameError: The name is empty or has white space in it, or the service refused it.
        OperationNotFoundError: The service does not have it.
        RemoteCallError: A poll failed in a way that will not pass, such as PERMISSION_DENIED.
        WaitDeadlineExceededError: The time is up; carries the operation as last seen. The last poll that failed, if no
            later one succeeded, is in its text and its ``__cause__``.
        WorkerUnavailableError: The service is a ``Client``, which is closing; the work goes on.
        OperationFailedError: It ended with an error. With ``response_type`` only, as the next one.
        TypeError: The response is of another type.
    """
    ended = await _ended(operation, service, timeout, poll, clock)
    return ended if response_type is None else decode_response(response_of(ended), response_type)


async def _ended(
    operation: str, service: Service, timeout: Duration, poll: PollPolicy | None, clock: Clock | None
) -> operations_pb2.Operation:
    names.check_remote(operation)
    limit = seconds(timeout, "timeout")
    clock = clock if clock is not None else SystemClock()
    policy = poll if poll is not None else PollPolicy()
    asked = as_service(service)
    deadline = clock.monotonic() + limit
    latest: operations_pb2.Operation | None = None
    attempt = 0
    stays = True
    while True:
        problem: Exception | None = None
        try:
            latest = await _bounded(asked, operation, clock, deadline)
        except OperationNotFoundError:
            raise
        except Exception as exc:  # noqa: BLE001 (a service raises what it likes; what will not pass is raised again)
            if not is_transient(exc):
                _raise_lasting(exc, operation)
            problem = exc
            log_failed_poll(operation, exc)
        if latest is not None and latest.done:
            return latest
        if not stays:
            raise WorkerUnavailableError("the client is closing; the operation goes on")
        now = clock.monotonic()
        if now >= deadline:
            failed = sentence(problem) if problem is not None else ""
            raise WaitDeadlineExceededError(limit, (operation,), operation=latest, problem=failed) from problem
        pause = policy.delay(attempt)
        if isinstance(problem, LroError) and problem.retry_after is not None:
            pause = max(pause, problem.retry_after)
        stays = await _pause(asked, clock, min(deadline - now, pause))
        attempt += 1


async def _pause(service: Service, clock: Clock, length: float) -> bool:
    """Let time pass between two polls. False: the service is a client, which drains, and its server waits for this."""
    host: Any = getattr(service, "server_host", None)
    if host is None:
        await sleep_for(clock, length)
        return True
    return bool(await host.pause(clock, length))


async def _bounded(service: Service, name: str, clock: Clock, deadline: float) -> operations_pb2.Operation:
    """One poll that ends when the time is up; one that begins then gets a moment."""
    most = CALL_TIMEOUT if clock.monotonic() < deadline else LAST_POLL
    try:
        async with timeout_at(clock, deadline):
            return await fetch(service, name, most=most)
    except TimeoutError as exc:
        if clock.monotonic() < deadline:  # the service's own
            raise
        raise cut_short(name) from exc


def cut_short(name: str) -> RemoteCallError:
    """The failure of a poll that was under way when the time was up."""
    return RemoteCallError(name, "no answer before the time was up", code=Code.DEADLINE_EXCEEDED, transient=True)


def _raise_lasting(exc: Exception, name: str) -> None:
    """Raise a failure that will not pass: a call's as an error of this package, a defect as it is."""
    if isinstance(exc, LroError) or to_status(exc).code == Code.UNKNOWN:
        raise exc
    raise call_failure(exc, name) from exc
