"""Every error that lro_aio raises.

::

    LroError
    ├── InvalidOperationNameError      the name is not a resource name of an operation
    ├── OperationNotFoundError         no such operation: never created, deleted or expired
    ├── OperationAlreadyExistsError    the same id or request_id stands for another request
    ├── OperationDoneError             the operation has ended; nothing was written
    ├── OperationNotDoneError          the operation has not ended, and so has no result yet
    ├── OperationFailedError           the operation ended with an error
    │   ├── OperationCancelledError    ... because it was cancelled
    │   └── failures.NotFoundError     ... with NOT_FOUND; one class for each other code
    ├── WaitDeadlineExceededError      the wait ran out; the work goes on
    ├── LeaseLostError                 another process holds the operation now
    ├── UnknownHandlerError            no handler of this name is registered here
    ├── UnknownResumePointError        the handler does not declare this resume point
    ├── InvalidTransitionError         the row's state does not allow the change
    │   └── OperationBusyError         a live run holds the row; try again later
    ├── StateCodecError                handler state cannot be encoded or decoded
    ├── ResponseDataError              what a handler returned is not what it declares, or not exact in JSON
    ├── PayloadTooLargeError           metadata, state, response or another field over its limit
    ├── InvalidPageTokenError          a page token that was altered or belongs to other arguments
    ├── InvalidFilterError             a filter that does not parse, or names an unknown field
    ├── InvalidTokenError              a resume token that is not the row's, or a malformed rehydration token
    ├── StoreUnavailableError          the store did not answer; the call may be repeated
    ├── StoreRefusedError              the store refuses what was to be written, and always will
    ├── StoreDataError                 a row of the store cannot be decoded
    ├── StoreSchemaError               the store's schema is missing, newer, or not ours
    ├── ClockSkewError                 this machine's clock and the store's are too far apart
    ├── SchedulerUnavailableError      the scheduler did not answer; the row is safe
    ├── WorkerUnavailableError         this process cannot run the operation now
    ├── RemoteCallError                a call to an operation's service failed; the operation goes on
    └── RemoteProtocolError            a service gave an answer that makes no sense

A malformed argument of the caller's own code is a plain ``ValueError`` or ``TypeError``.

Each class has a canonical ``code``, a ``reason`` (the ``ErrorInfo.reason`` of AIP-193) and keeps the variable parts
of its sentence in attributes, so that nobody needs to parse the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from google.longrunning import operations_proto_pb2 as operations_pb2  # the half without grpc
from google.protobuf import any_pb2
from google.protobuf.message import Message

from lro_aio.core.codes import Code
from lro_aio.core.packed import packed, unpacked
from lro_aio.core.wording import call, listed, variables

if TYPE_CHECKING:
    import grpc

__all__ = [
    "ClockSkewError",
    "InvalidFilterError",
    "InvalidOperationNameError",
    "InvalidPageTokenError",
    "InvalidTokenError",
    "InvalidTransitionError",
    "LeaseLostError",
    "LroError",
    "OperationAlreadyExistsError",
    "OperationBusyError",
    "OperationCancelledError",
    "OperationDoneError",
    "OperationFailedError",
    "OperationNotDoneError",
    "OperationNotFoundError",
    "PayloadTooLargeError",
    "RemoteCallError",
    "RemoteProtocolError",
    "ResponseDataError",
    "SchedulerUnavailableError",
    "StateCodecError",
    "StoreDataError",
    "StoreRefusedError",
    "StoreSchemaError",
    "StoreUnavailableError",
    "UnknownHandlerError",
    "UnknownResumePointError",
    "WaitDeadlineExceededError",
    "WorkerUnavailableError",
]


class LroError(Exception):
    """Base of all errors of this package."""

    code: Code = Code.UNKNOWN
    reason: str = "UNKNOWN"
    retry_after: float | None = None
    """Seconds after which a repeated call may succeed, where that is known."""

    _private: ClassVar[frozenset[str]] = frozenset()
    _public: str = ""

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the attributes: most classes' ``__init__`` does not take ``args``, which is the sentence.

        Process pools pickle exceptions, and one that cannot be read back breaks the whole pool.
        """
        return Exception.__new__, (type(self), *self.args), vars(self)

    @property
    def message(self) -> str:
        """The sentence as callers of a service may read it (rule 10). ``str()`` gives all of it, for the log."""
        return self._public or str(self)

    @property
    def withholds(self) -> bool:
        """Whether ``message`` leaves out what only the log may say: paths, hosts, what another service said."""
        return bool(self._public)

    @property
    def metadata(self) -> dict[str, str]:
        """The variable parts of ``message``, as AIP-193 wants them in ``ErrorInfo.metadata``."""
        return variables(vars(self), self._private | {"code", "reason"})


