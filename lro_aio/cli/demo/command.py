"""``lro demo``: its options, its output, its exit code."""

from __future__ import annotations

import importlib.util
import os
import shlex
import sysconfig

import fastapi  # noqa: F401 (if it is missing, say so here, not in a server process that does not start)
import uvicorn  # noqa: F401 (as above)
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lro_aio.cli.demo.follow import LostError
from lro_aio.cli.demo.process import ServerStartError
from lro_aio.cli.demo.report import Report
from lro_aio.cli.demo.run import DemoTimeoutError, Options, run
from lro_aio.cli.demo.view import BarView, LineView
from lro_aio.cli.printing import console
from lro_aio.cli.problems import CliError, Exit
from lro_aio.core.errors import OperationFailedError

__all__ = ["demo", "how_to_look"]

KEPT = "sqlite:///demo.db"
"""A store that outlives the demo."""


async def demo(*, path: str | None, store: str | None, plain: bool, pace: float, timeout: float) -> Exit:
    """Run the demo and print its summary.

    Raises:
        CliError: The demo did not run to its end.
    """
    directory = _directory(path)
    output = console()
    try:
        with LineView(output) if plain or not output.is_terminal else BarView(output) as view:
            report = await run(Options(directory, store, pace, timeout), view)
    except DemoTimeoutError as exc:
        raise CliError(str(exc), Exit.TIMEOUT) from exc
    except OperationFailedError as exc:
        raise CliError(str(exc), Exit.FAILED) from exc
    except LostError as exc:
        raise CliError(str(exc), Exit.DIFFERS) from exc
    except ServerStartError as exc:
        raise CliError(str(exc), Exit.UNAVAILABLE) from exc
    return _print(report, how_to_look(store), output)


def _directory(path: str | None) -> str:
    directory = os.path.realpath(path if path is not None else sysconfig.get_path("stdlib"))
    if not os.path.isdir(directory):
        raise CliError(f"{path} is not a directory", Exit.USAGE)
    return directory


def how_to_look(store: str | None) -> str:
    """How to see the demo's operations in a browser.

    Args:
        store: URL that the user gave; None where they went with the demo.
    """
    # The URL of a server may hold a password, which need not be on the screen twice.
    url = KEPT if store is None else store if store.startswith("sqlite:") else "..."
    steps = [f"run it with --store {KEPT}"] if store is None else []
    if importlib.util.find_spec("jinja2") is None or importlib.util.find_spec("starlette") is None:
        steps.append("pip install 'lro-aio[dashboard]'")
    return ", then ".join([*steps, f"lro dashboard --store {shlex.quote(url)}"])


def _print(report: Report, look: str, output: Console) -> Exit:
    problems = report.problems
    rows = [(heading, text, "") for heading, text in report.lines()]
    rows += [("WRONG", problem, "bold red") for problem in problems]
    rows.append(("look", look, ""))
    rows += [] if problems else [("verdict", "nothing was lost", "bold green")]
    output.print()
    if output.is_terminal:
        table = Table.grid(padding=(0, 2))
        for heading, text, style in rows:
            table.add_row(f"[bold]{heading}[/]", escape(text), style=style)
        output.print(table)
    else:
        for heading, text, _ in rows:
            output.out(f"{heading:<12}{text}", highlight=False)
    return Exit.DIFFERS if problems else Exit.OK
