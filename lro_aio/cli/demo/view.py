"""What the demo shows while it runs: bars on a terminal, lines anywhere else."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn
from rich.table import Column

from lro_aio.cli.demo.follow import Child, Snapshot

__all__ = ["BarView", "LineView", "View"]

ROWS = 8
"""Most children with a bar of their own."""


class View(Protocol):
    """Shows the demo to its user."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    def say(self, text: str, *, style: str = "") -> None:
        """Show a line that stays."""

    def update(self, snapshot: Snapshot) -> None:
        """Show the progress."""


class LineView:
    """Shows one line whenever another tenth of the children has ended."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._told = -1
        self._started = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass

    def say(self, text: str, *, style: str = "") -> None:  # noqa: ARG002 (lines have no style)
        """Print a line with the seconds since the start."""
        stamp = f"{time.monotonic() - self._started:5.1f} s  "
        # Whole lines, never wrapped: they go to files and to grep.
        self._console.out(stamp + text, highlight=False)

    def update(self, snapshot: Snapshot) -> None:
        """Print a line where the progress is worth one."""
        step = snapshot.done * 10 // snapshot.total if snapshot.total else -1
        if step != self._told:
            self._told = step
            self.say(f"{snapshot.fraction:4.0%}  {snapshot.tally}")


class BarView:
    """Shows a bar for the whole, and one for each child that runs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.fields[label]}", table_column=Column(width=18, no_wrap=True, overflow="ellipsis")),
            BarColumn(bar_width=20),
            TaskProgressColumn(),
            TextColumn("{task.fields[note]}", table_column=Column(no_wrap=True, overflow="ellipsis")),
            console=console,
            transient=True,
        )
        self._whole: TaskID | None = None
        self._bars: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def say(self, text: str, *, style: str = "") -> None:
        """Print a line above the bars."""
        self._console.print(escape(text), style=style or None, highlight=False)

    def update(self, snapshot: Snapshot) -> None:
        """Move the bars."""
        if not snapshot.total:
            return
        if self._whole is None:
            self._whole = self._progress.add_task("", total=1.0, label="[bold]all[/]", note="")
        shown = snapshot.under_way[:ROWS]
        self._progress.update(self._whole, completed=snapshot.fraction, note=snapshot.tally)
        for name in self._bars.keys() - {child.name for child in shown}:
            self._progress.remove_task(self._bars.pop(name))
        for child in shown:
            self._show(child)

    def _show(self, child: Child) -> None:
        if child.name not in self._bars:
            self._bars[child.name] = self._progress.add_task("", total=1.0, label="", note="")
        note = f"[dim]{escape(child.message)}[/]" + (
            f" [yellow]attempt {child.attempt}[/]" if child.attempt > 1 else ""
        )
        self._progress.update(
            self._bars[child.name],
            completed=child.progress,
            label=f"  {escape(child.directory)}",
            note="[red]interrupted, waits to run again[/]" if child.interrupted else note,
        )
