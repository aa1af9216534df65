"""The page of queues: what each allows, who waits and runs, and what can be done about it."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Sequence
from html import unescape
from typing import Any

import httpx
import pytest

import lro_aio as lro
from lro_aio.dashboard import Access, Dashboard, Shown
from lro_aio.ports import Store
from lro_aio.testing import FaultyStore

from ..waiting import PATIENCE, durably_suspended, reached
from .conftest import EVIL, SAME, Note, Serve, Site, everybody, field
from .test_live import next_second, watching

pytestmark = pytest.mark.asyncio

FARM = lro.Queue("render farm", running=1, per_key=1, scope="operation")


@pytest.fixture
def handlers(handlers: lro.Handlers) -> lro.Handlers:
    @handlers.handler("render", state=Note, queue=FARM, queue_key=lambda note: note.text)
    async def render(op: lro.Operation[Note]) -> Any:
        return await op.receive("done")

    return handlers


async def lined_up(site: Site, *keys: str) -> None:
    """The first has the only place; the others wait."""
    for number, key in enumerate(keys):
        op = await site.client.start("render", Note(key))
        if not number:
            await reached(site.client, op.name, "RUNNING")


async def limited(site: Site, **form: str) -> httpx.Response:
    """What comes of the form that sets limits, filled in so."""
    return await site.act(verb="limit", queue="render farm", **form)


async def told(site: Site) -> dict[str, Any]:
    [queue] = (await site.json("queues"))["queues"]
    found: dict[str, Any] = queue
    return found


async def test_a_queue_tells_what_it_allows_and_who_waits(site: Site) -> None:
    await lined_up(site, "ada", "ada", "bob", "ada")
    queue, page = await told(site), unescape(await site.get("queues"))
    assert (queue["name"], queue["running"], queue["waiting"], queue["paused"]) == ("render farm", 1, 3, False)
    assert (queue["bounds"], queue["override"]) == ({"running": 1, "per_key": 1}, None)
    assert queue["keys"] == [
        {"key": "ada", "waiting": 2, "running": 1, "restsUntil": None},
        {"key": "bob", "waiting": 1, "running": 0, "restsUntil": None},
    ]
    for text in ("render farm", "1 at a time", "1 of each key", "ada", "bob", "Open"):
        assert text in page


async def test_the_json_api_tells_how_many_wait_and_where_one_stands(site: Site) -> None:
    await lined_up(site, "ada", "ada", "bob")
    assert (await site.json("overview"))["queues"] == [
        {"name": "render farm", "waiting": {"count": 2, "more": False}, "running": {"count": 1, "more": False}}
    ]
    names = [one["name"] for one in (await site.json("operations", filter="state = PENDING"))["operations"]]
    stands = [(await site.json("operation", name=name))["queues"] for name in names]
    assert sorted((at["key"], at["ahead"]["count"], at["running"]) for [at] in stands) == [
        ("ada", 1, False),
        ("bob", 0, False),
    ]


async def test_a_rest_and_a_limit_that_was_set_are_told(site: Site, handlers: lro.Handlers) -> None:
    @site.client.handler("limited", state=Note)
    async def limited(op: lro.Operation[Note]) -> None:
        await op.step("ask", refuse, queue=FARM)

    async def refuse() -> None:
        raise lro.RateLimited(retry_after=90)

    await site.client.start("limited", Note())
    await site.client.queues.set("render farm", rate=lro.Rate(200, per=60))
    async with asyncio.timeout(PATIENCE):
        while (queue := await told(site))["restsUntil"] is None:
            await next_second(site)
    assert queue["override"]["rate"] == [200, 60]
    page = unescape(await site.get("queues"))
    for text in ("Rests", "200 starts in 1 min", "set by hand"):
        assert text in page


async def test_only_the_longest_lines_are_told_and_the_number_of_the_others(site: Site) -> None:
    await site.client.queues.pause("render farm")
    for number in range(12):
        await site.client.start("render", Note(f"tenant-{number:02}"))
    await site.client.start("render", Note("tenant-11"))
    queue = await told(site)
    assert queue["waiting"] == 13
    assert len(queue["keys"]) == 10
    assert (queue["keys"][0]["key"], queue["moreKeys"]) == ("tenant-11", 2)
    assert "and 2 more" in await site.get("queues")


async def test_without_queues_the_page_says_what_to_do(serve: Serve) -> None:
    async with lro.Client("sqlite://") as bare, serve(Dashboard(bare)) as site:
        assert "lro.Queue" in await site.get("queues")
        assert (await site.json("queues")) == {"kept": True, "problem": "", "queues": [], "more": False}


async def test_a_store_without_queues_says_so(serve: Serve) -> None:
    class Queueless(lro.SqliteStore):
        no_queues_reason = "it is of another kind"

        def queues(self, *, now: float, names: Sequence[str] | None = None) -> Any:
            return Store.queues(self, now=now, names=names)

        def change_queue(self, name: str, change: Callable[[Any], Any]) -> Any:
            return Store.change_queue(self, name, change)

    async with (
        lro.Client(Queueless("sqlite://")) as without,
        serve(Dashboard(without, authorize=everybody(Access.full()))) as site,
    ):
        page = await site.get("queues")
        assert "This store has no queues" in page
        assert "it is of another kind" in page
        told = {"kept": False, "problem": "it is of another kind", "queues": [], "more": False}
        assert await site.json("queues") == told
        assert "Pause: 0 done, 1 refused" in (await site.act(verb="pause", queue="render farm")).text


async def test_a_store_that_is_away_is_said(site: Site, store: FaultyStore) -> None:
    store.fail("queues", times=1)
    assert "Not available now" in await site.get("queues", 503)


async def test_pause_and_unpause_ask_first_and_are_noted(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "lro_aio")
    for verb, paused in (("pause", True), ("unpause", False)):
        page = await site.confirm(verb=verb, queue="render farm")
        assert f"{verb.capitalize()} the queue render farm?" in page.text
        assert (await told(site))["paused"] is not paused
        answer = await site.act(verb=verb, queue="render farm", reason="the bill")
        assert (answer.status_code, answer.headers["location"]) == (303, "queues")
        assert (await told(site))["paused"] is paused
        assert ("Paused" in await site.get("queues")) is paused
    said = [record.getMessage() for record in caplog.records if getattr(record, "event", "") == "dashboard_acted"]
    assert said == [f"the dashboard: {verb} queue render farm (ada: the bill)" for verb in ("pause", "unpause")]


async def test_limits_are_set_on_a_page_that_shows_those_that_hold(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "lro_aio")
    page = await site.confirm(verb="limit", queue="render farm")
    assert "Set the limits of the queue render farm?" in page.text
    assert [field(page.text, name) for name in ("running", "per_key", "rate", "rate_per_key")] == ["1", "1", "", ""]
    answer = await limited(site, running="20", per_key="", rate="200/60", rate_per_key="5/0.5", reason="a new machine")
    assert (answer.status_code, answer.headers["location"]) == (303, "queues")
    queue = await told(site)
    assert queue["override"] == queue["bounds"] == {"running": 20, "rate": [200, 60], "rate_per_key": [5, 0.5]}
    page = unescape(await site.get("queues"))
    for text in ("20 at a time", "200 starts in 1 min", "set by hand; declared: 1 at a time, 1 of each key at a time"):
        assert text in page
    again = await site.confirm(verb="limit", queue="render farm")
    assert [field(again.text, name) for name in ("rate", "rate_per_key")] == ["200/60", "5/0.5"]
    said = [record.getMessage() for record in caplog.records if getattr(record, "event", "") == "dashboard_acted"]
    assert said == [
        "the dashboard: limit queue render farm to running=20, rate=200 per 60 s, rate_per_key=5 per 0.5 s"
        " (ada: a new machine)"
    ]


async def test_what_is_declared_holds_again_by_one_button(site: Site) -> None:
    assert "Let hold what is declared" not in (await site.confirm(verb="limit", queue="render farm")).text
    await limited(site, running="20")
    assert (
        "Let hold what is declared: running=1, per_key=1"
        in (await site.confirm(verb="limit", queue="render farm")).text
    )
    assert (await limited(site, running="30", unset="1")).status_code == 303
    queue = await told(site)
    assert (queue["override"], queue["bounds"]) == (None, {"running": 1, "per_key": 1})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("running", "0"),
        ("running", "-1"),
        ("per_key", "<b>many"),
        ("rate", "200"),
        ("rate", "200/0"),
        ("rate", "200/inf"),
        ("rate_per_key", "1.5/2"),
        ("running", "9223372036854775808"),
        ("rate", "9223372036854775808/60"),
        ("rate", "1/1e300"),
    ],
)
async def test_a_limit_that_makes_no_sense_is_kept_in_the_form(site: Site, name: str, text: str) -> None:
    answer = await limited(site, **{"reason": "why", name: text})
    assert answer.status_code == 400
    assert field(answer.text, name) == text
    assert 'value="why"' in answer.text
    assert f"{name} must be" in answer.text
    assert (await told(site))["override"] is None


async def test_limits_of_a_queue_that_is_not_there_are_not_asked_for(site: Site) -> None:
    assert (await site.confirm(verb="limit", queue="nowhere")).status_code == 404


async def test_an_operation_that_waits_for_a_place_names_the_queue_and_leads_to_it(site: Site) -> None:
    await lined_up(site, "ada")
    waits = await site.client.start("render", Note("ada"))
    shown, page = await site.json("operation", name=waits.name), await site.get("operation", name=waits.name)
    assert (shown["waitsIn"], shown["waitsFor"]) == (["render farm"], "for a place in the queue render farm")
    [place] = set(re.findall(r'href="queues#([^"]*)">render farm</a>', page))
    head, _, chart = page.partition("live-chart")
    assert f"#{place}" in head
    assert f"#{place}" in chart
    assert f'<tr id="{place}">' in await site.get("queues")


async def test_a_step_that_waits_for_a_place_names_the_queue_too(site: Site) -> None:
    @site.client.handler("limited", state=Note)
    async def asking(op: lro.Operation[Note]) -> None:
        await op.step("ask", anything, queue=FARM)

    async def anything() -> None:
        """Is never called: its queue is paused."""

    await site.client.queues.pause("render farm")
    op = await site.client.start("limited", Note())
    await durably_suspended(site.client, op.name, site.clock)
    page = await site.get("operation", name=op.name)
    assert re.search(
        r'Waits for a place in the queue <a href="queues#queue-\w+">render farm</a>; then the start.', page
    )


@pytest.mark.parametrize("verb", ["pause", "unpause", "limit"])
async def test_each_needs_its_own_permission_at_both_of_its_steps(serve: Serve, verb: str) -> None:
    others = Access(name="ada", pause=verb != "pause", unpause=verb != "unpause", limit=verb != "limit", run=True)
    async with serve(authorize=everybody(others)) as site:
        if verb == "unpause":
            await site.client.queues.pause("render farm")
        for path in ("confirm", "act"):
            form = {"verb": verb, "queue": "render farm", "id": "0" * 32}
            assert (await site.http.post(path, data=form, headers=SAME)).status_code == 403
        assert f'value="{verb}"' not in await site.get("queues")
        assert (await told(site))["paused"] is (verb == "unpause")


async def test_nothing_is_done_by_get_or_from_another_site(site: Site) -> None:
    form = {"verb": "pause", "queue": "render farm", "id": "0" * 32}
    assert (await site.http.get("act", params=form)).status_code == 405
    assert (await site.http.post("act", data=form, headers={"Sec-Fetch-Site": "cross-site"})).status_code == 403
    assert not (await told(site))["paused"]


async def test_a_queue_that_is_not_there_is_not_found(site: Site) -> None:
    answer = await site.act(verb="pause", queue="nowhere")
    assert answer.status_code == 404
    assert "there is no queue 'nowhere'" in unescape(answer.text)
    assert 'href="queues"' in answer.text
    assert "operation?name=nowhere" not in answer.text


@pytest.mark.parametrize(
    "form", [{"verb": "cancel", "queue": "q"}, {"verb": "run", "queue": "q"}, {"verb": "pause", "queue": ""}]
)
async def test_a_form_that_makes_no_sense_is_refused(site: Site, form: dict[str, str]) -> None:
    assert (await site.http.post("confirm", data=form, headers=SAME)).status_code == 400


async def test_an_order_whose_answer_was_lost_may_come_again(site: Site, store: FaultyStore) -> None:
    form = {"verb": "pause", "queue": "render farm"}
    form["id"] = field((await site.confirm(**form)).text, "id")
    store.fail("change_queue", times=1, when="after")
    assert (await site.http.post("act", data=form, headers=SAME)).status_code == 503
    again = await site.act(verb="pause", queue="render farm")
    assert again.status_code == 303
    assert (await told(site))["paused"]


async def test_the_page_follows_what_happens(site: Site) -> None:
    async with watching(site, of="queues") as stream:
        _, before = await stream.event()
        await lined_up(site, "ada", "bob")
        await next_second(site)
        assert (await stream.event())[1] != before


async def test_keys_of_strangers_do_nothing(site: Site) -> None:
    await site.client.queues.pause("render farm")
    await site.client.start("render", Note("<b>'\""))
    page = await site.get("queues")
    assert "<b>" not in page
    assert "&lt;b&gt;" in page
    answer = await site.act(verb="pause", queue=EVIL)
    assert "<script>alert" not in answer.text
    assert not {"\x1b", "\u202e"} & set(answer.text)


async def test_keys_come_from_payloads_and_can_be_redacted(serve: Serve) -> None:
    def show(item: Shown) -> object:
        return "(redacted)" if item.part == "text" else item.value

    async with serve(show=show) as site:
        await site.client.queues.pause("render farm")
        await site.client.start("render", Note("secret"))
        assert "secret" not in await site.get("queues")
        assert (await told(site))["keys"][0]["key"] == "(redacted)"
