"""Operations as JSON for machines and as text for people."""

from __future__ import annotations

import json
from dataclasses import dataclass

from google.longrunning import operations_pb2
from google.protobuf import struct_pb2, timestamp_pb2, wrappers_pb2
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lro_aio.cli.demo import indexer_pb2
from lro_aio.core.codes import Code
from lro_aio.core.proto_json import operation_json

__all__ = [
    "Progress",
    "console",
    "describe_operation",
    "operation_details",
    "operation_table",
    "plain",
    "progress_of",
]

KNOWN = (struct_pb2, wrappers_pb2, timestamp_pb2, error_details_pb2, indexer_pb2)
"""Imported so that JSON can show these types where they stand in an ``Any``; others are shown as bytes."""

WIDE = 10_000
"""Columns of an output that is not a terminal: nothing is cut or wrapped for a pipe."""


def console(*, stderr: bool = False) -> Console:
    """A console that writes to whatever the standard streams are now."""
    made = Console(stderr=stderr, highlight=False, soft_wrap=False)
    return made if made.is_terminal else Console(stderr=stderr, highlight=False, width=WIDE)


@dataclass(frozen=True, slots=True)
class Progress:
    """What a ``google.protobuf.Struct`` in the metadata says of the work."""

    fraction: float | None = None
    """From 0 to 1."""
    message: str = ""


def progress_of(operation: operations_pb2.Operation) -> Progress:
    """The members ``progress`` and ``message`` of the metadata, as ``op.progress()`` writes them."""
    members = struct_pb2.Struct()
    try:
        if not operation.metadata.Unpack(members):
            return Progress()
    except DecodeError:
        return Progress()
    fraction = members.fields["progress"].number_value if "progress" in members.fields else None
    if fraction is not None:
        fraction = min(1.0, max(0.0, fraction)) if fraction == fraction else None  # not for NaN
    message = members.fields["message"].string_value if "message" in members.fields else ""
    return Progress(fraction, message)


def describe_operation(operation: operations_pb2.Operation) -> tuple[str, str]:
    """What became of it, and the colour of that."""
    if not operation.done:
        return "running", "cyan"
    if operation.WhichOneof("result") != "error":
        return "succeeded", "green"
    code = Code.of(operation.error.code)
    return ("cancelled", "yellow") if code is Code.CANCELLED else (f"failed: {code.name}", "red")


def operation_table(operations: list[operations_pb2.Operation]) -> Table:
    """A list."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("NAME", overflow="fold", no_wrap=True)
    table.add_column("STATUS", no_wrap=True)
    table.add_column("PROGRESS", justify="right", no_wrap=True)
    table.add_column("MESSAGE", overflow="fold")
    for operation in operations:
        status, colour = describe_operation(operation)
        progress = progress_of(operation)
        fraction = "" if progress.fraction is None else f"{progress.fraction:.0%}"
        message = operation.error.message if operation.WhichOneof("result") == "error" else progress.message
        table.add_row(_shown(operation.name), f"[{colour}]{status}[/]", fraction, _shown(message))
    return table


def operation_details(operation: operations_pb2.Operation) -> Table:
    """One operation, all of it."""
    status, colour = describe_operation(operation)
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("name", _shown(operation.name))
    table.add_row("status", f"[{colour}]{status}[/]")
    progress = progress_of(operation)
    if progress.fraction is not None and not operation.done:
        table.add_row("progress", f"{progress.fraction:.0%} {_shown(progress.message)}".rstrip())
    shown = operation_json(operation)
    if "error" in shown:
        table.add_row("message", _shown(shown["error"]["message"]))
    for key, value in (("metadata", shown.get("metadata")), ("response", shown.get("response"))):
        if value is not None:
            table.add_row(key, escape(json.dumps(value, indent=2, ensure_ascii=False)))
    for detail in shown.get("error", {}).get("details", ()):
        table.add_row("detail", escape(json.dumps(detail, indent=2, ensure_ascii=False)))
    return table


def plain(text: str) -> str:
    """Text of somebody else in one line, without what would steer the terminal."""
    return "".join(character if character.isprintable() else "?" for character in " ".join(text.split()))


def _shown(text: str) -> str:
    return escape(plain(text))
