"""What a commit would change: mutations checked against the declared schema and the committed rows, in their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc

from lro_aio.testing.spanner.catalog import Catalog
from lro_aio.testing.spanner.ddl import Column
from lro_aio.testing.spanner.expressions import Bound, EvaluationError
from lro_aio.testing.spanner.keysets import key_text, keys_of
from lro_aio.testing.spanner.problems import SpannerError, invalid, not_found, precondition, unsupported
from lro_aio.testing.spanner.storage import Row, Table
from lro_aio.testing.spanner.values import check_size, decode

__all__ = ["MAX_MUTATIONS", "WRITES", "Changes", "plan"]

MAX_MUTATIONS = 80_000
MAX_KEY = 8192

WRITES = ("insert", "update", "insert_or_update")
"""The mutations that the fake has, besides the delete."""


@dataclass(slots=True)
class Changes:
    """The rows after a commit; None for deleted ones."""

    rows: dict[tuple[str, bytes], Row | None] = field(default_factory=dict)
    cells: int = 0
    """Mutations as Spanner counts them, without those of index entries."""


def plan(mutations: Sequence[Any], catalog: Catalog, timestamp: int) -> Changes:
    """Check the mutations, each against the result of those before it.

    Args:
        mutations: ``google.spanner.v1.Mutation`` messages.
        catalog: The tables.
        timestamp: The commit's, in nanoseconds since the epoch.

    Raises:
        SpannerError: As Spanner refuses them.
    """
    changes = Changes()
    for mutation in mutations:
        kind = mutation.WhichOneof("operation")
        if kind is None:
            raise invalid("No value provided for required field: Mutation.operation")
        if kind in WRITES:
            write = getattr(mutation, kind)
            table = catalog.table(write.table)
            parent = catalog.table(table.declared.parent) if table.declared.parent else None
            _Writer(kind, write, table, parent, changes, timestamp).run()
        elif kind == "delete":
            _delete(mutation.delete, catalog, changes)
        else:
            raise unsupported(f"the mutation {kind}")
    return changes


def _delete(delete: Any, catalog: Catalog, changes: Changes) -> None:
    table = catalog.table(delete.table)
    found = keys_of(delete.key_set, table)
    for key in found:
        changes.rows[table.name, key] = None
        children = {child.name for child in catalog.tables.values() if child.declared.parent == table.name}
        made = [place for place in changes.rows if place[0] in children and place[1].startswith(key)]
        stored = [(child.name, below) for child, below in catalog.below(table, key)]
        changes.rows.update(dict.fromkeys([*made, *stored]))  # which does not count: cloud.google.com/spanner/quotas
    changes.cells += len(found)


class _Writer:
    """One insert, update or insert_or_update of any number of rows."""

    def __init__(
        self, kind: str, write: Any, table: Table, parent: Table | None, changes: Changes, timestamp: int
    ) -> None:
        self.kind, self.table, self.changes, self.timestamp = kind, table, changes, timestamp
        self.parent = parent
        self.lists = write.values
        self.columns = [table.column(name) for name in write.columns]
        self.named = {column.name for column in self.columns}
        self.keyed = [name for name in table.key_columns if name in table.generated]
        self._check_columns()

    def run(self) -> None:
        for values in self.lists:
            if len(values.values) != len(self.columns):
                raise invalid(
                    "Mutation column and value size mismatch: Found:"
                    f" {len(self.columns)} columns and {len(values.values)} values"
                )
            written = {
                column.name: self._value(column, value)
                for column, value in zip(self.columns, values.values, strict=True)
            }
            self._row(written)
        self.changes.cells += len(self.lists) * len(self.named.union(self.table.key_columns))

    def _check_columns(self) -> None:
        table = self.table
        names = [column.name for column in self.columns]
        for column in self.columns:
            if names.count(column.name) > 1:
                raise invalid(f"Multiple values for column {column.name}.")
            if column.generated is not None and not (self.kind == "update" and column.name in self.keyed):
                raise precondition(f"Cannot write into generated column `{table.name}.{column.name}`.")
        missing = [name for name in table.key_columns if name not in self.named and name not in self.keyed]
        if missing and self.kind == "update":
            raise precondition(f"{missing[0]} must not be NULL in table {table.name}.")
        if self.kind != "update":
            required = [
                column.name
                for column in table.columns.values()
                if column.not_null and column.default is None and column.generated is None
            ]
            self._refuse_missing([name for name in required if name not in self.named])

    def _refuse_missing(self, names: Sequence[str]) -> None:
        if names:
            raise precondition(
                f"A new row in table {self.table.name} does not specify a non-null value"
                f" for these NOT NULL columns: {', '.join(names)}"
            )

    def _value(self, column: Column, value: Any) -> Any:
        try:
            found = decode(column.type, value)
        except ValueError as exc:
            raise precondition(f"Invalid value for column {column.name} in table {self.table.name}: {exc}") from exc
        if found is None and column.not_null:
            raise precondition(f"{column.name} must not be NULL in table {self.table.name}.")
        self._check_size(column, found)
        return found

    def _row(self, written: dict[str, Any]) -> None:
        key, parts = self._key(written)
        place = (self.table.name, key)
        changes = self.changes.rows
        self._check_parent(parts)
        old = changes[place] if place in changes else self.table.rows.get(key)
        if self.kind == "insert" and old is not None:
            raise SpannerError(
                grpc.StatusCode.ALREADY_EXISTS, f"Row {key_text(parts)} in table {self.table.name} already exists"
            )
        if self.kind == "update" and old is None:
            raise not_found(f"Row {key_text(parts)} in table {self.table.name} is missing. Row cannot be updated.")
        changes[place] = Row(key, self._new(written)) if old is None else old.then(self._next(old, written))

    def _check_parent(self, parts: list[Any]) -> None:
        if self.parent is None:
            return
        above = parts[: len(self.parent.key_columns)]
        key = self.parent.primary.prefix(above)
        place = (self.parent.name, key)
        changes = self.changes.rows
        if (changes[place] if place in changes else self.parent.rows.get(key)) is None:
            raise not_found(
                f"Parent row {key_text(above)} in table {self.parent.name} is missing."
                f" Row {key_text(parts)} in table {self.table.name} cannot be written."
            )

    def _key(self, written: dict[str, Any]) -> tuple[bytes, list[Any]]:
        """The row's primary key: generated parts from their sources, unless the mutation names them."""
        table = self.table
        parts = []
        for name in table.key_columns:
            if name not in self.keyed:
                parts.append(written.get(name))
                continue
            compute, reads = table.generated[name]
            if reads <= written.keys():
                value = self._compute(name, compute, {**dict.fromkeys(table.columns), **written})
                if name in written and written[name] != value:
                    raise SpannerError(
                        grpc.StatusCode.OUT_OF_RANGE,
                        f"The value of generated primary key column `{table.name}.{name}` cannot be modified when its"
                        " non-key dependent columns are updated.",
                    )
            elif name in written:
                value = written[name]
            else:
                raise precondition(
                    f"The value of generated primary key column `{table.name}.{name}` must be explicitly specified or"
                    " else its non-key dependent columns must be specified in Update mutations."
                )
            parts.append(value)
        size = sum(len(part.encode()) for part in parts if isinstance(part, str))
        if size > MAX_KEY:
            raise invalid(
                f"Number of bytes for key of table {table.name} is {size} which exceeds the maximum of {MAX_KEY}."
            )
        return table.primary.prefix(parts), parts

    def _new(self, written: dict[str, Any]) -> dict[str, Any]:
        table = self.table
        values: dict[str, Any] = dict.fromkeys(table.columns)
        values |= written
        for name, default in table.defaults.items():
            if name not in written:
                values[name] = self._compute(name, default, values)
        for name, (compute, _) in table.generated.items():
            values[name] = self._compute(name, compute, values)
        self._refuse_missing(
            [name for name, column in table.columns.items() if column.not_null and values[name] is None]
        )
        return values

    def _next(self, old: Row, written: dict[str, Any]) -> dict[str, Any]:
        values = {**old.values, **written}
        changed = {name for name, value in written.items() if old.values[name] != value}
        for name, (compute, reads) in self.table.generated.items():
            if reads & changed:
                values[name] = self._compute(name, compute, values)
                if values[name] != old.values[name]:
                    changed.add(name)
        return values

    def _compute(self, name: str, compute: Bound, values: Mapping[str, Any]) -> Any:
        try:
            found = compute(values, self.timestamp)
        except EvaluationError as exc:
            raise SpannerError(grpc.StatusCode.OUT_OF_RANGE, str(exc)) from exc
        self._check_size(self.table.columns[name], found)
        return found

    def _check_size(self, column: Column, value: Any) -> None:
        try:
            check_size(column.type, value)
        except ValueError as exc:
            raise precondition(
                f"New value exceeds the maximum size limit for this column: {self.table.name}.{column.name}, {exc}"
            ) from exc
