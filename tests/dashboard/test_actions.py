"""What is done from the dashboard: to one, to some, to all that match."""

from __future__ import annotations

import asyncio
import logging
from html import unescape
from urllib.parse import unquote

import pytest

import lro_aio as lro
from lro_aio.testing import FaultyStore

from ..waiting import reached
from .conftest import SAME, Site, field

pytestmark = pytest.mark.asyncio


def led_to(location: str) -> str:
    return unquote(location.partition("name=")[2])


async def test_a_cancel_asks_first_and_tells_who_and_why(site: Site) -> None:
    name = await site.started("asks")
    page = await site.confirm(verb="cancel", name=name)
    assert "Cancel 1 operation?" in page.text
    assert not (await site.json("operation", name=name))["cancelRequested"]
    answer = await site.act(verb="cancel", name=name, reason="not needed")
    assert (answer.status_code, led_to(answer.headers["location"])) == (303, name)
    await reached(site.client, name, "CANCELLED")
    assert "ada: not needed" in [entry.text for entry in await site.client.history(name)]


async def test_pause_and_unpause_tell_who(site: Site) -> None:
    name = await site.started("asks")
    for verb, paused in (("pause", True), ("unpause", False)):
        await site.act(verb=verb, name=name)
        assert (await site.json("operation", name=name))["paused"] is paused
    assert [entry.text for entry in await site.client.history(name) if "PAUSED" in entry.kind] == ["by ada"] * 2


async def test_a_rerun_leads_to_the_new_operation_and_happens_once(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    """However often the form is sent: by a double click, or by a reload."""
    caplog.set_level(logging.INFO, "lro_aio")
    name = await site.started("fails", "no")
    page = await site.confirm(verb="rerun", name=name)
    form = {"verb": "rerun", "name": name, "id": field(page.text, "id"), "reason": "the disk\nis back"}
    answers = await asyncio.gather(*(site.http.post("act", data=form, headers=SAME) for _ in range(3)))
    [made] = {led_to(answer.headers["location"]) for answer in answers}
    assert (await site.json("operation", name=made))["rerunOf"] == name
    assert (await site.json("operation", name=name))["reruns"] == [made]
    for one, word, other in ((name, "as", made), (made, "of", name)):
        texts = [entry.text for entry in await site.client.history(one) if entry.kind == "RERUN"]
        assert texts == [f"{word} {other} (ada: the disk is back)"]
    [said] = [r for r in caplog.records if getattr(r, "event", "") == "dashboard_acted"]
    assert said.getMessage() == f"the dashboard: rerun {name} (ada: the disk is back)"


async def test_a_message_is_sent_once_as_json(site: Site) -> None:
    name = await site.started("asks")
    page = await site.confirm(verb="send", name=name)
    assert "<textarea" in page.text
    form = {"verb": "send", "name": name, "id": field(page.text, "id"), "topic": "approval", "payload": '{"yes": true}'}
    for _ in range(2):
        assert (await site.http.post("act", data=form, headers=SAME)).status_code == 303
    await reached(site.client, name, "SUCCEEDED")
    told = await site.json("operation", name=name)
    assert told["operation"]["response"]["value"] == {"yes": True}
    assert [span["kind"] for span in told["timeline"]].count("MESSAGE") == 1


async def test_a_message_that_is_no_json_is_kept_in_the_form(site: Site) -> None:
    name = await site.started("asks")
    answer = await site.act(verb="send", name=name, topic="approval", payload='{"yes": <b>')
    assert answer.status_code == 400
    assert '{"yes": <b>' in unescape(answer.text)
    assert "is not JSON" in answer.text
    assert 'value="approval"' in answer.text


async def test_a_selection_tells_what_became_of_each(site: Site) -> None:
    names = [await site.started("asks"), await site.started("asks"), await site.started("echo")]
    page = await site.confirm(verb="pause", name=names)
    assert "Pause 3 operations?" in page.text
    answer = await site.act(verb="pause", name=names)
    assert "Pause: 2 done, 1 refused" in answer.text
    assert "already ended" in unescape(answer.text)


async def test_all_that_match_are_done_by_an_operation_that_can_be_stopped(site: Site) -> None:
    names = [await site.started("fails", "no") for _ in range(3)]
    chosen = {"verb": "delete", "scope": "all", "filter": "state = FAILED"}
    page = await site.confirm(**chosen)
    assert "Delete 3 operations?" in page.text
    answer = await site.act(**chosen, reason="tidy")
    bulk = led_to(answer.headers["location"])
    told = await site.json("operation", name=bulk)
    assert told["bulk"]
    assert told["operation"]["metadata"]["value"]["reason"] == "ada: tidy"
    await reached(site.client, bulk, "SUCCEEDED")
    for name in names:
        with pytest.raises(lro.OperationNotFoundError):
            await site.client.get_operation(name)


async def test_a_bulk_action_that_runs_shows_its_progress_and_a_way_to_stop_it(site: Site) -> None:
    for _ in range(3):
        await site.started("asks")
    bulk = await site.client.pause_operations("handler = asks", force=True, per_second=0.001)
    await reached(site.client, bulk.name, "SUSPENDED")
    page = await site.get("operation", name=bulk.name)
    assert "<progress" in page
    assert "Stop…" in page
    await site.act(verb="cancel", name=bulk.name)
    await reached(site.client, bulk.name, "CANCELLED")


async def test_all_there_are_is_said_loudly_and_nothing_is_nothing(site: Site) -> None:
    await site.started("asks")
    everything = await site.confirm(verb="cancel", scope="all", filter="")
    assert "This is every operation" in everything.text
    assert "There is nothing to do" in (await site.confirm(verb="cancel", scope="all", filter="handler = none")).text


async def test_what_is_refused_says_why(site: Site) -> None:
    done = await site.started("echo")
    answer = await site.act(verb="unpause", name=done)
    assert answer.status_code == 400
    assert "already ended" in unescape(answer.text)
    assert (await site.act(verb="cancel", name="operations/none")).status_code == 404


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"verb": "drop", "name": "operations/a"},
        {"verb": "allows", "name": "operations/a"},
        {"verb": "cancel"},
        {"verb": "send", "scope": "all", "filter": "*"},
        {"verb": "cancel", "name": ["operations/a"] * 2000},
        {"verb": "cancel", "name": [f"operations/a{n}" for n in range(1050)]},
        {"verb": "cancel", "scope": "all", "filter": "state ="},
    ],
)
async def test_a_form_that_makes_no_sense_is_refused(site: Site, form: dict[str, object]) -> None:
    assert (await site.http.post("confirm", data=form, headers=SAME)).status_code == 400


