"""``FakeWorkflows``: what tests use."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter, deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self, get_args

import grpc
import grpc.aio
from google.cloud.workflows.executions_v1.services.executions.transports import ExecutionsGrpcAsyncIOTransport

from lro_aio.engine.timing import SystemClock
from lro_aio.ports import Clock
from lro_aio.testing.oidc import Flaw, LocalIssuer
from lro_aio.testing.workflows import engine
from lro_aio.testing.workflows.requests import Caller, HttpFault, Request, When
from lro_aio.testing.workflows.service import RPCS, Backend, Service
from lro_aio.testing.workflows.states import FakeExecution, World

__all__ = ["DEFINITION", "FakeWorkflows"]

DEFINITION = Path(__file__).resolve().parents[2] / "schedulers" / "workflow.yaml"
"""The definition that ``lro workflow`` prints."""


class FakeWorkflows:
    """A Cloud Workflows for tests: a gRPC server on the loopback interface whose executions run the real definition.

    A test aid, written from the documentation of Workflows; no proof of what the service does. Google's own client
    talks to it over a real socket, its executions call your server over real sockets, with tokens that a real verifier
    checks against ``issuer``::

        clock = ManualClock()
        async with FakeWorkflows(clock=clock) as fake:
            client = ExecutionsAsyncClient(transport=fake.transport())
            await client.create_execution(parent=..., execution=Execution(argument=json.dumps({...})))
            await clock.advance(30 * 86400)
            assert fake.requests[-1].body["reason"] == "ELAPSED"

    Executions live by ``clock``: under a ``ManualClock`` they sleep until it is moved, and ``advance`` and ``settle``
    return when all of them sleep, have ended, or have waited ``patience`` real seconds for the answer of an HTTP call.
    Retries and their back-off take engine time too. Timeouts of HTTP calls, and the times in tokens, are the machine's.

    The steps are run by the engine of the package ``workflows-emulator``, with its gaps bridged as ``engine.py`` in
    this folder says. It enforces the limits that a definition can come near: 100,000 steps, 512 KB of variables, 400
    characters an expression, 31,536,000 s a sleep, 20 parallel iterations, 2 MB an answer, 32 KB an argument. Laxer
    than the service: how long an execution lasts, how many there are, and where a variable may be used. Not there:
    callbacks, connectors, filters of lists, the other services of Workflows.

    Args:
        clock: Engine time; None: the machine's.
        definition: Path of the YAML to run for every workflow; None: the one that is part of this package.
        email: The service account whose tokens the executions send.
        patience: Real seconds after which ``settle`` takes an HTTP call without an answer for idle: its handler may
            wait for the clock.
    """

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        definition: Path | None = None,
        email: str = "workflow@test-project.iam.gserviceaccount.com",
        patience: float = 1.0,
    ) -> None:
        self.issuer = LocalIssuer(email=email)
        """Who signs the tokens: give its ``certs_url``, ``issuer`` and ``email`` to the verifier."""
        self._clock: Clock = clock or SystemClock()
        self._path = definition or DEFINITION
        self._patience = patience
        self._caller = Caller(self.issuer)
        self._backend = Backend(self._make)
        self._service = Service(self._backend, self._notify)
        self._world: World | None = None
        self._changed = asyncio.Event()
        self._detach: Callable[[], None] = lambda: None
        self._channels: list[grpc.aio.Channel] = []
        self._host = ""

    # Life cycle

    async def __aenter__(self) -> Self:
        definition = await asyncio.to_thread(_load, self._path)
        self._world = World(definition, self._clock, asyncio.get_running_loop(), self._caller, self._notify)
        self.issuer.__enter__()
        self._host = f"127.0.0.1:{self._service.start()}"
        self._detach = self._clock.attach(self.settle)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._detach()
        for channel in self._channels:
            await channel.close()
        await asyncio.to_thread(self._stop)

    def _stop(self) -> None:
        self._service.stop()
        for execution in self._backend.executions.values():
            execution.stop("FAILED", "the fake was closed")
        for execution in self._backend.executions.values():
            execution.join(5)
        self.issuer.__exit__(None, None, None)

    @property
    def host(self) -> str:
        """HOST:PORT of the server.

        Raises:
            RuntimeError: It was never started.
        """
        if not self._host:
            raise RuntimeError("the fake listens nowhere yet: use it in `async with FakeWorkflows() as fake:`")
        return self._host

    @property
    def channel(self) -> grpc.aio.Channel:
        """A new channel to the server; closed with the fake if not before."""
        self._channels.append(grpc.aio.insecure_channel(self.host))
        return self._channels[-1]

    def transport(self) -> ExecutionsGrpcAsyncIOTransport:
        """A new transport for ``ExecutionsAsyncClient(transport=...)``."""
        return ExecutionsGrpcAsyncIOTransport(channel=self.channel)

    async def settle(self) -> None:
        """Return when no execution can go on without time moving."""
        while True:
            self._changed.clear()
            busy = [execution for execution in list(self._backend.executions.values()) if execution.busy]
            if not busy and not self._backend.under_way:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(min(0.05, self._patience)):
                    await self._changed.wait()
            for execution in busy:
                execution.grow_impatient(self._patience)

    def _notify(self) -> None:
        """From any thread: look again whether all is idle."""
        if self._world is not None:
            with suppress(RuntimeError):  # the loop is closed, and nobody waits
                self._world.loop.call_soon_threadsafe(self._changed.set)

    def _make(self, parent: str, argument: str, labels: dict[str, str], call_log_level: int) -> FakeExecution:
        if self._world is None:
            raise RuntimeError("the fake is not open")
        name = f"{parent}/executions/{uuid.uuid4()}"
        return FakeExecution(name, argument, labels=labels, call_log_level=call_log_level, world=self._world)

    # What there is

    @property
    def executions(self) -> Mapping[str, FakeExecution]:
        """Every execution by its name, the oldest first."""
        return MappingProxyType(self._backend.executions)

    @property
    def steps(self) -> dict[str, int]:
        """How many steps each execution has taken, by its name."""
        return {name: execution.steps for name, execution in list(self._backend.executions.items())}

    @property
    def requests(self) -> deque[Request]:
        """The last 10,000 HTTP calls of executions, the newest at the end."""
        return self._caller.requests

    @property
    def rpcs(self) -> Counter[str]:
        """How many calls arrived, by the RPC's name ("CreateExecution", ...)."""
        return self._backend.rpcs

    # Fault points

    def fail(self, rpc: str, code: grpc.StatusCode, times: int = 1, when: When = "before") -> None:
        """Let the next calls of an RPC fail, after those that were asked for already.

        Args:
            rpc: Its name, as "CreateExecution".
            code: What the caller gets.
            times: How many calls; 0 forgets what was asked for.
            when: "before": the call does nothing; "after": it is carried out, and only the answer is lost.

        Raises:
            ValueError: There is no such RPC or fault.
        """
        if rpc not in RPCS:
            raise ValueError(f"there is no RPC {rpc!r}; there are {', '.join(sorted(RPCS))}")
        if code is grpc.StatusCode.OK:
            raise ValueError("OK is no fault")
        _check(times, when)
        self._backend.plan(rpc, code, times, when)

    def double(self, times: int = 1) -> None:
        """Let each of the next CreateExecution calls start two executions, and tell of the first only."""
        _check(times, "before")
        self._backend.doubles += times

    def fail_http(self, fault: HttpFault, times: int = 1, *, path: str = "", when: When = "before") -> None:
        """Let the next HTTP calls of executions fail, after those that were asked for already.

        Args:
            fault: A status that the caller gets, as from the platform before a service; "refused": no connection;
                "dropped": the connection breaks; "timeout": no answer in time, without the waiting.
            times: How many calls.
            path: Only calls whose URL contains it.
            when: "before": the call does not reach the server; "after": it does, and only the answer is lost.

        Raises:
            ValueError: There is no such fault.
        """
        if not (isinstance(fault, int) and 300 <= fault <= 599) and fault not in ("refused", "dropped", "timeout"):
            raise ValueError(f'a fault is a status from 300 to 599, "refused", "dropped" or "timeout", not {fault!r}')
        _check(times, when)
        self._caller.fail(fault, times, path, when)

    def spoil(self, flaw: Flaw, times: int = 1, *, path: str = "") -> None:
        """Let the next HTTP calls of executions carry a bad token.

        Args:
            flaw: What is wrong with it: "expired", "early", "audience", "email", "unverified", "issuer", "unsigned"
                (``alg: none``), "unknown_key", "tampered" or "garbage".
            times: How many calls.
            path: Only calls whose URL contains it.

        Raises:
            ValueError: There is no such flaw.
        """
        if flaw not in get_args(Flaw):
            raise ValueError(f"there is no flaw {flaw!r}; there are {', '.join(get_args(Flaw))}")
        _check(times, "before")
        self._caller.spoil(flaw, times, path)

    @property
    def faults_injected(self) -> int:
        """How many HTTP calls have failed by ``fail_http`` or had a bad token by ``spoil``."""
        return self._caller.faults

    def kill(self, name: str) -> None:
        """End an execution without a word, as an outage of the service may; it calls nobody back.

        Args:
            name: Of the execution; one that has ended stays as it is.

        Raises:
            KeyError: There is no such execution.
        """
        self._backend.executions[name].stop("FAILED", "killed by the test")


def _check(times: int, when: str) -> None:
    if times < 0:
        raise ValueError(f"times is 0 or more, not {times}")
    if when not in ("before", "after"):
        raise ValueError(f'when is "before" or "after", not {when!r}')


@lru_cache(maxsize=16)
def _load(path: Path) -> dict[str, Any]:
    """Read once: the schema takes its time, and nobody changes what is read."""
    return engine.load(path)
