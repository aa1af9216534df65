"""What callers read: the part of ``Client`` that answers as the methods of ``google.longrunning`` do."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import AsyncIterator

from google.longrunning import operations_proto_pb2 as operations_pb2

from lro_aio.core.policies import Duration, seconds
from lro_aio.engine.engine import Engine

__all__ = ["Lookups"]


class Lookups(abc.ABC):
    """Operations as their callers see them: one, a list of them, or one that is waited for."""

    @property
    @abc.abstractmethod
    def engine(self) -> Engine:
        """The present life of the client. For the engine."""

    async def get_operation(self, name: str) -> operations_pb2.Operation:
        """The operation as it is now. A thousand concurrent calls cost one read.

        Raises:
            InvalidOperationNameError: Malformed name.
            OperationNotFoundError: Never created, deleted or expired.
            StoreUnavailableError: The store did not answer.
        """
        return (await self.engine.rows.record(name)).to_operation()

    async def list_operations(
        self,
        filter: str = "",  # noqa: A002 (the field's name in the RPC)
        page_size: int = 0,
        page_token: str = "",
        parent: str = "",
    ) -> operations_pb2.ListOperationsResponse:
        """One page of operations, newest first.

        A page may be short, even empty, while more follow: only an empty ``next_page_token`` is the end (AIP-158).

        Args:
            filter: The AIP-160 subset of ``docs/filters.md``.
            page_size: Most operations on the page. 0 takes the default; above the maximum is taken as the maximum.
            page_token: From the previous page; ``filter`` and ``parent`` must be the same.
            parent: Whose operations; "" and "operations" are the top level, "-" is every parent.

        Raises:
            InvalidFilterError: The filter does not parse. It says where.
            InvalidPageTokenError: The token was not issued for these arguments.
            InvalidOperationNameError: ``parent`` is malformed.
            ValueError: ``page_size`` is negative.
            StoreUnavailableError: The store did not answer.
        """
        page = await self.engine.server_host.page(
            filter=filter, page_size=page_size, page_token=page_token, parent=parent
        )
        return page.response

    async def iter_operations(
        self,
        filter: str = "",  # noqa: A002 (the field's name in the RPC)
        *,
        parent: str = "",
        page_size: int = 0,
    ) -> AsyncIterator[operations_pb2.Operation]:
        """Every operation that the filter matches, newest first, page by page. Raises as ``list_operations``."""
        token = ""
        while True:
            page = await self.list_operations(filter, page_size, token, parent)
            for operation in page.operations:
                yield operation
            token = page.next_page_token
            if not token:
                return

    async def wait_operation(self, name: str, timeout: Duration | None = None) -> operations_pb2.Operation:
        """Wait until the operation has ended. At the timeout, return its latest state, not an error.

        Like the RPC of ``google.longrunning``. ``lro_aio.wait_operation`` raises at the timeout instead. A drain ends
        the wait; one that begins during a drain is held for a second.

        Args:
            name: Resource name.
            timeout: Seconds or a timedelta; None waits for as long as it takes.

        Raises:
            InvalidOperationNameError: Malformed name.
            OperationNotFoundError: Never created, expired, or deleted meanwhile.
            StoreUnavailableError: The store did not answer.
        """
        record = await self.engine.rows.wait(name, None if timeout is None else seconds(timeout, "timeout"))
        return record.to_operation()

    async def watch(self, name: str) -> AsyncIterator[operations_pb2.Operation]:
        """Yield the operation now and whenever it has changed, until it has ended or the client drains.

        Revisions never go back; some may be skipped. Raises as ``wait_operation``.
        """
        async with contextlib.aclosing(self.engine.rows.watch(name)) as records:
            async for record in records:
                yield record.to_operation()
