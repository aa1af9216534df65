"""What each page looks at, through the looks that all callers share."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio.to_thread

from lro_aio.client import Client
from lro_aio.core.errors import StoreSchemaError
from lro_aio.core.names import ANY_PARENT
from lro_aio.core.schedules import ScheduleInfo
from lro_aio.core.stats import Stats
from lro_aio.core.webhooks import tellings
from lro_aio.dashboard import facts, standing
from lro_aio.dashboard.looks import Look, Shared
from lro_aio.dashboard.pace import Pace
from lro_aio.dashboard.showing import Shower
from lro_aio.dashboard.texts import jsonable

__all__ = ["PAGES", "Sources"]

PAGES = ("overview", "operations", "operation", "failures", "queues", "schedules", "workers")
"""What can be looked at."""
PAGE_SIZE = 50
"""Operations of a list."""
MOST_HELD = 200
"""Operations that processes run and that are told."""
MOST_CHILDREN = 50
"""Children of an operation that are told."""


FAILED = f"state = FAILED AND {facts.NOT_AGAIN}"
"""What the page of failures lists."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a request asks for."""

    page: str
    name: str = ""
    filter: str = ""
    token: str = ""


class Sources:
    """Looks of a client's store.

    Args:
        client: It need not be open yet.
        show: Asked before anything is told.
    """

    def __init__(self, client: Client, show: Shower) -> None:
        self._client = client
        self._show = show
        self._looks: Shared[Look] = Shared(client.clock)
        self._pace = Pace()

    async def look(self, page: str, query: Mapping[str, str]) -> Look:
        """What a page tells.

        Args:
            page: One of ``PAGES``.
            query: The request's parameters: ``name`` of the operation, ``filter`` and ``page`` of the list.

        Raises:
            The errors of the client's methods.
        """
        asked = {
            "operation": lambda: _Asked(page, name=query.get("name", "")),
            "operations": lambda: _Asked(page, filter=query.get("filter", ""), token=query.get("page", "")),
        }.get(page, lambda: _Asked(page))()
        make: Callable[[_Asked], Awaitable[Look]] = getattr(self, f"_{page}")
        return await self._looks.at(asked, partial(make, asked))

    def forget(self) -> None:
        """See ``Shared.forget``."""
        self._looks.forget()

    async def _overview(self, asked: _Asked) -> Look:  # noqa: ARG002 (all have one signature)
        stats = await self._stats()
        pace = None if stats is None else self._pace.note(stats, self._client.clock.monotonic())
        return await _in_thread(lambda: facts.of_stats(stats, pace, self._show))

    async def _stats(self) -> Stats | None:
        """None of a store that cannot count: the lists are there all the same."""
        try:
            return await self._client.stats()
        except StoreSchemaError:
            return None

    async def _operations(self, asked: _Asked) -> Look:
        found = await self._client.server_host.page(
            filter=asked.filter, page_size=PAGE_SIZE, page_token=asked.token, parent=ANY_PARENT
        )
        return await _in_thread(
            lambda: {
                "operations": [facts.summary(record, self._show) for record in found.records],
                "filter": asked.filter,
                "nextPageToken": found.response.next_page_token,
            }
        )

    async def _operation(self, asked: _Asked) -> Look:
        host = self._client.server_host
        record, told = await host.describe(asked.name)
        children = await host.children_of(asked.name, MOST_CHILDREN) if told.children else []
        linked = [*(telling.delivery for telling in tellings(record)), *filter(None, [told.rerun_of])]
        others = await host.records(linked)
        return await _in_thread(lambda: facts.of_operation(told, record, children, others, self._show))

    async def _failures(self, asked: _Asked) -> Look:  # noqa: ARG002
        overview, paused, failed = await asyncio.gather(
            self.look("overview", {}),
            self.look("operations", {"filter": "paused = true"}),
            self.look("operations", {"filter": FAILED}),
        )
        groups = facts.with_left(overview.data["failures"], failed.data)
        told = {"failures": groups, "paused": paused.data, "failed": failed.data}
        return await _in_thread(lambda: told)

    async def _queues(self, asked: _Asked) -> Look:  # noqa: ARG002
        try:
            found = await self._client.queues.list()
        except StoreSchemaError:
            found = None
        reason = self._client.server_host.no_queues_reason if found is None else ""
        return await _in_thread(lambda: standing.of_queues(found, self._show, reason))

    async def _schedules(self, asked: _Asked) -> Look:  # noqa: ARG002
        found: list[ScheduleInfo] = []
        problem = ""
        try:
            found = await self._client.schedules.list()
        except (
            ImportError,
            ValueError,
        ) as exc:  # an extra or a time zone that only workers have
            problem = str(exc)
        return await _in_thread(lambda: standing.of_schedules(found, self._show, problem))

    async def _workers(self, asked: _Asked) -> Look:  # noqa: ARG002
        overview = await self.look("overview", {})
        page = await self._client.server_host.page(filter="state = RUNNING", page_size=MOST_HELD, parent=ANY_PARENT)
        return await _in_thread(
            lambda: {
                "running": overview.data["running"],
                "unserved": overview.data["unserved"],
                "due": overview.data["due"],
                "held": [facts.held(record) for record in page.records],
                "more": bool(page.response.next_page_token),
            }
        )


async def _in_thread(make: Callable[[], dict[str, Any]]) -> Look:
    """Payloads may have megabytes: to print them must not stop the event loop."""

    def made() -> Look:
        data = make()
        told = json.dumps(jsonable(data), ensure_ascii=True, sort_keys=True)
        return Look(data, hashlib.blake2b(told.encode(), digest_size=12).hexdigest())

    return await anyio.to_thread.run_sync(made)
