"""The ``lro`` command: list, show, wait for, cancel and delete operations, and see the whole thing work (``lro demo``).

::

    lro list   [--filter F] [--parent P] [--limit N]      lro cancel NAME...
    lro get    NAME                                       lro delete NAME...
    lro wait   NAME [--timeout S]                         lro demo   [--path DIR]
    lro watch  NAME                                       lro send   NAME TOPIC [JSON] [--message-id ID]

    lro cancel --filter F [--yes]    many at once: count them, or do it; delete, pause, unpause and rerun as well

    lro stats                        how many operations there are, what is late, what fails; of a store alone

    lro backup FILE                  copy a SQLite store into a new file
    lro restore FILE                 put that file in the place of the store

    lro postgres ddl     [--table T] [--schema S] [--role R]                print the DDL of the tables
    lro postgres migrate URL [--dry-run]                                    make or upgrade them

    lro spanner ddl      [--variant proto|bytes] [--table T]                print the DDL of the table
    lro spanner migrate  URL [--variant proto|bytes] [--dry-run] [--replace-ttl]      make or upgrade it

Each talks to a service (``--server HOST:PORT`` for gRPC without TLS, ``--url URL`` for any, or ``LRO_SERVER``,
``LRO_URL``) or opens a store (``--store URL``, or ``LRO_STORE``); exactly one of them. ``--json`` writes proto3 JSON,
one operation per line. A name without a ``/`` stands for ``operations/{name}``; a rehydration token will do, too.
Results go to the standard output, problems as one sentence to the standard error.

Exit codes:

====  =================================================================================================================
0     Done as asked. ``wait`` and ``watch``: the operation succeeded.
1     ``wait``, ``watch``, ``demo``: the operation failed or was cancelled. Nothing else exits with 1.
2     The command line cannot be right: wrong options, a malformed name, filter or URL, a missing extra.
3     There is no such operation.
4     ``wait --timeout`` or ``demo --timeout`` ran out.
5     The server or the store does not answer, or is not one.
6     The server refused for another reason, such as a missing permission.
7     ``demo``: the result is not the one that was recomputed.
70    ``lro`` itself is broken, or cannot write its output.
130   Interrupted with Ctrl-C. The operation goes on.
141   Nobody reads the output any more, as in ``lro list | head -1``.
143   Terminated by SIGTERM. The operation goes on.
====  =================================================================================================================

What needs the extra ``cli`` is imported in ``main`` only.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import typer

__all__ = ["main"]

NEEDED = ("typer", "rich", "click")
INSTALL = "pip install 'lro-aio[cli]'"
USAGE, BROKEN, INTERRUPTED, NO_READER = 2, 70, 130, 141
"""Exit codes, as in ``problems.Exit``, which cannot be imported where an extra is missing."""


def main() -> None:
    """Entry point of ``lro``. Does not return: the exit code is one of the table above."""
    try:
        code = _main()
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:
        code = NO_READER
    except OSError as exc:
        print(f"lro: {exc}", file=sys.stderr)
        code = BROKEN
    except Exception:  # noqa: BLE001 (a defect: Python's own exit code for it is 1, which stands for another thing)
        traceback.print_exc()
        code = BROKEN
    sys.exit(_flushed(code))


def _main() -> int:
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # for characters that the terminal does not have
    logging.getLogger("lro_aio").addHandler(logging.NullHandler())  # problems are told in one sentence, at the end
    try:
        from lro_aio.cli.app import app
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] not in NEEDED:
            raise
        print(f"lro: {exc.name} is not installed; the command line needs it: {INSTALL}", file=sys.stderr)
        return USAGE
    return _run(app)


def _run(app: typer.Typer) -> int:
    import typer

    try:
        return int(app(prog_name="lro", standalone_mode=False) or 0)
    except typer.Abort:  # Ctrl-C, in older releases of Typer
        return INTERRUPTED
    except SystemExit:  # of Typer's own, for a closed pipe
        raise BrokenPipeError from None
    except Exception as exc:  # Typer's own have no class in common, but this method; a defect is raised again
        if not hasattr(exc, "format_message"):
            raise
        _complain(exc)
        return USAGE


def _complain(exc: Any) -> None:
    """Print what is wrong with the command line, in the form in which Typer prints it."""
    try:
        from typer.rich_utils import rich_format_error
    except ImportError:
        exc.show()
    else:
        rich_format_error(exc)


def _flushed(code: int) -> int:
    """Write what is still in the buffer. If that fails, it must not be tried again when Python ends."""
    try:
        sys.stdout.flush()
    except OSError as exc:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(exc, BrokenPipeError):
            return NO_READER
        print(f"lro: the output cannot be written: {exc.strerror}", file=sys.stderr)
        return BROKEN
    return code
