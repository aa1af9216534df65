"""The commands that change the lives of operations: some by their names, or all that a filter selects."""

from __future__ import annotations

import shlex
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

import typer

from lro_aio.cli import commands
from lro_aio.cli.backends import Backend, BulkAction
from lro_aio.cli.options import EPILOG, NAMED, Json, Where, fail, run, run_each
from lro_aio.cli.problems import CliError, Exit
from lro_aio.cli.spreading import spread
from lro_aio.core.bulk import EVERYTHING
from lro_aio.core.names import ANY_PARENT

__all__ = ["add_to"]

OptionalNames = Annotated[
    list[str] | None,
    typer.Argument(metavar="[NAME]...", help=f"Resource names; {NAMED} Or --filter.", show_default=False),
]
Filter = Annotated[
    str,
    typer.Option("--filter", metavar="FILTER", help="Instead of names: AIP-160, as for list.", show_default=False),
]
All = Annotated[bool, typer.Option("--all", help="Instead of names or a filter: every operation.")]
Yes = Annotated[bool, typer.Option("--yes", help="Act on what the filter selects; else it is only counted.")]
Parent = Annotated[
    str, typer.Option("--parent", show_default=False, help="With a filter: as for list. Default: every parent.")
]
Rate = Annotated[float, typer.Option("--per-second", metavar="N", help="With a filter: operations a second, at most.")]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="For the history of the operations.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Many:
    """What the options say of many operations."""

    filter: Filter = ""
    everything: All = False
    yes: Yes = False
    parent: Parent = ANY_PARENT
    per_second: Rate = 50.0

    def chosen(self, names: list[str] | None) -> bool:
        """Whether it is for many, and not for those that are named.

        Raises:
            CliError: It is for both or for neither.
        """
        given = [bool(names), bool(self.filter), self.everything]
        if sum(given) != 1:
            raise CliError("give names, or --filter FILTER, or --all: one of the three", Exit.USAGE)
        if names and self.yes:
            raise CliError("--yes goes with --filter or --all: names need none", Exit.USAGE)
        return not names


@spread
def cancel(*, names: OptionalNames = None, many: Many, reason: Reason = "", where: Where, json: Json = False) -> None:
    """Ask for operations to be cancelled. They may still end otherwise; a finished one stays as it is."""
    _act(
        "cancel",
        names,
        many,
        where,
        lambda backend, name: commands.cancel(backend, name, reason=reason, as_json=json),
        reason=reason,
        as_json=json,
    )


@spread
def pause(*, names: OptionalNames = None, many: Many, reason: Reason = "", where: Where, json: Json = False) -> None:
    """Let no run of operations begin until they are unpaused; what runs goes on to its next stop."""
    _act(
        "pause",
        names,
        many,
        where,
        lambda backend, name: commands.pause(backend, name, reason=reason, as_json=json),
        reason=reason,
        as_json=json,
    )


@spread
def unpause(*, names: OptionalNames = None, many: Many, reason: Reason = "", where: Where, json: Json = False) -> None:
    """Let paused operations run again: what has failed, from the segment that failed."""
    _act(
        "unpause",
        names,
        many,
        where,
        lambda backend, name: commands.unpause(backend, name, reason=reason, as_json=json),
        reason=reason,
        as_json=json,
    )


@spread
def rerun(
    *,
    names: OptionalNames = None,
    many: Many,
    request_id: Annotated[
        str, typer.Option("--request-id", metavar="ID", help="A repeat with the same ID finds the same new operation.")
    ] = "",
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="With a filter: why.")] = "",
    where: Where,
    json: Json = False,
) -> None:
    """Run operations that have ended once more, as new ones that take over the steps that are done."""
    _act(
        "rerun",
        names,
        many,
        where,
        lambda backend, name: commands.rerun(backend, name, request_id=request_id, as_json=json),
        reason=reason,
        as_json=json,
    )


@spread
def delete(
    *,
    names: OptionalNames = None,
    many: Many,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="With a filter: why.")] = "",
    where: Where,
    json: Json = False,
) -> None:
    """Forget operations. This does not stop them: an unfinished one runs to its end unseen."""
    _act(
        "delete",
        names,
        many,
        where,
        lambda backend, name: commands.delete(backend, name, as_json=json),
        reason=reason,
        as_json=json,
    )


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (cancel, delete, pause, unpause, rerun):
        app.command(epilog=EPILOG)(command)


def _act(
    verb: str,
    names: list[str] | None,
    many: Many,
    where: Where,
    single: Callable[[Backend, str], Awaitable[Exit]],
    *,
    reason: str,
    as_json: bool,
) -> None:
    try:
        chosen = many.chosen(names)
    except CliError as exc:
        fail(exc)
    if not chosen:
        run_each(names or [], where, single)
        return
    action = BulkAction(
        verb=verb,
        filter=EVERYTHING if many.everything else many.filter,
        parent=many.parent,
        reason=reason,
        per_second=many.per_second,
    )
    run(
        where,
        lambda backend: commands.bulk(
            backend, action, yes=many.yes, repeat=_repeat(action, many, where), as_json=as_json
        ),
        writes=many.yes,
    )


def _repeat(action: BulkAction, many: Many, where: Where) -> str:
    """The command line that does what was counted. Headers may hold a password: they are not shown."""
    words = ["lro", action.verb, *(["--all"] if many.everything else ["--filter", many.filter])]
    for option, value, default in (
        ("--parent", action.parent, ANY_PARENT),
        ("--reason", action.reason, ""),
        ("--per-second", f"{action.per_second:g}", f"{Many().per_second:g}"),
        ("--server", where.server, None),
        ("--store", where.store, None),
        ("--url", where.url, None),
    ):
        if value is not None and value != default:
            words += [option, value]
    return shlex.join([*words, "--yes"])
