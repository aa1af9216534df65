"""What an exception that leaves a handler means, and what clients see of it (rule 10).

A group is what its leaves are, nested ones too: ``asyncio.TaskGroup`` wraps whatever its tasks raise.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from google.rpc import status_pb2

from lro_aio.core.codes import Code
from lro_aio.core.errors import OperationFailedError, PayloadTooLargeError, StateCodecError
from lro_aio.core.status import make_status, reason_of, to_status
from lro_aio.engine.handlers import RetryLater

__all__ = ["hopeless", "leaves", "on_purpose", "status_of"]


def leaves(exc: BaseException) -> list[BaseException]:
    """The exceptions of a group, in their order; of any other exception, itself.

    Cancellations are left out beside other leaves: a group cancels the rest of its tasks when one fails.
    """
    found: list[BaseException] = []
    pending = [exc]
    while pending:
        first = pending.pop()
        if isinstance(first, BaseExceptionGroup):
            pending.extend(reversed(first.exceptions))
        else:
            found.append(first)
    telling = [leaf for leaf in found if not isinstance(leaf, asyncio.CancelledError)]
    return telling or found[:1]


def on_purpose(found: Sequence[BaseException], name: str) -> bool:
    """Whether the handler itself said that its operation fails. The failure of another one that it let pass is no such.

    Args:
        found: What ``leaves`` gave.
        name: The operation's.
    """
    return bool(found) and all(isinstance(leaf, OperationFailedError) and leaf.name in ("", name) for leaf in found)


def status_of(found: list[BaseException], *, expose: bool, timed_out: bool = False) -> status_pb2.Status:
    """The status with which the operation fails.

    Leaves that say the same are told once. Where they disagree, all are told; the code is theirs if they have one in
    common, else UNKNOWN.

    Args:
        found: What ``leaves`` gave.
        expose: Whether clients see the text of exceptions that are not this package's.
        timed_out: Whether the run was stopped because its time was up.
    """
    told: dict[tuple[int, str], status_pb2.Status] = {}
    for leaf in found:
        status = _of_leaf(leaf, expose=expose, timed_out=timed_out)
        told.setdefault((status.code, status.message), status)
    statuses = list(told.values())
    if len(statuses) == 1:
        return statuses[0]
    codes = {status.code for status in statuses}
    reasons = {reason_of(status) for status in statuses}
    return make_status(
        codes.pop() if len(codes) == 1 else Code.UNKNOWN,
        f"{len(statuses)} errors: " + "; ".join(status.message for status in statuses),
        reason=reasons.pop() if len(reasons) == 1 else "HANDLER_ERRORS",
    )


def _of_leaf(exc: BaseException, *, expose: bool, timed_out: bool) -> status_pb2.Status:
    if timed_out and isinstance(exc, TimeoutError):
        return make_status(Code.DEADLINE_EXCEEDED, str(exc), reason="RUN_TIMEOUT")
    if isinstance(exc, PayloadTooLargeError) and exc.field == "response":
        return make_status(exc.code, str(exc), reason="RESPONSE_TOO_LARGE", metadata=exc.metadata)
    if isinstance(exc, StateCodecError):
        return make_status(exc.code, str(exc), reason="STATE_UNREADABLE", metadata=exc.metadata)
    if isinstance(exc, RetryLater):
        return make_status(Code.ABORTED, str(exc), reason="RETRIES_EXHAUSTED")
    return to_status(exc, expose=expose)


def hopeless(exc: BaseException) -> bool:
    """Whether another run would end the same way: the response would be as large again (rule 9)."""
    return isinstance(exc, PayloadTooLargeError) and exc.field == "response"
