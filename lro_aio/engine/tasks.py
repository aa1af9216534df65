"""Tasks that nobody awaits on the spot, and their owner: none is lost, and none outlives the client."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

__all__ = ["Tasks"]


class Tasks:
    """Background tasks of one collaborator. Each must tell of its own errors: nobody reads its result."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None], name: str | None = None) -> asyncio.Task[None]:
        """Run it in the background."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def cancel(self) -> None:
        """Cancel all of them."""
        for task in self._tasks:
            task.cancel()

    async def wait(self, timeout: float) -> None:
        """Return when all of them have ended, or after ``timeout`` real seconds."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout)
