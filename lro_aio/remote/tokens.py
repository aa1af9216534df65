"""Rehydration tokens: text with which another process can come back to an operation.

URL-safe base64 of one JSON object, under 1 KB: ``v`` version, ``t`` kind of transport, ``a`` the service's address if
it is known, ``n`` ``l`` ``r`` ``s`` the place (name, link, result, step), ``c`` a checksum. A token holds neither
credentials nor code, and proves nothing: to use one takes the service's permission, as any other call does.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import urllib.parse
import zlib
from dataclasses import dataclass
from typing import Any

from lro_aio.core.errors import InvalidTokenError
from lro_aio.remote.transport import Place, Transport

__all__ = ["MAX_TOKEN", "Rehydrated", "decode", "encode", "place_of"]

VERSION = 1
MAX_TOKEN = 1023
"""Characters."""

_FORM = re.compile(r"[A-Za-z0-9_-]+")
_PRINTABLE = re.compile(r"[^\x00-\x20\x7f-\x9f]+")
_SECRET = re.compile(
    r"(^|_)(sig|signature|key|apikey|code|secret|password|passwd|pwd|token|accesstoken|auth|credentials?|jwt)$"
)
"""Names of query parameters whose values are credentials, as ``_words`` spells them."""


@dataclass(frozen=True, slots=True)
class Rehydrated:
    """What a token says."""

    kind: str
    address: str
    place: Place


def encode(transport: Transport, place: Place) -> str | None:
    """The token of an operation; None if it would hold a credential or be too long."""
    if any(_holds_secret(text) for text in (place.name, place.link, place.result)):
        return None
    members = {
        "v": VERSION,
        "t": transport.kind,
        "a": transport.address,
        "n": place.name,
        "l": place.link,
        "r": place.result,
        "s": place.step,
    }
    token = _text({key: value for key, value in members.items() if value != ""})
    return token if len(token) <= MAX_TOKEN else None


def decode(token: str) -> Rehydrated:
    """Read a token.

    Raises:
        InvalidTokenError: It is not a token, was altered, or is of another version.
    """
    if not isinstance(token, str):
        raise InvalidTokenError(problem=f"it is {type(token).__name__}, not text")
    if len(token) > MAX_TOKEN:
        raise InvalidTokenError(problem=f"it is longer than {MAX_TOKEN} characters")
    if not _FORM.fullmatch(token):
        raise InvalidTokenError(problem="it is not URL-safe base64")
    try:
        members = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except (binascii.Error, ValueError, RecursionError) as exc:
        raise InvalidTokenError(problem="it is not a token") from exc
    if not isinstance(members, dict) or type(members.get("v")) is not int:
        raise InvalidTokenError(problem="it is not a token")
    if members["v"] != VERSION:
        raise InvalidTokenError(problem=f"it is of version {members['v']}; this release reads version {VERSION}")
    texts = {key: value for key, value in members.items() if key not in ("v", "c")}
    if not set(texts) <= set("tanlrs") or not all(
        isinstance(value, str) and _PRINTABLE.fullmatch(value) for value in texts.values()
    ):
        raise InvalidTokenError(problem="it has a member that tokens do not have")
    if not {"t", "n"} <= set(texts) or _text({"v": VERSION, **texts}) != token:
        raise InvalidTokenError(problem="it was altered or cut")
    place = Place(texts["n"], texts.get("l", ""), texts.get("r", ""), texts.get("s", ""))
    return Rehydrated(texts["t"], texts.get("a", ""), place)


def place_of(token: str, transport: Transport) -> Place:
    """The place that a token names, checked against the transport that is to go there.

    Raises:
        InvalidTokenError: As ``decode``, or it is for another transport or another service.
    """
    found = decode(token)
    if found.kind != transport.kind:
        raise InvalidTokenError(problem=f"it is for the transport {found.kind!r}, not {transport.kind!r}")
    if found.address and transport.address and found.address != transport.address:
        raise InvalidTokenError(problem=f"it is for the service at {found.address}, not {transport.address}")
    try:
        transport.check(found.place)
    except ValueError as exc:
        raise InvalidTokenError(problem=str(exc)) from exc
    return found.place


def _text(members: dict[str, Any]) -> str:
    checked = {**members, "c": f"{zlib.crc32(_json(members)):08x}"}
    return base64.urlsafe_b64encode(_json(checked)).rstrip(b"=").decode()


def _json(members: dict[str, Any]) -> bytes:
    return json.dumps(members, separators=(",", ":")).encode()


def _holds_secret(address: str) -> bool:
    try:
        parts = urllib.parse.urlsplit(address)
    except ValueError:  # not an address
        return False
    if "@" in parts.netloc:
        return True
    return any(_SECRET.search(_words(key)) for key, _ in urllib.parse.parse_qsl(parts.query, keep_blank_values=True))


def _words(key: str) -> str:
    """``sasToken`` as ``sas_token``, ``X-Amz-Security-Token`` as ``x_amz_security_token``."""
    return re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key).lower())
