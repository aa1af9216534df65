"""``google.cloud.workflows.executions.v1.Executions``: the RPCs, their errors, and failures that a test plans."""

from __future__ import annotations

import json
import re
import threading
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, NoReturn

import grpc
from google.cloud.workflows.executions_v1.types import executions as messages
from google.protobuf import duration_pb2, timestamp_pb2

from lro_aio.testing.workflows.states import FakeExecution

__all__ = ["RPCS", "Backend", "Service"]

SERVICE = "google.cloud.workflows.executions.v1.Executions"
RPCS: dict[str, tuple[Any, Any]] = {
    "CreateExecution": (messages.CreateExecutionRequest, messages.Execution),
    "GetExecution": (messages.GetExecutionRequest, messages.Execution),
    "ListExecutions": (messages.ListExecutionsRequest, messages.ListExecutionsResponse),
    "CancelExecution": (messages.CancelExecutionRequest, messages.Execution),
}
MAX_ARGUMENT = 32 * 1024
"""Bytes (https://cloud.google.com/workflows/quotas)."""
MAX_LABELS = 64
THREADS = 16

_PARENT = re.compile(r"projects/[^/]+/locations/[^/]+/workflows/[^/]+")

When = Literal["before", "after"]


class Backend:
    """What the RPCs act on, and the failures planned for them. Thread-safe.

    Args:
        start: Starts an execution: (parent, argument, labels, call log level).
    """

    def __init__(self, start: Callable[[str, str, dict[str, str], int], FakeExecution]) -> None:
        self.executions: dict[str, FakeExecution] = {}
        self.rpcs: Counter[str] = Counter()
        self.under_way = 0
        self.doubles = 0
        self._start = start
        self._planned: dict[str, deque[tuple[grpc.StatusCode, When]]] = {}
        self._lock = threading.Lock()

    def plan(self, rpc: str, code: grpc.StatusCode, times: int, when: When) -> None:
        """Make the next calls of an RPC fail; 0 cancels what was planned for it."""
        with self._lock:
            planned = self._planned.setdefault(rpc, deque())
            if not times:
                planned.clear()
            planned.extend([(code, when)] * times)

    def enter(self, rpc: str) -> tuple[grpc.StatusCode, When] | None:
        """A call has arrived; returns how it fails, None if it does not."""
        with self._lock:
            self.rpcs[rpc] += 1
            self.under_way += 1
            planned = self._planned.get(rpc)
            return planned.popleft() if planned else None

    def leave(self) -> None:
        """A call is answered."""
        with self._lock:
            self.under_way -= 1

    def create(self, request: Any, context: grpc.ServicerContext) -> Any:
        """CreateExecution. It has no request id: a repeated call starts another execution."""
        asked = request.execution
        if not _PARENT.fullmatch(request.parent):
            _abort(context, grpc.StatusCode.INVALID_ARGUMENT, f"{request.parent!r} is not the name of a workflow")
        if len(asked.argument.encode()) > MAX_ARGUMENT:
            _abort(context, grpc.StatusCode.INVALID_ARGUMENT, "the argument is larger than 32 KB")
        if len(asked.labels) > MAX_LABELS:
            _abort(context, grpc.StatusCode.INVALID_ARGUMENT, "more than 64 labels")
        try:
            json.loads(asked.argument or "null")
        except ValueError:
            _abort(context, grpc.StatusCode.INVALID_ARGUMENT, "the argument is not JSON")
        with self._lock:
            times = 2 if self.doubles else 1
            self.doubles = max(0, self.doubles - 1)
        made = []
        for _ in range(times):
            one = self._start(request.parent, asked.argument, dict(asked.labels), int(asked.call_log_level))
            self.executions[one.name] = one
            one.start()
            made.append(one)
        return _message(made[0])

    def get(self, request: Any, context: grpc.ServicerContext) -> Any:
        """GetExecution."""
        return _message(self._find(request.name, context), full=request.view != messages.ExecutionView.BASIC)

    def list(self, request: Any, context: grpc.ServicerContext) -> Any:
        """ListExecutions: the newest first, without filters and orders."""
        if request.filter or request.order_by:
            _abort(context, grpc.StatusCode.UNIMPLEMENTED, "the fake supports neither filter nor order_by")
        if request.page_token and not request.page_token.isdecimal():
            _abort(context, grpc.StatusCode.INVALID_ARGUMENT, "the page token is not from this server")
        found = [one for one in list(self.executions.values()) if one.name.startswith(f"{request.parent}/executions/")]
        found.reverse()
        first = int(request.page_token or 0)
        last = first + min(request.page_size or 100, 1000)
        full = request.view == messages.ExecutionView.FULL
        return messages.ListExecutionsResponse(
            executions=[_message(one, full=full) for one in found[first:last]],
            next_page_token=str(last) if last < len(found) else "",
        )

    def cancel(self, request: Any, context: grpc.ServicerContext) -> Any:
        """CancelExecution."""
        found = self._find(request.name, context)
        if not found.stop("CANCELLED"):
            _abort(context, grpc.StatusCode.FAILED_PRECONDITION, f"the execution is {found.state}")
        return _message(found)

    def _find(self, name: str, context: grpc.ServicerContext) -> FakeExecution:
        found = self.executions.get(name)
        if found is None:
            _abort(context, grpc.StatusCode.NOT_FOUND, f"there is no execution {name!r}")
        return found


