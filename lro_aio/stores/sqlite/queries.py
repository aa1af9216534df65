"""The statements of ``queries.sql``, by name."""

from __future__ import annotations

import functools

from lro_aio.stores import _sql
from lro_aio.stores._places import TICKET
from lro_aio.stores.sqlite.entries import ENTRY
from lro_aio.stores.sqlite.rows import COLUMNS, OUTLINE, PAYLOADS, WRITTEN

__all__ = ["load"]


@functools.cache
def load() -> dict[str, str]:
    """Every statement by its name, with the columns filled in."""
    lists = {"{columns}": COLUMNS, "{outline}": OUTLINE, "{written}": WRITTEN, "{entry}": ENTRY, "{ticket}": TICKET}
    parts = {name: ", ".join(columns) for name, columns in lists.items()}
    parts["{payload_bytes}"] = " + ".join(f"length({column})" for column in PAYLOADS)
    return {name: _sql.filled(body, parts) for name, body in _sql.statements(__package__).items()}
