"""Signatures after Standard Webhooks (https://www.standardwebhooks.com): HMAC-SHA256 over ``id.timestamp.body``."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lro_aio.core.policies import Duration, seconds

__all__ = ["SignatureError", "headers_of", "keys_of", "verify"]

ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
_PREFIX = "whsec_"
_SHORTEST, _LONGEST = 24, 64
"""Bytes of a key."""
_TOLERANCE = 300.0


class SignatureError(ValueError):
    """What was received was not signed with the secret, or not a short time ago, or is no webhook."""


def keys_of(secrets: str | Sequence[str]) -> tuple[bytes, ...]:
    """The keys of secrets, the first one first. No secret is in the text of an error.

    Raises:
        ValueError: One of them is not ``whsec_`` and the base64 of 24 to 64 bytes. Or there is none.
        TypeError: They are no texts.
    """
    given = [secrets] if isinstance(secrets, str) else list(secrets)
    if not given:
        raise ValueError("a webhook needs a secret")
    return tuple(map(_key, given))


def _key(secret: str) -> bytes:
    if not isinstance(secret, str):
        raise TypeError(f"a webhook secret must be a text, not {type(secret).__name__}")
    try:
        if not secret.startswith(_PREFIX):
            raise ValueError
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
        if not _SHORTEST <= len(key) <= _LONGEST:
            raise ValueError
    except (binascii.Error, ValueError):
        raise ValueError(
            f"a webhook secret must be {_PREFIX!r} and the base64 of {_SHORTEST} to {_LONGEST} random bytes"
        ) from None  # what was raised may hold the secret
    return key


def headers_of(identifier: str, now: float, body: bytes, keys: Iterable[bytes]) -> dict[str, str]:
    """The headers of one try.

    Args:
        identifier: Of the event: the same for all tries.
        now: Epoch seconds.
        body: As it is sent.
        keys: Each signs: while a secret is rotated, receivers have either.
    """
    moment = str(int(now))
    signatures = " ".join(_signature(key, identifier, moment, body) for key in keys)
    return {ID: identifier, TIMESTAMP: moment, SIGNATURE: signatures}


def verify(
    body: bytes | str,
    headers: Mapping[str, str],
    secret: str | Sequence[str],
    *,
    tolerance: Duration = _TOLERANCE,
    now: float | None = None,
) -> dict[str, Any]:
    """Check what a receiver got, and return what it tells.

    It may come twice: remember the header ``webhook-id``, which is the same then.

    Args:
        body: As it was received, byte for byte.
        headers: Of the request. The case of their names does not matter.
        secret: The secret, or several while it is rotated.
        tolerance: Seconds or a timedelta by which the time of sending may differ from now, either way.
        now: Epoch seconds; None: by the clock of this machine.

    Raises:
        SignatureError: It is not what was sent, or came too late. Answer 400 or so.
        ValueError: The secret is malformed.
    """
    keys = keys_of(secret)
    raw = body.encode() if isinstance(body, str) else bytes(body)
    found = {name.lower(): value for name, value in headers.items() if name.lower() in (ID, TIMESTAMP, SIGNATURE)}
    missing = [name for name in (ID, TIMESTAMP, SIGNATURE) if not found.get(name)]
    if missing:
        raise SignatureError(f"the header {missing[0]} is missing")
    moment = found[TIMESTAMP]
    if not (moment.isascii() and moment.isdigit() and len(moment) <= 12):
        raise SignatureError(f"the header {TIMESTAMP} is malformed")
    distance = abs((time.time() if now is None else now) - int(moment))
    if distance > seconds(tolerance, "tolerance"):
        raise SignatureError(f"it was signed {distance:.0f} s from now, which is more than the tolerance")
    given = [text.encode() for text in found[SIGNATURE].split(" ") if text.startswith("v1,")]
    expected = [_signature(key, found[ID], moment, raw).encode() for key in keys]
    if not any(hmac.compare_digest(one, other) for one in given for other in expected):
        raise SignatureError("no signature is that of the secret")
    return _object(raw)


def _object(raw: bytes) -> dict[str, Any]:
    try:
        told = json.loads(raw)
    except ValueError as exc:
        raise SignatureError("the body is no JSON") from exc
    if not isinstance(told, dict):
        raise SignatureError("the body is no JSON object")
    return told


def _signature(key: bytes, identifier: str, moment: str, body: bytes) -> str:
    signed = f"{identifier}.{moment}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
