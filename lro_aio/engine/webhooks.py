"""Sends webhooks once more that were sent before."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from functools import partial
from typing import cast

from lro_aio.core import names, transitions
from lro_aio.core.change import Change
from lro_aio.core.errors import InvalidTransitionError, OperationNotDoneError, OperationNotFoundError
from lro_aio.core.logs import event
from lro_aio.core.record import Record
from lro_aio.core.webhooks import COLLECTION, HANDLER, again, deliveries, sent_again
from lro_aio.engine.cancelling import check_reason
from lro_aio.engine.dispatch import Dispatcher
from lro_aio.engine.rows import Rows
from lro_aio.ports import Clock

__all__ = ["WebhookReplayer"]

logger = logging.getLogger("lro_aio")


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

    async def replay(self, name: str, request_id: str | None = None, *, reason: str = "") -> list[str]:
        """See ``Client.replay_webhook``; gives the names of the new deliveries."""
        check_reason(reason)
        source = await self._rows.record(name)
        if not source.done:
            raise OperationNotDoneError(name)
        # What an operation has told of its end can be told from its row, also when the deliveries are gone.
        first = (source,) if source.handler == HANDLER else deliveries(source, source.state.value.lower())
        if not first:
            raise InvalidTransitionError(name, f"{source.state} without a webhook for it", "replay")
        made = [self._again(one, source, request_id) for one in first]
        await asyncio.gather(*map(self._create, made))
        await self._note(made, reason)
        return [record.name for record in made]

    def _again(self, first: Record, source: Record, request_id: str | None) -> Record:
        now = self._clock.time()
        if request_id:  # the same request makes the same delivery, whichever process does it
            identifier = names.request_id(COLLECTION, f"{HANDLER}\nagain\n{first.name}", request_id)
            uid = names.child_id(identifier, "uid")
        else:
            identifier, uid = names.id_at(now, ordered=self._rows.store.ordered_names), names.new_id()
        return again(json.loads(first.initial_data or first.state_data), source, name=identifier, uid=uid, now=now)

    async def _create(self, record: Record) -> None:
        made = partial(transitions.create, record=record, now=record.create_time)
        change = Change(record.name, made, creates=True, size=record.size)
        await self._dispatcher.go_on(cast("Record", await self._rows.submit(change)))  # it is never removed by it

    async def _note(self, made: Sequence[Record], reason: str) -> None:
        """In the history of the operation that they tell of."""
        about = json.loads(made[0].state_data)["about"]
        try:
            await self._rows.submit(
                Change(about, partial(sent_again, made=made, now=made[0].create_time, reason=reason))
            )
        except OperationNotFoundError:  # deliveries may outlive it: then nobody can read its history
            logger.debug("%s is gone: what was sent again is not noted", about, extra=event("webhook_of_gone"))
