"""Operations of a gRPC service that has ``google.longrunning.Operations``."""

from __future__ import annotations

from typing import Any, Never

import grpc
import grpc.aio
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import duration_pb2
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from lro_aio.core.codes import Code
from lro_aio.core.errors import OperationNotFoundError, RemoteCallError, RemoteProtocolError
from lro_aio.core.policies import Duration, PollPolicy, RetryPolicy
from lro_aio.remote.messages import check_name, reply_of
from lro_aio.remote.retry_after import of_details
from lro_aio.remote.transport import CallOptions, MetadataSource, Place, Reply, Transport, metadata_of

__all__ = ["GrpcTransport"]

WAIT_GRACE = 15.0
"""Seconds beyond the length of a long-poll before the call is given up."""

TRANSIENT = frozenset(
    {
        Code.UNAVAILABLE,
        Code.DEADLINE_EXCEEDED,
        Code.RESOURCE_EXHAUSTED,
        Code.INTERNAL,  # a stream that was reset, too
        Code.UNKNOWN,  # a server that raised, or a proxy that answered for it
        Code.CANCELLED,  # by the other side: our own cancel is no error of the call
    }
)
"""Looking does no harm: beyond what AIP-194 lets clients repeat, all that HTTP has as 408, 429 or 5xx is repeated."""


class GrpcTransport(Transport):
    """Asks over a channel of ``grpc.aio``.

    Ends are told by ``WaitOperation`` where the service has it; one that answers it with UNIMPLEMENTED is polled
    with ``GetOperation`` from then on.

    Args:
        channel: Opened and closed by the caller. Credentials are its own, or come in ``metadata``.
        metadata: Sent with every call: pairs, a mapping, or a function, sync or async, that gives them for each call.
        address: Of the service, such as "reports.example.com:443": goes into tokens; elsewhere they are refused.
        timeout: Seconds or a timedelta that one call may take.
        poll: How often handles look.
        retry: How often they repeat a look that fails.
        max_calls: Looks that are under way at a time.
        max_waits: Calls of ``WaitOperation`` that are open at a time.
        wait_operation: Whether the service has ``WaitOperation``. None: try it, once.
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
        """An ``Operation``, as the method that starts one returns it."""
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
        pairs = (*await metadata_of(self._metadata), *options.metadata)
        metadata = tuple((key.lower(), value) for key, value in pairs)  # grpc refuses any other spelling
        limit = options.timeout or timeout or self.timeout
        try:
            answer = await getattr(self._stub, method)(request, timeout=limit, metadata=metadata)
        except grpc.aio.AioRpcError as exc:
            _refuse(exc, place.name)
        if answer is None:  # what grpc.aio gives for bytes that are not of the message
            raise RemoteProtocolError(place.name, "it is no message of the expected type")
        return answer


def _refuse(exc: grpc.aio.AioRpcError, name: str) -> Never:
    """Raise the error of this package that stands for a failed call."""
    code = Code.of(exc.code().value[0])
    if code is Code.NOT_FOUND:
        raise OperationNotFoundError(name) from exc
    status = _rich(exc)
    details = () if status is None else tuple(status.details)
    problem = status.message if status is not None and status.message else exc.details() or "it gave no reason"
    raise RemoteCallError(
        name,
        " ".join(problem.split()),
        code=code,
        transient=code in TRANSIENT,
        retry_after=of_details(details),
        details=details,
    ) from exc


def _rich(exc: grpc.aio.AioRpcError) -> Status | None:
    try:
        found: Status | None = rpc_status.from_call(exc)
    except Exception:  # noqa: BLE001 (garbage in the trailers; the code and the sentence are enough)
        return None
    return found
