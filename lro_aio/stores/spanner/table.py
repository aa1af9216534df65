"""The table as data: its columns, its indexes and which query each of them serves, and its DDL.

There are two variants. In ``proto`` the operation is a column of the type ``google.longrunning.Operation``, and the key
is generated from it, as in the Go package ``go.alis.build/lro``. In ``bytes`` both are plain columns, which need no
proto bundle. Columns that the Go package does not always write are nullable or have a default.

Shard, Parent, Due and, in ``proto``, Outcome are generated, so rows that another program wrote have them too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

from google.longrunning import operations_proto_pb2 as operations_pb2  # the half without grpc
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import FileDescriptor

__all__ = [
    "BUNDLE",
    "INDEXES",
    "JOURNAL",
    "MESSAGE",
    "OPTIONAL",
    "SCHEMA_VERSION",
    "TTL_COLUMN",
    "VARIANTS",
    "WITH_JOURNAL",
    "WITH_QUEUES",
    "Column",
    "Index",
    "Variant",
    "bundle_statement",
    "columns",
    "descriptor_set",
    "journal_ddl",
    "journal_of",
    "operations_ddl",
    "quoted",
    "row_deletion_policy",
    "valid_table",
]

Variant = Literal["proto", "bytes"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)

SCHEMA_VERSION = 1
"""The default of the column SchemaVersion. It rises where a release before it could not go on with the
table: not for what is nullable and left alone by it."""

MESSAGE = "google.longrunning.Operation"
"""Type of the column Operation in the variant ``proto``."""
BUNDLE = (MESSAGE, "google.rpc.Status", "google.protobuf.Any")
"""The types of the proto bundle: the operation, and those of its fields."""

TTL_COLUMN = "ExpireTime"
"""Column of the row deletion policy: Spanner removes rows after this time (lazily, usually within 72 hours)."""

EPOCH = "TIMESTAMP '1970-01-01T00:00:00Z'"
"""Due of a row that another program ended, until a sweep stamps it with its expiry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column."""

    name: str
    type: str
    """As in DDL and INFORMATION_SCHEMA, such as ``STRING(MAX)``; a message type without its backticks."""
    not_null: bool = False
    default: str | None = None
    """Expression of the DEFAULT clause, without its parentheses."""
    generated: str | None = None
    """Expression of a stored generated column, without its parentheses."""

    @property
    def ddl(self) -> str:
        """The column's line in CREATE TABLE."""
        parts = [self.name, self.type]
        if self.not_null:
            parts.append("NOT NULL")
        if self.default is not None:
            parts.append(f"DEFAULT ({self.default})")
        if self.generated is not None:
            parts.append(f"AS ({self.generated}) STORED")
        return " ".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """One secondary index."""

    suffix: str
    """The name of the index is TABLE_SUFFIX."""
    keys: tuple[str, ...]
    """Its columns in order, each followed by `` DESC`` if descending."""
    null_filtered: bool = False
    storing: tuple[str, ...] = ()

    def name(self, table: str) -> str:
        """Its name on a table."""
        return f"{table}_{self.suffix}"

    def ddl(self, table: str, on: str = "") -> str:
        """CREATE INDEX for a table, or on one that belongs to it."""
        kind = "NULL_FILTERED INDEX" if self.null_filtered else "INDEX"
        text = f"CREATE {kind} {quoted(self.name(table))} ON {quoted(on or table)} ({', '.join(self.keys)})"
        return f"{text} STORING ({', '.join(self.storing)})" if self.storing else text

    def store_ddl(self, table: str, column: str) -> str:
        """ALTER INDEX for a table whose index does not store this column yet."""
        return f"ALTER INDEX {quoted(self.name(table))} ADD STORED COLUMN {column}"


_HIDDEN = ("Deleted", TTL_COLUMN, "Paused")
"""What may keep a row out of a list of any kind."""

# Each begins with the shard, so that rows of the same time are spread over sixteen ranges.
INDEXES = (
    # The sweep's scan for due rows. Rows that need no check have a NULL in Due, so they are not in the index.
    Index(suffix="Due", keys=("Shard", "Due"), null_filtered=True, storing=("Handler", "ResumePoint", "Owner")),
    # Lists over all parents, newest first. The outcome keeps a million finished rows out of a list of live ones.
    # What lists ask for is stored, so that no row is read that is not on the page: it changes seldom, or with the
    # outcome. The state is not, since each claim and each suspend would write three entries more.
    Index(suffix="Newest", keys=("Shard", "Outcome", "CreateTime DESC"), storing=_HIDDEN),
    # Lists of one parent.
    Index(suffix="Parent", keys=("Shard", "Parent", "Outcome", "CreateTime DESC"), storing=_HIDDEN),
    # Lists of one handler's operations.
    Index(
        suffix="Handler",
        keys=("Shard", "Handler", "Outcome", "CreateTime DESC"),
        null_filtered=True,
        storing=(*_HIDDEN, "Parent"),
    ),
    # The children of one operation, for its cancel.
    Index(
        suffix="Children",
        keys=("Shard", "ParentOperation", "CreateTime DESC"),
        null_filtered=True,
        storing=("Outcome", "Deleted", TTL_COLUMN),
    ),
    # Expired rows, for the tables where Spanner does not remove them.
    Index(suffix="Expiry", keys=("Shard", TTL_COLUMN), null_filtered=True),
)

