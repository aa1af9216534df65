"""Results as JSON lines. Each line names its benchmark; of a benchmark that is run again, the old lines go."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.harness import Line


def load(path: Path) -> list[Line]:
    """The lines of a file; none where there is no file."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def save(path: Path, lines: Iterable[Line]) -> None:
    """Write a file anew, in the order of the benchmarks; never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ordered = sorted(lines, key=lambda line: str(line["benchmark"]))  # stable
    half = path.with_suffix(".half")
    half.write_text("".join(json.dumps(rounded(line)) + "\n" for line in ordered), encoding="utf-8")
    half.replace(path)


def kept(lines: Sequence[Line], *, without: str) -> list[Line]:
    """The lines of other benchmarks."""
    return [line for line in lines if line["benchmark"] != without]


def rounded(value: object) -> object:
    """Numbers with six digits: more is noise."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list) else value
