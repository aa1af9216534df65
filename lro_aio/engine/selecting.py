"""The operations that a filter selects, page by page: for those who act on them."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import NamedTuple

from lro_aio.core import names
from lro_aio.core.bulk import RERUN, VERBS, BulkPreview
from lro_aio.core.bulk_rules import made_meanwhile, spared, wanted
from lro_aio.core.counts import Count
from lro_aio.core.policies import Limits
from lro_aio.core.record import Record
from lro_aio.engine.listing import TERMS, query_of, scan
from lro_aio.engine.readers import Work
from lro_aio.engine.rows import Rows

__all__ = ["Selected", "Selection"]

MOST = 10_000
"""Operations that are counted."""
SCANS = 3
"""How often ``Limits.scan_rows`` a count looks at, where the filter has conditions that no index serves: a caller who
only asks must not keep the others waiting."""
SAMPLE = 10
"""Names that a preview has."""


class Selected(NamedTuple):
    """A part of a selection."""

    records: list[Record]
    after: tuple[float, str] | None
    """Where the next part begins."""
    more: bool
    """Whether there may be one."""
    scanned: int


class Selection:
    """What a verb, a filter and a parent select: the newest first.

    Args:
        rows: The store.
        limits: How much one part may look at.
        verb: One of ``core.bulk.VERBS``; what it says nothing to is left out.
        filter: AIP-160, or ``*``.
        parent: Whose operations; "-" is every parent.

    Raises:
        InvalidFilterError: The filter is empty, or does not parse.
        InvalidOperationNameError: ``parent`` is malformed.
    """

    def __init__(self, rows: Rows, limits: Limits, *, verb: str, filter: str, parent: str) -> None:  # noqa: A002
        self._rows = rows
        self._limits = limits
        self._verb = VERBS[verb]
        self._text = filter
        self._filter = wanted(filter)
        self.collection = names.parse_parent(parent)
        """Of the parent, in its one spelling."""
        pushed = self._filter.pushdown()
        self._tested = None if pushed.exact else self._filter
        self._most = MOST if pushed.exact else max(1, limits.scan_rows // (1 + self._filter.terms // TERMS))
        query = query_of(pushed, self.collection, 0.0)
        done, paused = self._verb.done, self._verb.paused
        never = (done is not None and query.done not in (None, done)) or (
            paused is not None and query.paused not in (None, paused)
        )
        self._query = replace(
            query,
            done=query.done if done is None else done,
            paused=query.paused if paused is None else paused,
            states=frozenset() if never else query.states,
            outline=pushed.exact and verb != RERUN,
        )

    async def part(self, *, now: float, until: float, after: tuple[float, str] | None, limit: int) -> Selected:
        """Up to so many operations; fewer, or none, where it would have to look at too many others.

        Args:
            now: Epoch seconds.
            until: Epoch seconds of the latest creation.
            after: What the part before gave.
            limit: At least 1.
        """
        last = self._query.created_to
        size = limit if self._tested is None else 4 * limit
        asked = replace(self._query, now=now, created_to=until if last is None else min(last, until))
        verb = self._verb.name
        records: list[Record] = []
        scanned = 0
        while True:
            query = replace(asked, limit=min(self._limits.max_page_size, size), after=after)
            found, matching, cost = await self._rows.call(
                partial(scan, self._rows.store, query, self._tested), Work.LIST
            )
            for row, matches in zip(found, matching, strict=True):
                after = (row.create_time, row.name)
                if matches and not spared(row, self._text) and not (verb == RERUN and made_meanwhile(row, until)):
                    records.append(row)
                if len(records) >= limit:
                    return Selected(records, after, True, scanned + cost)
            scanned += cost
            if not found:
                return Selected(records, after, False, scanned)
            if scanned >= self._most:
                return Selected(records, after, True, scanned)

    async def preview(self, *, now: float) -> BulkPreview:
        """How many there are, and the names of some."""
        sample: list[str] = []
        count = scanned = 0
        after: tuple[float, str] | None = None
        more = True
        while more and count <= MOST and scanned < SCANS * self._most:
            part = await self.part(now=now, until=now, after=after, limit=min(1000, MOST + 1 - count))
            sample += [record.name for record in part.records[: SAMPLE - len(sample)]]
            count, scanned, after, more = count + len(part.records), scanned + part.scanned, part.after, part.more
        counted = Count.up_to(count, MOST) if not more or count > MOST else Count(count, more=True)
        return BulkPreview(verb=self._verb.name, filter=self._text, count=counted, sample=tuple(sample))
