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
from lro_aio.core.logs import event

__all__ = ["Certificates", "CertificatesUnavailableError", "Fetched", "fetch", "lifetime"]

logger = logging.getLogger("lro_aio")

SHORTEST, USUAL, LONGEST = 60.0, 300.0, 86400.0
"""Seconds for which certificates are used: the least; the default where the issuer does not say; the most."""


class CertificatesUnavailableError(LroError):
    """The issuer's certificates cannot be fetched, so no token can be checked. The caller may try again."""

    code = Code.UNAVAILABLE
    reason = "CERTIFICATES_UNAVAILABLE"

    def __init__(self, *, retry_after: float = 1.0) -> None:
        self.retry_after = retry_after
        super().__init__("the caller's token cannot be checked now: the issuer's certificates cannot be fetched")


@dataclass(frozen=True, slots=True)
class Fetched:
    """An issuer's answer."""

    keys: Mapping[str, str]
    """Key id -> certificate or public key, PEM."""
    lifetime: float
    """Seconds for which the certificates may be used."""


class Certificates:
    """One issuer's certificates by key id.

    They are fetched on first use, when they are too old, and when a key id is unknown; one fetch at a time. Use it from
    one event loop at a time.

    Args:
        load: Fetches them; blocks, and is called in a thread. If it raises anything, there are none now.
        timeout: Seconds that a fetch may take in all.
        interval: Least seconds from one fetch to the next, whatever key ids callers make up.
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
            CertificatesUnavailableError: They cannot be fetched.
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
        """Fetch them, and keep the result. Never raises: the callers that wait read what it kept."""
        self._failed = True
        try:
            async with asyncio.timeout(self._timeout):
                # One at a time, and not in a thread that the application shares: an issuer that hangs occupies one.
                own = anyio.CapacityLimiter(1)
                fetched = await anyio.to_thread.run_sync(self._load, abandon_on_cancel=True, limiter=own)
        except Exception as exc:  # noqa: BLE001 (whatever it is, there are no certificates)
            logger.warning(
                "the issuer's certificates cannot be fetched: %s",
                str(exc) or type(exc).__name__,
                extra=event("certificates_unavailable"),
            )
            return
        finally:
            self._next_fetch = self._now() + self._interval
        self._keys, self._old_at, self._failed = fetched.keys, self._now() + fetched.lifetime, False


def fetch(url: str, timeout: float) -> Fetched:
    """Fetch certificates as Google publishes them: ``{"key id": "PEM certificate"}``. Blocks.

    Args:
        url: Address of the certificates.
        timeout: Seconds to connect, and between two pieces of the answer.

    Raises:
        Exception: The issuer does not answer, or its answer has no certificates.
    """
    from google.auth.transport.requests import Request

    answer = Request()(url, method="GET", timeout=timeout, allow_redirects=False)
    if answer.status != 200:
        raise ValueError(f"{url} answered with HTTP {answer.status}")
    return Fetched(_keys(url, answer.data), lifetime(answer.headers))


def lifetime(headers: Mapping[str, str]) -> float:
    """Seconds for which an answer may be used: ``max-age`` less ``Age``, within limits (RFC 9111).

    Args:
        headers: Of the answer. Their names may have any case.
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
            raise ValueError(f"{url} answered with a JWK set; use the address of the certificates in PEM")
        case dict() as members:
            pass
        case _:
            raise ValueError(f"{url} did not answer with a JSON object")
    for key_id, pem in members.items():
        try:
            RSAVerifier.from_string(pem)  # type: ignore[no-untyped-call]  # theirs
        except (ValueError, TypeError) as exc:
            logger.warning(
                "the certificate %r of %s cannot be read, and is ignored: %s",
                key_id,
                url,
                exc,
                extra=event("certificate_ignored"),
            )
        else:
            keys[key_id] = pem
    if not keys:
        raise ValueError(f"{url} answered with no certificate that can be used")
    return keys
