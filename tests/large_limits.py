"""Limits of a queue that an older release let be larger than a database can count."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from lro_aio.core.queues import Bounds, Rate
from lro_aio.ports import Store
from lro_aio.testing._store_queues import bounded, claim, finish, next_in_line, seated, status
from lro_aio.testing._store_rows import create_all, name_of

TOO_LARGE = f'{{"running":{2**63},"rate":[{2**63},60],"rate_per_key":[{2**65},1]}}'


def check_that_they_hold_nobody_up(store: Store, write: Callable[[str], object]) -> None:
    """Check a store.

    Args:
        store: Empty.
        write: Puts such a text where the store keeps the bounds of its queue, and those that were set by hand.
    """
    sane = Rate(1, per=60)
    bounded(store, rate=sane, rate_per_key=sane)
    create_all(store, seated(0, "a"), seated(1, "a"))
    write(TOO_LARGE)
    assert next_in_line(store) == [name_of(0)]
    assert claim(store, 0, 1) == [0, 1]
    finish(store, 0)
    store.change_queue("q", lambda terms: replace(terms, override=None))
    assert status(store).bounds == Bounds(rate=sane, rate_per_key=sane)
