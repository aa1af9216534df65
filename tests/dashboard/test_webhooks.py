"""What an operation has told by webhooks, on its page: what came of it, what is to come, and a way to tell it again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

import lro_aio as lro
from lro_aio.dashboard import Access, Dashboard, Shown
from lro_aio.testing import FaultyStore, ManualClock

from ..receiver import Receiver, receiving, response
from ..waiting import reached, until
from .conftest import EVIL, SAME, Note, Serve, Site, everybody, field

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as found:
        yield found


@pytest_asyncio.fixture
async def telling(
    handlers: lro.Handlers, clock: ManualClock, tmp_path: Path, receiver: Receiver
) -> AsyncIterator[lro.Client]:
    """A client whose operations tell."""
    store = FaultyStore(lro.SqliteStore(f"sqlite:///{tmp_path}/o.db"))
    async with lro.Client(store, handlers=handlers, clock=clock, webhooks=receiver.rules()) as opened:
        yield opened


@pytest_asyncio.fixture
async def site(serve: Serve, telling: lro.Client, clock: ManualClock) -> AsyncIterator[Site]:
    async with serve(Dashboard(telling, authorize=everybody(Access.full("ada")))) as found:
        yield Site(found.http, telling, clock)


async def ended(site: Site, receiver: Receiver, handler: str = "echo", *events: str) -> str:
    """An operation that has told its receiver of its end."""
    hook = lro.Webhook(receiver.url, **({"events": events} if events else {}))  # type: ignore[arg-type]
    name = (await site.client.start(handler, Note("no disk"), webhook=hook)).name
    await until(lambda: receiver.requests)
    return name


async def told(site: Site, name: str, fits: Callable[[Any], bool]) -> Any:
    """What the page tells of the deliveries once they are so."""
    found: Any = None

    async def look() -> bool:
        nonlocal found
        found = await site.json("operation", name=name)
        return fits(found["deliveries"])

    for _ in range(100):
        if await look():
            return found
        await site.clock.advance(1)
    raise AssertionError(found["deliveries"])


async def test_before_the_end_it_says_whom_it_will_tell_of_what(site: Site, receiver: Receiver) -> None:
    op = await site.client.start("asks", Note(), webhook=lro.Webhook(receiver.url, ["failed", "cancelled"]))
    shown, page = await site.json("operation", name=op.name), await site.get("operation", name=op.name)
    assert shown["webhooks"] == [{"receiver": f"{receiver.origin}/hooks", "events": ["failed", "cancelled"]}]
    assert (shown["deliveries"], shown["canReplay"]) == ([], False)
    assert "To be told of failed, cancelled" in page
    assert "Deliver again" not in page


async def test_a_delivery_says_when_and_what_was_answered(site: Site, receiver: Receiver) -> None:
    name = await ended(site, receiver)
    shown = await told(site, name, lambda found: found[0]["state"] == "SUCCEEDED")
    [delivery] = shown["deliveries"]
    assert (delivery["event"], delivery["answer"], delivery["tries"]) == ("succeeded", "HTTP 204", 1)
    assert (delivery["receiver"], delivery["again"]) == (f"{receiver.origin}/hooks", False)
    assert delivery["time"] <= delivery["endTime"]
    page = await site.get("operation", name=name)
    for text in ("Webhooks", "Delivered", "HTTP 204", "Deliver again…"):
        assert text in page
    assert (await site.json("operation", name=delivery["name"]))["delivers"] == name
    assert "Tells of" in await site.get("operation", name=delivery["name"])


async def test_one_that_failed_says_when_it_is_tried_again(site: Site, receiver: Receiver) -> None:
    receiver.answers = [response(503)]
    name = await ended(site, receiver, "fails")
    await until(lambda: receiver.requests)
    [row] = (await site.json("operation", name=name))["deliveries"]
    await reached(site.client, row["name"], "SUSPENDED")
    await site.clock.advance(1)
    [delivery] = (await site.json("operation", name=name))["deliveries"]
    assert (delivery["event"], delivery["answer"], delivery["tries"]) == ("failed", "HTTP 503", 1)
    assert delivery["nextTime"] > delivery["time"]
    assert "To be tried again" in await site.get("operation", name=name)


async def test_one_that_was_given_up_says_why(site: Site, receiver: Receiver) -> None:
    receiver.answers = [response(410)]
    name = await ended(site, receiver)
    [delivery] = (await told(site, name, lambda found: found[0]["state"] == "FAILED"))["deliveries"]
    assert "410 Gone" in delivery["answer"]
    page = await site.get("operation", name=name)
    assert "Given up" in page
    assert "Run again" not in await site.get("operation", name=delivery["name"])
    assert "Deliver again" in await site.get("operation", name=delivery["name"])


async def test_a_delivery_that_has_expired_was_made_all_the_same(site: Site, receiver: Receiver) -> None:
    name = await ended(site, receiver)
    [delivery] = (await told(site, name, lambda found: found[0]["state"] == "SUCCEEDED"))["deliveries"]
    await site.client.delete_operation(delivery["name"])
    await site.clock.advance(1)
    shown = await site.json("operation", name=name)
    assert ([one["state"] for one in shown["deliveries"]], shown["canReplay"]) == ([""], True)
    assert "Forgotten" in await site.get("operation", name=name)


async def test_it_is_delivered_again_after_a_question_and_the_history_tells_who(site: Site, receiver: Receiver) -> None:
    name = await ended(site, receiver)
    page = await site.confirm(verb="replay", name=name)
    assert "Deliver the webhooks of 1 operation again?" in page.text
    form = {"verb": "replay", "name": name, "id": field(page.text, "id"), "reason": "it was down"}
    for _ in range(2):  # a double click
        answer = await site.http.post("act", data=form, headers=SAME)
        assert (answer.status_code, "operation?name=" in answer.headers["location"]) == (303, True)
    await until(lambda: len(receiver.requests) == 2)
    shown = await told(site, name, lambda found: [one["state"] for one in found] == ["SUCCEEDED"] * 2)
    assert [one["again"] for one in shown["deliveries"]] == [False, True]
    assert len({(request.id, request.body) for request in receiver.requests}) == 1
    [said] = [entry["text"] for entry in shown["history"] if "again" in entry["text"]]
    assert said.endswith(" again (ada: it was down)")


async def test_a_delivery_is_sent_again_from_its_own_page(site: Site, receiver: Receiver) -> None:
    name = await ended(site, receiver)
    [delivery] = (await told(site, name, lambda found: found[0]["state"] == "SUCCEEDED"))["deliveries"]
    assert (await site.act(verb="replay", name=delivery["name"])).status_code == 303
    await until(lambda: len(receiver.requests) == 2)


async def test_one_without_webhooks_says_nothing_of_them(site: Site) -> None:
    name = await site.started("echo")
    shown = await site.json("operation", name=name)
    assert (shown["webhooks"], shown["deliveries"], shown["canReplay"]) == ([], [], False)
    assert "Webhooks" not in await site.get("operation", name=name)
    answer = await site.act(verb="replay", name=name)
    assert (answer.status_code, "without a webhook" in unescape(answer.text)) == (400, True)


async def test_nothing_is_sent_by_get_from_another_site_or_without_the_right(
    site: Site, serve: Serve, receiver: Receiver
) -> None:
    name = await ended(site, receiver)
    form = {"verb": "replay", "name": name, "id": "0" * 32}
    assert (await site.http.get("act", params=form)).status_code == 405
    assert (await site.http.post("act", data=form, headers={"Sec-Fetch-Site": "cross-site"})).status_code == 403
    others = Access(name="eve", cancel=True, rerun=True, send=True)
    async with serve(Dashboard(site.client, authorize=everybody(others))) as theirs:
        assert (await theirs.http.post("act", data=form, headers=SAME)).status_code == 403
        assert "Deliver again" not in await theirs.get("operation", name=name)
    assert len(receiver.requests) == 1


async def test_the_query_of_a_receiver_is_not_shown_and_show_hides_the_rest(
    site: Site, serve: Serve, receiver: Receiver
) -> None:
    name = await ended(site, receiver)
    await told(site, name, lambda found: found[0]["state"] == "SUCCEEDED")
    assert "for=me" not in await site.get("operation", name=name)

    def show(item: Shown) -> object:
        return "(redacted)" if item.part == "text" else item.value

    async with serve(Dashboard(site.client, authorize=everybody(Access.full()), show=show)) as hidden:
        assert receiver.origin not in await hidden.get("operation", name=name)
        assert (await hidden.json("operation", name=name))["webhooks"][0]["receiver"] == "(redacted)"


async def test_a_reason_of_a_stranger_does_nothing(site: Site, receiver: Receiver) -> None:
    name = await ended(site, receiver)
    await site.act(verb="replay", name=name, reason=EVIL)
    page = await site.get("operation", name=name)
    assert "<script>alert" not in page
    assert not {"\x1b", "\u202e"} & set(page)