class Service:
    """Serves the RPCs on a port of the loopback interface, with threads of its own."""

    def __init__(self, backend: Backend, changed: Callable[[], None]) -> None:
        self._backend = backend
        self._changed = changed
        self._server: grpc.Server | None = None
        self._pool: ThreadPoolExecutor | None = None

    def start(self) -> int:
        """Listen; returns the port."""
        actions: dict[str, Callable[[Any, grpc.ServicerContext], Any]] = {
            "CreateExecution": self._backend.create,
            "GetExecution": self._backend.get,
            "ListExecutions": self._backend.list,
            "CancelExecution": self._backend.cancel,
        }
        handlers = {
            rpc: grpc.unary_unary_rpc_method_handler(
                self._guarded(rpc, actions[rpc]),
                request_deserializer=request.deserialize,
                response_serializer=response.serialize,
            )
            for rpc, (request, response) in RPCS.items()
        }
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="fake-workflows-rpc")
        self._server = grpc.server(self._pool, options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        port: int = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()
        return port

    def stop(self) -> None:
        """Cut all connections and stop listening."""
        if self._server is not None and self._pool is not None:
            self._server.stop(0).wait()
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _guarded(
        self, rpc: str, action: Callable[[Any, grpc.ServicerContext], Any]
    ) -> Callable[[Any, grpc.ServicerContext], Any]:
        def serve(request: Any, context: grpc.ServicerContext) -> Any:
            fault = self._backend.enter(rpc)
            try:
                if fault is not None and fault[1] == "before":
                    _abort(context, fault[0], "a fault of the fake Workflows, before the call took effect")
                response = action(request, context)
                if fault is not None:
                    _abort(context, fault[0], "a fault of the fake Workflows, after the call took effect")
                return response
            finally:
                self._backend.leave()
                self._changed()

        return serve


def _abort(context: grpc.ServicerContext, code: grpc.StatusCode, details: str) -> NoReturn:
    context.abort(code, details)
    raise AssertionError("abort returned")


def _message(execution: FakeExecution, *, full: bool = True) -> Any:
    fields: dict[str, Any] = {
        "name": execution.name,
        "start_time": _timestamp(execution.started),
        "state": getattr(messages.Execution.State, execution.state),
        "workflow_revision_id": "000001-fake",
        "labels": execution.labels,
        "call_log_level": execution.call_log_level,
    }
    if execution.ended is not None:
        fields["end_time"] = _timestamp(execution.ended)
        fields["duration"] = duration_pb2.Duration(seconds=int(execution.ended - execution.started))
    if full:
        fields["argument"] = execution.argument_text
        if execution.state == "SUCCEEDED":
            fields["result"] = json.dumps(execution.result)
        if execution.error is not None:
            fields["error"] = messages.Execution.Error(payload=json.dumps(execution.error))
    return messages.Execution(**fields)


def _timestamp(seconds: float) -> timestamp_pb2.Timestamp:
    stamp = timestamp_pb2.Timestamp()
    stamp.FromMicroseconds(round(seconds * 1e6))
    return stamp
