"""``python -m benchmarks run`` measures, ``python -m benchmarks report`` writes ``docs/benchmarks.md`` from that.

The report writes the table of ``docs/performance.md`` too, of how each cost grows as its work grows, which
``python -m benchmarks costs`` prints.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import (
    bench_fan_out,
    bench_growth,
    bench_import,
    bench_lifecycle,
    bench_queues,
    bench_recovery,
    bench_remote,
    bench_servers,
    bench_sleepers,
    bench_steps,
    bench_telemetry,
    bench_waits,
)
from benchmarks.harness import Line, measure
from benchmarks.machine import described
from benchmarks.model import ROOT, Benchmark, Plan
from benchmarks.results import kept, load, save

BENCHMARKS: dict[str, Benchmark] = {
    module.BENCHMARK.key: module.BENCHMARK
    for module in (
        bench_lifecycle,
        bench_fan_out,
        bench_sleepers,
        bench_waits,
        bench_servers,
        bench_recovery,
        bench_growth,
        bench_import,
        bench_steps,
        bench_remote,
        bench_telemetry,
        bench_queues,
    )
}
PAGE = ROOT / "docs" / "benchmarks.md"
COSTS = ROOT / "docs" / "performance.md"
RESULTS = ROOT / "docs" / "benchmarks" / "results.jsonl"


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="measure")
    run.add_argument("--quick", action="store_true", help="one short round of everything, to see that it runs")
    run.add_argument("--long", action="store_true", help="let peers do the largest sizes too")
    run.add_argument("--only", default="", help="keys with commas: a,c")
    run.add_argument("--rounds", type=int, help="of every benchmark; 3, or 1 with --quick")
    run.add_argument("--json", type=Path, help="write JSON lines to this file, in the place of the same benchmarks'")
    run.add_argument(
        "--pg", default="", help="DSN of a PostgreSQL server, for us and DBOS: postgresql://user@host/database"
    )
    run.add_argument("--no-peers", action="store_true", help="measure only ourselves and the floors")
    report = commands.add_parser("report", help=f"write {PAGE.relative_to(ROOT)}, and the table of {COSTS.name}")
    report.add_argument("--json", type=Path, default=RESULTS, help="results of `run`")
    report.add_argument("--page", type=Path, default=PAGE)
    report.add_argument("--costs", type=Path, default=COSTS)
    grown = commands.add_parser("costs", help="print how each cost grows as its work grows")
    grown.add_argument("--json", type=Path, default=RESULTS, help="results of `run`")
    arguments = parser.parse_args(words)
    if arguments.command == "run":
        arguments.only = [key for key in arguments.only.split(",") if key] or list(BENCHMARKS)
        if unknown := set(arguments.only) - BENCHMARKS.keys():
            parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
        if arguments.rounds is not None and arguments.rounds < 1:
            parser.error("--rounds must be 1 or more")
    return arguments


def run(arguments: argparse.Namespace) -> None:
    rounds = arguments.rounds or (1 if arguments.quick else 3)
    plan = Plan(
        quick=arguments.quick, rounds=rounds, long=arguments.long, pg=arguments.pg, peers=not arguments.no_peers
    )
    for key in arguments.only:
        benchmark = BENCHMARKS[key]
        began = time.monotonic()
        machine: Line = described(plan)
        lines = [{**line, "benchmark": key} for line in (machine, *measure(benchmark, plan, _tell))]
        _tell(f"{key} took {time.monotonic() - began:.0f} s")
        for line in lines:
            if line["kind"] == "aim":
                _tell(f"{line['what']}: {line['value']:.4g}{'' if line['reached'] else ' (not reached)'}")
        if arguments.json is not None:  # at once: what comes after may fail
            save(arguments.json, [*kept(load(arguments.json), without=key), *lines])
        else:
            for line in lines:
                print(json.dumps(line), flush=True)


def report(arguments: argparse.Namespace) -> None:
    from benchmarks.charts import draw
    from benchmarks.costs import renewed
    from benchmarks.report import page

    lines = _results(arguments.json)
    charts = draw(lines, BENCHMARKS, arguments.page.with_suffix(""))
    arguments.page.write_text(page(lines, BENCHMARKS, charts), encoding="utf-8")
    costly = arguments.costs.read_text(encoding="utf-8")
    arguments.costs.write_text(renewed(costly, lines), encoding="utf-8")
    _tell(f"wrote {arguments.page}, {len(charts)} charts and the table of {arguments.costs}")


def costs(arguments: argparse.Namespace) -> None:
    from benchmarks.costs import costs

    print(costs(_results(arguments.json)))


def _results(path: Path) -> list[Line]:
    lines = load(path)
    if not lines:
        sys.exit(f"{path} has no results: run `python -m benchmarks run --json {path}` first")
    return lines


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    arguments = parse()
    {"run": run, "report": report, "costs": costs}[arguments.command](arguments)


if __name__ == "__main__":
    main()
