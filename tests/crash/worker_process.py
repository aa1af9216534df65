"""The program that the crash tests kill: a server that forks workers on demand, and the handlers that they run.

``python worker_process.py`` reads one JSON object a line from its standard input, forks a worker for each and answers
with its process id. A forked worker has everything imported, so one that takes a killed one's place is there at once;
what only some tests need are modules named as arguments.
At the end of the input the server kills what it forked and ends.

Every run of a handler leaves lines in a ledger outside the store: one file, opened for appending, one write a line.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import logging
import mmap
import os
import random
import signal
import struct
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from google.protobuf import struct_pb2

import lro_aio as lro
import lro_aio.stores.sqlite
from lro_aio.core import transitions
from lro_aio.core.change import Change, Outcome
from lro_aio.core.record import Record, State
from lro_aio.engine.timing import SystemClock
from lro_aio.testing.faults import FaultyStore

handlers = lro.Handlers()


class Ledger:
    """What happened, in the order in which it did: lines that survive whoever wrote them."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)

    def write(self, event: str, **members: Any) -> None:
        line = json.dumps({"event": event, "pid": os.getpid(), "time": time.time(), **members})
        os.write(
            self._file, line.encode() + b"\n"
        )  # one write: lines of several processes do not mix, and none is lost

    def close(self) -> None:
        os.close(self._file)


LEDGER: Ledger


@dataclass
class Job:
    """State of every handler here."""

    index: int = 0
    work: float = 0.0
    """Seconds, in all segments together."""
    fan: int = 0
    """Children to start."""
    nap: float = 0.0
    """Seconds to sleep while suspended."""
    timeout: float | None = 600.0
    """Seconds to wait for the children."""
    last_claim: int = 0
    """The handler "relay" ends in this claim or a later one."""
    seen: str = ""
    """Path, to be followed by a number, of the files that tell the handler "tell" that it was seen."""
    claims: list[int] = field(default_factory=list)
    """Claims of the runs that committed a suspend."""
    children: list[str] = field(default_factory=list)


Operation = lro.Operation[Job]
Body = Callable[[Operation], Awaitable[Any]]


def recorded(body: Body) -> Body:
    """Write to the ledger how each run began and how the handler left it."""

    async def run(op: Operation) -> Any:
        def note(event: str, **members: Any) -> None:
            LEDGER.write(event, name=op.name, claim=op.claim, point=op.resume_point, attempt=op.attempt, **members)

        note("begin", handler=body.__name__, reason=str(op.wake_reason or ""))
        try:
            result = await body(op)
        except asyncio.CancelledError:
            note("stopped", reason=str(op.cancel_reason))
            raise
        except BaseException as exc:
            note("raised", error=repr(exc))
            raise
        suspends = result is not None and not isinstance(result, struct_pb2.Struct)
        note("end", handler=body.__name__, suspends=suspends)
        return result

    run.__name__ = body.__name__
    return run


def answer(op: Operation, **members: Any) -> struct_pb2.Struct:
    """A response that names the claim that made it."""
    response = struct_pb2.Struct()
    response.update({"index": op.state.index, "claim": op.claim, "claims": list(op.state.claims), **members})
    return response


@handlers.handler("campaign", state=Job, resume_points=("slept", "collect"))
@recorded
async def campaign(op: Operation) -> Any:
    """Work, sleep, work, fan out, wait for the children, work, answer."""
    job = op.state
    await asyncio.sleep(job.work / 3)
    match op.resume_point:
        case "":
            job.claims.append(op.claim)
            return op.suspend(resume_at="slept", sleep=job.nap)
        case "slept":
            jobs = [Job(index=job.index * 100 + place, work=job.work / 4) for place in range(job.fan)]
            started = [await op.start_child("part", each, key=f"part-{each.index}") for each in jobs]
            job.children = [child.name for child in started]
            job.claims.append(op.claim)
            return op.suspend(resume_at="collect", children=job.children, timeout=job.timeout)
        case _:
            parts = []
            for child in op.children:
                response, _ = lro.unmarshal_operation(child, struct_pb2.Struct())
                assert response is not None
                parts.append(int(response["index"]))
            return answer(op, parts=parts)


@handlers.handler("part", state=Job)
@recorded
async def part(op: Operation) -> Any:
    """A child."""
    await asyncio.sleep(op.state.work)
    return answer(op)


queueing = lro.Handlers()
"""Those of stores that have queues."""


@queueing.handler(
    "queued",
    state=Job,
    queue=lro.Queue("crash", running=4, per_key=2),
    queue_key=lambda job: f"k{job.index % 3}",
)
@recorded
async def queued(op: Operation) -> Any:
    """Work that waits for a place."""
    await asyncio.sleep(op.state.work)
    return answer(op)


