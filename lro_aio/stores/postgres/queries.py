"""The statements of ``queries.sql`` for one table, by name."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence

from lro_aio.stores import _sql
from lro_aio.stores._places import QUEUE, TICKET
from lro_aio.stores.postgres import schema
from lro_aio.stores.postgres.entries import ENTRY
from lro_aio.stores.postgres.location import Location
from lro_aio.stores.postgres.rows import COLUMNS, OUTLINE, PAYLOADS, SMALL, WRITTEN

__all__ = ["Statements"]

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
        self._texts = {name: _sql.filled(body, parts) for name, body in _sql.statements(__package__).items()}
        for head, names in _HEADS.items():
            for name in names:
                self._texts[name] = self._texts[head] + "\n" + self._texts[name]
        self.insert = self._array("insert", WRITTEN, schema.columns())
        self.append = self._array("append", ENTRY, schema.columns("journal"))
        changes = ", ".join(f"{column} = excluded.{column}" for column in TICKET if column != "uid")
        self._texts["put_tickets"] = self._texts["put_tickets"].replace("{changes}", changes)
        self.put_tickets = self._array("put_tickets", TICKET, schema.columns("tickets"))
        self.update = functools.cache(self._update)

    def __getitem__(self, name: str) -> bytes:
        return self._texts[name].encode()

    def list(self, name: str, *, outline: bool, conditions: Iterable[str]) -> bytes:
        """A statement for a page."""
        row = ", ".join(OUTLINE if outline else COLUMNS)
        return _sql.filled(self._texts[name], {"{row}": row, "{conditions}": " AND ".join(conditions)}).encode()

    def _array(self, name: str, columns: Sequence[str], types: dict[str, str]) -> bytes:
        """A statement that takes one array for each column."""
        return self._texts[name].replace("{arrays}", _arrays(columns, types)).encode()

    def _update(self, large: tuple[str, ...]) -> bytes:
        """The statement that changes rows of which these large columns differ."""
        columns = (*SMALL, *large)
        parts = {
            "{changes}": ", ".join(f"{column} = new.{column}" for column in columns),
            "{changed}": ", ".join(("name", *columns)),
            "{arrays}": _arrays(("name", *columns), schema.columns()),
        }
        return _sql.filled(self._texts["update"], parts).encode()


def _arrays(columns: Sequence[str], types: dict[str, str]) -> str:
    return ", ".join(f"%b::{types[column]}[]" for column in columns)
