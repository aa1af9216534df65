"""Keys as bytes that sort as Spanner sorts them, so that an index is a sorted list and a range two bisections.

NULL comes first, then the values in their order; a descending part has every byte inverted, so NULL comes last there
(https://cloud.google.com/spanner/docs/secondary-indexes). No encoded part is the beginning of another, so the parts of
a key are simply joined.
"""

from __future__ import annotations

from typing import Any

__all__ = ["encode_part", "successor"]

_NULL = b"\x00"
_INVERTED = bytes(255 - byte for byte in range(256))
_OFFSET = 1 << 95  # timestamps in nanoseconds need more than 64 bits


def encode_part(value: Any, *, descending: bool = False) -> bytes:
    """One part of a key: a STRING, an INT64 or a TIMESTAMP; ``None`` is NULL.

    Raises:
        TypeError: It is of another type, which no key of the table has.
    """
    if value is None:
        encoded = _NULL
    elif isinstance(value, str):
        encoded = b"\x01" + value.encode().replace(b"\x00", b"\x00\xff") + b"\x00\x00"
    elif isinstance(value, int) and not isinstance(value, bool):
        encoded = b"\x01" + (value + _OFFSET).to_bytes(12, "big")
    else:
        raise TypeError(f"this fake has no keys of the type {type(value).__name__}")
    return encoded.translate(_INVERTED) if descending else encoded


def successor(prefix: bytes) -> bytes | None:
    """The first key after all that begin with ``prefix``; None: there is none, as for the empty prefix."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else None
