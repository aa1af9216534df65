"""Operations of a gRPC service that has ``google.longrunning.Operations``."""

from __future__ import annotations

import asyncio
from typing import Any, Never

import grpc
import grpc.aio
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import duration_pb2
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from lro_aio.core.call_failures import TRANSIENT, from_proxy, sentence, too_large
from lro_aio.core.codes import Code
from lro_aio.core.errors import OperationNotFoundError, RemoteCallError, RemoteProtocolError
from lro_aio.core.policies import Duration, PollPolicy, RetryPolicy
from lro_aio.core.status import retry_delay
from lro_aio.core.tracing import HEADER, current_traceparent
from lro_aio.remote.messages import check_name, reply_of
from lro_aio.remote.transport import (
    CallOptions,
    MetadataSource,
    NotTheServiceError,
    Place,
    Reply,
    Transport,
    metadata_of,
)

__all__ = ["GrpcTransport"]

WAIT_GRACE = 15.0
"""Seconds beyond the length of a long-poll after which the call is given up."""


CLOSED = "the call was cancelled in this process, as happens when its channel is closed"


class GrpcTransport(Transport):
    """Asks over a channel of ``grpc.aio``.

    ``WaitOperation`` tells of the end where the service has it. A service that answers it with UNIMPLEMENTED is polled
    with ``GetOperation`` from then on.

    Args:
        channel: Opened and closed by the caller. It has its own credentials, or they come in ``metadata``.
        metadata: Sent with every call: pairs, a mapping, or a function, sync or async, that returns them for each call.
            A function that raises counts as a failed poll.
        address: Of the service, such as "reports.example.com:443". Goes into tokens, which are then refused for any
            other address.
        timeout: Seconds or a timedelta that one call may take.
        poll: How often handles poll.
        retry: How often they repeat a failed poll.
        max_calls: Polls under way at a time.
        max_waits: Calls of ``WaitOperation`` open at a time.
        wait_operation: Whether the service has ``WaitOperation``. None: find out with the first wait.
    """

    kind = "grpc"

    def __init__(
        self,
        channel: grpc.aio.Channel,
        *,
        metadata: MetadataSource = (),
        address: str = "",
        timeout: Duration = 15.0,
        poll: PollPolicy | None = None,
        retry: RetryPolicy | None = None,
        max_calls: int = 64,
        max_waits: int = 1000,
        wait_operation: bool | None = None,
    ) -> None:
        super().__init__(
            address=address,
            timeout=timeout,
            poll=poll,
            retry=retry,
            max_calls=max_calls,
            max_waits=max_waits,
            long_polls=wait_operation,
        )
        self._stub = operations_pb2_grpc.OperationsStub(channel)  # type: ignore[no-untyped-call]  # generated code
        self._metadata = metadata

    def place(self, name: str) -> Place:
        """A resource name, as the service gave it."""
        return Place(check_name(name))

    def started(self, answer: Any) -> Reply:
        """An ``Operation``, as returned by the method that starts one."""
        return reply_of(answer)

    async def fetch(self, place: Place, options: CallOptions) -> Reply:
        """``GetOperation``."""
        request = operations_pb2.GetOperationRequest(name=place.name)
        return reply_of(await self._call("GetOperation", request, place, options), place)

    async def wait(self, place: Place, length: float, options: CallOptions) -> Reply:
        """``WaitOperation``."""
        timeout = duration_pb2.Duration()
        timeout.FromNanoseconds(int(length * 1e9))
        request = operations_pb2.WaitOperationRequest(name=place.name, timeout=timeout)
        return reply_of(await self._call("WaitOperation", request, place, options, length + WAIT_GRACE), place)

    async def cancel(self, place: Place, options: CallOptions) -> None:
        """``CancelOperation``."""
        await self._call("CancelOperation", operations_pb2.CancelOperationRequest(name=place.name), place, options)

    async def delete(self, place: Place, options: CallOptions) -> None:
        """``DeleteOperation``."""
        await self._call("DeleteOperation", operations_pb2.DeleteOperationRequest(name=place.name), place, options)

    async def _call(
        self, method: str, request: Any, place: Place, options: CallOptions, timeout: float | None = None
    ) -> Any:
        limit = options.timeout or timeout or self.timeout
        pairs = (*await metadata_of(self._metadata, place.name, limit), *options.metadata)
        metadata = tuple((key.lower(), value) for key, value in pairs)  # grpc refuses upper case
        if (trace := current_traceparent()) and HEADER not in dict(metadata):
            metadata = (*metadata, (HEADER, trace))
        try:
            answer = await getattr(self._stub, method)(request, timeout=limit, metadata=metadata)
        except grpc.aio.AioRpcError as exc:
            _refuse(exc, place.name)
        except asyncio.CancelledError as exc:  # grpc.aio raises it for calls of a channel that is closed, too
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise RemoteCallError(place.name, CLOSED, code=Code.CANCELLED) from exc
        except (
            grpc.aio.UsageError,
            grpc.aio.InternalError,
            TypeError,
            ValueError,
        ) as exc:  # a closed channel, illegal metadata
            raise RemoteCallError(place.name, sentence(exc), code=Code.INTERNAL) from exc
        if answer is None:  # grpc.aio's result for bytes that cannot be parsed
            raise RemoteProtocolError(place.name, "it is not a message of the expected type")
        options.answered(answer)
        return answer


def _refuse(exc: grpc.aio.AioRpcError, name: str) -> Never:
    """Raise the error of this package that stands for a failed call."""
    code = Code.of(exc.code().value[0])
    status = _rich(exc)
    details = () if status is None else tuple(status.details)
    said = status.message if status is not None and status.message else exc.details() or ""
    problem = " ".join(said.split()) or "it gave no reason"
    if code is Code.NOT_FOUND:
        raise OperationNotFoundError(name, " ".join(said.split())) from exc
    if code is Code.UNIMPLEMENTED and from_proxy(problem):
        raise NotTheServiceError(name, problem, code=Code.UNAVAILABLE, transient=True) from exc
    transient = code in TRANSIENT
    if code is Code.RESOURCE_EXHAUSTED and too_large(problem):
        transient = False
        problem += "; the channel option grpc.max_receive_message_length sets the limit of this side"
    raise RemoteCallError(
        name, problem, code=code, transient=transient, retry_after=retry_delay(details), details=details
    ) from exc


def _rich(exc: grpc.aio.AioRpcError) -> Status | None:
    try:
        found: Status | None = rpc_status.from_call(exc)
    except Exception:  # noqa: BLE001 (garbage in the trailers: the code and the text will do)
        return None
    return found
