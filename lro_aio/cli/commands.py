"""What each command does with a backend. Returns the exit code; prints results, never problems."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

from google.longrunning import operations_pb2
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from lro_aio.cli.backends import Backend
from lro_aio.cli.printing import (
    console,
    describe_operation,
    operation_details,
    operation_table,
    plain,
    progress_of,
)
from lro_aio.cli.problems import CliError, Exit
from lro_aio.core.proto_json import operation_json

__all__ = ["cancel", "delete", "get", "list_", "wait", "watch"]

MAX_PAGE = 1000


async def list_(backend: Backend, *, filter_: str, parent: str, limit: int, as_json: bool) -> Exit:
    """Print up to ``limit`` operations, newest first; 0 is all of them."""
    found: list[operations_pb2.Operation] = []
    token = ""
    while True:
        # One more than asked for tells whether there are more.
        size = min(MAX_PAGE, limit + 1 - len(found)) if limit else MAX_PAGE
        page = await backend.page(filter_, parent, size, token)
        found.extend(page.operations)
        token = page.next_page_token
        if not token or (limit and len(found) > limit):
            break
    shown = found[:limit] if limit else found
    if as_json:
        for operation in shown:
            _print_json(operation)
    elif shown:
        console().print(operation_table(shown))
    else:
        console(stderr=True).print("no operations")
    if len(found) > len(shown):
        console(stderr=True).print(f"there are more than {limit}; --limit 0 shows all", style="dim")
    return Exit.OK


async def get(backend: Backend, name: str, *, as_json: bool) -> Exit:
    """Print one operation."""
    _print(await backend.get(name), as_json=as_json)
    return Exit.OK


async def wait(backend: Backend, name: str, *, timeout: float | None, as_json: bool) -> Exit:
    """Wait for the end and print it; at the timeout print the state."""
    operation = await backend.wait(name, timeout)
    _print(operation, as_json=as_json)
    if not operation.done:
        raise CliError(f"{operation.name} has not ended within {timeout or 0:g} s; it goes on", Exit.TIMEOUT)
    return _outcome(operation)


async def watch(backend: Backend, name: str, *, as_json: bool) -> Exit:
    """Show the operation as it changes, until it ends."""
    snapshots = backend.watch(name)
    if as_json:
        last = await _watch_json(snapshots)
    elif console().is_terminal:
        last = await _watch_bar(snapshots, name)
    else:
        last = await _watch_lines(snapshots)
    if last is None or not last.done:
        raise CliError(f"the watch of {name} ended before the operation did", Exit.UNAVAILABLE)
    if not as_json:
        console().print(operation_details(last))
    return _outcome(last)


async def cancel(backend: Backend, name: str, *, as_json: bool) -> Exit:
    """Ask for a cancel."""
    await backend.cancel(name)
    _acknowledge(name, "cancel requested", as_json=as_json)
    return Exit.OK


async def delete(backend: Backend, name: str, *, as_json: bool) -> Exit:
    """Forget one operation."""
    await backend.delete(name)
    _acknowledge(name, "deleted", as_json=as_json)
    return Exit.OK


async def _watch_json(snapshots: AsyncIterator[operations_pb2.Operation]) -> operations_pb2.Operation | None:
    last = None
    async for last in _changes(snapshots):
        _print_json(last)
    return last


async def _watch_lines(snapshots: AsyncIterator[operations_pb2.Operation]) -> operations_pb2.Operation | None:
    last = None
    told = ""
    async for last in _changes(snapshots):
        progress = progress_of(last)
        parts = [describe_operation(last)[0]]
        if progress.fraction is not None and not last.done:
            parts.append(f"{progress.fraction:.0%}")
        if progress.message and not last.done:
            parts.append(plain(progress.message))
        line = "  ".join(parts)
        if line != told:
            console().out(line, highlight=False)
            told = line
    return last


async def _watch_bar(snapshots: AsyncIterator[operations_pb2.Operation], name: str) -> operations_pb2.Operation | None:
    last = None
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console(), transient=True) as bars:
        bar = bars.add_task(escape(plain(name)), total=None, note="")  # without a total: a bar that only pulses
        async for last in _changes(snapshots):
            progress = progress_of(last)
            total = 1.0 if progress.fraction is not None else None
            bars.update(bar, total=total, completed=progress.fraction or 0.0, note=escape(plain(progress.message)))
    return last


async def _changes(snapshots: AsyncIterator[operations_pb2.Operation]) -> AsyncIterator[operations_pb2.Operation]:
    """Without repeats: a change may be one that clients do not see."""
    last = None
    async for snapshot in snapshots:
        if snapshot != last:
            last = snapshot
            yield snapshot


def _print(operation: operations_pb2.Operation, *, as_json: bool) -> None:
    if as_json:
        _print_json(operation)
    else:
        console().print(operation_details(operation))


def _print_json(operation: operations_pb2.Operation) -> None:
    print(json.dumps(operation_json(operation)), flush=True)  # one line each, whatever reads them


def _acknowledge(name: str, text: str, *, as_json: bool) -> None:
    if not as_json:
        console().out(f"{name}: {text}", highlight=False)


def _outcome(operation: operations_pb2.Operation) -> Exit:
    return Exit.FAILED if operation.WhichOneof("result") == "error" else Exit.OK
