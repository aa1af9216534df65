"""The certificates of a token issuer, cached. An issuer changes them every few days, and publishes new ones early."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import anyio
import anyio.to_thread

from lro_aio.core.codes import Code
from lro_aio.core.errors import LroError

__all__ = ["Certificates", "CertificatesUnavailableError", "Fetched", "fetch", "lifetime"]

logger = logging.getLogger("lro_aio")

SHORTEST, USUAL, LONGEST = 60.0, 300.0, 86400.0
"""Seconds for which certificates are used: at least; where the issuer does not say; and at most."""


class CertificatesUnavailableError(LroError):
    """The issuer's certificates cannot be fetched: whether a token is good is not known. The caller may come again."""

    code = Code.UNAVAILABLE
    reason = "CERTIFICATES_UNAVAILABLE"

    def __init__(self, *, retry_after: float = 1.0) -> None:
        self.retry_after = retry_after
        super().__init__("the certificates that the caller's token is checked with cannot be fetched now")


@dataclass(frozen=True, slots=True)
class Fetched:
    """What an issuer answered."""

    keys: Mapping[str, str]
    """Key id -> certificate or public key, PEM."""
    lifetime: float
    """Seconds for which it holds."""


class Certificates:
    """One issuer's certificates by key id.

    Fetched when first asked for, when they are too old, and when a key id is unknown; one fetch at a time. To be used
    from one event loop at a time.

    Args:
        load: Fetches them; blocks, and is called in a thread. Whatever it raises means that there are none now.
        timeout: Seconds that a fetch may take in all.
        interval: Seconds from one fetch to the next at least, whatever key ids callers make up.
        now: A monotonic clock, in seconds.
    """

    def __init__(
        self,
        load: Callable[[], Fetched],
        *,
        timeout: float,
        interval: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._load = load
        self._timeout = timeout
        self._interval = interval
        self._now = now
        self._keys: Mapping[str, str] = {}
        self._old_at = -math.inf
        self._next_fetch = -math.inf
        self._failed = False
        self._fetching: asyncio.Task[None] | None = None

    async def find(self, key_id: str) -> str | None:
        """The certificate of a key; None where the issuer has none of this id.

        Raises:
            CertificatesUnavailableError: It cannot be told.
        """
        found = self._known(key_id)
        if found is None:
            await self._refresh()
            found = self._known(key_id)
        if found is None and self._failed:
            raise CertificatesUnavailableError(retry_after=max(1.0, self._next_fetch - self._now()))
        return found

    def _known(self, key_id: str) -> str | None:
        return self._keys.get(key_id) if self._now() < self._old_at else None

    async def _refresh(self) -> None:
        task = self._fetching
        if task is None or task.done() or task.get_loop() is not asyncio.get_running_loop():
            if self._now() < self._next_fetch:
                return
            self._next_fetch = self._now() + self._interval
            task = self._fetching = asyncio.create_task(self._fetch(), name="lro-aio-certificates")
        await asyncio.shield(task)  # others wait for it too

    async def _fetch(self) -> None:
        """Never raises: who waits for it looks at what it left."""
        self._failed = True
        try:
            async with asyncio.timeout(self._timeout):
                # One at a time, and in none of the threads that the application shares: an issuer that hangs keeps one.
                own = anyio.CapacityLimiter(1)
                fetched = await anyio.to_thread.run_sync(self._load, abandon_on_cancel=True, limiter=own)
        except Exception as exc:  # noqa: BLE001 (whatever it is, there are no certificates)
            logger.warning("certificates cannot be fetched: %s", str(exc) or type(exc).__name__)
            return
        finally:
            self._next_fetch = self._now() + self._interval
        self._keys, self._old_at, self._failed = fetched.keys, self._now() + fetched.lifetime, False


def fetch(url: str, timeout: float) -> Fetched:
    """Fetch certificates as Google publishes them: ``{"key id": "PEM certificate"}``. Blocks.

    Args:
        url: Where they are.
        timeout: Seconds to connect, and between two pieces of the answer.

    Raises:
        Exception: There are none: nobody answers, or something else.
    """
    from google.auth.transport.requests import Request

    answer = Request()(url, method="GET", timeout=timeout, allow_redirects=False)
    if answer.status != 200:
        raise ValueError(f"{url} answers {answer.status}")
    return Fetched(_keys(url, answer.data), lifetime(answer.headers))


def lifetime(headers: Mapping[str, str]) -> float:
    """Seconds for which an answer holds: ``max-age`` less ``Age``, within limits (RFC 9111).

    Args:
        headers: Whose names may have any case.
    """
    asked = re.search(r"(?:^|[\s,])max-age=(\d{1,9})\b", headers.get("Cache-Control", ""), re.IGNORECASE)
    if asked is None:
        return USUAL
    age = headers.get("Age", "0").strip()
    spent = int(age) if re.fullmatch(r"[0-9]{1,9}", age) else 0
    return min(LONGEST, max(SHORTEST, float(asked[1]) - spent))


def _keys(url: str, data: bytes) -> dict[str, str]:
    from google.auth.crypt import RSAVerifier

    keys: dict[str, str] = {}
    match json.loads(data):
        case {"keys": list()}:
            raise ValueError(f"{url} answers a JWK set; name the address of the certificates in PEM")
        case dict() as members:
            pass
        case _:
            raise ValueError(f"{url} answers no JSON object")
    for key_id, pem in members.items():
        try:
            RSAVerifier.from_string(pem)  # type: ignore[no-untyped-call]  # theirs
        except (ValueError, TypeError) as exc:
            logger.warning("the certificate %r of %s is left out: %s", key_id, url, exc)
        else:
            keys[key_id] = pem
    if not keys:
        raise ValueError(f"{url} answers no certificate that can be used")
    return keys
