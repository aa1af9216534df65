"""Runs benchmarks: one program at a time, rounds interleaved, medians and ratios within one run.

In a round every side does all cases, one side after the other, in a process and a folder of its own that are gone
before the next one begins; the next round goes the other way round. What else the machine does in those minutes
hits all of them, and a ratio is the median of the rounds' own ratios.
"""

from __future__ import annotations

import json
import os
import select
import signal
import statistics
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.model import ROOT, Aim, Benchmark, Case, Figures, Plan, Side, Taken

Line = dict[str, Any]
PATIENCE = 1800.0
"""Seconds for one answer."""
START = 900.0
"""Seconds for the first: a store may have to be filled."""


class ProgramError(RuntimeError):
    """A program failed: its own words."""


class Program:
    """One life of a side's program. A context manager that ends it."""

    def __init__(self, side: Side, folder: Path, *, again: bool = False) -> None:
        self._side = side
        command = [str(side.python), "-m", side.module, "--folder", str(folder), *side.options]
        self._log = folder / "stderr.log"
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *(side.again if again else ())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(ROOT), "GRPC_VERBOSITY": "ERROR"},
            )
        try:
            self.hello: Line = self._answer(START)["hello"]
        except BaseException:
            self._end()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    def ask(self, case: Case) -> Figures:
        """What it measures.

        Raises:
            ProgramError: It failed, or did not answer.
        """
        order = dict(case.order)
        order["do"] = self._side.commands.get(order["do"], order["do"])
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order).encode() + b"\n")
        self.process.stdin.flush()
        figures: Figures = self._answer(PATIENCE)["figures"]
        return figures

    def kill(self) -> None:
        """SIGKILL, to it and to the processes that work for it."""
        for pid in (self.process.pid, *self.hello.get("pids", ())):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def _answer(self, patience: float) -> Line:
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], patience)
        line = self.process.stdout.readline() if ready else b""
        answer: Line = json.loads(line) if line else {"error": "it ended" if ready else "it did not answer in time"}
        if "error" in answer:
            said = self._log.read_text(errors="replace")[-2000:]
            raise ProgramError(f"{self._side.title}: {answer['error']}\n{said}")
        return answer

    def _end(self) -> None:
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()
        for end in (lambda: None, self.process.terminate, self.process.kill):
            end()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(20)
                return


def measure(benchmark: Benchmark, plan: Plan, tell: Callable[[str], None]) -> Iterator[Line]:
    """The lines of one benchmark's results.

    Raises:
        ProgramError: A program failed.
    """
    everyone = benchmark.sides(plan)
    sides = [side for side in everyone if not side.missing]
    for side in everyone:
        if side.missing:
            yield {"kind": "left out", "side": side.name, "title": side.title, "why": side.missing}
    cases = benchmark.cases(plan)
    samples: dict[tuple[str, str], list[Figures]] = defaultdict(list)
    said: dict[str, Line] = {}
    with tempfile.TemporaryDirectory(prefix="lro-bench-") as name:
        for number in range(plan.rounds):
            for side in ordered(sides, number):
                asked = [case for case in cases if case.sides is None or side.name in case.sides]
                with ExitStack() as stack:
                    folder = Path(name, side.name)
                    if not side.keeps:
                        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=name)))
                    folder.mkdir(exist_ok=True)
                    for case, figures in (benchmark.take or one_life)(side, asked, folder, said):
                        samples[case.title, side.name].append(figures)
                        tell(
                            f"{benchmark.key} {number + 1}/{plan.rounds} {case.title}: {side.title}: {_short(figures)}"
                        )
    for side in sides:
        yield {"kind": "side", "side": side.name, "title": side.title, **said.get(side.name, {})}
    for (case_title, side_name), found in samples.items():
        yield {
            "kind": "result",
            "case": case_title,
            "side": side_name,
            "median": medians(found),
            "rounds": found,
        }
    for aim in benchmark.aims:
        value = aimed(aim, samples)
        if value is not None:
            limit = {"at least": aim.at_least} if aim.at_least is not None else {"at most": aim.at_most}
            yield {"kind": "aim", "what": aim.what, **limit, "value": value, "reached": aim.reached(value)}


def one_life(side: Side, cases: Sequence[Case], folder: Path, said: dict[str, Line]) -> Taken:
    """All cases in one process."""
    if not cases:
        return
    with Program(side, folder) as program:
        said[side.name] = program.hello
        for case in cases:
            yield case, program.ask(case)


def ordered(sides: Sequence[Side], number: int) -> list[Side]:
    """The sides of a round: every other one goes the other way round."""
    return list(sides) if number % 2 == 0 else list(reversed(sides))


def medians(found: Sequence[Figures]) -> dict[str, float | None]:
    """Figure by figure; one that some round could not take is None."""
    keys = dict.fromkeys(key for figures in found for key in figures)
    return {key: median([figures.get(key) for figures in found]) for key in keys}


def median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known and len(known) == len(values) else None


def ratio(ours: Sequence[Figures], theirs: Sequence[Figures], key: str, *, inverse: bool = False) -> float | None:
    """The median of the rounds' own ratios of one figure, ours over theirs."""
    if inverse:
        ours, theirs = theirs, ours
    pairs = [(our.get(key), their.get(key)) for our, their in zip(ours, theirs)]
    return median([our / their if our is not None and their else None for our, their in pairs])


def aimed(aim: Aim, samples: Mapping[tuple[str, str], Sequence[Figures]]) -> float | None:
    """What became of an aim; None where somebody did not take part."""
    ours = samples.get((aim.case, aim.side), ())
    if not (aim.against or aim.than):
        return median([figures.get(aim.figure) for figures in ours])
    theirs = samples.get((aim.than or aim.case, aim.against or aim.side), ())
    return ratio(ours, theirs, aim.figure, inverse=aim.inverse)


def _short(figures: Figures) -> str:
    return "  ".join(f"{key} {value:,.4g}" for key, value in figures.items() if value is not None)
