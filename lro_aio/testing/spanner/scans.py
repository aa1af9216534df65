"""How a query of the fake reads a table: the conditions that an index can answer, and the order in which it does."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from google.protobuf.descriptor_pool import DescriptorPool

from lro_aio.testing.spanner.binding import Compiled, Frame, Test
from lro_aio.testing.spanner.values import Type

__all__ = ["KeyRange", "Scan", "Source"]


class KeyRange(NamedTuple):
    """A range of values of one column. NULL is in no range. At least one of ``low`` and ``high`` is given."""

    column: str
    low: Any = None
    low_open: bool = False
    high: Any = None
    high_open: bool = False


class Source(Protocol):
    """Where a query reads its rows: one snapshot of a database."""

    @property
    def messages(self) -> DescriptorPool | None:
        """The proto bundle."""

    def columns(self, table: str) -> Mapping[str, Type]:
        """The columns of a table, in their order; ``INFORMATION_SCHEMA.COLUMNS`` and the like are tables too.

        Raises:
            KeyError: No such table.
        """

    def order(self, table: str, index: str | None) -> Sequence[tuple[str, bool]]:
        """The order in which ``scan`` yields: (column, descending), for those of the index, then of the primary key.

        Empty if there is no promise (``INFORMATION_SCHEMA``). NULL comes first, and last where descending.

        Raises:
            KeyError: The table has no such index.
        """

    def left_out(self, table: str, index: str) -> Collection[str]:
        """The columns of a NULL_FILTERED index where a NULL keeps a row out of it. Empty for any other index."""

    def scan(
        self,
        table: str,
        index: str | None,
        equal: Mapping[str, Any],
        span: KeyRange | None,
        needs: Collection[str],
    ) -> Iterator[Mapping[str, Any]]:
        """The rows with these values and in this range, whole (by column name), in ``order(table, index)``.

        ``equal`` names the first columns of that order (none of its values is None), ``span`` the column after them.
        Without an index (None): by primary key. The rows are not written to. A query that has enough stops asking. It
        reads the columns ``needs``: what an index has not is looked up in the table.
        """


@dataclass(frozen=True, slots=True)
class Scan:
    """The scan of one table. Its bounds are known once the sources before it have a current row."""

    source: Source
    table: str
    index: str | None
    slot: int
    equal: tuple[tuple[str, Compiled], ...]
    """A value for each of the first columns of the order."""
    among: tuple[str, Compiled, bool] | None
    """A collection of values for one of them instead, and whether that column descends."""
    bounds: tuple[Test, ...]
    """Comparisons of the column after them."""
    order: tuple[tuple[str, bool], ...]
    """The order of its rows, without the columns that are equal in all of them."""
    needs: Collection[str]
    """The columns that the query reads; complete once it is compiled."""

    @classmethod
    def plan(
        cls, source: Source, table: str, index: str | None, slot: int, tests: Sequence[Test], needs: Collection[str]
    ) -> Scan:
        """Choose among the conditions of the query, as ``tests``, those that the index can answer.

        Raises:
            ValueError: A null-filtered index, though the query does not say that it wants no NULL.
        """
        order = tuple(source.order(table, index))
        _check_null_filtered(source, table, index, slot, tests)
        usable = [test for test in tests if _usable(test, slot)]
        equal: list[tuple[str, Compiled]] = []
        among: tuple[str, Compiled, bool] | None = None
        bounds: tuple[Test, ...] = ()
        for column, descending in order:
            mine = [test for test in usable if test.column.column == (slot, column) and test.value is not None]
            exact = next((test.value for test in mine if test.operator == "="), None)
            one_of = next((test.value for test in mine if test.operator == "IN"), None)
            if exact is not None:
                equal.append((column, exact))
            elif one_of is not None and among is None:
                among = (column, one_of, descending)
            else:
                bounds = tuple(test for test in mine if test.operator != "IN")
                break
        fixed = {column for column, _ in equal}
        rest = tuple(part for part in order if part[0] not in fixed)
        return cls(source, table, index, slot, tuple(equal), among, bounds, rest, needs)

    def in_order(self, wanted: Sequence[tuple[Compiled, bool]]) -> bool:
        """Whether its rows come in the order that ORDER BY asks for."""
        fixed = {(self.slot, column) for column, _ in self.equal}
        keys = [(item.column, descending) for item, descending in wanted if item.column not in fixed]
        have = [((self.slot, column), descending) for column, descending in self.order]
        return keys == have[: len(keys)]

    def rows(self, frame: Frame) -> Iterator[Mapping[str, Any]]:
        """The rows to read; the caller still checks all conditions."""
        equal = {column: value.run(frame) for column, value in self.equal}
        span = self._span(frame)
        if None in equal.values() or (self.bounds and span is None):
            return  # A comparison with NULL is never TRUE.
        if self.among is None:
            yield from self.source.scan(self.table, self.index, equal, span, self.needs)
            return
        column, values, descending = self.among
        found: Collection[Any] = values.run(frame)
        for value in sorted(found, reverse=descending):
            yield from self.source.scan(self.table, self.index, {**equal, column: value}, span, self.needs)

    def _span(self, frame: Frame) -> KeyRange | None:
        """The bounds as one range; None if there are none, or one of them is NULL."""
        low: tuple[Any, bool] | None = None
        high: tuple[Any, bool] | None = None
        column = ""
        for test in self.bounds:
            assert test.column.column is not None
            assert test.value is not None
            column = test.column.column[1]
            value, opened = test.value.run(frame), test.operator in ("<", ">")
            if value is None:
                return None
            if test.operator in (">", ">="):
                low = (value, opened) if low is None else max(low, (value, opened))
            elif high is None or (value, not opened) < (high[0], not high[1]):
                high = (value, opened)
        if low is None and high is None:
            return None
        return KeyRange(column, *(low or (None, False)), *(high or (None, False)))


def _usable(test: Test, slot: int) -> bool:
    """Whether the value is known before the table's row: earlier sources have lower slots."""
    value = test.value
    return value is not None and test.column.column is not None and all(earlier < slot for earlier in value.depends)


def _check_null_filtered(source: Source, table: str, index: str | None, slot: int, tests: Sequence[Test]) -> None:
    if index is None:
        return
    refused = {test.column.column for test in tests}
    for column in source.left_out(table, index):
        if (slot, column) not in refused:
            raise ValueError(
                f"the null filtered index {index} may filter out rows that the query wants: its WHERE clause must say"
                f" {column} IS NOT NULL, or compare it"
            )
