"""The statements of ``queries.sql`` for one table, by name."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from lro_aio.stores import _sql
from lro_aio.stores._places import QUEUE, TICKET
from lro_aio.stores.postgres import schema
from lro_aio.stores.postgres.entries import ENTRY
from lro_aio.stores.postgres.location import Location
from lro_aio.stores.postgres.rows import COLUMNS, OUTLINE, PAYLOADS, SMALL, WRITTEN

__all__ = ["Call", "Given", "Statements", "columns_of"]

Call = tuple[bytes, Sequence[Any] | Mapping[str, Any]]
"""A statement and its values."""

_SIZE = " + ".join(f"octet_length({column})" for column in PAYLOADS) + " + 512"

_HEADS = {
    "routes": ("due", "next_check"),
    "steps": ("unknown", "count_due"),
    "pairs": (*("queue_made", "queue_locked", "queue_line", "queue_key", "queue_started", "queue_tickets"),),
    "served": ("line_handlers", "line_queues", "line_started"),
    "next": ("next_tickets", "next_rows"),
    "stale": ("stale_queues", "remove_stale"),
}
"""The statements that stand behind another one's beginning."""


class Statements:
    """The texts for the table of one location. psycopg takes bytes for what was not typed in by a user."""

    def __init__(self, location: Location) -> None:
        lists = {"{columns}": COLUMNS, "{outline}": OUTLINE, "{written}": WRITTEN, "{entry}": ENTRY}
        lists |= {"{ticket}": TICKET, "{queue}": QUEUE}
        parts = {**schema.tables(location), "{size}": f"({_SIZE})"}
        parts |= {name: ", ".join(columns) for name, columns in lists.items()}
        parts["{entries}"] = ", ".join(f"journal.{column}" for column in ENTRY)
        parts["{given_entry}"] = ", ".join(f"given.{column}" for column in ENTRY)
        self._texts = {name: _sql.filled(body, parts) for name, body in _sql.statements(__package__).items()}
        for head, names in _HEADS.items():
            for name in names:
                self._texts[name] = self._texts[head] + "\n" + self._texts[name]
        self.insert = Given(self._texts["insert"], WRITTEN, schema.columns())
        self.make = Given(self._texts["make"], WRITTEN, schema.columns())
        self.append = Given(self._texts["append"], ENTRY, schema.columns("journal"))
        more = {"name": "text", **schema.columns("journal")}
        self.follow = Given(self._texts["follow"], ("name", *ENTRY), more)
        changes = ", ".join(f"{column} = excluded.{column}" for column in TICKET if column != "uid")
        text = _sql.filled(self._texts["put_tickets"], {"{changes}": changes})
        self.put_tickets = Given(text, TICKET, schema.columns("tickets"))
        self.update = functools.cache(partial(self._changing, "update"))
        self.change = functools.cache(partial(self._changing, "change", version="text"))

    def __getitem__(self, name: str) -> bytes:
        return self._texts[name].encode()

    def list(self, name: str, *, outline: bool, conditions: Iterable[str]) -> bytes:
        """A statement for a page."""
        row = ", ".join(OUTLINE if outline else COLUMNS)
        return _sql.filled(self._texts[name], {"{row}": row, "{conditions}": " AND ".join(conditions)}).encode()

    def _changing(self, name: str, large: tuple[str, ...], **more: str) -> Given:
        """The statement that changes rows of which these large columns differ, behind the name and ``SMALL``.

        Args:
            name: Of the statement.
            large: The columns.
            more: What it takes besides, and the types.
        """
        columns = ("name", *SMALL, *large)
        parts = {
            "{changes}": ", ".join(f"{column} = new.{column}" for column in columns[1:]),
            "{changed}": ", ".join(columns),
        }
        return Given(_sql.filled(self._texts[name], parts), (*columns, *more), schema.columns() | more)


class Given:
    """A statement that takes rows.

    One row comes as it is: an array for each column costs both ends more than the row.

    Args:
        text: With ``{given}`` for the rows.
        columns: Of a row.
        types: Of the columns.
    """

    def __init__(self, text: str, columns: Sequence[str], types: dict[str, str]) -> None:
        values = ", ".join(f"%b::{types[column]}" for column in columns)
        arrays = ", ".join(f"%b::{types[column]}[]" for column in columns)
        self._one = text.replace("{given}", f"(VALUES ({values}))").encode()
        self._many = text.replace("{given}", f"unnest({arrays})").encode()

    def of(self, rows: Sequence[tuple[Any, ...]]) -> Call:
        """The statement and its values for some rows."""
        return (self._one, rows[0]) if len(rows) == 1 else (self._many, columns_of(rows))


def columns_of(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    """One array for each column of these rows, of which there are some."""
    return [list(column) for column in zip(*rows, strict=True)]
