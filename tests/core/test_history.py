"""Row, trail and journal as one list."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lro_aio.core import trail
from lro_aio.core.codes import Code
from lro_aio.core.history import HistoryEntry, history_of
from lro_aio.core.journal import Entry, Kind, key_of
from lro_aio.core.record import State
from lro_aio.core.status import make_status

from .sample_rows import NOW, a_row, ended


def test_everything_stands_in_its_order() -> None:
    noted = trail.noted(trail.noted("", 910.0, trail.CLAIMED, "w"), 930.0, trail.RETRIED, "ValueError: no")
    row = replace(ended(State.SUCCEEDED), trail=noted, entries=2)
    journal = [
        Entry(kind=Kind.STEP, key=key_of("render", "c1"), time=920.0, payload=b'{"a":1}', codec="json;v=1", uid="u1"),
        Entry(kind=Kind.TIMER, key="pause", time=940.0, payload=b"\x00", codec="proto:x", uid="u1"),
    ]
    assert history_of(row, journal) == [
        HistoryEntry(time=NOW - 100, kind="CREATED", name="h"),
        HistoryEntry(time=910.0, kind="CLAIMED", text="w"),
        HistoryEntry(time=920.0, kind="STEP", name="render", key="c1", text='{"a":1}'),
        HistoryEntry(time=930.0, kind="RETRIED", error="ValueError: no"),
        HistoryEntry(time=940.0, kind="TIMER", name="pause", text="proto:x"),
        HistoryEntry(time=NOW - 50, kind="SUCCEEDED"),
    ]


@pytest.mark.parametrize(
    ("state", "code", "reason", "told"),
    [
        (State.FAILED, Code.NOT_FOUND, "GONE", "NOT_FOUND GONE: it is gone"),
        (State.CANCELLED, Code.CANCELLED, "CANCELLED", "CANCELLED: it is gone"),
    ],
)
def test_an_end_says_why(state: State, code: Code, reason: str, told: str) -> None:
    error = make_status(code, "it is gone", reason=reason).SerializeToString()
    assert history_of(ended(state, error=error), [])[-1] == HistoryEntry(time=NOW - 50, kind=state, error=told)


def test_a_clock_that_was_set_back_does_not_change_the_order() -> None:
    noted = trail.noted(trail.noted("", 900.0, trail.CLAIMED), 800.0, trail.CANCEL)
    assert [entry.kind for entry in history_of(a_row(trail=noted), [])] == ["CREATED", "CLAIMED", "CANCEL"]


def test_large_payloads_are_cut_and_entries_of_another_operation_left_out() -> None:
    entry = Entry(kind=Kind.STEP, key="a", time=1.0, payload="ü".encode() * 5000, codec="json;v=1", uid="u1")
    assert history_of(a_row(), [replace(entry, uid="u0")])[1:] == []
    (_, shown) = history_of(a_row(), [entry])
    assert shown.text == "ü" * 157 + "..."
