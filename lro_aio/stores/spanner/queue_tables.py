"""The tables of the queues as data, beside that of the operations: their columns, their indexes, and their DDL.

Whoever decides about a queue reads its row, and writes it with whatever it decides: so no two decide at a time, and
what is read of the other tables stays true until the commit.
"""

from __future__ import annotations

from dataclasses import dataclass

from lro_aio.stores.spanner.table import Column, Index, quoted

__all__ = ["KEYS", "LINE", "QUEUES", "QUEUE_TABLES", "SERVED", "STARTS", "TICKETS", "WAKES", "QueueTable", "queues_ddl"]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueTable:
    """One of these tables."""

    suffix: str
    """Its name is TABLE_SUFFIX, of the table of the operations."""
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    ttl: str = ""
    """The column of its row deletion policy; "" for none."""
    below: bool = False
    """Whether its rows lie below those of the operations, and go with them."""
    indexes: tuple[Index, ...] = ()

    def name(self, table: str) -> str:
        """Its name beside a table of operations."""
        return f"{table}_{self.suffix}"

    def ddl(self, table: str) -> str:
        """CREATE TABLE, for a table of operations."""
        lines = ",\n".join(f"  {column.ddl}" for column in self.columns)
        text = f"CREATE TABLE {self.name(table)} (\n{lines},\n) PRIMARY KEY ({', '.join(self.key)})"
        if self.below:
            return f"{text}, INTERLEAVE IN PARENT {quoted(table)} ON DELETE CASCADE"
        return f"{text}, ROW DELETION POLICY (OLDER_THAN({self.ttl}, INTERVAL 0 DAY))" if self.ttl else text

    def index_ddl(self, table: str, index: Index) -> str:
        """CREATE INDEX, for a table of operations."""
        return index.ddl(table, on=self.name(table))


def _columns(type_: str, *names: str, not_null: bool = True) -> tuple[Column, ...]:
    return tuple(Column(name=name, type=type_, not_null=not_null) for name in names)


QUEUES = QueueTable(
    suffix="Queues",
    key=("Name",),
    columns=(
        *_columns("STRING(MAX)", "Name", "Bounds"),  # "" where nobody has said yet what it allows
        # Of the bounds: how many starts count. The statements need it.
        *_columns("INT64", "Rate", "KeyRate", not_null=False),
        *_columns("STRING(MAX)", "Override", not_null=False),
        *_columns("STRING(MAX)", "Declared"),
        *_columns("BOOL", "Paused"),
        *_columns("INT64", "Turn", "Last", "Number", "Starts"),
        *_columns("TIMESTAMP", "Clock", "RestsUntil"),
    ),
)

# Keys of which more may go when their time comes.
WAKES = Index(suffix="Wakes", keys=("Queue", "Wakes"), null_filtered=True)
KEYS = QueueTable(
    suffix="Keys",
    key=("Queue", "QueueKey"),
    columns=(
        *_columns("STRING(MAX)", "Queue", "QueueKey"),
        *_columns("INT64", "Turn", "Starts"),
        *_columns("TIMESTAMP", "RestsUntil"),
        *_columns("TIMESTAMP", "Wakes", "Idle", not_null=False),
    ),
    ttl="Idle",
    indexes=(WAKES,),
)

# What is taken, who is in line, and who is next of a key: "" is what has none.
LINE = Index(
    suffix="Line",
    keys=("Queue", "Standing", "QueueKey", "Priority", "Turn", "Number"),
    storing=("Handler", "Since"),
)
# Who is next, for those who run a handler, and in which queues it has anybody.
SERVED = Index(
    suffix="Served",
    keys=("Handler", "Standing", "Queue", "Priority", "Turn", "Number"),
    storing=("QueueKey", "Since"),
)
TICKETS = QueueTable(
    suffix="Tickets",
    key=("key", "Uid", "Step"),
    columns=(
        *_columns("STRING(MAX)", "key", "Uid", "Step", "Queue", "QueueKey", "Handler"),
        *_columns("INT64", "Priority", "Turn", "Number", "Standing"),
        *_columns("TIMESTAMP", "Since"),
    ),
    below=True,
    indexes=(LINE, SERVED),
)

STARTS = QueueTable(
    suffix="Starts",
    key=("Queue", "QueueKey", "Number"),
    columns=(
        *_columns("STRING(MAX)", "Queue", "QueueKey"),
        *_columns("INT64", "Number"),
        *_columns("TIMESTAMP", "Time", "Ends"),
    ),
    ttl="Ends",
)

QUEUE_TABLES = (QUEUES, KEYS, TICKETS, STARTS)


def queues_ddl(table: str) -> list[str]:
    """The statements that make them, each followed by those of its indexes."""
    return [
        text
        for one in QUEUE_TABLES
        for text in (one.ddl(table), *(one.index_ddl(table, index) for index in one.indexes))
    ]
