"""The schema: tables, indexes and the proto bundle, changed by DDL statements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest

import grpc
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError

from lro_aio.testing.spanner import ddl
from lro_aio.testing.spanner.keys import successor
from lro_aio.testing.spanner.problems import SpannerError, invalid, not_found, precondition
from lro_aio.testing.spanner.storage import Row, Table

__all__ = ["Catalog"]


class Catalog:
    """The schema of one database. Not safe for threads: callers hold the database's lock."""

    def __init__(self) -> None:
        self.tables: dict[str, Table] = {}
        """By name in lower case."""
        self.bundle: set[str] = set()
        self.messages: DescriptorPool | None = None
        self._files: dict[str, descriptor_pb2.FileDescriptorProto] = {}

    def table(self, name: str) -> Table:
        """A table by its name, in any case.

        Raises:
            SpannerError: NOT_FOUND.
        """
        try:
            return self.tables[name.lower()]
        except KeyError:
            raise not_found(f"Table not found: {name}") from None

    def apply(self, statement: ddl.Statement, descriptors: bytes, now: int) -> None:
        """Carry out one statement.

        Args:
            statement: As ``parse_statement`` gives it.
            descriptors: Serialized ``FileDescriptorSet`` for statements about the proto bundle.
            now: Nanoseconds since the epoch, for the defaults of columns that are added.

        Raises:
            SpannerError: It does not fit the schema; nothing was changed.
        """
        try:
            match statement:
                case ddl.CreateTable():
                    self._create_table(statement)
                case ddl.DropTable():
                    self._drop_table(statement)
                case ddl.CreateIndex():
                    self._create_index(statement)
                case ddl.AlterIndex():
                    self._alter_index(statement)
                case ddl.CreateProtoBundle() | ddl.AlterProtoBundle():
                    self._change_bundle(statement, descriptors)
                case _:
                    self._alter_table(statement, now)
        except ValueError as exc:
            raise invalid(str(exc)) from exc

    def _create_table(self, statement: ddl.CreateTable) -> None:
        self._check_free(statement.table)
        names = [column.name for column in statement.columns]
        for name in names:
            if names.count(name) > 1:
                raise precondition(f"Duplicate column name {statement.table}.{name}.")
        for part in statement.primary_key:
            if part.column not in names:
                raise precondition(f"Table {statement.table} references nonexistent key column {part.column}.")
        self._check_types(statement.columns)
        self._check_policy(statement, statement.row_deletion_policy)
        if statement.parent:
            statement = replace(statement, parent=self._checked_parent(statement))
        self.tables[statement.table.lower()] = Table(statement, self.messages)

    def _check_free(self, name: str) -> None:
        if name.lower() in self.tables or any(name in table.indexes for table in self.tables.values()):
            raise precondition(f"Duplicate name in schema: {name}.")

    def _check_types(self, columns: Sequence[ddl.Column]) -> None:
        for column in columns:
            if column.type.code == "PROTO" and column.type.proto not in self.bundle:
                raise invalid(f"Type not found: {column.type.proto}; it is not in the proto bundle of the database.")

    def _check_policy(self, table: ddl.CreateTable, policy: ddl.RowDeletionPolicy | None) -> None:
        if policy is None:
            return
        column = next((one for one in table.columns if one.name == policy.column), None)
        if column is None or column.type.code != "TIMESTAMP":
            raise invalid(
                f"Cannot create ROW DELETION POLICY because there is no TIMESTAMP column named {policy.column}"
                f" in table {table.table}."
            )

    def _checked_parent(self, child: ddl.CreateTable) -> str:
        """The name of the parent, whose key the child's key begins with."""
        parent = self.table(child.parent)
        types = {column.name.lower(): column.type for column in child.columns}
        for part, mine in zip_longest(parent.declared.primary_key, child.primary_key[: len(parent.key_columns)]):
            if mine is None or (mine.column.lower(), mine.descending) != (part.column.lower(), part.descending):
                raise precondition(
                    f"Table {child.table} does not reference parent key column {part.column}: the primary key of the"
                    " parent, in its order, must begin that of the child."
                )
            if types[mine.column.lower()] != parent.types[part.column]:
                raise precondition(f"Column {child.table}.{mine.column} must have the type of the parent's.")
        return parent.name

    def below(self, table: Table, key: bytes) -> list[tuple[Table, bytes]]:
        """The stored rows that are interleaved in this one, and go with it."""
        children = [child for child in self.tables.values() if child.declared.parent == table.name]
        return [(child, row.key) for child in children for row in child.primary.between(key, successor(key))]

    def above(self, table: Table, row: Row) -> tuple[str, bytes]:
        """The table and the key of the row with which this one lies: that in which it is interleaved, or itself."""
        key = row.key
        while table.declared.parent:
            table = self.table(table.declared.parent)
            key = table.primary.prefix([row.values[column] for column in table.key_columns])
        return table.name, key

    def _drop_table(self, statement: ddl.DropTable) -> None:
        table = self.table(statement.table)
        if children := [child.name for child in self.tables.values() if child.declared.parent == table.name]:
            raise precondition(f"Cannot drop table {table.name} with interleaved tables: {','.join(children)}.")
        if table.indexes:
            raise precondition(f"Cannot drop table {table.name} with indices: {','.join(sorted(table.indexes))}.")
        del self.tables[table.name.lower()]

    def _create_index(self, statement: ddl.CreateIndex) -> None:
        table = self.table(statement.table)
        self._check_free(statement.index)
        for name in (*(part.column for part in statement.key), *statement.storing):
            if name not in table.columns:
                raise invalid(f"Index {statement.index} specifies column {name}, which table {table.name} has not.")
        table.add_index(statement)

    def _alter_index(self, statement: ddl.AlterIndex) -> None:
        name = statement.index
        table = next((table for table in self.tables.values() if name in table.indexes), None)
        if table is None:
            raise not_found(f"Index not found: {name}")
        declared = table.indexes[name].declared
        assert declared is not None
        column = table.column(statement.column).name
        keys = {part.column for part in table.indexes[name].parts}
        if column in keys or column in declared.storing:
            raise precondition(f"Index {name} has the column {column} already.")
        table.add_index(replace(declared, storing=(*declared.storing, column)))

    def _change_bundle(self, statement: ddl.CreateProtoBundle | ddl.AlterProtoBundle, descriptors: bytes) -> None:
        if isinstance(statement, ddl.CreateProtoBundle):
            if self.bundle:
                raise precondition("A proto bundle exists already; change it with ALTER PROTO BUNDLE.")
            new = statement.types
        else:
            if not self.bundle:
                raise not_found("There is no proto bundle to alter.")
            new = statement.insert
        for name in new:
            if name in self.bundle:
                raise SpannerError(grpc.StatusCode.ALREADY_EXISTS, f"Type already exists: `{name}` in the proto bundle")
        if not descriptors:
            raise invalid("Contents of proto_descriptor_file cannot be empty")
        files = {**self._files, **_files(descriptors)}
        pool = _pool(files)
        for name in new:
            try:
                pool.FindMessageTypeByName(name)
            except KeyError:
                raise not_found(f"Missing descriptor for `{name}`") from None
        self._files, self.messages = files, pool
        self.bundle.update(new)
        for table in self.tables.values():
            table.declare(table.declared, pool)

    def _alter_table(self, statement: ddl.AlterTable, now: int) -> None:
        table = self.table(statement.table)
        changed = self._altered(table, statement)
        self._check_types(changed.columns)
        before = table.declared
        try:
            table.declare(changed, self.messages)
            table.rebuild(now)
        except ValueError:
            table.declare(before, self.messages)
            raise

    def _altered(self, table: Table, statement: ddl.AlterTable) -> ddl.CreateTable:
        declared = table.declared
        match statement:
            case ddl.AddColumn(column=column):
                return _with_column(table, column)
            case ddl.AlterColumn(column=column):
                old = table.column(column.name)
                if old.type.code != column.type.code:
                    raise invalid(f"Cannot change type of column `{old.name}` from `{old.type}` to `{column.type}`")
                if old.generated != column.generated:
                    raise precondition(f"Cannot change the expression of column {table.name}.{old.name}.")
                if column.not_null and any(row.values[old.name] is None for row in table.rows.values()):
                    raise precondition(f"Column {table.name}.{old.name} has rows with NULL.")
                return _replaced(declared, replace(column, name=old.name))
            case ddl.SetDefault(column=name, default=text):
                return _replaced(declared, replace(table.column(name), default=text))
            case ddl.SetRowDeletionPolicy(policy=policy):
                self._check_policy(declared, policy)
                existing = declared.row_deletion_policy
                if existing is None and statement.replace:
                    raise invalid(f"ROW DELETION POLICY does not exist on table {table.name}.")
                if existing is not None and not statement.replace:
                    raise invalid(
                        "Cannot create ROW DELETION POLICY because there is already one on column named"
                        f" {existing.column} in table {table.name}."
                    )
                return replace(declared, row_deletion_policy=policy)


