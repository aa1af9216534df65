"""One chart for each benchmark: its compared figure, by case and side."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import Line
from benchmarks.model import Benchmark

COLOURS = {
    "lro": "#0b6e4f",
    "lro-pg": "#3a86c8",
    "lro-full": "#6bbf59",
    "floor": "#b0b0b0",
    "two-commits": "#808080",
    "echo": "#b0b0b0",
    "loaded": "#b0b0b0",
    "base": "#808080",
    "dbos": "#d1495b",
    "dbos-wal": "#edae49",
    "dbos-pg": "#8d5a97",
    "dbos-often": "#edae49",
    "dbos-pg-often": "#c9a0dc",
    "restate": "#00798c",
    "api-core": "#edae49",
    "azure-core": "#3a86c8",
    "azure-core-1s": "#8d5a97",
    "off": "#808080",
    "nobody": "#b0b0b0",
}
WIDE = 20.0
"""Largest over smallest bar, from which on the axis is logarithmic."""
LETTERS = 110
"""Of all titles of cases beside each other."""


def draw(lines: Sequence[Line], benchmarks: Mapping[str, Benchmark], folder: Path) -> dict[str, str]:
    """Write the PNG files; returns their paths relative to the folder's parent, by benchmark.

    Raises:
        ImportError: matplotlib is not installed: ``pip install -r benchmarks/requirements.txt``.
    """
    import matplotlib as mpl

    mpl.use("agg")
    folder.mkdir(parents=True, exist_ok=True)
    drawn: dict[str, str] = {}
    for key, benchmark in benchmarks.items():
        results = [line for line in lines if line["benchmark"] == key and line["kind"] == "result"]
        results = [line for line in results if line["median"].get(benchmark.compared) is not None]
        if results:
            titles = {line["side"]: line["title"] for line in lines if line["benchmark"] == key and "title" in line}
            file = folder / f"{key}.png"
            _draw(benchmark, results, titles, file)
            drawn[key] = f"{folder.name}/{file.name}"
    return drawn


def _draw(benchmark: Benchmark, results: Sequence[Line], titles: Mapping[str, str], file: Path) -> None:
    from matplotlib import pyplot as plt

    cases = list(dict.fromkeys(line["case"] for line in results))
    sides = list(dict.fromkeys(line["side"] for line in results))
    values = {(line["case"], line["side"]): line["median"][benchmark.compared] for line in results}
    figure, axes = plt.subplots(figsize=(8, 3.9), layout="constrained")
    wide = 0.8 / len(sides)
    for place, side in enumerate(sides):
        found = [(index, values[case, side]) for index, case in enumerate(cases) if (case, side) in values]
        bars = axes.bar(
            [index - 0.4 + wide * (place + 0.5) for index, _ in found],
            [value for _, value in found],
            wide * 0.92,
            label=titles[side],
            color=COLOURS.get(side, "#444444"),
        )
        axes.bar_label(bars, labels=[f"{value:,.3g}" if value < 100 else f"{value:,.0f}" for _, value in found], size=6)
    _finish(axes, benchmark, cases, list(values.values()))
    figure.savefig(file, dpi=110, metadata={"Software": None})
    plt.close(figure)


def _finish(axes: Any, benchmark: Benchmark, cases: Sequence[str], values: Sequence[float]) -> None:
    unit = next(figure.title for figure in benchmark.figures if figure.key == benchmark.compared)
    if max(values) > WIDE * min(values) > 0:
        axes.set_yscale("log")
        unit += " (logarithmic)"
    axes.set_ylabel(unit)
    wide = max(len("concurrency"), LETTERS // len(cases))
    axes.set_xticks(range(len(cases)), [textwrap.fill(case, wide) for case in cases], size=9 if len(cases) < 6 else 6)
    axes.set_title(f"{benchmark.title}: {'more' if benchmark.more_is_better else 'less'} is better", size=10)
    # Below the picture: inside, it would hide the figures of some chart.
    axes.figure.legend(loc="outside lower center", ncols=4, fontsize=7, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
