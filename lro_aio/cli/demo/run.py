"""The demo as its user runs it: server, operation, crash, second server, and a check of the result."""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
import time
import urllib.request
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import grpc.aio
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import duration_pb2, json_format

from lro_aio.cli.demo import indexer_pb2
from lro_aio.cli.demo.check import recompute
from lro_aio.cli.demo.follow import CALL_TIMEOUT, LostError, Snapshot, child_of, take
from lro_aio.cli.demo.handlers import INDEX_PART, PARALLEL
from lro_aio.cli.demo.indexer_pb2_grpc import IndexerServiceStub
from lro_aio.cli.demo.process import ServerProcess
from lro_aio.cli.demo.report import Crash, Report
from lro_aio.cli.demo.view import View
from lro_aio.client import Client
from lro_aio.core.status import error_of

__all__ = ["DemoTimeoutError", "Options", "run"]

LEASE = 2.0
"""Seconds, instead of the default 30: the demo's user should not wait long for a crash to be noticed."""


class DemoTimeoutError(Exception):
    """The demo's time was up."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the user asked for."""

    path: str
    """Absolute."""
    store: str | None
    """URL; None is a SQLite file in a temporary directory."""
    pace: float
    """Least seconds that the indexing takes."""
    timeout: float
    """Seconds until the demo gives up."""


async def run(options: Options, view: View) -> Report:
    """Run the demo. No server process is left when it returns, raises or is cancelled.

    Raises:
        ServerStartError: The server did not start.
        DemoTimeoutError: The work was not done in ``options.timeout``.
        OperationFailedError: The operation failed.
        LostError: The second server does not know the operation.
        grpc.aio.AioRpcError: The server did not answer.
    """
    with tempfile.TemporaryDirectory(prefix="lro-demo-") as directory:
        # A renewal that waits for the file must not lose its lease: the busy timeout is below a third of the lease.
        store = options.store or f"sqlite:///{directory}/operations.db?busy_timeout=0.5"
        demo = _Demo(options, view, store, Path(directory, "server.log"))
        try:
            async with asyncio.timeout(options.timeout):
                return await demo.run()
        except TimeoutError as exc:
            raise DemoTimeoutError(f"the demo was not done in {options.timeout:g} s") from exc


class _Demo:
    def __init__(self, options: Options, view: View, store: str, log: Path) -> None:
        self._options = options
        self._view = view
        self._store = store
        self._log = log
        self._parent = f"demos/{uuid.uuid4().hex[:8]}"
        self._request_id = str(uuid.uuid4())
        self._interrupted: dict[str, int] = {}

    async def run(self) -> Report:
        view = self._view
        view.say(f"index {self._options.path}")
        view.say(
            f"{PARALLEL} at a time, throttled to about {self._options.pace:g} s; leases of {LEASE:g} s (default 30), so"
            " that a crash is noticed soon"
        )
        async with self._server() as server, grpc.aio.insecure_channel(server.grpc) as channel:
            started = time.monotonic()
            name = (await self._index(channel)).name
            view.say(f"started {name}")
            half = await self._follow(channel, name, _half_done)
            killed = time.monotonic()
            crash = await self._crash(server, name)
            view.update(half.hit(self._interrupted))
        async with self._server() as server, grpc.aio.insecure_channel(server.grpc) as channel:
            crash.seconds = time.monotonic() - killed
            again = (await self._index(channel)).name
            if again != name:
                raise LostError(f"the same request_id gave {again} not {name}: the operation was lost")
            view.say("asked again with the same request_id: it is the same operation, and it goes on")
            last = await self._follow(channel, name, lambda snapshot: snapshot.operation.done)
            seconds = time.monotonic() - started
            error = error_of(last.operation)
            if error is not None:
                raise error
            # A child that was hit before it could report its directory has reported it since.
            crash.in_flight = {c.name: c.directory for c in last.children if c.name in crash.in_flight}
            manifest = indexer_pb2.Manifest()
            last.operation.response.Unpack(manifest)
            view.say("done; recomputing the digest in this process")
            expected = await asyncio.to_thread(recompute, self._options.path)
            http_agrees = await asyncio.to_thread(_same_over_http, server.http, last.operation)
        return Report(manifest, expected, crash, seconds, http_agrees)

    @contextlib.asynccontextmanager
    async def _server(self) -> AsyncIterator[ServerProcess]:
        server = await ServerProcess.start(self._store, lease=LEASE, log=self._log)
        try:
            self._view.say(f"server process {server.pid}: gRPC {server.grpc}, HTTP {server.http}")
            yield server
        finally:
            await server.stop()

    async def _index(self, channel: grpc.aio.Channel) -> operations_pb2.Operation:
        pace = duration_pb2.Duration()
        pace.FromMilliseconds(int(self._options.pace * 1000))
        return await IndexerServiceStub(channel).IndexDirectory(
            indexer_pb2.IndexDirectoryRequest(
                path=self._options.path, parent=self._parent, request_id=self._request_id, pace=pace
            ),
            timeout=CALL_TIMEOUT,
        )

    async def _follow(self, channel: grpc.aio.Channel, name: str, until: Callable[[Snapshot], bool]) -> Snapshot:
        stub = operations_pb2_grpc.OperationsStub(channel)  # type: ignore[no-untyped-call]  # generated code
        while True:
            snapshot = await take(stub, name, self._parent, self._interrupted)
            self._view.update(snapshot)
            if until(snapshot) or snapshot.operation.done:
                return snapshot
            await asyncio.sleep(0.2 + len(snapshot.children) / 1000)

    async def _crash(self, server: ServerProcess, name: str) -> Crash:
        """Kill the server, and read the store while no process serves it."""
        crash = Crash(server.pid, await server.kill())
        async with Client(self._store, worker=False) as client:
            async for operation in client.iter_operations("state = RUNNING", parent=self._parent):
                if operation.name != name:
                    child = child_of(operation)
                    crash.in_flight[operation.name] = child.directory
                    self._interrupted[operation.name] = child.attempt
            ended = f'handler = "{INDEX_PART}" AND done = true'
            crash.finished = len([one async for one in client.iter_operations(ended, parent=self._parent)])
            waiting = [one.name async for one in client.iter_operations("state = SUSPENDED", parent=self._parent)]
        crash.parent_state = "SUSPENDED" if name in waiting else "RUNNING"
        self._view.say(
            f"SIGKILL to server process {crash.pid} (exit status {crash.exit_status}); in the store:"
            f" {crash.finished} children done, {len(crash.in_flight)} in flight, parent {crash.parent_state}",
            style="bold red",
        )
        return crash


def _half_done(snapshot: Snapshot) -> bool:
    """Whether half of the work is done, and a crash would hit some child."""
    return snapshot.fraction >= 0.5 and any(child.progress < 0.9 for child in snapshot.under_way)


def _same_over_http(base: str, operation: operations_pb2.Operation) -> bool:
    with urllib.request.urlopen(f"{base}/v1/{operation.name}", timeout=CALL_TIMEOUT) as answer:
        body = json.loads(answer.read())
    return json_format.ParseDict(body, operations_pb2.Operation()) == operation
