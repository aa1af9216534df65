"""What the pages tell, and what the JSON API tells of the same."""

from __future__ import annotations

import asyncio
import logging
import re
import signal
from html import unescape
from pathlib import Path
from urllib.parse import unquote

import httpx
import pytest
from fastapi import FastAPI
from google.protobuf import struct_pb2
from starlette.applications import Starlette
from starlette.routing import Mount

import lro_aio as lro
from lro_aio.dashboard import Access, Dashboard, Shown
from lro_aio.testing import FaultyStore
from lro_aio.testing._store_rows import put, row

from ..receiver import receiving
from ..serving import served
from ..waiting import reached, until
from .conftest import EVIL, NoDiskError, Note, Serve, Site, everybody

pytestmark = pytest.mark.asyncio

PAGES = ("", "operations", "failures", "queues", "schedules", "workers")


async def test_an_empty_store_says_what_to_do(site: Site) -> None:
    assert "No operations yet" in await site.get()
    assert "client.start(...)" in await site.get("operations")
    assert "Nothing is paused" in await site.get("failures")
    assert "No process runs anything now" in await site.get("workers")


async def test_the_overview_counts_and_groups(site: Site) -> None:
    for _ in range(2):
        await site.started("fails", "no disk")
    await site.started("pauses", "no bucket")
    await site.started("echo")
    page, told = await site.get(), await site.json("overview")
    assert told["states"]["FAILED"] == {"count": 2, "more": False}
    assert told["paused"]["count"] == 1
    [group] = told["failures"]
    assert (group["handler"], group["code"], group["message"], group["count"]) == ("fails", "NOT_FOUND", "no disk", 2)
    assert "no disk" in page
    assert [one["state"] for one in (await site.json("operations", filter=group["filter"]))["operations"]] == [
        "FAILED",
        "FAILED",
    ]


async def test_what_this_package_does_by_itself_is_one_line_of_the_overview(serve: Serve) -> None:
    """It has handlers that nobody has written; each schedule has one."""
    own = ("lro.schedule.nightly", "lro.schedule.hourly", "lro.bulk")
    store = lro.SqliteStore("sqlite://")
    async with lro.Client(store, worker=False) as bare, serve(Dashboard(bare)) as site:
        store.apply([put(row(n, handler=name, resume_point="")) for n, name in enumerate(("render", *own))])
        page, told = await site.get(), await site.json("overview")
        table = page.partition("By handler</h2>")[2].partition("</table>")[0]
        assert re.findall(r"<tr><td>(.*?)</td>", table)[-1] == "schedules, webhooks and actions on many"
        assert "render" in table
        assert "lro." not in table
        assert [one["handler"] for one in told["handlers"]] == ["render"]
        assert told["own"] == {"PENDING": {"count": 3, "more": False}}


async def test_what_failed_for_another_reason_is_another_group(site: Site) -> None:
    """The code alone would throw them together, and all of them would be run again."""
    for text in ("no disk", "no disk", "too slow"):
        await site.started("fails", text)
    groups = (await site.json("failures"))["failures"]
    assert [(group["reason"], group["count"]) for group in groups] == [("NO_DISK", 2), ("OPERATION_FAILED", 1)]
    for group in groups:
        found = (await site.json("operations", filter=group["filter"]))["operations"]
        assert [one["error"]["reason"] for one in found] == [group["reason"]] * group["count"]
        one = found[0]["name"]
        assert (await site.json("operation", name=one))["failedAlike"] == group["filter"]
        assert "All that failed alike" in await site.get("operation", name=one)
        answer = await site.confirm(verb="rerun", filter=group["filter"], scope="all")
        assert f"Run {group['count']} operation" in answer.text


