"""What each command does with a backend. Returns the exit code; prints results, never problems."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator
from typing import Any

from google.longrunning import operations_pb2
from rich.live import Live

from lro_aio.cli.backends import Backend, BulkAction, Row
from lro_aio.cli.describing import print_description, print_preview, print_stats, stats_json
from lro_aio.cli.printing import (
    WatchLine,
    console,
    describe_operation,
    moment,
    operation_details,
    plain,
    print_history,
    print_list,
)
from lro_aio.cli.problems import CliError, Exit
from lro_aio.core.bulk import preview_json
from lro_aio.core.proto_json import operation_json
from lro_aio.core.shown_progress import progress_of

__all__ = [
    "bulk",
    "cancel",
    "delete",
    "get",
    "history",
    "list_",
    "pause",
    "replay_webhook",
    "rerun",
    "send",
    "stats",
    "unpause",
    "wait",
    "watch",
]

MAX_PAGE = 1000


async def list_(backend: Backend, *, filter_: str, parent: str, limit: int, as_json: bool) -> Exit:
    """Print up to ``limit`` operations, newest first; 0 is all of them."""
    found: list[Row] = []
    token = ""
    while True:
        # One more than asked for tells whether there are more.
        size = min(MAX_PAGE, limit + 1 - len(found)) if limit else MAX_PAGE
        page = await backend.page(filter_, parent, size, token)
        found.extend(page.rows)
        token = page.token
        if not token or (limit and len(found) > limit):
            break
    shown = found[:limit] if limit else found
    if as_json:
        for row in shown:
            _print_json(row.operation)
    elif not shown:
        console(stderr=True).print("no operations")
    elif print_list(console(), shown):
        console(stderr=True).print("names are shortened; --json shows them whole", style="dim")
    if len(found) > len(shown):
        console(stderr=True).print(f"there are more than {limit}; --limit 0 shows all", style="dim")
    return Exit.OK


async def get(backend: Backend, name: str, *, as_json: bool) -> Exit:
    """Print one operation, and what its store knows of it besides."""
    told = None if as_json else await backend.describe(name)
    if told is None:
        _print(await backend.get(name), as_json=as_json)
    else:
        print_description(console(), told)
    return Exit.OK


async def stats(backend: Backend, *, as_json: bool) -> Exit:
    """Print how it goes with all operations."""
    found = await backend.stats()
    if as_json:
        print(json.dumps(stats_json(found)), flush=True)
    else:
        print_stats(console(), found)
    return Exit.OK


async def wait(backend: Backend, name: str, *, timeout: float | None, as_json: bool) -> Exit:
    """Wait for the end and print it; at the timeout, print the state."""
    operation, problem = await backend.wait(name, timeout)
    _print(operation, as_json=as_json)
    if not operation.done:
        failed = f"; the last poll failed: {problem}" if problem else ""
        raise CliError(f"{operation.name} has not ended within {timeout or 0:g} s; it goes on{failed}", Exit.TIMEOUT)
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
        raise CliError(f"the watch ended before the operation {name} did", Exit.UNAVAILABLE)
    if not as_json:
        console().print(operation_details(last))
    return _outcome(last)


async def history(backend: Backend, name: str, *, as_json: bool) -> Exit:
    """Print what happened to an operation, oldest first."""
    found = await backend.history(name)
    if as_json:
        for entry in found:
            told = {key: value for key, value in dataclasses.asdict(entry).items() if value}
            print(json.dumps({**told, "time": moment(entry.time)}), flush=True)
    else:
        print_history(console(), found)
    return Exit.OK


async def bulk(backend: Backend, action: BulkAction, *, yes: bool, repeat: str, as_json: bool) -> Exit:
    """Act on many operations; without ``yes``, count them, and say what to type."""
    if not yes:
        found = await backend.preview(action)
        if as_json:
            print(json.dumps(preview_json(found)), flush=True)
        else:
            print_preview(console(), found, repeat)
        return Exit.OK
    made = await backend.act(action)
    if as_json:
        _print_json(made)
    else:
        console().out(f"{made.name}: does it, in a process that runs handlers", highlight=False)
        console(stderr=True).print(f"to follow it: lro watch {made.name}", style="dim")
    return Exit.OK


async def cancel(backend: Backend, name: str, *, reason: str, as_json: bool) -> Exit:
    """Ask for an operation to be cancelled."""
    await backend.cancel(name, reason)
    _acknowledge(name, "cancel requested", as_json=as_json)
    return Exit.OK


async def send(backend: Backend, name: str, topic: str, payload: Any, *, message_id: str | None, as_json: bool) -> Exit:
    """Send a message to an operation."""
    await backend.send(name, topic, payload, message_id)
    _acknowledge(name, "sent", as_json=as_json)
    return Exit.OK


async def delete(backend: Backend, name: str, *, as_json: bool) -> Exit:
    """Forget one operation."""
    await backend.delete(name)
    _acknowledge(name, "deleted", as_json=as_json)
    return Exit.OK


async def pause(backend: Backend, name: str, *, reason: str, as_json: bool) -> Exit:
    """Let no run of an operation begin."""
    await backend.pause(name, reason)
    _acknowledge(name, "paused", as_json=as_json)
    return Exit.OK


async def unpause(backend: Backend, name: str, *, reason: str, as_json: bool) -> Exit:
    """Let a paused operation run again."""
    await backend.unpause(name, reason)
    _acknowledge(name, "unpaused", as_json=as_json)
    return Exit.OK


async def rerun(backend: Backend, name: str, *, request_id: str, as_json: bool) -> Exit:
    """Run an operation that has ended once more, and print the new one."""
    made = await backend.rerun(name, request_id)
    if as_json:
        _print_json(made)
    else:
        console().out(f"{name}: runs again as {made.name}", highlight=False)
    return Exit.OK


async def replay_webhook(backend: Backend, name: str, *, as_json: bool) -> Exit:
    """Send a webhook once more, and print the deliveries that do so."""
    for made in await backend.replay_webhook(name):
        if as_json:
            _print_json(made)
        else:
            console().out(f"{name}: sent again by {made.name}", highlight=False)
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
    line = WatchLine(name)
    live = Live(line, console=console(), transient=True, refresh_per_second=8)
    with contextlib.ExitStack() as stack:  # Live hides the cursor, and shows it again at the end
        async for last in _changes(snapshots):
            line.progress = progress_of(last)
            if not live.is_started:
                stack.enter_context(live)
    return last


async def _changes(snapshots: AsyncIterator[operations_pb2.Operation]) -> AsyncIterator[operations_pb2.Operation]:
    """The snapshots without repeats: not every change of a row can be seen from outside."""
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
