"""The gRPC server: counts every RPC, delays it and makes it fail if asked, then calls its service."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from lro_aio.testing.spanner import messages
from lro_aio.testing.spanner.admin import AdminService
from lro_aio.testing.spanner.gate import Gate
from lro_aio.testing.spanner.problems import SpannerError
from lro_aio.testing.spanner.services import SpannerService

__all__ = ["RPCS", "Server"]

THREADS = 128
"""So many calls may wait for locks, or for the added latency, at once."""

_SPANNER = "google.spanner.v1.Spanner"
_ADMIN = "google.spanner.admin.database.v1.DatabaseAdmin"
_OPERATIONS = "google.longrunning.Operations"

_UNARY: dict[str, tuple[str, Any, str]] = {
    "CreateSession": (_SPANNER, messages.CreateSessionRequest, "create_session"),
    "GetSession": (_SPANNER, messages.GetSessionRequest, "get_session"),
    "Read": (_SPANNER, messages.ReadRequest, "read"),
    "ExecuteSql": (_SPANNER, messages.ExecuteSqlRequest, "execute_sql"),
    "Commit": (_SPANNER, messages.CommitRequest, "commit"),
    "Rollback": (_SPANNER, messages.RollbackRequest, "rollback"),
    "UpdateDatabaseDdl": (_ADMIN, messages.UpdateDatabaseDdlRequest, "update_database_ddl"),
    "GetDatabaseDdl": (_ADMIN, messages.GetDatabaseDdlRequest, "get_database_ddl"),
    "GetOperation": (_OPERATIONS, messages.GetOperationRequest, "get_operation"),
}
_STREAMING: dict[str, tuple[str, Any, str]] = {
    "StreamingRead": (_SPANNER, messages.ReadRequest, "streaming_read"),
    "ExecuteStreamingSql": (_SPANNER, messages.ExecuteSqlRequest, "execute_streaming_sql"),
}
RPCS = frozenset({*_UNARY, *_STREAMING})
"""The names of all RPCs that are served."""


class Server:
    """A server of both services on a port of the loopback interface."""

    def __init__(self, spanner: SpannerService, admin: AdminService, gate: Gate) -> None:
        self._gate = gate
        self._services = {_SPANNER: spanner, _ADMIN: admin, _OPERATIONS: admin}
        self._server: grpc.Server | None = None
        self._pool: ThreadPoolExecutor | None = None

    def start(self, port: int) -> int:
        """Listen; 0 is any free port. Returns the port.

        Raises:
            OSError: The port is taken.
        """
        pool = ThreadPoolExecutor(THREADS, thread_name_prefix="fake-spanner")
        options = [
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
        ]
        server = grpc.server(pool, options=options)
        server.add_generic_rpc_handlers(self._handlers())
        try:
            bound: int = server.add_insecure_port(f"127.0.0.1:{port}")
        except RuntimeError as exc:
            pool.shutdown(wait=False)
            raise OSError(f"port {port} of 127.0.0.1 is taken") from exc
        server.start()
        self._server, self._pool = server, pool
        return bound

    def stop(self) -> None:
        """Cut all connections and stop listening."""
        server, pool, self._server, self._pool = self._server, self._pool, None, None
        if server is not None and pool is not None:
            server.stop(0).wait()
            pool.shutdown(wait=False, cancel_futures=True)

    def _handlers(self) -> tuple[grpc.GenericRpcHandler, ...]:
        methods: dict[str, dict[str, grpc.RpcMethodHandler[Any, Any]]] = {}
        for rpc, (service, request, name) in _UNARY.items():
            handler: grpc.RpcMethodHandler[Any, Any] = grpc.unary_unary_rpc_method_handler(
                self._unary(rpc, getattr(self._services[service], name)),
                request_deserializer=request.FromString,
            )
            methods.setdefault(service, {})[rpc] = handler
        for rpc, (service, request, name) in _STREAMING.items():
            handler = grpc.unary_stream_rpc_method_handler(
                self._streaming(rpc, getattr(self._services[service], name)),
                request_deserializer=request.FromString,
            )
            methods.setdefault(service, {})[rpc] = handler
        return tuple(grpc.method_handlers_generic_handler(service, found) for service, found in methods.items())

    def _unary(self, rpc: str, behaviour: Callable[[Any, grpc.ServicerContext], Any]) -> Callable[..., Any]:
        gate = self._gate

        def serve(request: Any, context: grpc.ServicerContext) -> Any:
            try:
                fault = gate.enter(rpc, request, context.invocation_metadata())
                if fault is not None and fault.when == "before":
                    raise gate.fail(fault, request)
                response = _serialize(behaviour(request, context))
                gate.carried(request.ByteSize() + len(response))
                if fault is not None:
                    raise gate.fail(fault, request)
            except SpannerError as exc:
                exc.abort(context)
            else:
                return response

        return serve

    def _streaming(
        self, rpc: str, behaviour: Callable[[Any, grpc.ServicerContext], Iterator[Any]]
    ) -> Callable[..., Iterator[Any]]:
        gate = self._gate

        def serve(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            try:
                fault = gate.enter(rpc, request, context.invocation_metadata())
                if fault is not None and fault.when == "before":
                    raise gate.fail(fault, request)
                gate.carried(request.ByteSize())
                for part in map(_serialize, behaviour(request, context)):
                    gate.carried(len(part))
                    yield part
                if fault is not None:
                    raise gate.fail(fault, request)
            except SpannerError as exc:
                exc.abort(context)

        return serve


def _serialize(response: Any) -> bytes:
    """Results of reads are already bytes."""
    return response if isinstance(response, bytes) else response.SerializeToString()
