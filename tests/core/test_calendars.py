"""When the moments of a schedule are: at changes of the clocks, at the ends of months, and for ever."""

from __future__ import annotations

import datetime
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

import pytest

from lro_aio.core.calendars import Calendar, epoch, iso

BERLIN = "Europe/Berlin"


def at(text: str, zone: str = "UTC") -> float:
    return datetime.datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def after(text: str, cron: str, zone: str = BERLIN, *, count: int = 3, every: float = 0) -> list[str]:
    """The next moments, in UTC."""
    return [iso(moment) for moment in islice(Calendar(cron, every, zone).after(at(text)), count)]


def test_a_moment_that_the_clocks_skip_comes_at_the_end_of_the_gap():
    assert after("2026-03-28T12:00", "30 2 * * *") == [
        "2026-03-29T01:00:00Z",  # 3:00 of summer time: there is no 2:30
        "2026-03-30T00:30:00Z",
        "2026-03-31T00:30:00Z",
    ]


def test_moments_of_one_gap_are_one():
    assert after("2026-03-28T12:00", "0,30 2 * * *")[:2] == ["2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"]


def test_a_moment_that_the_clocks_show_twice_comes_once():
    assert after("2026-10-24T12:00", "30 2 * * *") == [
        "2026-10-25T00:30:00Z",
        "2026-10-26T01:30:00Z",
        "2026-10-27T01:30:00Z",
    ]


@pytest.mark.parametrize("since", ["2026-10-25T00:30", "2026-10-25T00:45", "2026-10-25T01:10", "2026-10-25T01:30"])
def test_it_comes_once_wherever_the_search_begins(since):
    assert after(since, "30 2 * * *", count=1) == ["2026-10-26T01:30:00Z"]


def test_what_goes_by_the_hour_goes_on_while_the_clocks_change():
    assert after("2026-10-24T23:40", "*/30 * * * *", count=4) == [
        "2026-10-25T00:00:00Z",
        "2026-10-25T00:30:00Z",
        "2026-10-25T01:00:00Z",
        "2026-10-25T01:30:00Z",
    ]


def test_the_ends_of_months_and_leap_days():
    assert after("2026-01-31T12:00", "0 0 31 * *", "UTC", count=2) == ["2026-03-31T00:00:00Z", "2026-05-31T00:00:00Z"]
    assert after("2026-01-31T12:00", "0 0 L * *", "UTC", count=2) == ["2026-02-28T00:00:00Z", "2026-03-31T00:00:00Z"]
    assert after("2026-01-01T00:00", "0 0 29 2 *", "UTC", count=2) == ["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"]


def test_a_cron_of_six_fields_begins_with_the_seconds():
    assert after("2026-03-01T00:00:10Z", "*/20 * * * * *", "UTC", count=2) == [
        "2026-03-01T00:00:20Z",
        "2026-03-01T00:00:40Z",
    ]


def test_an_interval_counts_from_1970_whatever_the_zone():
    assert after("2026-01-01T00:00:01", "", every=900, count=2) == ["2026-01-01T00:15:00Z", "2026-01-01T00:30:00Z"]


@pytest.mark.parametrize(
    ("cron", "every"), [("30 2 * * *", 0), ("0,30 2 * * *", 0), ("*/30 * * * *", 0), ("5 1-3 * * *", 0), ("", 3600)]
)
@pytest.mark.parametrize("begin", ["2026-03-27T00:00", "2026-10-23T00:00"])
def test_the_way_back_has_the_same_moments(cron, every, begin):
    calendar, first = Calendar(cron, every, BERLIN), at(begin)
    last = first + 4 * 86400
    forwards = list(takewhile(lambda moment: moment <= last, calendar.after(first)))
    assert list(calendar.before(last, first)) == forwards[::-1]


@pytest.mark.parametrize("begin", ["2026-03-28T20:00", "2026-10-24T20:00"])
def test_the_next_moment_is_the_same_from_wherever_it_is_asked_for(begin):
    calendar, first = Calendar("17,47 1,2,3 * * *", 0, BERLIN), int(at(begin))
    known = list(islice(calendar.after(first), 12))
    for moment in range(first, known[-1], 977):
        assert next(calendar.after(moment)) == next(one for one in known if one > moment)


@pytest.mark.parametrize("cron", ["0 0 31 2 *", "0 0 30 2 *", "61 * * * *", "* * *", "every day", "0 0 * 2 MON#5,x"])
def test_a_cron_that_is_malformed_or_never_comes_is_refused(cron):
    with pytest.raises(ValueError, match="cron"):
        Calendar(cron, 0, BERLIN)


@pytest.mark.parametrize("zone", ["Europe/Berlin2", "", "../etc/passwd", "/etc/passwd", "Europe", "x" * 1000, "a\0b"])
def test_a_zone_that_does_not_exist_is_refused(zone):
    with pytest.raises(ValueError, match="timezone"):
        Calendar("30 2 * * *", 0, zone)


def test_a_moment_is_given_with_its_zone():
    assert epoch(datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC), "start") == at("2026-01-01T00:00")
    with pytest.raises(ValueError, match="end must have a time zone"):
        epoch(datetime.datetime(2026, 1, 1), "end")  # noqa: DTZ001 (that is the point)
    with pytest.raises(ValueError, match="end must be finite"):
        epoch(float("nan"), "end")
    with pytest.raises(TypeError, match="end must be"):
        epoch("tomorrow", "end")


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York"])
@pytest.mark.parametrize(("cron", "every"), [("0 0 1 1 *", 0), ("0 0 29 2 *", 0), ("59 23 31 12 *", 0), ("", 86400)])
def test_the_last_moments_are_those_of_the_year_9999(cron, every, zone):
    found = after("9995-06-01T00:00", cron, zone, every=every, count=10_000)
    assert found[-1] > "9996-02-28"
    assert found == sorted(found)


def test_a_calendar_of_which_no_moment_comes_is_refused():
    with pytest.raises(ValueError, match=r"every .* never comes"):
        Calendar("", 1e15, "UTC")
