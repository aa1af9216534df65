"""What the remote schedulers have in common: where they call back, how often they poll, and how they make RPCs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

import google.auth
import google.auth.exceptions
import grpc
from google.api_core.exceptions import GoogleAPICallError

from lro_aio.core.call_failures import TRANSIENT
from lro_aio.core.errors import SchedulerUnavailableError
from lro_aio.core.logs import about
from lro_aio.core.record import Plan, Record, Wait

__all__ = ["GROWTH", "HORIZON", "Callback", "call", "default_credentials", "origin", "poll_cap"]

logger = logging.getLogger("lro_aio")

T = TypeVar("T")

HORIZON = 6 * 3600.0
"""Seconds after a hand-over at which the sweep checks whether it was lost."""
CALL_TIMEOUT = 10.0
"""Seconds for one attempt of an RPC."""
CALL_ATTEMPTS = 3
FIRST_PAUSE = 0.2
"""Seconds before the second attempt; twice that before the third."""

GROWTH = 1.25
"""Factor from one interval between polls of the children to the next."""
SHORT_CAP, LONG_CAP = 300.0, 3600.0
DAY = 86400.0

_TRANSIENT = {code.grpc_code for code in TRANSIENT}


@dataclass(frozen=True, slots=True, kw_only=True)
class Callback:
    """Where a remote scheduler reaches the service."""

    host: str
    """Origin of the endpoints, such as "https://reports-abc-ew.a.run.app", and a path if they are mounted under one."""
    audience: str
    """Of the OIDC tokens."""
    prefix: str = "/lro"

    @classmethod
    def of(cls, resume_host: str, audience: str | None, prefix: str) -> Callback:
        """Make one from a scheduler's arguments.

        Args:
            resume_host: URL at which the endpoints are served.
            audience: None: the origin of ``resume_host``.
            prefix: Path in front of the endpoints' names.

        Raises:
            ValueError: ``resume_host`` is not an http(s) URL.
        """
        if not isinstance(resume_host, str) or not origin(resume_host):
            raise ValueError(
                f"resume_host must be the URL at which the resume endpoints are served,"
                f" such as 'https://service.run.app', not {resume_host!r}"
            )
        host = resume_host.rstrip("/")
        return cls(host=host, audience=audience or origin(host), prefix=prefix.rstrip("/"))

    @property
    def resume_url(self) -> str:
        """URL of the endpoint that wakes an operation."""
        return f"{self.host}{self.prefix}/resume"

    @property
    def poll_url(self) -> str:
        """URL of the endpoint that tells which children of an operation are pending."""
        return f"{self.host}{self.prefix}/poll"


def origin(url: str) -> str:
    """Scheme and host of an http(s) URL; "" for anything else."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}" if parts.scheme in ("http", "https") and parts.netloc else ""


def poll_cap(wait: Wait, plan: Plan, now: float) -> float:
    """Seconds up to which the interval between polls grows: 300 s for waits of up to a day, 3,600 s at most.

    A wait may end this much late. The length of a wait without a timeout is the time that it has lasted so far.
    """
    if wait.max_poll_interval is not None:
        return max(wait.max_poll_interval, wait.poll_interval)
    length = (now if plan.deadline is None else plan.deadline) - plan.sleep_until
    return max(wait.poll_interval, min(LONG_CAP, max(SHORT_CAP, SHORT_CAP * length / DAY)))


async def default_credentials(scopes: tuple[str, ...], product: str) -> Any:
    """The application's default credentials, looked up off the event loop: that may call a metadata server.

    Args:
        scopes: What they are for.
        product: Its name, for the error.

    Raises:
        SchedulerUnavailableError: There are none.
    """
    try:
        credentials, _ = await asyncio.to_thread(google.auth.default, scopes=scopes)
    except google.auth.exceptions.GoogleAuthError as exc:
        raise SchedulerUnavailableError(
            f"no credentials for {product}: {exc}; run `gcloud auth application-default login`,"
            " or run the service as a service account"
        ) from exc
    return credentials


async def call(method: Callable[..., Awaitable[T]], request: Any, record: Record, *, what: str) -> T:
    """Make an RPC with one of Google's asyncio clients, and repeat it a few times if it may help.

    Args:
        method: Of the client.
        request: Its request.
        record: The row of the operation that it is about.
        what: What the RPC does, for messages: "deleting ...".

    Raises:
        SchedulerUnavailableError: It was not answered, or is not allowed.
        google.api_core.exceptions.GoogleAPICallError: ALREADY_EXISTS, NOT_FOUND or FAILED_PRECONDITION: for the caller.
    """
    pause = FIRST_PAUSE
    for attempt in range(1, CALL_ATTEMPTS + 1):
        try:
            return await method(request=request, retry=None, timeout=CALL_TIMEOUT)
        except GoogleAPICallError as exc:
            code = exc.grpc_status_code
            if code in (grpc.StatusCode.ALREADY_EXISTS, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION):
                raise
            name = code.name if code is not None else "no status"
            if attempt == CALL_ATTEMPTS or code not in _TRANSIENT:
                raise SchedulerUnavailableError(f"{what}: {exc.message} ({name})") from exc
            sentence = "%s: %s failed with %s and is repeated in %g s"
            logger.info(sentence, record.name, what, name, pause, extra=about(record, "call_repeated"))
        except google.auth.exceptions.GoogleAuthError as exc:
            raise SchedulerUnavailableError(f"{what}: {exc}") from exc
        await asyncio.sleep(pause)
        pause *= 2
    raise AssertionError("unreachable")