@queueing.handler("calls", state=Job)
@recorded
async def calls(op: Operation) -> Any:
    """Calls in steps that wait for a place, side by side."""

    async def call(key: str) -> None:
        LEDGER.write("call", name=op.name, claim=op.claim, key=key)
        await asyncio.sleep(op.state.work)
        LEDGER.write("called", name=op.name, claim=op.claim, key=key)

    keys = [str(number) for number in range(op.state.fan)]
    await asyncio.gather(*(op.step("call", call, key, key=key, queue=CALLS, queue_key=f"k{key}") for key in keys))
    return answer(op)


CALLS = lro.Queue("calls", running=3, per_key=2)


@handlers.handler("doomed", state=Job, resume_points=("never",))
@recorded
async def doomed(op: Operation) -> Any:
    """Start children that never end, until a cancel ends all of them; ``fan`` at most."""
    started = []
    try:
        for place in range(op.state.fan):
            started.append(await op.start_child("held", op.state, key=f"held-{place}"))
            await asyncio.sleep(op.state.nap)
    except asyncio.CancelledError:
        if op.cancel_reason is lro.CancelReason.CANCEL_REQUESTED:
            await _start_too_late(op)
        raise
    return op.suspend(resume_at="never", children=started, timeout=None)


async def _start_too_late(op: Operation) -> None:
    try:
        late = await op.start_child("held", op.state, key="late")
    except lro.LroError as exc:
        LEDGER.write("refused", name=op.name, error=type(exc).__name__)
    else:
        LEDGER.write("too_late", name=op.name, child=late.name)


@handlers.handler("held", state=Job)
@recorded
async def held(op: Operation) -> Any:
    """A child that only a cancel ends."""
    await asyncio.Event().wait()


@handlers.handler("forgotten", state=Job)
@recorded
async def forgotten(op: Operation) -> Any:
    """Start children, and be deleted meanwhile."""
    for place in range(op.state.fan):
        await op.start_child("left", Job(index=op.state.index * 100 + place), key=f"left-{place}")
        await asyncio.sleep(op.state.nap)
    return answer(op)


@handlers.handler("left", state=Job)
@recorded
async def left(op: Operation) -> Any:
    """A child that outlives its parent."""
    return answer(op)


@handlers.handler("relay", state=Job)
@recorded
async def relay(op: Operation) -> Any:
    """Work that never ends before the claim ``last_claim``."""
    if op.claim < op.state.last_claim:
        await asyncio.Event().wait()
    return answer(op)


@handlers.handler("block", state=Job)
@recorded
async def block(op: Operation) -> Any:
    """Block the event loop, as a handler should not."""
    time.sleep(op.state.work)
    return answer(op)


@handlers.handler("token", state=Job, resume_points=("again",))
@recorded
async def token(op: Operation) -> Any:
    """Two segments, of which the second stays in its first run until it is killed."""
    if op.resume_point == "":
        op.state.claims.append(op.claim)
        return op.suspend(resume_at="again", sleep=op.state.nap)
    if op.claim < op.state.last_claim:
        await asyncio.Event().wait()
    return answer(op)


@handlers.handler("tell", state=Job)
@recorded
async def tell(op: Operation) -> Any:
    """Change the metadata, with the time of the change in it, each time when somebody has seen the change before."""
    for number in range(3):
        metadata = struct_pb2.Struct()
        metadata.update({"number": number, "time": time.time()})
        await op.set_metadata(metadata)
        while not Path(f"{op.state.seen}{number}").exists():
            await asyncio.sleep(0.01)
    return answer(op, time=time.time())


class Elsewhere:
    """A remote scheduler, as far as this process knows: it takes every wait and never comes."""

    local = False
    horizon = 3600.0

    async def open(self, host: Any) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""

    async def schedule(self, record: Any) -> str:
        return "taken"

    async def cancel(self, record: Any) -> None:
        """Nothing to forget."""


class SteppedClock(SystemClock):
    """The machine's clocks; the time of day is off by a number that the test writes into a file, at any moment."""

    def __init__(self, path: str) -> None:
        with open(path, "rb") as file:
            self._off = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def time(self) -> float:
        return round(super().time() + struct.unpack_from("d", self._off)[0], 6)


class Noted(FaultyStore):
    """Notes in the ledger which leases it has moved. Loses answers at random: the share ``lost`` of all writes."""

    def __init__(self, inner: Any, *, lost: float = 0.0, seed: int = 0) -> None:
        super().__init__(inner)
        self._lost = lost
        self._chance = random.Random(seed)

    def apply(self, changes: Sequence[Change]) -> list[Outcome]:
        renewals = [place for place, change in enumerate(changes) if _renews(change)]
        began = time.time()
        try:
            outcomes = super().apply(changes)
        except lro.StoreUnavailableError:
            if renewals:
                LEDGER.write("unreachable", began=began, names=[changes[place].name for place in renewals])
            raise
        moved = [
            change.name
            for change, outcome in zip(changes, outcomes, strict=True)
            if (change.claims or change.creates or _renews(change)) and _runs(outcome)
        ]
        if moved:
            claims = {outcome.name: outcome.claim for outcome in outcomes if isinstance(outcome, Record)}
            LEDGER.write("moved", began=began, names=moved, claims={name: claims[name] for name in moved})
        if self._chance.random() < self._lost:
            raise lro.StoreUnavailableError("the answer was lost", retry_after=0.0)
        return outcomes


