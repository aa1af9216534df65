"""Google's generated client, with one multiplexed session, and a timeout and bounded retries for every call.

Why not ``google.cloud.spanner.Database``: whatever timeout it is given, it retries a stream that is UNAVAILABLE for
ever and without a pause, and a commit for up to an hour. Its constructor and ``close`` may block for minutes.
"""

from __future__ import annotations

import contextlib
import enum
import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import google.auth
import google.auth.exceptions
import grpc
from google.api_core.exceptions import GoogleAPICallError
from google.cloud.spanner_v1 import types
from google.cloud.spanner_v1.services.spanner import SpannerClient
from google.cloud.spanner_v1.services.spanner.transports import SpannerGrpcTransport
from google.protobuf import struct_pb2

from lro_aio.core.errors import StoreSchemaError, StoreUnavailableError
from lro_aio.stores.spanner.budgets import FIRST_PAUSE, LEAST_ATTEMPT, ROLLBACK_TIMEOUT, Budget
from lro_aio.stores.spanner.emulator import HINT, is_emulators
from lro_aio.stores.spanner.errors import (
    AbortedError,
    Kind,
    SessionLostError,
    SlowError,
    kind_of,
    refused_at_open,
    retry_delay,
    unavailable,
)
from lro_aio.stores.spanner.headers import TO_LEADER, prefix
from lro_aio.stores.spanner.location import Location
from lro_aio.stores.spanner.queries import Query
from lro_aio.stores.spanner.sessions import Sessions
from lro_aio.stores.spanner.streams import whole
from lro_aio.stores.spanner.values import values_of

__all__ = ["HIGH", "LOW", "Connection", "Rows", "Transaction"]

T = TypeVar("T")
Rows = list[struct_pb2.ListValue]
Key = str | tuple[str, ...]
"""Of a row: its only part, or all of them."""

HIGH, LOW = types.RequestOptions.Priority.PRIORITY_HIGH, types.RequestOptions.Priority.PRIORITY_LOW
_EXCLUSIVE = "@{LOCK_SCANNED_RANGES=exclusive} "
"""https://cloud.google.com/spanner/docs/reference/standard-sql/query-syntax#statement-hints"""
_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_time_ms", 120_000),  # as Google's own transports: finds dead connections
    # Reconnect within about a second after an outage; gRPC's default pause grows to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
]


