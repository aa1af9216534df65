"""Pages follow what happens, and fifty of them cost the store no more than one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from starlette.requests import Request

from lro_aio.dashboard import Access, app, live, rendering
from lro_aio.dashboard.looks import Look, Shared
from lro_aio.testing import FaultyStore, ManualClock

from ..waiting import all_blocked, until
from .conftest import Serve, Site

pytestmark = pytest.mark.asyncio


class Stream:
    """The events of a page that is open."""

    def __init__(self, lines: AsyncIterator[str]) -> None:
        self._lines = lines

    async def event(self) -> tuple[str, str]:
        async with asyncio.timeout(20):
            async for line in self._lines:
                if line.startswith("event: "):
                    return line.removeprefix("event: "), (await anext(self._lines)).removeprefix("data: ")
        raise AssertionError("the stream has ended")

    async def ended(self) -> bool:
        async with asyncio.timeout(20):
            return not [line async for line in self._lines if line.startswith("event: ")]


@asynccontextmanager
async def watching(site: Site, **query: str) -> AsyncIterator[Stream]:
    async with site.http.stream("GET", "events", params=query) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield Stream(answer.aiter_lines())


async def next_second(site: Site) -> None:
    await site.clock.advance(1)


async def test_a_change_is_told_and_nothing_else(site: Site) -> None:
    async with watching(site, of="overview") as stream:
        kind, before = await stream.event()
        assert kind == "look"
        await site.started("echo")
        await next_second(site)
        assert (await stream.event())[1] != before


async def test_the_page_carries_the_word_that_the_stream_begins_with(site: Site) -> None:
    """So that a page that was just loaded is not loaded again."""
    page = await site.get()
    async with watching(site, of="overview") as stream:
        _, tag = await stream.event()
    assert f'data-tag="{tag}"' in page


async def test_fifty_tabs_cost_one_look_a_second_and_no_tab_none(site: Site, store: FaultyStore) -> None:
    async with AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(watching(site, of="overview")) for _ in range(50)]
        await asyncio.gather(*(stream.event() for stream in streams))
        await asyncio.gather(*(site.get() for _ in range(10)))
        assert store.calls["stats"] == 1
        await site.client.create(lease=False)
        await next_second(site)
        await asyncio.gather(*(stream.event() for stream in streams))
        assert store.calls["stats"] == 2
    await until(lambda: not [task for task in asyncio.all_tasks() if "dashboard" in task.get_name()])
    for _ in range(5):
        await next_second(site)
    assert store.calls["stats"] == 2


async def test_fifty_tabs_of_one_person_are_made_once_a_second(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nobody gets the page of another, who may do something else."""
    made: list[str] = []

    def counted(template: str, **values: Any) -> bytes:
        made.append(template)
        return rendering.render(template, **values)

    async def authorize(request: Request) -> Access:
        return Access.full("ada") if request.headers["x-who"] == "ada" else Access.read_only("eve")

    monkeypatch.setattr(app, "render", counted)
    async with serve(authorize=authorize) as site:
        name = await site.started("fails", "no disk")

        async def page(who: str) -> str:
            answer = await site.http.get("operation", params={"name": name}, headers={"x-who": who})
            return answer.text

        pages = await asyncio.gather(*(page(who) for who in ("ada", "eve") * 25))
        assert made == ["operation.html"] * 2
        assert ["Run again" in text for text in pages] == [True, False] * 25
        await next_second(site)
        await page("ada")
        assert len(made) == 3


async def test_a_store_that_is_away_is_told_and_then_that_it_is_back(site: Site, store: FaultyStore) -> None:
    async with watching(site, of="overview") as stream:
        _, before = await stream.event()
        store.fail("stats", times=1)
        await next_second(site)
        assert (await stream.event())[0] == "away"
        await next_second(site)
        assert await stream.event() == ("look", before)


async def test_an_operation_that_vanishes_is_told(site: Site) -> None:
    op = await site.client.create(lease=False)
    async with watching(site, of="operation", name=op.name) as stream:
        assert (await stream.event())[0] == "look"
        await site.client.delete_operation(op.name)
        await next_second(site)
        assert (await stream.event())[0] == "gone"


async def test_a_drain_ends_the_streams(site: Site) -> None:
    async with watching(site, of="workers") as stream:
        await stream.event()
        await site.client.drain(0)
        assert await stream.ended()


async def test_a_stream_ends_so_that_its_reader_is_asked_again_who_it_is(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "LIFE", 0.0)
    async with watching(site, of="overview") as stream:
        assert await stream.ended()


async def test_a_head_request_of_the_stream_ends(site: Site) -> None:
    assert (await site.http.head("events")).status_code == 404


async def test_a_store_that_is_slow_is_not_asked_twice_at_a_time() -> None:
    clock, answered, asked = ManualClock(), asyncio.Event(), 0
    looks: Shared[Look] = Shared(clock)

    async def slow() -> Look:
        nonlocal asked
        asked += 1
        await answered.wait()
        return Look({}, str(asked))

    first = asyncio.create_task(looks.at("stats", slow))
    await all_blocked()
    await clock.advance(5)
    second = asyncio.create_task(looks.at("stats", slow))
    await all_blocked()
    answered.set()
    assert [(await first).tag, (await second).tag] == ["1", "1"]
    assert (await looks.at("stats", slow)).tag == "2"
