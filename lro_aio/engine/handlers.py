"""The registry of handlers: what an application can run, bound to no client."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterator
from dataclasses import field
from typing import Any, Generic, Protocol, TypedDict, TypeVar, Unpack, cast, overload

from lro_aio.core.codec import StateCodec, Upgrade
from lro_aio.core.data import ResponseType
from lro_aio.core.errors import UnknownHandlerError, UnknownResumePointError
from lro_aio.core.names import OWN, MalformedIdError, check_given, check_name
from lro_aio.core.policies import Duration, RetryPolicy, seconds
from lro_aio.core.queues import Queue, check_key
from lro_aio.core.quick import dataclass
from lro_aio.core.record import Record
from lro_aio.engine.annotations import Returns, state_of
from lro_aio.engine.suspension import Suspended
from lro_aio.ports import Route

__all__ = [
    "Handler",
    "HandlerOptions",
    "Handlers",
    "OwnHandlers",
    "Register",
    "RegisterAs",
    "Registered",
    "RetryLater",
    "Runnable",
]

HandlerFunction = Callable[[Any], Awaitable[Any]]
"""``async def handler(op)``, or what its decorator made of it."""
F = TypeVar("F", bound=HandlerFunction)
O = TypeVar("O")  # noqa: E741 (the operation's type)
R = TypeVar("R")
"""The type of the result."""


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
    resume_points: frozenset[str] | None
    """Names that were declared, without the start; None where nothing was said."""
    on_cancel: str
    """Resume point of the clean-up; "" for none."""
    retry: RetryPolicy
    run_timeout: float | None
    """Seconds that one run may take."""
    on_failure: str = ""
    """Resume point of the clean-up that runs before a failure; "" for none."""
    pause_on_failure: bool | None = None
    """None: as the client says."""
    deadline: float | None = None
    """Seconds from the start by which an operation must have ended."""
    queue: Queue | None = None
    """Where its operations wait for a place; None: nowhere."""
    queue_key: Callable[[Any], str | None] | None = None
    """The queue's key of a state."""
    returns: Returns = field(default_factory=Returns)
    segments: dict[str, HandlerFunction] = field(default_factory=dict)
    """Resume points that are functions of their own."""
    light: bool = False
    """Whether its runs need no slot: they are over in a moment, and start what waits for one itself."""

    @property
    def own(self) -> bool:
        """Whether it is this package's, and not the application's."""
        return self.name.startswith(OWN)

    @property
    def response(self) -> ResponseType:
        """What an operation ends with."""
        return self.returns.type

    @property
    def declared(self) -> frozenset[str]:
        """The points that are known by name, those of the clean-ups among them."""
        return (self.resume_points or frozenset()).union(self.segments, self._cleanups)

    @property
    def accepts_any(self) -> bool:
        """Whether it goes on at any point: nobody said which ones there are."""
        return self.resume_points is None and self._cleanups.issuperset(self.segments)

    @property
    def _cleanups(self) -> set[str]:
        return {point for point in (self.on_cancel, self.on_failure) if point}

    def runs(self, resume_point: str) -> bool:
        """Whether the handler can go on at this point; "" is its start."""
        if not resume_point or (self.resume_points is not None and resume_point in self.resume_points):
            return True
        return self.accepts_any or resume_point in self.declared

    def key_of(self, state: Any) -> str:
        """The key of an operation that begins with this state; "" for none.

        Raises:
            MalformedIdError: ``queue_key`` fails, or gives what is no key.
        """
        if self.queue_key is None:
            return ""
        try:
            key = self.queue_key(state)
        except Exception as exc:  # its text may be nobody's business
            raise MalformedIdError("queue_key", f"of handler {self.name!r} fails with {type(exc).__name__}") from exc
        return "" if key is None else check_key(key)

    def at(self, resume_point: str) -> HandlerFunction:
        """The function to call at this point."""
        return self.segments.get(resume_point, self.function)

    def point(self, resume_at: str | HandlerFunction) -> str:
        """The name of a point that is given by name or as its function. The handler itself is its start.

        Raises:
            TypeError: Neither a name nor a function.
            ValueError: The name is malformed.
            UnknownResumePointError: It is not declared.
        """
        if isinstance(resume_at, str):
            if not self.runs(resume_at):
                raise UnknownResumePointError(self.name, resume_at, tuple(self.declared))
            if resume_at:
                check_given("resume point", resume_at)
            return resume_at
        if not callable(resume_at):
            kind = type(resume_at).__name__  # type: ignore[unreachable]  # as the types would have it
            raise TypeError(f"resume_at must be a segment's function or the name of a resume point, not {kind}")
        function = _plain(resume_at)
        if function == self.function:
            return ""
        for name, segment in self.segments.items():
            if segment == function:
                return name
        raise UnknownResumePointError(self.name, _name_of(resume_at) or repr(resume_at), tuple(self.declared))


