"""A life as spans, where the clock or the trail is not what it should be."""

from __future__ import annotations

from lro_aio.core import trail
from lro_aio.core.record import Record, State, Wait
from lro_aio.core.timeline import Span, spans
from lro_aio.core.trail import noted


def record(*happened: tuple[float, str, str], **fields: object) -> Record:
    told = ""
    for when, kind, text in happened:
        told = noted(told, when, kind, text)
    base = Record(
        name="operations/a",
        uid="u",
        state=State.RUNNING,
        create_time=100.0,
        update_time=100.0,
        handler="job",
        trail=told,
    )
    return base.evolve(**fields)


def seen(made: Record) -> list[tuple[str, float, float | None]]:
    return [(span.kind, span.start, span.end) for span in spans(made, ())]


def test_a_row_without_a_trail_is_queued() -> None:
    assert spans(record(), ()) == [Span(start=100.0, end=None, kind="QUEUED")]


def test_no_span_ends_before_it_begins_where_a_clock_was_set_back() -> None:
    made = record((150.0, trail.CLAIMED, "a"), (120.0, trail.SUSPENDED, "until then; then on"))
    assert seen(made) == [("QUEUED", 100.0, 150.0), ("WAIT", 120.0, None), ("SEGMENT", 150.0, 150.0)]


def test_a_pause_lies_beside_what_goes_on() -> None:
    made = record((101.0, trail.CLAIMED, "a"), (105.0, trail.PAUSED, "why"), (109.0, trail.UNPAUSED, ""))
    assert seen(made) == [("QUEUED", 100.0, 101.0), ("SEGMENT", 101.0, None), ("PAUSE", 105.0, 109.0)]


def test_lines_of_a_newer_release_are_passed_by() -> None:
    made = record((101.0, trail.CLAIMED, "a"), (102.0, "TELEPORTED", "x; then y"))
    assert seen(made) == [("QUEUED", 100.0, 101.0), ("SEGMENT", 101.0, None)]


def test_a_resume_point_is_read_from_the_end_of_what_a_segment_said() -> None:
    waits = "for a message on a; then b; then collect"
    made = record((101.0, trail.CLAIMED, "a"), (102.0, trail.SUSPENDED, waits), (103.0, trail.CLAIMED, "a"))
    assert [span.label for span in spans(made, ()) if span.kind == "SEGMENT"] == ["", "collect"]


def test_however_long_the_wait_is_told_the_resume_point_is_known() -> None:
    wait = Wait(token="t", sleep_until=0.0, children=(f"projects/{'x' * trail.LONGEST}/operations/child",))
    told = trail.suspended(noted("", 101.0, trail.CLAIMED, "a"), 102.0, wait, "collect")
    made = record(trail=noted(told, 103.0, trail.CLAIMED, "a"))
    assert [span.label for span in spans(made, ()) if span.kind == "SEGMENT"] == ["", "collect"]
    [waited] = [span.label for span in spans(made, ()) if span.kind == "WAIT"]
    assert waited.startswith("for projects/xxx")


def test_what_an_older_release_cut_off_is_a_wait_and_no_resume_point() -> None:
    cut = f"for projects/{'x' * trail.LONGEST}/operations/child; then collect"
    made = record((101.0, trail.CLAIMED, "a"), (102.0, trail.SUSPENDED, cut), (103.0, trail.CLAIMED, "a"))
    assert [span.label for span in spans(made, ()) if span.kind == "SEGMENT"] == ["", ""]
    assert [span.label for span in spans(made, ()) if span.kind == "WAIT"] == [cut[: trail.LONGEST]]
