"""The DDL statements that the fake knows, as data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

from lro_aio.testing.spanner.syntax import read_expression
from lro_aio.testing.spanner.tokens import Cursor
from lro_aio.testing.spanner.values import Type, read_type

__all__ = [
    "AddColumn",
    "AlterColumn",
    "AlterProtoBundle",
    "Column",
    "CreateIndex",
    "CreateProtoBundle",
    "CreateTable",
    "DropColumn",
    "DropDefault",
    "DropIndex",
    "DropRowDeletionPolicy",
    "DropTable",
    "KeyPart",
    "RowDeletionPolicy",
    "SetDefault",
    "SetOptions",
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
    """Text of the expression, STORED, likewise."""
    options: tuple[tuple[str, str], ...] = ()
    """``OPTIONS (name = value)``, the values as written."""


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
    """``CREATE TABLE [IF NOT EXISTS]``."""

    table: str
    columns: tuple[Column, ...]
    primary_key: tuple[KeyPart, ...]
    row_deletion_policy: RowDeletionPolicy | None = None
    if_not_exists: bool = False


@dataclass(frozen=True, slots=True)
class DropTable:
    """``DROP TABLE [IF EXISTS]``."""

    table: str
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class AddColumn:
    """``ALTER TABLE t ADD COLUMN [IF NOT EXISTS]``."""

    table: str
    column: Column
    if_not_exists: bool = False


@dataclass(frozen=True, slots=True)
class AlterColumn:
    """``ALTER TABLE t ALTER COLUMN c TYPE [NOT NULL] [DEFAULT (...)]``: the column as it is from now on.

    Its options stay what they are.
    """

    table: str
    column: Column


@dataclass(frozen=True, slots=True)
class SetDefault:
    """``ALTER TABLE t ALTER COLUMN c SET DEFAULT (...)``."""

    table: str
    column: str
    default: str


@dataclass(frozen=True, slots=True)
class DropDefault:
    """``ALTER TABLE t ALTER COLUMN c DROP DEFAULT``."""

    table: str
    column: str


@dataclass(frozen=True, slots=True)
class SetOptions:
    """``ALTER TABLE t ALTER COLUMN c SET OPTIONS (...)``."""

    table: str
    column: str
    options: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class DropColumn:
    """``ALTER TABLE t DROP COLUMN c``."""

    table: str
    column: str


@dataclass(frozen=True, slots=True)
class SetRowDeletionPolicy:
    """``ALTER TABLE t ADD | REPLACE ROW DELETION POLICY (...)``."""

    table: str
    policy: RowDeletionPolicy
    replace: bool
    """REPLACE: there must be one; ADD: there must be none."""


@dataclass(frozen=True, slots=True)
class DropRowDeletionPolicy:
    """``ALTER TABLE t DROP ROW DELETION POLICY``."""

    table: str


@dataclass(frozen=True, slots=True)
class CreateIndex:
    """``CREATE [UNIQUE] [NULL_FILTERED] INDEX [IF NOT EXISTS]``."""

    index: str
    table: str
    key: tuple[KeyPart, ...]
    storing: tuple[str, ...] = ()
    unique: bool = False
    null_filtered: bool = False
    if_not_exists: bool = False


@dataclass(frozen=True, slots=True)
class DropIndex:
    """``DROP INDEX [IF EXISTS]``."""

    index: str
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class CreateProtoBundle:
    """``CREATE PROTO BUNDLE (...)``: full names of messages and enums."""

    types: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AlterProtoBundle:
    """``ALTER PROTO BUNDLE [INSERT (...)] [UPDATE (...)] [DELETE (...)]``."""

    insert: tuple[str, ...] = ()
    update: tuple[str, ...] = ()
    delete: tuple[str, ...] = ()


Statement = (
    CreateTable
    | DropTable
    | AddColumn
    | AlterColumn
    | SetDefault
    | DropDefault
    | SetOptions
    | DropColumn
    | SetRowDeletionPolicy
    | DropRowDeletionPolicy
    | CreateIndex
    | DropIndex
    | CreateProtoBundle
    | AlterProtoBundle
)


@lru_cache(maxsize=512)
def parse_statement(text: str) -> Statement:
    """Parse one DDL statement: no semicolon at its end, and no comments.

    Raises:
        ValueError: It does not follow the dialect; says where.
    """
    cursor = Cursor(text, comments=False)
    for words, read in _STATEMENTS:
        if cursor.take(*words):
            statement = read(cursor)
            cursor.end()
            return statement
    raise cursor.unexpected(
        f"Error parsing Spanner DDL statement: expected {', '.join(' '.join(words) for words, _ in _STATEMENTS)}"
    )


def _create_table(cursor: Cursor) -> CreateTable:
    if_not_exists = cursor.take("IF", "NOT", "EXISTS")
    table = cursor.identifier()
    cursor.expect("(")
    columns: list[Column] = []
    while not cursor.ahead(")"):
        columns.append(_column(cursor))
        if not cursor.take(","):
            break
    cursor.expect(")", "PRIMARY", "KEY")
    key = _key(cursor)
    policy = _policy(cursor) if cursor.take(",", "ROW", "DELETION", "POLICY") else None
    return CreateTable(table, tuple(columns), key, policy, if_not_exists)


def _column(cursor: Cursor) -> Column:
    name = cursor.identifier()
    declared = _definition(cursor, name)
    return replace(declared, options=_options(cursor)) if cursor.take("OPTIONS") else declared


def _definition(cursor: Cursor, name: str) -> Column:
    """All of a column but its options."""
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


def _options(cursor: Cursor) -> tuple[tuple[str, str], ...]:
    cursor.expect("(")
    options: list[tuple[str, str]] = []
    while True:
        name = cursor.identifier()
        cursor.expect("=")
        if name != "allow_commit_timestamp" or cursor.token.text not in ("TRUE", "FALSE", "NULL"):
            raise cursor.unexpected("Expected an option of this dialect (allow_commit_timestamp = true | false | null)")
        options.append((name, str(cursor.next().value).lower()))
        if not cursor.take(","):
            break
    cursor.expect(")")
    return tuple(options)


def _key(cursor: Cursor) -> tuple[KeyPart, ...]:
    cursor.expect("(")
    parts: list[KeyPart] = []
    while not cursor.ahead(")"):
        column = cursor.identifier()
        descending = cursor.take("DESC")
        if not descending:
            cursor.take("ASC")
        parts.append(KeyPart(column, descending))
        if not cursor.take(","):
            break
    cursor.expect(")")
    return tuple(parts)


def _policy(cursor: Cursor) -> RowDeletionPolicy:
    cursor.expect("(", "OLDER_THAN", "(")
    column = cursor.identifier()
    cursor.expect(",", "INTERVAL")
    days = int(cursor.literal("int"))
    cursor.expect("DAY", ")", ")")
    return RowDeletionPolicy(column, days)


def _drop_table(cursor: Cursor) -> DropTable:
    if_exists = cursor.take("IF", "EXISTS")
    return DropTable(cursor.identifier(), if_exists)


def _alter_table(cursor: Cursor) -> Statement:
    table = cursor.identifier()
    for action in ("ADD", "REPLACE"):
        if cursor.take(action, "ROW", "DELETION", "POLICY"):
            return SetRowDeletionPolicy(table, _policy(cursor), replace=action == "REPLACE")
    if cursor.take("DROP", "ROW", "DELETION", "POLICY"):
        return DropRowDeletionPolicy(table)
    if cursor.take("ADD", "COLUMN"):
        if_not_exists = cursor.take("IF", "NOT", "EXISTS")
        return AddColumn(table, _column(cursor), if_not_exists)
    if cursor.take("DROP", "COLUMN"):
        return DropColumn(table, cursor.identifier())
    if cursor.take("ALTER", "COLUMN"):
        return _alter_column(cursor, table)
    raise cursor.unexpected("Expected ADD | ALTER | DROP COLUMN or ADD | REPLACE | DROP ROW DELETION POLICY")


def _alter_column(cursor: Cursor, table: str) -> Statement:
    column = cursor.identifier()
    if cursor.take("SET", "DEFAULT"):
        return SetDefault(table, column, _expression(cursor))
    if cursor.take("SET", "OPTIONS"):
        return SetOptions(table, column, _options(cursor))
    if cursor.take("DROP", "DEFAULT"):
        return DropDefault(table, column)
    return AlterColumn(table, _definition(cursor, column))


def _create_index(*, unique: bool, null_filtered: bool) -> Callable[[Cursor], CreateIndex]:
    def read(cursor: Cursor) -> CreateIndex:
        if_not_exists = cursor.take("IF", "NOT", "EXISTS")
        index = cursor.identifier()
        cursor.expect("ON")
        table = cursor.identifier()
        key = _key(cursor)
        if not key:
            raise ValueError(f"Index {index} does not specify any key columns.")
        storing = _names(cursor) if cursor.take("STORING") else ()
        return CreateIndex(index, table, key, storing, unique, null_filtered, if_not_exists)

    return read


def _drop_index(cursor: Cursor) -> DropIndex:
    if_exists = cursor.take("IF", "EXISTS")
    return DropIndex(cursor.identifier(), if_exists)


def _names(cursor: Cursor) -> tuple[str, ...]:
    """Names in parentheses, at least one; of messages, with their packages."""
    cursor.expect("(")
    names: list[str] = []
    while not names or not cursor.ahead(")"):
        parts = [cursor.identifier()]
        while cursor.take("."):
            parts.append(cursor.identifier())
        names.append(".".join(parts))
        if not cursor.take(","):
            break
    cursor.expect(")")
    return tuple(names)


def _create_bundle(cursor: Cursor) -> CreateProtoBundle:
    return CreateProtoBundle(_names(cursor))


def _alter_bundle(cursor: Cursor) -> AlterProtoBundle:
    insert, update, delete = (_names(cursor) if cursor.take(word) else () for word in ("INSERT", "UPDATE", "DELETE"))
    return AlterProtoBundle(insert, update, delete)


_STATEMENTS: tuple[tuple[tuple[str, ...], Callable[[Cursor], Statement]], ...] = (
    (("CREATE", "TABLE"), _create_table),
    (("DROP", "TABLE"), _drop_table),
    (("ALTER", "TABLE"), _alter_table),
    (("CREATE", "INDEX"), _create_index(unique=False, null_filtered=False)),
    (("CREATE", "UNIQUE", "INDEX"), _create_index(unique=True, null_filtered=False)),
    (("CREATE", "NULL_FILTERED", "INDEX"), _create_index(unique=False, null_filtered=True)),
    (("CREATE", "UNIQUE", "NULL_FILTERED", "INDEX"), _create_index(unique=True, null_filtered=True)),
    (("DROP", "INDEX"), _drop_index),
    (("CREATE", "PROTO", "BUNDLE"), _create_bundle),
    (("ALTER", "PROTO", "BUNDLE"), _alter_bundle),
)
