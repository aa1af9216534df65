"""Every fault at once, at random: a small world of nested operations is driven through it, and accounted for.

``run_all`` of some seeds fails with an AssertionError that names them. Two runs of a seed have the same plan and the
same odds; which call is struck depends on how the threads take turns.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import random
import threading
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from typing import Any, Literal, get_args
from unittest import mock
from urllib.parse import urlsplit

import grpc
from google.protobuf import wrappers_pb2

import lro_aio as lro
from lro_aio.core.record import Record, State
from lro_aio.ports import ListQuery
from lro_aio.schedulers import _remote
from lro_aio.servers.resume import OidcVerifier
from lro_aio.testing import FakeSpanner, FakeWorkflows, FaultyStore, ManualClock
from lro_aio.testing.cloud_tasks import FakeCloudTasks
from lro_aio.testing.oidc import Flaw
from lro_aio.testing.workflows.requests import Caller, _Planned

from .conftest import Service, serving

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
WORLD_LIMIT = 600.0
"""Seconds of real time for one world. Only a broken program takes as long, on a busy machine too."""
AUDIENCE = "https://reports.example"
FLAWS: tuple[Flaw, ...] = get_args(Flaw)
LOST = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.INTERNAL)
BROKEN = (503, 500, 429, 425, 408, "refused", "dropped", "timeout")


class Odds:
    """Decides which call fails. Safe for threads.

    Each kind of fault has its own chance, and a number of strikes after which it is over, so that every world comes to
    an end.
    """

    KINDS = ("store", "rpc", "double", "http", "token")

    def __init__(self, rng: random.Random) -> None:
        self.struck: Counter[str] = Counter()
        self._rng = rng
        self._lock = threading.Lock()
        self._chances = {kind: rng.choice((0.0, 0.05, 0.2, 0.6)) for kind in self.KINDS}
        self._chances["double"] = 0.2  # executions are few, next to calls
        self._left = {kind: rng.randint(5, 40) for kind in self.KINDS}

    def strike(self, kind: str) -> bool:
        """Whether the call at hand fails."""
        with self._lock:
            if self._left[kind] <= 0 or self._rng.random() >= self._chances[kind]:
                return False
            self._left[kind] -= 1
            self.struck[kind] += 1
            return True

    def choose(self, among: Any) -> Any:
        with self._lock:
            return self._rng.choice(among)

    def when(self) -> Literal["before", "after"]:
        """Before the call takes effect, or after."""
        with self._lock:
            return "before" if self._rng.random() < 0.5 else "after"

    def calm(self) -> None:
        """No fault from now on."""
        with self._lock:
            self._left = dict.fromkeys(self.KINDS, 0)


class Store(FaultyStore):
    """Any call may fail, with and without effect."""

    def __init__(self, inner: Any, odds: Odds) -> None:
        super().__init__(inner)
        self._odds = odds

    def _through(self, method: str, call: Any) -> Any:
        if method in ("open", "close") or not self._odds.strike("store"):
            return super()._through(method, call)
        if self._odds.when() == "after":
            super()._through(method, call)
        raise lro.StoreUnavailableError("a fault of the mix", retry_after=0.0)


class Calls(Caller):
    """HTTP calls of executions: any may fail, before and after it reached the server, and have a bad token."""

    __slots__ = ("bad", "odds")

    def __init__(self, issuer: Any, odds: Odds) -> None:
        super().__init__(issuer)
        self.odds = odds
        self.bad: set[str] = set()

    def _draw(self, url: str, *, flaw: bool) -> _Planned | None:
        if flaw and self.odds.strike("token"):
            return _Planned("", 0, flaw=self.odds.choose(FLAWS))
        if not flaw and self.odds.strike("http"):
            return _Planned("", 0, fault=self.odds.choose(BROKEN), when=self.odds.when())
        return None

    def _sign(self, request: Any, auth: Any, headers: dict[str, str]) -> None:
        super()._sign(request, auth, headers)
        if request.flaw is not None:
            self.bad.add(request.authorization)


class Watched(Service):
    """Notes what each request was answered, and with whose token it came."""

    def __init__(self, verifier: OidcVerifier) -> None:
        super().__init__(verifier)
        self.log: list[tuple[str, str, int, Any, Any]] = []
        """(path, authorization, status, body, answer)."""

    async def answer(self, scope: Any, receive: Any, send: Any) -> None:
        said = dict(scope["headers"]).get(b"authorization", b"").decode()
        sent, got = b"", b""
        status = 0

        async def receiving() -> Any:
            nonlocal got
            message = await receive()
            got += message.get("body", b"")
            return message

        async def sending(message: Any) -> None:
            nonlocal sent, status
            status = message.get("status", status)
            sent += message.get("body", b"")
            if message["type"] == "http.response.body":
                self.log.append((scope["path"], said, status, json.loads(got or b"{}"), json.loads(sent or b"{}")))
            await send(message)

        await super().answer(scope, receiving, sending)


# The operations


def plan(rng: random.Random, depth: int = 0) -> dict[str, Any]:
    """What one operation does: a list of waits, and how it ends."""
    steps: list[dict[str, Any]] = []
    for _ in range(rng.randint(0 if depth else 1, 2)):
        step: dict[str, Any] = {"sleep": 0.0, "children": [], "timeout": None, "others": []}
        if depth < 2 and rng.random() < 0.6:
            step["children"] = [plan(rng, depth + 1) for _ in range(rng.randint(1, 3 - depth))]
            step["timeout"] = rng.choice((None, None, rng.uniform(MINUTE, HOUR), 2 * DAY))
            step["poll_interval"] = rng.choice((3.0, MINUTE))
            step["max_poll_interval"] = rng.choice((600.0, 3600.0))
            if rng.random() < 0.2:
                step["others"] = ["operations/never-made"]
        if not step["children"] or rng.random() < 0.3:
            step["sleep"] = rng.uniform(1, 40 * DAY) if depth == 0 and rng.random() < 0.3 else rng.uniform(1, HOUR)
        steps.append(step)
    return {"steps": steps, "fate": rng.choice(("done", "done", "done", "fail")), "segment": 0, "at": 0}


def length(spec: dict[str, Any]) -> float:
    """Seconds that an operation takes at most, with all of its children one after the other."""
    return sum(step["sleep"] + sum(map(length, step["children"])) + (step["timeout"] or 0.0) for step in spec["steps"])


class Ledger:
    """What every run did."""

    def __init__(self, clock: ManualClock, read: Callable[[list[str]], list[Record]]) -> None:
        self.begun: Counter[tuple[str, str, int]] = Counter()
        """(name, uid, segment): a segment is what one suspend leads to."""
        self.given_up: Counter[tuple[str, str, int]] = Counter()
        """Runs that an exception of the store, or a cancel, ended: the segment runs again, after another wait."""
        self.planned: dict[tuple[str, str, int], float] = {}
        """When the sleep before a segment is over, at the earliest."""
        self.timeouts: dict[tuple[str, str, int], float] = {}
        self.family: dict[str, set[str]] = {}
        """Children by parent."""
        self.problems: list[str] = []
        self._clock = clock
        self._read = read

    def begin(self, op: lro.Operation[Any]) -> tuple[str, str, int]:
        key = (op.name, op.uid, op.state["segment"])
        self.begun[key] += 1
        if op.resume_point:
            self._check_wake(op, key)
        return key

    def _check_wake(self, op: lro.Operation[Any], key: tuple[str, str, int]) -> None:
        now, reason = self._clock.time(), op.wake_reason
        step = op.state["steps"][op.state["at"]]
        if now < self.planned[key]:
            self.problems.append(f"{op.name} wakes {self.planned[key] - now:g} s early, {reason}")
        if not step["children"]:
            if reason is not lro.WakeReason.ELAPSED:
                self.problems.append(f"{op.name} wakes from a sleep with {reason}")
            return
        rows = {row.name: row for row in self._read([child.name for child in op.children])}
        for child in op.children:
            row = rows.get(child.name)
            over = row is None or row.done or row.deleted
            if child.done and not over:
                self.problems.append(f"{op.name} is told that {child.name} is done, which is {row}")
            if child.done and row is not None and row.done and not row.deleted and child != row.to_operation():
                self.problems.append(f"{op.name} is told {child}, and the row is {row}")
        if reason is lro.WakeReason.CHILDREN_DONE:
            pending = [child.name for child in op.children if not child.done]
            if pending:
                self.problems.append(f"{op.name} is told CHILDREN_DONE, and {pending} are not")
        elif reason is lro.WakeReason.CHILDREN_TIMEOUT:
            if now < self.timeouts[key]:
                self.problems.append(f"{op.name} is told CHILDREN_TIMEOUT {self.timeouts[key] - now:g} s early")
        elif reason is not lro.WakeReason.POLL_FAILED:
            self.problems.append(f"{op.name} wakes from its children with {reason}")

    def suspend(self, op: lro.Operation[Any], step: dict[str, Any]) -> None:
        key = (op.name, op.uid, op.state["segment"])
        self.planned[key] = self._clock.time() + step["sleep"]
        if step["timeout"] is not None:
            self.timeouts[key] = self.planned[key] + step["timeout"]

    def descendants(self, name: str) -> set[str]:
        found = {name}
        for child in self.family.get(name, ()):
            found |= self.descendants(child)
        return found


def registry(ledger: Ledger) -> lro.Handlers:
    handlers = lro.Handlers()

    @handlers.handler("node", state=dict[str, Any], resume_points=("next",))
    async def node(op: lro.Operation[dict[str, Any]]) -> Any:
        key = ledger.begin(op)
        try:
            return await work(op)
        except (lro.StoreUnavailableError, asyncio.CancelledError):
            ledger.given_up[key] += 1
            raise

    async def work(op: lro.Operation[dict[str, Any]]) -> Any:
        state = op.state
        if op.resume_point and op.wake_reason is not lro.WakeReason.POLL_FAILED:  # after which it waits on
            state["at"] += 1
        if state["at"] == len(state["steps"]):
            if state["fate"] == "fail":
                raise ValueError("as planned")
            return wrappers_pb2.Int32Value(value=state["segment"])
        step = state["steps"][state["at"]]
        children = []
        for number, spec in enumerate(step["children"]):
            child = await op.start_child("node", spec, key=f"{state['at']}-{number}")
            ledger.family.setdefault(op.name, set()).add(child.name)
            children.append(child.name)
        state["segment"] += 1
        ledger.suspend(op, step)
        wait: dict[str, Any] = {"sleep": step["sleep"]}
        if children:
            wait |= {"children": children + step["others"], "timeout": step["timeout"]}
            wait |= {"poll_interval": step["poll_interval"], "max_poll_interval": step["max_poll_interval"]}
        return op.suspend(resume_at="next", **wait)

    return handlers


# The world


class Mix:
    """One world, from its start until nothing is left of its operations but their results."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.odds = Odds(random.Random(seed + 1_000_000))
        self.clock = ManualClock()
        self.tops: dict[str, dict[str, Any]] = {}
        self.cancelled: set[str] = set()
        self.deleted: set[str] = set()
        self.bad: set[str] = set()
        self.client: lro.Client
        self.workflows: FakeWorkflows
        self.tasks: FakeCloudTasks | None = None
        self.service: Watched
        self.ledger: Ledger
        self.store: Store
        self.threads: ThreadPoolExecutor

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        rng = self.rng
        async with AsyncExitStack() as stack:
            self.threads = stack.enter_context(ThreadPoolExecutor(1))
            self.workflows = FakeWorkflows(clock=self.clock, patience=0.1)
            issuer = self.workflows.issuer
            calls = Calls(issuer, self.odds)
            calls.bad = self.bad
            self.workflows._caller = calls
            await stack.enter_async_context(self.workflows)
            self._strike_rpcs()
            verifier = OidcVerifier(
                audience=AUDIENCE, service_accounts=[issuer.email], issuer=issuer.issuer, certs_url=issuer.certs_url,
                refetch_interval=0.001,
            )  # fmt: skip
            self.service = Watched(verifier)
            await stack.enter_async_context(serving(self.service))
            inner: Any = lro.SqliteStore("sqlite://")
            if rng.random() < 0.15:
                spanner = await stack.enter_async_context(FakeSpanner())
                inner = lro.SpannerStore.from_url(spanner.url)
            self.store = Store(inner, self.odds)
            self.ledger = Ledger(self.clock, inner.read)
            scheduler = await self._scheduler(stack)
            self.client = lro.Client(
                self.store, scheduler=scheduler, handlers=[registry(self.ledger)], clock=self.clock, drain_timeout=0,
                sweep=lro.SweepPolicy(interval=3600), dispatch=rng.choice((None, None, "local")),
                max_attempts=10_000, retention=lro.RetentionPolicy(1000 * DAY),
            )  # fmt: skip
            self.service.clients.append(self.client)
            await stack.enter_async_context(self.client)
            yield

    async def _scheduler(self, stack: AsyncExitStack) -> Any:
        issuer = self.workflows.issuer
        if self.rng.random() < 0.65:
            return lro.WorkflowsScheduler(
                project="acme", location="l", resume_host=self.service.url, audience=AUDIENCE,
                transport=self.workflows.transport(),
            )  # fmt: skip
        fake = FakeCloudTasks(clock=self.clock, token=self._task_token, deliver=self._deliver, patience=0.1)
        fake._faults = TaskFaults(self.odds)
        self.tasks = await stack.enter_async_context(fake)
        return lro.CloudTasksScheduler(
            project="acme", location="l", queue="q", resume_host=self.service.url, audience=AUDIENCE,
            service_account=issuer.email, transport=fake.transport(),
        )  # fmt: skip

    def _strike_rpcs(self) -> None:
        backend, enter = self.workflows._backend, self.workflows._backend.enter

        def struck(rpc: str) -> Any:
            planned = enter(rpc)
            if rpc == "CreateExecution" and self.odds.strike("double"):
                backend.doubles += 1
            return (self.odds.choose(LOST), self.odds.when()) if self.odds.strike("rpc") else planned

        backend.enter = struck  # type: ignore[method-assign]

    def _task_token(self, audience: str, _email: str) -> str:
        if not self.odds.strike("token"):
            return self.workflows.issuer.token(audience)
        token = self.workflows.issuer.token(audience, self.odds.choose(FLAWS))
        self.bad.add(f"Bearer {token}")
        return token

    async def _deliver(self, request: Any) -> int:
        assert self.tasks is not None
        lost = self.odds.strike("http")
        if lost and self.odds.when() == "before":
            return self.odds.choose((0, 503, 429))
        status = await self.tasks._send(request)
        return self.odds.choose((0, 503)) if lost else status

    # The course of things

    async def run(self) -> None:
        for number in range(self.rng.randint(1, 2)):
            name = f"operations/top-{number}"
            self.tops[name] = plan(self.rng)
            await self._insist(
                lambda n=number, s=name: self.client.start("node", self.tops[s], operation_id=f"top-{n}")
            )
        for _ in range(self.rng.randint(10, 25)):
            await self._trouble()
            await self.clock.advance(self.rng.choice((0, 0.5, 5, 40, 600, HOUR, 7 * HOUR, DAY)))
            if self.rng.random() < 0.5:
                await self._sweep()
        self.odds.calm()
        latest = self.clock.time() + sum(map(length, self.tops.values())) + 10 * DAY
        pause = MINUTE
        while unfinished := [row for row in self.rows() if not row.done]:
            if self.clock.time() > latest:
                raise AssertionError(f"lost: {unfinished}")
            await self._sweep()
            await self.clock.advance(pause)
            pause = min(DAY, pause * 1.5)
        await self.clock.advance(60 * DAY)
        self.check()

    async def _trouble(self) -> None:
        """What somebody does while the operations wait."""
        roll = self.rng.random()
        rows = self.rows()
        if roll < 0.25:
            self._kill()
        elif roll < 0.30 and rows:
            name = self.rng.choice(rows).name
            self.cancelled |= self.ledger.descendants(name)
            await self._insist(lambda: self.client.cancel_operation(name))
            self.cancelled |= self.ledger.descendants(name)
        elif roll < 0.34 and rows:
            name = self.rng.choice(rows).name
            self.deleted.add(name)
            await self._insist(lambda: self.client.delete_operation(name))
        elif roll < 0.40:
            self.workflows.issuer.rotate()
        elif roll < 0.55 and rows:
            await self._attack(self.rng.choice(rows))
        elif roll < 0.70:
            await self._replay()

    def _kill(self) -> None:
        if self.tasks is not None:
            if self.tasks.tasks:
                self.tasks._forget(self.rng.choice(list(self.tasks.tasks)))
            return
        alive = [name for name, execution in self.workflows.executions.items() if execution.state == "ACTIVE"]
        if alive:
            self.workflows.kill(self.rng.choice(alive))

    async def _attack(self, row: Record) -> None:
        """Somebody who has read the resume token in a log, and has no good OIDC token."""
        token = self.workflows.issuer.token(AUDIENCE, self.rng.choice(FLAWS))
        body = {"operation": row.name, "resumeToken": row.wait.token if row.wait else "t", "reason": "ELAPSED"}
        self.bad.add(f"Bearer {token}")
        status, _ = await self._post(self.rng.choice(("/lro/resume", "/lro/poll", "/lro/sweep")), body, token)
        assert status in (401, 403), f"a bad token is answered with {status}"

    async def _replay(self) -> None:
        """A resume that took effect, word for word and with a good OIDC token."""
        used = [entry[3] for entry in self.service.log if entry[4] == {"resumed": True}]
        if not used:
            return
        body = self.rng.choice(used)
        status, answer = await self._post("/lro/resume", body, self.workflows.issuer.token(AUDIENCE))
        assert (status, answer) == (200, {"resumed": False}) or status == 503, f"a replay is answered {status} {answer}"

    async def _post(self, path: str, body: dict[str, Any], token: str) -> tuple[int, Any]:
        def send() -> tuple[int, Any]:
            parts = urlsplit(self.service.url)
            with contextlib.closing(http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)) as one:
                one.request("POST", path, json.dumps(body), {"Authorization": f"Bearer {token}"})
                response = one.getresponse()
                return response.status, json.loads(response.read())

        # Not on the loop's threads, which the verifier needs to answer.
        return await asyncio.get_running_loop().run_in_executor(self.threads, send)

    async def _sweep(self) -> None:
        with contextlib.suppress(lro.StoreUnavailableError):
            await self.client.sweep()

    async def _insist(self, call: Any) -> None:
        while True:
            try:
                await call()
                return
            except lro.OperationNotFoundError:
                return
            except lro.StoreUnavailableError:
                await self.clock.advance(1)

    def rows(self) -> list[Record]:
        """Every row, those that were deleted too."""
        known = [name for top in self.tops for name in self.ledger.descendants(top)]
        query = ListQuery(now=self.clock.time(), limit=1000)
        found = {row.name: row for row in (*self.store.inner.list(query), *self.store.inner.read(known))}
        for row in found.values():
            if row.parent_operation:  # its parent may not know of it yet: the answer was lost
                self.ledger.family.setdefault(row.parent_operation, set()).add(row.name)
        return [found[name] for name in sorted(found)]

    # What must hold

    def check(self) -> None:
        problems = list(self.ledger.problems)
        for path, said, status, _, _ in self.service.log:
            if said in self.bad and status not in (401, 403):
                problems.append(f"a bad token is answered with {status} at {path}: {said[:40]}")
        resumed = Counter(entry[3]["resumeToken"] for entry in self.service.log if entry[4] == {"resumed": True})
        problems += [f"a token resumed {count} times" for count in resumed.values() if count > 1]
        for key, begun in self.ledger.begun.items():
            if begun - self.ledger.given_up[key] > 1:
                problems.append(f"{key} ran {begun} times, and {self.ledger.given_up[key]} were given up")
        rows = {row.name: row for row in self.rows()}
        for top, spec in self.tops.items():
            self._check_end(top, spec, rows, problems)
        alive = [execution.name for execution in self.workflows.executions.values() if execution.state == "ACTIVE"]
        problems += [f"{name} still waits" for name in alive]
        if self.tasks is not None and self.tasks.tasks:
            problems.append(f"{len(self.tasks.tasks)} tasks are still there")
        assert not problems, "\n".join(problems)

    def _check_end(self, top: str, spec: dict[str, Any], rows: dict[str, Record], problems: list[str]) -> None:
        row = rows.get(top)
        disturbed = self.ledger.descendants(top) & (self.cancelled | self.deleted)
        if row is None and top not in self.deleted:
            problems.append(f"{top} is gone")
        if row is None or disturbed:
            return
        expected = State.SUCCEEDED if spec["fate"] == "done" else State.FAILED
        if row.state is not expected:
            problems.append(f"{top} should be {expected}, and is {row}")
        segments = sorted(key[2] for key in self.ledger.begun if key[0] == top)
        if segments != list(range(len(segments))) or len(segments) < len(spec["steps"]) + 1:
            problems.append(f"{top} has {len(spec['steps'])} waits and ran {segments}")


