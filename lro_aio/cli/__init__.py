"""The ``lro`` command: look at operations, wait for them, cancel them, and see the whole thing work (``lro demo``).

::

    lro list   [--filter F] [--parent P] [--limit N]      lro cancel NAME...
    lro get    NAME                                       lro delete NAME...
    lro wait   NAME [--timeout S]                         lro demo   [--path DIR]
    lro watch  NAME

    lro spanner ddl      [--variant proto|bytes] [--table T]                print the DDL of the table
    lro spanner migrate  URL [--variant proto|bytes] [--dry-run] [--replace-ttl]      make or upgrade it

Each talks to a service (``--server HOST:PORT`` for gRPC without TLS, ``--url URL`` for any, or ``LRO_SERVER``,
``LRO_URL``) or opens a store (``--store URL``, or ``LRO_STORE``); exactly one of them. ``--json`` writes proto3 JSON,
one operation per line. A name without a ``/`` stands for ``operations/{name}``; a rehydration token will do, too.
Results go to the output, problems as one sentence to the error output.

Exit codes:

====  =================================================================================================================
0     Done as asked. Of ``wait`` and ``watch``: the operation succeeded.
1     ``wait``, ``watch``: the operation failed or was cancelled. ``demo``: the operation failed, or something differs.
2     The command line cannot be right: wrong options, a malformed name, filter or URL, a missing extra.
3     There is no such operation.
4     ``wait --timeout`` or ``demo --timeout`` ran out.
5     The server or the store does not answer, or is not one.
6     The server refused for another reason, such as a missing permission.
130   Interrupted with Ctrl-C. The operation goes on.
====  =================================================================================================================

What cannot be used without the extra ``cli`` is imported in ``main`` only.
"""

from __future__ import annotations

import sys

__all__ = ["main"]

NEEDED = ("typer", "rich", "click")
INSTALL = "pip install 'lro-aio[cli]'"


def main() -> None:
    """Entry point of ``lro``. Does not return: the exit code is one of the table above."""
    try:
        from lro_aio.cli.app import app
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] not in NEEDED:
            raise
        print(f"lro: {exc.name} is not installed; the command line needs it: {INSTALL}", file=sys.stderr)
        sys.exit(2)
    app(prog_name="lro")