class InvalidOperationNameError(LroError):
    """``name`` is not of the form ``[parent/]operations/{id}``."""

    code = Code.INVALID_ARGUMENT
    reason = "INVALID_OPERATION_NAME"

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            f"{name!r} is not the resource name of an operation; expected 'operations/{{id}}' or"
            f" '{{parent}}/operations/{{id}}'"
        )


class OperationNotFoundError(LroError):
    """No operation ``name`` exists: never made, deleted, or past its retention.

    Attributes:
        name: Resource name.
        problem: What a remote service said of it; "" where it said nothing else.
    """

    code = Code.NOT_FOUND
    reason = "OPERATION_NOT_FOUND"
    _private = frozenset({"problem"})
    problem = ""

    def __init__(self, name: str, problem: str = "") -> None:
        self.name = name
        sentence = f"operation {name!r} does not exist"
        if problem and problem != sentence:
            self.problem, self._public = problem, sentence
        super().__init__(f"{sentence}: {self.problem}" if self.problem else sentence)


class OperationAlreadyExistsError(LroError):
    """The id, or the request_id, is taken: by another request, or by an operation that was deleted before it has ended.

    ``deleted`` says which.
    """

    code = Code.ALREADY_EXISTS
    reason = "OPERATION_ALREADY_EXISTS"

    def __init__(self, name: str, *, deleted: bool = False) -> None:
        self.name = name
        self.deleted = deleted
        problem = (
            "was deleted, and keeps its name until it has ended"
            if deleted
            else ("already exists and was started with another request")
        )
        super().__init__(f"operation {name!r} {problem}")


class OperationDoneError(LroError):
    """The operation has ended; the row was not touched."""

    code = Code.FAILED_PRECONDITION
    reason = "OPERATION_DONE"

    def __init__(self, name: str, state: str) -> None:
        self.name = name
        self.state = state
        super().__init__(f"operation {name!r} has already ended ({state}); a result is never changed")


class OperationNotDoneError(LroError):
    """A result was asked for before the operation ended."""

    code = Code.FAILED_PRECONDITION
    reason = "OPERATION_NOT_DONE"

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"operation {name!r} has not ended yet")


class OperationFailedError(LroError):
    """The operation ended with an error.

    A handler that raises it ends the operation with exactly this code, message and details. Clients see its text,
    unlike that of other exceptions. ``lro_aio.failures`` has a subclass for each code.

    Args:
        message: For developers, in English. For an exception, its text is taken.
        name: Resource name; "" where it is raised by a handler.
        code: Canonical code; None takes the class's.
        details: Messages such as ``ErrorInfo``, packed or not.

    Attributes:
        name: Resource name, "" where it is raised by a handler.
        code: Canonical code.
        packed_details: The ``google.rpc.Status.details``, as they travel.
    """

    reason = "OPERATION_FAILED"
    _private = frozenset({"text", "packed_details"})

    def __init__(
        self,
        message: str | BaseException = "the operation failed",
        *,
        name: str = "",
        code: int | None = None,
        details: Sequence[Message] = (),
    ) -> None:
        self.name = name
        self.code = Code.of(type(self).code if code is None else code) or Code.UNKNOWN  # OK, which is 0, is not one
        self.packed_details = tuple(packed(detail) for detail in details)
        self.text = message if isinstance(message, str) else str(message)
        prefix = f"operation {name!r} ended with {self.code.name}: " if name else ""
        super().__init__(f"{prefix}{self.text}")

    @property
    def message(self) -> str:
        """The message of the ``google.rpc.Status``, as the service wrote it."""
        return self.text

    @property
    def grpc_code(self) -> grpc.StatusCode:
        """The code as a ``grpc.StatusCode``."""
        return self.code.grpc_code

    @property
    def details(self) -> tuple[Message, ...]:
        """What the service says besides its message (AIP-193): ``ErrorInfo``, ``RetryInfo`` and so on.

        A detail of a type that this process does not know, or that cannot be read, stays an ``Any``.
        """
        return tuple(unpacked(detail) for detail in self.packed_details)


