"""Who may see the dashboard, and do what."""

from __future__ import annotations

import inspect
import ipaddress
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Self

import anyio
import anyio.to_thread
from starlette.requests import Request

from lro_aio.core.logs import event

__all__ = ["RIGHTS", "VERBS", "Access", "Authorize", "Guard"]

logger = logging.getLogger("lro_aio")

VERBS = ("cancel", "pause", "unpause", "rerun", "delete", "send", "replay")
"""What can be done to operations from the dashboard."""

RIGHTS = (*VERBS, "run", "limit")
"""What can be done at all: a field of ``Access`` each."""

THREADS = 16
"""In which plain functions decide at a time."""
FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
"""Headers of a proxy: a request that has one does not come from this machine, whatever its address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What a caller of the dashboard may do, besides seeing everything."""

    name: str = ""
    """Who it is, for the history of what they do and for the log."""
    cancel: bool = False
    pause: bool = False
    """Operations, queues and schedules: who may pause all that a filter selects is held back by nothing less."""
    unpause: bool = False
    """Likewise."""
    rerun: bool = False
    delete: bool = False
    send: bool = False
    replay: bool = False
    """Have the webhooks of an operation's end delivered once more."""
    run: bool = False
    """Start an operation of a schedule now: nothing else here starts what was not there before."""
    limit: bool = False
    """Change what a queue allows."""

    @classmethod
    def read_only(cls, name: str = "") -> Self:
        """May see everything, and do nothing."""
        return cls(name=name)

    @classmethod
    def full(cls, name: str = "") -> Self:
        """May do everything."""
        return cls(name=name, **dict.fromkeys(RIGHTS, True))

    @property
    def can_act(self) -> bool:
        """Whether they may do anything to operations."""
        return any(map(self.allows, VERBS))

    def allows(self, verb: str) -> bool:
        """Whether they may do this: one of the fields. What is no field, nobody may."""
        return verb in RIGHTS and getattr(self, verb) is True


Authorize = Callable[[Request], Access | Awaitable[Access | None] | None]
"""Decides on each request. None refuses; so does any exception. A plain function is called in a thread."""


class Guard:
    """Decides who gets in.

    Args:
        authorize: Asked for each request. None: read-only, for requests from this machine alone.
        timeout: Real seconds after which an answer is a refusal.
    """

    def __init__(self, authorize: Authorize | None, *, timeout: float) -> None:
        self._authorize = authorize
        self._timeout = timeout
        self._threads: anyio.CapacityLimiter | None = None

    async def access(self, request: Request) -> Access | None:
        """What the caller may do; None, with a log line, for who does not get in."""
        try:
            return await self._decided(request)
        except _RefusedError as exc:
            logger.warning("the dashboard refused a request: %s", exc, extra=event("dashboard_refused"))
            return None

    async def _decided(self, request: Request) -> Access:
        if self._authorize is None:
            if _is_local(request):
                return Access.read_only()
            raise _RefusedError("it does not come from this machine, and the dashboard has no authorize=")
        limit = anyio.CancelScope()
        try:
            with anyio.move_on_after(self._timeout) as limit:
                found = await self._asked(self._authorize, request)
        except Exception as exc:  # the application's: whatever it is, nobody gets in by it
            raise _RefusedError(f"authorize raised {exc!r}") from exc
        if limit.cancelled_caught:
            raise _RefusedError(f"authorize did not answer within {self._timeout:g} s")
        if not isinstance(found, Access):
            said = "says so" if found is None else f"gave {type(found).__name__}, which is no Access"
            raise _RefusedError(f"authorize {said}")
        return found

    async def _asked(self, authorize: Authorize, request: Request) -> object:
        found: object
        if _is_async(authorize):
            found = authorize(request)
        else:  # it may block, and must not stop the event loop
            if self._threads is None:
                self._threads = anyio.CapacityLimiter(THREADS)
            found = await anyio.to_thread.run_sync(authorize, request, abandon_on_cancel=True, limiter=self._threads)
        return await found if inspect.isawaitable(found) else found


class _RefusedError(Exception):
    """Why a request is not let in, for the log alone."""


def _is_async(function: object) -> bool:
    return any(map(inspect.iscoroutinefunction, (function, getattr(function, "__call__", None))))  # noqa: B004


def _is_local(request: Request) -> bool:
    """Whether a request comes from this machine, from nobody else through it, and by a name of this machine.

    Of another name, a page of a stranger may be the sender: names can be made to lead here (DNS rebinding).
    """
    if request.client is None or any(name in request.headers for name in FORWARDED):
        return False
    return _is_loopback(request.client.host) and _is_loopback(_host_of(request.headers.get("host", "")))


def _host_of(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)
