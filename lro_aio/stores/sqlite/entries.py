"""Entries of the journal to the values of a statement, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lro_aio.core.journal import Entry

__all__ = ["ENTRY", "decode_entry", "encode_entry"]

ENTRY = ("uid", "kind", "key", "number", "time", "codec", "payload")
"""The columns of the table ``journal``, in its order."""


def encode_entry(entry: Entry) -> tuple[Any, ...]:
    """The values of ``ENTRY``."""
    # Texts as they are: a Kind would be adapted each time.
    kind, key = str(entry.kind), str(entry.key)
    return entry.uid, kind, key, entry.number, entry.time, entry.codec, bytearray(entry.payload)


def decode_entry(row: Sequence[Any]) -> Entry:
    """The entry of a row of ``ENTRY``."""
    return Entry(**dict(zip(ENTRY, row, strict=True)))
