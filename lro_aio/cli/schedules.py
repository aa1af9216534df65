"""``lro schedules``: the schedules of a store or a service, and what is done with them."""

from __future__ import annotations

import datetime
import json as json_format
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from lro_aio.cli.backends import Backend
from lro_aio.cli.options import EPILOG, Json, Where
from lro_aio.cli.options import run as run_where
from lro_aio.cli.printing import console, plain
from lro_aio.cli.problems import CliError, Exit
from lro_aio.cli.scheduled import ScheduleCalls
from lro_aio.cli.spreading import spread
from lro_aio.core.proto_json import operation_json
from lro_aio.core.schedules import PARENT

__all__ = ["app"]

app = typer.Typer(help="Schedules: list them, run them, pause them, make up for the past.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Of the schedule.")]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="For the history of the schedule.")]


@app.command("list", epilog=EPILOG)
@spread
def list_command(*, where: Where, json: Json = False) -> None:
    """List the schedules, by name."""

    async def act(schedules: ScheduleCalls) -> None:
        found = await schedules.list()
        if json:
            for told in found:
                _print_json(told)
        elif found:
            console().print(_table(found))
        else:
            console().print("no schedules")

    _run(where, act, writes=False)


@app.command("next", epilog=EPILOG)
@spread
def next_command(
    *,
    name: Name,
    count: Annotated[int, typer.Argument(metavar="[N]", min=1, max=1000, help="How many moments.")] = 5,
    where: Where,
) -> None:
    """Print the next moments of a schedule, in UTC."""

    async def act(schedules: ScheduleCalls) -> None:
        for moment in await schedules.upcoming(name, count):
            console().out(moment, highlight=False)

    _run(where, act, writes=False)


@app.command(epilog=EPILOG)
@spread
def run(
    *,
    name: Name,
    request_id: Annotated[
        str, typer.Option("--request-id", metavar="ID", help="A repeat with the same ID finds the same operation.")
    ] = "",
    where: Where,
    json: Json = False,
) -> None:
    """Start an operation of a schedule now, whatever its moments."""

    async def act(schedules: ScheduleCalls) -> None:
        operation = await schedules.run(name, request_id)
        if json:
            _print_json(operation_json(operation))
        else:
            console().out(operation.name, highlight=False)

    _run(where, act)


@app.command(epilog=EPILOG)
@spread
def pause(*, name: Name, reason: Reason = "", where: Where) -> None:
    """Let a schedule start nothing until it is unpaused. Moments that come meanwhile are nobody's."""
    _change(where, name, "paused", lambda schedules: schedules.pause(name, reason))


@app.command(epilog=EPILOG)
@spread
def unpause(*, name: Name, reason: Reason = "", where: Where) -> None:
    """Let a paused schedule go on, with the moments from now on."""
    _change(where, name, "unpaused", lambda schedules: schedules.unpause(name, reason))


@app.command(epilog=EPILOG)
@spread
def delete(*, name: Name, where: Where) -> None:
    """Forget a schedule that no release declares any more. What it has started goes on."""
    _change(where, name, "deleted", lambda schedules: schedules.delete(name))


@app.command(epilog=EPILOG)
@spread
def backfill(
    *,
    name: Name,
    start: Annotated[str, typer.Option("--start", metavar="TIME", help="Such as 2026-01-31T00:00:00Z; included.")],
    end: Annotated[str, typer.Option("--end", metavar="TIME", help="As --start, in the past; not included.")],
    per_second: Annotated[
        float, typer.Option("--per-second", metavar="N", min=0.001, max=1000, help="Operations a second, at most.")
    ] = 10,
    where: Where,
) -> None:
    """Start the operations of past moments. Those that have one keep it, so it may be repeated."""

    async def act(schedules: ScheduleCalls) -> None:
        made = await schedules.backfill(name, _time(start, "--start"), _time(end, "--end"), per_second)
        console().out("\n".join([*made, f"{len(made)} moments"]), highlight=False)

    _run(where, act)


def _change(where: Where, name: str, done: str, change: Callable[[ScheduleCalls], Awaitable[object]]) -> None:
    """Change a schedule, and say what became of it."""

    async def act(schedules: ScheduleCalls) -> None:
        await change(schedules)
        console().out(f"{name}: {done}", highlight=False)

    _run(where, act)


def _run(where: Where, act: Callable[[ScheduleCalls], Awaitable[None]], *, writes: bool = True) -> None:
    """Do something with the schedules of a store or a service, and exit."""

    async def run_it(backend: Backend) -> Exit:
        try:
            await act(backend.schedules)
        except (ValueError, ImportError) as exc:  # an argument, or the extra
            raise CliError(str(exc), Exit.USAGE) from exc
        return Exit.OK

    run_where(where, run_it, writes=writes)


def _time(text: str, option: str) -> datetime.datetime:
    try:
        found = datetime.datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise CliError(f"{option} must be a time with its zone, such as 2026-01-31T00:00:00Z", Exit.USAGE)
    return found


def _table(found: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for title in ("NAME", "WHEN", "HANDLER", "NEXT", "LAST", "STATE"):
        table.add_column(title, overflow="fold")
    for told in found:
        when = f"{told['cron']} {told['timezone']}" if told["cron"] else f"every {told['every']:g} s"
        upcoming = told["upcoming"][0] if told["upcoming"] and not told["paused"] else "-"
        cells = (told["name"].removeprefix(f"{PARENT}/"), when, told["handler"], upcoming, told["last"] or "-")
        table.add_row(*(Text(plain(str(cell))) for cell in (*cells, _state(told))))
    return table


def _state(told: dict[str, Any]) -> str:
    reason: str = told["reason"]
    if told["paused"]:
        return "paused" if reason == "it is paused" else f"paused: {reason}"
    if reason:
        return reason
    return f"{told['failures']} failed in a row" if told["failures"] else "ok"


def _print_json(value: object) -> None:
    console().out(json_format.dumps(value, ensure_ascii=False), highlight=False)
