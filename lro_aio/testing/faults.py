"""A store with fault points: it fails just before, or just after, a write."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeVar

from lro_aio.core.change import Change, Outcome
from lro_aio.core.errors import StoreUnavailableError
from lro_aio.core.journal import Entry
from lro_aio.core.queues import InLine, QueueStatus, QueueTerms
from lro_aio.core.record import Record
from lro_aio.core.stats import Stats
from lro_aio.ports import ListQuery, Look, Route, StatsQuery, Store

__all__ = ["FaultyStore", "Held"]

T = TypeVar("T")


@dataclass
class _Fault:
    times: float
    when: Literal["before", "after"]
    error: Callable[[], Exception]
    passing: int
    """Calls that pass first."""


class Held:
    """Calls of a store that wait. Call it to let them go on."""

    def __init__(self, when: Literal["before", "after"]) -> None:
        self.when = when
        self._reached = threading.Event()
        self._gate = threading.Event()

    def __call__(self) -> None:
        """Let the calls go on, those that wait and those to come."""
        self._gate.set()

    async def reached(self, timeout: float = 10.0) -> None:
        """Return once a call waits.

        Args:
            timeout: Real seconds.

        Raises:
            TimeoutError: No call came.
        """
        if not await asyncio.to_thread(self._reached.wait, timeout):
            raise TimeoutError(f"no call has come in {timeout:g} s")

    def wait(self) -> None:
        """Note that a call has come, and block it."""
        self._reached.set()
        self._gate.wait()


class FaultyStore(Store):
    """Wraps a store, counts its calls, and makes them fail where a test says so.

    ``when="before"``: the call has no effect. ``when="after"``: it takes effect, and its answer is lost.
    """

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.url = inner.url
        self.lanes = inner.lanes
        self.foreign_poll_interval = inner.foreign_poll_interval
        self.ordered_names = inner.ordered_names
        self._describe()
        self.calls: Counter[str] = Counter()
        """Calls by method."""
        self.changes = 0
        """Changes in all ``apply`` calls."""
        self._faults: dict[str, _Fault] = {}
        self._held: dict[str, Held] = {}

    def fail(
        self,
        method: str,
        *,
        times: float = 1,
        nth: int = 1,
        when: Literal["before", "after"] = "before",
        error: Callable[[], Exception] = lambda: StoreUnavailableError("a fault of the test", retry_after=0.0),
    ) -> None:
        """Make calls of a method fail: the next ones, or from the n-th on.

        Args:
            method: Name of a method of ``Store``.
            times: How many calls; 0 clears the fault, ``math.inf`` lasts until it is cleared.
            nth: Which call from now is the first that fails; 1 is the next.
            when: Whether the failing call takes effect.
            error: Makes the exception.
        """
        self._faults[method] = _Fault(times, when, error, nth - 1)

    def hold(self, method: str, *, when: Literal["before", "after"] = "before") -> Held:
        """Make calls of a method wait until the returned object is called.

        ``await held.reached()`` returns once a call waits.

        Args:
            method: Name of a method of ``Store``.
            when: Whether they wait before they take effect, or before they answer.
        """
        held = self._held[method] = Held(when)
        return held

    def open(self) -> None:
        """As the wrapped store."""
        self._through("open", self.inner.open)

    def join(self, owner: str, heard: Callable[[], None]) -> None:
        """As the wrapped store."""
        self.inner.join(owner, heard)

    def close(self) -> None:
        """As the wrapped store, after releasing held calls."""
        for held in self._held.values():
            held()
        self.inner.close()

    def read(self, names: Sequence[str]) -> list[Record]:
        """As the wrapped store."""
        return self._through("read", lambda: self.inner.read(names))

    def apply(self, changes: Sequence[Change]) -> list[Outcome]:
        """As the wrapped store."""
        self.changes += len(changes)
        return self._through("apply", lambda: self.inner.apply(changes))

    def journal(self, names: Sequence[str], kinds: Collection[str] | None = None) -> dict[str, list[Entry]]:
        """As the wrapped store."""
        return self._through("journal", lambda: self.inner.journal(names, kinds))

    def unfinished(self, names: Sequence[str]) -> set[str]:
        """As the wrapped store."""
        return self._through("unfinished", lambda: self.inner.unfinished(names))

    def look(
        self,
        *,
        now: float,
        routes: Sequence[Route],
        limit: int,
        owner: str,
        own: bool = False,
        overdue: float | None = None,
    ) -> Look:
        """As the wrapped store."""
        look = partial(self.inner.look, now=now, routes=routes, limit=limit, owner=owner, own=own, overdue=overdue)
        return self._through("look", look)

    def list(self, query: ListQuery) -> list[Record]:
        """As the wrapped store."""
        return self._through("list", lambda: self.inner.list(query))

    def purge(self, *, now: float, limit: int) -> int:
        """As the wrapped store."""
        return self._through("purge", lambda: self.inner.purge(now=now, limit=limit))

    def stats(self, query: StatsQuery) -> Stats | None:
        """As the wrapped store."""
        return self._through("stats", lambda: self.inner.stats(query))

    def line(self, *, now: float, routes: Sequence[Route], limit: int) -> Look:
        """As the wrapped store."""
        return self._through("line", lambda: self.inner.line(now=now, routes=routes, limit=limit))

    def queues(self, *, now: float, names: Sequence[str] | None = None) -> Sequence[QueueStatus]:
        """As the wrapped store."""
        return self._through("queues", lambda: self.inner.queues(now=now, names=names))

    def in_line(self, name: str, uid: str, *, now: float) -> Sequence[InLine]:
        """As the wrapped store."""
        return self._through("in_line", lambda: self.inner.in_line(name, uid, now=now))

    def change_queue(self, name: str, change: Callable[[QueueTerms], QueueTerms]) -> tuple[QueueTerms, QueueTerms]:
        """As the wrapped store."""
        return self._through("change_queue", lambda: self.inner.change_queue(name, change))

    def changed_elsewhere(self) -> bool:
        """As the wrapped store."""
        return self.inner.changed_elsewhere()

    def _through(self, method: str, call: Callable[[], T]) -> T:
        self.calls[method] += 1
        held = self._held.get(method)
        if held is not None and held.when == "before":
            held.wait()
        fault = self._fault(method)
        if fault is None:
            answer = call()
            self._describe()  # some attributes are known once the store is open, or are measured with every call
            if held is not None and held.when == "after":
                held.wait()
            return answer
        fault.times -= 1
        if fault.when == "after":
            result: Any = call()
            del result
        raise fault.error()

    def _fault(self, method: str) -> _Fault | None:
        """What is to happen to this call of the method."""
        fault = self._faults.get(method)
        if fault is None or fault.times <= 0:
            return None
        fault.passing -= 1
        return fault if fault.passing < 0 else None

    def _describe(self) -> None:
        """Copy the attributes of the wrapped store."""
        inner = self.inner
        self.expires_rows = inner.expires_rows
        self.clock_offset = inner.clock_offset
        self.keeps_journal, self.no_journal_reason = inner.keeps_journal, inner.no_journal_reason
        self.no_queues_reason = inner.no_queues_reason
        self.max_row = inner.max_row
        self.max_wait, self.max_wait_reason = inner.max_wait, inner.max_wait_reason