class Deadly(FaultyStore):
    """Kills its own process before, inside or after the n-th transaction, renewals not counted."""

    def __init__(self, inner: Any, *, nth: int, when: str) -> None:
        super().__init__(inner)
        self._nth = nth
        self._when = when
        self.steps = 0

    def apply(self, changes: Sequence[Change]) -> list[Outcome]:
        if all(_renews(change) for change in changes):
            return super().apply(changes)
        self.steps += 1
        if self.steps == self._nth and self._when == "before":
            die()
        if self.steps == self._nth and self._when == "inside":
            _die_at_commit()
        outcomes = super().apply(changes)
        if self.steps == self._nth and self._when == "after":
            die()
        return outcomes


def _runs(outcome: Outcome) -> bool:
    return isinstance(outcome, Record) and outcome.state is State.RUNNING


def _renews(change: Change) -> bool:
    return getattr(change.event, "func", None) is transitions.renew


def die(*_args: Any, **_options: Any) -> None:
    """Say so in the ledger, and die: whoever looks from outside sees it later."""
    LEDGER.write("dies")
    os.kill(os.getpid(), signal.SIGKILL)


def _die_at_commit() -> None:
    """From now on, die between the statements of a transaction and its commit: its locks are still held then."""
    spanner = sys.modules.get("lro_aio.stores.spanner.connection")
    if spanner is not None:
        spanner.Connection.commit = die
    sqlite = sys.modules["lro_aio.stores.sqlite.store"]
    write = sqlite.write

    def write_and_die(*args: Any) -> None:
        write(*args)
        die()

    sqlite.write = write_and_die


async def insist(call: Callable[[], Awaitable[Any]]) -> Any:
    """Repeat what the store does not answer."""
    while True:
        try:
            return await call()
        except lro.StoreUnavailableError:
            await asyncio.sleep(0.05)


async def cancel(client: lro.Client, name: str) -> None:
    """Cancel an operation that may be deleted by now."""
    with contextlib.suppress(lro.OperationNotFoundError):
        await client.cancel_operation(name)


async def work(config: dict[str, Any]) -> None:
    """Be a worker until SIGTERM; what a service does on its way out is to leave the client's block."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    store = lro.Client(config["store"]).store
    if "kill" in config:
        store = Deadly(store, **config["kill"])
    noted = Noted(store, **config.get("lose", {}))
    if "at" in config:
        time.sleep(max(0.0, config["at"] - time.time()))
    own = [handlers] if noted.no_queues_reason else [handlers, queueing]
    client = lro.Client(
        noted,
        handlers=[*own, *(importlib.import_module(name).registry(LEDGER) for name in config.get("more", ()))],
        schedules=[lro.Schedule(**one) for one in config.get("schedules", ())],
        linger=config.get("linger", 1.0),
        clock=SteppedClock(config["clock"]) if "clock" in config else None,
        scheduler=Elsewhere() if config.get("remote") else None,
        lease=lro.LeasePolicy(duration=config["lease"]),
        sweep=lro.SweepPolicy(interval=config.get("sweep", 30.0)),
        max_attempts=config.get("max_attempts", 5),
        max_running=config.get("max_running", 256),
        drain_timeout=config.get("drain_timeout", 0.0),
    )
    async with client:
        LEDGER.write("up")
        await asyncio.gather(
            *(
                insist(partial(client.start, handler, Job(**state), request_id=request_id))
                for handler, state, request_id in config.get("starts", ())
            ),
            *(insist(partial(cancel, client, name)) for name in config.get("cancels", ())),
        )
        if "resume" in config:
            LEDGER.write("resumed", answer=await client.resume(*config["resume"]))
        LEDGER.write("ready")
        await stop.wait()
    LEDGER.write("down", steps=getattr(store, "steps", None))


def fork(config: dict[str, Any]) -> int:
    """Start a worker; returns its process id."""
    global LEDGER
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        log = os.open(config["log"], os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        logging.basicConfig(level=logging.INFO, format=f"%(asctime)s {os.getpid()} %(name)s: %(message)s")
        LEDGER = Ledger(config["ledger"])
        asyncio.run(work(config))
        code = 0
    except BaseException as exc:
        logging.getLogger("worker").exception("the worker failed")
        LEDGER.write("failed", error=repr(exc))
    finally:
        os._exit(code)


def main() -> None:
    """Serve until the input ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps
    for module in sys.argv[1:]:
        importlib.import_module(module)
    forked: list[int] = []
    sys.stdout.write(json.dumps({"path": str(Path(lro.__file__).parent)}) + "\n")
    sys.stdout.flush()
    for line in sys.stdin:
        forked.append(fork(json.loads(line)))
        sys.stdout.write(json.dumps({"pid": forked[-1]}) + "\n")
        sys.stdout.flush()
    for pid in forked:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


if __name__ == "__main__":
    main()
