"""``op.progress``: merged into the metadata at once, written at most once a second."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from google.protobuf import any_pb2, struct_pb2
from google.protobuf.message import Message

from lro_aio.core import progress_pb2
from lro_aio.core.codec import pack
from lro_aio.core.errors import StoreUnavailableError
from lro_aio.core.logs import event
from lro_aio.core.status import utf8
from lro_aio.engine.tasks import Tasks
from lro_aio.engine.timing import sleep_for
from lro_aio.ports import Clock

__all__ = ["Progress"]

logger = logging.getLogger("lro_aio")

INTERVAL = 1.0
"""Seconds between writes; of what comes in between, the last one wins."""


class Progress:
    """The metadata of one operation as its holder knows it, and what of it is not yet written.

    Progress is for whoever watches, and never a reason to stop the work: what a store that is away does not take is
    kept, and written a second later or with the operation's next write.

    Args:
        name: The operation's.
        metadata: As the row has it.
        write: Writes metadata now.
        clock: Engine time.
        tasks: Owns the task that writes later.
    """

    def __init__(
        self, name: str, metadata: bytes, write: Callable[[bytes], Awaitable[None]], *, clock: Clock, tasks: Tasks
    ) -> None:
        self._name = name
        self._metadata = self._stored = metadata
        self._write = write
        self._clock = clock
        self._tasks = tasks
        self._dirty = False
        self._written = float("-inf")
        self._task: asyncio.Task[None] | None = None

    def merged(self, fraction: float | None, message: str | None) -> bytes:
        """The metadata with other values of ``progress`` and ``message``.

        Raises:
            TypeError: It is something else than a ``google.protobuf.Struct``.
        """
        members = _members(self._metadata)
        if members is None and self._dirty:
            members = _members(self._stored)  # of another type, and not written yet: the last one wins
        if members is None:
            raise TypeError(
                "progress() merges into a google.protobuf.Struct; this operation's metadata is another type"
            )
        if fraction is not None:
            members["progress"] = fraction
        if message is not None:
            members["message"] = utf8(message)
        return pack(members)

    @property
    def counts(self) -> bool:
        """Whether the metadata counts: is an ``lro.v1.Progress``."""
        return bool(self._metadata) and any_pb2.Any.FromString(self._metadata).Unpack(progress_pb2.Progress())

    def counted(self, told: Mapping[str, Any]) -> bytes:
        """The metadata with other values of these fields.

        Raises:
            TypeError: It is something else than an ``lro.v1.Progress``.
        """
        counts = progress_pb2.Progress()
        if self._metadata and not any_pb2.Any.FromString(self._metadata).Unpack(counts):
            raise TypeError("progress() counts in an lro.v1.Progress; this operation's metadata is another type")
        for name, value in told.items():
            if isinstance(value, Message):
                getattr(counts, name).CopyFrom(value)
            else:
                setattr(counts, name, value)
        return pack(counts)

    async def put(self, metadata: bytes) -> None:
        """Write it now if the last write is long enough ago, else when it is."""
        self._metadata, self._dirty = metadata, True
        left = self._written + INTERVAL - self._clock.monotonic()
        if left <= 0:
            await self._flush()
        else:
            self._flush_later(left)

    async def replace(self, metadata: bytes, *, keep: bool) -> None:
        """Write other metadata now.

        Args:
            metadata: Instead of what there is.
            keep: Whether what a store that is away does not take is written later. Otherwise it is forgotten.

        Raises:
            StoreUnavailableError: Nothing is known of the write; not where it is kept.
        """
        before = self._metadata, self._dirty
        self._metadata, self._dirty = metadata, True
        try:
            await self._flush(keep=keep)
        except BaseException:
            if self._metadata is metadata:
                self._metadata, self._dirty = before
            raise

    def keep(self, metadata: bytes) -> None:
        """Write other metadata with the operation's next write, and not before."""
        self._metadata, self._dirty = metadata, True

    def take(self) -> bytes:
        """What is not yet written, for the caller to write with something else; empty for nothing."""
        if self._task is not None:
            self._task.cancel()
        dirty, self._dirty = self._dirty, False
        return self._metadata if dirty else b""

    async def _flush(self, *, keep: bool = True) -> None:
        metadata, self._dirty = self._metadata, False
        self._written = self._clock.monotonic()
        try:
            await self._write(metadata)
        except StoreUnavailableError as exc:
            self._dirty = True
            if not keep:
                raise
            logger.warning(
                "the progress of %s is written later: %s",
                self._name,
                exc,
                extra=event("progress_kept", operation=self._name),
            )
            self._flush_later(INTERVAL)
        except BaseException:
            self._dirty = True
            raise
        else:
            self._stored = metadata

    def _flush_later(self, delay: float) -> None:
        if self._task is None:
            self._task = self._tasks.spawn(self._flush_after(delay), "lro-aio-progress")

    async def _flush_after(self, delay: float) -> None:
        try:
            while True:
                await sleep_for(self._clock, delay)
                if not self._dirty:
                    return
                await self._flush()
                delay = INTERVAL
        except Exception as exc:  # noqa: BLE001 (nobody awaits this; the handler's own next write says the same)
            logger.debug(
                "progress of %s was not written: %s",
                self._name,
                exc,
                extra=event("progress_not_written", operation=self._name),
            )
        finally:
            self._task = None


def _members(metadata: bytes) -> struct_pb2.Struct | None:
    """The members of a packed ``google.protobuf.Struct``, none for no metadata; None for another type."""
    members = struct_pb2.Struct()
    return members if not metadata or any_pb2.Any.FromString(metadata).Unpack(members) else None
