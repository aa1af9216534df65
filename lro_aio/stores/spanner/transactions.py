"""A batch of changes as one read-write transaction: read the rows, run the changes, commit what differs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc
from google.api_core.exceptions import GoogleAPICallError
from google.cloud.spanner_v1 import types
from google.protobuf import struct_pb2

from lro_aio.core.change import Change, Outcome, run
from lro_aio.core.errors import StoreUnavailableError
from lro_aio.core.record import Record
from lro_aio.stores.spanner import rows
from lro_aio.stores.spanner.connection import Budget, Connection, Rows, Transaction
from lro_aio.stores.spanner.errors import AbortedError, SessionLostError
from lro_aio.stores.spanner.values import values_of

__all__ = ["DivideError", "Writer", "deletions"]

T = TypeVar("T")

MAX_ABORTS = 5
"""Attempts of one batch that are aborted before it is split, so that one hot row does not hold up the others."""

_Mutation: Any = types.Mutation.pb()


class DivideError(Exception):
    """The batch is aborted again and again, or its rows are more than one read returns: try it in parts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """Applies changes to one table.

    Args:
        connection: To its database.
        table: Its name.
        generated_key: Whether ``key`` and ``Outcome`` are generated from a PROTO column ``Operation``.
    """

    connection: Connection
    table: str
    generated_key: bool

    def apply(self, changes: Sequence[Change], budget: Budget) -> list[Outcome]:
        """Apply changes, in one transaction wherever Spanner lets them be.

        Raises:
            StoreUnavailableError: Nothing is known of any of them.
            google.api_core.exceptions.GoogleAPICallError: Refused for good; nothing was committed.
        """
        names = list(dict.fromkeys(change.name for change in changes))

        def decide(found: Rows) -> tuple[list[Any], list[Outcome]]:
            before = {record.name: record for record in map(rows.decode, found)}
            after: dict[str, Record | None] = dict(before)
            outcomes = run(changes, after)
            return self._mutations(before, after), outcomes

        try:
            return self.transact(rows.COLUMNS, names, decide, budget, tag="lro-apply", divisible=True)
        except DivideError:
            half = set(names[: len(names) // 2])
        return self._in_parts(changes, half, budget)

    def transact(
        self,
        columns: Sequence[str],
        names: Sequence[str],
        decide: Callable[[Rows], tuple[list[Any], T]],
        budget: Budget,
        *,
        tag: str,
        divisible: bool = False,
    ) -> T:
        """Read rows, decide, commit; again where the server aborts it. Two calls.

        Args:
            columns: To read.
            names: Keys of the rows, which stay locked meanwhile.
            decide: From the rows that exist to mutations and a result. May be called several times.
            budget: Of the store's call.
            tag: For Spanner's statistics.
            divisible: Give up early where fewer rows would have a better chance.

        Raises:
            DivideError: So it is.
            StoreUnavailableError: Nothing is known of it.
            google.api_core.exceptions.GoogleAPICallError: Refused for good; nothing was committed.
        """
        previous = b""
        aborts = 0
        while True:
            try:
                transaction = self.connection.begin(columns, names, previous=previous, budget=budget, tag=tag)
                previous = transaction.id
                return self._finish(transaction, decide, budget)
            except AbortedError as exc:
                aborts += 1
                if divisible and aborts >= MAX_ABORTS and len(names) > 1:
                    raise DivideError from exc
                budget.pause(exc.delay, exc)
            except SessionLostError:
                previous = b""  # the next attempt is in another session
            except GoogleAPICallError as exc:
                # The code for what no answer can hold: more than 10 MB.
                if divisible and exc.grpc_status_code is grpc.StatusCode.FAILED_PRECONDITION and len(names) > 1:
                    raise DivideError from exc
                raise

    def _finish(self, transaction: Transaction, decide: Callable[[Rows], tuple[list[Any], T]], budget: Budget) -> T:
        try:
            mutations, result = decide(transaction.rows)
            if mutations:
                self.connection.commit(transaction, mutations, budget=budget)
            else:
                self.connection.rollback(transaction)
        except (AbortedError, SessionLostError, StoreUnavailableError) as exc:
            self.connection.end(transaction, exc)  # nothing is left to roll back, or nobody to tell
            raise
        except BaseException:
            self.connection.rollback(transaction)  # its locks would be in the way of everybody's next attempt
            self.connection.end(transaction)
            raise
        self.connection.end(transaction)
        return result

    def _in_parts(self, changes: Sequence[Change], half: set[str], budget: Budget) -> list[Outcome]:
        """Two batches instead of one. From here on a part may be committed, so failures are outcomes."""
        outcomes: list[Outcome] = [None] * len(changes)
        for inside in (True, False):
            places = [i for i, change in enumerate(changes) if (change.name in half) is inside]
            part = [changes[i] for i in places]
            for i, outcome in zip(places, self._settled(part, budget), strict=True):
                outcomes[i] = outcome
        return outcomes

    def _settled(self, changes: Sequence[Change], budget: Budget) -> list[Outcome]:
        try:
            return self.apply(changes, budget)
        except StoreUnavailableError as exc:
            return [exc] * len(changes)
        except Exception as exc:  # noqa: BLE001 - refused for good: the offender is looked for here
            names = list(dict.fromkeys(change.name for change in changes))
            if len(names) == 1:
                return [exc] * len(changes)
            return self._in_parts(changes, set(names[: len(names) // 2]), budget)

    def _mutations(self, before: dict[str, Record], after: dict[str, Record | None]) -> list[Any]:
        batch = _Batch(self.table)
        for name, new in after.items():
            old = before.get(name)
            if new is old:
                continue
            if old is not None and (new is None or not rows.same_row(old, new)):
                batch.deleted.append(name)
                old = None
            if new is None:
                continue
            if old is None:
                columns = rows.insert_columns(generated_key=self.generated_key)
                batch.add("insert", columns, rows.values(new, columns))
            else:
                columns = rows.changed_columns(old, new, generated_key=self.generated_key)
                batch.add("update", columns, rows.values(new, columns))
        return batch.mutations()


@dataclass(slots=True)
class _Batch:
    """Mutations: rows that write the same columns share one."""

    table: str
    deleted: list[str] = field(default_factory=list)
    writes: dict[tuple[str, tuple[str, ...]], list[struct_pb2.ListValue]] = field(default_factory=dict)

    def add(self, kind: str, columns: tuple[str, ...], row: struct_pb2.ListValue) -> None:
        self.writes.setdefault((kind, columns), []).append(row)

    def mutations(self) -> list[Any]:
        found = deletions(self.table, self.deleted)  # first: a row may be made again under its name
        for (kind, columns), values in self.writes.items():
            mutation = _Mutation()
            write = getattr(mutation, kind)
            write.table = self.table
            write.columns.extend(columns)
            write.values.extend(values)
            found.append(mutation)
        return found


def deletions(table: str, names: Sequence[str]) -> list[Any]:
    """The mutations that remove these rows."""
    if not names:
        return []
    mutation = _Mutation()
    mutation.delete.table = table
    mutation.delete.key_set.keys.extend(values_of(name) for name in names)
    return [mutation]
