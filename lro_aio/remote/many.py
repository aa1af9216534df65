"""Waiting for many operations at once, without a task for each."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncGenerator, Iterable
from typing import Any, Literal, TypeVar, overload

from lro_aio.core.call_failures import sentence
from lro_aio.core.errors import WaitDeadlineExceededError
from lro_aio.core.policies import Duration, seconds
from lro_aio.remote.handle import RemoteOperation

__all__ = ["as_completed", "gather"]

T = TypeVar("T")


@overload
async def gather(
    *handles: RemoteOperation[T], timeout: Duration | None = None, return_exceptions: Literal[False] = False
) -> list[T]: ...


@overload
async def gather(
    *handles: RemoteOperation[T], timeout: Duration | None = None, return_exceptions: bool
) -> list[T | Exception]: ...


async def gather(
    *handles: RemoteOperation[Any], timeout: Duration | None = None, return_exceptions: bool = False
) -> list[Any]:
    """Wait for operations of one or several services, and return their values in the order of the handles.

    The operations go on, whatever becomes of this wait.

    Args:
        *handles: Any number; the same one may come twice.
        timeout: Seconds or a timedelta for all of them together; None waits for as long as it takes.
        return_exceptions: Return the exception of an operation that failed, or that could not be polled, in the place
            of its value. False: raise the first one at once.

    Raises:
        WaitDeadlineExceededError: The time is up, also with ``return_exceptions``; ``pending`` and ``finished`` tell
            which have ended.
        OperationFailedError: One failed.
        RemoteCallError: One could not be polled.
    """
    outcomes: dict[RemoteOperation[Any], Any] = {}
    async with contextlib.aclosing(_ends(dict.fromkeys(handles), timeout)) as ends:
        async for handle, problem in ends:
            outcome = problem if problem is not None else _outcome(handle)
            if isinstance(outcome, Exception) and not return_exceptions:
                raise outcome
            outcomes[handle] = outcome
    return [outcomes[handle] for handle in handles]


async def as_completed(
    handles: Iterable[RemoteOperation[T]], *, timeout: Duration | None = None
) -> AsyncGenerator[RemoteOperation[T], None]:
    """Yield each handle when its operation has ended, whether it succeeded or failed: ``handle.value`` tells.

    If you leave the loop early and keep the iterator, close it, as with ``contextlib.aclosing``. Until then it polls.

    Args:
        handles: Any number.
        timeout: Seconds or a timedelta for all of them together; None waits for as long as it takes.

    Raises:
        WaitDeadlineExceededError: The time is up; ``pending`` says which have not ended.
        RemoteCallError: One could not be polled.
    """
    async with contextlib.aclosing(_ends(dict.fromkeys(handles), timeout)) as ends:
        async for handle, problem in ends:
            if problem is not None:
                raise problem
            yield handle


async def _ends(
    handles: Iterable[RemoteOperation[Any]], timeout: Duration | None
) -> AsyncGenerator[tuple[RemoteOperation[Any], Exception | None], None]:
    limit = None if timeout is None else seconds(timeout, "timeout")
    handles = list(handles)
    ended: asyncio.Queue[tuple[RemoteOperation[Any], Exception | None]] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    deadline = None if limit is None else loop.time() + limit
    futures = {}
    try:
        for handle in handles:
            if handle.has_completed:
                ended.put_nowait((handle, None))
            else:
                futures[handle] = future = handle.watch(timeout=limit)
                future.add_done_callback(functools.partial(_tell, ended, handle))
        for _ in handles:
            try:
                async with asyncio.timeout_at(deadline):
                    end = await ended.get()
            except TimeoutError:
                failures = (handle._last_failure() for handle in handles if not handle.has_completed)  # noqa: SLF001
                problem = next((failure for failure in failures if failure is not None), None)
                raise _deadline_error(limit or 0.0, handles, problem) from problem
            yield end
    finally:
        for future in futures.values():
            future.cancel()


def _tell(
    ended: asyncio.Queue[tuple[RemoteOperation[Any], Exception | None]],
    handle: RemoteOperation[Any],
    future: asyncio.Future[None],
) -> None:
    if future.cancelled():
        return
    exc = future.exception()
    ended.put_nowait((handle, exc if isinstance(exc, Exception) else None))


def _outcome(handle: RemoteOperation[Any]) -> Any:
    try:
        return handle.value
    except Exception as exc:  # noqa: BLE001 (given back, or raised by whoever asked)
        return exc


def _deadline_error(
    limit: float, handles: Iterable[RemoteOperation[Any]], problem: Exception | None
) -> WaitDeadlineExceededError:
    pending = [handle.name for handle in handles if not handle.has_completed]
    finished = [handle.proto for handle in handles if handle.has_completed]
    return WaitDeadlineExceededError(
        limit,
        pending,
        finished=[proto for proto in finished if proto is not None],
        problem="" if problem is None else sentence(problem),
    )
