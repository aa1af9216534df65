"""The registry of handlers: what an application can run, bound to no client."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from lro_aio.core.codec import StateCodec, Upgrade
from lro_aio.core.errors import UnknownHandlerError
from lro_aio.core.policies import Duration, RetryPolicy, seconds
from lro_aio.core.record import Record
from lro_aio.ports import Route

__all__ = ["MAX_NAME", "Handler", "Handlers", "RetryLater", "Runnable", "check_name"]

MAX_NAME = 128
"""Characters of the name of a handler or a resume point."""

HandlerFunction = Callable[[Any], Awaitable[Any]]
F = TypeVar("F", bound=HandlerFunction)


class RetryLater(Exception):  # noqa: N818 (a request, not an error)
    """Raised by a handler: run this segment again later, durably.

    Args:
        after: Seconds or a timedelta; None takes the delay of the handler's ``RetryPolicy``.
        message: For the log, and for the client should the attempts run out.
    """

    def __init__(
        self, message: str = "the handler asked to be run again later", *, after: Duration | None = None
    ) -> None:
        self.after = None if after is None else seconds(after, "after")
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Handler:
    """One registered handler."""

    name: str
    function: HandlerFunction
    codec: StateCodec[Any]
    resume_points: frozenset[str]
    """Declared points, the clean-up's among them, without the start."""
    on_cancel: str
    """Resume point of the clean-up; "" for none."""
    retry: RetryPolicy
    run_timeout: float | None
    """Seconds that one run may take."""

    def runs(self, resume_point: str) -> bool:
        """Whether the handler can go on at this point; "" is its start."""
        return not resume_point or resume_point in self.resume_points


class Handlers:
    """An application's handlers, as an ``APIRouter`` has its routes.

    Give it to any number of clients. Registering after a client was opened takes effect with its next sweep.
    """

    def __init__(self) -> None:
        self._by_name: dict[str, Handler] = {}
        self._included: list[Handlers] = []

    def __iter__(self) -> Iterator[Handler]:
        yield from self._by_name.values()
        for other in self._included:
            yield from other

    def handler(
        self,
        name: str | None = None,
        *,
        state: type[Any] | None = None,
        resume_points: Collection[str] = (),
        on_cancel: str | None = None,
        retry: RetryPolicy | None = None,
        run_timeout: Duration | None = None,
        state_version: int = 1,
        upgrade: Upgrade | None = None,
    ) -> Callable[[F], F]:
        """Register an ``async def`` that runs an operation.

        The function takes an ``Operation`` and returns a protobuf message (the response), what ``op.suspend(...)``
        returned, or None (the response is ``google.protobuf.Empty``). It runs at least once per segment: after a crash
        the segment starts again, so what it does outside should be repeatable or keyed by ``op.id``.

        Args:
            name: What rows call it. Never rename it while operations live. Default: the function's name.
            state: Type of the state: anything pydantic takes, or a protobuf message class.
            resume_points: Names that ``suspend(resume_at=...)`` may use.
            on_cancel: Resume point of a clean-up that a cancel runs, once. Need not be listed in ``resume_points``.
            retry: Which exceptions run the segment again. Default: none but ``RetryLater``.
            run_timeout: Seconds that one run may take; then it fails with DEADLINE_EXCEEDED.
            state_version: Of the state's JSON form; raise it with every change that older code cannot read.
            upgrade: ``upgrade(old, version)`` brings the JSON value of an older version to the present form.

        Raises:
            ValueError: The name is taken or malformed.
            TypeError: Not a coroutine function, or a state type that cannot be stored.
        """
        if isinstance(resume_points, str):
            raise TypeError("resume_points must be a collection of names, not one string")
        points = frozenset(resume_points) | ({on_cancel} if on_cancel else frozenset())
        for point in points:
            check_name("resume point", point)

        def register(function: F) -> F:
            registered = name if name is not None else function.__name__
            check_name("handler", registered)
            if not _is_coroutine_function(function):
                raise TypeError(f"handler {registered!r} must be an 'async def' function")
            self._add(
                Handler(
                    name=registered,
                    function=function,
                    codec=StateCodec(state, version=state_version, upgrade=upgrade),
                    resume_points=points,
                    on_cancel=on_cancel or "",
                    retry=retry if retry is not None else RetryPolicy(),
                    run_timeout=None if run_timeout is None else seconds(run_timeout, "run_timeout", positive=True),
                )
            )
            return function

        return register

    def include(self, other: Handlers) -> None:
        """Add another registry, with what is registered there later.

        Raises:
            ValueError: A name is taken by another handler.
        """
        for handler in other:
            self._check_free(handler)
        self._included.append(other)

    def find(self, handler: str | HandlerFunction) -> Handler | None:
        """By name, or by the decorated function."""
        if isinstance(handler, str):
            found = self._by_name.get(handler)
            for other in self._included:
                if found is not None:
                    break
                found = other.find(handler)
            return found
        return next((known for known in self if known.function is handler), None)

    def get(self, handler: str | HandlerFunction) -> Handler:
        """As ``find``.

        Raises:
            UnknownHandlerError: It is not registered.
        """
        found = self.find(handler)
        if found is None:
            name = handler if isinstance(handler, str) else getattr(handler, "__name__", repr(handler))
            raise UnknownHandlerError(name, tuple(known.name for known in self))
        return found

    def routes(self) -> list[Route]:
        """Every (handler, resume point) that can run here."""
        return [(handler.name, point) for handler in self for point in ("", *sorted(handler.resume_points))]

    def _add(self, handler: Handler) -> None:
        self._check_free(handler)
        self._by_name[handler.name] = handler

    def _check_free(self, handler: Handler) -> None:
        known = self.find(handler.name)
        if known is not None and known.function is not handler.function:
            raise ValueError(f"a handler named {handler.name!r} is registered already")


class Runnable:
    """What can run in this process: the one rule for who goes on with a row (rule 14).

    Args:
        handlers: The client's.
        worker: False for a front end, which runs nothing, even what it knows.
    """

    def __init__(self, handlers: Handlers, *, worker: bool) -> None:
        self.handlers = handlers
        self.worker = worker

    def find(self, record: Record) -> Handler | None:
        """The row's handler, if this process can go on with the row where it stands."""
        if not self.worker or not record.handler:
            return None
        handler = self.handlers.find(record.handler)
        return handler if handler is not None and handler.runs(record.resume_point) else None

    def routes(self) -> list[Route]:
        """What a sweep of this process may touch: rows that it can run, and those that their creators drive."""
        return [("", ""), *self.handlers.routes()]


def _is_coroutine_function(function: object) -> bool:
    return inspect.iscoroutinefunction(function)


def check_name(kind: str, name: str) -> str:
    """Return the name of a handler or a resume point.

    Raises:
        ValueError: It is not 1 to 128 printable characters.
    """
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or not name.isprintable():
        raise ValueError(f"{kind} {name!r} must be 1 to {MAX_NAME} printable characters")
    return name