class Registered(Generic[O, R]):
    """What the decorator of a handler returns: the same function, on which segments are declared.

    Args:
        handler: What it is registered as.
        function: The decorated function.
    """

    def __init__(self, handler: Handler, function: Callable[[O], Awaitable[Any]]) -> None:
        functools.update_wrapper(self, function)
        self.handler = handler
        self._function = function

    def __call__(self, op: O) -> Coroutine[Any, Any, R | Suspended]:
        """Call the function."""
        return cast("Coroutine[Any, Any, R | Suspended]", self._function(op))

    def __repr__(self) -> str:
        return f"<handler {self.handler.name!r}: {self._function!r}>"

    @overload
    def segment(self, name: F) -> F: ...

    @overload
    def segment(self, name: str | None = None) -> Callable[[F], F]: ...

    def segment(self, name: str | F | None = None) -> F | Callable[[F], F]:
        """Declare a segment: an ``async def`` function that runs where ``suspend(resume_at=function)`` says so.

        With parentheses or without. The operation then goes on in this function, as it would in the handler at a resume
        point of the same name: with its state, and with what it waited for.

        Args:
            name: What rows call it. Never rename it while operations live. Default: the function's name.

        Raises:
            ValueError: The name is taken by another segment, or malformed.
            TypeError: Not a coroutine function of one argument.
        """

        def declare(function: F, given: str | None = None) -> F:
            _add_segment(self.handler, given, function)
            self.handler.returns.add(_plain(function))
            return function

        return declare(name) if callable(name) else lambda function: declare(function, name)


class Register(Protocol):
    """A decorator that registers a handler. The result is what the function returns, besides ``Suspended``."""

    @overload
    def __call__(self, function: Callable[[O], Coroutine[Any, Any, Suspended]], /) -> Registered[O, Any]: ...

    @overload
    def __call__(self, function: Callable[[O], Coroutine[Any, Any, R | Suspended]], /) -> Registered[O, R]: ...


class RegisterAs(Protocol[R]):
    """A decorator that registers a handler whose result is declared with ``response=``."""

    def __call__(self, function: Callable[[O], Coroutine[Any, Any, Any]], /) -> Registered[O, R]:
        """Register it."""
        ...


class HandlerOptions(TypedDict, total=False):
    """The options of ``Handlers.handler``, besides ``response``."""

    state: Any
    resume_points: Collection[str] | None
    on_cancel: str | HandlerFunction | None
    retry: RetryPolicy | None
    run_timeout: Duration | None
    on_failure: str | HandlerFunction | None
    pause_on_failure: bool | None
    deadline: Duration | None
    queue: Queue | None
    queue_key: Callable[[Any], str | None] | None
    state_version: int
    upgrade: Upgrade | None


