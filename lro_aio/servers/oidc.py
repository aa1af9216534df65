"""``OidcVerifier``: lets only the service accounts that it names wake operations."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import re
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio
import anyio.to_thread

try:
    import google.auth.transport.requests  # noqa: F401 (it fetches the certificates)
    from google.auth import jwt
except ImportError as exc:
    raise ImportError("OidcVerifier needs google-auth and requests: pip install 'lro-aio[workflows]'") from exc

from lro_aio.core.logs import event
from lro_aio.core.policies import Duration, seconds
from lro_aio.servers._certificates import Certificates, CertificatesUnavailableError, fetch
from lro_aio.servers.verifying import UnauthenticatedError

__all__ = ["CertificatesUnavailableError", "OidcVerifier"]

logger = logging.getLogger("lro_aio")

GOOGLE_ISSUER = "https://accounts.google.com"
GOOGLE_CERTS = "https://www.googleapis.com/oauth2/v1/certs"
MAX_TOKEN = 8192
"""Characters. Google's tokens have about 1,000."""
MAX_SKEW = 300.0
"""Seconds."""
THREADS = 4
"""Signatures that are checked at a time."""

FAR = 1e12
"""Epoch seconds that no claim reaches. NaN and the infinities, which Python's JSON accepts, are not below it."""

_BEARER = re.compile(r"Bearer +([A-Za-z0-9_.-]+)", re.IGNORECASE)
_REMOVED = "SIGNATURE_REMOVED_BY_GOOGLE"
"""Replaces the signature where Cloud Run has checked it: cloud.google.com/run/docs/troubleshooting."""


@dataclass(frozen=True, slots=True)
class _Token:
    """A token whose form is right; nothing in it is proven."""

    text: str
    key_id: str
    claims: Mapping[str, Any]
    signed: bool


class OidcVerifier:
    """Accepts callers with a Google-signed OIDC token of one of these service accounts, for this audience.

    For ``ResumeApp``, ``resume_router`` and ``operation_from_context``. It checks the signature (RS256 and nothing
    else), expiry, issuer, audience, e-mail and ``email_verified``, in a thread. An invalid token is answered with 401,
    a valid token of another account with 403. Where the issuer's certificates cannot be fetched, the answer is 503, and
    schedulers try again.

    Certificates are kept for as long as the issuer says, a day at most, and fetched again for an unknown key, but not
    twice within ``refetch_interval``: made-up keys do not turn into requests to the issuer. Use one verifier for all
    endpoints, on one event loop at a time.

    Behind the access control of Cloud Run (a service that not everybody may invoke), tokens arrive without their
    signature: Cloud Run checks it and removes it. Such a service needs ``cloud_run_iam=True``.

    Args:
        audience: The audience that tokens must have, or several: the ``audience`` of the scheduler, which is the
            service's URL unless given.
        service_accounts: E-mail addresses. There is no default, and no other account is accepted.
        issuer: The ``iss`` of tokens.
        certs_url: URL at which the issuer publishes its certificates, in PEM by key id.
        clock_skew: Seconds or a timedelta by which the clocks may differ; 300 s at most.
        timeout: Seconds or a timedelta for fetching the certificates.
        refetch_interval: Least seconds, or a timedelta, from one fetch of the certificates to the next. A key that the
            issuer has just published may stay unknown for so long.
        cloud_run_iam: Whether to accept a token whose signature Cloud Run has removed, where the rest is right. Only
            for a service that can be reached through Cloud Run alone, **and** whose invokers do not include
            ``allUsers`` or ``allAuthenticatedUsers``: elsewhere, anybody can write such a token.

    Raises:
        ValueError: No audience, no service account, or an option out of its range.
        TypeError: A string instead of a list of service accounts.
    """

    def __init__(
        self,
        *,
        audience: str | Collection[str],
        service_accounts: Collection[str],
        issuer: str = GOOGLE_ISSUER,
        certs_url: str = GOOGLE_CERTS,
        clock_skew: Duration = 10,
        timeout: Duration = 10,
        refetch_interval: Duration = 5,
        cloud_run_iam: bool = False,
    ) -> None:
        if isinstance(service_accounts, str):
            raise TypeError("service_accounts must be a list of e-mail addresses, not a string")
        self._audiences = _texts("audience", [audience] if isinstance(audience, str) else audience)
        self._accounts = _texts("service_accounts", service_accounts)
        (self._issuer,) = _texts("issuer", [issuer])
        self._skew = seconds(clock_skew, "clock_skew")
        if self._skew > MAX_SKEW:
            raise ValueError(f"clock_skew must be {MAX_SKEW:g} s at most, not {self._skew:g}")
        limit = seconds(timeout, "timeout", positive=True)
        interval = seconds(refetch_interval, "refetch_interval", positive=True)
        self._certificates = Certificates(partial(fetch, certs_url, limit), timeout=limit, interval=interval)
        self._cloud_run_iam = cloud_run_iam
        self._loop: asyncio.AbstractEventLoop | None = None
        self._limiter: anyio.CapacityLimiter | None = None

    def __repr__(self) -> str:
        return f"OidcVerifier(audience={sorted(self._audiences)}, service_accounts={sorted(self._accounts)})"

    async def __call__(self, headers: Mapping[str, str], /) -> str:
        """The caller's e-mail address; see ``lro_aio.servers.resume.Verifier``.

        Raises:
            UnauthenticatedError: There is no token, or it is invalid. It does not say why; the log does, at level INFO.
            PermissionError: The token is valid, but of another account.
            CertificatesUnavailableError: The token cannot be checked now.
        """
        try:
            token = _read(headers.get("authorization", ""))
            self._check_claims(token.claims)  # first: a token for another audience is not worth a fetch of the keys
            if token.signed:
                certificate = await self._certificates.find(token.key_id)
                if certificate is None:
                    raise _BadTokenError(f"the issuer has no key {token.key_id!r}")
                await anyio.to_thread.run_sync(self._check_signature, token, certificate, limiter=self._threads())
            else:
                self._check_removed()
        except _BadTokenError as exc:
            logger.info("a token is refused: %s", exc, extra=event("token_refused"))
            raise UnauthenticatedError("the token is invalid") from exc
        return self._account(token.claims)

    def _threads(self) -> anyio.CapacityLimiter:
        """A limiter of its own: a check does not wait for what else the application does in threads."""
        loop = asyncio.get_running_loop()
        if self._limiter is None or self._loop is not loop:
            self._loop, self._limiter = loop, anyio.CapacityLimiter(THREADS)
        return self._limiter

    def _check_signature(self, token: _Token, certificate: str) -> None:
        """Check the signature, and the times and the audience as google-auth does. Blocks."""
        try:
            jwt.decode(  # type: ignore[no-untyped-call]  # theirs
                token.text,
                certs={token.key_id: certificate},
                audience=sorted(self._audiences),
                clock_skew_in_seconds=self._skew,
            )
        except Exception as exc:  # a token that makes the library raise anything is invalid
            raise _BadTokenError(str(exc)) from exc

    def _check_removed(self) -> None:
        if not self._cloud_run_iam:
            raise _BadTokenError(
                "Cloud Run has checked its signature and removed it: if only the service accounts may invoke the"
                " service, use OidcVerifier(cloud_run_iam=True)"
            )

    def _check_claims(self, claims: Mapping[str, Any]) -> None:
        """Check issuer, audience and times: none of them is left to the library alone."""
        now = time.time()
        issued, expires = _moment(claims, "iat"), _moment(claims, "exp")
        not_before = _moment(claims, "nbf") if "nbf" in claims else issued
        if max(issued, not_before) - self._skew > now:
            raise _BadTokenError("it is not valid yet")
        if expires + self._skew <= now:
            raise _BadTokenError("it has expired")
        if claims.get("iss") != self._issuer:
            raise _BadTokenError(f"its issuer is {claims.get('iss')!r}")
        audience = claims.get("aud")
        if not isinstance(audience, str) or audience not in self._audiences:
            raise _BadTokenError(f"its audience is {audience!r}")

    def _account(self, claims: Mapping[str, Any]) -> str:
        email = claims.get("email")
        if not isinstance(email, str) or email not in self._accounts:
            logger.info("a token of another account is refused: %r", email, extra=event("account_refused"))
            raise PermissionError("the account may not wake operations")
        if claims.get("email_verified") is not True:
            logger.info(
                "a token is refused: the address %r is not verified", email, extra=event("address_not_verified")
            )
            raise PermissionError("the account's e-mail address is not verified")
        return email


