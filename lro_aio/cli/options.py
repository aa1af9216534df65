"""The options that the commands of ``lro`` have in common, and how a command is run: where, and to which exit code."""

from __future__ import annotations

import asyncio
import math
import os
import re
import signal
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, NoReturn

import typer
from rich.markup import escape

import lro_aio
from lro_aio.cli.backends import Backend, is_token, open_store
from lro_aio.cli.printing import console
from lro_aio.cli.problems import CliError, Exit, describe
from lro_aio.cli.services import Service, address_in, open_service

__all__ = [
    "EPILOG",
    "NAMED",
    "Action",
    "Header",
    "Json",
    "Name",
    "Server",
    "Store",
    "Style",
    "Url",
    "Where",
    "epilog",
    "fail",
    "finish",
    "finish_now",
    "finite",
    "full_name",
    "run",
    "run_each",
    "store_of",
    "telling",
]


def epilog(*exit_codes: str) -> str:
    """What the help of a command ends with."""
    return "\n\n".join(("Exit codes:", *exit_codes))  # blank lines, or the help would run the lines together


EPILOG = epilog(
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

NAMED = "a bare id means operations/ID; or a rehydration token."
Name = Annotated[str, typer.Argument(metavar="NAME", help=f"Resource name; {NAMED}")]
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
Json = Annotated[bool, typer.Option("--json", help="JSON, one line for each; of operations, proto3 JSON.")]

Action = Callable[[Backend], Awaitable[Exit]]

_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A name (RFC 9110, section 5.6.2)."""


def finite(seconds: float | None) -> float | None:
    """Refuse what is no length of time."""
    if seconds is not None and not math.isfinite(seconds):
        raise typer.BadParameter("it must be a finite number of seconds")
    return seconds


@dataclass(frozen=True, slots=True)
class Where:
    """Where the operations are, according to the options."""

    server: Server = None
    store: Store = None
    url: Url = None
    style: Style = "google"
    header: Header = None

    def place(self, name: str) -> Service | str:
        """The service, or the URL of the store.

        Args:
            name: Of the operation, or "": if it is a rehydration token, it may say where.

        Raises:
            CliError: The options name none, or more than one.
        """
        server, store, url = self.server, self.store, self.url
        if not (server or store or url) and is_token(name) and (found := address_in(name)) is not None:
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


def full_name(name: str) -> str:
    """The name for what a person types: a bare id, a name, or a token."""
    return name if "/" in name or is_token(name) else f"operations/{name}"


def run(where: Where, action: Action, *, name: str = "", writes: bool = False) -> None:
    """Do something where the operations are, or where the token says that is the name, and exit."""

    async def run(place: Service | str) -> Exit:
        opened = open_service(place) if isinstance(place, Service) else open_store(place, writes=writes)
        async with opened as backend:
            return await action(backend)

    place = _place_of(where, name)
    finish(run(place), _named(place))


def run_each(names: list[str], where: Where, action: Callable[[Backend, str], Awaitable[Exit]]) -> None:
    """Do the same to each of these operations, and exit with the worst outcome."""

    async def each(backend: Backend) -> Exit:
        worst = Exit.OK
        for name in names:
            try:
                await action(backend, full_name(name))
            except Exception as exc:  # `describe` knows which are a user's problem; a defect is raised again
                problem = describe(exc, _named(place))
                if problem is None:
                    raise
                _complain(problem)
                worst = max(worst, problem.code)
        return worst

    place = _place_of(where, names[0])
    run(where, each, name=names[0], writes=True)


def _place_of(where: Where, name: str) -> Service | str:
    """The service, or the URL of the store; exits where the options do not tell."""
    try:
        return where.place(name)
    except (CliError, lro_aio.LroError) as exc:
        _fail_of(exc, "")


def store_of(given: str | None) -> str:
    """The URL of the store; exits where none is given."""
    url = given or os.environ.get("LRO_STORE")
    if not url:
        fail(CliError("say which store: --store URL; or set LRO_STORE", Exit.USAGE))
    return url


def _named(place: Service | str) -> str:
    """A place as a sentence calls it."""
    return str(place) if isinstance(place, Service) else f"the store {place}"


def finish(action: Coroutine[Any, Any, Exit], where: str) -> None:
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


def finish_now(action: Callable[[], str], url: str) -> None:
    """Do what needs no event loop, and say what was done."""
    with telling(_named(url)):
        said = action()
    console().out(said, highlight=False)


@contextmanager
def telling(where: str) -> Iterator[None]:
    """One sentence and an exit code for each problem in the block that the user can fix, and for Ctrl-C."""
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(Exit.INTERRUPTED) from None
    except Exception as exc:  # noqa: BLE001 (`describe` tells problems from defects)
        _fail_of(exc, where)


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
    """Exit with what an exception means."""
    problem = describe(exc, where)
    if problem is None:
        raise exc
    fail(problem)


def fail(problem: CliError) -> NoReturn:
    """Say what is wrong, and exit."""
    _complain(problem)
    raise typer.Exit(problem.code)


def _complain(problem: CliError) -> None:
    """Say what is wrong."""
    console(stderr=True).print(f"[bold red]lro:[/] {escape(' '.join(str(problem).split()))}")
