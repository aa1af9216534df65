"""Counts that say where they stop, and failures in groups."""

from __future__ import annotations

from lro_aio.core import stats
from lro_aio.core.codes import Code
from lro_aio.core.stats import Count, FoundFailure, count_json, grouped, total
from lro_aio.core.status import make_status


def found(name: str, code: Code, reason: str, time: float = 1.0) -> FoundFailure:
    error = make_status(code, f"sentence of {name}", reason=reason).SerializeToString()
    return FoundFailure(name, "job", error, time)


def test_a_count_says_whether_there_are_more() -> None:
    assert [str(Count.up_to(number, 10_000)) for number in (0, 9_999, 10_000, 10_001)] == [
        "0",
        "9,999",
        "10,000",
        "10,000+",
    ]


def test_a_count_in_json_has_more_only_where_there_are() -> None:
    assert [count_json(Count(3)), count_json(Count(3, more=True))] == [{"count": 3}, {"count": 3, "more": True}]


def test_a_sum_has_more_where_one_of_its_parts_has() -> None:
    assert total([]) == Count(0)
    assert total([Count(2), Count(3)]) == Count(5)
    assert str(total([Count(2, more=True), Count(3)])) == "5+"


def test_a_group_has_the_newest_first_and_the_time_of_the_last_end() -> None:
    failures = [found("new", Code.ABORTED, "A", time=3.0), found("old", Code.ABORTED, "A", time=7.0)]
    [group] = grouped(failures, more=True)
    assert (group.name, group.message, group.time) == ("new", "sentence of new", 7.0)
    assert group.count == Count(2, more=True)


def test_an_error_that_cannot_be_read_is_a_group_too() -> None:
    groups = grouped([FoundFailure("a", "job", b"\xff", 1.0), found("b", Code.ABORTED, "A")], more=False)
    assert [(group.code, group.count.number) for group in groups] == [("ABORTED", 1), ("UNKNOWN", 1)]


def test_what_is_as_frequent_comes_by_name() -> None:
    failures = [found("a", Code.NOT_FOUND, "B"), found("b", Code.NOT_FOUND, "A"), found("c", Code.ABORTED, "Z")]
    assert [(group.code, group.reason) for group in grouped(failures, more=False)] == [
        ("ABORTED", "Z"),
        ("NOT_FOUND", "A"),
        ("NOT_FOUND", "B"),
    ]


def test_an_error_that_is_found_again_is_read_once() -> None:
    failures = [found(str(number), Code.ABORTED, f"A{number}") for number in range(50)]
    first = grouped(failures, more=False)
    known = stats._remembered.cache_info()
    assert grouped(failures, more=False) == first
    assert stats._remembered.cache_info().misses == known.misses


def test_a_large_error_is_not_kept_in_memory() -> None:
    known = stats._remembered.cache_info()
    [group] = grouped([found("a", Code.ABORTED, "A" * stats.SMALL)], more=False)
    assert group.reason == "A" * stats.SMALL
    assert stats._remembered.cache_info() == known
