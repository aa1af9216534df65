"""``lro queues``: how it goes with the queues of a store, and what they allow."""

from __future__ import annotations

import dataclasses
import json as json_module
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from lro_aio.cli.backends import open_client
from lro_aio.cli.options import EPILOG, Json, Store, finish, store_of
from lro_aio.cli.printing import console, moment, plain
from lro_aio.cli.problems import CliError, Exit
from lro_aio.cli.spreading import spread
from lro_aio.core.queues import Bounds, QueueStatus, Rate
from lro_aio.engine.queues import Queues

__all__ = ["app"]

app = typer.Typer(help="Queues: list them, and set, pause and unpause one.", epilog=EPILOG)

QueueName = Annotated[str, typer.Argument(metavar="QUEUE", help="Its name.")]
NONE = "none"
"""Instead of a limit: that there is none."""


def _limit(what: str) -> Any:
    return typer.Option(metavar="N|none", help=f"{what}; none: as many as there are.", show_default=False)


def _rate(what: str) -> Any:
    return typer.Option(metavar="N/SECONDS|none", help=f"{what}, such as 100/60.", show_default=False)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the options allow."""

    running: Annotated[str | None, _limit("Places in all")] = None
    per_key: Annotated[str | None, _limit("Places for each key")] = None
    rate: Annotated[str | None, _rate("Starts in a time")] = None
    rate_per_key: Annotated[str | None, _rate("Starts in a time for each key")] = None

    def given(self) -> dict[str, Any]:
        """What was said, as ``client.queues.set`` takes it.

        Raises:
            CliError: It is malformed.
        """
        texts = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        return {name: _value(name, text) for name, text in texts.items() if text is not None}


@app.callback(invoke_without_command=True)
def _root(context: typer.Context, store: Store = None, json: Json = False) -> None:
    """Queues: list them, and set, pause and unpause one. Alone, it lists them."""
    if context.invoked_subcommand is None:
        list_(store, json)


@app.command("list", epilog=EPILOG)
def list_(store: Store = None, json: Json = False) -> None:
    """Show what waits and runs in each queue, and what holds of it."""

    async def show(queues: Queues) -> None:
        found = await queues.list()
        if json:
            print(json_module.dumps([_as_json(status) for status in found]), flush=True)
        elif not found:
            console().print("no queues")
        else:
            console().print(_table(found))

    _run(store, show, writes=False)


@app.command("set", epilog=EPILOG)
@spread
def set_(
    *,
    name: QueueName,
    limits: Limits,
    unset: Annotated[bool, typer.Option("--unset", help="Let hold again what the handlers declare.")] = False,
    store: Store = None,
    json: Json = False,
) -> None:
    """Change what a queue allows, at once and for all processes, until --unset."""

    async def change(queues: Queues) -> None:
        given = limits.given()
        if unset == bool(given):
            raise CliError("give limits, or --unset: one of the two", Exit.USAGE)
        try:
            status = await queues.unset(name) if unset else await queues.set(name, **given)
        except ValueError as exc:
            raise CliError(str(exc), Exit.USAGE) from exc
        _say(status, f"{status.bounds}", as_json=json)

    _run(store, change)


@app.command(epilog=EPILOG)
def pause(name: QueueName, store: Store = None, json: Json = False) -> None:
    """Give no place in a queue any more; what has one goes on."""

    async def change(queues: Queues) -> None:
        _say(await queues.pause(name), "paused", as_json=json)

    _run(store, change)


@app.command(epilog=EPILOG)
def unpause(name: QueueName, store: Store = None, json: Json = False) -> None:
    """Give places in a queue again."""

    async def change(queues: Queues) -> None:
        _say(await queues.unpause(name), "unpaused", as_json=json)

    _run(store, change)


def _run(store: str | None, action: Callable[[Queues], Awaitable[None]], *, writes: bool = True) -> None:
    url = store_of(store)

    async def run() -> Exit:
        async with open_client(url, writes=writes) as client:
            try:
                await action(client.queues)
            except LookupError as exc:
                raise CliError(str(exc.args[0]), Exit.NOT_FOUND) from exc
        return Exit.OK

    finish(run(), f"the store {url}")


def _value(name: str, text: str) -> int | Rate | None:
    if text == NONE:
        return None
    try:
        if not name.startswith("rate"):
            return int(text)
        count, _, per = text.partition("/")
        return Rate(int(count), per=float(per))
    except ValueError as exc:
        option = "--" + name.replace("_", "-")
        raise CliError(f"{option} {text} is no limit: {exc}", Exit.USAGE) from exc


def _say(status: QueueStatus, what: str, *, as_json: bool) -> None:
    if as_json:
        print(json_module.dumps(_as_json(status)), flush=True)
    else:
        console().out(f"{plain(status.name)}: {what}", highlight=False)


def _table(found: list[QueueStatus]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading, justify in (("QUEUE", "left"), ("RUNNING", "right"), ("WAITING", "right"), ("ALLOWS", "left")):
        table.add_column(heading, justify="right" if justify == "right" else "left", overflow="fold")
    for status in found:
        notes = [str(status.bounds)]
        if status.override is not None:
            notes.append("set by hand")
        if status.rests_until is not None:
            notes.append(f"rests until {moment(status.rests_until)}")
        if status.paused:
            notes.append("paused")
        table.add_row(*map(Text, (plain(status.name), str(status.running), str(status.waiting), "; ".join(notes))))
        for key in status.keys:
            if key.key:
                rest = "" if key.rests_until is None else f"rests until {moment(key.rests_until)}"
                table.add_row(*map(Text, (f"  {plain(key.key)}", str(key.running), str(key.waiting), rest)))
    return table


def _as_json(status: QueueStatus) -> dict[str, Any]:
    def bounds(of: Bounds | None) -> dict[str, Any] | None:
        return None if of is None else json_module.loads(of.to_json())

    return {
        "name": status.name,
        "running": status.running,
        "waiting": status.waiting,
        "bounds": bounds(status.bounds),
        "declared": bounds(status.declared),
        "override": bounds(status.override),
        "paused": status.paused,
        "restsUntil": None if status.rests_until is None else moment(status.rests_until),
        "keys": [
            {
                "key": key.key,
                "running": key.running,
                "waiting": key.waiting,
                "restsUntil": None if key.rests_until is None else moment(key.rests_until),
            }
            for key in status.keys
        ],
    }
