"""The schema: tables, indexes and the proto bundle, changed by DDL statements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import grpc
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError

from lro_aio.testing.spanner import ddl
from lro_aio.testing.spanner.problems import SpannerError, invalid, not_found, precondition
from lro_aio.testing.spanner.storage import Table
from lro_aio.testing.spanner.values import Type

__all__ = ["Catalog"]


class Catalog:
    """All that a database has been told to have. Not safe for threads: the database's lock is held around it."""

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

    @property
    def descriptors(self) -> bytes:
        """The descriptor set of the proto bundle; empty if there is none."""
        return descriptor_pb2.FileDescriptorSet(file=self._files.values()).SerializeToString()

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
                case ddl.DropIndex():
                    self._drop_index(statement)
                case ddl.CreateProtoBundle() | ddl.AlterProtoBundle():
                    self._change_bundle(statement, descriptors)
                case _:
                    self._alter_table(statement, now)
        except ValueError as exc:
            raise invalid(str(exc)) from exc

    def _create_table(self, statement: ddl.CreateTable) -> None:
        if self._taken(statement.table, if_not_exists=statement.if_not_exists):
            return
        names = [column.name for column in statement.columns]
        for name in names:
            if names.count(name) > 1:
                raise precondition(f"Duplicate column name {statement.table}.{name}.")
        for part in statement.primary_key:
            if part.column not in names:
                raise precondition(f"Table {statement.table} references nonexistent key column {part.column}.")
        self._check_types(statement.columns)
        self._check_policy(statement, statement.row_deletion_policy)
        self.tables[statement.table.lower()] = Table(statement, self.messages)

    def _taken(self, name: str, *, if_not_exists: bool) -> bool:
        found = name.lower() in self.tables or any(name in table.indexes for table in self.tables.values())
        if found and not if_not_exists:
            raise precondition(f"Duplicate name in schema: {name}.")
        return found

    def _check_types(self, columns: Sequence[ddl.Column]) -> None:
        for column in columns:
            type_: Type = column.type.element or column.type
            if type_.code == "PROTO" and type_.proto not in self.bundle:
                raise invalid(f"Type not found: {type_.proto}; it is not in the proto bundle of the database.")

    def _check_policy(self, table: ddl.CreateTable, policy: ddl.RowDeletionPolicy | None) -> None:
        if policy is None:
            return
        column = next((one for one in table.columns if one.name == policy.column), None)
        if column is None:
            raise invalid(
                f"Cannot create ROW DELETION POLICY because there is no column named {policy.column}"
                f" in table {table.table}."
            )
        if column.type.code != "TIMESTAMP":
            raise invalid(
                f"ROW DELETION POLICY will break if drop/alter column named {policy.column} in table {table.table}."
                " Row Deletion Policy must be set on column of type TIMESTAMP."
            )

    def _drop_table(self, statement: ddl.DropTable) -> None:
        if statement.table.lower() not in self.tables and statement.if_exists:
            return
        table = self.table(statement.table)
        if table.indexes:
            raise precondition(f"Cannot drop table {table.name} with indices: {','.join(sorted(table.indexes))}.")
        del self.tables[table.name.lower()]

    def _create_index(self, statement: ddl.CreateIndex) -> None:
        table = self.table(statement.table)
        if self._taken(statement.index, if_not_exists=statement.if_not_exists):
            return
        for part in statement.key:
            if part.column not in table.columns:
                raise invalid(
                    f"Index {statement.index} specifies key column {part.column} which does not exist in the index's"
                    " base table."
                )
        keys = {*table.key_columns, *(part.column for part in statement.key)}
        for name in statement.storing:
            if name not in table.columns:
                raise invalid(f"Index {statement.index} specifies stored column {name} which does not exist.")
            if name in keys:
                whose = f"table {table.name}" if name in table.key_columns else f"index {statement.index}"
                raise precondition(f"Index {statement.index} specifies stored column {name} which is a key of {whose}.")
        table.add_index(statement)

    def _drop_index(self, statement: ddl.DropIndex) -> None:
        for table in self.tables.values():
            if table.indexes.pop(statement.index, None) is not None:
                return
        if not statement.if_exists:
            raise not_found(f"Index not found: {statement.index}")

    def _change_bundle(self, statement: ddl.CreateProtoBundle | ddl.AlterProtoBundle, descriptors: bytes) -> None:
        if isinstance(statement, ddl.CreateProtoBundle):
            if self.bundle:
                raise precondition("A proto bundle exists already; change it with ALTER PROTO BUNDLE.")
            new, gone = {*statement.types}, set[str]()
        else:
            if not self.bundle:
                raise not_found("There is no proto bundle to alter.")
            new, gone = {*statement.insert, *statement.update}, {*statement.delete}
            for name in statement.insert:
                if name in self.bundle:
                    raise SpannerError(
                        grpc.StatusCode.ALREADY_EXISTS, f"Type already exists: `{name}` in the proto bundle"
                    )
            for name in {*statement.update, *statement.delete} - self.bundle:
                raise not_found(f"Type `{name}` is not in the proto bundle")
            for table in self.tables.values():
                for name, type_ in table.types.items():
                    if type_.proto in gone:
                        raise precondition(
                            f"Removed type `{type_.proto}` is still being used by column {table.name}.{name}"
                        )
        if new and not descriptors:
            raise invalid("Contents of proto_descriptor_file cannot be empty")
        files = {**self._files, **_files(descriptors)}
        pool = _pool(files)
        for name in new:
            try:
                pool.FindMessageTypeByName(name)
            except KeyError:
                raise not_found(f"Missing descriptor for `{name}`") from None
        self._files, self.messages = files, pool
        self.bundle = (self.bundle | new) - gone
        for table in self.tables.values():
            table.declare(table.declared, pool)

    def _alter_table(self, statement: ddl.Statement, now: int) -> None:
        assert not isinstance(
            statement,
            ddl.CreateTable | ddl.DropTable | ddl.CreateIndex | ddl.DropIndex | ddl.CreateProtoBundle
            | ddl.AlterProtoBundle,
        )  # fmt: skip
        table = self.table(statement.table)
        changed = self._altered(table, statement)
        if changed == table.declared:
            return
        self._check_types(changed.columns)
        before = table.declared
        table.declare(changed, self.messages)
        try:
            table.rebuild(now)
        except ValueError:
            table.declare(before, self.messages)
            raise

    def _altered(self, table: Table, statement: ddl.Statement) -> ddl.CreateTable:
        declared = table.declared
        match statement:
            case ddl.AddColumn(column=column):
                return _with_column(table, column, if_not_exists=statement.if_not_exists)
            case ddl.DropColumn(column=name):
                return _without_column(table, name)
            case ddl.AlterColumn(column=column):
                old = table.column(column.name)
                if old.generated != column.generated or old.type.code != column.type.code:
                    raise precondition(f"Cannot change the type or the expression of column {table.name}.{old.name}.")
                if column.not_null and any(row.values[old.name] is None for row in table.rows.values()):
                    raise precondition(f"Column {table.name}.{old.name} has rows with NULL.")
                return _replaced(declared, replace(column, name=old.name, options=old.options))
            case ddl.SetDefault(column=name, default=text):
                return _replaced(declared, replace(table.column(name), default=text))
            case ddl.DropDefault(column=name):
                return _replaced(declared, replace(table.column(name), default=None))
            case ddl.SetOptions(column=name, options=options):
                column = table.column(name)
                merged = {**dict(column.options), **dict(options)}
                return _replaced(declared, replace(column, options=tuple(merged.items())))
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
            case ddl.DropRowDeletionPolicy():
                if declared.row_deletion_policy is None:
                    raise invalid(f"ROW DELETION POLICY does not exist on table {table.name}.")
                return replace(declared, row_deletion_policy=None)
        raise AssertionError(f"no statement about a table: {statement}")


