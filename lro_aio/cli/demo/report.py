"""What the demo found, as numbers and as the summary at the end."""

from __future__ import annotations

from dataclasses import dataclass, field

from lro_aio.cli.demo import indexer_pb2
from lro_aio.cli.demo.check import Expected

__all__ = ["Crash", "Report"]


@dataclass(slots=True)
class Crash:
    """The kill, and what the store held right after it."""

    pid: int
    exit_status: int
    """-9: SIGKILL."""
    in_flight: dict[str, str] = field(default_factory=dict)
    """Children whose rows were left RUNNING: directory by operation name."""
    finished: int = 0
    """Children that had ended."""
    parent_state: str = ""
    """RUNNING or SUSPENDED."""
    seconds: float = 0.0
    """From the kill until the new server listened."""


@dataclass(slots=True)
class Report:
    """The whole demo. ``problems`` is empty when nothing differs."""

    manifest: indexer_pb2.Manifest
    expected: Expected
    crash: Crash
    seconds: float
    """From the request to the result."""
    http_agrees: bool

    @property
    def problems(self) -> list[str]:
        """The problems, one sentence each."""
        found: list[str] = []
        made, wanted = self.manifest, self.expected
        if made.digest != wanted.digest:
            parts = {part.directory: part.digest for part in made.parts}
            names = parts.keys() | wanted.parts.keys()
            differing = sorted(name for name in names if parts.get(name) != wanted.parts.get(name))
            found.append(
                f"the digest differs: {made.digest} from the server, {wanted.digest} here; in {_few(differing)}"
            )
        found.extend(
            f"{what} differ: {getattr(made, what):,} from the server, {getattr(wanted, what):,} here"
            for what in ("files", "bytes", "lines")
            if getattr(made, what) != getattr(wanted, what)
        )
        if self.crash.exit_status != -9:
            found.append(f"the server ended with status {self.crash.exit_status} and not by SIGKILL")
        if not self.crash.in_flight:
            found.append("the crash interrupted nothing: use a larger --pace")
        again = {part.directory for part in made.parts if part.claim > 1}
        lost = sorted(set(self.crash.in_flight.values()) - again - {""})
        if lost:
            found.append(f"interrupted, and not run again: {_few(lost)}")
        if not self.http_agrees:
            found.append("the operation read over HTTP differs from the one read over gRPC")
        return found

    def lines(self) -> list[tuple[str, str]]:
        """The summary: (heading, text) for each line."""
        made, crash = self.manifest, self.crash
        again = [part for part in made.parts if part.claim > 1]
        runs = made.claim + sum(part.claim for part in made.parts)
        verdict = "the same as recomputed here" if made.digest == self.expected.digest else "NOT the one recomputed"
        skipped = f", {made.skipped:,} unreadable and left out" if made.skipped else ""
        parent = f"the parent was {crash.parent_state}"
        if crash.parent_state == "SUSPENDED":
            parent += " and held no process"
        return [
            ("result", f"{made.files:,} files, {made.bytes:,} bytes, {made.lines:,} lines{skipped}"),
            ("digest", f"{made.digest} ({verdict})"),
            ("operations", f"1 parent and {len(made.parts)} children, all done"),
            (
                "attempts",
                f"{runs} runs of a handler: {made.claim} of the parent, {runs - made.claim} of the children;"
                f" {len(again)} children ran again (attempt {max((part.attempt for part in again), default=1)})",
            ),
            (
                "crash",
                f"SIGKILL to process {crash.pid} hit {len(crash.in_flight)} children in flight:"
                f" {_few(sorted(crash.in_flight.values()))}",
            ),
            ("kept", f"{crash.finished} children had ended and were not run again; {parent}"),
            ("seconds", f"{self.seconds:.1f} in all, {crash.seconds:.1f} of them from the kill to the new server"),
        ]


def _few(names: list[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
