"""Operations as text for people, fitted to the width of the terminal."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from google.longrunning import operations_pb2
from google.protobuf import struct_pb2, timestamp_pb2, wrappers_pb2
from google.rpc import error_details_pb2
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markup import escape
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lro_aio.cli.backends import Row
from lro_aio.cli.demo import indexer_pb2
from lro_aio.core.codes import Code
from lro_aio.core.history import HistoryEntry
from lro_aio.core.proto_json import operation_json
from lro_aio.core.shown_progress import Progress, failure_of, progress_of

__all__ = [
    "WatchLine",
    "console",
    "describe_operation",
    "length",
    "middle",
    "moment",
    "operation_details",
    "plain",
    "print_history",
    "print_list",
]

KNOWN = (struct_pb2, wrappers_pb2, timestamp_pb2, error_details_pb2, indexer_pb2)
"""Imported so that these types are shown as JSON inside an ``Any``; others are shown as bytes."""

WIDE = 10_000
"""Columns of an output that is not a terminal: nothing is shortened or wrapped for a pipe."""
GAP = 2
"""Columns between two columns of a list."""
MIN_NAME, MIN_HANDLER = 16, 12
"""Columns that a name and a handler get in a list, if they need them, however narrow the terminal is."""


def console(*, stderr: bool = False) -> Console:
    """A console that writes to whatever the standard streams are now."""
    made = Console(stderr=stderr, highlight=False, soft_wrap=False)
    return made if made.is_terminal else Console(stderr=stderr, highlight=False, width=WIDE)


def describe_operation(operation: operations_pb2.Operation) -> tuple[str, str]:
    """Its state, and the colour for it."""
    if not operation.done:
        failure = failure_of(operation)
        return ("running", "cyan") if failure is None else (f"paused: {plain(failure.code)}", "yellow")
    if operation.WhichOneof("result") != "error":
        return "succeeded", "green"
    code = Code.of(operation.error.code)
    return ("cancelled", "yellow") if code is Code.CANCELLED else (f"failed: {code.name}", "red")


@dataclass(frozen=True, slots=True)
class _Cells:
    """One operation of a list, as texts."""

    name: str
    word: str
    code: str
    """Of a failed one."""
    colour: str
    handler: str
    age: str
    percent: str
    message: str

    @classmethod
    def of(cls, row: Row, now: float) -> _Cells:
        operation = row.operation
        status, colour = describe_operation(operation)
        if row.paused and status == "running":
            status, colour = "paused", "yellow"
        word, _, code = status.partition(": ")
        progress = progress_of(operation)
        message = operation.error.message if operation.WhichOneof("result") == "error" else progress.message
        failure = failure_of(operation)
        return cls(
            name=plain(operation.name),
            word=word,
            code=code,
            colour=colour,
            handler=plain(row.handler),
            age="" if row.created is None else _age(now - row.created),
            percent="" if progress.fraction is None else f"{progress.fraction:.0%}",
            message=plain(message if failure is None else failure.message),
        )

    def wide(self) -> list[Text]:
        """The columns of a line that has the message in it."""
        status = Text(f"{self.word}: {self.code}" if self.code else self.word, self.colour)
        return [Text(self.name), status, *map(Text, (self.handler, self.age, self.percent, self.message))]

    def narrow(self, name_width: int, handler_width: int, dots: str) -> list[Text]:
        """The columns of a line above the message."""
        status = f"{self.word} {self.percent}".rstrip() if self.word == "running" else self.word
        name, handler = middle(self.name, name_width, dots), middle(self.handler, handler_width, dots)
        return [Text(name), Text(status, self.colour), Text(handler), Text(self.age)]

    def below(self) -> str:
        """The message below a narrow line."""
        return ": ".join(filter(None, (self.code, self.message)))


def print_list(output: Console, rows: list[Row], now: float | None = None) -> bool:
    """Print a list: one line each where that fits, else a line without the message, and the message below it.

    Args:
        output: Where to print.
        rows: One or more.
        now: Epoch seconds, from which ages count; None takes the clock's.

    Returns:
        Whether a name was shortened.
    """
    at = time.time() if now is None else now
    cells = [_Cells.of(row, at) for row in rows]
    wide = [_headings("NAME", "STATUS", "HANDLER", "AGE", "PROGRESS", "MESSAGE"), *(cell.wide() for cell in cells)]
    if sum(_widths(wide)) + GAP * 5 <= output.width:
        for line in _aligned(wide, right=(3, 4)):
            _print_line(output, line)
        return False
    dots = "..." if output.options.ascii_only else "…"
    headings = _headings("NAME", "STATUS", "HANDLER", "AGE")
    names, status, handlers, age = _widths([headings, *(cell.narrow(WIDE, WIDE, dots) for cell in cells)])
    left = output.width - status - age - GAP * 3
    handler_width = min(handlers, max(MIN_HANDLER, left - names))  # names are there to be copied: handlers give way
    name_width = max(MIN_NAME, left - handler_width)
    narrow = [headings, *(cell.narrow(name_width, handler_width, dots) for cell in cells)]
    for line, message in zip(_aligned(narrow, right=(3,)), ["", *(cell.below() for cell in cells)], strict=True):
        _print_line(output, line)
        if message:
            output.print(Padding(Text(message, "dim"), (0, 0, 0, GAP), expand=False))
    return names > name_width


def print_history(output: Console, entries: list[HistoryEntry]) -> None:
    """Print what happened to an operation, one line each; what does not fit is folded."""
    table = Table.grid(padding=(0, 2))
    for _ in range(3):
        table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row(*_headings("TIME", "WHAT", "NAME", "DETAILS"))
    for entry in entries:
        name = f"{entry.name} {entry.key}".rstrip()
        colour = {"SUCCEEDED": "green", "FAILED": "red", "CANCELLED": "yellow", "RETRIED": "red", "FAILURE": "red"}.get(
            entry.kind, ""
        )
        kind = Text(plain(entry.kind), colour)
        table.add_row(moment(entry.time), kind, _shown(name), _shown(entry.error or entry.text))
    output.print(table)


def moment(seconds: float) -> str:
    """A time in UTC, to the millisecond (RFC 3339)."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _headings(*names: str) -> list[Text]:
    return [Text(name, "bold") for name in names]


