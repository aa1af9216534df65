"""What every call passes first: it is counted, delayed, and made to fail if a test asked for that."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import grpc

from lro_aio.testing.spanner.database import Database
from lro_aio.testing.spanner.faults import Fault, Faults
from lro_aio.testing.spanner.problems import SpannerError, aborted, missing_resource

__all__ = ["Call", "Gate"]


class Call(NamedTuple):
    """One RPC that arrived."""

    rpc: str
    tag: str
    """Its request tag, or its transaction tag if it has none."""
    priority: str
    """"LOW", "MEDIUM", "HIGH", or "UNSPECIFIED", which Spanner takes for HIGH."""
    metadata: Mapping[str, str | bytes] = MappingProxyType({})
    """Its gRPC metadata: what the client sends beside the request."""


class Gate:
    """The gate of one server. Safe for threads."""

    def __init__(self, database: Database) -> None:
        self.latency = 0.0
        self.rpcs: Counter[str] = Counter()
        self.calls: deque[Call] = deque(maxlen=10_000)
        self.faults = Faults()
        self._commits: set[bytes] = set()
        self._database = database
        self._lock = threading.Lock()

    def enter(self, rpc: str, request: Any, metadata: Iterable[tuple[str, str | bytes]]) -> Fault | None:
        """A call has arrived: counts it, sleeps for the latency, and draws its fault."""
        tag, priority = "", "UNSPECIFIED"
        options = getattr(request, "request_options", None)
        if options is not None:
            tag = options.request_tag or options.transaction_tag
            priority = type(options).Priority.Name(options.priority).removeprefix("PRIORITY_")
        with self._lock:
            self.rpcs[rpc] += 1
            self.calls.append(Call(rpc, tag, priority, MappingProxyType(dict(metadata))))
        if self.latency:
            time.sleep(self.latency)
        id_ = _transaction_of(request)
        with self._database.condition:
            settled = self._database.transactions.committed(id_ or b"")
        with self._lock:
            again = rpc == "Commit" and id_ in self._commits
            if rpc == "Commit" and id_:
                self._commits.add(id_)
        return self.faults.draw(rpc, transactional=id_ is not None, settled=settled, again=again)

    def carried(self, size: int) -> None:
        """A request or an answer of so many bytes was transferred."""
        with self._database.condition:
            self._database.work["bytes"] += size

    def fail(self, fault: Fault, request: Any) -> SpannerError:
        """The error of a fault, after its side effects."""
        database = self._database
        with database.condition:
            name = getattr(request, "session", None) or getattr(request, "name", None)
            session = database.sessions.get(name) if isinstance(name, str) else None
            if fault.session_lost:  # for this caller only: calls of others in the same session go on
                return missing_resource("Session", str(name))
            if fault.code is not grpc.StatusCode.ABORTED:
                return SpannerError(fault.code, f"A fault of the fake Spanner, {fault.when} the call was carried out.")
            id_ = _transaction_of(request)
            if session is not None and id_:
                database.transactions.abort(session, id_)
            return aborted("Transaction was aborted.", database.transactions.retry_delay)


def _transaction_of(request: Any) -> bytes | None:
    """The read-write transaction that a request belongs to, b"" if it is to begin; None: it belongs to none."""
    id_: bytes = getattr(request, "transaction_id", b"")
    if id_:
        return id_
    if getattr(request, "mutations", None) is not None:
        return b""
    selector = getattr(request, "transaction", None)
    if selector is None or selector.WhichOneof("selector") in (None, "single_use"):
        return None
    begun: bytes = selector.id
    return begun
