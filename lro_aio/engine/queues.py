"""``client.queues``: what operators see of queues, and change while they are in use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from lro_aio.core.queues import Bounds, QueueStatus, QueueTerms, Rate
from lro_aio.engine.readers import Work
from lro_aio.engine.rows import Rows
from lro_aio.ports import Clock

__all__ = ["Queues"]

_AS_IT_IS: Any = object()


class Queues:
    """The queues of the store, whichever process runs their handlers. ``client.queues`` is one.

    Args:
        rows: The store.
        clock: Engine time.
        changed: Called when somebody may have a place by a change.
    """

    def __init__(self, rows: Rows, *, clock: Clock, changed: Callable[[], None]) -> None:
        self._rows = rows
        self._clock = clock
        self._changed = changed

    async def list(self) -> list[QueueStatus]:
        """Every queue that a handler has ever declared here, by name. Up to 10,000 that wait are counted of each.

        Raises:
            StoreSchemaError: The store has no queues.
            StoreUnavailableError: The store did not answer.
        """
        self._rows.check_open()
        read = partial(self._rows.store.queues, now=self._clock.time())
        return list(await self._rows.call(read, Work.LIST))

    async def get(self, name: str) -> QueueStatus:
        """One queue.

        Raises:
            LookupError: There is none of this name.
            StoreSchemaError: The store has no queues.
            StoreUnavailableError: The store did not answer.
        """
        self._rows.check_open()
        read = partial(self._rows.store.queues, now=self._clock.time(), names=[name])
        found = await self._rows.call(read, Work.LIST)
        if not found:
            raise _unknown(name)
        return found[0]

    async def set(
        self,
        name: str,
        *,
        running: int | None = _AS_IT_IS,
        per_key: int | None = _AS_IT_IS,
        rate: Rate | None = _AS_IT_IS,
        rate_per_key: Rate | None = _AS_IT_IS,
    ) -> QueueStatus:
        """Change what the queue allows, at once and for all processes, until ``unset``: whatever releases declare.

        What runs goes on, also where there is one too many of it by then.

        Args:
            name: Of the queue.
            running: Places in all; None: as many as there are. What is left out stays as it is.
            per_key: Places for each key.
            rate: Starts in all.
            rate_per_key: Starts for each key.

        Raises:
            LookupError: There is no queue of this name.
            ValueError: A limit makes no sense.
            TypeError: A rate is no ``Rate``.
            StoreSchemaError: The store has no queues.
            StoreUnavailableError: It is not known whether it was set; set it again.
        """
        asked: dict[str, Any] = {"running": running, "per_key": per_key, "rate": rate, "rate_per_key": rate_per_key}
        given: dict[str, Any] = {field: value for field, value in asked.items() if value is not _AS_IT_IS}
        replace(Bounds(), **given)
        return await self._change(name, lambda terms: replace(terms, override=replace(terms.bounds, **given)))

    async def unset(self, name: str) -> QueueStatus:
        """Let hold again what the handlers declare. Raises as ``set``."""
        return await self._change(name, lambda terms: replace(terms, override=None))

    async def pause(self, name: str) -> QueueStatus:
        """Give no place any more until ``unpause``; what has one goes on. Raises as ``set``."""
        return await self._change(name, lambda terms: replace(terms, paused=True))

    async def unpause(self, name: str) -> QueueStatus:
        """Give places again. Raises as ``set``."""
        return await self._change(name, lambda terms: replace(terms, paused=False))

    async def _change(self, name: str, change: Callable[[QueueTerms], QueueTerms]) -> QueueStatus:
        def known(terms: QueueTerms) -> QueueTerms:
            if terms == QueueTerms():
                raise _unknown(name)
            return change(terms)

        self._rows.check_open()
        await self._rows.call(partial(self._rows.store.change_queue, name, known), Work.LIST)
        self._changed()
        return await self.get(name)


def _unknown(name: str) -> LookupError:
    return LookupError(f"there is no queue {name!r}: a queue is known once a process with one of its handlers was open")
