"""The committed rows as the query language reads them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from google.protobuf.descriptor_pool import DescriptorPool

from lro_aio.testing.spanner import information
from lro_aio.testing.spanner.catalog import Catalog
from lro_aio.testing.spanner.select import KeyRange
from lro_aio.testing.spanner.storage import Index, Table
from lro_aio.testing.spanner.values import Type

__all__ = ["CatalogSource"]

_SCHEMA = "INFORMATION_SCHEMA."


class CatalogSource:
    """One query's view of a database (a ``Source``); the database's lock is held while it is used."""

    def __init__(self, catalog: Catalog, work: Counter[str]) -> None:
        self._catalog = catalog
        self._work = work
        self.seen: set[tuple[str, bytes]] = set()
        """The rows that were read, and those that were looked for by their whole key and are not there."""

    @property
    def messages(self) -> DescriptorPool | None:
        """The proto bundle."""
        return self._catalog.messages

    def columns(self, table: str) -> Mapping[str, Type]:
        """The columns of a table or of a view of the schema."""
        if (view := _view(table)) is not None:
            return information.COLUMNS[view]
        return self._table(table).types

    def order(self, table: str, index: str | None) -> Sequence[tuple[str, bool]]:
        """The order in which ``scan`` yields."""
        if _view(table) is not None:
            return ()
        return [(part.column, part.descending) for part in self._index(table, index).parts]

    def left_out(self, table: str, index: str) -> list[str]:
        """The columns of a NULL_FILTERED index whose NULL keeps a row out of it."""
        found, declared = self._index(table, index), self._table(table)
        names = [part.column for part in found.parts] if found.null_filtered else []
        key = {part.column for part in declared.primary.parts}
        return [name for name in names if not declared.column(name).not_null and name not in key]

    def scan(
        self,
        table: str,
        index: str | None,
        equal: Mapping[str, Any],
        span: KeyRange | None,
        needs: Collection[str],
    ) -> Iterator[Mapping[str, Any]]:
        """The rows in that order."""
        if (view := _view(table)) is not None:
            yield from information.rows(view, self._catalog)
            return
        found = self._index(table, index)
        name = self._table(table).name
        if found.declared is None:
            if len(equal) == len(found.parts):
                self.seen.add((name, found.prefix([equal[part.column] for part in found.parts])))
            for row in found.scan(equal, span):
                self.seen.add((name, row.key))
                yield row.values
            return
        for row in found.walk(equal, span, self._work):
            self.seen.add((name, row.key))
            if not found.columns.issuperset(needs):
                self._work["rows_looked_up"] += 1
            yield row.values

    def _table(self, name: str) -> Table:
        return self._catalog.tables[name.lower()]

    def _index(self, table: str, index: str | None) -> Index:
        found = self._table(table)
        return found.primary if index is None else found.indexes[index]


def _view(table: str) -> str | None:
    """The name of a view of the schema; None: it is a table.

    Raises:
        KeyError: No such view.
    """
    name = table.upper()
    if not name.startswith(_SCHEMA):
        return None
    view = name.removeprefix(_SCHEMA)
    if view not in information.COLUMNS:
        raise KeyError(table)
    return view
