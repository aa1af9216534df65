"""What holds for every template and file of the dashboard, whatever is shown."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest

from lro_aio import dashboard
from lro_aio.dashboard import Access, rendering, texts
from lro_aio.dashboard.chart import WIDTH, drawn

HOME = Path(dashboard.__file__).parent
TEMPLATES = sorted((HOME / "templates").glob("*.html"))
FILES = sorted((HOME / "static").iterdir())


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_no_template_has_inline_code_or_lets_anything_by_unescaped(path: Path) -> None:
    text = path.read_text()
    for forbidden in (r"\|\s*safe", r"autoescape", r"\sstyle=\"", r"\son\w+=", r"<script(?! src=)", r"javascript:"):
        assert not re.search(forbidden, text), forbidden


@pytest.mark.parametrize("path", [*TEMPLATES, *FILES], ids=lambda path: path.name)
def test_nothing_is_loaded_from_elsewhere(path: Path) -> None:
    text = path.read_text().replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?://|//cdn|@import|url\(", text)


def test_every_file_is_served_with_its_type() -> None:
    assert sorted(rendering.STATIC) == [path.name for path in FILES]
    assert rendering.static("../app.py") is None


def test_every_button_field_and_picture_has_words() -> None:
    """For who hears the page: a label, a text, or that there is nothing to be heard."""
    text = "\n".join(path.read_text() for path in TEMPLATES)
    for field in re.findall(r"<(?:input|select|textarea) [^>]*>", text):
        if "hidden" in field:
            continue
        identifier = re.search(r'id="([^"]+)"', field)
        assert "aria-label=" in field or (identifier and f'for="{identifier[1]}"' in text), field
    for picture in re.findall(r"<svg [^>]*>", text.replace('<ul class="legend" aria-hidden="true">', "")):
        assert "aria-hidden" in picture or "aria-label" in picture or picture == '<svg viewBox="0 0 12 12">'


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31m", "a\\x1b[31m"),
        ("a\u202eb", "a\\u202eb"),
        ("\ud800", "\\ud800"),
        ("line\n\ttab", "line\n\ttab"),
        ("\u00e9\u4e16\U0001f600", "\u00e9\u4e16\U0001f600"),
        ("\u2028", "\\u2028"),
    ],
)
def test_what_cannot_be_seen_is_made_visible(text: str, shown: str) -> None:
    assert texts.plain(text) == shown


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "now"), (5, "5 s ago"), (180, "3 min ago"), (7300, "2 h ago"), (86400, "1 day ago"), (-90, "in 1 min")],
)
def test_moments_are_told_as_people_do(seconds: float, said: str) -> None:
    assert texts.ago(1_000_000, 1_000_000 + seconds) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (0.25, "250 ms"), (12.34, "12.3 s"), (90, "1 min 30 s"), (7200, "2 h"), (90000, "1 d 1 h")],
)
def test_lengths_are_told_as_people_do(seconds: float, said: str) -> None:
    assert texts.length(seconds) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (0.5, "0.5 s"), (60, "1 min"), (5400, "1 h 30 min"), (90061, "1 d 1 h 1 min 1 s"), (604800, "7 d")],
)
def test_intervals_are_told_exactly(seconds: float, said: str) -> None:
    assert texts.exact_length(seconds) == said


def span(kind: str, start: float, end: float | None) -> dict[str, object]:
    return {"kind": kind, "start": start, "end": end, "label": "", "outcome": "", "error": "", "attempts": 1}


def test_a_long_wait_leaves_the_short_runs_to_be_seen() -> None:
    """Three days between two runs of a second."""
    spans = [span("SEGMENT", 0, 1), span("WAIT", 1, 259_201), span("SEGMENT", 259_201, 259_202)]
    chart = drawn(spans, 300_000, done=True)
    assert chart is not None
    assert chart.scaled
    assert all(bar.width >= 10 for lane in chart.lanes for bar in lane.bars)
    assert all(0 <= bar.x <= bar.x + bar.width <= WIDTH + 5 for lane in chart.lanes for bar in lane.bars)


def test_what_happens_at_a_time_stands_one_above_the_other() -> None:
    chart = drawn([span("STEP", 0, 10), span("STEP", 1, 9), span("STEP", 10, 12)], 20, done=True)
    assert chart is not None
    assert [bar.y for bar in chart.lanes[0].bars] == [0, 16, 0]


def test_a_sleep_of_years_does_not_squeeze_what_was() -> None:
    chart = drawn([span("SEGMENT", 0, 50), span("SLEEP", 50, 10**9)], 100, done=False)
    assert chart is not None
    assert chart.end <= 110
    assert chart.lanes[0].bars[0].width > 300


def test_steps_that_a_rerun_has_kept_do_not_squeeze_its_own_runs() -> None:
    chart = drawn(
        [span("STEP", 0, 5), span("SEGMENT", 1000, 1010), span("STEP", 1001, 1009)], 1010, done=True, since=1000
    )
    assert chart is not None
    assert (chart.start, [len(lane.bars) for lane in chart.lanes]) == (1000, [1, 1])


def test_a_chart_of_one_moment_or_of_clocks_that_were_set_is_drawn() -> None:
    assert drawn([], 5, done=True) is None
    assert drawn([span("MESSAGE", 5, 5)], 5, done=True) is not None
    assert drawn([span("SEGMENT", 9, None), span("NEWER", 3, 2)], 1, done=False) is not None


def test_behind_the_first_page_the_templates_of_the_others_are_compiled() -> None:
    rendering._environment.cache_clear()
    rendering._compile_others.cache_clear()
    rendering.render(
        "problem.html", title="", page="", access=Access(), now=0.0, version="", live=None, retry=None,
        code="OK", number=200, message="", inside=False,
    )  # fmt: skip
    [others] = [thread for thread in threading.enumerate() if thread.name == "lro-aio-dashboard-templates"]
    others.join(30)
    known = rendering._environment().cache
    assert known is not None
    assert {name for _, name in known} >= {path.name for path in TEMPLATES}
