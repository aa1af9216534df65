"""What a run of a handler leaves to be committed."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from lro_aio.core.journal import Entry
from lro_aio.core.queueing import Rest
from lro_aio.core.record import Record

__all__ = ["Event", "Outcome"]

Event = Callable[..., Record | None]


class Outcome(NamedTuple):
    """What a run has to commit: a transition that still wants ``holder`` and ``now``."""

    event: Event
    size: int = 512
    appends: tuple[Entry, ...] = ()
    """To the journal."""
    rests: tuple[Rest, ...] = ()
    """Of queues, or of keys of them."""
    stands: tuple[str, ...] = ()
    """Steps that wait in line on."""
