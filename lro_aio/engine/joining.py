"""Push join: the end of a child wakes the operation that waits for it, wherever that runs.

A hint like all others: what is lost here is found by the polls of whoever watches the wait, and by the sweep.
"""

from __future__ import annotations

import logging

from lro_aio.core.errors import LroError
from lro_aio.core.logs import event
from lro_aio.core.record import Record, State, Wait
from lro_aio.engine.children import Children
from lro_aio.engine.dispatch import Dispatcher
from lro_aio.engine.rows import Rows
from lro_aio.engine.tasks import Tasks

__all__ = ["Joiner"]

logger = logging.getLogger("lro_aio")


KNOWN = 1000
"""Parents whose waits are remembered."""


class Joiner:
    """Looks after the parents of operations that end in this process.

    Args:
        rows: The store.
        children: Tells whether a wait is over.
        dispatcher: Wakes those whose wait is.
        tasks: Own the looks.
    """

    def __init__(self, rows: Rows, children: Children, dispatcher: Dispatcher, tasks: Tasks) -> None:
        self._rows = rows
        self._children = children
        self._dispatcher = dispatcher
        self._tasks = tasks
        self._wanted: dict[str, None] = {}
        """Names of parents, one of whose children has ended since they were looked at."""
        self._looking = False
        self._known: dict[str, Wait] = {}
        """What parents waited for when they were read last: most ends are not the last one, and cost one read."""

    def observe(self, name: str, record: Record | None) -> None:  # noqa: ARG002 (a listener of the feed)
        """A row was committed: if it is a child that has ended, look after its parent, once for a burst."""
        if record is None or not record.parent_operation or not record.done:
            return
        if self._dispatcher.watches(record.parent_operation):
            return  # this process hears of the end by itself
        self._wanted[record.parent_operation] = None
        if not self._looking:
            self._looking = True
            self._tasks.spawn(self._look(), "lro-aio-push-join")

    async def _look(self) -> None:
        try:
            while self._wanted:
                wanted, self._wanted = self._wanted, {}
                over = [name for name in wanted if await self._may_be_over(name)]
                parents = await self._rows.read_many(over) if over else {}
                for parent in parents.values():
                    await self._push(parent)
        except LroError as exc:
            logger.info("parents are left to their polls: %s", exc, extra=event("push_join_failed"))
        finally:
            self._looking = False

    async def _may_be_over(self, name: str) -> bool:
        """Whether the wait of a parent is over as far as is known of it; so is one of which nothing is known."""
        wait = self._known.get(name)
        return wait is None or (await self._children.reason(wait))[0] is not None

    async def _push(self, parent: Record) -> None:
        known = self._known.pop(parent.name, None)
        wait = parent.wait
        if parent.state is not State.SUSPENDED or wait is None or wait.service or not wait.children:
            return
        just_found = known is not None and known.token == wait.token
        if just_found or (await self._children.reason(wait))[0] is not None:
            self._dispatcher.push(parent)
        else:
            if len(self._known) >= KNOWN:
                self._known.clear()
            self._known[parent.name] = wait
