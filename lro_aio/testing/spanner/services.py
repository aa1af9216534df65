"""The RPCs of google.spanner.v1.Spanner: requests taken apart, the database asked, answers put together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import grpc

from lro_aio.testing.spanner import wire
from lro_aio.testing.spanner.database import Database
from lro_aio.testing.spanner.keysets import keys_of
from lro_aio.testing.spanner.messages import (
    BatchCreateSessionsResponse,
    CommitResponse,
    Empty,
    PartialResultSet,
    ResultSet,
    Transaction,
)
from lro_aio.testing.spanner.messages import Session as SessionMessage
from lro_aio.testing.spanner.problems import SpannerError, invalid, not_found, precondition, unsupported
from lro_aio.testing.spanner.select import EvaluationError, parse_select
from lro_aio.testing.spanner.source import CatalogSource
from lro_aio.testing.spanner.storage import Index, Row, Table
from lro_aio.testing.spanner.transactions import Session
from lro_aio.testing.spanner.transactions import Transaction as ActiveTransaction
from lro_aio.testing.spanner.values import Type, decode

__all__ = ["SpannerService"]

MAX_TAG = 50
MAX_COMMIT_DELAY = 500_000_000

Rows = list[Sequence[bytes]]


class SpannerService:
    """One method for each RPC, by its name in snake case: ``(request, context) -> response``."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = database.condition

    # Sessions

    def create_session(self, request: Any, _: grpc.ServicerContext) -> Any:
        """CreateSession."""
        with self._lock:
            self._database.check(request.database)
            return self._session_message(self._database.create_session(multiplexed=request.session.multiplexed))

    def batch_create_sessions(self, request: Any, _: grpc.ServicerContext) -> Any:
        """BatchCreateSessions."""
        with self._lock:
            self._database.check(request.database)
            made = [self._database.create_session(multiplexed=False) for _ in range(request.session_count)]
            return BatchCreateSessionsResponse(session=[self._session_message(session) for session in made])

    def get_session(self, request: Any, _: grpc.ServicerContext) -> Any:
        """GetSession."""
        with self._lock:
            return self._session_message(self._database.session(request.name))

    def delete_session(self, request: Any, _: grpc.ServicerContext) -> Any:
        """DeleteSession: also of one that does not exist."""
        with self._lock:
            found = self._database.sessions.get(request.name)
            if found is not None and found.multiplexed:
                raise invalid("A multiplexed session cannot be deleted.")
            self._database.lose_session(request.name)
            return Empty()

    def _session_message(self, session: Session) -> Any:
        message = SessionMessage(name=session.name, multiplexed=session.multiplexed)
        message.create_time.FromNanoseconds(session.created)
        message.approximate_last_use_time.FromNanoseconds(self._database.now())
        return message

    # Reads

    def read(self, request: Any, _: grpc.ServicerContext) -> bytes:
        """Read."""
        return self._whole(request, *self._read(request, partial=False))

    def streaming_read(self, request: Any, _: grpc.ServicerContext) -> Iterator[bytes]:
        """StreamingRead."""
        return wire.partial_sets(*self._read(request, partial=True)[:2])

    def execute_sql(self, request: Any, _: grpc.ServicerContext) -> bytes:
        """ExecuteSql."""
        return self._whole(request, *self._query(request, partial=False))

    def execute_streaming_sql(self, request: Any, _: grpc.ServicerContext) -> Iterator[bytes]:
        """ExecuteStreamingSql."""
        return wire.partial_sets(*self._query(request, partial=True)[:2])

    def _read(self, request: Any, *, partial: bool) -> tuple[bytes, Rows, ActiveTransaction | None]:
        _check_options(request)
        with self._lock:
            session = self._database.session(request.session)
            table = self._database.catalog.table(request.table)
            index = self._index(table, request.index)
            names = tuple([table.column(name).name for name in request.columns])
            _check_stored(table, index, names)
            keys = keys_of(request.key_set, table, index)
            transaction, tail = self._select(session, request.transaction, partial=partial)
            if transaction is not None:
                places = [(table.name, key) for key in keys.keys]
                self._database.transactions.share(transaction, [*places, (table.name, None)] if keys.ranges else places)
            rows = _rows(table, index, keys)
        if request.limit:
            rows = rows[: request.limit]
        typed = [(name, table.types[name]) for name in names]
        cells: Rows = [[row.cell(name, type_) for name, type_ in typed] for row in rows]
        return table.head(names, partial=partial) + tail, cells, transaction

    def _whole(self, request: Any, first: bytes, rows: Rows, transaction: ActiveTransaction | None) -> bytes:
        result = wire.result_set(first, rows)
        if len(result) <= wire.MAX_RESULT:
            return result
        if transaction is not None and request.transaction.WhichOneof("selector") == "begin":
            with self._lock:  # nobody was told of it
                self._database.transactions.roll_back(transaction)
        raise precondition(
            "Result set too large. Result sets larger than 10.00 MiB can only be yielded through the streaming API."
        )

    def _index(self, table: Table, name: str) -> Index:
        for other in self._database.catalog.tables.values():
            if name in other.indexes and other is not table:
                raise precondition(
                    f"Index '{name}' indexes '{other.name}' which does not match the given base table '{table.name}'."
                )
        return table.index(name)

    def _query(self, request: Any, *, partial: bool) -> tuple[bytes, Rows, ActiveTransaction | None]:
        _check_options(request)
        if request.query_mode:
            raise unsupported("query plans and profiles")
        with self._lock:
            session = self._database.session(request.session)
            source = CatalogSource(self._database.catalog)
            try:
                query = parse_select(request.sql)
                result = query.run(source, _parameters(request), self._database.now())
            except EvaluationError as exc:
                raise SpannerError(grpc.StatusCode.OUT_OF_RANGE, str(exc)) from exc
            except ValueError as exc:
                raise invalid(str(exc)) from exc
            transaction, tail = self._select(session, request.transaction, partial=partial)
            if transaction is not None:
                self._database.transactions.share(transaction, [(name, None) for name in source.scanned])
        cells: Rows = [
            [wire.cell(type_, value) for type_, value in zip(result.types, row, strict=True)] for row in result.rows
        ]
        return wire.head(result.names, result.types, partial=partial) + tail, cells, transaction

    def _select(self, session: Session, selector: Any, *, partial: bool) -> tuple[ActiveTransaction | None, bytes]:
        """The read-write transaction of a read, and what the result says about its transaction."""
        result = PartialResultSet() if partial else ResultSet()
        kind = selector.WhichOneof("selector")
        if kind is None or kind == "single_use":
            options = selector.single_use
            if kind is not None and options.WhichOneof("mode") != "read_only":
                raise invalid("Transaction mode for read only single use transaction should be read_only.")
            _check_strong(options.read_only)
            if options.read_only.return_read_timestamp:
                stamp = self._database.read_timestamp()
                result.metadata.transaction.read_timestamp.FromNanoseconds(stamp)
            return None, result.SerializeToString()
        transactions = self._database.transactions
        if kind == "begin":
            previous, optimistic = _options(selector.begin)
            transaction = transactions.begin(session, previous, optimistic=optimistic)
            result.metadata.transaction.id = transaction.id
        else:
            transaction = transactions.active(session, selector.id)
        given = transactions.give_token(transaction)
        if given is not None:
            result.precommit_token.precommit_token, result.precommit_token.seq_num = given
        return transaction, result.SerializeToString()

    # Transactions

    def begin_transaction(self, request: Any, _: grpc.ServicerContext) -> Any:
        """BeginTransaction."""
        with self._lock:
            session = self._database.session(request.session)
            transactions = self._database.transactions
            previous, optimistic = _options(request.options)
            transaction = transactions.begin(session, previous, optimistic=optimistic)
            answer = Transaction(id=transaction.id)
            if request.HasField("mutation_key") and (given := transactions.give_token(transaction)) is not None:
                answer.precommit_token.precommit_token, answer.precommit_token.seq_num = given
            return answer

    def commit(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Commit."""
        _check_tags(request)
        delay = request.max_commit_delay.ToNanoseconds()
        if not 0 <= delay <= MAX_COMMIT_DELAY:
            raise invalid("max_commit_delay must be between 0 and 500 ms.")
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
                if transaction.state == "rolled back":
                    raise precondition("Cannot commit a transaction after it has been rolled back.")
                transaction = transactions.active(session, request.transaction_id)
                transactions.check_token(transaction, request)
            return self._database.commit(
                transaction,
                request.mutations if transaction.pending is None else transaction.pending,
                context.is_active,
                stats=request.return_commit_stats,
                ask_again=self._database.commit_retry and session.multiplexed and transaction.pending is None,
            )

    def rollback(self, request: Any, _: grpc.ServicerContext) -> Any:
        """Rollback."""
        with self._lock:
            session = self._database.session(request.session)
            transactions = self._database.transactions
            transactions.roll_back(transactions.find(session, request.transaction_id))
            return Empty()


def _rows(table: Table, index: Index, keys: Any) -> list[Row]:
    found = [row for key in keys.keys if (row := table.rows.get(key)) is not None]
    if not keys.ranges:
        return found
    places = {index.entry(row.values): row for row in found}
    for low, high in keys.ranges:
        places |= {index.entry(row.values): row for row in index.between(low, high)}
    return [places[entry] for entry in sorted(entry for entry in places if entry is not None)]


def _check_stored(table: Table, index: Index, names: Iterable[str]) -> None:
    if index.declared is None:
        return
    stored = {*(part.column for part in index.parts), *index.declared.storing}
    for name in names:
        if name not in stored:
            raise not_found(
                f"Index '{index.name}' which indexes '{table.name}' does not have a column named {name}. Reads with an"
                " index can only query columns present in the index (see"
                " https://cloud.google.com/spanner/docs/secondary-indexes#read-with-index)."
            )


def _check_tags(request: Any) -> None:
    for tag in (request.request_options.request_tag, request.request_options.transaction_tag):
        if len(tag) > MAX_TAG:
            raise invalid(f"The tag {tag!r} is longer than {MAX_TAG} characters.")


def _check_options(request: Any) -> None:
    _check_tags(request)
    if request.partition_token or request.resume_token:
        raise unsupported("partitioned and resumed reads")


def _check_strong(options: Any) -> None:
    if options.WhichOneof("timestamp_bound") not in (None, "strong"):
        raise unsupported("reads of the past")


def _options(options: Any) -> tuple[bytes, bool]:
    """The options of a transaction that begins, checked: the one that it runs again, and whether it is optimistic."""
    mode = options.WhichOneof("mode")
    if mode is None:
        raise invalid("No value provided for required field: TransactionOptions.mode")
    if mode != "read_write":
        raise unsupported(f"transactions of several requests that are {mode}")
    wanted = options.read_write
    return wanted.multiplexed_session_previous_transaction_id, wanted.read_lock_mode == wanted.OPTIMISTIC


def _parameters(request: Any) -> Mapping[str, tuple[Type | None, Any]]:
    found: dict[str, tuple[Type | None, Any]] = {}
    for name, value in request.params.fields.items():
        if name in request.param_types:
            type_ = Type.from_proto(request.param_types[name])
        else:
            type_ = _GUESSES.get(value.WhichOneof("kind"), Type("FLOAT64"))
        try:
            found[name] = (type_, decode(type_, value))
        except ValueError as exc:
            raise precondition(f"Invalid value for bind parameter {name}: {exc}") from exc
    return found


_GUESSES = {"string_value": Type("STRING"), "bool_value": Type("BOOL")}
