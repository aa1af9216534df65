"""What operators see: the part of ``Client`` that tells how it goes with operations, one or all."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING

from lro_aio.engine.engine import Engine

if TYPE_CHECKING:
    from lro_aio.core.description import Description
    from lro_aio.core.history import HistoryEntry
    from lro_aio.core.stats import Stats
    from lro_aio.engine.queues import Queues

__all__ = ["Seeing"]


class Seeing(abc.ABC):
    """Counts of all operations, everything about one, and the queues in which they wait."""

    @property
    @abc.abstractmethod
    def engine(self) -> Engine:
        """The present life of the client. For the engine."""

    @property
    def queues(self) -> Queues:
        """The queues of the store: how it goes with them, and what they allow."""
        return self.engine.queues

    async def stats(self) -> Stats:
        """How it goes with all operations of the store: by handler and state, what is late, what has failed and why.

        For operators: it is of every parent. Numbers are exact up to 10,000, and lower bounds beyond it. It costs some
        seeks into indexes for each handler, however many operations there are.

        Raises:
            StoreSchemaError: This store cannot tell.
            StoreUnavailableError: The store did not answer.
        """
        return await self.engine.overview.stats()

    async def describe(self, name: str) -> Description:
        """Everything about the operation: for operators, it may tell more than clients are to see.

        Its ``timeline`` is the life of the operation as spans of time. Steps, sleeps and messages are all there; of the
        rest, such as segments, waits and crashes, those of the last 32 things that happened.

        Raises:
            InvalidOperationNameError: Malformed name.
            OperationNotFoundError: Never created, deleted or expired.
            StoreUnavailableError: The store did not answer.
        """
        _, description = await self.engine.overview.describe(name)
        return description

    async def history(self, name: str) -> list[HistoryEntry]:
        """What happened to the operation, oldest first: for operators, it may tell more than clients are to see.

        Steps, sleeps and messages are all there; of the rest, such as claims, suspends and retries, the last 32.

        Raises:
            InvalidOperationNameError: Malformed name.
            OperationNotFoundError: Never created, deleted or expired.
            StoreUnavailableError: The store did not answer.
        """
        return await self.engine.rows.history(name)
