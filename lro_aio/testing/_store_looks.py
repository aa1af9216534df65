"""The part of the store contract about ``look``: what is due for a sweep, and when the next scan is."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from lro_aio.core.record import Record, State
from lro_aio.ports import Look, Route, Store
from lro_aio.testing._store_rows import NOW, any_of, create_all, ended, name_of, names, remove, row, update

__all__ = ["LookContract"]

JOB: Route = ("job", "")
_ROUTES: list[Route] = [JOB, ("job", "collect"), ("other", "collect"), ("", ""), ("none", "")]
_ALL: list[Route] = [("job", None), ("lost", None)]


def look(store: Store, *, routes: Sequence[Route] = (JOB,), now: float = NOW, **options: Any) -> Look:
    """A scan by a process that holds nothing."""
    return store.look(**{"now": now, "routes": routes, "limit": 100, "owner": "nobody", **options})


def due(store: Store, **options: Any) -> list[str]:
    """The names of what is due."""
    return names(look(store, **options).due)


class LookContract:
    """What a sweep's scan finds."""

    def test_nothing_is_found_where_nothing_is(self, store: Store) -> None:
        """An empty store is not a special case."""
        assert look(store, overdue=NOW) == Look([], None, None)

    def test_a_row_is_due_from_its_moment_on(self, store: Store) -> None:
        """From equality on, not before; a row without a time is never due."""
        create_all(store, row(1, check_time=NOW), row(2, check_time=NOW + 0.001), row(3, check_time=None))
        assert due(store) == [name_of(1)]
        assert due(store, now=NOW - 0.001) == []
        assert due(store, now=NOW + 1) == [name_of(1), name_of(2)]

    def test_due_rows_come_without_their_payloads(self, store: Store) -> None:
        """With all their other fields. Deleted rows too: they have to run to their end."""
        record = row(1, deleted=True, state_data=b"state", state_codec="json;v=1", metadata=any_of(b"m"))
        create_all(store, record)
        assert look(store).due == [record.outline()]
        assert record.outline() != record

    def test_a_route_is_handler_and_resume_point(self, store: Store) -> None:
        """Both must match; ("", "") stands for the rows that their creators drive."""
        create_all(
            store,
            row(1),
            row(2, resume_point="collect"),
            row(3, handler="other"),
            row(4, handler="other", resume_point="collect"),
            row(5, handler="", state=State.RUNNING),
        )
        assert {route: due(store, routes=[route]) for route in _ROUTES} == {
            ("job", ""): [name_of(1)],
            ("job", "collect"): [name_of(2)],
            ("other", "collect"): [name_of(4)],
            ("", ""): [name_of(5)],
            ("none", ""): [],
        }
        assert due(store, routes=[]) == []
        assert set(due(store, routes=[*_ROUTES, JOB])) == {name_of(i) for i in (1, 2, 4, 5)}

    def test_a_route_may_be_all_points_of_a_handler(self, store: Store) -> None:
        """Whatever its rows have; for what is due, for the next check and for what nobody runs."""
        create_all(
            store,
            row(1),
            row(2, resume_point="a", check_time=NOW - 1),
            row(3, resume_point="z", check_time=NOW - 2),
            row(4, handler="job2", check_time=NOW - 3),
            row(5, handler="jo", resume_point="a", check_time=NOW - 3),
            row(6, resume_point="later", check_time=NOW + 5),
            row(7, handler="zzz", check_time=NOW + 1),
        )
        assert due(store, routes=[("job", None)]) == [name_of(3), name_of(2), name_of(1)]
        assert due(store, routes=[("job", None), JOB], limit=2) == [name_of(3), name_of(2)]
        assert due(store, routes=[("zz", None), ("", None)]) == []
        assert look(store, routes=[("job", None)]).next_check == NOW + 5
        assert look(store, routes=[("job", None), ("jo", "a")], overdue=NOW).unknown == ("job2", "")
        assert look(store, routes=[("job", None), ("jo", None), ("job2", None)], overdue=NOW).unknown is None

    def test_names_of_routes_are_data(self, store: Store) -> None:
        """They may hold any printable text: no character separates a handler from its resume point, or ends either."""
        odd: list[Route] = [
            ("a", "b c"),
            ("a b", "c"),
            ("a' OR '1'='1", ""),
            ("Grüße", "世界 %"),
            ("ab", "c"),
            ("A", "b c"),
        ]
        create_all(store, *(row(i, handler=route[0], resume_point=route[1]) for i, route in enumerate(odd)))
        for i, route in enumerate(odd):
            assert due(store, routes=[route]) == [name_of(i)]

    def test_the_soonest_come_first_over_all_routes(self, store: Store) -> None:
        """The limit takes the soonest of all, not of each route."""
        create_all(store, *(row(i, check_time=NOW - i, resume_point="collect" if i % 2 else "") for i in range(10)))
        routes = [JOB, ("job", "collect")]
        assert due(store, routes=routes) == [name_of(i) for i in reversed(range(10))]
        assert due(store, routes=routes, limit=3) == [name_of(9), name_of(8), name_of(7)]

    def test_a_limit_of_none_leaves_the_rest_of_the_answer(self, store: Store) -> None:
        """No row is returned then; the other two fields are as always."""
        create_all(store, row(1), row(2, check_time=NOW + 5), row(3, handler="other"))
        assert look(store, limit=0, overdue=NOW) == Look([], NOW + 5, ("other", ""))

    def test_a_route_given_twice_gives_its_rows_once(self, store: Store) -> None:
        """Routes are a set, passed as a sequence."""
        create_all(store, row(1, check_time=NOW - 1), row(2))
        assert due(store, routes=[JOB, JOB], limit=2) == [name_of(1), name_of(2)]

    def test_rows_of_other_routes_starve_nobody(self, store: Store) -> None:
        """Rule 14: a hundred rows that cannot run here, all due earlier, leave the limit to those that can."""
        others = [row(i, handler="unknown", check_time=NOW - 1000) for i in range(50)]
        points = [row(50 + i, resume_point="unknown", check_time=NOW - 1000) for i in range(50)]
        create_all(store, *others, *points, row(200), row(201))
        assert sorted(due(store, limit=2)) == [name_of(200), name_of(201)]

    def test_rows_that_the_owner_holds_are_left_out(self, store: Store) -> None:
        """Out of what is due, of the limit and of the next check. "" holds none, not even rows without a holder."""
        held = [row(i, owner="me", state=State.RUNNING, check_time=NOW - 9) for i in range(5)]
        create_all(store, *held, row(10, check_time=NOW - 1), row(11, owner="you", state=State.RUNNING))
        assert due(store, owner="me", limit=2) == [name_of(10), name_of(11)]
        assert due(store, owner="you") == [*names(held), name_of(10)]
        assert len(due(store, owner="")) == len(due(store)) == 7
        store.apply([update(name_of(10), owner="me", check_time=NOW + 1), update(name_of(11), check_time=NOW + 2)])
        assert look(store, owner="me").next_check == NOW + 2
        assert look(store, owner="you").next_check == NOW + 1
        assert look(store, owner="").next_check == NOW + 1
        store.apply([update(name_of(11), owner="me")])
        assert look(store, owner="me") == Look([], None, None)

    def test_the_owner_may_ask_for_its_own_rows(self, store: Store) -> None:
        """They are returned with the others, in order; the next check never counts them."""
        create_all(
            store,
            row(1, owner="me", state=State.RUNNING, check_time=NOW - 9),
            row(2, check_time=NOW - 10),
            row(3, owner="you", state=State.RUNNING, check_time=NOW - 5),
            row(4, owner="me", state=State.RUNNING, check_time=NOW + 1),
        )
        found = look(store, owner="me", own=True)
        assert names(found.due) == [name_of(2), name_of(1), name_of(3)]
        assert found.next_check is None

    def test_due_follows_the_changes(self, store: Store) -> None:
        """A later time, another route, an end or a removal take the row out."""
        create_all(store, *(row(i) for i in range(5)))
        store.apply(
            [
                update(name_of(0), check_time=NOW + 10),
                update(name_of(1), resume_point="collect"),
                update(name_of(2), state=State.FAILED, check_time=None, end_time=NOW, expire_time=NOW + 10),
                remove(name_of(3)),
            ]
        )
        assert due(store) == [name_of(4)]

    def test_an_end_that_has_still_work_to_do_is_due_by_its_time(self, store: Store) -> None:
        """For example, a cancel that must reach the children."""
        create_all(store, ended(1, check_time=NOW, cancel_children=True), ended(2, check_time=NOW + 1), ended(3))
        found = look(store)
        assert names(found.due) == [name_of(1)]
        assert found.next_check == NOW + 1

    def test_the_next_check_is_the_least_time_to_come(self, store: Store) -> None:
        """Among the routes' rows. What is due now does not count, nor what the limit cut off. None: nothing to come."""
        create_all(
            store,
            row(1, check_time=None),
            row(2, check_time=NOW + 50),
            row(3, check_time=NOW + 20, resume_point="collect"),
            row(4, check_time=NOW + 1 / 3, handler="other"),
            row(5, check_time=NOW),
            row(6, check_time=NOW - 1),
        )
        assert look(store, limit=1).next_check == NOW + 50
        assert look(store, routes=[JOB, ("job", "collect")]).next_check == NOW + 20
        assert look(store, routes=[("job", "none")]).next_check is None
        assert look(store, routes=[]).next_check is None
        assert look(store, now=NOW - 0.5).next_check == NOW
        store.apply([update(name_of(2), check_time=NOW + 1 / 3)])
        assert look(store).next_check == NOW + 1 / 3
        assert look(store, now=NOW + 1 / 3).next_check is None

    def test_a_route_that_nobody_runs_is_named(self, store: Store) -> None:
        """A route with a row due by then; only where it is asked for, and never one of the given routes."""
        create_all(store, row(1, check_time=NOW - 100), row(2, handler="lost", check_time=NOW - 10))
        assert look(store).unknown is None
        assert look(store, overdue=NOW - 10).unknown == ("lost", "")
        assert look(store, overdue=NOW - 10.001).unknown is None
        assert look(store, routes=[JOB, ("lost", "")], overdue=NOW).unknown is None
        assert look(store, routes=[], overdue=NOW - 50).unknown == JOB

    def test_an_unknown_resume_point_is_a_route_too(self, store: Store) -> None:
        """So is the route of rows without a handler. A row that is never due gives none, nor does one's own row."""
        create_all(
            store,
            row(1),
            row(2, handler="held", owner="me", state=State.RUNNING),
            row(3, handler="ended", state=State.FAILED, check_time=None, end_time=NOW, expire_time=NOW + 1),
        )
        assert look(store, owner="me", overdue=NOW).unknown is None
        create_all(store, row(4, resume_point="collect"))
        assert look(store, overdue=NOW, owner="me").unknown == ("job", "collect")
        store.apply([update(name_of(4), resume_point="", handler="", state=State.RUNNING)])
        assert look(store, overdue=NOW, owner="me").unknown == ("", "")

    def test_every_unknown_route_is_found_in_the_end(self, store: Store) -> None:
        """By asking again with the routes known so far, among 200 due rows."""
        create_all(store, *(row(i, handler=f"lost-{i % 7}", resume_point=f"{i % 3}") for i in range(200)))
        known: list[Route] = [JOB]
        for _ in range(100):
            route = look(store, routes=known, limit=0, overdue=NOW).unknown
            if route is None:
                break
            assert route not in known
            known.append(route)
        assert sorted(known[1:]) == sorted({(f"lost-{i % 7}", f"{i % 3}") for i in range(200)})

    def test_every_look_gives_what_a_plain_loop_gives(self, store: Store) -> None:
        """200 random scans over 150 random rows."""
        dice = random.Random(14)  # noqa: S311 - not for secrets
        records = [_random_row(dice, number) for number in range(150)]
        create_all(store, *records)
        for _ in range(200):
            asked: dict[str, Any] = {
                "now": NOW + dice.randrange(-5, 5),
                "routes": dice.sample([*_ROUTES, *_ALL], dice.randrange(len(_ROUTES))),
                "limit": dice.choice([0, 1, 5, 500]),
                "owner": dice.choice(["", "me", "you", "nobody"]),
                "own": dice.choice([True, False]),
                "overdue": dice.choice([None, NOW - 3]),
            }
            _check(store.look(**asked), records, **asked)


