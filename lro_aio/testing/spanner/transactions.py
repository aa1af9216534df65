"""Read-write transactions: locks on rows, wounds by age, precommit tokens, and what a finished one remembers.

https://cloud.google.com/spanner/docs/transactions, "Locking" and "Wound-wait": a transaction reads under shared locks
that it keeps to its end, and writes under exclusive ones when it commits. A transaction that meets the lock of a
younger one aborts it; one that meets the lock of an older one waits.

An optimistic one locks nothing when it reads; when it commits, it is aborted if what it has read was changed since its
first read: https://cloud.google.com/spanner/docs/concurrency-control.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Collection, Iterable
from typing import Any

import grpc

from lro_aio.testing.spanner.problems import SpannerError, aborted, not_found, precondition

__all__ = ["Session", "Transaction", "Transactions"]

Place = tuple[str, bytes]
"""A row by table and key, which need not exist."""

REMEMBERED = 50_000
"""How many finished transactions are remembered at least."""


class Session:
    """A session: transactions belong to the one in which they began."""

    def __init__(self, name: str, *, multiplexed: bool) -> None:
        self.name = name
        self.multiplexed = multiplexed


class Transaction:
    """A read-write transaction."""

    def __init__(self, number: int, session: Session, age: int, snapshot: int | None = None) -> None:
        self.id = b"%d" % number
        self.session = session
        self.age = age
        self.state = "active"
        self.used = time.monotonic()
        self.places: set[Place] = set()
        """What it has locked, or what it has read if it is optimistic."""
        self.snapshot = snapshot
        """For an optimistic one: the number of the last commit that its reads see."""
        self.failure: SpannerError | None = None
        self.response: Any = None
        self.token: bytes = b""
        self.seq_num = 0
        self.pending: Any = None
        """The mutations of a Commit that was answered with another precommit token."""


class Transactions:
    """All transactions of a database. Not safe for threads: callers hold ``condition``, which waits release."""

    def __init__(self, condition: threading.Condition) -> None:
        self.idle_limit = 10.0
        self.retry_delay = 0.005
        self.waiting = 0
        """How many commits are waiting for a lock."""
        self._condition = condition
        self._numbers = itertools.count(1)
        self._all: dict[bytes, Transaction] = {}
        self._holders: dict[Place, set[Transaction]] = {}
        self._owners: dict[Place, Transaction] = {}
        """Of what is locked before a commit as if it were written already."""
        self._commits = 0
        self._changed: dict[Place, int] = {}
        """The number of the last commit that changed a row."""

    def outside(self) -> Transaction:
        """A transaction of another program, older than all others: it never waits."""
        return Transaction(0, Session("", multiplexed=False), 0)

    def begin(self, session: Session, previous: bytes = b"", *, optimistic: bool = False) -> Transaction:
        """Begin a transaction. Another attempt keeps the age of the previous one."""
        number = next(self._numbers)
        before = self._all.get(previous)
        again = before is not None and before.state == "aborted" and before.session is session
        age = before.age if before is not None and again else number
        transaction = Transaction(number, session, age, self._commits if optimistic else None)
        self._all[transaction.id] = transaction
        if len(self._all) > 2 * REMEMBERED:
            self._forget_the_oldest()
        return transaction

    def find(self, session: Session, id_: bytes) -> Transaction:
        """A transaction of this session, in whatever state.

        Raises:
            SpannerError: NOT_FOUND.
        """
        found = self._all.get(id_)
        if found is None or found.session is not session:
            raise not_found(f"Transaction not found: {id_.decode(errors='replace')}")
        return found

    def active(self, session: Session, id_: bytes) -> Transaction:
        """A transaction that can still commit.

        Raises:
            SpannerError: NOT_FOUND, ABORTED, FAILED_PRECONDITION if it was rolled back, or the refusal of its commit.
        """
        found = self.find(session, id_)
        if found.failure is not None:
            raise found.failure
        if found.state == "active" and self._idle(found):
            self._end(found, "aborted")
        if found.state == "aborted":
            raise self.error()
        if found.state == "rolled back":
            raise precondition("Cannot commit a transaction after it has been rolled back.")
        found.used = time.monotonic()
        return found

    def error(self) -> SpannerError:
        """The ABORTED error of a transaction that lost a conflict."""
        return aborted("Transaction was aborted.", self.retry_delay)

    def share(self, transaction: Transaction, places: Collection[Place], alive: Callable[[], bool]) -> bool:
        """Lock for reading. False: it had to wait, and what was read may be another now.

        Raises:
            SpannerError: As ``own``.
        """
        if transaction.snapshot is not None:
            transaction.places.update(places)
            return True
        owned = {place for place in places if self._owners.get(place, transaction) is not transaction}
        if owned and not self.own(transaction, owned, alive):
            return False
        self._hold(transaction, places)
        return True

    def take(self, transaction: Transaction, places: Collection[Place], alive: Callable[[], bool]) -> bool:
        """Lock for reading as if it were for writing: nobody else may read. An optimistic one locks nothing.

        The result and the errors are those of ``share``.
        """
        if transaction.snapshot is not None:
            return self.share(transaction, places, alive)
        if not self.own(transaction, set(places), alive):
            return False
        self._hold(transaction, places)
        self._owners.update(dict.fromkeys(places, transaction))
        return True

    def _hold(self, transaction: Transaction, places: Iterable[Place]) -> None:
        for place in places:
            transaction.places.add(place)
            self._holders.setdefault(place, set()).add(transaction)

    def own(self, transaction: Transaction, places: set[Place], alive: Callable[[], bool]) -> bool:
        """Lock for writing. False: it had to wait, and the committed state may be another now.

        Raises:
            SpannerError: ABORTED, for an older transaction wanted what this one had read, or what an optimistic one
                had read was changed; CANCELLED, the client left.
        """
        self.validate(transaction)
        older = self._wound(transaction, places)
        if not older:
            return True
        self.waiting += 1
        try:
            while older:
                if not alive():
                    raise SpannerError(grpc.StatusCode.CANCELLED, "The call was cancelled while it waited for a lock.")
                self._condition.wait(0.02)
                transaction.used = time.monotonic()
                if transaction.state != "active":
                    raise self.error()
                older = self._wound(transaction, places)
        finally:
            self.waiting -= 1
        return False

    def validate(self, transaction: Transaction) -> None:
        """Compare what an optimistic transaction has read with what was committed since.

        Raises:
            SpannerError: ABORTED.
        """
        snapshot = transaction.snapshot
        if snapshot is not None and any(self._changed.get(place, 0) > snapshot for place in transaction.places):
            self._end(transaction, "aborted")
            raise self.error()

    def _wound(self, transaction: Transaction, places: set[Place]) -> bool:
        others = set[Transaction]().union(*(self._holders.get(place, ()) for place in places)) - {transaction}
        for other in others:
            if other.age > transaction.age or self._idle(other):
                self._end(other, "aborted")
        return any(other.state == "active" for other in others)

    def give_token(self, transaction: Transaction) -> tuple[bytes, int] | None:
        """The next precommit token, on a multiplexed session only."""
        if not transaction.session.multiplexed:
            return None
        transaction.seq_num += 1
        transaction.token = b"%s/%d" % (transaction.id, transaction.seq_num)
        return transaction.token, transaction.seq_num

    def check_token(self, transaction: Transaction, request: Any) -> None:
        """Compare the token of a Commit with the last one given.

        Raises:
            SpannerError: FAILED_PRECONDITION: missing or stale.
        """
        if not transaction.session.multiplexed:
            return
        if not request.HasField("precommit_token"):
            raise precondition("The Commit request is missing the precommit token of the transaction.")
        if request.precommit_token.precommit_token != transaction.token:
            raise precondition("The precommit token is not the one with the highest sequence number.")

    def changed(self, places: Iterable[Place]) -> None:
        """Note a commit that has changed these rows."""
        self._commits += 1
        for place in places:
            self._changed[place] = self._commits

    def commit(self, transaction: Transaction, response: Any) -> None:
        """Remember the answer and release the locks."""
        transaction.response = response
        self._end(transaction, "committed")

    def committed(self, id_: bytes) -> bool:
        """Whether a transaction is known to be committed."""
        found = self._all.get(id_)
        return found is not None and found.state == "committed"

    def fail(self, transaction: Transaction, error: SpannerError) -> None:
        """Note that its commit was refused: it answers with that from now on, and holds no lock."""
        transaction.failure = error
        self._end(transaction, "failed")

    def roll_back(self, transaction: Transaction) -> None:
        """End it without changing anything.

        Raises:
            SpannerError: FAILED_PRECONDITION: it was committed.
        """
        if transaction.state == "committed":
            raise precondition("Cannot rollback a transaction after it has been committed.")
        if transaction.state == "active":
            self._end(transaction, "rolled back")

    def abort(self, session: Session, id_: bytes) -> None:
        """Abort it as a conflict would, if it is active."""
        transaction = self._all.get(id_)
        if transaction is not None and transaction.session is session and transaction.state == "active":
            self._end(transaction, "aborted")

    def forget(self, session: Session) -> None:
        """Drop the transactions of a lost session."""
        for id_, transaction in list(self._all.items()):
            if transaction.session is session:
                self.abort(session, id_)
                del self._all[id_]

    def _forget_the_oldest(self) -> None:
        for id_ in list(self._all)[:REMEMBERED]:
            if self._all[id_].state != "active":
                del self._all[id_]

    def _idle(self, transaction: Transaction) -> bool:
        return time.monotonic() - transaction.used >= self.idle_limit

    def _end(self, transaction: Transaction, state: str) -> None:
        transaction.state = state
        transaction.pending = None
        for place in transaction.places if transaction.snapshot is None else ():
            holders = self._holders[place]
            holders.discard(transaction)
            if not holders:
                del self._holders[place]
            if self._owners.get(place) is transaction:
                del self._owners[place]
        transaction.places.clear()
        self._condition.notify_all()
