"""The page of schedules: what comes when, what became of the last one, and what can be done about it."""

from __future__ import annotations

import asyncio
import datetime
import logging
import sys
from collections.abc import AsyncIterator
from html import unescape
from typing import Any
from urllib.parse import unquote

import pytest
import pytest_asyncio

import lro_aio as lro
from lro_aio.core.calendars import calendar_of
from lro_aio.dashboard import Access, Dashboard, Shown
from lro_aio.testing import FaultyStore, ManualClock

from ..waiting import PATIENCE, reached
from .conftest import EVIL, SAME, Note, Serve, Site, everybody, field
from .test_live import next_second, watching

pytestmark = pytest.mark.asyncio

HOUR = 3600
NEW_YEAR = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC).timestamp()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NEW_YEAR)


@pytest_asyncio.fixture
async def client(handlers: lro.Handlers, clock: ManualClock, store: FaultyStore) -> AsyncIterator[lro.Client]:
    schedules = [
        lro.Schedule("nightly", "echo", cron="30 2 * * *", timezone="Europe/Berlin", state=Note("all shops")),
        lro.Schedule("hourly", "fails", every=HOUR + 30 * 60, state=Note("no disk")),
    ]
    async with lro.Client(store, handlers=handlers, clock=clock, schedules=schedules) as opened:
        yield opened


async def told(site: Site, name: str) -> dict[str, Any]:
    await next_second(site)
    found = {one["id"]: one for one in (await site.json("schedules"))["schedules"]}
    return dict(found[name])


async def ran(site: Site, name: str, moment: float) -> str:
    """Go on to a moment; the name of its operation, which has ended."""
    await site.clock.advance(moment - site.clock.time())
    async with asyncio.timeout(PATIENCE):
        while not (last := (await site.client.schedules.get(name)).last_operation):
            await asyncio.sleep(0.001)
    await reached(site.client, last, "SUCCEEDED", "FAILED")
    return last


async def test_a_schedule_tells_what_comes_when(site: Site) -> None:
    one, page = await told(site, "nightly"), unescape(await site.get("schedules"))
    assert (one["name"], one["handler"], one["paused"], one["reason"]) == ("schedules/nightly", "echo", False, "")
    assert (one["cron"], one["timezone"], one["last"]) == ("30 2 * * *", "Europe/Berlin", None)
    assert one["upcoming"] == [f"2026-01-0{day}T01:30:00.000Z" for day in range(1, 6)]
    for text in ("30 2 * * *", "Europe/<wbr>Berlin", "every 1 h 30 min", "2026-01-05T01:30:00.000Z", "Active"):
        assert text in page


async def test_the_last_moment_leads_to_its_operation_and_failures_are_counted(site: Site) -> None:
    last = await ran(site, "hourly", NEW_YEAR + 1.5 * HOUR)
    one, page = await told(site, "hourly"), await site.get("schedules")
    assert (one["last"], one["lastOperation"], one["failures"]) == ("2026-01-01T01:30:00.000Z", last, 1)
    assert f'href="operation?name={last}"' in unquote(page)
    assert "1 failed in a row" in page
    await site.get("operation", name=last)


async def test_why_one_rests_is_told(site: Site, handlers: lro.Handlers) -> None:
    await site.client.schedules.pause("nightly", "the disk is full")
    assert (await told(site, "nightly"))["paused"]
    assert "the disk is full" in await site.get("schedules")
    await site.client.cancel_operation("schedules/operations/hourly")
    await reached(site.client, "schedules/operations/hourly", "CANCELLED")
    assert (await told(site, "hourly"))["reason"] == "it was cancelled"
    page = await site.get("schedules")
    assert "Rests" in page
    assert "it was cancelled" in page


async def test_without_schedules_the_page_says_what_to_do(serve: Serve) -> None:
    async with lro.Client("sqlite://") as bare, serve(Dashboard(bare)) as site:
        assert "lro.Schedule" in await site.get("schedules")
        assert (await site.json("schedules")) == {"schedules": [], "more": False, "problem": ""}


