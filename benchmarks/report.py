"""From the lines of a run to the Markdown of ``docs/benchmarks.md``. Pure: the same lines give the same page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from benchmarks.harness import Line, ratio
from benchmarks.model import Benchmark, Figure

INTRO = """\
# Benchmarks

What one process of `lro-aio` does on an embedded SQLite file, next to what one would pick instead, and next to a
*floor*: the least program that does the same work on the same machine. The page is made by two commands, which also
run on your machine:

```console
$ make bench-peers  # environments for the peers, once; without them, they are left out
$ make bench        # measures everything, and writes this page
```

How to read it: in a round, each side does all cases in a process and a folder of its own, one side at a time; the
next round goes the other way round. A figure is the median of the rounds, and *ours is* the median of the rounds' own
ratios, larger than 1 where lro-aio is the better one. Figures of two runs are not comparable, ratios nearly are.
Nobody's settings were tuned: each side has its defaults, with the durability that its own open connection reports.
Each section says what is not alike. [Performance](performance.md) says where the time goes.
"""

ENOUGH = 3
"""Rounds of which a median means something."""


def page(lines: Sequence[Line], benchmarks: Mapping[str, Benchmark], charts: Mapping[str, str]) -> str:
    """The whole page.

    Args:
        lines: Results of one or more runs.
        benchmarks: By key.
        charts: Path of each benchmark's chart, relative to the page.
    """
    parts = [INTRO, *_aims(lines)]
    for key, benchmark in benchmarks.items():
        own = [line for line in lines if line["benchmark"] == key]
        if own:
            parts += [_section(benchmark, own, charts.get(key, ""))]
    return "\n".join(parts)


def _aims(lines: Sequence[Line]) -> list[str]:
    aims = [line for line in lines if line["kind"] == "aim"]
    if not aims:
        return []
    rows = [
        (
            aim["what"],
            _limit(aim),
            number(aim["value"], 3 if aim["value"] < 10 else 0),
            "yes" if aim["reached"] else "**no**",
        )
        for aim in aims
    ]
    return ["## Aims\n", table(("", "aim", "measured", "reached"), rows), ""]


def _limit(aim: Line) -> str:
    word = "at least" if "at least" in aim else "at most"
    return f"{word} {aim[word]:,g}"


def _section(benchmark: Benchmark, lines: Sequence[Line], chart: str) -> str:
    runs = [line for line in lines if line["kind"] == "run"]
    sides = {line["side"]: line for line in lines if line["kind"] == "side"}
    parts = [f"## {benchmark.key}. {benchmark.title}\n", benchmark.about, ""]
    parts += [_machine(run) for run in runs]
    parts += [_side(line) for line in sides.values() if line.get("durability")]
    parts += [f"- Left out: {line['title']} ({line['why']})." for line in lines if line["kind"] == "left out"]
    results = [line for line in lines if line["kind"] == "result"]
    parts += ["", _results(benchmark, results, {name: line["title"] for name, line in sides.items()}), ""]
    if chart:
        parts += [f"![{benchmark.title}]({chart})", ""]
    return "\n".join(parts)


def _machine(run: Line) -> str:
    quick = ""
    if run["quick"]:
        quick = " **A quick look only: these figures mean little.**"
    elif run["rounds"] < ENOUGH:
        quick = " **Provisional: too few rounds for a median.**"
    return (
        f"Measured {run['time']} on {run['cores']} cores of {run['processor']}, {run['memory GB']} GB,"
        f" {run['platform']}, with a load of {run['load before']:g} before it began; rounds: {run['rounds']}.{quick}\n"
    )


def _side(line: Line) -> str:
    versions = ", ".join(f"{name} {value}" for name, value in line["versions"].items())
    return f"- {line['title']}: {line['durability']} ({versions})."


def _results(benchmark: Benchmark, results: Sequence[Line], titles: Mapping[str, str]) -> str:
    figures = [
        figure
        for figure in benchmark.figures
        if any(result["median"].get(figure.key) is not None for result in results)
    ]
    ours = {result["case"]: result["rounds"] for result in results if result["side"] == "lro"}
    cases = list(dict.fromkeys(result["case"] for result in results))
    sides = list(titles)
    rows = []
    case = ""
    for result in sorted(results, key=lambda one: (cases.index(one["case"]), sides.index(one["side"]))):
        first = result["case"] if result["case"] != case else ""
        case = result["case"]
        cells = [_cell(result, figure) for figure in figures]
        times = _times(benchmark, ours.get(case, ()), result)
        rows.append((first, titles[result["side"]], *cells, times))
    return table(("", "", *(figure.title for figure in figures), "ours is"), rows, right=len(figures) + 1)


def _cell(result: Line, figure: Figure) -> str:
    value = result["median"].get(figure.key)
    return "" if value is None else number(value, figure.digits)


def _times(benchmark: Benchmark, ours: Sequence[Line], result: Line) -> str:
    if result["side"] == "lro":
        return ""
    value = ratio(ours, result["rounds"], benchmark.compared, inverse=not benchmark.more_is_better)
    return "" if value is None else f"{value:.3g} x"


def number(value: float, digits: int) -> str:
    """With thousands separators; more digits where there would be nothing but zeros."""
    while digits < 4 and value and abs(value) < 10**-digits:
        digits += 1
    return f"{value:,.{digits}f}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, right: int = 0) -> str:
    """A Markdown table whose last ``right`` columns are numbers."""
    marks = ["---"] * (len(head) - right) + ["---:"] * right
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, marks, *rows))