class Handlers:
    """An application's handlers, as an ``APIRouter`` has its routes.

    Give it to any number of clients. Registering after a client was opened takes effect with its next sweep.
    """

    _check_name = staticmethod(check_given)
    _light = False
    """See ``Handler.light``."""

    def __init__(self) -> None:
        self._by_name: dict[str, Handler] = {}
        self._included: list[Handlers] = []

    def __iter__(self) -> Iterator[Handler]:
        yield from self._by_name.values()
        for other in self._included:
            yield from other

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
        self,
        name: str | Callable[[Any], Coroutine[Any, Any, Any]] | None = None,
        *,
        state: Any = None,
        response: Any = None,
        resume_points: Collection[str] | None = None,
        on_cancel: str | HandlerFunction | None = None,
        retry: RetryPolicy | None = None,
        run_timeout: Duration | None = None,
        on_failure: str | HandlerFunction | None = None,
        pause_on_failure: bool | None = None,
        deadline: Duration | None = None,
        queue: Queue | None = None,
        queue_key: Callable[[Any], str | None] | None = None,
        state_version: int = 1,
        upgrade: Upgrade | None = None,
    ) -> Registered[Any, Any] | Register | RegisterAs[Any]:
        """Register an ``async def`` that runs an operation. With parentheses or without.

        The function takes an ``Operation`` and returns the response: a protobuf message, data that pydantic can
        serialize (a dict, a list, a model, a dataclass, a text, a number), or None, which is ``google.protobuf.Empty``.
        Or it returns what ``op.suspend(...)`` returned. It runs at least once per segment: after a crash the segment
        starts again, so what it does outside should be repeatable or keyed by ``op.id``. What the decorator returns is
        called like the function, and has ``segment``, which declares resume points that are functions. A bound method
        is registered with ``handlers.handler("name")(thing.method)``.

        Args:
            name: What rows call it. Never rename it while operations live. Default: the function's name.
            state: Type of the state: anything pydantic takes, or a protobuf message class. ``Any``: any JSON value.
                ``S | None`` begins as None. None: what the annotation ``op: Operation[S]`` says.
            response: Type of the response, as ``state``. What is returned is checked against it, and ``op.result()``
                gives it. ``Any``: anything. None: what the function's return annotation says, with those of its
                segments.
            resume_points: Names that ``suspend(resume_at=...)`` may use, besides the segments. None, and no segments:
                any name; a process then goes on with operations also where only a newer release knows how to.
            on_cancel: Resume point of a clean-up that a cancel runs, once, or the function of one. Need not be listed
                in ``resume_points``.
            retry: Which exceptions run the segment again. Default: none but ``RetryLater``.
            run_timeout: Seconds that one run may take; then it fails with DEADLINE_EXCEEDED.
            on_failure: Resume point of a clean-up that runs once before the operation fails, or the function of one, as
                ``on_cancel``. ``op.failure`` is the error; the operation ends with it, also if the clean-up fails.
            pause_on_failure: Whether an operation that would fail by an exception, or after its last retry or attempt,
                is paused instead, for ``client.unpause_operation``. An ``OperationFailedError`` that the handler raises
                still ends it. None: as ``Client(pause_on_failure=)`` says.
            deadline: Seconds or a timedelta from the start, waits included, after which the operation fails with
                DEADLINE_EXCEEDED. None: it may take as long as it takes.
            queue: Where operations wait for a place before they run; see ``Queue``.
            queue_key: ``queue_key(state)``: those of one key share what the queue allows each key, and keys take turns.
                None: of no key. It is asked when an operation starts, unless ``start(queue_key=)`` says it.
            state_version: Of the state's JSON form; raise it with every change that older code cannot read.
            upgrade: ``upgrade(old, version)`` brings the JSON value of an older version to the present form.

        Raises:
            ValueError: The name is taken or malformed, or begins with ``lro.``, as those of this package do.
            TypeError: Not a coroutine function of one argument, or a type that cannot be stored.
        """
        if callable(name):
            return self.handler()(name)
        points = _checked_points(resume_points)
        cleanup, last = (point if isinstance(point, str) else _name_of(point) for point in (on_cancel, on_failure))
        for point in filter(None, (cleanup, last)):
            check_given("resume point", point)
        allowed = None if deadline is None else seconds(deadline, "deadline", positive=True)
        _check_queue(queue, queue_key)
        if pause_on_failure not in (None, True, False):
            raise TypeError(f"pause_on_failure must be True, False or None, not {pause_on_failure!r}")

        def register(function: HandlerFunction) -> Registered[Any, Any]:
            plain = _plain(function)
            registered = name if name is not None else _name_of(plain)
            self._check_name("handler", registered)
            _check_function("handler", registered, plain)
            handler = Handler(
                name=registered,
                function=plain,
                codec=StateCodec(
                    state if state is not None else state_of(plain), version=state_version, upgrade=upgrade
                ),
                resume_points=points,
                on_cancel=cleanup,
                retry=retry if retry is not None else RetryPolicy(),
                run_timeout=None if run_timeout is None else seconds(run_timeout, "run_timeout", positive=True),
                on_failure=last,
                pause_on_failure=pause_on_failure,
                deadline=allowed,
                queue=queue,
                queue_key=queue_key,
                returns=Returns(response),
                light=self._light,
            )
            handler.returns.add(plain)
            for point, function_of in ((cleanup, on_cancel), (last, on_failure)):
                if callable(function_of):
                    _add_segment(handler, point, function_of)
            self._add(handler)
            return Registered(handler, plain)

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
        """By name, or by the decorated function. A bound method is the same each time. For the engine."""
        if isinstance(handler, str):
            return self.named(handler)
        if isinstance(handler, Registered):
            known = self.named(handler.handler.name)
            return known if known is not None and known.function == handler.handler.function else None
        return next((known for known in self if known.function == handler), None)

    def named(self, name: str) -> Handler | None:
        """By name. For the engine."""
        found = self._by_name.get(name)
        if found is None:
            for other in self._included:
                if (found := other.named(name)) is not None:
                    break
        return found

    def get(self, handler: str | HandlerFunction) -> Handler:
        """As ``find``; raises ``UnknownHandlerError`` where it is not registered. For the engine."""
        found = self.find(handler)
        if found is None:
            name = handler if isinstance(handler, str) else _name_of(handler) or repr(handler)
            raise UnknownHandlerError(name, tuple(known.name for known in self if not known.own))
        return found

    def routes(self) -> list[Route]:
        """Every (handler, resume point) that can run here."""
        return [route for handler in self for route in _routes(handler)]

    def _add(self, handler: Handler) -> None:
        self._check_free(handler)
        self._by_name[handler.name] = handler

    def _check_free(self, handler: Handler) -> None:
        known = self.find(handler.name)
        if known is not None and known.function != handler.function:
            raise ValueError(f"a handler named {handler.name!r} is registered already")


