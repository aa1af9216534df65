"""The last things that happened to a row, as its transitions note them."""

from __future__ import annotations

import math
from dataclasses import replace

import hypothesis.strategies as st
import pytest
from hypothesis import given

from lro_aio.core import bookkeeping, trail
from lro_aio.core import transitions as t
from lro_aio.core.record import Record, State, Wait, Wake, WakeReason

from .sample_rows import LEASE, NEXT, NOW, RETENTION, WAIT, WORKER, a_row, held, running


def told(row: Record | None) -> list[tuple[str, str]]:
    assert row is not None
    return [(kind, text) for _, kind, text in trail.happenings(row.trail)]


def test_a_row_that_is_claimed_in_the_write_that_makes_it_says_by_whom() -> None:
    columns = t.first_claim(now=NOW, by=WORKER)
    assert list(trail.happenings(columns["trail"])) == [trail.Happening(NOW, trail.CLAIMED, "w")]


def test_a_segment_says_what_it_waits_for_and_the_next_one_why_it_runs() -> None:
    row = t.suspend(running(), holder=held(running()), now=NOW, retention=RETENTION, wait=NEXT, resume_point="collect")
    assert row is not None
    wake = Wake(reason=WakeReason.ELAPSED)
    assert told(t.claim(row, now=NOW + 60, by=WORKER, token="t2", wake=wake)) == [
        (trail.SUSPENDED, "until 1970-01-01 00:17:40 UTC; then collect"),
        (trail.WOKEN, "ELAPSED"),
        (trail.CLAIMED, "w"),
    ]


def test_a_retry_says_after_which_error() -> None:
    row = running()
    again = t.retry(row, holder=held(row), now=NOW, retention=RETENTION, wait=NEXT, error="ValueError: no\nmore")
    assert told(again) == [(trail.RETRIED, "ValueError: no more")]
    assert again is not None
    claimed = t.claim(again, now=NOW, by=WORKER, token="t2", wake=Wake(reason=WakeReason.ELAPSED))
    assert told(claimed)[1:] == [(trail.CLAIMED, "w")]


def test_whoever_takes_over_says_from_whom() -> None:
    dead = running(NOW - LEASE, attempt=0)
    assert told(t.claim(dead, now=NOW, by=replace(WORKER, owner="other"))) == [
        (trail.LEASE_LOST, "w"),
        (trail.CLAIMED, "other"),
    ]


def test_hand_overs_of_one_wait_are_one_line() -> None:
    """A scheduler is asked again for months: the line says when it was last."""
    row = replace(a_row(State.SUSPENDED), trail=trail.noted("", NOW, trail.CANCEL))
    for i in range(40):
        row = bookkeeping.handed_over(row, now=NOW + i, token="t1", check_time=NOW + 60, handle="h")
    assert list(trail.happenings(row.trail))[1:] == [trail.Happening(NOW + 39, trail.HANDED_OVER, "h")]
    alone = bookkeeping.handed_over(replace(row, trail=""), now=NOW, token="t1", check_time=NOW)
    assert told(bookkeeping.handed_over(alone, now=NOW, token="t1", check_time=NOW, handle="x")) == [
        (trail.HANDED_OVER, "x")
    ]


@pytest.mark.parametrize("row", [running(), a_row(State.PENDING, wait=None)])
def test_a_cancel_and_a_release_are_noted(row: Record) -> None:
    asked = t.request_cancel(row, now=NOW, retention=RETENTION, token="t")
    assert told(asked) == [(trail.CANCEL, "")]
    if asked is not None and asked.state is State.RUNNING:
        assert told(t.release(asked, holder=held(asked), now=NOW))[1:] == [(trail.RELEASED, "")]


def test_what_changes_nothing_notes_nothing() -> None:
    row = running(cancel_requested=True)
    assert t.request_cancel(row, now=NOW, retention=RETENTION, token="t") is row
    assert t.renew(running(), holder=held(running()), now=NOW, lease=LEASE).trail == ""


def test_the_last_thirty_two_lines_are_kept() -> None:
    text = ""
    for i in range(100):
        text = trail.noted(text, NOW + i, trail.CLAIMED, str(i))
    assert [line.text for line in trail.happenings(text)] == [str(i) for i in range(68, 100)]


@given(st.lists(st.tuples(st.floats(0, 1e11), st.text(max_size=400)), max_size=40))
def test_any_text_is_one_line_that_can_be_stored(lines: list[tuple[float, str]]) -> None:
    whole = ""
    for moment, text in lines:
        whole = trail.noted(whole, moment, trail.RETRIED, text)
    whole.encode()
    assert "\0" not in whole
    found = list(trail.happenings(whole))
    assert len(found) == min(len(lines), trail.MOST)
    assert len(whole) <= trail.MOST * (trail.LONGEST + 30)
    for (moment, _), line in zip(lines[-trail.MOST :], found, strict=True):
        assert line.time == pytest.approx(moment, abs=0.001)


@pytest.mark.parametrize(
    ("wait", "text"),
    [
        (WAIT, "for operations/c, of billing; then the start"),
        (replace(NEXT, children=("operations/a", "operations/b"), deadline=NOW + 90), "until 1970-01-01 00:17:40 UTC,"
         " for 2 operations, operations/a is the first, no longer than 1970-01-01 00:18:10 UTC; then the start"),
        (Wait(token="t", sleep_until=math.inf), "until the end of time; then the start"),
        (Wait(token="t", sleep_until=-1.0), "until 1970-01-01 00:00:00 UTC; then the start"),
    ],
)  # fmt: skip
def test_a_wait_is_told_in_words(wait: Wait, text: str) -> None:
    assert trail.waits_for(wait, NOW, "") == text


def test_a_wake_is_told_in_words() -> None:
    wake = Wake(
        reason=WakeReason.CHILDREN_TIMEOUT, children=("operations/a", "operations/b"), pending=("operations/a",)
    )
    assert trail.woken_by(wake) == "CHILDREN_TIMEOUT, 1 of 2 had not ended"
    assert trail.woken_by(Wake(reason=WakeReason.POLL_FAILED, error="no route")) == "POLL_FAILED: no route"