async def test_what_was_run_again_is_not_run_again_with_the_others(site: Site) -> None:
    names = [await site.started("fails", "no disk") for _ in range(3)]
    await site.act(verb="rerun", name=names[0])
    await site.clock.advance(2)
    told = await site.json("failures")
    [group] = told["failures"]
    left = {one["name"] for one in told["failed"]["operations"]}
    assert names[0] not in left
    assert set(names[1:]) <= left
    answer = await site.confirm(verb="rerun", filter=group["todo"], scope="all")
    assert names[0] not in answer.text.replace("<wbr>", "")
    assert names[1] in answer.text.replace("<wbr>", "")
    listed = (await site.json("operations", filter=group["filter"]))["operations"]
    assert [one["name"] for one in listed if one["runAgain"]] == [names[0]]
    assert "run again" in await site.get("operations", filter="state = FAILED")


@pytest.fixture
def mended(handlers: lro.Handlers) -> asyncio.Event:
    """Until it is set, the handler "mendable" fails."""
    found = asyncio.Event()

    @handlers.handler("mendable", state=Note)
    async def mendable(op: lro.Operation[Note]) -> None:
        if not found.is_set():
            raise NoDiskError("no disk", code=5)

    return found


async def test_a_group_says_what_is_left_and_begins_with_one_of_those(mended: asyncio.Event, site: Site) -> None:
    for _ in range(2):
        await site.started("mendable")
    mended.set()
    for left in (1, 0):
        [group] = (await site.json("failures"))["failures"]
        page = await site.get("failures")
        assert re.search(rf'name="name" value="{group["next"]}">[^>]*>Run one again…', page)
        await site.act(verb="rerun", name=group["next"])
        await site.clock.advance(1)
        [group] = (await site.json("failures"))["failures"]
        assert (group["count"], group["left"]) == (2, {"count": left, "more": False})
        assert ("1 left" if left else "all run again") in await site.get("failures")
    page = await site.get("failures")
    assert "Run one again" not in page
    assert "Run all again" not in page


async def test_from_a_rerun_that_succeeded_the_others_are_one_click_away(mended: asyncio.Event, site: Site) -> None:
    names = [await site.started("mendable") for _ in range(3)]
    mended.set()
    made = await site.client.rerun_operation(names[0])
    await reached(site.client, made.name, "SUCCEEDED")
    shown, page = await site.json("operation", name=made.name), await site.get("operation", name=made.name)
    assert "Run the others again…" in page
    answer = await site.act(verb="rerun", scope="all", filter=shown["othersToRerun"])
    bulk = unquote(answer.headers["location"].partition("name=")[2])
    await reached(site.client, bulk, "SUCCEEDED")
    await site.clock.advance(1)
    assert (await site.json("operation", name=bulk))["bulkResult"] == {
        "verb": "rerun",
        "done": 2,
        "failed": 0,
        "skipped": 0,
    }
    page = await site.get("operation", name=bulk)
    assert "Run again: 2 done" in page
    assert "Run again…" not in page


async def test_an_operation_is_told_as_it_is_at_one_moment(site: Site, store: FaultyStore) -> None:
    """Read twice, it ran and waited for a process at once."""
    name = await site.started("echo")
    before = store.calls["read"]
    await site.get("operation", name=name)
    assert store.calls["read"] == before + 1


async def test_nothing_moves_once_ends_per_minute_are_known(site: Site) -> None:
    """A button that moves under a finger is missed."""
    await site.started("echo")
    assert "Ends per minute" in await site.get()


async def test_ends_per_minute_are_what_was_seen(site: Site) -> None:
    assert (await site.json("overview"))["ends"] is None
    for _ in range(6):
        await site.started("echo")
    await site.clock.advance(30)
    assert (await site.json("overview"))["ends"] == {"perMinute": 12, "minutes": 1, "more": False}
    assert "Ends per minute" in await site.get()
    await site.clock.advance(590)
    assert (await site.json("overview"))["ends"]["perMinute"] == 0


async def test_a_link_from_a_number_leads_to_those_operations(site: Site) -> None:
    await site.started("fails", "x")
    links = [unescape(link) for link in re.findall(r'href="(operations\?filter=[^"]*)"', await site.get())]
    assert links
    for link in links:
        await site.get(link)


