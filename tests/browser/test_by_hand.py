"""What a person does on the pages: by keyboard alone, and where scripts do not run."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from ..waiting import reached
from .conftest import Open, expect
from .site import Site, serving

if TYPE_CHECKING:
    from playwright.async_api import Page

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

MOST_STOPS = 60
"""Presses of the Tab key: more than the shortest way on any page here."""

SAID = """() => {
    const one = document.activeElement;
    const [label] = one.labels || [];
    return one.getAttribute("aria-label") || (label || one).innerText;
}"""


async def go_to(page: Page, text: str) -> None:
    """Press Tab until something with this text has the focus, and it can be seen that it has."""
    for _ in range(MOST_STOPS):
        await page.keyboard.press("Tab")
        if (await page.evaluate(SAID)).startswith(text):
            assert await page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
            return
    raise AssertionError(f"the Tab key does not lead to {text!r}")


async def confirmed(page: Page, verb: str, button: str, reason: str = "by hand", **fields: str) -> None:
    """Press a button, fill in what the next page asks for, and press Enter."""
    await go_to(page, button)
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/confirm")
    for label, text in fields.items():
        await go_to(page, label)
        await page.keyboard.type(text)
    await go_to(page, "Reason")
    await page.keyboard.type(reason)
    await go_to(page, verb)
    await page.keyboard.press("Enter")
    await page.wait_for_url(lambda url: not url.endswith("/confirm"))


async def test_the_first_stop_skips_the_navigation(site: Site, page: Page) -> None:
    await page.goto("operations")
    await page.keyboard.press("Tab")
    assert await page.evaluate(SAID) == "Skip to content"
    await page.keyboard.press("Enter")
    await go_to(page, "Filter")


async def test_every_action_is_done_by_keyboard_alone(site: Site, page: Page) -> None:
    name = await site.started("asks")
    await page.goto(f"operation?name={quote(name)}")
    head = page.locator("#live-head .state")
    await confirmed(page, "Pause", "Pause…")
    await expect(head).to_have_text("Paused")
    await confirmed(page, "Unpause", "Unpause…")
    await confirmed(page, "Send", "Send a message…", Topic="approval", Message='{"fine": true}')
    await expect(head).to_have_text("Succeeded")
    await confirmed(page, "Run 1 again", "Run again…")
    again = (await site.client.describe(name)).reruns[0]
    assert quote(again, safe="") in page.url
    await confirmed(page, "Cancel", "Cancel…")
    await expect(head).to_have_text("Cancelled")
    await confirmed(page, "Delete", "Delete…")
    await expect(page.get_by_role("heading", name="Operations")).to_be_visible()
    assert await page.get_by_label(f"Select {again}").count() == 0
    assert sum("ada: by hand" in entry.text for entry in await site.client.history(name)) == 3


async def test_some_and_all_are_acted_on_by_keyboard_alone(site: Site, page: Page) -> None:
    names = [await site.started("asks") for _ in range(3)]
    await page.goto("operations")
    await go_to(page, "Action")
    await page.keyboard.type("Ca")
    await go_to(page, f"Select {names[2]}")
    await page.keyboard.press("Space")
    for _ in range(2):
        await page.keyboard.press("Shift+Tab")
    assert (await page.evaluate(SAID)).startswith("On selected")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/confirm")
    await expect(page.get_by_role("heading", name="Cancel 1 operation?")).to_be_visible()
    await go_to(page, "Cancel 1")
    await page.keyboard.press("Enter")
    await reached(site.client, names[2], "CANCELLED")
    await page.goto("operations?filter=handler%20%3D%20asks%20AND%20done%20%3D%20false")
    await go_to(page, "Action")
    await page.keyboard.type("Ca")
    await confirmed(page, "Cancel 2", "On all that match")
    for name in names[:2]:
        await reached(site.client, name, "CANCELLED")


async def test_without_scripts_all_of_it_works(site: Site, open_page: Open) -> None:
    name, failed = await site.started("asks"), await site.started("fails", "no disk")
    async with open_page(site, java_script_enabled=False) as page:
        await page.goto("./")
        await page.get_by_role("link", name="Failures", exact=True).click()
        await expect(page.get_by_text("no disk").first).to_be_visible()
        await page.get_by_role("link", name="Operations", exact=True).click()
        await page.get_by_label("Filter").fill("handler = asks")
        await page.get_by_label("Filter").press("Enter")
        assert await page.get_by_label(f"Select {failed}").count() == 0
        await page.get_by_role("link", name=name).click()
        await page.get_by_role("button", name="Cancel").click()
        await page.get_by_label("Reason").fill("not needed")
        await page.get_by_role("button", name="Cancel 1").click()
        await reached(site.client, name, "CANCELLED")
        while (await page.locator("#live-head .state").inner_text()).strip() != "Cancelled":
            await page.reload()  # the look that others share may be a second old
        await page.get_by_text("As a table").click()
        await expect(page.locator("#live-chart table")).to_be_visible()


async def test_one_of_what_fails_alike_is_tried_and_then_the_others_in_five_clicks(site: Site, page: Page) -> None:
    names = [await site.started("mends", "the disk is away") for _ in range(5)]
    await page.goto("./")
    await expect(page.get_by_text("the disk is away")).to_be_visible()
    site.goes_on.set()
    await page.get_by_role("link", name="what to do about them").click()
    for button in ("Run one again…", "Run 1 again", "Run the others again…", "Run 4 again"):
        await page.get_by_role("button", name=button).click()
    await expect(page.get_by_text("Run again: 4 done")).to_be_visible()
    for name in names:
        assert len((await site.client.describe(name)).reruns) == 1
    await page.get_by_role("link", name="To the failures").click()
    await expect(page.get_by_text("all run again")).to_be_visible()


async def test_a_double_click_does_it_once(site: Site, page: Page) -> None:
    name = await site.started("says", "twice")
    await page.goto(f"operation?name={quote(name)}")
    await page.get_by_role("button", name="Run again").click()
    await page.get_by_role("button", name="Run 1 again").dblclick()
    await page.wait_for_url("**/operation?*")
    assert len((await site.client.describe(name)).reruns) == 1


async def test_queues_and_schedules_are_paused_and_run_by_keyboard_alone(open_page: Open) -> None:
    async with serving(standing=True) as site, open_page(site) as page:
        for path, name in (("queues", "models"), ("schedules", "nightly")):
            await page.goto(path)
            row = page.locator("tr", has=page.get_by_role("cell", name=name))
            for button, state in (("Pause", "Paused"), ("Unpause", "Open" if path == "queues" else "Active")):
                await confirmed(page, button, f"{button}: {name}")
                assert page.url.endswith(path)
                await expect(row.locator(".state")).to_have_text(state)
        await page.goto("queues")
        await confirmed(page, "Set limits", "Set limits: models", **{"At a time": "3"})
        await expect(page.get_by_role("cell", name="3 at a time")).to_be_visible()
        await page.goto("schedules")
        await confirmed(page, "Run now", "Run now: nightly")
        await expect(page.locator("#live-head .state")).to_have_text("Succeeded")


async def test_queues_and_schedules_need_no_scripts(open_page: Open) -> None:
    async with serving(standing=True) as site, open_page(site, java_script_enabled=False) as page:
        await page.goto("./")
        await page.get_by_role("link", name="Queues", exact=True).click()
        await page.get_by_role("button", name="Pause: models").click()
        await page.get_by_label("Reason").fill("the bill")
        await page.get_by_role("button", name="Pause").click()
        await expect(page.get_by_role("button", name="Unpause: models")).to_be_visible()
        await page.get_by_role("link", name="Schedules", exact=True).click()
        await page.locator("summary").first.click()
        await expect(page.locator("td li").first).to_be_visible()
        await page.get_by_role("button", name="Run now: nightly").click()
        await page.get_by_role("button", name="Run now").click()
        await expect(page.get_by_role("heading", level=1)).to_contain_text("operations/")
