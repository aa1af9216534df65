"""How each cost grows as its work grows: from the lines of a run to the table of ``docs/performance.md``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.bench_growth import FULL, LIST, SWEEP, due, processes, purge, steps, timeline
from benchmarks.harness import Line, ratio
from benchmarks.report import number, table


@dataclass(frozen=True, kw_only=True)
class Growth:
    """One cost, measured with less and with more of something."""

    cost: str
    grows: str
    less: str
    more: str
    benchmark: str
    figure: str
    before: tuple[str, str]
    """Case and side."""
    after: tuple[str, str]
    inverse: bool = False
    """The figure is a rate: less of it costs more."""


def _by_rows(cost: str, case: str, figure: str, *, inverse: bool = False) -> Growth:
    return Growth(
        cost=cost,
        grows="rows with journals, the oldest of a year ago",
        less="none",
        more="1,100,000",
        benchmark="g",
        figure=figure,
        before=(case, "lro"),
        after=(case, FULL),
        inverse=inverse,
    )


def _by_case(
    cost: str,
    grows: str,
    less: str,
    more: str,
    *,
    of: str,
    figure: str,
    cases: tuple[str, str],
    inverse: bool = False,
    side: str = "lro",
) -> Growth:
    before, after = ((case, side) for case in cases)
    return Growth(
        cost=cost,
        grows=grows,
        less=less,
        more=more,
        benchmark=of,
        figure=figure,
        before=before,
        after=after,
        inverse=inverse,
    )


GROWTHS = (
    _by_rows("Start to result, one caller: time", "a, concurrency 1", "p50"),
    _by_rows("Start to result, 256 callers: CPU", "a, concurrency 256", "cpu"),
    *(
        _by_case(
            "Start to result, 32 callers in each: time for one",
            "processes on one file",
            "1",
            str(many),
            of="g",
            figure="rate",
            cases=(processes(1), processes(many)),
            inverse=True,
        )
        for many in (2, 10)
    ),
    _by_rows("Wake-up: time", due(2000), "each"),
    _by_case(
        "Wake-up: CPU",
        "sleepers due at once",
        "1,000",
        "100,000",
        of="c",
        figure="wake cpu",
        cases=("1,000 sleepers", "100,000 sleepers"),
    ),
    _by_rows("Page of a list: time", LIST, "p50"),
    _by_rows("Sweep that finds nothing: time", SWEEP, "p50"),
    _by_rows("Step: time", steps(100), "rate", inverse=True),
    _by_case(
        "Step: time",
        "steps of the operation",
        "100",
        "1,000",
        of="g",
        figure="rate",
        cases=(steps(100), steps(1000)),
        inverse=True,
    ),
    *(
        _by_case(
            f"Hand-over of a place in a queue, on {store}: time",
            "operations that wait",
            "1,000",
            "10,000",
            of="l",
            figure="rate",
            cases=("1,000 waiting", "10,000 waiting"),
            inverse=True,
            side=side,
        )
        for side, store in (("lro", "SQLite"), ("lro-pg", "PostgreSQL"))
    ),
    _by_rows("Timeline of an operation: time", timeline(100), "p50"),
    _by_case(
        "Timeline of an operation: time for an entry",
        "steps of the operation",
        "100",
        "1,000",
        of="g",
        figure="each",
        cases=(timeline(100), timeline(1000)),
    ),
    _by_rows("Purge of an expired row: time", purge(2000), "each"),
    _by_case(
        "Purge of an expired row: time",
        "rows that have expired",
        "2,000",
        "10,000",
        of="g",
        figure="each",
        cases=(purge(2000), purge(10_000)),
    ),
)


BEGIN, END = "<!-- costs -->\n", "<!-- end of costs -->\n"
"""Around the table, in a page."""


def renewed(page: str, lines: Sequence[Line]) -> str:
    """A page with the table of these results in the place of its own.

    Raises:
        ValueError: It has no place for one.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the page has no {BEGIN.strip()} with an {END.strip()} after it")
    return f"{before}{begin}\n{costs(lines)}\n\n{end}{after}"


def costs(lines: Sequence[Line]) -> str:
    """The table, in Markdown."""
    head = ("Cost", "What grows", "from", "to", "it costs, times", "benchmark")
    return table(head, [_row(growth, lines) for growth in GROWTHS])


def _row(growth: Growth, lines: Sequence[Line]) -> Sequence[str]:
    found = {
        (line["case"], line["side"]): line["rounds"]
        for line in lines
        if line["benchmark"] == growth.benchmark and line["kind"] == "result"
    }
    before, after = found.get(growth.before, ()), found.get(growth.after, ())
    value = ratio(after, before, growth.figure, inverse=growth.inverse)
    times = "not measured" if value is None else number(value, 2)
    return growth.cost, growth.grows, growth.less, growth.more, times, growth.benchmark