async def test_nothing_is_done_without_the_page_that_asks(site: Site) -> None:
    name = await site.started("asks")
    assert (await site.http.post("act", data={"verb": "cancel", "name": name}, headers=SAME)).status_code == 400
    assert not (await site.json("operation", name=name))["cancelRequested"]


async def test_an_order_whose_answer_was_lost_may_come_again(site: Site, store: FaultyStore) -> None:
    await site.started("asks")
    form = {"verb": "pause", "scope": "all", "filter": "handler = asks"}
    page = await site.confirm(**form)
    form["id"] = field(page.text, "id")
    store.fail("apply", times=1)
    assert (await site.http.post("act", data=form, headers=SAME)).status_code == 503
    assert (await site.http.post("act", data=form, headers=SAME)).status_code == 303


async def test_an_order_for_one_whose_answer_was_lost_may_come_again_and_is_carried_out_once(
    site: Site, store: FaultyStore
) -> None:
    name = await site.started("fails", "no")
    form = {"verb": "rerun", "name": name}
    form["id"] = field((await site.confirm(**form)).text, "id")
    store.fail("apply", times=1, when="after")
    assert (await site.http.post("act", data=form, headers=SAME)).status_code == 503
    answer = await site.http.post("act", data=form, headers=SAME)
    assert (await site.client.describe(name)).reruns == (led_to(answer.headers["location"]),)


async def test_an_order_for_a_filter_is_started_once_though_its_answer_was_lost(site: Site, store: FaultyStore) -> None:
    await site.started("asks")
    form = {"verb": "pause", "scope": "all", "filter": "handler = asks"}
    form["id"] = field((await site.confirm(**form)).text, "id")
    store.fail("apply", times=1, when="after")
    assert (await site.http.post("act", data=form, headers=SAME)).status_code == 503
    answer = await site.http.post("act", data=form, headers=SAME)
    started = await site.client.list_operations('handler = "lro.bulk"')
    assert [op.name for op in started.operations] == [led_to(answer.headers["location"])]