class OperationCancelledError(OperationFailedError):
    """The operation was cancelled."""

    code = Code.CANCELLED
    reason = "OPERATION_CANCELLED"

    def __init__(
        self,
        message: str | BaseException = "the operation was cancelled",
        *,
        name: str = "",
        code: int | None = None,
        details: Sequence[Message] = (),
    ) -> None:
        super().__init__(message, name=name, code=code, details=details)


class WaitDeadlineExceededError(LroError):
    """The wait ran out. The work was not stopped.

    Attributes:
        timeout: Seconds that the caller waited.
        pending: Names of the operations that have not ended.
        finished: The operations that have ended, as last read.
        operation: The operation that was waited for, as last read (None where children were waited for).
        problem: How the last poll failed; "" where it succeeded. The exception itself is ``__cause__``.
        topic: Of the message that was waited for; "" where it was an operation.
        rehydration_token: What a later process continues from, where the service gives one.
    """

    code = Code.DEADLINE_EXCEEDED
    reason = "WAIT_DEADLINE_EXCEEDED"
    _private = frozenset({"problem"})

    def __init__(
        self,
        timeout: float,
        pending: Sequence[str],
        *,
        finished: Sequence[operations_pb2.Operation] = (),
        operation: operations_pb2.Operation | None = None,
        problem: str = "",
        topic: str = "",
        rehydration_token: str | None = None,
    ) -> None:
        self.timeout = timeout
        self.pending = tuple(pending)
        self.finished = tuple(finished)
        self.operation = operation
        self.problem = problem
        self.topic = topic
        self._rehydration_token = rehydration_token
        shown = listed(self.pending, most=5)
        sentence = f"waited {timeout:g} s; {len(self.pending)} operation(s) not done: {shown}"
        if topic:
            sentence = f"waited {timeout:g} s for a message on {topic!r}, and none came"
        self._public = sentence if problem else ""
        super().__init__(f"{sentence}; the last poll failed: {problem}" if problem else sentence)

    @property
    def rehydration_token(self) -> str | None:
        """Lets a later process continue the wait, where the service gives one."""
        return self._rehydration_token


class LeaseLostError(LroError):
    """The caller does not hold the operation, or no longer: it was claimed again or released, or its row was replaced.

    ``claim`` is the fencing number that the caller has; 0 for one who only looked the operation up.
    """

    code = Code.ABORTED
    reason = "LEASE_LOST"

    def __init__(self, name: str, claim: int = 0) -> None:
        self.name = name
        self.claim = claim
        if claim:
            super().__init__(f"claim {claim} on operation {name!r} is no longer valid; nothing was written")
        else:
            super().__init__(f"operation {name!r} is held by its handler or its creator; nothing was written")


class UnknownHandlerError(LroError):
    """No handler of this name is registered in this process."""

    code = Code.UNIMPLEMENTED
    reason = "UNKNOWN_HANDLER"

    def __init__(self, handler: str, known: Sequence[str] = ()) -> None:
        self.handler = handler
        self.known = tuple(sorted(known))
        names = listed(self.known) or "none"
        super().__init__(f"no handler {handler!r} is registered here; registered: {names}")


class UnknownResumePointError(LroError):
    """The handler does not declare this resume point."""

    code = Code.INVALID_ARGUMENT
    reason = "UNKNOWN_RESUME_POINT"

    def __init__(self, handler: str, resume_point: str, known: Sequence[str] = ()) -> None:
        self.handler = handler
        self.resume_point = resume_point
        self.known = tuple(sorted(known))
        names = listed([repr(point) for point in self.known]) or "none"
        super().__init__(f"handler {handler!r} declares no resume point {resume_point!r}; declared: {names}")


class InvalidTransitionError(LroError):
    """The state of the row does not allow the change."""

    code = Code.FAILED_PRECONDITION
    reason = "INVALID_TRANSITION"

    def __init__(self, name: str, state: str, event: str) -> None:
        self.name = name
        self.state = state
        self.event = event
        super().__init__(f"operation {name!r} is {state}; {event!r} is not possible")


