"""The commands of ``lro`` and their options."""

from __future__ import annotations

import importlib.resources
from pathlib import Path
from typing import Annotated

import typer

import lro_aio
from lro_aio.cli import backups, commands, controls, payloads, postgres, protos, queues, schedules, spanner, webhooks
from lro_aio.cli.options import (
    EPILOG,
    Json,
    Name,
    Store,
    Where,
    fail,
    finish,
    finish_now,
    finite,
    full_name,
    run,
    store_of,
)
from lro_aio.cli.problems import CliError, Exit
from lro_aio.cli.spreading import spread
from lro_aio.core.names import ANY_PARENT

__all__ = ["app"]

app = typer.Typer(
    name="lro",
    help="Long-running operations: list them, show them, wait for them, cancel them.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(postgres.app, name="postgres")
app.add_typer(queues.app, name="queues")
app.add_typer(schedules.app, name="schedules")
app.add_typer(spanner.app, name="spanner")
app.add_typer(webhooks.app, name="webhook")


def _version(wanted: bool) -> None:
    if wanted:
        print(f"lro {lro_aio.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Long-running operations: list them, show them, wait for them, cancel them."""


@app.command("list", epilog=EPILOG)
@spread
def list_command(
    *,
    filter_: Annotated[
        str, typer.Option("--filter", metavar="FILTER", help="AIP-160, such as 'done = false AND handler = \"copy\"'.")
    ] = "",
    parent: Annotated[
        str,
        typer.Option(
            "--parent",
            show_default=False,
            help="Resource before /operations/; 'operations' is the top level. Default: '-', which is every parent.",
        ),
    ] = ANY_PARENT,
    limit: Annotated[int, typer.Option("--limit", min=0, help="Operations at most; 0 is all.")] = 50,
    where: Where,
    json: Json = False,
) -> None:
    """List operations, newest first."""
    run(where, lambda backend: commands.list_(backend, filter_=filter_, parent=parent, limit=limit, as_json=json))


@app.command(epilog=EPILOG)
@spread
def get(*, name: Name, where: Where, json: Json = False) -> None:
    """Show one operation; of one in a --store, what happened to it as well."""
    run(where, lambda backend: commands.get(backend, full_name(name), as_json=json), name=name)


@app.command(epilog=EPILOG)
@spread
def wait(
    *,
    name: Name,
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout", min=0, callback=finite, metavar="SECONDS", help="Give up after so long. Default: never."
        ),
    ] = None,
    where: Where,
    json: Json = False,
) -> None:
    """Wait until an operation ends, and show it. Exits with 1 if it failed."""
    run(where, lambda backend: commands.wait(backend, full_name(name), timeout=timeout, as_json=json), name=name)


@app.command(epilog=EPILOG)
@spread
def watch(*, name: Name, where: Where, json: Json = False) -> None:
    """Show the progress of an operation until it ends. Exits with 1 if it failed."""
    run(where, lambda backend: commands.watch(backend, full_name(name), as_json=json), name=name)


@app.command(epilog=EPILOG)
def stats(store: Store = None, json: Json = False) -> None:
    """Show how it goes with all operations: how many, what is late, what fails. Only their store tells."""
    run(Where(store=store_of(store)), lambda backend: commands.stats(backend, as_json=json))


@app.command(epilog=EPILOG)
def history(name: Name, store: Store = None, json: Json = False) -> None:
    """Show what happened to an operation, oldest first. Only its store tells."""
    where = Where(store=store_of(store))
    run(where, lambda backend: commands.history(backend, full_name(name), as_json=json))


controls.add_to(app)


@app.command(epilog=EPILOG, context_settings={"ignore_unknown_options": True})  # -5 is a message
@spread
def send(
    *,
    name: Name,
    topic: Annotated[str, typer.Argument(metavar="TOPIC", help="What the handler receives by.")],
    payload: Annotated[
        str | None, typer.Argument(metavar="[JSON]", help="The message; - reads the input. Default: null.")
    ] = None,
    message_id: Annotated[
        str | None,
        typer.Option("--message-id", metavar="ID", help="Of two messages of a topic with the same id, one is kept."),
    ] = None,
    where: Where,
    json: Json = False,
) -> None:
    """Send a message to an operation that has not ended. It is kept until the handler receives it."""
    try:
        value = payloads.read(payload)
    except CliError as exc:
        fail(exc)
    run(
        where,
        lambda backend: commands.send(backend, full_name(name), topic, value, message_id=message_id, as_json=json),
        name=name,
        writes=True,
    )


