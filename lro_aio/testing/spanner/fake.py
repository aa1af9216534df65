"""``FakeSpanner``: what tests use."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import grpc
from google.protobuf import struct_pb2

from lro_aio.stores.spanner.location import Location
from lro_aio.stores.spanner.schema import Variant, ddl, descriptor_set
from lro_aio.testing.spanner.admin import AdminService
from lro_aio.testing.spanner.database import Database
from lro_aio.testing.spanner.faults import When
from lro_aio.testing.spanner.gate import Call, Gate
from lro_aio.testing.spanner.messages import Mutation
from lro_aio.testing.spanner.mutations import WRITES
from lro_aio.testing.spanner.server import RPCS, Server
from lro_aio.testing.spanner.services import SpannerService
from lro_aio.testing.spanner.values import encode

__all__ = ["Call", "FakeSpanner"]


class FakeSpanner:
    """A Spanner for tests: a gRPC server on the loopback interface with one database in memory.

    A test aid, written from Spanner's documentation and compared with Google's emulator; neither a database nor proof
    of what the service does. ``SpannerStore`` talks to it over a real socket::

        async with FakeSpanner(variant="proto") as fake:
            async with Client(fake.url, handlers=handlers) as client: ...
            assert fake.rpcs["Commit"] == 1

    ``with`` works as well as ``async with``: the server runs on threads of its own and needs no event loop.

    It models what ``SpannerStore`` and ``lro spanner migrate`` send, and the calls by which other programs write rows
    of the same table:

    - Sessions: a lost or unknown one is NOT_FOUND with ``google.rpc.ResourceInfo``. A session takes any number of
      transactions at once (https://cloud.google.com/spanner/docs/sessions).
    - Strict serializability, by locks on the rows that a read-write transaction reads (also absent ones) and writes.
      Wound-wait: the younger one of a conflict is ABORTED, with ``google.rpc.RetryInfo``; the older one is waited for.
      A transaction that is run again keeps its age. One that was idle for 10 s may be aborted
      (https://cloud.google.com/spanner/docs/transactions). An optimistic one locks nothing, and is ABORTED if what it
      read has changed (https://cloud.google.com/spanner/docs/concurrency-control).
    - Statements in such a transaction: what they read is locked, or noted, as what reads read; with
      ``LOCK_SCANNED_RANGES=exclusive`` as what is written
      (https://cloud.google.com/spanner/docs/reference/standard-sql/query-syntax#statement-hints).
    - Precommit tokens with a rising ``seq_num`` for transactions on multiplexed sessions; a Commit with a stale token
      or without one is FAILED_PRECONDITION. With ``commit_retry`` each first Commit is answered with a new token, and
      nothing is applied before Commit comes again with it
      (https://cloud.google.com/spanner/docs/reference/rpc/google.spanner.v1#commitresponse).
    - A Commit of a transaction that is committed gets the same answer again; one without a transaction of its own
      (``single_use_transaction``) is applied again
      (https://cloud.google.com/spanner/docs/reference/rpc/google.spanner.v1#commitrequest).
    - Commit timestamps rise strictly, in whole microseconds.
    - Inserts, updates, inserts-or-updates and deletes in their order, all or none, and what each refuses: an unknown
      table or column, a wrong type, NULL in NOT NULL, a missing or a duplicate row, generated columns
      (https://cloud.google.com/spanner/docs/modify-mutation-api).
    - Generated columns, also as primary key, which no update may change: OUT_OF_RANGE
      (https://cloud.google.com/spanner/docs/generated-column/how-to).
    - Tables that are interleaved in another, ON DELETE CASCADE: no row without its parent's, and none that outlives it
      (https://cloud.google.com/spanner/docs/schema-and-data-model).
    - Default values, for new rows only (https://cloud.google.com/spanner/docs/default-values).
    - Indexes: NULL_FILTERED, STORING, descending (https://cloud.google.com/spanner/docs/secondary-indexes).
    - The proto column and the proto bundle
      (https://cloud.google.com/spanner/docs/reference/standard-sql/protocol-buffers).
    - The DDL of a migration, and what it reads of INFORMATION_SCHEMA
      (https://cloud.google.com/spanner/docs/information-schema).
    - Row deletion policies (https://cloud.google.com/spanner/docs/ttl) are kept and shown; rows are removed only when a
      test calls ``expire_rows``.
    - Limits: 80,000 mutations and 100 MiB a commit, 10 MiB a cell, 2,621,440 characters a STRING, 8 KiB a key, 10 MiB
      a unary result (https://cloud.google.com/spanner/quotas). How index entries count towards the mutations is an
      estimate: two for each entry that moves, one for each that comes or goes.

    Stricter than Spanner: request and transaction tags of more than 50 characters are refused, where the service cuts
    them. Laxer: fine-grained access control, schema changes during transactions, the gaps between the rows that a
    statement in a read-write transaction has read (the service locks them, too), and the order of rows without ORDER BY
    (here that of the keys). Everything else is refused with a sentence, or UNIMPLEMENTED: a statement that begins a
    read-write transaction, ranges of keys, reads by an index, reads of the past, read-only transactions of several
    requests, partitions, resumed streams, DML, query plans, other SQL than the store's, instances and backups.

    Constructing one does nothing yet; entering it, or ``start``, makes it listen.

    Args:
        variant: "proto" or "bytes": the table that ``lro spanner ddl`` prints for it is made. None: no table.
        table: Name of that table.
        latency: Seconds added to every call.
        port: To listen on; 0 is any that is free.
        project: Of the database's name.
        instance: Of the database's name.
        database: Of the database's name.
    """

    def __init__(
        self,
        *,
        variant: Variant | None = "proto",
        table: str = "Operations",
        latency: float = 0.0,
        port: int = 0,
        project: str = "test-project",
        instance: str = "test-instance",
        database: str = "test-database",
    ) -> None:
        self.location = Location(project=project, instance=instance, database=database, table=table)
        self.ddl: list[str] = []
        """The DDL statements that were carried out, in order."""
        self._variant = variant
        self._port = port
        self._database = Database(self.location.database_path)
        self._gate = Gate(self._database)
        self._gate.latency = latency
        self._server = Server(SpannerService(self._database), AdminService(self._database, self.ddl.append), self._gate)
        self._running = False
        if variant is not None:
            self._create_table(variant)

    def _create_table(self, variant: Variant) -> None:
        self.execute_ddl(*ddl(self.location.table, variant), descriptors=descriptor_set())

    # Life cycle

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __enter__(self) -> Self:
        self._listen()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop serving, as in an outage: connections break and new ones are refused. The rows stay."""
        self._server.stop()
        self._running = False

    async def start(self) -> None:
        """Listen; after ``stop``, on the same port and with the same rows, sessions and transactions."""
        self._listen()

    def _listen(self) -> None:
        if not self._running:
            self._port = self._server.start(self._port)
            self._running = True

    @property
    def host(self) -> str:
        """HOST:PORT of the server.

        Raises:
            RuntimeError: It was never started.
        """
        if not self._port:
            raise RuntimeError("the fake listens nowhere yet: use it in `async with FakeSpanner() as fake:`")
        return f"127.0.0.1:{self._port}"

    @property
    def url(self) -> str:
        """The URL of the table, for ``Client(store=...)`` and ``SpannerStore.from_url``."""
        parts = self.location
        return Location(
            project=parts.project,
            instance=parts.instance,
            database=parts.database,
            table=parts.table,
            host=self.host,
        ).url

    @property
    def database_path(self) -> str:
        """The database's resource name."""
        return self._database.path

    # What arrived

    @property
    def rpcs(self) -> Counter[str]:
        """How many calls arrived, by the RPC's name ("Read", "Commit", "ExecuteSql", "CreateSession", ...)."""
        return self._gate.rpcs

    @property
    def calls(self) -> deque[Call]:
        """The last 10,000 calls, the newest at the end."""
        return self._gate.calls

    @property
    def work(self) -> Counter[str]:
        """What was done since the start, or since the test cleared it, in Spanner's own terms.

        - ``commits`` that wrote something, ``columns_written`` by them (a delete is one), ``entries_written`` in the
          indexes and ``entries_deleted`` there: an entry that moves is one of each.
        - ``participants`` of these commits, at most: a row and what is interleaved in it are one, the entries of an
          index with the same first column are one. A small database has fewer, since many ranges are in one split.
        - ``entries_read``: of indexes, by queries. ``removed_entries_passed``: those between them that are no more,
          which Spanner walks over until it has compacted them. ``rows_looked_up``: entries of which a query wants
          columns that the index has not, before any condition on those.
        - ``bytes`` of requests and answers.
        """
        return self._database.work

    @property
    def waiting(self) -> int:
        """How many commits are waiting for the lock of an older transaction."""
        return self._database.transactions.waiting

    @property
    def latency(self) -> float:
        """Seconds added to every call."""
        return self._gate.latency

    @latency.setter
    def latency(self, value: float) -> None:
        self._gate.latency = value

    # Fault points

    def fail(
        self,
        rpc: str,
        code: grpc.StatusCode,
        times: int = 1,
        when: When = "before",
    ) -> None:
        """Let the next calls of an RPC fail, after the faults that are planned for it already.

        A read that begins a transaction and whose answer is lost leaves the transaction behind with its locks, as it
        would in Spanner, until it has been idle for ``idle_limit``: lower that where a test must not wait.

        Args:
            rpc: Its name, such as "Commit".
            code: What the caller gets. ABORTED also ends the transaction, with its locks.
            times: How many calls; 0 drops the faults that are planned for the RPC.
            when: "before": the call does nothing; "after": it is carried out, and only the answer is lost.

        Raises:
            ValueError: There is no such RPC or fault.
        """
        if rpc not in RPCS:
            raise ValueError(f"there is no RPC {rpc!r}; there are {', '.join(sorted(RPCS))}")
        self._gate.faults.plan(rpc, code, times, when)

    def chaos(self, rate: float, seed: int = 0) -> None:
        """Let every call fail with this probability, in any way that it can; ``chaos(0)`` ends it.

        UNAVAILABLE and DEADLINE_EXCEEDED before or after it is carried out; NOT_FOUND for its session, which is gone
        for this caller only, and never for a Commit that is sent again (see ``lose_sessions``); and ABORTED if it
        belongs to a read-write transaction that is not committed. A transaction whose first answer is lost keeps its
        locks for ``idle_limit`` seconds. The same seed and the same order of calls give the same faults.

        Args:
            rate: From 0 to 1.
            seed: Seed of the random numbers.

        Raises:
            ValueError: ``rate`` is not from 0 to 1.
        """
        self._gate.faults.randomly(rate, seed)

    @property
    def faults_injected(self) -> int:
        """How many calls ``fail`` and ``chaos`` have made fail."""
        return self._gate.faults.injected

    def lose_sessions(self) -> None:
        """Forget all sessions and their transactions, as the service does after some weeks."""
        with self._database.condition:
            for name in list(self._database.sessions):
                self._database.lose_session(name)

    @property
    def commit_retry(self) -> bool:
        """Whether the first Commit of a transaction is answered with a precommit token, not applied."""
        return self._database.commit_retry

    @commit_retry.setter
    def commit_retry(self, value: bool) -> None:
        self._database.commit_retry = value

    @property
    def clock_offset(self) -> float:
        """Seconds by which the database's clock is ahead of this machine's; timestamps still rise."""
        return self._database.clock_offset

    @clock_offset.setter
    def clock_offset(self, value: float) -> None:
        self._database.clock_offset = value

    @property
    def idle_limit(self) -> float:
        """Seconds without a call after which a transaction may be aborted. Default: 10."""
        return self._database.transactions.idle_limit

    @idle_limit.setter
    def idle_limit(self, value: float) -> None:
        self._database.transactions.idle_limit = value

    # What another program would see and do

    def rows(self, table: str | None = None) -> list[dict[str, Any]]:
        """The rows of a table in the order of their keys, as Python values.

        STRING ``str``, INT64 ``int``, BOOL ``bool``, BYTES and PROTO ``bytes``, TIMESTAMP ``int`` (nanoseconds since
        the epoch), NULL ``None``.
        """
        with self._database.condition:
            found = self._database.catalog.table(table or self.location.table)
            return [dict(row.values) for row in found.primary.scan({}, None)]

    def write(self, table: str, kind: str, columns: Sequence[str], values: Sequence[Sequence[Any]]) -> int:
        """Commit one mutation as another program would, without an RPC.

        Args:
            table: Name of the table.
            kind: "insert", "update", "insert_or_update", or "delete" (``columns`` are the key's then).
            columns: Names of the columns.
            values: Rows of Python values, as ``rows`` gives them.

        Returns:
            The commit timestamp, in nanoseconds since the epoch.

        Raises:
            SpannerError: As Spanner refuses it; ``code`` and ``message`` say why.
            ValueError: There is no such mutation.
        """
        mutation = Mutation()
        with self._database.condition:
            declared = self._database.catalog.table(table)
            lists = [
                struct_pb2.ListValue(
                    values=[encode(declared.column(name).type, value) for name, value in zip(columns, row, strict=True)]
                )
                for row in values
            ]
            if kind == "delete":
                mutation.delete.table = table
                mutation.delete.key_set.keys.extend(lists)
            elif kind in WRITES:
                write = getattr(mutation, kind)
                write.table = table
                write.columns.extend(columns)
                write.values.extend(lists)
            else:
                raise ValueError(f"there is no mutation {kind!r}")
            return self._database.write([mutation])

    def execute_ddl(self, *statements: str, descriptors: bytes = b"") -> None:
        """Carry out DDL statements without an RPC.

        Args:
            statements: In order.
            descriptors: A serialized ``FileDescriptorSet``, for a statement about the proto bundle.

        Raises:
            SpannerError: As Spanner refuses them.
        """
        with self._database.condition:
            stamps, error = self._database.change_schema(statements, descriptors)
            self.ddl.extend(statements[: len(stamps)])
            if error is not None:
                raise error

    def expire_rows(self, now: float | None = None) -> int:
        """Apply the row deletion policies, as Spanner does some time within 72 hours.

        Args:
            now: Seconds since the epoch; None: by the database's clock.

        Returns:
            How many rows were deleted.
        """
        with self._database.condition:
            return self._database.expire(self._database.now() if now is None else round(now * 1e9))