async def test_without_the_extra_the_page_says_how_to_get_it(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process of a dashboard need not have what the workers have."""
    monkeypatch.setitem(sys.modules, "cronsim", None)
    calendar_of.cache_clear()
    assert "pip install 'lro-aio[schedules]'" in unescape(await site.get("schedules"))


async def test_a_store_that_is_away_is_said(site: Site, store: FaultyStore) -> None:
    store.fail("list", times=1)
    assert "Not available now" in await site.get("schedules", 503)


async def test_pause_and_unpause_ask_first_and_tell_who_and_why(site: Site) -> None:
    for verb, paused in (("pause", True), ("unpause", False)):
        page = await site.confirm(verb=verb, schedule="nightly")
        assert f"{verb.capitalize()} the schedule nightly?" in page.text
        answer = await site.act(verb=verb, schedule="nightly", reason="inventory")
        assert (answer.status_code, answer.headers["location"]) == (303, "schedules")
        assert (await told(site, "nightly"))["paused"] is paused
    history = await site.client.history("schedules/operations/nightly")
    assert [entry.text for entry in history if "PAUSED" in entry.kind] == ["ada: inventory"] * 2


async def test_a_run_leads_to_its_operation_and_happens_once(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "lro_aio")
    page = await site.confirm(verb="run", schedule="nightly")
    assert "Run the schedule nightly now?" in page.text
    form = {"verb": "run", "schedule": "nightly", "id": field(page.text, "id"), "reason": "by hand"}
    answers = await asyncio.gather(*(site.http.post("act", data=form, headers=SAME) for _ in range(3)))
    [name] = {unquote(answer.headers["location"].partition("name=")[2]) for answer in answers}
    await reached(site.client, name, "SUCCEEDED")
    assert (await site.json("operation", name=name))["operation"]["response"]["value"] == {"said": "all shops"}
    [said] = [record for record in caplog.records if getattr(record, "event", "") == "dashboard_acted"]
    assert said.getMessage() == "the dashboard: run schedule nightly (ada: by hand)"


async def test_a_run_whose_answer_was_lost_starts_no_second_operation(site: Site, store: FaultyStore) -> None:
    form = {"verb": "run", "schedule": "nightly"}
    form["id"] = field((await site.confirm(**form)).text, "id")
    store.fail("apply", times=1, when="after")
    assert (await site.http.post("act", data=form, headers=SAME)).status_code == 503
    assert (await site.http.post("act", data=form, headers=SAME)).status_code == 303
    assert len((await site.client.list_operations("handler = echo")).operations) == 1


@pytest.mark.parametrize("verb", ["run", "pause", "unpause"])
async def test_each_needs_its_own_permission_at_both_of_its_steps(serve: Serve, verb: str) -> None:
    rights = {right: right != verb for right in ("run", "pause", "unpause", "rerun", "cancel", "delete", "send")}
    async with serve(authorize=everybody(Access(**rights))) as site:  # type: ignore[arg-type]  # its booleans
        if verb == "unpause":
            await site.client.schedules.pause("nightly")
        for path in ("confirm", "act"):
            form = {"verb": verb, "schedule": "nightly", "id": "0" * 32}
            assert (await site.http.post(path, data=form, headers=SAME)).status_code == 403
        assert f'value="{verb}"' not in await site.get("schedules")
        assert (await told(site, "nightly"))["paused"] is (verb == "unpause")
        assert not (await site.client.list_operations("handler = echo")).operations


async def test_a_schedule_that_is_not_there_is_not_found(site: Site) -> None:
    for verb in ("run", "pause", "unpause"):
        answer = await site.act(verb=verb, schedule="nowhere")
        assert answer.status_code == 404
        assert 'href="schedules"' in answer.text


@pytest.mark.parametrize("form", [{"verb": "send", "schedule": "nightly"}, {"verb": "run"}, {"verb": "drop"}])
async def test_a_form_that_makes_no_sense_is_refused(site: Site, form: dict[str, str]) -> None:
    assert (await site.http.post("confirm", data=form, headers=SAME)).status_code == 400


async def test_a_name_that_makes_no_sense_is_refused(site: Site) -> None:
    answer = await site.act(verb="run", schedule=EVIL)
    assert answer.status_code == 400
    assert "<script>alert" not in answer.text
    assert not {"\x1b", "\u202e"} & set(answer.text)


async def test_the_page_follows_what_happens(site: Site) -> None:
    async with watching(site, of="schedules") as stream:
        _, before = await stream.event()
        await site.client.schedules.pause("nightly")
        await next_second(site)
        assert (await stream.event())[1] != before


async def test_a_reason_can_be_redacted(serve: Serve) -> None:
    def show(item: Shown) -> object:
        return "(redacted)" if "secret" in str(item.value) else item.value

    async with serve(show=show) as site:
        await site.client.schedules.pause("nightly", "a secret")
        assert "secret" not in await site.get("schedules")
        assert (await told(site, "nightly"))["reason"] == "(redacted)"
