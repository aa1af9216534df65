"""Whether a task does nothing but wait, of itself or for tasks that do nothing but wait.

There is no public way to ask what a task waits for, before Python 3.14. What is read here is private to asyncio; where
it is not as expected, the answer is that the task is busy: its process is then held a little longer, and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Any

__all__ = ["is_blocked"]

_GROUP_EXIT = "TaskGroup.__aexit__"
"""Of asyncio's task group, and of anyio's."""


def is_blocked(task: asyncio.Future[Any], waits_for: Callable[[Any], asyncio.Future[Any] | bool]) -> bool:
    """Whether a task, and all that it waits for, waits.

    Followed are awaited tasks, ``asyncio.gather``, ``asyncio.wait``, ``asyncio.wait_for`` and task groups.

    Args:
        task: The task.
        waits_for: Says of a task that it waits (True), that it waits for another one, or that it is not known (False).
    """
    if task.done():
        return False  # whoever waits for it is about to go on
    known = waits_for(task)
    if isinstance(known, bool):
        if known:
            return True
    else:
        return is_blocked(known, waits_for)
    if not isinstance(task, asyncio.Task):
        return _all_blocked(getattr(task, "_children", ()), waits_for)  # of gather
    waited = getattr(task, "_fut_waiter", None)
    if waited is None:
        return False
    return is_blocked(waited, waits_for) or any(_all_blocked(tasks, waits_for) for tasks in _joined(task))


def _all_blocked(tasks: Iterable[Any], waits_for: Callable[[Any], asyncio.Future[Any] | bool]) -> bool:
    left = [task for task in tasks if not task.done()]
    return bool(left) and all(is_blocked(task, waits_for) for task in left)


def _joined(task: asyncio.Task[Any]) -> Iterator[Iterable[Any]]:
    """The tasks that the coroutines of a task wait for as groups."""
    coroutine: Any = task.get_coro()
    while (frame := getattr(coroutine, "cr_frame", None)) is not None:
        name, code = frame.f_code.co_qualname, frame.f_code
        if name == _GROUP_EXIT:
            yield set(getattr(frame.f_locals.get("self"), "_tasks", ()))
        elif name == "_wait" and code.co_filename == asyncio.tasks.__file__:
            yield set(frame.f_locals.get("fs", ()))
        elif name == "wait_for" and code.co_filename == asyncio.tasks.__file__ and "fut" in frame.f_locals:
            yield {frame.f_locals["fut"]} if isinstance(frame.f_locals["fut"], asyncio.Future) else ()
        coroutine = coroutine.cr_await
