"""``lro dashboard``: the dashboard of a store, for whoever has the link."""

from __future__ import annotations

import contextlib
import getpass
import socket

import uvicorn

from lro_aio.cli.backends import open_client
from lro_aio.cli.printing import console
from lro_aio.cli.problems import CliError, Exit
from lro_aio.dashboard import Access, Dashboard
from lro_aio.dashboard.gate import TokenGate

__all__ = ["HOST", "serve"]

HOST = "127.0.0.1"
STOP_GRACE = 1
"""Seconds that requests get when the server stops: pages that follow what happens never end by themselves."""


async def serve(url: str, *, port: int, read_only: bool) -> Exit:
    """Serve the dashboard of a store on the loopback interface until a signal.

    Args:
        url: Of the store.
        port: 0 is any that is free.
        read_only: Whether nobody may do anything.

    Raises:
        CliError: The port is taken, the URL is malformed, or there is no such store.
    """
    access = Access.read_only(_user()) if read_only else Access.full(_user())
    async with open_client(url, writes=not read_only) as client:
        try:
            listener = socket.create_server((HOST, port))
        except OSError as exc:
            raise CliError(f"port {port} of {HOST} cannot be used: {exc.strerror}", Exit.UNAVAILABLE) from exc
        with listener:
            port = listener.getsockname()[1]
            gate = TokenGate(lambda authorize: Dashboard(client, authorize=authorize), access, port)
            console().out(f"http://{HOST}:{port}/?token={gate.token}", highlight=False)
            console(stderr=True).print("the dashboard, for whoever has this link, until Ctrl-C", style="dim")
            config = uvicorn.Config(
                gate, lifespan="off", log_level="critical", proxy_headers=False, timeout_graceful_shutdown=STOP_GRACE
            )
            await uvicorn.Server(config).serve(sockets=[listener])
    return Exit.OK


def _user() -> str:
    with contextlib.suppress(OSError, KeyError):  # a user without a name
        return getpass.getuser()
    return ""