class Connection:
    """A channel to one database, with a multiplexed session. Safe for any number of threads.

    Args:
        location: The database.
        credentials: ``google.auth`` credentials; None finds the application's default ones at ``open``.
    """

    def __init__(self, location: Location, credentials: Any = None) -> None:
        self.location = location
        self.host = location.host or os.environ.get("SPANNER_EMULATOR_HOST") or None
        """HOST:PORT of an emulator or a fake; None: the real service."""
        self.clock_offset = 0.0
        """Seconds by which Spanner's clock was ahead of this machine's at the last commit or timed read."""
        self.emulator = False
        """Whether this has turned out to be Google's emulator, which asks for more than the service."""
        self._headers = [prefix(location.database_path)]
        self._to_leader = [*self._headers, TO_LEADER]
        self._credentials = credentials
        self._closing = threading.Event()
        self._abandoned: set[Any] = set()
        self._sessions = Sessions(self._make_session)
        self._channel, self._client = self._connect()

    def close(self) -> None:
        """Cancel the calls under way and close the channel."""
        self._closing.set()
        self._channel.close()

    @property
    def channel(self) -> grpc.Channel:
        """For other APIs of the same database, such as the admin API."""
        return self._channel

    def open(self) -> None:
        """Create the session.

        Raises:
            StoreSchemaError: The database does not exist, or there is no permission to use it.
            StoreUnavailableError: Spanner does not answer.
        """
        budget = self.budget()
        last: GoogleAPICallError | None = None
        while True:
            try:
                self._sessions.shared(budget.attempt(last))
            except GoogleAPICallError as exc:
                if kind_of(exc) is not Kind.TRANSIENT:
                    raise refused_at_open(self.location, exc) from exc
                last = exc
                budget.pause(retry_delay(exc), exc)
            else:
                return

    def budget(self, most: float = math.inf) -> Budget:
        """A new budget, for one call of the store, of so many seconds at most."""
        return Budget(self.location, self._closing, most)

    def read(
        self,
        columns: Sequence[str],
        keys: Sequence[Key],
        *,
        budget: Budget,
        tag: str,
        priority: Any = HIGH,
        table: str = "",
    ) -> Rows:
        """Read rows by key, strongly consistent; missing ones are left out. One call.

        Args:
            columns: The columns to read.
            keys: The keys.
            budget: The budget of the store's call.
            tag: For Spanner's statistics.
            priority: ``HIGH`` or ``LOW``.
            table: "" is that of the operations.

        Raises:
            StoreUnavailableError: No answer within the budget.
            google.api_core.exceptions.GoogleAPICallError: Spanner refuses it, for example because of its size (10 MB).
        """
        request = self._read_request(columns, keys, tag, priority, table=table)
        result = self._call_read(request, budget, rows=len(keys))
        return list(result.rows)

    def query(
        self,
        query: Query,
        *,
        budget: Budget,
        tag: str,
        priority: Any = HIGH,
        timed: bool = False,
        streamed: bool = False,
    ) -> Rows:
        """Run a statement, strongly consistent. One call.

        Args:
            query: The statement.
            budget: The budget of the store's call.
            tag: For Spanner's statistics.
            priority: ``HIGH`` or ``LOW``.
            timed: Measure ``clock_offset`` by it.
            streamed: Accept an answer of any size.

        Raises:
            StoreUnavailableError: No answer within the budget.
            google.api_core.exceptions.GoogleAPICallError: Spanner refuses it.
        """
        known = self.emulator
        try:
            return self._query(query, budget, tag, priority, timed=timed, streamed=streamed)
        except GoogleAPICallError as exc:
            if not self.learns(exc, known=known):
                raise
        return self._query(query, budget, tag, priority, timed=timed, streamed=streamed)

    def _query(self, query: Query, budget: Budget, tag: str, priority: Any, *, timed: bool, streamed: bool) -> Rows:
        request = self._statement(query, tag, priority)
        pb = types.ExecuteSqlRequest.pb(request)
        if timed:
            pb.transaction.single_use.read_only.strong = True
            pb.transaction.single_use.read_only.return_read_timestamp = True
        sent = time.time()
        method = whole(self._client.execute_streaming_sql) if streamed else self._client.execute_sql
        result: Any = self._call(method, request, budget)
        if timed:
            self._note_clock(result.metadata.transaction.read_timestamp, sent)
        return list(result.rows)

    def _statement(self, query: Query, tag: str, priority: Any) -> Any:
        request = types.ExecuteSqlRequest(
            sql=HINT + query.sql if self.emulator else query.sql,
            param_types=query.types,
            request_options={"priority": priority, "request_tag": tag},
        )
        pb = types.ExecuteSqlRequest.pb(request)
        for name, value in query.params.items():
            pb.params.fields[name].CopyFrom(value)
        return request

    def begin(
        self,
        columns: Sequence[str],
        names: Sequence[str],
        *,
        locks: bool = True,
        previous: bytes,
        budget: Budget,
        tag: str,
        table: str = "",
    ) -> Transaction:
        """Begin a read-write transaction by reading these rows. One call.

        Args:
            columns: The columns to read.
            names: The keys.
            locks: Lock the rows until the transaction ends, or for 10 s if nobody is left to end it. False
                (OPTIMISTIC): the commit is aborted if one of them has changed since.
            previous: The id of the previous attempt, whose age this one keeps; empty for the first attempt.
            budget: The budget of the store's call.
            tag: For Spanner's statistics.
            table: "" is that of the operations.

        Raises:
            AbortedError: Run the transaction again.
            StoreUnavailableError: No answer within the budget.
            google.api_core.exceptions.GoogleAPICallError: Spanner refuses it.
        """
        request = self._read_request(columns, names, tag, HIGH, table=table)
        pb = types.ReadRequest.pb(request)
        pb.request_options.transaction_tag = tag
        mode = types.TransactionOptions.ReadWrite.ReadLockMode
        pb.transaction.begin.isolation_level = types.TransactionOptions.IsolationLevel.SERIALIZABLE
        pb.transaction.begin.read_write.read_lock_mode = mode.PESSIMISTIC if locks else mode.OPTIMISTIC
        if previous:
            pb.transaction.begin.read_write.multiplexed_session_previous_transaction_id = previous
        result = self._call_read(request, budget, rows=len(names), session=self._sessions.take)
        begun = result.metadata.transaction.id
        found = Transaction(pb.session, begun, list(result.rows), result.precommit_token, tag, locks=locks)
        found.locks = locks or not self._sessions.multiplexed  # the emulator always locks
        return found

    def ask(self, transaction: Transaction, query: Query, *, budget: Budget) -> Rows:
        """Run a statement in a transaction that has begun. One call, sent again if its answer is lost: it only reads.

        Where the transaction locks, what is read is locked as what is written: others wait, instead of reading what
        they will be aborted for.

        Args:
            transaction: The transaction.
            query: The statement.
            budget: The budget of the store's call.

        Raises:
            AbortedError: Run the transaction again.
            SessionLostError: Run the transaction again.
            StoreUnavailableError: No answer within the budget.
            google.api_core.exceptions.GoogleAPICallError: Spanner refuses it.
        """
        request = self._statement(query, transaction.tag, HIGH)
        if transaction.exclusive and not self.emulator:  # which has one transaction at a time
            request.sql = _EXCLUSIVE + query.sql
        request.session = transaction.session
        pb = types.ExecuteSqlRequest.pb(request)
        pb.request_options.transaction_tag = transaction.tag
        pb.transaction.id = transaction.id
        last: GoogleAPICallError | None = None
        while True:
            timeout = budget.attempt(last)
            try:
                result: Any = types.ResultSet.pb(
                    self._client.execute_sql(request=request, retry=None, timeout=timeout, metadata=self._to_leader)
                )
            except GoogleAPICallError as exc:
                kind = kind_of(exc)
                if kind is Kind.ABORTED:
                    raise AbortedError(retry_delay(exc)) from exc
                if kind is Kind.SESSION:
                    raise SessionLostError from exc
                last = self._again(exc, budget)
            except ValueError as exc:
                raise StoreUnavailableError(f"{self.location.url} was closed while the call was under way") from exc
            else:
                if result.precommit_token.seq_num > transaction.token.seq_num:
                    transaction.token = result.precommit_token
                return list(result.rows)

    def commit(
        self, transaction: Transaction, mutations: Sequence[Any], *, budget: Budget, divisible: bool = False
    ) -> None:
        """Commit the transaction. One call; sent again if its answer is lost, which is safe.

        Args:
            transaction: The transaction.
            mutations: What it changes.
            budget: The budget of the store's call.
            divisible: Roll it back if it takes half of the remaining time: the caller can divide it.

        Raises:
            AbortedError: Nothing is stored; run the transaction again.
            SessionLostError: Nothing is stored; run the transaction again.
            SlowError: It was rolled back; nothing is stored.
            StoreUnavailableError: No answer within the budget: it may be stored.
            google.api_core.exceptions.GoogleAPICallError: Spanner refuses it; nothing is stored.
        """
        request = _commit_request(transaction, mutations)
        pb = types.CommitRequest.pb(request)
        unknown: GoogleAPICallError | None = None
        taken_back = False
        sent = time.time()  # of the first attempt: if its answer is lost, the timestamp is from then
        while True:
            timeout = budget.attempt(unknown, share=0.5 if divisible else 1.0)
            until = budget.left - timeout
            try:
                response = self._client.commit(request=request, retry=None, timeout=timeout, metadata=self._to_leader)
            except GoogleAPICallError as exc:
                _check(exc, unknown=unknown is not None, taken_back=taken_back)
                kind = kind_of(exc)
                if kind is Kind.REFUSED:
                    # Perhaps the lost answer had a newer precommit token. A lasting reason will come again.
                    fate = self.rollback(transaction, budget.for_rollback)
                    if fate is Fate.COMMITTED:
                        return
                    raise (AbortedError(None) if fate is Fate.ROLLED_BACK else unavailable(self.location, exc)) from exc
                unknown = exc
                if kind is not Kind.TRANSIENT:  # the session that knows is gone, or may not be used any more
                    raise unavailable(self.location, exc) from exc
                if divisible and not taken_back and budget.left < until + timeout / 10:
                    fate = self.rollback(transaction, min(ROLLBACK_TIMEOUT, max(0.0, budget.left) / 2))
                    if fate is Fate.COMMITTED:
                        return
                    taken_back = fate is Fate.ROLLED_BACK
                else:
                    budget.pause(retry_delay(exc), exc)
                continue
            except ValueError as exc:
                raise StoreUnavailableError(f"{self.location.url} was closed while the call was under way") from exc
            answer = types.CommitResponse.pb(response)
            if not answer.precommit_token.precommit_token:
                self._note_clock(answer.commit_timestamp, sent)
                return
            # The server wants the commit again, with this token and without the mutations.
            del pb.mutations[:]
            pb.precommit_token.CopyFrom(answer.precommit_token)

    def learns(self, exc: GoogleAPICallError, *, known: bool) -> bool:
        """Whether a refusal shows that this is the emulator: the call may succeed in the form that the emulator wants.

        Args:
            exc: The refusal.
            known: The value of ``emulator`` when the call was sent. Another thread may have set it since.
        """
        if known or not is_emulators(exc):
            return False
        self.emulator = True
        return True

    def rollback(self, transaction: Transaction, timeout: float) -> Fate:
        """Roll the transaction back. Best effort: the server releases the locks by itself after a while.

        Sent again if its answer is lost, which is safe, for ``timeout`` seconds at most.
        """
        request = types.RollbackRequest(session=transaction.session, transaction_id=transaction.id)
        end = time.monotonic() + timeout
        pause = FIRST_PAUSE
        while True:
            left = end - time.monotonic()
            try:
                self._client.rollback(
                    request=request,
                    retry=None,
                    timeout=min(max(LEAST_ATTEMPT, left / 2), timeout),
                    metadata=self._to_leader,
                )
            except GoogleAPICallError as exc:
                if kind_of(exc) is Kind.REFUSED and "after it has been committed" in str(exc.message):
                    return Fate.COMMITTED
                lost = kind_of(exc) is Kind.TRANSIENT and time.monotonic() + pause < end
                if not lost or self._closing.wait(pause):
                    return Fate.UNKNOWN
                pause *= 2
            except ValueError:  # the channel is closed
                return Fate.UNKNOWN
            else:
                return Fate.ROLLED_BACK

    def end(self, transaction: Transaction, because: BaseException | None = None) -> None:
        """Note that the transaction is over."""
        if isinstance(because, StoreUnavailableError):
            self._abandon(transaction)
        if isinstance(because, SessionLostError):
            self._sessions.forget(transaction.session)
        else:
            self._sessions.give_back(transaction.session)

    def _abandon(self, transaction: Transaction) -> None:
        """Roll back without waiting for the answer: left-over locks would hold up the next attempt."""
        request = types.RollbackRequest(session=transaction.session, transaction_id=transaction.id)
        call: Any = self._client.transport.rollback
        with contextlib.suppress(ValueError):  # the channel is closed
            future = call.future(
                request,
                timeout=ROLLBACK_TIMEOUT,
                metadata=[*self._to_leader, ("x-goog-request-params", f"session={transaction.session}")],
            )
            self._abandoned.add(future)  # gRPC cancels a call that is not referenced any more
            future.add_done_callback(self._abandoned.discard)

    def _read_request(
        self, columns: Sequence[str], keys: Sequence[Key], tag: str, priority: Any, *, table: str = ""
    ) -> Any:
        request = types.ReadRequest(table=table or self.location.table, columns=columns)
        pb = types.ReadRequest.pb(request)
        pb.key_set.keys.extend(values_of(key) if isinstance(key, str) else values_of(*key) for key in keys)
        pb.request_options.priority = priority
        pb.request_options.request_tag = tag
        return request

    def _call_read(self, request: Any, budget: Budget, *, rows: int, **options: Any) -> Any:
        try:
            return self._call(self._client.read, request, budget, **options)
        except GoogleAPICallError as exc:
            if rows > 1 or exc.grpc_status_code is not grpc.StatusCode.FAILED_PRECONDITION:
                raise
        # The code for an answer of more than 10 MB. A single row has that size only if another program wrote it.
        return self._call(whole(self._client.streaming_read), request, budget, **options)

    def _call(
        self, method: Callable[..., Any], request: Any, budget: Budget, *, session: Callable[[float], str] | None = None
    ) -> Any:
        """Send a request that may be repeated; returns the raw message.

        ``session`` is given for the beginning of a transaction: then ABORTED raises AbortedError. Otherwise the call is
        repeated.
        """
        last: GoogleAPICallError | None = None
        while True:
            timeout = budget.attempt(last)
            request.session = ""
            try:
                request.session = (session or self._sessions.shared)(timeout)
                response = method(
                    request=request,
                    retry=None,
                    timeout=min(timeout, max(LEAST_ATTEMPT, budget.left)),
                    metadata=self._headers if session is None else self._to_leader,
                )
            except GoogleAPICallError as exc:
                self._over(request.session, exc, owned=session is not None)
                if kind_of(exc) is Kind.ABORTED and session is not None:
                    raise AbortedError(retry_delay(exc)) from exc
                last = self._again(exc, budget)
            except ValueError as exc:  # what gRPC raises if the channel was closed in the meantime
                raise StoreUnavailableError(f"{self.location.url} was closed while the call was under way") from exc
            else:
                return type(response).pb(response)

    def _again(self, exc: GoogleAPICallError, budget: Budget) -> GoogleAPICallError:
        """Wait for the next attempt, where another may end better; gives why it is made."""
        kind = kind_of(exc)
        if kind is Kind.REFUSED:
            raise exc
        if kind is Kind.SETUP:
            raise unavailable(self.location, exc) from exc
        budget.pause(retry_delay(exc), exc)
        return exc

    def _over(self, session: str, exc: GoogleAPICallError, *, owned: bool) -> None:
        if kind_of(exc) is Kind.SESSION:
            self._sessions.forget(session)
        elif owned and session:
            self._sessions.give_back(session)

    def _make_session(self, timeout: float) -> tuple[str, bool]:
        role = self.location.database_role or ""
        made = self._client.create_session(
            request=types.CreateSessionRequest(
                database=self.location.database_path, session=types.Session(multiplexed=True, creator_role=role)
            ),
            retry=None,
            timeout=timeout,
            metadata=self._to_leader,
        )
        return made.name, made.multiplexed

    def _note_clock(self, stamp: Any, sent: float) -> None:
        """A timestamp between sending and receiving is no difference; one outside shows how far the clocks differ."""
        received = time.time()
        there = stamp.seconds + stamp.nanos / 1e9
        self.clock_offset = there - min(max(there, sent), received)

    def _connect(self) -> tuple[grpc.Channel, SpannerClient]:
        if self.host is not None:
            channel = grpc.insecure_channel(self.host, options=_OPTIONS)
        else:
            endpoint = self.location.endpoint or SpannerClient.DEFAULT_ENDPOINT
            channel = SpannerGrpcTransport.create_channel(
                endpoint if ":" in endpoint else f"{endpoint}:443", credentials=self._found(), options=_OPTIONS
            )
        return channel, SpannerClient(transport=SpannerGrpcTransport(channel=channel))

    def _found(self) -> Any:
        if self._credentials is not None:
            return self._credentials
        try:
            credentials, _ = google.auth.default(scopes=SpannerGrpcTransport.AUTH_SCOPES)
        except google.auth.exceptions.GoogleAuthError as exc:
            raise StoreSchemaError(
                f"no credentials for {self.location.database_path}: {exc}; run `gcloud auth application-default login`,"
                " let the service run as a service account, or name an emulator with host=HOST:PORT"
            ) from exc
        return credentials


