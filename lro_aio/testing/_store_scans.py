"""The part of the store contract about ``unfinished``, ``list`` and ``purge``."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from typing import Any

import pytest

from lro_aio.core.record import Record, State
from lro_aio.ports import ListQuery, Store
from lro_aio.testing._store_rows import NOW, any_of, create_all, ended, name_of, names, remove, row, update

__all__ = ["ListContract", "PurgeContract", "UnfinishedContract"]


class UnfinishedContract:
    """Which operations have not ended."""

    def test_unfinished_names(self, store: Store) -> None:
        """The names whose rows exist, are not deleted and have not ended."""
        live = [row(i, state=state) for i, state in enumerate((State.PENDING, State.RUNNING, State.SUSPENDED))]
        over = [ended(10 + i, state=state) for i, state in enumerate((State.SUCCEEDED, State.FAILED, State.CANCELLED))]
        create_all(store, *live, *over, row(20, deleted=True), row(21))
        asked = [*names(live), *names(over), name_of(20), name_of(99)]
        assert store.unfinished(asked) == set(names(live))
        assert store.unfinished([]) == set()


class PurgeContract:
    """What retention removes."""

    def test_purge_removes_what_is_past_its_time(self, store: Store) -> None:
        """From that moment on; rows that are live, or not yet expired, stay."""
        create_all(
            store,
            ended(1, expire_time=NOW - 1),
            ended(2, expire_time=NOW),
            ended(3, expire_time=NOW + 0.001),
            ended(4, expire_time=None),
            row(5, deleted=True),
        )
        assert store.purge(now=NOW, limit=100) == 2
        assert sorted(names(store.read([name_of(i) for i in range(1, 6)]))) == [name_of(3), name_of(4), name_of(5)]
        assert store.purge(now=NOW, limit=100) == 0

    def test_purge_stops_at_its_limit(self, store: Store) -> None:
        """The next call goes on, until none is removed."""
        create_all(store, *(ended(i, expire_time=NOW - i) for i in range(7)))
        assert [store.purge(now=NOW, limit=3) for _ in range(4)] == [3, 3, 1, 0]

    def test_a_purged_name_is_free(self, store: Store) -> None:
        """A new row with that name is not taken for the old one."""
        create_all(store, ended(1, expire_time=NOW))
        store.purge(now=NOW, limit=1)
        create_all(store, row(1, uid="another"))
        assert store.purge(now=NOW + 1e6, limit=1) == 0
        assert names(store.list(ListQuery(now=NOW, limit=10))) == [name_of(1)]


class ListContract:
    """Pages of rows."""

    def test_newest_first_then_by_name(self, store: Store) -> None:
        """In whatever order they were written."""
        create_all(
            store,
            row("b", create_time=NOW),
            row("d", create_time=NOW - 1),
            row("a", create_time=NOW),
            row("c", create_time=NOW + 1 / 3),
            row("B", create_time=NOW),
        )
        assert names(store.list(ListQuery(now=NOW, limit=10))) == [name_of(n) for n in ("c", "B", "a", "b", "d")]

    def test_listed_rows_come_whole(self, store: Store) -> None:
        """With all their fields."""
        record = ended(1, response=any_of(b"response"), metadata=any_of(b"m"), wait=None, owner="o", fingerprint="1:a")
        create_all(store, record)
        assert store.list(ListQuery(now=NOW, limit=1)) == [record]

    def test_listed_outlines_have_no_payloads(self, store: Store) -> None:
        """For whoever passes a cancel on to thousands of rows, and needs their names."""
        rows = [row(1, state_data=b"state", state_codec="json;v=1", metadata=any_of(b"m")), ended(2)]
        create_all(store, *rows)
        listed = store.list(ListQuery(now=NOW, limit=10, outline=True))
        assert sorted(listed, key=lambda record: record.name) == [record.outline() for record in rows]

    def test_lists_of_what_is_paused(self, store: Store) -> None:
        """Whatever its state; what is not paused is the rest."""
        kinds = [{"state": State.SUSPENDED}, {"state": State.RUNNING}, {}]
        create_all(store, *(row(i, paused=True, **kind) for i, kind in enumerate(kinds)), row(8), ended(9))
        paused = {name_of(i) for i in range(3)} if store.keeps_journal else set()
        for query, expected in (
            (ListQuery(now=NOW, limit=10, paused=True), paused),
            (ListQuery(now=NOW, limit=10, paused=True, done=False, handler=row(1).handler), paused),
            (ListQuery(now=NOW, limit=10, paused=False), {name_of(i) for i in (0, 1, 2, 8, 9)} - paused),
            (ListQuery(now=NOW, limit=10, paused=True, done=True), set()),
        ):
            assert set(names(store.list(query))) == expected

    def test_pages_that_end_at_a_size_give_every_row_once(self, store: Store) -> None:
        """At least one row each, however small the size; the next page goes on behind it."""
        rows = [row(i, create_time=NOW + i, state_data=b"x" * 1000 * i, state_codec="json;v=1") for i in range(9)]
        create_all(store, *rows)
        for size in (1, 5000, 10**9):
            found: list[Record] = []
            while len(found) < len(rows):
                after = (found[-1].create_time, found[-1].name) if found else None
                page = store.list(ListQuery(now=NOW, limit=5, max_bytes=size, after=after))
                assert page
                assert len(page) <= 5
                assert len(page) >= min(5, len(rows) - len(found)) or sum(one.size for one in page) >= size
                found += page
            assert found == rows[::-1]

    def test_hidden_rows_are_on_no_page(self, store: Store) -> None:
        """Deleted, or at or past the end of their retention; they do not count in the limit."""
        create_all(
            store,
            row(1, deleted=True),
            ended(2, expire_time=NOW),
            ended(3, expire_time=NOW - 1),
            ended(4, expire_time=NOW + 0.001),
            row(5),
        )
        assert names(store.list(ListQuery(now=NOW, limit=2))) == [name_of(4), name_of(5)]

    @pytest.mark.parametrize("limit", [1, 2, 5, 100])
    def test_pages_give_every_row_once(self, store: Store, limit: int) -> None:
        """Even where many rows were created at the same moment, and a page ends among them."""
        moments = [NOW] * 7 + [NOW - 1] * 3 + [NOW + 1, NOW + 1 / 3]
        create_all(store, *(row(i, create_time=moment) for i, moment in enumerate(moments)))
        whole = names(store.list(ListQuery(now=NOW, limit=100)))
        assert len(whole) == len(moments)
        assert names(list(_pages(store, ListQuery(now=NOW, limit=limit)))) == whole

    def test_a_page_starts_after_a_row_that_is_gone(self, store: Store) -> None:
        """The position is a time and a name, not a row."""
        create_all(store, *(row(i) for i in range(6)))
        store.apply([remove(name_of(2))])
        page = store.list(ListQuery(now=NOW, limit=10, after=(NOW, name_of(2))))
        assert names(page) == [name_of(3), name_of(4), name_of(5)]

    def test_nothing_fits_no_limit_or_no_state(self, store: Store) -> None:
        """An empty set of states, or done and a live state, gives no row and no error."""
        create_all(store, row(1), ended(2))
        assert store.list(ListQuery(now=NOW, limit=10, states=frozenset())) == []
        assert store.list(ListQuery(now=NOW, limit=10, done=True, states=frozenset({State.RUNNING}))) == []
        assert store.list(ListQuery(now=NOW, limit=0)) == []

    def test_a_parent_is_matched_whole(self, store: Store) -> None:
        """An empty parent is the collection without one, None is any; no parent matches another that begins with it."""
        parents = ["", "p", "p/q", "pp", "P"]
        create_all(store, *(row(i, parent=parent) for i, parent in enumerate(parents)))
        for i, parent in enumerate(parents):
            page = store.list(ListQuery(now=NOW, limit=10, parent=parent))
            assert names(page) == [name_of(i, parent)]
        assert store.list(ListQuery(now=NOW, limit=10, parent="q")) == []
        assert len(store.list(ListQuery(now=NOW, limit=10))) == len(parents)

    def test_times_of_creation_are_inclusive(self, store: Store) -> None:
        """On both ends, to the last bit."""
        create_all(store, *(row(i, create_time=NOW + i / 3) for i in range(5)))
        page = store.list(ListQuery(now=NOW, limit=10, created_from=NOW + 1 / 3, created_to=NOW + 3 / 3))
        assert names(page) == [name_of(3), name_of(2), name_of(1)]

    def test_lists_follow_the_changes(self, store: Store) -> None:
        """An end moves a row from the live rows to the ended ones."""
        create_all(store, row(1), row(2))
        store.apply([update(name_of(1), state=State.FAILED, check_time=None, end_time=NOW, expire_time=NOW + 9)])
        assert names(store.list(ListQuery(now=NOW, limit=9, done=False))) == [name_of(2)]
        assert names(store.list(ListQuery(now=NOW, limit=9, done=True))) == [name_of(1)]
        assert names(store.list(ListQuery(now=NOW, limit=9, states=frozenset({State.FAILED})))) == [name_of(1)]
        store.apply([update(name_of(2), deleted=True)])
        assert store.list(ListQuery(now=NOW, limit=9, done=False)) == []

    def test_every_condition_holds_with_every_other(self, store: Store) -> None:
        """300 random queries over 120 random rows give what a plain loop over the rows gives."""
        dice = random.Random(160)  # noqa: S311 - not for secrets
        records = [_random_row(dice, number) for number in range(120)]
        create_all(store, *records)
        for _ in range(300):
            query = _random_query(dice, records)
            assert names(store.list(query)) == names(_model(records, query)), query


def _pages(store: Store, query: ListQuery) -> Iterator[Record]:
    for _ in range(1000):
        page = store.list(query)
        assert len(page) <= query.limit
        yield from page
        if len(page) < query.limit:
            return
        query = dataclasses.replace(query, after=(page[-1].create_time, page[-1].name))
    raise AssertionError("the pages never end")


def _random_row(dice: random.Random, number: int) -> Record:
    state = dice.choice(list(State))
    over = state.terminal
    return row(
        number,
        parent=dice.choice(["", "p", "p/q"]),
        state=state,
        handler=dice.choice(["", "job", "other"]),
        create_time=NOW + dice.randrange(12),
        parent_operation=dice.choice(["", "", "operations/parent"]),
        deleted=dice.random() < 0.1,
        check_time=None if over else NOW,
        end_time=NOW if over else None,
        expire_time=NOW + dice.randrange(4) if over else None,
    )


def _random_query(dice: random.Random, records: list[Record]) -> ListQuery:
    last = dice.choice(records)
    options: dict[str, Any] = {
        "parent": dice.choice(["", "p", "p/q", "x"]),
        "done": dice.choice([True, False]),
        "states": frozenset(dice.sample(list(State), dice.randrange(4))),
        "handler": dice.choice(["", "job", "other", "x"]),
        "parent_operation": dice.choice(["", "operations/parent"]),
        "created_from": NOW + dice.randrange(12),
        "created_to": NOW + dice.randrange(12),
        "after": (last.create_time, last.name),
    }
    chosen = dice.sample(sorted(options), dice.randrange(4))
    return ListQuery(
        now=NOW + dice.randrange(4), limit=dice.choice([1, 3, 200]), **{key: options[key] for key in chosen}
    )


def _model(records: list[Record], query: ListQuery) -> list[Record]:
    """The contract of ``ListQuery`` as a plain loop."""

    def fits(record: Record) -> bool:
        return (
            not record.hidden(query.now)
            and query.parent in (None, record.name.rpartition("/operations/")[0])
            and query.done in (None, record.done)
            and (query.states is None or record.state in query.states)
            and query.handler in (None, record.handler)
            and query.parent_operation in (None, record.parent_operation)
            and (query.created_from is None or record.create_time >= query.created_from)
            and (query.created_to is None or record.create_time <= query.created_to)
            and (query.after is None or place(record.create_time, record.name) > place(*query.after))
        )

    def place(create_time: float, name: str) -> tuple[float, str]:
        return -create_time, name

    return sorted(filter(fits, records), key=lambda record: place(record.create_time, record.name))[: query.limit]
