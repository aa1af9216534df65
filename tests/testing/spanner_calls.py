"""Google's generated clients, and the few lines around them that the tests of the fake share."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import grpc
from google.api_core.exceptions import GoogleAPICallError
from google.cloud.spanner_admin_database_v1 import DatabaseAdminClient, UpdateDatabaseDdlRequest
from google.cloud.spanner_admin_database_v1.services.database_admin.transports import DatabaseAdminGrpcTransport
from google.cloud.spanner_v1 import types
from google.cloud.spanner_v1.services.spanner import SpannerClient
from google.cloud.spanner_v1.services.spanner.transports import SpannerGrpcTransport
from google.longrunning import operations_pb2
from google.protobuf import struct_pb2

from lro_aio.stores.spanner.schema import descriptor_set

BEGIN = types.TransactionSelector(begin={"read_write": {}})
READ_WRITE = types.TransactionOptions(read_write={})

DDL = (
    "CREATE PROTO BUNDLE (google.longrunning.Operation, google.rpc.Status, google.protobuf.`Any`)",
    """CREATE TABLE Ops (
      key STRING(MAX) NOT NULL AS (Operation.name) STORED,
      Operation google.longrunning.Operation NOT NULL,
      State BYTES(MAX),
      ResumePoint STRING(MAX),
      Shard STRING(1) AS (SUBSTR(TO_HEX(SHA256(Operation.name)), 1, 1)) STORED,
      Outcome INT64 AS (IF(Operation.done, IF(Operation.error IS NULL, 1, 2), 0)) STORED,
      CheckTime TIMESTAMP,
      ExpireTime TIMESTAMP,
    ) PRIMARY KEY (key), ROW DELETION POLICY (OLDER_THAN(ExpireTime, INTERVAL 1 DAY))""",
    "CREATE NULL_FILTERED INDEX Ops_Due ON Ops (Shard, CheckTime DESC) STORING (ResumePoint)",
    """CREATE TABLE Notes (
      id STRING(10) NOT NULL,
      number INT64 NOT NULL,
      data BYTES(5),
      flag BOOL,
      stamp TIMESTAMP,
      made TIMESTAMP DEFAULT (CURRENT_TIMESTAMP()),
    ) PRIMARY KEY (id)""",
    "CREATE INDEX Notes_ByNumber ON Notes (number DESC)",
)
"""A table as the store's, with a generated key, and a plain one."""


def listed(*values: Any) -> struct_pb2.ListValue:
    """Python values as they go over the wire; a timestamp is its text."""
    found = struct_pb2.ListValue()
    for value in values:
        one = found.values.add()
        if value is None:
            one.null_value = struct_pb2.NULL_VALUE
        elif isinstance(value, bool):
            one.bool_value = value
        elif isinstance(value, int):
            one.string_value = str(value)
        elif isinstance(value, bytes):
            one.string_value = base64.b64encode(value).decode()
        elif isinstance(value, float):
            one.number_value = value
        else:
            one.string_value = value
    return found


def unlisted(row: Any) -> list[Any]:
    """What came over the wire, as strings, numbers, bools and None."""
    return [getattr(value, value.WhichOneof("kind")) or None if value.WhichOneof("kind") == "null_value"
            else getattr(value, value.WhichOneof("kind")) for value in row.values]  # fmt: skip


def operation(name: str, **fields: Any) -> bytes:
    """A serialized operation."""
    return operations_pb2.Operation(name=name, **fields).SerializeToString()


def write(kind: str, table: str, columns: Sequence[str], *rows: Sequence[Any]) -> types.Mutation:
    """A mutation."""
    body = types.Mutation.Write(table=table, columns=columns, values=[listed(*row) for row in rows])
    return types.Mutation({kind: body})


def delete(table: str, *keys: Any) -> types.Mutation:
    """A mutation."""
    given = types.KeySet(keys=[listed(key) for key in keys])
    return types.Mutation(delete=types.Mutation.Delete(table=table, key_set=given))


class Spanner:
    """A session of one database. Every call is made once, without a retry."""

    def __init__(self, host: str, database: str, *, multiplexed: bool = True) -> None:
        # Connections of its own: after an outage a shared one would wait before it is tried again.
        options = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
        self.channel = grpc.insecure_channel(host, options=options)
        self.client = SpannerClient(transport=SpannerGrpcTransport(channel=self.channel))
        self.admin = DatabaseAdminClient(transport=DatabaseAdminGrpcTransport(channel=self.channel))
        self.database = database
        self.multiplexed = multiplexed
        self.session = ""

    def open(self) -> Spanner:
        request = types.CreateSessionRequest(database=self.database, session={"multiplexed": self.multiplexed})
        self.session = self.client.create_session(request=request, retry=None, timeout=10).name
        return self

    def close(self) -> None:
        self.channel.close()

    def ddl(self, *statements: str) -> None:
        request = UpdateDatabaseDdlRequest(
            database=self.database, statements=statements, proto_descriptors=descriptor_set()
        )
        self.admin.update_database_ddl(request=request, retry=None, timeout=10).result(timeout=10)

    def read(
        self,
        table: str,
        columns: Sequence[str],
        *keys: Any,
        transaction: types.TransactionSelector | None = None,
        **rest: Any,
    ) -> Any:
        key_set = rest.pop("key_set", None) or types.KeySet(
            keys=[listed(*(key if isinstance(key, tuple) else (key,))) for key in keys]
        )
        request = types.ReadRequest(
            session=self.session, table=table, columns=columns, key_set=key_set, transaction=transaction, **rest
        )
        return types.ResultSet.pb(self.client.read(request=request, retry=None, timeout=15))

    def rows(self, table: str, columns: Sequence[str], *keys: Any, **rest: Any) -> list[list[Any]]:
        return [unlisted(row) for row in self.read(table, columns, *keys, **rest).rows]

    def sql(self, text: str, **rest: Any) -> list[list[Any]]:
        request = types.ExecuteSqlRequest(session=self.session, sql=text, **rest)
        result = types.ResultSet.pb(self.client.execute_sql(request=request, retry=None, timeout=10))
        return [unlisted(row) for row in result.rows]

    def all(self, table: str, *columns: str) -> list[list[Any]]:
        """Every row, in the order of its first column."""
        return self.sql(f"SELECT {', '.join(columns)} FROM {table} ORDER BY {columns[0]}")

    def begin(self, previous: bytes = b"") -> Any:
        """Begin a transaction with the read of a row that nobody writes."""
        options = {"multiplexed_session_previous_transaction_id": previous} if previous else {}
        selector = types.TransactionSelector(begin={"read_write": options})
        return self.read("Notes", ["id"], "nobody's", transaction=selector)

    def commit(self, begun: Any, *mutations: types.Mutation, timeout: float = 15, **rest: Any) -> Any:
        """Commit the transaction that a read began."""
        token = begun.precommit_token
        rest.setdefault("precommit_token", {"precommit_token": token.precommit_token, "seq_num": token.seq_num})
        id_ = begun.metadata.transaction.id
        request = types.CommitRequest(session=self.session, transaction_id=id_, mutations=mutations, **rest)
        return self.client.commit(request=request, retry=None, timeout=timeout)

    def apply(self, *mutations: types.Mutation, **rest: Any) -> Any:
        """A transaction of its own; rolled back if it is refused."""
        begun = self.begin()
        try:
            return self.commit(begun, *mutations, **rest)
        except GoogleAPICallError:
            self.rollback(begun.metadata.transaction.id)
            raise

    def rollback(self, id_: bytes) -> None:
        self.client.rollback(session=self.session, transaction_id=id_, retry=None, timeout=10)