class OperationBusyError(InvalidTransitionError):
    """A live run holds the operation. Try again in ``retry_after`` seconds."""

    code = Code.UNAVAILABLE
    reason = "OPERATION_BUSY"

    def __init__(self, name: str, retry_after: float) -> None:
        super().__init__(name, "RUNNING", "claim")
        self.retry_after = retry_after


class StateCodecError(LroError):
    """Handler state cannot be encoded, or what is stored cannot be decoded."""

    code = Code.INTERNAL
    reason = "STATE_CODEC"

    def __init__(self, problem: str, *, field: str = "", codec: str = "") -> None:
        self.problem = problem
        self.field = field
        self.codec = codec
        where = f" (field {field!r})" if field else ""
        stored = f" [stored as {codec!r}]" if codec else ""
        super().__init__(f"handler state{where}: {problem}{stored}")


class ResponseDataError(LroError):
    """A result is not what its handler declares, or has a part that JSON cannot hold as it is."""

    code = Code.INTERNAL
    reason = "RESPONSE_DATA"

    def __init__(self, problem: str, *, field: str = "") -> None:
        self.problem = problem
        self.field = field
        where = f" (field {field!r})" if field else ""
        super().__init__(f"response{where}: {problem}")


class PayloadTooLargeError(LroError):
    """``field`` has ``size`` bytes where ``limit`` are allowed; of ``entries``, so many are in the journal."""

    code = Code.INVALID_ARGUMENT
    reason = "PAYLOAD_TOO_LARGE"

    def __init__(self, field: str, size: int, limit: int) -> None:
        self.field = field
        self.size = size
        self.limit = limit
        has = f"the journal would have {size} entries" if field == "entries" else f"{field} has {size} bytes"
        super().__init__(f"{has}; the limit is {limit}")


class InvalidPageTokenError(LroError):
    """The page token was altered, is too old, or was issued for other arguments (AIP-158)."""

    code = Code.INVALID_ARGUMENT
    reason = "INVALID_PAGE_TOKEN"

    def __init__(self, problem: str = "this service did not issue it") -> None:
        self.problem = problem
        super().__init__(f"invalid page_token: {problem}")


class InvalidFilterError(LroError):
    """The filter does not parse or cannot be evaluated (AIP-160).

    Attributes:
        position: 0-based offset in characters where the problem is.
    """

    code = Code.INVALID_ARGUMENT
    reason = "INVALID_FILTER"

    def __init__(self, problem: str, position: int) -> None:
        self.problem = problem
        self.position = position
        super().__init__(f"invalid filter at position {position}: {problem}")


class InvalidTokenError(LroError):
    """The row does not wait for this resume token, or no longer does; or a rehydration token is malformed.

    Attributes:
        name: The row's; "" for a rehydration token.
        problem: What is wrong with a rehydration token; "" for a resume token.
    """

    code = Code.INVALID_ARGUMENT
    reason = "INVALID_TOKEN"

    def __init__(self, name: str = "", *, problem: str = "") -> None:
        self.name = name
        self.problem = problem
        super().__init__(
            f"invalid rehydration token: {problem}"
            if problem
            else f"the token is not the one that operation {name!r} waits for"
        )


class StoreUnavailableError(LroError):
    """The store did not answer, was locked, or could not write. The same call may be repeated."""

    code = Code.UNAVAILABLE
    reason = "STORE_UNAVAILABLE"
    _private = frozenset({"problem"})
    _public = "the store is unavailable"

    def __init__(self, problem: str, *, retry_after: float = 1.0) -> None:
        self.problem = problem
        self.retry_after = retry_after
        super().__init__(f"{self._public}: {problem}")


class StoreRefusedError(LroError):
    """The store refuses what was to be written for an operation, and would refuse it again. Nothing was written.

    ``__cause__`` is the error of its driver.
    """

    code = Code.INTERNAL
    reason = "NOT_STORABLE"

    def __init__(self, name: str, exception: str) -> None:
        self.name = name
        self.exception = exception
        super().__init__(f"the store refuses what was to be written for operation {name!r} ({exception})")


