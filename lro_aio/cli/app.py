"""The commands of ``lro`` and their options."""

from __future__ import annotations

import asyncio
import importlib.resources
import math
import os
import re
import signal
import threading
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.markup import escape

import lro_aio
from lro_aio.cli import backups, commands, payloads, postgres, protos, spanner
from lro_aio.cli.backends import Backend, is_token, open_store
from lro_aio.cli.printing import console
from lro_aio.cli.problems import CliError, Exit, describe
from lro_aio.cli.services import Service, address_in, open_service
from lro_aio.core.names import ANY_PARENT

__all__ = ["app"]

EXIT_CODES = (
    "0    done as asked; wait, watch: the operation succeeded",
    "1    wait, watch, demo: the operation failed or was cancelled",
    "2    wrong options, name, filter or URL, or a missing extra",
    "3    there is no such operation",
    "4    the timeout ran out",
    "5    the server or the store does not answer, or is not one",
    "6    the server refused for another reason",
    "7    demo: the result is not the one that was recomputed",
    "70   lro itself is broken, or cannot write its output",
    "130  interrupted; the operation goes on",
    "141  nobody reads the output any more",
    "143  terminated; the operation goes on",
)
EPILOG = "\n\n".join(("Exit codes:", *EXIT_CODES))  # blank lines, or the help would run the lines together

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
app.add_typer(spanner.app, name="spanner")

NAMED = "a bare id means operations/ID; or a rehydration token."
Name = Annotated[str, typer.Argument(metavar="NAME", help=f"Resource name; {NAMED}")]
Names = Annotated[list[str], typer.Argument(metavar="NAME...", help=f"Resource names; {NAMED}")]
Server = Annotated[
    str | None,
    typer.Option("--server", metavar="HOST:PORT", help="A gRPC server, without TLS. Default: $LRO_SERVER."),
]
Store = Annotated[
    str | None,
    typer.Option("--store", metavar="URL", help="A store, such as sqlite:///operations.db. Default: $LRO_STORE."),
]
Url = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", help="A service: grpc://, grpcs://, http:// or https://. Default: $LRO_URL."),
]
Style = Annotated[
    str,
    typer.Option(
        "--style", metavar="STYLE", envvar="LRO_STYLE", show_envvar=False,
        help="How a service at http(s):// represents operations: google or azure. Default: $LRO_STYLE, or google.",
        show_default=False,
    ),
]  # fmt: skip
Header = Annotated[
    list[str] | None,
    typer.Option("--header", metavar="'NAME: VALUE'", help="Sent with every call to a --url; may be repeated."),
]
Json = Annotated[bool, typer.Option("--json", help="Proto3 JSON, one operation per line.")]

Action = Callable[[Backend], Awaitable[Exit]]

