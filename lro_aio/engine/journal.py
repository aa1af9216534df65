"""The journal of one operation as a run knows it: read once, and then kept by what the run appends."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterable
from functools import partial

from lro_aio.core import straight
from lro_aio.core.change import Change
from lro_aio.core.errors import StoreUnavailableError
from lro_aio.core.journal import Entry, Kind, parts_of
from lro_aio.core.logs import event
from lro_aio.core.record import Record
from lro_aio.core.transitions import Holder
from lro_aio.engine.lanes import Answered
from lro_aio.engine.rows import Rows
from lro_aio.engine.settings import COMMIT_RETRY, check_kept
from lro_aio.ports import Clock

__all__ = ["RunJournal"]

logger = logging.getLogger("lro_aio")


class RunJournal:
    """What a run has found in its operation's journal, and what it adds.

    Args:
        rows: The store.
        record: The row as it was claimed.
        holder: Who appends.
        clock: Engine time.
        most: Entries that the journal may have.
    """

    def __init__(self, rows: Rows, record: Record, holder: Holder, clock: Clock, most: int) -> None:
        self.most = most
        self.unsaved: dict[tuple[str, str], Entry] = {}
        """What goes along with the next write, by kind and key: nothing is lost where it does not come to that."""
        self._rows = rows
        self._name = record.name
        self._holder = holder
        self._clock = clock
        self._entries: dict[tuple[str, str], Entry] = {}
        self._messages: dict[str, list[Entry]] = {}
        """By topic, oldest first."""
        self._stored = record.entries
        self._loaded = not record.entries
        self._base: dict[str, tuple[int, int]] = {}

    @property
    def known(self) -> int:
        """How many entries the run knows."""
        return len(self._entries)

    @property
    def behind(self) -> bool:
        """Whether there are entries that the run does not know: messages, as nobody else appends."""
        return self._stored > len(self._entries)

    @property
    def received(self) -> dict[str, tuple[int, int]]:
        """By topic: how often the segments before this one have received, and how many messages they got."""
        return self._base

    def learn(self, record: Record) -> None:
        """The row was seen with so many entries."""
        self.saw(record.entries)

    def saw(self, entries: int) -> None:
        """The row has so many entries."""
        self._stored = max(self._stored, entries)

    def find(self, kind: Kind, key: str) -> Entry | None:
        """The entry of a kind with a key, stored or about to be."""
        return self._entries.get((kind, key)) or self.unsaved.get((kind, key))

    def messages(self, topic: str) -> list[Entry]:
        """The messages of a topic, oldest first."""
        return self._messages.get(topic, [])

    def all_messages(self) -> list[Entry]:
        """The messages of all topics, oldest first."""
        return sorted((entry for found in self._messages.values() for entry in found), key=lambda entry: entry.number)

    def check_kept(self) -> None:
        """Refuse what needs a journal where the store has none.

        Raises:
            StoreSchemaError: It says what to do.
        """
        check_kept(self._rows.store, "steps, durable waits and messages")

    async def load(self) -> None:
        """Read what was stored before this run."""
        if not self._loaded:
            await self._read(None)
            self._loaded = True

    async def catch_up(self) -> None:
        """Read what others have appended meanwhile."""
        if self.behind:
            await self._read((Kind.MESSAGE,) if self._loaded else None)
            if self.behind:  # nothing that this release knows of
                await self._read(None)

    async def append(
        self,
        *entries: Entry,
        progress: bool = False,
        gives: tuple[str, ...] = (),
        answered: Answered | None = None,
    ) -> None:
        """Append, together with what is not saved yet.

        Args:
            *entries: What to append.
            progress: Whether the count of attempts starts anew.
            gives: Steps that need their places no longer: they give them back with it.
            answered: Called as soon as the store has answered, before this returns.

        Raises:
            LeaseLostError: This run does not hold the operation any more.
            OperationDoneError: It has ended.
            PayloadTooLargeError: There are too many entries.
            StoreUnavailableError: It is not known whether they are stored. The same call may be repeated.
        """
        entries = (*entries, *self.unsaved.values())
        now = self._clock.time()
        made = partial(straight.appended, holder=self._holder, now=now, progress=progress, gives=bool(gives))
        size = 512 + sum(entry.size for entry in entries)
        change = Change(self._name, made, size=size, appends=entries, most_entries=self.most, gives=gives)
        record = await self._rows.submit(change, answered)
        self.saved(entries)
        if record is not None:
            self.learn(record)

    async def keep(
        self,
        entry: Entry,
        *,
        progress: bool = False,
        gives: tuple[str, ...] = (),
        answered: Answered | None = None,
    ) -> None:
        """As ``append``, however long the store is away: the entry is worth waiting for."""
        attempt = 0
        while True:
            try:
                return await self.append(entry, progress=progress, gives=gives, answered=answered)
            except StoreUnavailableError as exc:
                logger.warning(
                    "%s: an entry of the journal is not stored yet; trying again: %s",
                    self._name,
                    exc,
                    extra=event("entry_not_stored", operation=self._name),
                )
            await self._rows.pause(self._clock, COMMIT_RETRY.delay(attempt))  # cut by a drain: its time is short
            attempt += 1

    def saved(self, entries: Iterable[Entry]) -> None:
        """These are stored now."""
        for entry in entries:
            self._add(entry)

    async def _read(self, kinds: Collection[str] | None) -> None:
        found = await self._rows.call(partial(self._rows.store.journal, [self._name], kinds))
        for entry in found.get(self._name, ()):
            if entry.uid == self._holder.uid:
                self._add(entry)
                self._stored = max(self._stored, entry.number)

    def _add(self, entry: Entry) -> None:
        place = (entry.kind, entry.key)
        self.unsaved.pop(place, None)
        if place in self._entries:
            return
        self._entries[place] = entry
        if entry.kind == Kind.MESSAGE:
            self._messages.setdefault(parts_of(entry.key)[0], []).append(entry)
        elif entry.kind == Kind.RECEIVED:
            for topic, (calls, taken) in json.loads(entry.payload).items():
                self._base[topic] = max((calls, taken), self._base.get(topic, (0, 0)))
