"""An ASGI application on a real server, which comes and goes without the tenths of a second that uvicorn sleeps for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

from .waiting import PATIENCE, accepted, until


@asynccontextmanager
async def served(app: Any, *, abrupt: bool = False, **options: Any) -> AsyncIterator[str]:
    """The base URL of an application on a free port of the loopback interface.

    Args:
        app: See above.
        abrupt: Whether requests that are under way at the end are cut off, and not waited for.
        options: Of ``uvicorn.Config``.
    """
    server = _Server(uvicorn.Config(app, **{"host": "127.0.0.1", "port": 0, "log_level": "warning", **options}))
    serving = asyncio.create_task(server._serve())  # serve() would take over the process' signals
    try:
        await until(lambda: server.started or serving.done())
        if serving.done():
            await serving
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.force_exit = abrupt
        server.stop.set()
        await asyncio.wait_for(serving, PATIENCE)


class _Server(uvicorn.Server):
    """As its base, whose main loop and shutdown look every 0.1 s whether something has happened."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.stop = asyncio.Event()

    async def main_loop(self) -> None:
        await self.on_tick(0)  # makes the Date header
        await self.stop.wait()

    async def shutdown(self, sockets: Any = None) -> None:
        await accepted()  # asyncio forgets a socket that was accepted and is not yet a connection
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        if not self.force_exit:
            await until(lambda: not (self.server_state.connections or self.server_state.tasks))
            await self.lifespan.shutdown()
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)  # in which the sockets are closed