class StoreDataError(LroError):
    """A row of the store cannot be decoded. Other rows are not affected."""

    code = Code.DATA_LOSS
    reason = "STORE_DATA"
    _private = frozenset({"problem"})

    def __init__(self, name: str, problem: str) -> None:
        self.name = name
        self.problem = problem
        self._public = f"the stored row of operation {name!r} cannot be decoded"
        super().__init__(f"{self._public}: {problem}")


class StoreSchemaError(LroError):
    """The store exists but is not one that this version can use."""

    code = Code.FAILED_PRECONDITION
    reason = "STORE_SCHEMA"
    _private = frozenset({"problem"})
    _public = "the store cannot be used"

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(problem)


class ClockSkewError(LroError):
    """This machine's clock and the store's are so far apart that a live lease could be taken for an expired one.

    Attributes:
        offset: Seconds by which the store's clock is ahead.
        limit: Seconds that are allowed either way: a quarter of the lease.
    """

    code = Code.FAILED_PRECONDITION
    reason = "CLOCK_SKEW"

    def __init__(self, offset: float, limit: float) -> None:
        self.offset = offset
        self.limit = limit
        super().__init__(
            f"this machine's clock is {abs(offset):.3g} s {'behind' if offset > 0 else 'ahead of'} the store's; at most"
            f" {limit:.3g} s (a quarter of the lease) are allowed: synchronise the clock"
        )


class SchedulerUnavailableError(LroError):
    """The scheduler did not answer. The row is safe: a sweep hands it over again."""

    code = Code.UNAVAILABLE
    reason = "SCHEDULER_UNAVAILABLE"
    _private = frozenset({"problem"})
    _public = "the scheduler is unavailable"

    def __init__(self, problem: str, *, retry_after: float = 1.0) -> None:
        self.problem = problem
        self.retry_after = retry_after
        super().__init__(f"{self._public}: {problem}")


class WorkerUnavailableError(LroError):
    """This process cannot run the operation now: it is draining, is full, or does not know the handler."""

    code = Code.UNAVAILABLE
    reason = "WORKER_UNAVAILABLE"

    def __init__(self, problem: str, *, retry_after: float = 5.0) -> None:
        self.problem = problem
        self.retry_after = retry_after
        super().__init__(f"this worker cannot take the operation: {problem}")


class RemoteCallError(LroError):
    """A call to the service of an operation failed. The operation itself goes on.

    Attributes:
        name: The operation; "" where the call was to start one.
        code: Canonical code; of an HTTP answer, the one that its body names or its status stands for.
        problem: What the service said, or why there was no answer.
        http_status: Of the HTTP answer; None where there was none.
        transient: Whether the same call may succeed later.
        packed_details: The ``google.rpc.Status.details`` of the answer, where it carried a status.
    """

    reason = "REMOTE_CALL_FAILED"
    _private = frozenset({"problem", "transient", "packed_details"})

    def __init__(
        self,
        name: str,
        problem: str,
        *,
        code: int = Code.UNKNOWN,
        transient: bool = False,
        http_status: int | None = None,
        retry_after: float | None = None,
        details: Sequence[any_pb2.Any] = (),
    ) -> None:
        self.name = name
        self.problem = problem
        self.code = Code.of(code) or Code.UNKNOWN
        self.transient = transient
        self.http_status = http_status
        self.retry_after = retry_after
        self.packed_details = tuple(details)
        answered = f"HTTP {http_status}" if http_status is not None else self.code.name
        self._public = f"{call(name)} failed with {answered}"
        super().__init__(f"{self._public}: {problem}")

    @property
    def details(self) -> tuple[Message, ...]:
        """As ``OperationFailedError.details``, for the failed call."""
        return tuple(unpacked(detail) for detail in self.packed_details)


class RemoteProtocolError(LroError):
    """The service's answer is not one that its protocol has, or an operation ended without the declared result."""

    code = Code.INTERNAL
    reason = "REMOTE_PROTOCOL"
    _private = frozenset({"problem"})

    def __init__(self, name: str, problem: str) -> None:
        self.name = name
        self.problem = problem
        self._public = f"the answer to {call(name)} makes no sense"
        super().__init__(f"{self._public}: {problem}")
