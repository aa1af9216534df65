"""Keys as bytes that sort as Spanner sorts them, so that an index is a sorted list and a range two bisections.

NULL comes first, then the values in their order; a descending part has every byte inverted, so NULL comes last there
(https://cloud.google.com/spanner/docs/secondary-indexes). Each part ends by itself: no part is the beginning of
another, so the parts of a key can simply stand one after the other.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

__all__ = ["encode_part", "successor"]

_NULL = b"\x00"
_INVERTED = bytes(255 - byte for byte in range(256))
_OFFSET = 1 << 95  # timestamps in nanoseconds need more than 64 bits


def encode_part(value: Any, *, descending: bool = False) -> bytes:
    """One part of a key; ``None`` is NULL.

    Raises:
        TypeError: Values of this type cannot be in a key.
    """
    encoded = _NULL if value is None else b"\x01" + _encoder(value)(value)
    return encoded.translate(_INVERTED) if descending else encoded


def successor(prefix: bytes) -> bytes | None:
    """The first key after all that begin with ``prefix``; None: there is none, as for the empty prefix."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else None


def _encoder(value: Any) -> Callable[[Any], bytes]:
    try:
        return _ENCODERS[type(value)]
    except KeyError:
        raise TypeError(f"{type(value).__name__} cannot be part of a key") from None


def _integer(value: int) -> bytes:
    return (value + _OFFSET).to_bytes(12, "big")


def _octets(value: bytes) -> bytes:
    return value.replace(b"\x00", b"\x00\xff") + b"\x00\x00"


def _text(value: str) -> bytes:
    return _octets(value.encode())


def _number(value: float) -> bytes:
    bits = struct.pack(">d", value)
    return bits.translate(_INVERTED) if bits[0] & 0x80 else bytes([bits[0] | 0x80]) + bits[1:]


_ENCODERS: dict[type, Callable[[Any], bytes]] = {
    bool: lambda value: b"\x01" if value else b"\x00",
    int: _integer,
    str: _text,
    bytes: _octets,
    float: _number,
}
