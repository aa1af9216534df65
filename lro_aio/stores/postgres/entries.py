"""Entries of the journal to the values of a statement, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lro_aio.core.journal import Entry
from lro_aio.stores.postgres import schema

__all__ = ["ENTRY", "decode_entry", "encode_entry"]

ENTRY = tuple(schema.columns("journal"))
"""The columns of the table, in its order."""


def encode_entry(entry: Entry) -> tuple[Any, ...]:
    """The values of ``ENTRY``."""
    # Texts as they are: psycopg would take a Kind for an enum of the database.
    return entry.uid, str(entry.kind), entry.key.encode(), entry.number, entry.time, entry.codec, entry.payload


def decode_entry(row: Sequence[Any]) -> Entry:
    """The entry of a row of ``ENTRY``."""
    uid, kind, key, number, time, codec, payload = row
    return Entry(
        uid=uid, kind=kind, key=bytes(key).decode(), number=number, time=time, codec=codec, payload=bytes(payload)
    )
