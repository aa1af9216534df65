"""Page tokens and page sizes of list methods (AIP-158).

A token is a position in a list. It is bound to the arguments of the list request, except ``page_size``, which may
change from page to page. Its checksums detect alterations and misuse. They do not protect against forgery, and need
not: a token carries no permission, and a forged one yields no row that the same arguments would not.

::

    base64url( version 1 | checksum 8 | masked( arguments 8 | create_time 8 | name ) )
"""

from __future__ import annotations

import base64
import hashlib
import math
import struct
from collections.abc import Sequence

from lro_aio.core.errors import InvalidPageTokenError

__all__ = ["MAX_TOKEN", "decode", "encode", "page_size"]

MAX_TOKEN = 4096
"""Characters; every token that ``encode`` makes from an operation's name is shorter."""

_VERSION = b"\x01"
_SUM = 8


def encode(cursor: tuple[float, str], arguments: Sequence[str]) -> str:
    """The token for the page after a row: URL-safe, without padding.

    Args:
        cursor: ``(create_time, name)`` of the last row of the page; the time in epoch seconds.
        arguments: What the next request must repeat, in a fixed order: parent and filter, not the page size.
    """
    moment, name = cursor
    body = _digest(*_encoded(arguments)) + struct.pack(">d", moment) + name.encode()
    checksum = _digest(_VERSION, body)
    return base64.urlsafe_b64encode(_VERSION + checksum + _mask(body, checksum)).rstrip(b"=").decode()


def decode(token: str, arguments: Sequence[str]) -> tuple[float, str]:
    """The cursor in a token that ``encode`` made for the same arguments.

    Raises:
        InvalidPageTokenError: It was altered, made by another release or service, or for other arguments.
    """
    data = _data(token)
    if data[:1] != _VERSION:
        raise InvalidPageTokenError("it was made by another version of this service; start again from the first page")
    checksum = data[1 : 1 + _SUM]
    body = _mask(data[1 + _SUM :], checksum)
    if len(body) <= _SUM + 8 or _digest(_VERSION, body) != checksum:
        raise InvalidPageTokenError
    if body[:_SUM] != _digest(*_encoded(arguments)):
        raise InvalidPageTokenError("it belongs to a list with another parent or filter")
    (moment,) = struct.unpack(">d", body[_SUM : _SUM + 8])
    try:
        name = body[_SUM + 8 :].decode()
    except UnicodeDecodeError:
        raise InvalidPageTokenError from None
    if not math.isfinite(moment):
        raise InvalidPageTokenError
    return moment, name


def page_size(requested: int, *, default: int, maximum: int) -> int:
    """How many rows a page may have: 0 asks for the default, and a size above the maximum gets the maximum.

    Raises:
        ValueError: It is negative. AIP-158 wants INVALID_ARGUMENT, which the servers answer.
        TypeError: It is not a whole number.
    """
    if not isinstance(requested, int):
        raise TypeError(f"page_size must be a whole number, not {type(requested).__name__}")
    if requested < 0:
        raise ValueError(f"page_size must be 0 or more, not {requested}")
    return min(requested or default, maximum)


def _data(token: str) -> bytes:
    try:
        # The length first: hostile input is not decoded at any size.
        data = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)) if 0 < len(token) <= MAX_TOKEN else b""
    except ValueError:
        raise InvalidPageTokenError from None
    # The decoder ignores stray characters and spare bits: only the canonical spelling of the bytes is valid.
    if not data or base64.urlsafe_b64encode(data).rstrip(b"=").decode() != token:
        raise InvalidPageTokenError
    return data


def _encoded(arguments: Sequence[str]) -> list[bytes]:
    return [argument.encode("utf-8", "surrogatepass") for argument in arguments]


def _digest(*parts: bytes) -> bytes:
    """A checksum over the parts, each with its length, so that their boundaries count."""
    digest = hashlib.blake2b(digest_size=_SUM, person=b"lro-aio page")
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.digest()


def _mask(body: bytes, seed: bytes) -> bytes:
    """Make names unreadable, or readable again: tokens are opaque, so that no client relies on their content."""
    stream = hashlib.shake_256(seed).digest(len(body))
    return bytes(left ^ right for left, right in zip(body, stream, strict=True))
