"""Fault points: which call fails, with what, and whether it was carried out before."""

from __future__ import annotations

import random
import threading
from collections import deque
from dataclasses import dataclass
from typing import Literal

import grpc

__all__ = ["Fault", "Faults", "When"]

When = Literal["before", "after"]

_SESSION_FREE = frozenset({"CreateSession", "UpdateDatabaseDdl", "GetDatabaseDdl", "GetOperation"})
_ABORTABLE = frozenset({"Read", "StreamingRead", "ExecuteSql", "ExecuteStreamingSql", "Commit"})


@dataclass(frozen=True, slots=True)
class Fault:
    """How one call fails."""

    code: grpc.StatusCode
    when: When
    session_lost: bool = False


class Faults:
    """The faults of a fake, planned one by one or drawn at random. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._planned: dict[str, deque[Fault]] = {}
        self._rate = 0.0
        self.injected = 0
        """How many calls have failed so far."""
        self._random = random.Random()  # noqa: S311 (draws faults, not secrets)

    def plan(self, rpc: str, code: grpc.StatusCode, times: int, when: When) -> None:
        """Let the next ``times`` calls of ``rpc`` fail, after those already planned; 0 clears what is planned for it.

        Raises:
            ValueError: Not a fault that Spanner can show.
        """
        if when not in ("before", "after"):
            raise ValueError(f'when is "before" or "after", not {when!r}')
        if times < 0:
            raise ValueError(f"times is 0 or more, not {times}")
        if code is grpc.StatusCode.OK:
            raise ValueError("OK is no fault")
        if code is grpc.StatusCode.ABORTED and when == "after":
            raise ValueError("ABORTED says that nothing was applied: it cannot come after")
        with self._lock:
            planned = self._planned.setdefault(rpc, deque())
            if not times:
                planned.clear()
            planned.extend([Fault(code, when)] * times)

    def randomly(self, rate: float, seed: int) -> None:
        """Let each call fail with this probability; 0 ends it.

        Raises:
            ValueError: The rate is not from 0 to 1.
        """
        if not 0 <= rate <= 1:
            raise ValueError(f"the rate is from 0 to 1, not {rate}")
        with self._lock:
            self._rate = rate
            self._random = random.Random(seed)  # noqa: S311 (draws faults, not secrets)

    def draw(self, rpc: str, *, transactional: bool, settled: bool = False, again: bool = False) -> Fault | None:
        """The fault of a call that arrives now.

        Args:
            rpc: Its name.
            transactional: Whether it belongs to a read-write transaction, which may be aborted.
            settled: Whether that is committed already: a Commit that is sent again must then find that out.
            again: Whether it is a Commit that was sent before: without the session, nobody could find out any more
                whether it was applied.
        """
        with self._lock:
            planned = self._planned.get(rpc)
            if planned:
                self.injected += 1
                return planned.popleft()
            if not self._rate or self._random.random() >= self._rate:
                return None
            kinds = [
                Fault(code, when)
                for code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
                for when in ("before", "after")
            ]
            if transactional and not settled and rpc in _ABORTABLE:
                kinds.append(Fault(grpc.StatusCode.ABORTED, "before"))
            if not settled and not again and rpc not in _SESSION_FREE:
                kinds.append(Fault(grpc.StatusCode.NOT_FOUND, "before", session_lost=True))
            self.injected += 1
            return self._random.choice(kinds)
