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
from typing import Self, get_args

import grpc
import grpc.aio
from google.cloud.workflows.executions_v1.services.executions.transports import ExecutionsGrpcAsyncIOTransport

from lro_aio.engine.timing import SystemClock
from lro_aio.ports import Clock
from lro_aio.testing.oidc import Flaw, LocalIssuer
from lro_aio.testing.workflows.definition import Definition
from lro_aio.testing.workflows.reader import load
from lro_aio.testing.workflows.requests import Caller, HttpFault, Request, When
from lro_aio.testing.workflows.service import RPCS, Backend, Service
from lro_aio.testing.workflows.states import FakeExecution, World

__all__ = ["DEFINITION", "FakeWorkflows"]

DEFINITION = Path(__file__).resolve().parents[2] / "schedulers" / "workflow.yaml"
"""The definition that ``lro workflow`` prints."""


class FakeWorkflows:
    """A Cloud Workflows for tests: a gRPC server on the loopback interface whose executions run the real definition.

    It is a test aid, written from the documentation of Workflows, and no proof of what the service does. Google's own
    client talks to it over a real socket. Its executions call your server over real sockets, with tokens that a real
    verifier checks against ``issuer``::

        clock = ManualClock()
        async with FakeWorkflows(clock=clock) as fake:
            client = ExecutionsAsyncClient(transport=fake.transport())
            await client.create_execution(parent=..., execution=Execution(argument=json.dumps({...})))
            await clock.advance(30 * 86400)
            assert fake.requests[-1].body["reason"] == "ELAPSED"

    Executions live by ``clock``. Under a ``ManualClock`` they sleep until it is moved; ``advance`` and ``settle``
    return when every execution sleeps, has ended, or has waited ``patience`` real seconds for the answer to an HTTP
    call. Retries and their back-off take engine time too. The timeouts of HTTP calls and the times in tokens are the
    machine's.

    A definition of your own may use the part of the language that ``reader.py`` in this folder names: all that the
    definition in this package needs, and what is close to it. Anything else is refused with a sentence when the fake is
    entered. These limits of the service are enforced: a year, 100,000 steps, 512 KB of variables, 256 KB a string, 400
    characters an expression, 31,536,000 s a sleep, 20 nested calls, 20 parallel iterations, 1,800 s an HTTP call, 2 MB
    an answer, 32 KB an argument. The number of executions is not limited. There are no callbacks, no connectors, no
    filters of lists, and none of the other services of Workflows.

    Args:
        clock: Engine time; None: the machine's.
        definition: Path of the YAML or JSON to run for every workflow; None: the one in this package.
        email: The service account whose tokens the executions send.
        patience: Real seconds after which ``settle`` counts an HTTP call without an answer as idle: the handler behind
            it may wait for the clock.

    Raises:
        ValueError: On entry: the definition cannot be deployed.
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
        """Signs the tokens: give its ``certs_url``, ``issuer`` and ``email`` to the verifier."""
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
            raise RuntimeError("the fake is not listening yet: use it in `async with FakeWorkflows() as fake:`")
        return self._host

    @property
    def channel(self) -> grpc.aio.Channel:
        """A new channel to the server. The fake closes it when it closes, if nobody has before."""
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
        """Have ``settle`` check again whether all is idle; callable from any thread."""
        if self._world is not None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._world.loop.call_soon_threadsafe(self._changed.set)

    def _make(self, parent: str, argument: str, labels: dict[str, str], call_log_level: int) -> FakeExecution:
        if self._world is None:
            raise RuntimeError("the fake is not open")
        name = f"{parent}/executions/{uuid.uuid4()}"
        return FakeExecution(name, argument, labels=labels, call_log_level=call_log_level, world=self._world)

    # What there is

    @property
    def executions(self) -> Mapping[str, FakeExecution]:
        """Every execution by name, the oldest first."""
        return MappingProxyType(self._backend.executions)

    @property
    def steps(self) -> dict[str, int]:
        """How many steps each execution has taken, by name."""
        return {name: execution.steps for name, execution in list(self._backend.executions.items())}

    @property
    def requests(self) -> deque[Request]:
        """The last 10,000 HTTP calls of executions, the newest last."""
        return self._caller.requests

    @property
    def rpcs(self) -> Counter[str]:
        """How many calls have arrived, by RPC ("CreateExecution", ...)."""
        return self._backend.rpcs

    # Fault points

    def fail(self, rpc: str, code: grpc.StatusCode, times: int = 1, when: When = "before") -> None:
        """Make the next calls of an RPC fail, once the failures planned so far are used up.

        Args:
            rpc: Its name, such as "CreateExecution".
            code: What the caller gets.
            times: How many calls; 0 cancels what was planned for the RPC.
            when: "before": the call does nothing; "after": it takes effect, and only the answer is lost.

        Raises:
            ValueError: There is no such RPC or fault.
        """
        if rpc not in RPCS:
            raise ValueError(f"there is no RPC {rpc!r}; there are {', '.join(sorted(RPCS))}")
        if code is grpc.StatusCode.OK:
            raise ValueError("OK is not a failure")
        _check(times, when)
        self._backend.plan(rpc, code, times, when)

    def double(self, times: int = 1) -> None:
        """Make each of the next CreateExecution calls start two executions; the caller hears of the first only."""
        _check(times, "before")
        self._backend.doubles += times

    def fail_http(self, fault: HttpFault, times: int = 1, *, path: str = "", when: When = "before") -> None:
        """Make the next HTTP calls of executions fail, once the failures planned so far are used up.

        Args:
            fault: A status that the execution gets, as from the platform in front of a service; "refused": no
                connection; "dropped": the connection breaks; "timeout": no answer in time, without the waiting.
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
        """Make the next HTTP calls of executions carry a bad token.

        Args:
            flaw: What is wrong with the token: "expired", "early", "audience", "email", "unverified", "issuer",
                "unsigned" (``alg: none``), "unknown_key", "tampered" or "garbage".
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
        """How many HTTP calls have failed because of ``fail_http``, or had a bad token because of ``spoil``."""
        return self._caller.faults

    def kill(self, name: str) -> None:
        """End an execution as FAILED, as an outage of the service may; it calls nobody back.

        Args:
            name: The execution's name; one that has ended stays as it is.

        Raises:
            KeyError: There is no such execution.
        """
        self._backend.executions[name].stop("FAILED", "killed by the test")


def _check(times: int, when: str) -> None:
    if times < 0:
        raise ValueError(f"times must be 0 or more, not {times}")
    if when not in ("before", "after"):
        raise ValueError(f'when must be "before" or "after", not {when!r}')


@lru_cache(maxsize=16)
def _load(path: Path) -> Definition:
    """Read each definition once: it takes a while, and nobody changes what was read."""
    return load(path)