def _with_column(table: Table, column: ddl.Column, *, if_not_exists: bool) -> ddl.CreateTable:
    if column.name.lower() in {name.lower() for name in table.columns}:
        if if_not_exists:
            return table.declared
        raise precondition(f"Duplicate column name {table.name}.{column.name}.")
    if column.not_null and column.default is None and column.generated is None:
        raise SpannerError(
            grpc.StatusCode.UNIMPLEMENTED,
            f"Cannot add NOT NULL column {table.name}.{column.name} to existing table {table.name}.",
        )
    return replace(table.declared, columns=(*table.declared.columns, column))


def _without_column(table: Table, name: str) -> ddl.CreateTable:
    name = table.column(name).name
    users = [
        *(f"the primary key of table `{table.name}`" for key in table.key_columns if key == name),
        *(f"generated column `{other}`" for other, (_, reads) in table.generated.items() if name in reads),
        *(
            f"index `{index.name}`"
            for index in table.indexes.values()
            if index.declared and name in {*(part.column for part in index.declared.key), *index.declared.storing}
        ),
    ]
    policy = table.declared.row_deletion_policy
    if policy is not None and policy.column == name:
        users.append("the row deletion policy")
    if users:
        raise precondition(f"Cannot drop column `{name}` from table `{table.name}` because it is used by {users[0]}.")
    return replace(table.declared, columns=tuple(one for one in table.declared.columns if one.name != name))


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
    """A pool of these files, each added after those that it imports."""
    pool, added = DescriptorPool(), set[str]()

    def add(name: str) -> None:
        if name in added or name not in files:
            return
        added.add(name)
        for needed in files[name].dependency:
            add(needed)
        pool.AddSerializedFile(files[name].SerializeToString())

    try:
        for name in files:
            add(name)
    except TypeError as exc:
        raise invalid(f"Invalid proto descriptors: {exc}") from exc
    return pool
