"""``lro webhook``: sends once more what operations told of their ends."""

from __future__ import annotations

from typing import Annotated

import typer

from lro_aio.cli import commands
from lro_aio.cli.options import EPILOG, NAMED, Json, Where, run_each
from lro_aio.cli.spreading import spread

__all__ = ["app"]

app = typer.Typer(help="Webhooks: send them once more.", no_args_is_help=True)


@app.callback()
def _root() -> None:
    """Webhooks: send them once more."""


@app.command(epilog=EPILOG)
@spread
def replay(
    *,
    names: Annotated[
        list[str],
        typer.Argument(metavar="NAME...", help=f"Of operations that have ended, or of deliveries; {NAMED}"),
    ],
    where: Where,
    json: Json = False,
) -> None:
    """Tell the receivers of operations of their ends once more, with the same webhook-id. In a store only."""
    run_each(names, where, lambda backend, name: commands.replay_webhook(backend, name, as_json=json))
