"""One browser for all tests, and a context of its own for each: nothing of one test is seen in another."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from .programs import browser as program
from .programs import missing
from .site import Site, serving

if TYPE_CHECKING:  # who has no browser need not have them to collect the tests
    from playwright.async_api import Browser, Locator, LocatorAssertions, Page

PATIENCE = 20_000
"""Milliseconds after which the browser has failed to do what it was told."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without a browser, all tests of this directory are skipped."""
    problem = missing()
    for item in items:
        if problem and item.get_closest_marker("browser"):
            item.add_marker(pytest.mark.skip(problem))


def expect(locator: Locator) -> LocatorAssertions:
    """Playwright's assertions, which wait until they are true."""
    from playwright.async_api import expect as expected

    return expected(locator)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    from playwright.async_api import async_playwright
    from playwright.async_api import expect as expected

    expected.set_options(timeout=PATIENCE)
    async with async_playwright() as playwright:
        # The sandbox of Chromium refuses root, whom containers are; the pages here are ours.
        chromium = await playwright.chromium.launch(executable_path=program(), args=["--no-sandbox"])
        yield chromium
        await chromium.close()


@pytest_asyncio.fixture(loop_scope="session")
async def site() -> AsyncIterator[Site]:
    async with serving() as found:
        yield found


Open = Callable[..., Any]


@pytest.fixture
def open_page(browser: Browser) -> Open:
    """Opens a page, which fails the test at its end if the browser has complained of anything."""

    @asynccontextmanager
    async def opening(site: Site, *, complains: bool = False, **options: Any) -> AsyncIterator[Page]:
        context = await browser.new_context(base_url=site.url, **options)
        context.set_default_timeout(PATIENCE)
        page = await context.new_page()
        complaints: list[str] = []
        page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        try:
            yield page
        finally:
            await context.close()
        assert complains or not complaints

    return opening


@pytest_asyncio.fixture(loop_scope="session")
async def page(site: Site, open_page: Open) -> AsyncIterator[Page]:
    async with open_page(site) as opened:
        yield opened
