"""Sends webhooks once more that were sent before."""

from __future__ import annotations

import asyncio
import json
from functools import partial

from lro_aio.core import names, transitions
from lro_aio.core.change import Change
from lro_aio.core.errors import InvalidTransitionError, OperationNotDoneError
from lro_aio.core.record import Record
from lro_aio.core.webhooks import HANDLER, again, deliveries
from lro_aio.engine.dispatch import Dispatcher
from lro_aio.engine.rows import Rows
from lro_aio.ports import Clock

__all__ = ["WebhookReplayer"]


class WebhookReplayer:
    """``replay_webhook`` of one engine.

    Args:
        rows: The store.
        dispatcher: Has them run.
        clock: Engine time.
    """

    def __init__(self, rows: Rows, dispatcher: Dispatcher, *, clock: Clock) -> None:
        self._rows = rows
        self._dispatcher = dispatcher
        self._clock = clock

    async def replay(self, name: str) -> list[str]:
        """See ``Client.replay_webhook``; gives the names of the new deliveries."""
        source = await self._rows.record(name)
        if not source.done:
            raise OperationNotDoneError(name)
        # What an operation has told of its end can be told from its row, also when the deliveries are gone.
        first = (source,) if source.handler == HANDLER else deliveries(source, source.state.value.lower())
        if not first:
            raise InvalidTransitionError(name, f"{source.state} without a webhook for it", "replay")
        now, ordered = self._clock.time(), self._rows.store.ordered_names
        made = [
            again(
                json.loads(one.initial_data or one.state_data),
                source,
                name=names.id_at(now, ordered=ordered),
                uid=names.new_id(),
                now=now,
            )
            for one in first
        ]
        await asyncio.gather(*map(self._create, made))
        return [record.name for record in made]

    async def _create(self, record: Record) -> None:
        made = partial(transitions.create, record=record, now=record.create_time)
        await self._rows.submit(Change(record.name, made, creates=True, size=record.size))
        await self._dispatcher.go_on(record)
