"""``op.progress``: merged into the metadata at once, written at most once a second."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from google.protobuf import any_pb2, struct_pb2

from lro_aio.core.codec import pack
from lro_aio.core.logs import event
from lro_aio.engine.tasks import Tasks
from lro_aio.engine.timing import sleep_for
from lro_aio.ports import Clock

__all__ = ["Progress"]

logger = logging.getLogger("lro_aio")

INTERVAL = 1.0
"""Seconds between writes; of what comes in between, the last one wins."""


class Progress:
    """The metadata of one operation as its holder knows it, and what of it is not yet written.

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
        self._metadata = metadata
        self._write = write
        self._clock = clock
        self._tasks = tasks
        self._dirty = False
        self._written = float("-inf")
        self._task: asyncio.Task[None] | None = None

    def replace(self, metadata: bytes) -> None:
        """The metadata is written by another way: nothing of before is."""
        self._metadata, self._dirty = metadata, False

    def merged(self, fraction: float | None, message: str | None) -> bytes:
        """The metadata with other values of ``progress`` and ``message``.

        Raises:
            TypeError: It is something else than a ``google.protobuf.Struct``.
        """
        members = struct_pb2.Struct()
        if self._metadata and not any_pb2.Any.FromString(self._metadata).Unpack(members):
            raise TypeError(
                "progress() merges into a google.protobuf.Struct; this operation's metadata is another type"
            )
        if fraction is not None:
            members["progress"] = fraction
        if message is not None:
            members["message"] = message
        return pack(members)

    async def put(self, metadata: bytes) -> None:
        """Write it now if the last write is long enough ago, else when it is."""
        self._metadata, self._dirty = metadata, True
        due = self._written + INTERVAL
        left = due - self._clock.monotonic()
        if left <= 0:
            await self._flush()
        elif self._task is None:
            self._task = self._tasks.spawn(self._flush_after(left), "lro-aio-progress")

    def take(self) -> bytes:
        """What is not yet written, for the caller to write with something else; empty for nothing."""
        if self._task is not None:
            self._task.cancel()
        dirty, self._dirty = self._dirty, False
        return self._metadata if dirty else b""

    async def _flush(self) -> None:
        self._dirty = False
        self._written = self._clock.monotonic()
        try:
            await self._write(self._metadata)
        except BaseException:
            self._dirty = True
            raise

    async def _flush_after(self, delay: float) -> None:
        try:
            await sleep_for(self._clock, delay)
            if self._dirty:
                await self._flush()
        except Exception as exc:  # noqa: BLE001 (nobody awaits this; the handler's own next write says the same)
            logger.debug(
                "progress of %s was not written: %s",
                self._name,
                exc,
                extra=event("progress_not_written", operation=self._name),
            )
        finally:
            self._task = None
