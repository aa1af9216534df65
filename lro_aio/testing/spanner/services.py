"""The RPCs of google.spanner.v1.Spanner: they parse requests, call the database, and build answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import grpc

from lro_aio.testing.spanner import wire
from lro_aio.testing.spanner.database import Database
from lro_aio.testing.spanner.keysets import keys_of
from lro_aio.testing.spanner.messages import CommitResponse, Empty, PartialResultSet, ResultSet
from lro_aio.testing.spanner.messages import Session as SessionMessage
from lro_aio.testing.spanner.problems import SpannerError, invalid, precondition, unsupported
from lro_aio.testing.spanner.select import EvaluationError, parse_select
from lro_aio.testing.spanner.source import CatalogSource
from lro_aio.testing.spanner.transactions import Session, Transaction
from lro_aio.testing.spanner.values import Type, decode

__all__ = ["SpannerService"]

MAX_TAG = 50

Rows = list[Sequence[bytes]]


class SpannerService:
    """One method for each RPC, by its name in snake case: ``(request, context) -> response``."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = database.condition

    def create_session(self, request: Any, _: grpc.ServicerContext) -> Any:
        """CreateSession."""
        with self._lock:
            self._database.check(request.database)
            session = self._database.create_session(multiplexed=request.session.multiplexed)
            return SessionMessage(name=session.name, multiplexed=session.multiplexed)

    def get_session(self, request: Any, _: grpc.ServicerContext) -> Any:
        """GetSession."""
        with self._lock:
            session = self._database.session(request.name)
            return SessionMessage(name=session.name, multiplexed=session.multiplexed)

    # Reads

    def read(self, request: Any, context: grpc.ServicerContext) -> bytes:
        """Read."""
        return self._whole(*self._read(request, context, partial=False))

    def streaming_read(self, request: Any, context: grpc.ServicerContext) -> Iterator[bytes]:
        """StreamingRead."""
        return wire.partial_sets(*self._read(request, context, partial=True)[:2])

    def execute_sql(self, request: Any, context: grpc.ServicerContext) -> bytes:
        """ExecuteSql."""
        return self._whole(*self._query(request, context, partial=False))

    def execute_streaming_sql(self, request: Any, context: grpc.ServicerContext) -> Iterator[bytes]:
        """ExecuteStreamingSql."""
        return wire.partial_sets(*self._query(request, context, partial=True)[:2])

    def _read(
        self, request: Any, context: grpc.ServicerContext, *, partial: bool
    ) -> tuple[bytes, Rows, Transaction | None]:
        _check_options(request)
        if request.index or request.limit:
            raise unsupported("reads by an index or with a limit")
        with self._lock:
            session = self._database.session(request.session)
            table = self._database.catalog.table(request.table)
            names = tuple([table.column(name).name for name in request.columns])
            keys = keys_of(request.key_set, table)
            transaction, tail = self._select(session, request.transaction, partial=partial)
            if transaction is not None:
                wanted = {(table.name, key) for key in keys}
                while not self._database.transactions.share(transaction, wanted, context.is_active):
                    pass
            rows = [row for key in keys if (row := table.rows.get(key)) is not None]
        typed = [(name, table.types[name]) for name in names]
        cells: Rows = [[row.cell(name, type_) for name, type_ in typed] for row in rows]
        return table.head(names, partial=partial) + tail, cells, transaction

    def _whole(self, first: bytes, rows: Rows, transaction: Transaction | None) -> bytes:
        result = wire.result_set(first, rows)
        if len(result) <= wire.MAX_RESULT:
            return result
        if transaction is not None:
            with self._lock:  # the caller does not get its id
                self._database.transactions.roll_back(transaction)
        raise precondition(
            "Result set too large. Result sets larger than 10.00 MiB can only be yielded through the streaming API."
        )

    def _query(
        self, request: Any, context: grpc.ServicerContext, *, partial: bool
    ) -> tuple[bytes, Rows, Transaction | None]:
        _check_options(request)
        if request.query_mode:
            raise unsupported("query plans and profiles")
        if request.transaction.WhichOneof("selector") == "begin":
            raise unsupported("queries that begin a transaction")
        with self._lock:
            session = self._database.session(request.session)
            transaction, tail = self._select(session, request.transaction, partial=partial)
            try:
                query = parse_select(request.sql)
                while True:
                    source = CatalogSource(self._database.catalog, self._database.work)
                    result = query.run(source, _parameters(request), self._database.now())
                    if transaction is None:
                        break
                    transactions = self._database.transactions
                    lock = transactions.take if query.query.exclusive else transactions.share
                    if lock(transaction, source.seen, context.is_active):
                        break
            except EvaluationError as exc:
                raise SpannerError(grpc.StatusCode.OUT_OF_RANGE, str(exc)) from exc
            except ValueError as exc:
                raise invalid(str(exc)) from exc
        cells: Rows = [
            [wire.cell(type_, value) for type_, value in zip(result.types, row, strict=True)] for row in result.rows
        ]
        return wire.head(result.names, result.types, partial=partial) + tail, cells, None

    def _select(self, session: Session, selector: Any, *, partial: bool) -> tuple[Transaction | None, bytes]:
        """The read-write transaction of a read, and what the result says about its transaction."""
        result = PartialResultSet() if partial else ResultSet()
        kind = selector.WhichOneof("selector")
        transactions = self._database.transactions
        if kind == "id":
            transaction = transactions.active(session, selector.id)
            return transaction, self._with_token(transaction, result)
        if kind == "begin":
            previous, optimistic = _options(selector.begin)
            transaction = transactions.begin(session, previous, optimistic=optimistic)
            result.metadata.transaction.id = transaction.id
            return transaction, self._with_token(transaction, result)
        options = selector.single_use
        if options.WhichOneof("mode") not in (None, "read_only"):
            raise invalid("Transaction mode for read only single use transaction should be read_only.")
        if options.read_only.WhichOneof("timestamp_bound") not in (None, "strong"):
            raise unsupported("reads of the past")
        if options.read_only.return_read_timestamp:
            stamp = self._database.read_timestamp()
            result.metadata.transaction.read_timestamp.FromNanoseconds(stamp)
        return None, result.SerializeToString()

    def _with_token(self, transaction: Transaction, result: Any) -> bytes:
        given = self._database.transactions.give_token(transaction)
        if given is not None:
            result.precommit_token.precommit_token, result.precommit_token.seq_num = given
        serialized: bytes = result.SerializeToString()
        return serialized

    # Transactions

    def commit(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Commit."""
        _check_tags(request)
        if request.return_commit_stats:
            raise unsupported("commit statistics")
        with self._lock:
            session = self._database.session(request.session)
            transactions = self._database.transactions
            kind = request.WhichOneof("transaction")
            if kind is None:
                raise invalid("No value provided for required field: CommitRequest.transaction")
            if kind == "single_use_transaction":
                previous, optimistic = _options(request.single_use_transaction)
                transaction = transactions.begin(session, previous, optimistic=optimistic)
            else:
                transaction = transactions.find(session, request.transaction_id)
                if transaction.state == "committed":
                    answer = CommitResponse()
                    answer.CopyFrom(transaction.response)
                    return answer
                transaction = transactions.active(session, request.transaction_id)
                transactions.check_token(transaction, request)
            return self._database.commit(
                transaction,
                request.mutations if transaction.pending is None else transaction.pending,
                context.is_active,
                ask_again=self._database.commit_retry and session.multiplexed and transaction.pending is None,
            )

    def rollback(self, request: Any, _: grpc.ServicerContext) -> Any:
        """Rollback."""
        with self._lock:
            session = self._database.session(request.session)
            transactions = self._database.transactions
            transactions.roll_back(transactions.find(session, request.transaction_id))
            return Empty()


def _check_tags(request: Any) -> None:
    for tag in (request.request_options.request_tag, request.request_options.transaction_tag):
        if len(tag) > MAX_TAG:
            raise invalid(f"The tag {tag!r} is longer than {MAX_TAG} characters.")


def _check_options(request: Any) -> None:
    _check_tags(request)
    if request.partition_token or request.resume_token:
        raise unsupported("partitioned and resumed reads")


def _options(options: Any) -> tuple[bytes, bool]:
    """The checked options of a new transaction: its previous attempt, and whether it is optimistic."""
    mode = options.WhichOneof("mode")
    if mode != "read_write":
        raise unsupported(f"transactions of several requests that are {mode}")
    if options.isolation_level == options.REPEATABLE_READ:
        raise unsupported("transactions with the isolation level REPEATABLE_READ")
    wanted = options.read_write
    return wanted.multiplexed_session_previous_transaction_id, wanted.read_lock_mode == wanted.OPTIMISTIC


def _parameters(request: Any) -> Mapping[str, tuple[Type, Any]]:
    found: dict[str, tuple[Type, Any]] = {}
    for name, value in request.params.fields.items():
        if name not in request.param_types:
            raise ValueError(f"the parameter {name} needs a type (param_types): this fake does not infer it")
        type_ = Type.from_proto(request.param_types[name])
        try:
            found[name] = (type_, decode(type_, value))
        except ValueError as exc:
            raise precondition(f"Invalid value for bind parameter {name}: {exc}") from exc
    return found
