"""Sending messages to operations."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from typing import Any

from lro_aio.core import names, straight
from lro_aio.core.change import Change
from lro_aio.core.errors import OperationDoneError
from lro_aio.core.journal import Entry, Kind, key_of
from lro_aio.core.kept import encode_value
from lro_aio.core.record import State
from lro_aio.engine.dispatch import Dispatcher
from lro_aio.engine.observing import Observing
from lro_aio.engine.rows import Rows
from lro_aio.engine.settings import Settings
from lro_aio.ports import Clock

__all__ = ["MAX_MESSAGE_ID", "Messenger"]

MAX_MESSAGE_ID = 256
"""Characters."""


class Messenger:
    """``Client.send`` of one engine.

    Args:
        rows: The store.
        dispatcher: Wakes whoever waits for a message.
        settings: The limits.
        clock: Engine time.
        observing: Told of what is sent; None: nobody wants to know.
    """

    def __init__(
        self, rows: Rows, dispatcher: Dispatcher, settings: Settings, clock: Clock, observing: Observing | None = None
    ) -> None:
        self._rows = rows
        self._dispatcher = dispatcher
        self._limits = settings.limits
        self._clock = clock
        self._observing = observing

    async def send(self, name: str, topic: str, payload: Any, *, message_id: str | None) -> None:
        """See ``Client.send``."""
        self._rows.check_open()
        names.parse(name)
        _check_topic(topic)
        identity = names.new_id() if message_id is None else _checked(message_id)
        data, tag = encode_value(payload)
        self._limits.check("message", len(data))
        now = self._clock.time()
        entry = Entry(kind=Kind.MESSAGE, key=key_of(topic, identity), time=now, payload=data, codec=tag)
        change = Change(
            name,
            partial(straight.message, now=now, topic=topic),
            size=512 + entry.size,
            appends=(entry,),
            most_entries=self._limits.entries,
        )
        observed = nullcontext() if self._observing is None else self._observing.send(name, topic)
        try:
            with observed:
                record = await self._rows.submit(change)
        except OperationDoneError:
            if message_id is None or not await self._has(name, entry.key):
                raise
            return  # a repeat: the answer to the first was lost, and the operation has ended meanwhile
        if record is not None and record.state is State.SUSPENDED and record.wait is not None and record.wait.news:
            self._dispatcher.push(record)

    async def _has(self, name: str, key: str) -> bool:
        """Whether the operation got this message."""
        journal = await self._rows.call(partial(self._rows.store.journal, [name], (Kind.MESSAGE,)))
        return any(entry.key == key for entry in journal.get(name, ()))


def _check_topic(topic: str) -> None:
    """Refuse what is no topic; it may come from a server's caller.

    Raises:
        MalformedIdError: It is not 1 to 128 printable characters, or begins as this package's own names do.
    """
    try:
        names.check_name("topic", topic)
    except ValueError as exc:
        problem = f"must be 1 to {names.MAX_LABEL} printable characters, not {topic!r:.80}"
        raise names.MalformedIdError("topic", problem) from exc
    if topic.startswith(names.OWN):
        raise names.MalformedIdError("topic", f"must not begin with {names.OWN!r}: such names are this package's own")


def _checked(message_id: str) -> str:
    """A message's id.

    Raises:
        MalformedIdError: It is not 1 to 256 printable characters.
    """
    if not isinstance(message_id, str) or not 0 < len(message_id) <= MAX_MESSAGE_ID or not message_id.isprintable():
        problem = f"must be 1 to {MAX_MESSAGE_ID} printable characters, not {message_id!r:.80}"
        raise names.MalformedIdError("message_id", problem)
    return message_id