def _check(exc: GoogleAPICallError, *, unknown: bool, taken_back: bool) -> None:
    """Raise the outcome of a commit that failed, if it is certain.

    Args:
        exc: The error.
        unknown: Whether the answer to an earlier attempt was lost.
        taken_back: Whether the transaction was rolled back since. If it had been committed, the server would say so.
    """
    kind = kind_of(exc)
    gone = exc.grpc_status_code is grpc.StatusCode.NOT_FOUND
    if taken_back and (kind is Kind.REFUSED or (kind is Kind.ABORTED and not gone)):
        raise SlowError from exc
    if kind is Kind.ABORTED and not (gone and unknown):
        raise AbortedError(retry_delay(exc)) from exc
    if kind is Kind.SESSION and not unknown:
        raise SessionLostError from exc
    if kind is Kind.REFUSED and not (unknown and exc.grpc_status_code is grpc.StatusCode.FAILED_PRECONDITION):
        raise exc


def _commit_request(transaction: Transaction, mutations: Sequence[Any]) -> types.CommitRequest:
    request = types.CommitRequest(session=transaction.session, transaction_id=transaction.id)
    pb = types.CommitRequest.pb(request)
    pb.mutations.extend(mutations)
    pb.request_options.priority = HIGH
    pb.request_options.transaction_tag = transaction.tag
    if transaction.token.precommit_token:
        pb.precommit_token.CopyFrom(transaction.token)
    return request


class Fate(enum.Enum):
    """What a rollback learned about its transaction."""

    ROLLED_BACK = "nothing is stored"
    COMMITTED = "it is stored: the rollback came too late"
    UNKNOWN = "there was no answer"


class Transaction:
    """A read-write transaction that has begun, and the rows it has read."""

    __slots__ = ("exclusive", "id", "locks", "rows", "session", "tag", "token")

    def __init__(self, session: str, id_: bytes, rows: Rows, token: Any, tag: str, *, locks: bool) -> None:
        self.session = session
        self.id = id_
        self.rows = rows
        self.token = token
        self.tag = tag
        self.locks = self.exclusive = locks
