"""``lro schedules``: the schedules of a store, and what is done with them."""

from __future__ import annotations

import datetime
import json as json_format
from collections.abc import Awaitable, Callable
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from lro_aio.cli.backends import open_client
from lro_aio.cli.options import EPILOG, Json, Store, finish, store_of
from lro_aio.cli.printing import console, plain
from lro_aio.cli.problems import CliError, Exit
from lro_aio.core.calendars import iso
from lro_aio.core.proto_json import operation_json
from lro_aio.core.schedules import ScheduleInfo, info_json
from lro_aio.engine.schedules import Schedules

__all__ = ["app"]

app = typer.Typer(help="Schedules: list them, run them, pause them, make up for the past.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Of the schedule.")]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="For the history of the schedule.")]


@app.command("list", epilog=EPILOG)
def list_command(store: Store = None, json: Json = False) -> None:
    """List the schedules of a store, by name."""

    async def act(schedules: Schedules) -> None:
        found = await schedules.list()
        if json:
            for info in found:
                _print_json(info_json(info))
        elif found:
            console().print(_table(found))
        else:
            console().print("no schedules")

    _run(store, act, writes=False)


@app.command("next", epilog=EPILOG)
def next_command(
    name: Name,
    count: Annotated[int, typer.Argument(metavar="[N]", min=1, max=1000, help="How many moments.")] = 5,
    store: Store = None,
) -> None:
    """Print the next moments of a schedule, in UTC."""

    async def act(schedules: Schedules) -> None:
        for moment in await schedules.upcoming(name, count):
            console().out(iso(moment), highlight=False)

    _run(store, act, writes=False)


@app.command(epilog=EPILOG)
def run(
    name: Name,
    request_id: Annotated[
        str, typer.Option("--request-id", metavar="ID", help="A repeat with the same ID finds the same operation.")
    ] = "",
    store: Store = None,
    json: Json = False,
) -> None:
    """Start an operation of a schedule now, whatever its moments."""

    async def act(schedules: Schedules) -> None:
        op = await schedules.run(name, request_id=request_id or None)
        if json:
            _print_json(operation_json(op.proto))
        else:
            console().out(op.name, highlight=False)

    _run(store, act)


@app.command(epilog=EPILOG)
def pause(name: Name, reason: Reason = "", store: Store = None) -> None:
    """Let a schedule start nothing until it is unpaused. Moments that come meanwhile are nobody's."""
    _change(store, name, "paused", lambda schedules: schedules.pause(name, reason))


@app.command(epilog=EPILOG)
def unpause(name: Name, reason: Reason = "", store: Store = None) -> None:
    """Let a paused schedule go on, with the moments from now on."""
    _change(store, name, "unpaused", lambda schedules: schedules.unpause(name, reason))


@app.command(epilog=EPILOG)
def delete(name: Name, store: Store = None) -> None:
    """Forget a schedule that no release declares any more. What it has started goes on."""
    _change(store, name, "deleted", lambda schedules: schedules.delete(name))


@app.command(epilog=EPILOG)
def backfill(
    name: Name,
    start: Annotated[str, typer.Option("--start", metavar="TIME", help="Such as 2026-01-31T00:00:00Z; included.")],
    end: Annotated[str, typer.Option("--end", metavar="TIME", help="As --start, in the past; not included.")],
    per_second: Annotated[float, typer.Option("--per-second", metavar="N", help="Operations a second, at most.")] = 10,
    store: Store = None,
) -> None:
    """Start the operations of past moments. Those that have one keep it, so it may be repeated."""

    async def act(schedules: Schedules) -> None:
        made = await schedules.backfill(name, _time(start, "--start"), _time(end, "--end"), per_second=per_second)
        console().out("\n".join([*(op.name for op in made), f"{len(made)} moments"]), highlight=False)

    _run(store, act)


def _change(store: str | None, name: str, done: str, change: Callable[[Schedules], Awaitable[object]]) -> None:
    """Change a schedule, and say what became of it."""

    async def act(schedules: Schedules) -> None:
        await change(schedules)
        console().out(f"{name}: {done}", highlight=False)

    _run(store, act)


def _run(store: str | None, act: Callable[[Schedules], Awaitable[None]], *, writes: bool = True) -> None:
    """Do something with the schedules of a store, and exit."""
    url = store_of(store)

    async def run_it() -> Exit:
        async with open_client(url, writes=writes) as client:
            try:
                await act(client.schedules)
            except (ValueError, ImportError) as exc:  # an argument, or the extra
                raise CliError(str(exc), Exit.USAGE) from exc
        return Exit.OK

    finish(run_it(), f"the store {url}")


def _time(text: str, option: str) -> datetime.datetime:
    try:
        found = datetime.datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise CliError(f"{option} must be a time with its zone, such as 2026-01-31T00:00:00Z", Exit.USAGE)
    return found


def _table(found: list[ScheduleInfo]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for title in ("NAME", "WHEN", "HANDLER", "NEXT", "LAST", "STATE"):
        table.add_column(title, overflow="fold")
    for info in found:
        when = f"{info.cron} {info.timezone}" if info.cron else f"every {info.every:g} s"
        upcoming = iso(info.upcoming[0]) if info.upcoming and not info.paused else "-"
        last = iso(info.last) if info.last is not None else "-"
        cells = (info.name, when, plain(info.handler), upcoming, last, plain(_state(info)))
        table.add_row(*(Text(cell) for cell in cells))
    return table


def _state(info: ScheduleInfo) -> str:
    if info.paused:
        return "paused" if info.reason == "it is paused" else f"paused: {info.reason}"
    if info.reason:
        return info.reason
    return f"{info.failures} failed in a row" if info.failures else "ok"


def _print_json(value: object) -> None:
    console().out(json_format.dumps(value, ensure_ascii=False), highlight=False)
