"""The life of an operation as lanes of bars, in the coordinates of an SVG that stretches to any width."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from lro_aio.dashboard.texts import length

__all__ = ["WIDTH", "Bar", "Chart", "Lane", "drawn"]

WIDTH = 1000
THINNEST = 5
"""Of a bar: what took no time must be seen on a phone, too."""
ROW = 16
"""Height of the bars that stand side by side, with the gap below them."""
MOST_ROWS = 5
"""Bars that stand one above the other in a lane."""
SMALL = 0.02
"""Of the whole: where half of all stretches are smaller, long ones are drawn shorter than they are."""
SHRINK = 0.3

LANES = (
    ("Runs", ("QUEUED", "SEGMENT")),
    ("Steps", ("STEP",)),
    ("Waits", ("WAIT", "SLEEP", "PAUSE")),
    ("Events", ("MESSAGE", "CRASH", "CANCEL")),
)


@dataclass(frozen=True, slots=True)
class Bar:
    """A span, drawn."""

    x: float
    width: float
    y: int
    kind: str
    title: str
    bad: bool


@dataclass(frozen=True, slots=True)
class Lane:
    """Spans of related kinds."""

    name: str
    bars: tuple[Bar, ...]
    height: int
    summary: str
    """For who cannot see it."""


@dataclass(frozen=True, slots=True)
class Chart:
    """All lanes."""

    lanes: tuple[Lane, ...]
    start: float
    end: float
    scaled: bool
    """Whether long stretches are drawn shorter than they are."""
    now: float | None
    """Where the present is; None where the operation has ended."""

    @property
    def bad(self) -> bool:
        """Whether one of the bars failed."""
        return any(bar.bad for lane in self.lanes for bar in lane.bars)

    @property
    def kinds(self) -> list[str]:
        """Of the bars, each once."""
        return list(dict.fromkeys(bar.kind for lane in self.lanes for bar in lane.bars))


def drawn(timeline: Sequence[Mapping[str, Any]], now: float, *, done: bool, since: float = 0.0) -> Chart | None:
    """The chart of an operation; None where there is nothing to draw.

    Args:
        timeline: As ``facts.of_operation`` tells it.
        now: Epoch seconds.
        done: Whether the operation has ended.
        since: When it was made. Steps that ended before were kept from the operation that it runs again.
    """
    timeline = [span for span in timeline if span["kind"] != "STEP" or span["end"] is None or span["end"] >= since]
    if not timeline:
        return None
    start = min(span["start"] for span in timeline)
    last = max(span["start"] if span["end"] is None else span["end"] for span in timeline)
    end = max(last if done else min(last, now + (now - start) * 0.1), start + 0.001)
    end = end if done else max(end, now)
    place, scaled = _scale(timeline, start, end)
    lanes = [_lane(name, [s for s in timeline if s["kind"] in kinds], place, end) for name, kinds in LANES]
    known = {kind for _, kinds in LANES for kind in kinds}
    lanes.append(_lane("Other", [s for s in timeline if s["kind"] not in known], place, end))
    return Chart(tuple(lane for lane in lanes if lane.bars), start, end, scaled, None if done else place(now))


def _scale(timeline: Sequence[Mapping[str, Any]], start: float, end: float) -> tuple[Callable[[float], float], bool]:
    """Where a moment is drawn, and whether that is not in proportion to the time."""
    moments = {start, end}
    for span in timeline:
        moments |= {min(max(when, start), end) for when in (span["start"], span["end"]) if when is not None}
    edges = sorted(moments)
    stretches = [later - earlier for earlier, later in pairwise(edges)]
    whole = end - start
    scaled = len(stretches) > 1 and sorted(stretches)[len(stretches) // 2] < SMALL * whole
    widths = [(stretch / whole) ** SHRINK if scaled else stretch / whole for stretch in stretches]
    total = sum(widths)
    positions = {edges[0]: 0.0}
    x = 0.0
    for edge, width in zip(edges[1:], widths, strict=True):
        x += width / total * WIDTH
        positions[edge] = x

    def place(when: float) -> float:
        when = min(max(when, start), end)
        if when in positions:
            return positions[when]
        before = max(edge for edge in edges if edge <= when)
        after = min(edge for edge in edges if edge >= when)
        share = (when - before) / (after - before)
        return positions[before] + share * (positions[after] - positions[before])

    return place, scaled


def _lane(name: str, spans: Sequence[Mapping[str, Any]], place: Callable[[float], float], end: float) -> Lane:
    free: list[float] = []
    bars = []
    for span in spans:
        x = min(place(span["start"]), WIDTH - THINNEST)
        width = max(place(end if span["end"] is None else span["end"]) - x, THINNEST)
        row = next((row for row, until in enumerate(free) if until <= x + 0.01), len(free))
        if row == len(free) and row < MOST_ROWS:
            free.append(0.0)
        row = min(row, MOST_ROWS - 1)
        free[row] = max(free[row], x + width)
        bars.append(Bar(round(x, 2), round(width, 2), row * ROW, span["kind"], title(span), is_bad(span)))
    summary = f"{name}: {len(spans)}" + (f", {sum(bar.bad for bar in bars)} failed" if any(b.bad for b in bars) else "")
    return Lane(name, tuple(bars), len(free) * ROW, summary)


def is_bad(span: Mapping[str, Any]) -> bool:
    """Whether it failed."""
    return span["kind"] == "CRASH" or span["outcome"] in ("FAILED", "CRASHED", "RETRIED")


def title(span: Mapping[str, Any]) -> str:
    """What a span is, in a few words."""
    parts = [span["kind"].lower(), span["label"] or ("start" if span["kind"] == "SEGMENT" else "")]
    if span["end"] is not None and span["end"] > span["start"]:
        parts.append(length(span["end"] - span["start"]))
    parts += [span["outcome"].lower(), span["error"]]
    return ", ".join(filter(None, parts))[:300]