class TaskFaults(dict[str, Any]):
    """Faults of Cloud Tasks' RPCs, drawn as they are asked for."""

    def __init__(self, odds: Odds) -> None:
        super().__init__()
        self._odds = odds

    def get(self, _rpc: str, _default: Any = None) -> Any:
        return deque([(self._odds.choose(LOST), self._odds.when())]) if self._odds.strike("rpc") else None


async def run(seed: int) -> Counter[str]:
    """Live through one world; returns how many faults there were of each kind.

    Raises:
        AssertionError: An operation was lost, a suspend led to two runs, a bad token was taken, or a child was
            reported as what it is not. Names the seed.
    """
    mix = Mix(seed)
    try:
        async with mix.opened(), asyncio.timeout(WORLD_LIMIT):
            await mix.run()
    except Exception as exc:
        raise AssertionError(f"seed {seed}: {exc!r}") from exc
    return mix.odds.struck


async def run_all(seeds: Iterable[int], *, at_once: int = 4) -> Counter[str]:
    """``run`` for each seed, a few at a time, since much of it is waiting; all faults together."""
    gate = asyncio.Semaphore(at_once)

    async def one(seed: int) -> Counter[str]:
        async with gate:
            return await run(seed)

    with mock.patch.object(_remote, "FIRST_PAUSE", 0.0):
        results = await asyncio.gather(*map(one, seeds), return_exceptions=True)
    failures = [result for result in results if isinstance(result, BaseException)]
    if failures:
        raise AssertionError("\n\n".join(map(str, failures))) from failures[0]
    return sum((result for result in results if isinstance(result, Counter)), Counter())
