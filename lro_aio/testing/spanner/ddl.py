"""The DDL statements that the fake knows, as data: those of ``lro spanner migrate``, and of the tables it upgrades."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from lro_aio.testing.spanner.syntax import read_expression
from lro_aio.testing.spanner.tokens import Cursor
from lro_aio.testing.spanner.values import Type, read_type

__all__ = [
    "AddColumn",
    "AlterColumn",
    "AlterIndex",
    "AlterProtoBundle",
    "AlterTable",
    "Column",
    "CreateIndex",
    "CreateProtoBundle",
    "CreateTable",
    "DropTable",
    "KeyPart",
    "RowDeletionPolicy",
    "SetDefault",
    "SetRowDeletionPolicy",
    "Statement",
    "parse_statement",
]


@dataclass(frozen=True, slots=True)
class Column:
    """A column as declared."""

    name: str
    type: Type
    not_null: bool = False
    default: str | None = None
    """Text of the expression, without the parentheses around it (``parse_expression``)."""
    generated: str | None = None
    """Text of the expression of a STORED column, likewise."""


@dataclass(frozen=True, slots=True)
class KeyPart:
    """A column of a key."""

    column: str
    descending: bool = False


@dataclass(frozen=True, slots=True)
class RowDeletionPolicy:
    """``ROW DELETION POLICY (OLDER_THAN(column, INTERVAL days DAY))``."""

    column: str
    days: int

    @property
    def text(self) -> str:
        """As ``INFORMATION_SCHEMA.TABLES.ROW_DELETION_POLICY_EXPRESSION`` has it: ``OLDER_THAN(c, INTERVAL 0 DAY)``."""
        return f"OLDER_THAN({self.column}, INTERVAL {self.days} DAY)"


@dataclass(frozen=True, slots=True)
class CreateTable:
    """``CREATE TABLE``."""

    table: str
    columns: tuple[Column, ...]
    primary_key: tuple[KeyPart, ...]
    row_deletion_policy: RowDeletionPolicy | None = None
    parent: str = ""
    """The table in whose rows it is interleaved, ON DELETE CASCADE; "" for none."""


@dataclass(frozen=True, slots=True)
class DropTable:
    """``DROP TABLE``."""

    table: str


@dataclass(frozen=True, slots=True)
class AddColumn:
    """``ALTER TABLE t ADD COLUMN``."""

    table: str
    column: Column


@dataclass(frozen=True, slots=True)
class AlterColumn:
    """``ALTER TABLE t ALTER COLUMN c TYPE [NOT NULL] [DEFAULT (...)]``: the column as it is from now on."""

    table: str
    column: Column


@dataclass(frozen=True, slots=True)
class SetDefault:
    """``ALTER TABLE t ALTER COLUMN c SET DEFAULT (...)``."""

    table: str
    column: str
    default: str


@dataclass(frozen=True, slots=True)
class SetRowDeletionPolicy:
    """``ALTER TABLE t ADD | REPLACE ROW DELETION POLICY (...)``."""

    table: str
    policy: RowDeletionPolicy
    replace: bool
    """REPLACE: there must be one; ADD: there must be none."""


@dataclass(frozen=True, slots=True)
class CreateIndex:
    """``CREATE [NULL_FILTERED] INDEX``."""

    index: str
    table: str
    key: tuple[KeyPart, ...]
    storing: tuple[str, ...] = ()
    null_filtered: bool = False


@dataclass(frozen=True, slots=True)
class AlterIndex:
    """``ALTER INDEX i ADD STORED COLUMN c``."""

    index: str
    column: str


@dataclass(frozen=True, slots=True)
class CreateProtoBundle:
    """``CREATE PROTO BUNDLE (...)``: full names of messages."""

    types: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AlterProtoBundle:
    """``ALTER PROTO BUNDLE INSERT (...)``."""

    insert: tuple[str, ...]


AlterTable = AddColumn | AlterColumn | SetDefault | SetRowDeletionPolicy
Statement = CreateTable | DropTable | AlterTable | CreateIndex | AlterIndex | CreateProtoBundle | AlterProtoBundle


@lru_cache(maxsize=512)
def parse_statement(text: str) -> Statement:
    """Parse one DDL statement: no semicolon at its end, and no comments.

    Raises:
        ValueError: It is not in the dialect; says where.
    """
    cursor = Cursor(text)
    for words, read in _STATEMENTS:
        if cursor.take(*words):
            statement = read(cursor)
            cursor.end()
            return statement
    raise cursor.unexpected(f"this fake knows {', '.join(' '.join(words) for words, _ in _STATEMENTS)}")


def _create_table(cursor: Cursor) -> CreateTable:
    table = cursor.identifier()
    cursor.expect("(")
    columns: list[Column] = []
    while not cursor.ahead(")"):
        columns.append(_column(cursor))
        if not cursor.take(","):
            break
    cursor.expect(")", "PRIMARY", "KEY")
    key = _key(cursor)
    parent = _parent(cursor) if cursor.take(",", "INTERLEAVE", "IN", "PARENT") else ""
    policy = _policy(cursor) if cursor.take(",", "ROW", "DELETION", "POLICY") else None
    return CreateTable(table, tuple(columns), key, policy, parent)


def _parent(cursor: Cursor) -> str:
    parent = cursor.identifier()
    cursor.expect("ON", "DELETE", "CASCADE")  # Spanner also knows NO ACTION; the fake does not.
    return parent


def _column(cursor: Cursor) -> Column:
    return _definition(cursor, cursor.identifier())


def _definition(cursor: Cursor, name: str) -> Column:
    type_ = read_type(cursor)
    not_null = cursor.take("NOT", "NULL")
    if cursor.take("DEFAULT"):
        return Column(name, type_, not_null, default=_expression(cursor))
    if cursor.take("AS"):
        generated = _expression(cursor)
        cursor.expect("STORED")  # Spanner also knows columns that are not; the fake does not.
        return Column(name, type_, not_null, generated=generated)
    return Column(name, type_, not_null)


def _expression(cursor: Cursor) -> str:
    """The text between parentheses, which is an expression of the fake's SQL."""
    cursor.expect("(")
    start = cursor.token.start
    read_expression(cursor)
    end = cursor.token.start
    cursor.expect(")")
    return cursor.text[start:end].strip()