class _BadTokenError(Exception):
    """Why a token is invalid: for the log. The caller is told only that it is."""


def _read(authorization: str) -> _Token:
    """Take a token apart; refuse every spelling but the one that an issuer writes.

    Raises:
        _BadTokenError: There is no token, or its algorithm is not RS256.
    """
    if not authorization:
        raise _BadTokenError("there is no Authorization header")
    found = _BEARER.fullmatch(authorization) if len(authorization) <= MAX_TOKEN else None
    if found is None:
        raise _BadTokenError("the Authorization header is not 'Bearer' and one token")
    text = found[1]
    parts = text.split(".")
    if len(parts) != 3:
        raise _BadTokenError(f"it has {len(parts)} parts")
    header, claims = _object(parts[0]), _object(parts[1])
    if header.get("alg") != "RS256":
        raise _BadTokenError(f"its algorithm is {header.get('alg')!r}")
    if "crit" in header:  # RFC 7515, 4.1.11: an extension that is not understood must be refused
        raise _BadTokenError("its header has critical extensions")
    key_id = header.get("kid")
    if not isinstance(key_id, str) or not key_id:
        raise _BadTokenError("it names no key")
    signed = parts[2] != _REMOVED
    if signed:
        _decoded(parts[2])
    return _Token(text, key_id, claims, signed)


def _object(part: str) -> dict[str, Any]:
    try:
        value = json.loads(_decoded(part))
    except (ValueError, RecursionError) as exc:
        raise _BadTokenError("it is not JSON") from exc
    if not isinstance(value, dict):
        raise _BadTokenError("it is not a JSON object")
    return value


def _decoded(part: str) -> bytes:
    """base64url without padding, in its one canonical spelling (RFC 7515, 2)."""
    try:
        data = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except ValueError as exc:
        raise _BadTokenError("it is not base64url") from exc
    if base64.urlsafe_b64encode(data).rstrip(b"=").decode() != part:
        raise _BadTokenError("it is not base64url")
    return data


def _moment(claims: Mapping[str, Any], name: str) -> float:
    """A claim in epoch seconds."""
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < FAR:
        raise _BadTokenError(f"its {name} is {value!r}")
    return value


def _texts(name: str, values: Collection[str]) -> frozenset[str]:
    texts = frozenset(values)
    if not texts or not all(isinstance(text, str) and text for text in texts):
        raise ValueError(f"{name} must be given, and not be empty")
    return texts