_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A name (RFC 9110, section 5.6.2)."""


def _finite(seconds: float | None) -> float | None:
    if seconds is not None and not math.isfinite(seconds):
        raise typer.BadParameter("it must be a finite number of seconds")
    return seconds


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
def list_command(
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
    server: Server = None,
    store: Store = None,
    url: Url = None,
    style: Style = "google",
    header: Header = None,
    json: Json = False,
) -> None:
    """List operations, newest first."""
    _run(
        Where(server, store, url, style, header),
        lambda backend: commands.list_(backend, filter_=filter_, parent=parent, limit=limit, as_json=json),
    )


@app.command(epilog=EPILOG)
def get(
    name: Name,
    server: Server = None,
    store: Store = None,
    url: Url = None,
    style: Style = "google",
    header: Header = None,
    json: Json = False,
) -> None:
    """Show one operation."""
    _run(
        Where(server, store, url, style, header, name), lambda backend: commands.get(backend, _full(name), as_json=json)
    )


@app.command(epilog=EPILOG)
def wait(
    name: Name,
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout", min=0, callback=_finite, metavar="SECONDS", help="Give up after so long. Default: never."
        ),
    ] = None,
    server: Server = None,
    store: Store = None,
    url: Url = None,
    style: Style = "google",
    header: Header = None,
    json: Json = False,
) -> None:
    """Wait until an operation ends, and show it. Exits with 1 if it failed."""
    _run(
        Where(server, store, url, style, header, name),
        lambda backend: commands.wait(backend, _full(name), timeout=timeout, as_json=json),
    )


@app.command(epilog=EPILOG)
def watch(
    name: Name,
    server: Server = None,
    store: Store = None,
    url: Url = None,
    style: Style = "google",
    header: Header = None,
    json: Json = False,
) -> None:
    """Show the progress of an operation until it ends. Exits with 1 if it failed."""
    _run(
        Where(server, store, url, style, header, name),
        lambda backend: commands.watch(backend, _full(name), as_json=json),
    )


@app.command(epilog=EPILOG)
def history(name: Name, store: Store = None, json: Json = False) -> None:
    """Show what happened to an operation, oldest first. Only its store tells."""
    where = Where(None, _store_of(store), None)
    _run(where, lambda backend: commands.history(backend, _full(name), as_json=json))


@app.command(epilog=EPILOG)
def cancel(
    names: Names,
    server: Server = None,
    store: Store = None,
    url: Url = None,
    style: Style = "google",
    header: Header = None,
    json: Json = False,
) -> None:
    """Ask for operations to be cancelled. They may still end otherwise; a finished one stays as it is."""
    _run_each(
        names,
        Where(server, store, url, style, header, names[0]),
        lambda backend, name: commands.cancel(backend, name, as_json=json),
    )


@app.command(epilog=EPILOG, context_settings={"ignore_unknown_options": True})  # -5 is a message
def send(
    name: Name,
    topic: Annotated[str, typer.Argument(metavar="TOPIC", help="What the handler receives by.")],
    payload: Annotated[
        str | None, typer.Argument(metavar="[JSON]", help="The message; - reads the input. Default: null.")
    ] = None,
    message_id: Annotated[
        str | None,
        typer.Option("--message-id", metavar="ID", help="Of two messages of a topic with the same id, one is kept."),
    ] = None,
    server: Server = None,
    store: Store = None,
    url: Url = None,
    style: Style = "google",
    header: Header = None,
    json: Json = False,
) -> None:
    """Send a message to an operation that has not ended. It is kept until the handler receives it."""
    where = Where(server, store, url, style, header, name)
    try:
        value = payloads.read(payload)
    except CliError as exc:
        _fail(exc)
    _run(
        where,
        lambda backend: commands.send(backend, _full(name), topic, value, message_id=message_id, as_json=json),
        writes=True,
    )


@app.command(epilog=EPILOG)
def delete(
    names: Names,
    server: Server = None,
    store: Store = None,
    url: Url = None,
    style: Style = "google",
    header: Header = None,
    json: Json = False,
) -> None:
    """Forget operations. This does not stop them: an unfinished one runs to its end unseen."""
    _run_each(
        names,
        Where(server, store, url, style, header, names[0]),
        lambda backend, name: commands.delete(backend, name, as_json=json),
    )


@app.command(epilog=EPILOG)
def pause(
    names: Names,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="For the history of the operations.")] = "",
    server: Server = None,
    store: Store = None,
    url: Url = None,
    style: Style = "google",
    header: Header = None,
    json: Json = False,
) -> None:
    """Let no run of operations begin until they are unpaused; what runs goes on to its next stop."""
    _run_each(
        names,
        Where(server, store, url, style, header, names[0]),
        lambda backend, name: commands.pause(backend, name, reason=reason, as_json=json),
    )


@app.command(epilog=EPILOG)
def unpause(
    names: Names,
    server: Server = None,
    store: Store = None,
    url: Url = None,
    style: Style = "google",
    header: Header = None,
    json: Json = False,
) -> None:
    """Let paused operations run again: what has failed, from the segment that failed."""
    _run_each(
        names,
        Where(server, store, url, style, header, names[0]),
        lambda backend, name: commands.unpause(backend, name, as_json=json),
    )


@app.command(epilog=EPILOG)
def rerun(
    name: Name,
    request_id: Annotated[
        str, typer.Option("--request-id", metavar="ID", help="A repeat with the same ID finds the same new operation.")
    ] = "",
    server: Server = None,
    store: Store = None,
    url: Url = None,
    style: Style = "google",
    header: Header = None,
    json: Json = False,
) -> None:
    """Run an operation that has ended once more, as a new one that takes over the steps that are done."""
    _run(
        Where(server, store, url, style, header, name),
        lambda backend: commands.rerun(backend, _full(name), request_id=request_id, as_json=json),
        writes=True,
    )


@app.command(epilog=EPILOG)
def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The new file; an existing one is not overwritten.")],
    store: Store = None,
) -> None:
    """Copy a SQLite store as it is now into one new file, while services use it."""
    url = _store_of(store)
    _finish_now(lambda: backups.back_up(url, file), url)


@app.command(epilog=EPILOG)
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What lro backup has made; it stays as it is.")],
    store: Store = None,
) -> None:
    """Put a back-up in the place of a SQLite store, of which nothing is left. Stop all that uses the store first."""
    url = _store_of(store)
    _finish_now(lambda: backups.restore(url, file), url)


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
    _finish_now(lambda: protos.write(directory), str(directory))


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
            callback=_finite,
            metavar="SECONDS",
            help="Throttle the work to about so long without the crash.",
        ),
    ] = 10.0,
    timeout: Annotated[
        float,
        typer.Option("--timeout", min=0, callback=_finite, metavar="SECONDS", help="Give up after so long."),
    ] = 600,
) -> None:
    """Index a directory on a server of its own, kill that server half way, and check that nothing is lost."""
    try:
        from lro_aio.cli.demo.command import demo as run_demo
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] not in ("fastapi", "starlette", "uvicorn"):
            raise
        _fail(CliError(f"the demo needs {exc.name}: pip install 'lro-aio[cli,fastapi]'", Exit.USAGE))
    else:
        _finish(run_demo(path=path, store=store, plain=plain, pace=pace, timeout=timeout), "the demo's server")


@dataclass(frozen=True, slots=True)
class Where:
    """Where the operations are, according to the options."""

    server: str | None
    store: str | None
    url: str | None
    style: str = "google"
    header: list[str] | None = None
    name: str = ""
    """The operation: if it is a rehydration token, it may say where."""

    def place(self) -> Service | str:
        """The service, or the URL of the store.

        Raises:
            CliError: The options name none, or more than one.
        """
        server, store, url = self.server, self.store, self.url
        if not (server or store or url) and is_token(self.name) and (found := address_in(self.name)) is not None:
            if self.header:  # whoever made the token must not choose who gets the password
                raise CliError(f"--header needs a --url beside it: is it --url {found.url}?", Exit.USAGE)
            return found
        if server is None and store is None and url is None:
            server, store, url = (os.environ.get(f"LRO_{kind}") or None for kind in ("SERVER", "STORE", "URL"))
        given = [text for text in (server, store, url) if text]
        if len(given) != 1:
            problem = "only one of them" if given else "or set LRO_SERVER, LRO_STORE or LRO_URL"
            options = "--server HOST:PORT or --store URL, or --url URL"
            raise CliError(f"say where the operations are: {options}; {problem}", Exit.USAGE)
        if store:
            return store
        return Service(url or f"grpc://{server}", self.style, self._headers())

    def _headers(self) -> tuple[tuple[str, str], ...]:
        pairs = [header.partition(":") for header in self.header or ()]
        if not all(colon and _HEADER.fullmatch(key.strip()) and _is_sendable(value) for key, colon, value in pairs):
            raise CliError("--header must be 'NAME: VALUE', in ASCII", Exit.USAGE)
        return tuple((key.strip(), value.strip()) for key, _, value in pairs)


def _is_sendable(value: str) -> bool:
    return value.isascii() and value.replace("\t", " ").isprintable()


def _full(name: str) -> str:
    return name if "/" in name or is_token(name) else f"operations/{name}"


def _run(where: Where, action: Action, *, writes: bool = False) -> None:
    async def run(place: Service | str) -> Exit:
        opened = open_service(place) if isinstance(place, Service) else open_store(place, writes=writes)
        async with opened as backend:
            return await action(backend)

    place = _place(where)
    _finish(run(place), _named(place))


def _run_each(names: list[str], where: Where, action: Callable[[Backend, str], Awaitable[Exit]]) -> None:
    async def each(backend: Backend) -> Exit:
        worst = Exit.OK
        for name in names:
            try:
                await action(backend, _full(name))
            except Exception as exc:  # `describe` knows which are a user's problem; a defect is raised again
                problem = describe(exc, _named(place))
                if problem is None:
                    raise
                _complain(problem)
                worst = max(worst, problem.code)
        return worst

    place = _place(where)
    _run(where, each, writes=True)


def _place(where: Where) -> Service | str:
    try:
        return where.place()
    except (CliError, lro_aio.LroError) as exc:
        _fail_of(exc, "")


def _store_of(given: str | None) -> str:
    url = given or os.environ.get("LRO_STORE")
    if not url:
        _fail(CliError("say which store: --store URL; or set LRO_STORE", Exit.USAGE))
    return url


def _named(place: Service | str) -> str:
    return str(place) if isinstance(place, Service) else f"the store {place}"


def _finish(action: Coroutine[Any, Any, Exit], where: str) -> None:
    """Run to the end, and exit with the code of the outcome."""
    try:
        code = asyncio.run(_stoppable(action))
    except (KeyboardInterrupt, asyncio.CancelledError):  # Ctrl-C
        raise typer.Exit(Exit.INTERRUPTED) from None
    except BrokenPipeError:
        raise typer.Exit(Exit.NO_READER) from None
    except Exception as exc:  # noqa: BLE001 (`describe` tells problems from defects)
        _fail_of(exc, where)
    else:
        raise typer.Exit(code)


def _finish_now(action: Callable[[], str], url: str) -> None:
    """Do what needs no event loop, and say what was done."""
    try:
        said = action()
    except KeyboardInterrupt:
        raise typer.Exit(Exit.INTERRUPTED) from None
    except Exception as exc:  # noqa: BLE001 (`describe` tells problems from defects)
        _fail_of(exc, _named(url))
    else:
        console().out(said, highlight=False)


async def _stoppable(action: Coroutine[Any, Any, Exit]) -> Exit:
    """Run an action. SIGTERM cancels it, so that it cleans up as after Ctrl-C: cursor, processes, files."""
    task = asyncio.current_task()
    assert task is not None
    terminated = False

    def terminate() -> None:
        nonlocal terminated
        terminated = True
        task.cancel()

    if threading.current_thread() is threading.main_thread():  # only this thread can have signal handlers
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminate)
    try:
        return await action
    except asyncio.CancelledError:
        if not terminated:
            raise
        return Exit.TERMINATED


def _fail_of(exc: Exception, where: str) -> NoReturn:
    problem = describe(exc, where)
    if problem is None:
        raise exc
    _fail(problem)


def _fail(problem: CliError) -> NoReturn:
    _complain(problem)
    raise typer.Exit(problem.code)


def _complain(problem: CliError) -> None:
    console(stderr=True).print(f"[bold red]lro:[/] {escape(' '.join(str(problem).split()))}")
