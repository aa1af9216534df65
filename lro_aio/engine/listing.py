"""List pages: the filter, the token and the store's keyset pagination put together (AIP-132, AIP-158, AIP-160)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import NamedTuple

from google.longrunning import operations_proto_pb2 as operations_pb2

from lro_aio.core import filters, names, pages
from lro_aio.core.policies import Limits
from lro_aio.core.record import Record
from lro_aio.engine.readers import Work
from lro_aio.engine.rows import Rows
from lro_aio.ports import ListQuery, Store

__all__ = ["Page", "list_page", "query_of", "scan"]

STEP_BYTES = 8 * 1024 * 1024
"""Bytes of rows that are in memory at a time, about."""
ROW_BYTES = 16 * 1024
"""Bytes of a row that a filter reads in about the time that it takes to read a small one."""
TERMS = 10
"""Conditions that take about the time that it takes to read a small row."""


class Page(NamedTuple):
    """One page, twice: as rows, and as the message that is made of them."""

    records: list[Record]
    response: operations_pb2.ListOperationsResponse


async def list_page(
    rows: Rows,
    limits: Limits,
    *,
    now: float,
    filter: str,  # noqa: A002 (the field's name in the RPC)
    page_size: int,
    page_token: str,
    parent: str,
) -> Page:
    """One page, newest first.

    Conditions that an index serves are pushed down to the store; the rest is evaluated here, over at most
    ``limits.scan_rows`` rows, and fewer where rows are large or conditions many. Then a short page with a token is
    returned: the next one waits its turn among the lists of others.

    Raises:
        InvalidFilterError: The filter does not parse.
        InvalidPageTokenError: The token is not one for these arguments.
        InvalidOperationNameError: ``parent`` is malformed.
        ValueError: ``page_size`` is negative.
    """
    collection = names.parse_parent(parent)
    wanted = filters.parse(filter)
    size = pages.page_size(page_size, default=limits.page_size, maximum=limits.max_page_size)
    arguments = (collection, filter)
    after = pages.decode(page_token, arguments) if page_token else None
    pushed = wanted.pushdown()
    tested = None if pushed.exact else wanted
    asked = query_of(pushed, collection, now)
    most = max(1, limits.scan_rows // (1 + wanted.terms // TERMS))
    records: list[Record] = []
    response = operations_pb2.ListOperationsResponse()
    scanned = used = 0
    batch = 2 * size
    while True:
        # Each batch is a way to a thread and back: where few rows match, there are fewer and larger ones.
        batch = size - len(response.operations) + 1 if pushed.exact else min(limits.max_page_size, 2 * batch)
        query = replace(asked, limit=min(batch, most - scanned), after=after)
        found, matching, cost = await rows.call(partial(scan, rows.store, query, tested), Work.LIST)
        for row, matches in zip(found, matching, strict=True):
            if matches:
                operation = row.to_operation()
                used += operation.ByteSize()
                full = len(response.operations) >= size or (response.operations and used > limits.page_bytes)
                if full and after is not None:
                    response.next_page_token = pages.encode(after, arguments)
                    return Page(records, response)
                records.append(row)
                response.operations.append(operation)
            after = (row.create_time, row.name)
        scanned += cost
        if len(found) < query.limit and sum(row.size for row in found) < STEP_BYTES:
            return Page(records, response)
        if scanned >= most and after is not None:
            response.next_page_token = pages.encode(after, arguments)
            return Page(records, response)


def query_of(pushed: filters.Pushdown, collection: str, now: float) -> ListQuery:
    """What is asked of the store for a filter, over a collection in its one spelling."""
    return ListQuery(
        now=now,
        limit=0,
        max_bytes=STEP_BYTES,
        parent=None if collection == names.ANY_PARENT else collection,
        done=pushed.done,
        states=pushed.states,
        handler=pushed.handler,
        paused=pushed.paused,
        created_from=pushed.created_from,
        created_to=pushed.created_to,
    )


def scan(store: Store, query: ListQuery, wanted: filters.Filter | None) -> tuple[list[Record], list[bool], int]:
    """Rows, which of them the filter lets through, and how many small ones they come to.

    On a thread for lists: a filter on metadata unpacks every row.
    """
    rows = store.list(query)
    matching = [wanted is None or wanted.matches(row) for row in rows]
    return rows, matching, sum(1 + row.size // ROW_BYTES for row in rows)