_PLAIN = (
    Column(name="State", type="BYTES(MAX)"),
    Column(name="ResumePoint", type="STRING(MAX)"),
    Column(name="UpdateTime", type="TIMESTAMP", not_null=True, default="CURRENT_TIMESTAMP()"),
    # The columns above are the Go package's (version 2); those below are ours.
    Column(
        name="CreateTime",
        type="TIMESTAMP",
        not_null=True,
        default="TIMESTAMP_TRUNC(CURRENT_TIMESTAMP(), MICROSECOND)",  # a float of seconds is no more precise
    ),
    Column(name="Uid", type="STRING(MAX)"),  # NULL: the row is another program's
    Column(name="Status", type="STRING(MAX)"),
    Column(name="Deleted", type="BOOL"),
    Column(name="EndTime", type="TIMESTAMP"),
    Column(name=TTL_COLUMN, type="TIMESTAMP"),
    Column(name="Handler", type="STRING(MAX)"),
    Column(name="ParentOperation", type="STRING(MAX)"),
    Column(name="Owner", type="STRING(MAX)"),
    Column(name="LeaseExpireTime", type="TIMESTAMP"),
    Column(name="Claim", type="INT64"),
    Column(name="Attempt", type="INT64"),
    Column(name="Retries", type="INT64"),
    Column(name="CheckTime", type="TIMESTAMP"),
    Column(name="Handover", type="INT64"),
    Column(name="ScheduleHandle", type="STRING(MAX)"),
    Column(name="Cleaning", type="BOOL"),
    Column(name="CancelRequested", type="BOOL"),
    Column(name="CancelChildren", type="BOOL"),
    Column(name="Fingerprint", type="STRING(MAX)"),
    Column(name="Traceparent", type="STRING(MAX)"),
    Column(name="Revision", type="INT64"),
    Column(name="StateCodec", type="STRING(MAX)"),
    Column(name="Wait", type="BYTES(MAX)"),  # JSON; a STRING takes 2,621,440 characters only
    Column(name="Wake", type="BYTES(MAX)"),
    # With the journal. A table without these and without the journal's own is used as it is.
    Column(name="Entries", type="INT64"),
    Column(name="Trail", type="STRING(MAX)"),
    Column(name="Paused", type="BOOL"),
    Column(name="Failure", type="BYTES(MAX)"),
    Column(name="Deadline", type="TIMESTAMP"),
    Column(name="InitialData", type="BYTES(MAX)"),
    Column(name="InitialCodec", type="STRING(MAX)"),
    # With the queues, likewise.
    Column(name="Seat", type="STRING(MAX)"),  # JSON
)

WITH_JOURNAL = frozenset({"Entries", "Trail", "Paused", "Failure", "Deadline", "InitialData", "InitialCodec"})
"""Columns without which a table can be used, though without a journal, without pauses and without deadlines."""
WITH_QUEUES = frozenset({"Seat"})
"""Columns without which a table can be used, though without queues."""
OPTIONAL = WITH_JOURNAL | WITH_QUEUES

JOURNAL = (
    Column(name="key", type="STRING(MAX)", not_null=True),
    Column(name="Uid", type="STRING(MAX)", not_null=True),
    Column(name="Kind", type="STRING(MAX)", not_null=True),
    Column(name="Entry", type="STRING(MAX)", not_null=True),
    Column(name="Number", type="INT64", not_null=True),
    Column(name="Time", type="TIMESTAMP", not_null=True),
    Column(name="Codec", type="STRING(MAX)", not_null=True),
    Column(name="Payload", type="BYTES(MAX)", not_null=True),
)
"""The columns of the journal's table. Its primary key are the first four."""
JOURNAL_KEY = ("key", "Uid", "Kind", "Entry")


def columns(variant: Variant) -> tuple[Column, ...]:
    """All columns of the table, in the order of CREATE TABLE. A generated column comes after those that it reads."""
    proto = variant == "proto"
    name = "Operation.name" if proto else "key"
    done = "Operation.done" if proto else "Outcome > 0"
    outcome = "IF(Operation.done, IF(Operation.error IS NULL, 1, 2), 0)"
    return (
        Column(name="key", type="STRING(MAX)", not_null=True, generated="Operation.name" if proto else None),
        Column(name="Operation", type=MESSAGE if proto else "BYTES(MAX)", not_null=True),
        *_PLAIN,
        Column(name="Shard", type="STRING(1)", generated=f"SUBSTR(TO_HEX(SHA256({name})), 1, 1)"),
        # 0: not done; 1: succeeded; 2: failed or cancelled.
        Column(name="Outcome", type="INT64", generated=outcome if proto else None),
        Column(
            name="Parent",
            type="STRING(MAX)",
            generated=f"IFNULL(REGEXP_EXTRACT({name}, r'^(.*)/operations/[^/]+$'), '')",
        ),
        Column(name="Due", type="TIMESTAMP", generated=f"IF({done} AND {TTL_COLUMN} IS NULL, {EPOCH}, CheckTime)"),
        Column(name="SchemaVersion", type="INT64", not_null=True, default=str(SCHEMA_VERSION)),
    )