class OwnHandlers(Handlers):
    """Handlers of this package: those whose names begin with ``lro.``.

    Args:
        light: See ``Handler``.
    """

    _check_name = staticmethod(check_name)

    def __init__(self, *, light: bool = False) -> None:
        super().__init__()
        self._light = light


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


def _check_queue(queue: object, queue_key: object) -> None:
    if queue is not None and not isinstance(queue, Queue):
        raise TypeError(f"queue must be a Queue, not {type(queue).__name__}")
    if queue_key is not None and (queue is None or not callable(queue_key)):
        raise TypeError("queue_key must be a function of the state, and needs a queue")


def _checked_points(resume_points: Collection[str] | None) -> frozenset[str] | None:
    if isinstance(resume_points, str):
        raise TypeError("resume_points must be a collection of names, not one string")
    for point in resume_points or ():
        check_given("resume point", point)
    return None if resume_points is None else frozenset(resume_points)


def _routes(handler: Handler) -> list[Route]:
    if handler.accepts_any:
        return [(handler.name, None)]
    return [(handler.name, point) for point in ("", *sorted(handler.declared))]


def _add_segment(handler: Handler, name: str | None, function: HandlerFunction) -> None:
    plain = _plain(function)
    point = name if name is not None else _name_of(plain)
    check_given("segment", point)
    _check_function("segment", point, plain)
    if handler.segments.setdefault(point, plain) != plain:
        raise ValueError(f"handler {handler.name!r} has a segment named {point!r} already")


def _plain(function: F) -> F:
    """The function itself, where a decorator of ours returned it."""
    return cast("F", function.handler.function) if isinstance(function, Registered) else function


def _name_of(function: object) -> str:
    """The function's name; "" for one that has none, such as a ``functools.partial``."""
    return getattr(function, "__name__", "")


def _check_function(kind: str, name: str, function: HandlerFunction) -> None:
    if not inspect.iscoroutinefunction(function):
        raise TypeError(f"{kind} {name!r} must be an 'async def' function")
    try:  # what is called is the wrapper, where there is one
        inspect.signature(function, follow_wrapped=False).bind(None)
    except TypeError as exc:
        raise TypeError(f"{kind} {name!r} must take one argument, the operation: {exc}") from None