def _key(cursor: Cursor) -> tuple[KeyPart, ...]:
    cursor.expect("(")
    parts = [_key_part(cursor)]
    while cursor.take(","):
        parts.append(_key_part(cursor))
    cursor.expect(")")
    return tuple(parts)


def _key_part(cursor: Cursor) -> KeyPart:
    return KeyPart(cursor.identifier(), cursor.take("DESC"))


def _policy(cursor: Cursor) -> RowDeletionPolicy:
    cursor.expect("(", "OLDER_THAN", "(")
    column = cursor.identifier()
    cursor.expect(",", "INTERVAL")
    days = int(cursor.literal("int"))
    cursor.expect("DAY", ")", ")")
    return RowDeletionPolicy(column, days)


def _drop_table(cursor: Cursor) -> DropTable:
    return DropTable(cursor.identifier())


def _alter_table(cursor: Cursor) -> Statement:
    table = cursor.identifier()
    for action in ("ADD", "REPLACE"):
        if cursor.take(action, "ROW", "DELETION", "POLICY"):
            return SetRowDeletionPolicy(table, _policy(cursor), replace=action == "REPLACE")
    if cursor.take("ADD", "COLUMN"):
        return AddColumn(table, _column(cursor))
    if cursor.take("ALTER", "COLUMN"):
        column = cursor.identifier()
        if cursor.take("SET", "DEFAULT"):
            return SetDefault(table, column, _expression(cursor))
        return AlterColumn(table, _definition(cursor, column))
    raise cursor.unexpected("Expected ADD | ALTER COLUMN or ADD | REPLACE ROW DELETION POLICY")


def _create_index(*, null_filtered: bool) -> Callable[[Cursor], CreateIndex]:
    def read(cursor: Cursor) -> CreateIndex:
        index = cursor.identifier()
        cursor.expect("ON")
        table = cursor.identifier()
        key = _key(cursor)
        storing = _names(cursor) if cursor.take("STORING") else ()
        return CreateIndex(index, table, key, storing, null_filtered)

    return read


def _alter_index(cursor: Cursor) -> AlterIndex:
    index = cursor.identifier()
    cursor.expect("ADD", "STORED", "COLUMN")
    return AlterIndex(index, cursor.identifier())


def _names(cursor: Cursor) -> tuple[str, ...]:
    """One or more names in parentheses; messages have their packages."""
    cursor.expect("(")
    names = [".".join(cursor.path())]
    while cursor.take(","):
        names.append(".".join(cursor.path()))
    cursor.expect(")")
    return tuple(names)


def _create_bundle(cursor: Cursor) -> CreateProtoBundle:
    return CreateProtoBundle(_names(cursor))


def _alter_bundle(cursor: Cursor) -> AlterProtoBundle:
    return AlterProtoBundle(_names(cursor))


_STATEMENTS: tuple[tuple[tuple[str, ...], Callable[[Cursor], Statement]], ...] = (
    (("CREATE", "TABLE"), _create_table),
    (("DROP", "TABLE"), _drop_table),
    (("ALTER", "TABLE"), _alter_table),
    (("CREATE", "INDEX"), _create_index(null_filtered=False)),
    (("CREATE", "NULL_FILTERED", "INDEX"), _create_index(null_filtered=True)),
    (("ALTER", "INDEX"), _alter_index),
    (("CREATE", "PROTO", "BUNDLE"), _create_bundle),
    (("ALTER", "PROTO", "BUNDLE", "INSERT"), _alter_bundle),
)
