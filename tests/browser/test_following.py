"""A page follows what happens, and finds its way back when the connection is lost."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from google.protobuf import struct_pb2

from ..waiting import reached, until
from .conftest import Open, expect
from .site import Site, serving

if TYPE_CHECKING:
    from playwright.async_api import Page


pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


def operation(name: str) -> str:
    return f"operation?name={quote(name)}"


async def mark(page: Page) -> None:
    """What a reload would forget."""
    await page.evaluate("window.neverLeft = true")


async def never_left(page: Page) -> bool:
    return bool(await page.evaluate("window.neverLeft === true"))


async def test_progress_and_end_are_seen_without_a_reload(site: Site, page: Page) -> None:
    name = await site.started("copy", "disk-1")
    await page.goto(operation(name))
    await expect(page.get_by_text("copying disk-1").first).to_be_visible()
    await mark(page)
    site.goes_on.set()
    await expect(page.locator("#live-head .state")).to_have_text("Succeeded")
    assert await never_left(page)


async def test_a_list_and_the_overview_follow_too_and_keep_what_was_ticked(site: Site, page: Page) -> None:
    first = await site.started("asks")
    await page.goto("operations")
    await mark(page)
    box = page.get_by_label(f"Select {first}")
    await box.check()
    second = await site.started("says")
    await expect(page.get_by_label(f"Select {second}")).to_be_visible()
    await expect(box).to_be_checked()
    assert await never_left(page)
    await page.goto("./")
    await mark(page)
    await site.started("fails", "no disk")
    await expect(page.locator(".tiles li", has_text="Failed").locator(".big")).to_have_text("1")
    assert await never_left(page)


async def test_queues_and_schedules_follow_too_and_keep_what_was_opened(open_page: Open) -> None:
    async with serving(standing=True) as site, open_page(site) as page:
        await page.goto("queues")
        await mark(page)
        await site.client.queues.pause("models")
        await expect(page.get_by_role("button", name="Unpause: models")).to_be_visible()
        assert await never_left(page)
        await page.goto("schedules")
        await mark(page)
        moments = page.locator("details")
        await moments.first.locator("summary").click()
        await site.client.schedules.pause("nightly", "inventory")
        await expect(page.get_by_text("inventory")).to_be_visible()
        assert await moments.first.evaluate("one => one.open")
        assert await never_left(page)


async def test_the_focus_stays_where_it_was(site: Site, page: Page) -> None:
    op = await site.client.start("asks", "who", metadata=struct_pb2.Struct())
    name = op.name
    await page.goto(operation(name))
    history = page.locator("#live-facts")
    panes = page.locator("#live-facts pre")
    await panes.last.focus()
    place = await panes.count() - 1
    assert place > 0
    await site.client.pause_operation(name, "later")
    await expect(history.get_by_text("later").first).to_be_visible()
    focused = "[...document.querySelectorAll('#live-facts pre')].indexOf(document.activeElement)"
    assert await page.evaluate(focused) == place


class Gate:
    """Answers for the dashboard: with the dashboard, or as a proxy whose server is away."""

    def __init__(self) -> None:
        self.away = False
        self.cut = asyncio.Event()
        self.refused = 0

    def before(self, app: Any) -> Any:
        async def answer(scope: Any, receive: Any, send: Any) -> None:
            if self.away:
                self.refused += 1
                await send(
                    {"type": "http.response.start", "status": 502, "headers": [(b"content-type", b"text/plain")]}
                )
                await send({"type": "http.response.body", "body": b"bad gateway"})
                return
            calls = [asyncio.ensure_future(app(scope, receive, send)), asyncio.ensure_future(self.cut.wait())]
            await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)

        return answer

    def lose(self) -> None:
        """Cut off every stream, and answer nothing more."""
        self.away = True
        self.cut.set()

    def come_back(self) -> None:
        self.cut.clear()
        self.away = False


async def test_a_page_follows_again_after_its_server_was_away(open_page: Open) -> None:
    """A proxy answers in its place meanwhile: browsers give up a stream that was refused once."""
    gate = Gate()
    async with serving(gate.before) as site, open_page(site, complains=True) as page:
        name = await site.started("copy", "disk-1")
        await page.goto(operation(name))
        await expect(page.locator("#live")).to_be_visible()
        await mark(page)
        gate.lose()
        await expect(page.locator("#live")).to_be_hidden()
        await expect(page.locator("#notice")).to_be_visible()
        await until(lambda: gate.refused)
        gate.come_back()
        site.goes_on.set()
        await expect(page.locator("#live-head .state")).to_have_text("Succeeded")
        await expect(page.locator("#live")).to_be_visible()
        await expect(page.locator("#notice")).to_be_hidden()
        assert await never_left(page)


async def test_a_page_follows_again_after_its_connection_broke(open_page: Open) -> None:
    gate = Gate()
    async with serving(gate.before) as site, open_page(site, complains=True) as page:
        name = await site.started("copy", "disk-1")
        await page.goto(operation(name))
        await expect(page.locator("#live")).to_be_visible()
        gate.cut.set()
        await expect(page.locator("#live")).to_be_hidden()
        gate.cut.clear()
        site.goes_on.set()
        await expect(page.locator("#live-head .state")).to_have_text("Succeeded")


class Tap:
    """Counts the news that the dashboard sends."""

    def __init__(self) -> None:
        self.news = 0

    def before(self, app: Any) -> Any:
        async def answer(scope: Any, receive: Any, send: Any) -> None:
            async def sending(message: Any) -> None:
                await send(message)
                self.news += message.get("body", b"").startswith(b"event: look")

            await app(scope, receive, sending)

        return answer


async def test_news_that_come_while_the_page_is_fetched_are_not_lost(open_page: Open) -> None:
    tap, held, go = Tap(), asyncio.Event(), asyncio.Event()

    async def hold(route: Any) -> None:
        """The first fetch gets the page as it is now, and late."""
        answer = await route.fetch()
        if not held.is_set():
            held.set()
            await go.wait()
        await route.fulfill(response=answer)

    async with serving(tap.before) as site, open_page(site) as page:
        name = await site.started("copy", "disk-1")
        await page.goto(operation(name))
        await until(lambda: tap.news)
        await page.route(lambda url: "/operation?" in url, hold)
        await site.client.pause_operation(name, "a while")
        await until(held.is_set)
        before = tap.news
        site.goes_on.set()
        await reached(site.client, name, "SUCCEEDED")
        await until(lambda: tap.news > before)
        go.set()
        await expect(page.locator("#live-head .state")).to_have_text("Succeeded")