async def test_the_list_goes_on_by_keys(site: Site) -> None:
    for _ in range(51):
        await site.client.create(lease=False)
    first = await site.get("operations")
    [older] = re.findall(r'rel="next" href="([^"]*)"', first)
    second = await site.get(unescape(older))
    names = [set(re.findall(r"operation\?name=([^\"]*)", page)) for page in (first, second)]
    assert [len(found) for found in names] == [50, 1]
    assert not names[0] & names[1]
    assert "Newest" in second


async def test_a_filter_that_does_not_parse_is_kept_and_the_place_is_shown(site: Site) -> None:
    page = await site.get("operations", 400, filter='state = FAILED AND "<b>')
    assert 'value="state = FAILED AND &#34;&lt;b&gt;"' in page
    problem = unescape(page.partition("<pre")[2].partition("</pre>")[0])
    assert problem.splitlines()[1].strip() == "^"
    assert "aria-invalid" in page
    refused = await site.http.get("api/operations", params={"filter": "state ="})
    assert (refused.status_code, refused.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")


async def test_a_filter_that_looks_at_many_rows_says_that_more_are_to_come(
    handlers: lro.Handlers, serve: Serve
) -> None:
    async with lro.Client("sqlite://", handlers=handlers, limits=lro.Limits(scan_rows=2)) as many:
        for _ in range(5):
            await many.create(lease=False)
        async with serve(Dashboard(many, authorize=everybody(Access.full()))) as site:
            page = await site.get("operations", filter="metadata.x = 1")
    assert "still to come" in page
    assert "Older" in page


async def test_one_operation_is_told_whole(site: Site) -> None:
    name = await site.started("asks", "please")
    await site.client.send(name, "approval", {"by": "grace"})
    done = await site.client.wait_operation(name, 20)
    page, told = await site.get("operation", name=name), await site.json("operation", name=name)
    assert told["handlerState"] == {"text": "please"}
    assert told["operation"]["response"]["value"] == {"by": "grace"}
    assert {span["kind"] for span in told["timeline"]} == {"SEGMENT", "WAIT", "MESSAGE"}
    assert page.count("<rect") >= 4
    assert "curl -s &#39;http://127.0.0.1:" in page
    assert done.name == told["name"]
    assert re.search(r'<time datetime="\d{4}-[^"]*Z" title="\d{4}-[^"]*Z" data-at="[\d.]+">', page)


async def test_children_lead_to_their_own_pages(site: Site) -> None:
    @site.client.handler("parent")
    async def parent(op: lro.Operation[None]) -> None:
        await op.start_child("echo", Note("x"), key="a")

    op = await site.client.start(parent)
    await op.result(timeout=20)
    told = await site.json("operation", name=op.name)
    [child] = told["children"]
    assert (await site.json("operation", name=child["name"]))["parentOperation"] == op.name


async def test_a_paused_operation_tells_why(site: Site) -> None:
    name = await site.started("pauses", "no bucket")
    told = await site.json("operation", name=name)
    assert told["paused"]
    assert told["error"]["reason"] == "HANDLER_ERROR"
    assert name in unescape((await site.get("failures")).replace("<wbr>", ""))


async def test_workers_tell_who_holds_what_and_what_nobody_has(site: Site, clock: object) -> None:
    op = await site.client.create()
    told = await site.json("workers")
    [held] = told["held"]
    assert (held["name"], held["owner"]) == (op.name, told["running"][0]["owner"])
    assert held["owner"] in (await site.get("workers")).replace("<wbr>", "")


async def test_what_does_not_exist_is_a_page_that_says_so(site: Site) -> None:
    assert "Not found" in await site.get("operation", 404, name="operations/none")
    assert "That did not work" in await site.get("operation", 400, name="no name")
    assert "Not found" in await site.get("nowhere", 404)
    assert (await site.http.get("api/operation", params={"name": "operations/none"})).json()["error"]["code"] == 404


# What strangers write


async def test_texts_of_strangers_do_nothing(site: Site) -> None:
    """HTML, a terminal's codes, what turns text around, a megabyte: in a state, an error, metadata and a topic."""
    metadata = struct_pb2.Struct()
    metadata.update({EVIL: EVIL, "message": EVIL, "progress": 0.5})
    made = await site.client.create(metadata, lease=False)
    failed = await site.started("fails", EVIL * 5000)
    asks = await site.started("asks", EVIL)
    await site.client.cancel_operation(asks, reason=EVIL)
    for path in (*PAGES, *(f"operation?name={name}" for name in (made.name, failed, asks))):
        page = await site.get(path)
        assert "<script>alert" not in page
        assert not {"\x1b", "\u202e"} & set(page)
        assert len(page) < 400_000
    assert "\\x1b" in await site.get(f"operation?name={made.name}")


async def test_a_megabyte_is_cut_and_says_so(site: Site) -> None:
    name = await site.started("echo", "x" * 900_000)
    page = await site.get("operation", name=name)
    assert len(page) < 100_000
    assert "characters)" in page


async def test_a_lone_surrogate_is_shown_by_its_number(serve: Serve) -> None:
    def show(item: Shown) -> object:
        return "\ud800<" if item.part == "state" else item.value

    async with serve(show=show) as site:
        name = await site.started("echo", "x")
        assert "\\ud800&lt;" in await site.get("operation", name=name)
        assert (await site.json("operation", name=name))["handlerState"] == "\ud800<"


async def test_show_redacts_everywhere(serve: Serve) -> None:
    """Pages and API: the state, the result, the metadata, an error's sentence, the history and the timeline."""

    def show(item: Shown) -> object:
        return item.value if item.part == "text" and "secret" not in item.value else "(redacted)"

    async with serve(show=show) as site:
        metadata = struct_pb2.Struct()
        metadata.update({"message": "secret", "progress": 0.5})
        names = [
            (await site.client.create(metadata, lease=False)).name,
            await site.started("fails", "secret"),
            await site.started("echo", "secret"),
            await site.started("asks", "secret"),
        ]
        await site.client.send(names[-1], "approval", "secret")
        await site.client.wait_operation(names[-1], 20)
        for page in ("", "operations", "failures", *(f"operation?name={name}" for name in names)):
            assert "secret" not in await site.get(page)
            assert "secret" not in (await site.http.get(f"api/{page or 'overview'}")).text
        assert "(redacted)" in await site.get("operation", name=names[2])


async def test_a_show_that_fails_shows_nothing(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    def show(item: Shown) -> object:
        raise KeyError("secret")

    async with serve(show=show) as site:
        name = await site.started("echo", "secret")
        assert "secret" not in await site.get("operation", name=name)
        assert (await site.json("operation", name=name))["handlerState"] == "(hidden)"
    assert "dashboard_hid" in {record.event for record in caplog.records}  # type: ignore[attr-defined]


# Where it is mounted


@pytest.mark.parametrize("kind", ["fastapi", "starlette", "proxy"])
async def test_it_works_below_any_prefix(client: lro.Client, serve: Serve, kind: str) -> None:
    dashboard = Dashboard(client, authorize=everybody(Access.full()))
    inner = Starlette(routes=[Mount("/ops", app=dashboard)])
    if kind == "fastapi":
        inner = FastAPI()
        inner.mount("/ops", dashboard)

    async def behind_a_proxy(scope: dict, receive: object, send: object) -> None:  # type: ignore[type-arg]
        """One that takes the prefix away, and says so as older frameworks do: in the root path alone."""
        path = scope["path"].removeprefix("/ops")
        await dashboard({**scope, "path": path, "root_path": "/ops"}, receive, send)  # type: ignore[arg-type]

    app = behind_a_proxy if kind == "proxy" else inner
    async with serve(app, path="/ops/") as site:
        name = await site.started("echo")
        page = await site.get()
        for link in (
            "operations",
            "failures",
            "queues",
            "schedules",
            "workers",
            "static/dashboard.css",
            "static/dashboard.js",
            "static/icon.svg",
        ):
            assert f'"{link}' in page
            await site.get(link)
        answer = await site.act(verb="delete", name=name)
        assert (answer.status_code, answer.headers["location"]) == (303, "operations")
        bare = await site.http.get(str(site.http.base_url).rstrip("/"), follow_redirects=True)
        assert (bare.status_code, bare.url.path) == (200, "/ops/")


async def test_by_itself_it_opens_the_client_and_closes_it(handlers: lro.Handlers) -> None:
    alone = lro.Client("sqlite://", handlers=handlers)
    async with served(Dashboard(alone), lifespan="on") as url, httpx.AsyncClient(base_url=url, timeout=20) as http:
        assert alone.is_open
        assert (await http.get("/")).status_code == 200
    assert not alone.is_open


async def test_by_itself_it_drains_once_as_soon_as_the_process_is_told_to_stop(
    handlers: lro.Handlers, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "lro_aio")
    alone = lro.Client("sqlite://", handlers=handlers)
    before = signal.signal(signal.SIGTERM, lambda number, frame: None)
    try:
        async with served(Dashboard(alone), lifespan="on"):
            for _ in range(2):
                signal.raise_signal(signal.SIGTERM)
            await until(lambda: alone.server_host.draining)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert [getattr(record, "event", "") for record in caplog.records].count("drain_on_signal") == 1


async def test_beside_an_application_that_opened_the_client_it_leaves_it_open(client: lro.Client) -> None:
    async with served(Dashboard(client), lifespan="on"):
        pass
    assert client.is_open


# A store that is away


async def test_a_store_that_is_away_is_said_and_comes_back(site: Site, store: FaultyStore) -> None:
    store.fail("stats", times=1)
    answer = await site.http.get("")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert "Not available now" in answer.text
    assert 'http-equiv="refresh"' in answer.text
    await site.clock.advance(1)
    assert "No operations yet" in await site.get()


async def test_a_store_that_cannot_count_has_its_lists_all_the_same(serve: Serve) -> None:
    class Silent(FaultyStore):
        def stats(self, query: object) -> None:  # type: ignore[override]  # as a store that has no such method
            return None

    async with lro.Client(Silent(lro.SqliteStore("sqlite://"))) as silent:
        op = await silent.create()
        async with serve(Dashboard(silent, authorize=everybody(Access.full()))) as site:
            assert "cannot count" in await site.get()
            assert not (await site.json("overview"))["counted"]
            for page in ("operations", "workers"):
                assert op.name.rpartition("/")[2] in await site.get(page)
            await site.get("failures")


async def test_before_the_client_is_open_it_says_so(handlers: lro.Handlers) -> None:
    closed = lro.Client("sqlite://", handlers=handlers)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(Dashboard(closed)), base_url="http://localhost/"
    ) as http:
        assert (await http.get("")).status_code == 503


async def test_of_a_delivery_no_page_shows_the_query_of_the_receiver(
    handlers: lro.Handlers, tmp_path: Path, serve: Serve
) -> None:
    url = f"sqlite:///{tmp_path / 'o.db'}"
    async with receiving() as receiver, lro.Client(url, handlers=handlers, webhooks=receiver.rules()) as client:
        operation = await client.start("echo", Note(), webhook=lro.Webhook(f"{receiver.origin}/hooks?token=s3cret"))
        await until(lambda: receiver.requests)
        [told] = [entry.text for entry in await client.history(operation.name) if entry.kind == "WEBHOOK"]
        name = told.split(" to ")[1]
        async with serve(Dashboard(client, authorize=everybody(Access.full("ada")))) as site:
            state = (await site.json("operation", name=name))["handlerState"]
            assert (state["url"], state["about"]) == (f"{receiver.origin}/hooks", operation.name)
            assert "s3cret" not in await site.get("operation", name=name)
