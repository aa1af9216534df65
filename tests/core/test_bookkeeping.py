"""Rule 11: how long the row of a child that has ended is kept, and when it is looked at next."""

import pytest

from lro_aio.core import bookkeeping
from lro_aio.core.record import Record, State

NOW, RETENTION = 1000.0, 100.0


def row(**columns):
    return Record(name="operations/a", uid="u", create_time=0.0, update_time=0.0, **columns)


CHILD = row(
    state=State.SUCCEEDED, end_time=950.0, expire_time=1050.0, check_time=1000.0, parent_operation="operations/p"
)
LIVES = row(state=State.SUSPENDED)
ENDED = row(state=State.FAILED, end_time=990.0, expire_time=1090.0)
LONG_AGO = row(state=State.FAILED, end_time=10.0, expire_time=110.0)


@pytest.mark.parametrize(
    ("parent", "expires", "check"),
    [(None, 1050.0, None), (LONG_AGO, 1050.0, None), (ENDED, 1090.0, None), (LIVES, 1100.0, 1050.0)],
)
def test_a_child_is_kept_from_the_end_of_its_parent_on(parent, expires, check):
    kept = bookkeeping.keep_for_parent(CHILD, parent=parent, now=NOW, retention=RETENTION)
    assert (kept.expire_time, kept.check_time, kept.revision) == (expires, check, CHILD.revision)


@pytest.mark.parametrize("columns", [{"deleted": True}, {"cancel_children": True}, {"expire_time": None}])
def test_a_row_that_is_to_go_or_has_more_to_do_stays_as_it_is(columns):
    child = CHILD.evolve(**columns)
    assert bookkeeping.keep_for_parent(child, parent=LIVES, now=NOW, retention=RETENTION) is child
    assert bookkeeping.keep(child, until=5000.0) is child


def test_keeping_never_makes_it_go_earlier():
    assert bookkeeping.keep(CHILD, until=1.0).expire_time == CHILD.expire_time
