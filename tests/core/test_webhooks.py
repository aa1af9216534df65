"""What an end makes besides itself, whichever function of ``transitions`` writes it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest

from lro_aio.core import failing, pausing, rerunning, trail, webhooks
from lro_aio.core import transitions as t
from lro_aio.core.bookkeeping import keep
from lro_aio.core.change import Change, run
from lro_aio.core.history import history_of
from lro_aio.core.record import Record, State, Wait
from lro_aio.core.status import cancelled, make_status
from lro_aio.core.webhooks import HANDLER, Webhook

from .sample_rows import NEXT, NOW, RETENTION, WORKER, a_row, creators, ended, held, running

URL = "https://a.example/hooks?token=secret"
HOOKS = webhooks.noted([Webhook(URL, ("succeeded", "failed", "cancelled", "paused"))], NOW)
BAD = make_status(5, "no such file", reason="NO_FILE")
RUN = running(trail=HOOKS)
ASLEEP = a_row(State.SUSPENDED, wait=NEXT, owner="", trail=HOOKS)
TOO_LATE = replace(ASLEEP, deadline=NOW - 1)
WORN_OUT = a_row(State.PENDING, attempt=9, trail=HOOKS)
ON = {"now": NOW, "retention": RETENTION}
Event = Callable[[Record], Record | None]


def made_by(row: Record, event: Event) -> list[Record]:
    """The deliveries that an event makes: they are among the rows to be written, and nothing else is."""
    change = Change(row.name, event)
    rows: dict[str, Record | None] = {row.name: row}
    (outcome,) = run([change], rows)
    assert not isinstance(outcome, Exception), outcome
    assert set(rows) == {row.name, *(made.name for made in change.made)}
    return list(change.made)


ENDINGS: dict[str, tuple[Record, Event, str]] = {
    "a handler's result": (RUN, partial(t.finish, holder=held(RUN), **ON), "succeeded"),
    "a handler's error": (RUN, partial(t.finish, holder=held(RUN), error=BAD, **ON), "failed"),
    "a failure": (RUN, partial(failing.fail, holder=held(RUN), error=BAD, then=failing.OnFailure(), **ON), "failed"),
    "a failure that pauses": (
        RUN,
        partial(failing.fail, holder=held(RUN), error=BAD, then=failing.OnFailure(pause=True), **ON),
        "paused",
    ),
    "a pause by hand": (RUN, partial(pausing.pause, now=NOW), "paused"),
    "a pause of what sleeps": (ASLEEP, partial(pausing.pause, now=NOW), "paused"),
    "a cancel of what sleeps": (ASLEEP, partial(t.request_cancel, token="t", **ON), "cancelled"),
    "a cancel while it ran": (
        replace(RUN, cancel_requested=True),
        partial(t.suspend, holder=held(RUN), wait=NEXT, resume_point="on", **ON),
        "cancelled",
    ),
    "a cancel that the handler let through": (
        replace(RUN, cancel_requested=True),
        partial(t.finish, holder=held(RUN), error=cancelled(), **ON),
        "cancelled",
    ),
    "a deadline": (TOO_LATE, partial(failing.overdue, then=failing.OnFailure(), **ON), "failed"),
    "a claim behind the deadline": (TOO_LATE, partial(t.claim, now=NOW, by=WORKER, token="t2"), "failed"),
    "too many crashes": (WORN_OUT, partial(t.claim, now=NOW, by=WORKER), "failed"),
    "a creator that died": (creators(NOW - 1, trail=HOOKS), partial(t.lose_creator, **ON), "failed"),
    "an end by hand": (
        replace(creators(None), claim=0, owner="", trail=HOOKS),
        partial(t.finish, holder=t.Holder("u1", 0), **ON),
        "succeeded",
    ),
    "the end that another program wrote": (
        ended(State.SUCCEEDED, end_time=None, expire_time=None, trail=HOOKS),
        partial(t.settle, **ON),
        "succeeded",
    ),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_way_to_an_end_is_told(ending: str) -> None:
    row, event, kind = ENDINGS[ending]
    (made,) = made_by(row, event)
    body = json.loads(json.loads(made.state_data)["body"])
    assert (body["type"], body["data"]["name"]) == (f"operation.{kind}", row.name)
    assert (made.handler, made.state, made.check_time) == (HANDLER, State.PENDING, made.create_time)


@pytest.mark.parametrize("ending", ENDINGS)
def test_without_a_webhook_nothing_is_made(ending: str) -> None:
    row, event, _ = ENDINGS[ending]
    assert made_by(replace(row, trail=""), event) == []


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_was_deleted_tells_nobody(ending: str) -> None:
    row, event, _ = ENDINGS[ending]
    rows: dict[str, Record | None] = {row.name: replace(row, deleted=True)}
    run([Change(row.name, event)], rows)  # some refuse, since they do not find it
    assert set(rows) == {row.name}


def test_what_has_ended_or_is_paused_is_told_once() -> None:
    row = ended(State.SUCCEEDED, trail=HOOKS)
    assert made_by(row, partial(keep, until=NOW + 1000)) == []
    assert made_by(replace(ASLEEP, paused=True), partial(pausing.pause, now=NOW)) == []
    assert made_by(replace(ASLEEP, paused=True), partial(pausing.unpause, now=NOW)) == []


def test_the_same_end_makes_the_same_delivery_however_often_it_is_tried() -> None:
    row, event, _ = ENDINGS["a failure"]
    assert made_by(row, event) == made_by(row, event)
    other = replace(row, uid="u2")
    (mine,), (theirs,) = made_by(row, event), made_by(other, lambda _: event(row).evolve(uid="u2"))  # type: ignore[union-attr]
    assert mine.name != theirs.name


def test_a_change_that_is_refused_makes_nothing_even_if_it_did_before() -> None:
    row, event, _ = ENDINGS["a failure"]
    change = Change(row.name, event)
    run([change], {row.name: row})
    assert change.made
    rows: dict[str, Record | None] = {row.name: ended(State.FAILED, trail=HOOKS)}
    run([change], rows)
    assert change.made == ()
    assert set(rows) == {row.name}


def test_each_webhook_that_wants_it_gets_a_delivery_of_its_own() -> None:
    hooks = [Webhook(URL), Webhook("https://b.example", ("succeeded",)), Webhook(URL)]
    row, event, _ = ENDINGS["a failure"]
    made = made_by(replace(row, trail=webhooks.noted(hooks, NOW)), event)
    assert [json.loads(one.state_data)["url"] for one in made] == [URL, URL]
    assert len({one.name for one in made}) == 2
    assert len({json.loads(one.state_data)["id"] for one in made}) == 2


def test_the_text_of_an_error_is_not_told() -> None:
    (made,) = made_by(*ENDINGS["a failure"][:2])
    assert b"no such file" not in made.state_data
    assert json.loads(json.loads(made.state_data)["body"])["data"]["reason"] == "NO_FILE"


def test_the_webhook_is_the_line_of_a_trail_that_stays() -> None:
    told = HOOKS
    for number in range(100):
        told = trail.noted(told, NOW + number, trail.HANDED_OVER, str(number))
    assert told.startswith(HOOKS + "\n")
    assert [one.text for one in trail.happenings(told)][1:] == [str(number) for number in range(69, 100)]
    assert webhooks.wanted(a_row(trail=told)) == webhooks.wanted(a_row(trail=HOOKS))


@pytest.mark.parametrize("now", [0.0, 1e9, 253_402_300_799.0])
def test_a_trail_is_known_by_its_first_line_at_any_time(now: float) -> None:
    assert trail.is_pinned(webhooks.noted([Webhook(URL)], now))
    assert not trail.is_pinned(trail.noted("", now, trail.CANCEL, "no WEBHOOKS here"))
    assert not trail.is_pinned(trail.noted("", now, trail.CLAIMED, "WEBHOOKS host"))


def test_a_rerun_begins_with_the_webhook_and_says_what_it_runs_again() -> None:
    source = ended(State.FAILED, trail=trail.noted(HOOKS, NOW, trail.WEBHOOK, "x"))
    again = rerunning.again(source, name="operations/b", uid="u9", now=NOW + 5, fingerprint="")
    assert webhooks.wanted(again) == webhooks.wanted(source)
    assert rerunning.links(again.trail, "of") == (source.name,)
    assert trail.WEBHOOK + " x" not in again.trail


def test_events_of_a_newer_release_keep_no_row_from_its_end() -> None:
    newer = f'{NOW:.3f} WEBHOOKS [{{"url":"{URL}","events":["melted","failed"],"more":1}}]'
    row, event, _ = ENDINGS["a failure"]
    assert len(made_by(replace(row, trail=newer), event)) == 1
    row, event, _ = ENDINGS["a handler's result"]
    assert made_by(replace(row, trail=newer), event) == []


def test_a_delivery_waits_with_a_token_that_nobody_can_guess() -> None:
    (made,) = made_by(*ENDINGS["a failure"][:2])
    assert isinstance(made.wait, Wait)
    assert made.uid in made.wait.token
    assert made.uid not in json.loads(made.state_data)["id"]


def test_a_history_shows_no_query_of_a_url() -> None:
    told = [entry.text for entry in history_of(a_row(trail=HOOKS), ()) if entry.kind == trail.WEBHOOKS]
    assert told == ["succeeded, failed, cancelled, paused to https://a.example/hooks"]


def test_what_was_told_of_the_end_is_known_although_its_line_has_been_dropped() -> None:
    row, event, _ = ENDINGS["a handler's result"]
    rows: dict[str, Record | None] = {row.name: row}
    run([Change(row.name, event)], rows)
    end = rows[row.name]
    assert end is not None
    (told,) = webhooks.tellings(end)
    assert (told.event, told.again, told.delivery in rows) == ("succeeded", False, True)
    for number in range(trail.MOST):
        end = rerunning.linked(end, now=NOW, to=f"operations/again-{number}")
    assert "WEBHOOK operation" not in end.trail
    assert [one.delivery for one in webhooks.tellings(end)] == [told.delivery]


def test_what_is_sent_again_is_noted_once_with_its_reason() -> None:
    row, event, _ = ENDINGS["a failure"]
    change = Change(row.name, event)
    (end,) = run([change], {row.name: row})
    assert isinstance(end, Record)
    (first,) = change.made
    made = webhooks.again(json.loads(first.state_data), end, name="again-1", uid="u9", now=NOW + 60)
    noted = webhooks.sent_again(end, [made], now=NOW + 60, reason="ada: it was down")
    assert webhooks.sent_again(noted, [made], now=NOW + 61) is noted
    assert [(one.again, one.event, one.delivery) for one in webhooks.tellings(noted)] == [
        (False, "failed", first.name),
        (True, "failed", made.name),
    ]
    assert noted.trail.endswith(f"operation.failed to {made.name} again (ada: it was down)")
    assert webhooks.tellings(replace(end, trail="")) == ()
