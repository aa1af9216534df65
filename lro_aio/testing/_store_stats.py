"""The part of the store contract about ``stats``: what operators see of all rows together."""

from __future__ import annotations

from typing import Any

import pytest

from lro_aio.core.codes import Code
from lro_aio.core.record import State
from lro_aio.core.stats import Count, Stats
from lro_aio.core.status import cancelled, make_status
from lro_aio.ports import StatsQuery, Store
from lro_aio.testing._store_rows import NOW, create_all, ended, name_of, remove, row, update

__all__ = ["StatsContract"]

CANCELLED = cancelled().SerializeToString()


def stats(store: Store, **options: Any) -> Stats:
    """What the store tells; a store that cannot tell skips the test."""
    found = store.stats(StatsQuery(**{"now": NOW, **options}))
    if found is None:
        pytest.skip("this store cannot tell")
    return found


def counted(found: Stats) -> dict[tuple[str, str], str]:
    """The counts by handler and state, as they are shown."""
    return {(cell.handler, cell.state.value): str(cell.count) for cell in found.counts}


def failed(number: int, code: Code, reason: str, **fields: Any) -> Any:
    """A row that failed so."""
    error = make_status(code, f"sentence {number}", reason=reason).SerializeToString()
    created = NOW - 1000 + number
    return ended(number, **{"state": State.FAILED, "error": error, "create_time": created, "end_time": NOW, **fields})


class StatsContract:
    """Counts that are exact up to a bound, and say so beyond it."""

    def test_stats_of_nothing(self, store: Store) -> None:
        """No number, and no error."""
        assert stats(store) == Stats(time=NOW)

    def test_stats_count_by_handler_and_state(self, store: Store) -> None:
        """Every state, rows without a handler too; what is deleted and has not ended does not count."""
        waits: dict[str, Any] = {"state": State.SUSPENDED, "check_time": NOW + 9}
        create_all(
            store,
            row(1),
            row(2),
            row(3, state=State.RUNNING, owner="me"),
            row(4, **waits),
            row(5, handler="other", **waits),
            row(6, handler="", state=State.RUNNING, check_time=None),
            ended(7),
            ended(8, state=State.CANCELLED, handler="other", error=CANCELLED),
            failed(9, Code.INTERNAL, ""),
            row(10, deleted=True),
        )
        found = stats(store)
        assert counted(found) == {
            ("", "RUNNING"): "1",
            ("job", "PENDING"): "2",
            ("job", "RUNNING"): "1",
            ("job", "SUSPENDED"): "1",
            ("job", "SUCCEEDED"): "1",
            ("job", "FAILED"): "1",
            ("other", "SUSPENDED"): "1",
            ("other", "CANCELLED"): "1",
        }
        assert found.suspended == Count(2)
        assert found.time == NOW

    def test_stats_follow_the_changes(self, store: Store) -> None:
        """An end, a removal and a delete."""
        create_all(store, *(row(i) for i in range(4)))
        store.apply(
            [
                update(name_of(0), state=State.SUCCEEDED, check_time=None, end_time=NOW, expire_time=NOW + 9),
                remove(name_of(1)),
                update(name_of(2), deleted=True),
            ]
        )
        assert counted(stats(store)) == {("job", "PENDING"): "1", ("job", "SUCCEEDED"): "1"}

    def test_a_count_stops_at_its_bound_and_says_so(self, store: Store) -> None:
        """At the bound it is still exact. A bound on one handler says nothing of another."""
        create_all(store, *(ended(i) for i in range(80)), *(ended(100 + i, handler="few") for i in range(3)))
        assert counted(stats(store, most=80)) == {("job", "SUCCEEDED"): "80", ("few", "SUCCEEDED"): "3"}
        found = {cell.handler: cell.count for cell in stats(store, most=20).counts}
        assert found["few"] == Count(3)
        assert found["job"].more
        assert 0 < found["job"].number <= 80

    def test_stats_tell_who_runs_what_and_what_is_paused(self, store: Store) -> None:
        """The busiest first. What runs and is paused counts as both."""
        running: dict[str, Any] = {"state": State.RUNNING, "check_time": NOW + 30}
        create_all(
            store,
            row(1, owner="a", **running),
            row(2, owner="b", **running),
            row(3, owner="b", handler="other", **running),
        )
        found = stats(store)
        assert [(owner.owner, owner.count) for owner in found.running] == [("b", Count(2)), ("a", Count(1))]
        assert found.paused == Count(0)
        if store.keeps_journal:
            create_all(store, row(4, state=State.SUSPENDED, check_time=None, paused=True))
            store.apply([update(name_of(1), paused=True)])
            assert stats(store).paused == Count(2)

    def test_stats_tell_what_is_due_by_route(self, store: Store) -> None:
        """The oldest first, from its moment on; what is never due is left out."""
        create_all(
            store,
            row(1, check_time=NOW - 5),
            row(2, check_time=NOW - 50),
            row(3, check_time=NOW - 20, resume_point="collect"),
            row(4, check_time=NOW, handler="other"),
            row(5, check_time=NOW + 0.001, handler="later"),
            row(6, check_time=None, handler="never", state=State.SUSPENDED),
        )
        found = stats(store)
        assert [(due.handler, due.resume_point, due.since, due.name, due.count) for due in found.due] == [
            ("job", "", NOW - 50, name_of(2), Count(2)),
            ("job", "collect", NOW - 20, name_of(3), Count(1)),
            ("other", "", NOW, name_of(4), Count(1)),
        ]
        assert found.lateness == 50
        assert found.oldest_due == found.due[0]

    def test_stats_group_failures(self, store: Store) -> None:
        """By handler, code and reason, the most frequent first; without what was cancelled, deleted or has expired."""
        create_all(
            store,
            failed(1, Code.NOT_FOUND, "NO_FILE"),
            failed(2, Code.NOT_FOUND, "NO_FILE"),
            failed(3, Code.NOT_FOUND, "NO_DISK"),
            failed(4, Code.INTERNAL, "NO_FILE", handler="other"),
            failed(5, Code.INTERNAL, "", deleted=True),
            failed(6, Code.INTERNAL, "", expire_time=NOW),
            ended(7, state=State.CANCELLED, error=CANCELLED),
        )
        found = [(group.handler, group.code, group.reason, group.count) for group in stats(store).failures]
        assert found == [
            ("job", "NOT_FOUND", "NO_FILE", Count(2)),
            ("job", "NOT_FOUND", "NO_DISK", Count(1)),
            ("other", "INTERNAL", "NO_FILE", Count(1)),
        ]
        newest = stats(store).failures[0]
        assert (newest.name, newest.message, newest.time) == (name_of(2), "sentence 2", NOW)

    def test_stats_read_the_newest_failures_only(self, store: Store) -> None:
        """And say that there are more."""
        create_all(store, *(failed(i, Code.INTERNAL, "OLD" if i < 5 else "NEW") for i in range(8)))
        groups = stats(store, failures=3).failures
        assert [(group.reason, group.count) for group in groups] == [("NEW", Count(3, more=True))]
        assert [(group.reason, group.count) for group in stats(store, failures=8).failures] == [
            ("OLD", Count(5)),
            ("NEW", Count(3)),
        ]
