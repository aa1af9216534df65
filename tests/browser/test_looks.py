"""Every page, whatever it shows: to be read by everybody, on every screen, and without a complaint of the browser."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
import pytest_asyncio

from .conftest import Open
from .site import Site, serving

if TYPE_CHECKING:
    from playwright.async_api import Page

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

WIDTHS = (390, 768, 1030, 1440)
"""A phone, a tablet, the least at which tables are drawn as such, a desk."""
STANDING = (("queues", "unpause"), ("queues", "limit"), ("schedules", "run"), ("schedules", "pause"))
"""Pages of what is no operation, and what is done there."""


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=[0, 3, 120])
async def filled(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Site, list[str]]]:
    """A site with so many operations."""
    async with serving(standing=request.param > 0) as site:
        if request.param:
            await site.line_up(request.param)
        yield site, await site.fill(request.param)


def pages(names: list[str], most: int = 15) -> list[str]:
    """One of each kind of page; of ``most`` operations."""
    lists = ["./", "operations", "failures", "queues", "schedules", "workers"]
    odd = ["operations?filter=nonsense", "nowhere", "operation?name=no"]
    filters = ["state = FAILED", "handler = asks"]
    return [
        *lists,
        *odd,
        *(f"operations?filter={quote(text)}" for text in filters),
        *(f"operation?name={quote(name)}" for name in names[:most]),
    ]


async def overflow(page: Page) -> list[str]:
    """What is wider than the screen, in words."""
    found: list[str] = await page.evaluate(
        """() => {
            const most = document.documentElement.clientWidth;
            if (document.documentElement.scrollWidth <= most) return [];
            return [...document.querySelectorAll("body *")].filter((one) => one.getBoundingClientRect().right > most)
                .map((one) => one.tagName + "." + one.className).slice(0, 5);
        }"""
    )
    return found


@pytest.mark.parametrize("width", WIDTHS)
async def test_nothing_is_wider_than_the_screen(open_page: Open, filled: Any, width: int) -> None:
    site, names = filled
    async with open_page(site, complains=True, viewport={"width": width, "height": 900}) as page:
        for path in pages(names):
            await page.goto(path)
            await page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
            assert await overflow(page) == [], path
        for verb in ("cancel", "send"):
            for path in pages(names)[-1:] if names else ():
                await confirming(page, path, verb)
                assert await overflow(page) == [], verb
        for path, verb in STANDING if names else ():
            await confirming(page, path, verb)
            assert await overflow(page) == [], (path, verb)


async def confirming(page: Page, path: str, verb: str) -> None:
    """The page that asks whether to do it."""
    await page.goto(path)
    buttons = page.locator(f"button[value={verb}]")
    if await buttons.count():
        await buttons.first.click()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_serious(open_page: Open, filled: Any, scheme: Any) -> None:
    from axe_playwright_python.async_playwright import Axe

    site, names = filled
    async with open_page(site, complains=True, color_scheme=scheme, viewport={"width": 1280, "height": 900}) as page:
        for path in pages(names, 5):
            await page.goto(path)
            await page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
            found = (await Axe().run(page)).response["violations"]
            assert told(found) == [], path
        for verb in ("cancel", "send", "delete"):
            for path in pages(names)[-1:] if names else ():
                await confirming(page, path, verb)
                assert told((await Axe().run(page)).response["violations"]) == [], verb
        for path, verb in STANDING if names else ():
            await confirming(page, path, verb)
            assert told((await Axe().run(page)).response["violations"]) == [], (path, verb)


def told(violations: list[Any]) -> list[str]:
    grave = [one for one in violations if one["impact"] in ("serious", "critical")]
    return [f"{one['id']}: {node['html'][:200]} {node['failureSummary']}" for one in grave for node in one["nodes"][:3]]


async def test_the_browser_complains_of_nothing(open_page: Open, filled: Any) -> None:
    """Neither of an error, nor of what the page's policy forbids; and no text of a stranger did anything."""
    site, names = filled
    async with open_page(site) as page:
        for path in pages(names, 5):
            if "nonsense" in path or path in ("nowhere", "operation?name=no"):
                continue  # answered with an error, of which the browser tells
            await page.goto(path)
            assert "caught" not in await page.title()
            assert await page.locator("b").count() == 0