def operations_ddl(table: str, variant: Variant) -> list[str]:
    """The statements that create the table and its journal in a database without them and without a proto bundle.

    Raises:
        ValueError: A table cannot have this name, or the variant is unknown.
    """
    valid_table(table)
    if variant not in VARIANTS:
        raise ValueError(f"unknown variant {variant!r}; expected one of {', '.join(VARIANTS)}")
    lines = ",\n".join(f"  {column.ddl}" for column in columns(variant))
    policy = row_deletion_policy()
    create = f"CREATE TABLE {quoted(table)} (\n{lines},\n) PRIMARY KEY (key), ROW DELETION POLICY ({policy})"
    statements = [create, *(index.ddl(table) for index in INDEXES), journal_ddl(table)]
    return [bundle_statement(BUNDLE), *statements] if variant == "proto" else statements


def journal_of(table: str) -> str:
    """The name of the table with the journals of a table's operations."""
    return f"{table}_Journal"


def journal_ddl(table: str) -> str:
    """The statement that creates it: interleaved, so that entries lie beside their row and go with it."""
    lines = ",\n".join(f"  {column.ddl}" for column in JOURNAL)
    return (
        f"CREATE TABLE {journal_of(table)} (\n{lines},\n) PRIMARY KEY ({', '.join(JOURNAL_KEY)}),"
        f" INTERLEAVE IN PARENT {quoted(table)} ON DELETE CASCADE"
    )


def row_deletion_policy() -> str:
    """The expression of the table's row deletion policy."""
    return f"OLDER_THAN({TTL_COLUMN}, INTERVAL 0 DAY)"


def bundle_statement(types: tuple[str, ...], *, insert: bool = False) -> str:
    """The statement that creates the proto bundle, or (``insert``) adds types to an existing one."""
    names = ", ".join(".".join(quoted(part) for part in name.split(".")) for name in types)
    return f"{'ALTER PROTO BUNDLE INSERT' if insert else 'CREATE PROTO BUNDLE'} ({names})"


def descriptor_set() -> bytes:
    """The serialized ``FileDescriptorSet`` that goes with the proto bundle, from the installed protos."""
    found: dict[str, FileDescriptor] = {}

    def add(file: FileDescriptor) -> None:
        if file.name not in found:
            for dependency in file.dependencies:
                add(dependency)
            found[file.name] = file  # after its imports, as protoc does

    add(operations_pb2.DESCRIPTOR)
    files = descriptor_pb2.FileDescriptorSet()
    for file in found.values():
        file.CopyToProto(files.file.add())
    return files.SerializeToString(deterministic=True)


_LONGEST = 128 - max(len(index.name("")) for index in INDEXES)


def valid_table(table: str) -> None:
    """Check that a table can have this name, and its indexes names that are derived from it.

    Raises:
        ValueError: It cannot.
    """
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", table) or len(table) > _LONGEST:
        raise ValueError(
            f"{table!r} cannot be the name of the table: use letters, digits and _, not beginning with a digit, at most"
            f" {_LONGEST} characters (the names of its indexes are longer)"
        )


def quoted(name: str) -> str:
    """An identifier for SQL and DDL: in backticks if it is a keyword."""
    return f"`{name}`" if name.upper() in _RESERVED else name


_RESERVED = frozenset(
    """ALL AND ANY ARRAY AS ASC ASSERT_ROWS_MODIFIED AT BETWEEN BY CASE CAST COLLATE CONTAINS CREATE CROSS CUBE CURRENT
    DEFAULT DEFINE DESC DISTINCT ELSE END ENUM ESCAPE EXCEPT EXCLUDE EXISTS EXTRACT FALSE FETCH FOLLOWING FOR FROM FULL
    GRAPH_TABLE GROUP GROUPING GROUPS HASH HAVING IF IGNORE IN INNER INTERSECT INTERVAL INTO IS JOIN LATERAL LEFT LIKE
    LIMIT LOOKUP MERGE NATURAL NEW NO NOT NULL NULLS OF ON OR ORDER OUTER OVER PARTITION PRECEDING PROTO RANGE RECURSIVE
    RESPECT RIGHT ROLLUP ROWS SELECT SET SOME STRUCT TABLESAMPLE THEN TO TREAT TRUE UNBOUNDED UNION UNNEST USING WHEN
    WHERE WINDOW WITH WITHIN""".split()  # noqa: SIM905 (ten lines instead of ninety)
)
"""Reserved keywords of GoogleSQL: cloud.google.com/spanner/docs/reference/standard-sql/lexical."""