@app.command(epilog=EPILOG)
def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The new file; an existing one is not overwritten.")],
    store: Store = None,
) -> None:
    """Copy a SQLite store as it is now into one new file, while services use it."""
    url = store_of(store)
    finish_now(lambda: backups.back_up(url, file), url)


@app.command(epilog=EPILOG)
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What lro backup has made; it stays as it is.")],
    store: Store = None,
) -> None:
    """Put a back-up in the place of a SQLite store, of which nothing is left. Stop all that uses the store first."""
    url = store_of(store)
    finish_now(lambda: backups.restore(url, file), url)


@app.command(epilog=EPILOG)
def dashboard(
    store: Store = None,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Of 127.0.0.1. Default: one that is free.")] = 0,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Show everything, and let nobody do anything.")
    ] = False,
) -> None:
    """Show the operations of a store in a browser of this machine: prints the link, with a token in it."""
    url = store_of(store)
    try:
        from lro_aio.cli.dashboard import serve
    except ImportError as exc:
        missing = exc.__cause__ if isinstance(exc.__cause__, ImportError) else exc
        if (missing.name or "").partition(".")[0] not in ("jinja2", "starlette", "uvicorn"):
            raise
        install = "pip install 'lro-aio[cli,dashboard]' uvicorn"
        fail(CliError(f"the dashboard needs {missing.name}: {install}", Exit.USAGE))
    else:
        finish(serve(url, port=port, read_only=read_only), f"the store {url}")


@app.command()
def workflow() -> None:
    """Print the workflow that waits for suspended operations in Cloud Workflows.

    To deploy it: lro workflow > workflow.yaml, then gcloud workflows deploy lro-aio --source=workflow.yaml
    --call-log-level=log-errors-only --service-account=...
    """
    definition = importlib.resources.files("lro_aio.schedulers").joinpath("workflow.yaml")
    print(definition.read_text(encoding="utf-8"), end="")  # unchanged: for a file or another command


@app.command("protos", epilog=EPILOG)
def protos_(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Made if need be; files in it are replaced.")],
) -> None:
    """Write google/longrunning/operations.proto, and what it imports, for the compiler of your own .proto files.

    To use it: python -m grpc_tools.protoc -I. -IDIR --python_out=. --grpc_python_out=. service.proto
    """
    finish_now(lambda: protos.write(directory), str(directory))


@app.command(epilog=EPILOG)
def demo(
    path: Annotated[
        str | None, typer.Option("--path", metavar="DIR", help="What to index. Default: Python's standard library.")
    ] = None,
    store: Annotated[
        str | None, typer.Option("--store", metavar="URL", help="Default: a SQLite file in a temporary directory.")
    ] = None,
    plain: Annotated[bool, typer.Option("--plain", help="Lines instead of bars.")] = False,
    pace: Annotated[
        float,
        typer.Option(
            "--pace",
            min=0,
            callback=finite,
            metavar="SECONDS",
            help="Throttle the work to about so long without the crash.",
        ),
    ] = 10.0,
    timeout: Annotated[
        float,
        typer.Option("--timeout", min=0, callback=finite, metavar="SECONDS", help="Give up after so long."),
    ] = 600,
) -> None:
    """Index a directory on a server of its own, kill that server half way, and check that nothing is lost."""
    try:
        from lro_aio.cli.demo.command import demo as run_demo
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] not in ("fastapi", "starlette", "uvicorn"):
            raise
        fail(CliError(f"the demo needs {exc.name}: pip install 'lro-aio[cli,fastapi]'", Exit.USAGE))
    else:
        finish(run_demo(path=path, store=store, plain=plain, pace=pace, timeout=timeout), "the demo's server")