def _random_row(dice: random.Random, number: int) -> Record:
    handler, point = dice.choice([*_ROUTES, ("lost", "")])
    return row(
        number,
        handler=handler,
        resume_point=point,
        owner=dice.choice(["", "", "me", "you"]),
        check_time=dice.choice([None, NOW + dice.randrange(-8, 8)]),
    )


def _check(
    found: Look,
    records: list[Record],
    *,
    now: float,
    routes: list[Route],
    limit: int,
    owner: str,
    own: bool,
    overdue: float | None,
) -> None:
    """The contract of ``look`` as a plain loop; rows of the same moment may come in any order."""

    def wanted(record: Record) -> bool:
        return (record.handler, record.resume_point) in routes or (record.handler, None) in routes

    checked = [(record, record.check_time) for record in records if record.check_time is not None]
    others = [(record, when) for record, when in checked if not owner or record.owner != owner]
    ready = sorted(when for record, when in (checked if own else others) if when <= now and wanted(record))
    assert [record.check_time for record in found.due] == ready[:limit]
    assert len({record.name for record in found.due}) == len(found.due)
    assert all(map(wanted, found.due))
    assert own or not owner or all(record.owner != owner for record in found.due)
    coming = [w for record, w in others if w > now and wanted(record)]
    assert found.next_check == min(coming, default=None)
    unknown = {(r.handler, r.resume_point) for r, w in others if overdue is not None and w <= overdue and not wanted(r)}
    assert found.unknown in unknown if unknown else found.unknown is None