def _with_column(table: Table, column: ddl.Column) -> ddl.CreateTable:
    if column.name.lower() in {name.lower() for name in table.columns}:
        raise precondition(f"Duplicate column name {table.name}.{column.name}.")
    if column.not_null and column.default is None and column.generated is None:
        raise SpannerError(
            grpc.StatusCode.UNIMPLEMENTED,
            f"Cannot add NOT NULL column {table.name}.{column.name} to existing table {table.name}.",
        )
    return replace(table.declared, columns=(*table.declared.columns, column))


def _replaced(declared: ddl.CreateTable, column: ddl.Column) -> ddl.CreateTable:
    columns = tuple(column if one.name == column.name else one for one in declared.columns)
    return replace(declared, columns=columns)


def _files(descriptors: bytes) -> dict[str, descriptor_pb2.FileDescriptorProto]:
    try:
        found = descriptor_pb2.FileDescriptorSet.FromString(descriptors)
    except DecodeError as exc:
        raise invalid(f"Invalid proto descriptors: {exc}") from exc
    return {file.name: file for file in found.file}


def _pool(files: dict[str, descriptor_pb2.FileDescriptorProto]) -> DescriptorPool:
    """A pool of these files. In a descriptor set, each comes after its imports."""
    pool = DescriptorPool()
    try:
        for file in files.values():
            pool.AddSerializedFile(file.SerializeToString())
    except TypeError as exc:
        raise invalid(f"Invalid proto descriptors: {exc}") from exc
    return pool
