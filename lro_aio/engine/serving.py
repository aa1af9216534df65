"""What a server asks of a client besides the client's public methods."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from lro_aio.core.errors import InvalidOperationNameError
from lro_aio.core.journal import Entry
from lro_aio.core.names import parse
from lro_aio.core.policies import Limits
from lro_aio.core.record import Record, WakeReason
from lro_aio.engine.changes import Subscription
from lro_aio.engine.children import Children
from lro_aio.engine.dispatch import Dispatcher
from lro_aio.engine.methods import MethodOperation, Methods
from lro_aio.engine.readers import Work
from lro_aio.engine.rows import Rows
from lro_aio.engine.run import Run
from lro_aio.ports import Clock, ListQuery

if TYPE_CHECKING:
    from lro_aio.core.description import Description
    from lro_aio.engine.listing import Page
    from lro_aio.engine.overview import Overview

__all__ = ["ServerHost"]


class ServerHost:
    """One door for the servers of a client that is open: rows, pages, wake-ups, and operations of service methods."""

    def __init__(
        self,
        *,
        rows: Rows,
        children: Children,
        dispatcher: Dispatcher,
        methods: Methods,
        overview: Callable[[], Overview],
        limits: Limits,
        clock: Clock,
    ) -> None:
        self._rows = rows
        self._children = children
        self._dispatcher = dispatcher
        self._methods = methods
        self._overview = overview
        self.limits = limits
        """Of payloads and pages."""
        self._clock = clock

    @property
    def draining(self) -> bool:
        """Whether this process takes no more work, or is closed."""
        return self._rows.draining

    @property
    def no_queues_reason(self) -> str:
        """See ``Store``."""
        return self._rows.store.no_queues_reason

    async def pause(self, clock: Clock, length: float) -> bool:
        """See ``Rows.pause``."""
        return await self._rows.pause(clock, length)

    def subscribe(self, wanted: Iterable[str]) -> Subscription:
        """See ``Rows.subscribe``."""
        return self._rows.subscribe(wanted)

    async def news(self, changes: Subscription, until: float) -> tuple[Collection[str], bool]:
        """See ``Rows.news``: gives the names of the rows that changed, and whether others may have."""
        changed, stale = await self._rows.news(changes, until)
        return changed.keys(), stale or not changed

    async def record(self, name: str) -> Record:
        """The row of a visible operation. Raises as ``Client.get_operation``."""
        return await self._rows.record(name)

    async def describe(self, name: str) -> tuple[Record, Description]:
        """The row of a visible operation, and what ``Client.describe`` tells of it: both of one moment."""
        return await self._overview().describe(name)

    async def records(self, wanted: Sequence[str]) -> dict[str, Record]:
        """The rows of these operations, by name, as far as they are there and visible. One read."""
        self._rows.check_open()
        found = await self._rows.read_many(list(wanted)) if wanted else {}
        now = self._clock.time()
        return {name: record for name, record in found.items() if not record.hidden(now)}

    async def journals(self, records: Iterable[Record]) -> dict[str, list[Entry]]:
        """What operations have done and were told, in order, by name. One read, where there is anything."""
        wanted = [record.name for record in records if record.entries]
        if not wanted:
            return {}
        return await self._rows.call(partial(self._rows.store.journal, wanted))

    async def page(
        self,
        *,
        filter: str = "",  # noqa: A002 (the field's name in the RPC)
        page_size: int = 0,
        page_token: str = "",
        parent: str = "",
    ) -> Page:
        """As ``Client.list_operations``, with the rows."""
        from lro_aio.engine.listing import list_page

        self._rows.check_open()
        return await list_page(
            self._rows,
            self.limits,
            now=self._clock.time(),
            filter=filter,
            page_size=page_size,
            page_token=page_token,
            parent=parent,
        )

    async def children_of(self, name: str, limit: int) -> list[Record]:
        """Operations that this one started, with ``start_child`` or ``call``: the newest so many."""
        query = ListQuery(now=self._clock.time(), limit=limit, parent_operation=name)
        return await self._rows.call(partial(self._rows.store.list, query), Work.LIST)

    async def resume(
        self,
        name: str,
        token: str,
        *,
        reason: WakeReason | None,
        pending: Sequence[str] = (),
        error: str = "",
        early: bool = True,
        visit: int | None = None,
    ) -> Run | None:
        """See ``Dispatcher.resume``."""
        return await self._dispatcher.resume(
            name, token, reason=reason, pending=pending, error=error, early=early, visit=visit
        )

    async def waiting(self, name: str, token: str) -> Record | None:
        """The row, if the token still stands for its wait: no run that it started has got anywhere."""
        try:
            parse(name)
        except InvalidOperationNameError:
            return None
        record = await self._rows.find(name)
        if record is None or record.done or record.wait is None or record.wait.token != token:
            return None
        return record

    async def pending(self, row: Record, among: Sequence[str] | None = None) -> list[str]:
        """The children that a suspended row still waits for; none where its wait is over without some of them.

        Raises:
            WorkerUnavailableError: The service that has them is not known here.
            StoreUnavailableError: They cannot be read now.
        """
        wait = row.wait
        if wait is None:
            return []
        if not wait.union and not wait.topics:
            return await self._children.pending(wait, among)
        reason, pending = await self._children.reason(wait)
        return [] if reason is not None else list(pending)

    async def start_by_hand(self, handler: str) -> MethodOperation[Any]:
        """See ``Methods.start``."""
        return await self._methods.start(handler)

    async def claim_suspended(self, name: str, *, handler: str = "") -> MethodOperation[Any]:
        """See ``Methods.claim_suspended``."""
        return await self._methods.claim_suspended(name, handler=handler)