def _widths(lines: list[list[Text]]) -> list[int]:
    return [max(text.cell_len for text in column) for column in zip(*lines, strict=True)]


def _aligned(lines: list[list[Text]], right: tuple[int, ...]) -> Iterator[Text]:
    """Each line as one text; ``right``: the columns that are aligned to the right."""
    widths = _widths(lines)
    for line in lines:
        whole = Text()
        for column, (text, width) in enumerate(zip(line, widths, strict=True)):
            space = " " * (width - text.cell_len)
            whole.append_text(Text(space) + text if column in right else text + Text(space)).append(" " * GAP)
        whole.rstrip()
        yield whole


def _print_line(output: Console, line: Text) -> None:
    output.print(line, no_wrap=True, overflow="ignore", crop=False)


class WatchLine:
    """One line with the progress of an operation: the name, a bar, the percentage, the time and the message.

    The percentage is always shown in full: the name is shortened in its middle, and the message at its end.

    Args:
        name: The operation's.
    """

    def __init__(self, name: str) -> None:
        self._name = plain(name)
        self._began = time.monotonic()
        self.progress = Progress()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """For rich."""
        dots = "..." if options.ascii_only else "…"
        fraction, message = self.progress.fraction, plain(self.progress.message)
        seconds = int(time.monotonic() - self._began)
        elapsed = f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
        percent = "" if fraction is None else f"{fraction:.0%}"
        bar = max(4, min(30, options.max_width // 4))
        left = options.max_width - bar - 4 - len(elapsed) - 4  # and a gap between each two
        share = min(cell_len(message), left // 2)
        name = middle(self._name, max(8, left - share), dots)
        room = max(0, left - cell_len(name))
        table = Table.grid(padding=(0, 1, 0, 0))
        table.add_column(no_wrap=True)
        table.add_column(width=bar)
        table.add_column(width=4, justify="right", no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        at = time.monotonic()
        drawn = ProgressBar(1.0, fraction or 0.0, width=bar, pulse=fraction is None, animation_time=at)
        shown = Text(message if cell_len(message) <= room else f"{message[: max(0, room - len(dots))]}{dots}"[:room])
        table.add_row(Text(name), drawn, Text(percent, "magenta"), Text(elapsed, "yellow"), shown)
        yield table


def operation_details(operation: operations_pb2.Operation) -> Table:
    """One operation, all of it."""
    status, colour = describe_operation(operation)
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("name", _shown(operation.name))
    table.add_row("status", f"[{colour}]{status}[/]")
    progress = progress_of(operation)
    percent = "" if progress.fraction is None else f"{progress.fraction:.0%} "
    if (percent or progress.message) and not operation.done:
        table.add_row("progress", f"{percent}{_shown(progress.message)}".rstrip())
    shown = operation_json(operation)
    failure = failure_of(operation)
    if failure is not None:
        table.add_row("message", _shown(failure.message))
    if "error" in shown:
        table.add_row("message", _shown(shown["error"].get("message", "")))
    for key, value in (("metadata", shown.get("metadata")), ("response", shown.get("response"))):
        if value is not None:
            table.add_row(key, escape(json.dumps(value, indent=2, ensure_ascii=False)))
    for detail in shown.get("error", {}).get("details", ()):
        table.add_row("detail", escape(json.dumps(detail, indent=2, ensure_ascii=False)))
    return table


def plain(text: str) -> str:
    """Text from outside, on one line and without control characters."""
    return "".join(character if character.isprintable() else "?" for character in " ".join(text.split()))


def middle(text: str, width: int, dots: str = "…") -> str:
    """The text, with dots in the middle if it is wider than this. More of its end is kept: names differ there."""
    if cell_len(text) <= width:
        return text
    tail = max(0, (width - len(dots)) * 2 // 3)
    head = max(0, width - len(dots) - tail)
    start, end = text[:head], text[len(text) - tail :]
    while cell_len(start) + cell_len(end) + len(dots) > width and (start or end):  # characters of two columns
        start, end = (start, end[1:]) if len(end) > len(start) else (start[:-1], end)
    return f"{start}{dots}{end}"[:width]


def length(seconds: float) -> str:
    """A length of time in its two largest units; below a minute, in seconds."""
    if seconds < 60:
        return f"{max(0.0, seconds):.3f} s" if seconds < 1 else f"{seconds:.3g} s"
    whole = int(seconds)
    for (unit, size), (smaller, rest) in (
        (("d", 86400), ("h", 3600)),
        (("h", 3600), ("m", 60)),
        (("m", 60), ("s", 1)),
    ):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // rest} {smaller}"
    raise AssertionError(seconds)


def _age(seconds: float) -> str:
    """A length of time in its largest unit."""
    whole = max(0, int(seconds))
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if whole >= length:
            return f"{whole // length}{unit}"
    return f"{whole}s"


def _shown(text: str) -> str:
    return escape(plain(text))
