"""Schedules: each moment starts one operation, whatever happens to processes, clocks and the operations themselves."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
from zoneinfo import ZoneInfo

import pytest

import lro_aio as lro
from lro_aio.core.calendars import iso
from lro_aio.core.schedules import SETTLED
from lro_aio.testing import ManualClock

DAY = 86400.0


def at(text, zone="UTC"):
    return datetime.datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


NEW_YEAR = at("2026-01-01T00:00")


@pytest.fixture
def lro_clock():
    return ManualClock(NEW_YEAR)


@pytest.fixture
def ran():
    """(time, state) of each run of ``report``."""
    return []


@pytest.fixture
def handlers(ran):
    registry = lro.Handlers()

    @registry.handler(resume_points=("late",))
    async def report(op: lro.Operation[float]) -> lro.Suspended | None:
        """Takes as many seconds as its state says."""
        if op.resume_point == "late":
            return None
        ran.append(op.client.clock.time())
        return op.suspend(resume_at="late", sleep=op.state) if op.state else None

    @registry.handler
    async def fails(op: lro.Operation[None]) -> None:
        raise lro.failures.NotFoundError("no file")

    return registry


def nightly(**options):
    return lro.Schedule("nightly", "report", **{"cron": "30 2 * * *", **options})


@pytest.fixture
def opened(open_client, store, handlers):
    """``await opened(*schedules)``: an open client that declares them, once their rows wait."""

    async def make(*schedules, where=store, **options):
        client = await open_client(where, handlers=handlers, schedules=schedules, **options)
        await client.clock.settle()
        return client

    return make


def when(ran):
    return [iso(moment) for moment in ran]


@pytest.mark.asyncio
async def test_each_moment_starts_an_operation(opened, ran, lro_clock):
    client = await opened(nightly())
    await lro_clock.advance(3 * DAY)
    assert when(ran) == ["2026-01-01T02:30:00Z", "2026-01-02T02:30:00Z", "2026-01-03T02:30:00Z"]
    told = await client.schedules.get("nightly")
    assert [iso(moment) for moment in told.upcoming[:2]] == ["2026-01-04T02:30:00Z", "2026-01-05T02:30:00Z"]
    assert (told.started, told.skipped, told.missed, told.failures) == (3, 0, 0, 0)
    assert told.last == ran[-1]
    assert (await client.get_operation(told.last_operation)).done


@pytest.mark.parametrize(
    ("day", "change"), [("2026-03-28", "2026-03-29T01:00:00Z"), ("2026-10-24", "2026-10-25T00:30:00Z")]
)
@pytest.mark.asyncio
async def test_berlin_when_the_clocks_change(opened, ran, lro_clock, day, change):
    lro_clock._now = at(f"{day}T12:00")
    await opened(nightly(timezone="Europe/Berlin"))
    await lro_clock.advance(3 * DAY)
    assert len(ran) == 3
    assert when(ran)[0] == change


@pytest.mark.asyncio
async def test_an_interval(opened, ran, lro_clock):
    await opened(nightly(cron="", every=datetime.timedelta(hours=6)))
    await lro_clock.advance(DAY)
    assert [moment[11:16] for moment in when(ran)] == ["06:00", "12:00", "18:00", "00:00"]


@pytest.mark.asyncio
async def test_it_is_not_among_the_operations_of_the_application(opened, lro_clock):
    client = await opened(nightly())
    assert [op.name async for op in client.iter_operations()] == []
    assert (await client.cancel_operations("*")).count.number == 0
    assert (await client.describe("schedules/operations/nightly")).waits_for.startswith("until 2026-01-01 02:30:00")


@pytest.mark.asyncio
async def test_it_needs_no_slot(opened, ran, lro_clock):
    client = await opened(nightly(overlap="allow"), max_running=1)
    gate = client.handlers.handler("gate")

    @gate
    async def hold(op: lro.Operation[None]) -> None:
        await op.wait(sleep=2 * DAY)

    await client.start("gate")
    await lro_clock.advance(1.5 * DAY)
    told = await client.schedules.get("nightly")
    assert (told.started, ran) == (2, [])
    await lro_clock.advance(DAY)
    assert len(ran) == 3


@pytest.mark.slow
@pytest.mark.asyncio
async def test_the_row_stays_as_small_as_it_was(opened, ran, row, lro_clock):
    await opened(nightly())
    await lro_clock.advance(20 * DAY)
    before = row("schedules/operations/nightly")
    await lro_clock.advance(60 * DAY)
    after = row("schedules/operations/nightly")
    assert len(ran) == 80
    assert after.entries == 0
    assert after.size <= before.size + 16
    assert len(after.trail) <= len(before.trail) + 64


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.asyncio
async def test_ten_years_of_daily_moments(opened, ran, row, lro_clock):
    await opened(nightly(timezone="Europe/Berlin"))
    await lro_clock.advance(at("2036-01-01T00:00") - NEW_YEAR)
    assert len(ran) == len(set(ran)) == 3652
    after = row("schedules/operations/nightly")
    assert (after.entries, after.size < 4096) == (0, True)


@pytest.mark.asyncio
async def test_skip_leaves_moments_out_while_the_last_operation_runs(opened, ran, lro_clock):
    client = await opened(nightly(state=1.5 * DAY))
    await lro_clock.advance(4 * DAY)
    assert [moment[8:10] for moment in when(ran)] == ["01", "03"]
    assert (await client.schedules.get("nightly")).skipped == 2


@pytest.mark.asyncio
async def test_queue_starts_them_one_after_the_other(opened, ran, lro_clock):
    client = await opened(nightly(cron="", every=600, state=900, overlap="queue"))
    await lro_clock.advance(2700)
    assert [moment[14:19] for moment in when(ran)] == ["10:00", "25:00", "40:00"]
    await lro_clock.advance(600)
    told = await client.schedules.get("nightly")
    assert (told.started, told.queued, told.missed) == (4, 1, 0)


@pytest.mark.asyncio
async def test_allow_starts_them_side_by_side(opened, ran, lro_clock):
    await opened(nightly(state=5 * DAY, overlap="allow"))
    await lro_clock.advance(4 * DAY)
    assert len(ran) == 4


@pytest.mark.parametrize(("catch_up", "expected"), [("none", 0), ("one", 1), ("all", 5)])
@pytest.mark.asyncio
async def test_missed_moments(opened, ran, lro_clock, tmp_path, catch_up, expected):
    url = f"sqlite:///{tmp_path}/o.db"
    schedule = nightly(catch_up=catch_up, overlap="allow")
    client = await opened(schedule, where=url)
    await client.aclose()
    await lro_clock.advance(5 * DAY)
    client = await opened(schedule, where=url)
    await lro_clock.advance(1)
    told = await client.schedules.get("nightly")
    assert (len(ran), told.started, told.missed) == (expected, expected, 5 - expected)
    await lro_clock.advance(DAY)
    assert len(ran) == expected + 1


@pytest.mark.asyncio
async def test_of_very_many_missed_moments_a_hundred_are_made_up_for(opened, ran, lro_clock, tmp_path):
    url = f"sqlite:///{tmp_path}/o.db"
    schedule = nightly(cron="* * * * *", catch_up="all", overlap="allow")
    client = await opened(schedule, where=url)
    await client.aclose()
    await lro_clock.advance(30 * DAY)
    client = await opened(schedule, where=url)
    await lro_clock.advance(1)
    assert len(ran) == 100
    assert (await client.schedules.get("nightly")).last == lro_clock.time() - 1


@pytest.mark.asyncio
async def test_a_moment_that_comes_a_little_late_is_not_missed(opened, ran, lro_clock, tmp_path):
    url = f"sqlite:///{tmp_path}/o.db"
    client = await opened(nightly(), where=url)
    await lro_clock.advance(at("2026-01-01T02:29") - NEW_YEAR)
    await client.aclose()
    await lro_clock.advance(120)
    await opened(nightly(), where=url)
    await lro_clock.advance(1)
    assert len(ran) == 1


@pytest.mark.asyncio
async def test_jitter_is_the_same_in_every_process(opened, handlers, ran, lro_clock):
    schedule = nightly(jitter=600)
    await opened(schedule)
    await lro_clock.advance(3 * DAY)
    definition = schedule.defined("report", b"", "", "")
    moments = [at(f"2026-01-0{day}T02:30") for day in (1, 2, 3)]
    assert ran == [definition.comes("nightly", moment) for moment in moments]
    assert all(moment < came < moment + 600 for moment, came in zip(moments, ran, strict=True))
    assert len({came - moment for moment, came in zip(moments, ran, strict=True)}) == 3


@pytest.mark.asyncio
async def test_a_clock_that_steps_back_starts_nothing_twice(opened, ran, lro_clock):
    client = await opened(nightly())
    await lro_clock.advance(DAY)
    lro_clock._now = NEW_YEAR + 3600  # back to before the moment
    await client.sweep()
    await lro_clock.advance(7200)
    assert when(ran) == ["2026-01-01T02:30:00Z"]
    await lro_clock.advance(DAY)
    assert when(ran) == ["2026-01-01T02:30:00Z", "2026-01-02T02:30:00Z"]


@pytest.mark.asyncio
async def test_operations_that_fail_stop_nothing_and_are_counted(opened, lro_clock):
    client = await opened(lro.Schedule("nightly", "fails", cron="30 2 * * *"))
    await lro_clock.advance(5 * DAY)
    told = await client.schedules.get("nightly")
    assert (told.started, told.failures) == (5, 5)


@pytest.mark.asyncio
async def test_a_paused_schedule_starts_nothing_and_makes_up_for_nothing(opened, ran, lro_clock):
    client = await opened(nightly(catch_up="all", overlap="allow"))
    await lro_clock.advance(DAY)
    await client.schedules.pause("nightly", "the disk is full")
    told = await client.schedules.get("nightly")
    assert (told.paused, told.reason) == (True, "the disk is full")
    await lro_clock.advance(5 * DAY)
    assert len(ran) == 1
    await client.schedules.unpause("nightly")
    await client.schedules.unpause("nightly")
    await lro_clock.advance(DAY)
    told = await client.schedules.get("nightly")
    assert (len(ran), told.missed, told.paused, told.reason) == (2, 0, False, "")


@pytest.mark.asyncio
async def test_what_was_missed_before_a_pause_is_made_up_for(opened, ran, lro_clock, tmp_path):
    url = f"sqlite:///{tmp_path}/o.db"
    schedule = nightly(catch_up="all", overlap="allow")
    client = await opened(schedule, where=url)
    await client.aclose()
    await lro_clock.advance(2 * DAY)
    client = await opened(where=url)  # without the schedule
    await client.schedules.pause("nightly")
    await client.aclose()
    await lro_clock.advance(3 * DAY)
    client = await opened(schedule, where=url)
    await client.schedules.unpause("nightly")
    await lro_clock.advance(1)
    assert len(ran) == 2


@pytest.mark.asyncio
async def test_one_that_no_process_declares_rests_and_says_so(opened, ran, lro_clock, tmp_path):
    url = f"sqlite:///{tmp_path}/o.db"
    client = await opened(nightly(catch_up="one"), where=url)
    await client.aclose()
    other = await opened(where=url)
    await lro_clock.advance(3 * DAY)
    [told] = await other.schedules.list()
    assert ran == []
    assert told.reason == "no process that declares it has run since 2026-01-01T02:30:00Z"
    back = await opened(nightly(catch_up="one"), where=url)
    await lro_clock.advance(1)
    assert (len(ran), (await back.schedules.get("nightly")).reason) == (1, "")


@pytest.mark.asyncio
async def test_one_that_is_deleted_is_gone_until_somebody_declares_it(opened, ran, lro_clock, tmp_path):
    url = f"sqlite:///{tmp_path}/o.db"
    client = await opened(nightly(), where=url)
    await client.schedules.delete("nightly")
    assert await client.schedules.list() == []
    await lro_clock.advance(DAY)
    assert ran == []
    await client.aclose()
    await opened(nightly(), where=url)
    await lro_clock.advance(DAY)
    assert len(ran) == 1


@pytest.mark.parametrize("end", ["cancel", "delete"])
@pytest.mark.asyncio
async def test_one_whose_own_operation_was_ended_begins_anew(opened, ran, lro_clock, tmp_path, end):
    url = f"sqlite:///{tmp_path}/o.db"
    client = await opened(nightly(), where=url)
    await getattr(client, f"{end}_operation")("schedules/operations/nightly")
    await lro_clock.advance(2 * DAY)
    assert ran == []
    await client.aclose()
    await opened(nightly(), where=url)
    await lro_clock.advance(DAY)
    assert len(ran) == 1


@pytest.mark.asyncio
async def test_a_rerun_of_its_own_operation_starts_nothing(opened, ran, lro_clock):
    client = await opened(nightly())
    await client.cancel_operation("schedules/operations/nightly")
    again = await client.rerun_operation("schedules/operations/nightly")
    await lro_clock.advance(3 * DAY)
    assert ((await again.fetch()).done, ran) == (True, [])


@pytest.mark.asyncio
async def test_a_fleet_that_finds_it_cancelled_makes_one_new_one(opened, ran, lro_clock, tmp_path):
    url = f"sqlite:///{tmp_path}/o.db"
    first = await opened(nightly(), where=url)
    await first.cancel_operation("schedules/operations/nightly")
    await asyncio.gather(*(opened(nightly(), where=url) for _ in range(5)))
    await lro_clock.advance(2 * DAY)
    assert len(ran) == 2


@pytest.mark.asyncio
async def test_run_starts_one_now(opened, ran, lro_clock):
    client = await opened(nightly())
    first = await client.schedules.run("nightly", request_id="r1")
    again = await client.schedules.run("nightly", request_id="r1")
    other = await client.schedules.run("nightly")
    await lro_clock.settle()
    assert first.name == again.name != other.name
    assert (len(ran), await first.result()) == (2, None)
    with pytest.raises(lro.OperationNotFoundError):
        await client.schedules.run("daily")


@pytest.mark.asyncio
async def test_backfill_starts_each_past_moment_once(opened, ran, lro_clock):
    client = await opened(nightly(overlap="allow"))
    await lro_clock.advance(2 * DAY)
    begin, end = datetime.datetime(2025, 12, 20, 2, 30, tzinfo=datetime.UTC), lro_clock.time()
    made = await client.schedules.backfill("nightly", begin, end, per_second=100)
    again = await client.schedules.backfill("nightly", begin, end, per_second=100)
    await lro_clock.settle()
    assert [op.name for op in made] == [op.name for op in again]
    assert (len(made), len(ran)) == (14, 14)  # two of them had run


@pytest.mark.asyncio
async def test_backfill_refuses_what_it_cannot_mean(opened, lro_clock):
    schedules = (await opened(nightly(cron="* * * * *"))).schedules
    now = lro_clock.time()
    for arguments, problem in [
        ((datetime.datetime(2025, 1, 1), now), "start must have a time zone"),  # noqa: DTZ001 (that is the point)
        ((now - DAY, now + DAY), "end must not be in the future"),
        ((now, now - DAY), "end must be after start"),
        ((now - 30 * DAY, now), "more than 10,000 moments"),
    ]:
        with pytest.raises(ValueError, match=problem):
            await schedules.backfill("nightly", *arguments)
    with pytest.raises(ValueError, match="per_second"):
        await schedules.backfill("nightly", now - DAY, now, per_second=0)


@dataclasses.dataclass
class Day:
    what: str = "sales"
    day: datetime.datetime | None = None


@pytest.mark.asyncio
async def test_an_operation_knows_its_moment(open_client, store, lro_clock):
    registry, days = lro.Handlers(), []

    @registry.handler
    async def report(op: lro.Operation[Day]) -> None:
        days.append((op.state.what, op.state.day.isoformat()))

    schedule = lro.Schedule("nightly", report, cron="30 2 * * *", state=Day("stock"), moment="day", jitter=3600)
    client = await open_client(store, handlers=registry, schedules=[schedule])
    await client.schedules.backfill("nightly", NEW_YEAR - DAY, NEW_YEAR)
    await lro_clock.advance(DAY)
    assert days == [("stock", "2025-12-31T02:30:00+00:00"), ("stock", "2026-01-01T02:30:00+00:00")]


@pytest.mark.parametrize(("member", "state"), [("night", Day()), ("what", [1]), ("day", None)])
@pytest.mark.asyncio
async def test_a_moment_that_has_no_place_in_the_state_is_refused(open_client, store, member, state):
    registry = lro.Handlers()

    @registry.handler(state=type(state) if state is not None else list)
    async def report(op) -> None: ...

    schedule = lro.Schedule("nightly", report, cron="30 2 * * *", state=state, moment=member)
    with pytest.raises(lro.StateCodecError, match=member):
        await open_client(store, handlers=registry, schedules=[schedule])


@pytest.mark.asyncio
async def test_a_fleet_starts_each_moment_once(opened, ran, lro_clock, tmp_path):
    url = f"sqlite:///{tmp_path}/o.db"
    clients = [await opened(nightly(overlap="allow"), where=url) for _ in range(10)]
    for _ in range(5):
        await lro_clock.advance(DAY)
        for client in clients:
            await client.sweep()
    await lro_clock.settle()
    assert len(ran) == len(set(ran)) == 5
    assert (await clients[-1].schedules.get("nightly")).started == 5


@pytest.mark.asyncio
async def test_another_definition_takes_effect_when_a_client_opens(opened, ran, lro_clock, tmp_path):
    url = f"sqlite:///{tmp_path}/o.db"
    old = await opened(nightly(), where=url)
    await lro_clock.advance(DAY)
    new = await opened(nightly(cron="0 12 * * *"), where=url)
    await lro_clock.settle()
    for client in (old, new):
        told = await client.schedules.get("nightly")
        assert (told.cron, told.version, iso(told.upcoming[0])) == ("0 12 * * *", 2, "2026-01-02T12:00:00Z")
    await lro_clock.advance(2 * DAY)
    assert when(ran) == ["2026-01-01T02:30:00Z", "2026-01-02T12:00:00Z", "2026-01-03T12:00:00Z"]


@pytest.mark.asyncio
async def test_a_moment_that_came_before_another_definition_is_one_of_the_old(opened, ran, lro_clock, tmp_path):
    url = f"sqlite:///{tmp_path}/o.db"
    old = await opened(nightly(catch_up="one"), where=url)
    await old.aclose()
    await lro_clock.advance(DAY / 4)
    new = await opened(nightly(cron="0 12 * * *", catch_up="one"), where=url)
    await lro_clock.advance(1)
    told = await new.schedules.get("nightly")
    assert (len(ran), told.last, told.version) == (1, at("2026-01-01T02:30"), 2)
    await lro_clock.advance(DAY)
    assert when(ran)[1:] == ["2026-01-01T12:00:00Z"]


@pytest.mark.asyncio
async def test_a_definition_that_was_just_replaced_comes_back_only_if_its_process_stays(
    opened, lro_clock, tmp_path, caplog
):
    url = f"sqlite:///{tmp_path}/o.db"
    await opened(nightly(), where=url)
    new = await opened(nightly(cron="0 12 * * *"), where=url)
    old = await opened(nightly(), where=url)  # a process of the old release that begins anew in the midst of a deploy
    assert "schedule_declared_twice" in [record.event for record in caplog.records]
    assert (await new.schedules.get("nightly")).cron == "0 12 * * *"
    await old.aclose()
    await lro_clock.advance(2 * SETTLED)
    assert (await new.schedules.get("nightly")).cron == "0 12 * * *"
    await opened(nightly(), where=url)  # it is rolled back
    assert (await new.schedules.get("nightly")).cron == "30 2 * * *"
    await opened(nightly(cron="0 12 * * *"), where=url)
    await lro_clock.advance(SETTLED)
    assert (await new.schedules.get("nightly")).cron == "0 12 * * *"  # it stayed


@pytest.mark.asyncio
async def test_a_paused_schedule_takes_another_definition(opened, ran, lro_clock, tmp_path):
    url = f"sqlite:///{tmp_path}/o.db"
    first = await opened(nightly(), where=url)
    await first.schedules.pause("nightly")
    second = await opened(nightly(cron="0 12 * * *"), where=url)
    assert (await first.schedules.get("nightly")).cron == "0 12 * * *"
    await lro_clock.advance(DAY)
    await second.schedules.unpause("nightly")
    await lro_clock.advance(DAY)
    assert when(ran) == ["2026-01-02T12:00:00Z"]


@pytest.mark.asyncio
async def test_a_front_end_declares_and_runs_nothing(opened, ran, lro_clock, tmp_path):
    url = f"sqlite:///{tmp_path}/o.db"
    front = await opened(nightly(), where=url, worker=False)
    await opened(nightly(), where=url)
    await lro_clock.advance(DAY)
    assert (len(ran), (await front.schedules.get("nightly")).started) == (1, 1)


@pytest.mark.asyncio
async def test_a_front_end_that_does_not_know_the_handler_declares_nothing(
    opened, open_client, ran, lro_clock, tmp_path
):
    url = f"sqlite:///{tmp_path}/o.db"
    front = await open_client(url, schedules=[nightly(state=5.0)], worker=False)
    assert await front.schedules.list() == []
    await opened(nightly(), where=url)
    await lro_clock.advance(DAY)
    assert len(ran) == 1
