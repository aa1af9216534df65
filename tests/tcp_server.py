"""A TCP server on the loopback interface, of which nothing is left behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from ssl import SSLContext

from .waiting import accepted

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def tcp_server(serve: Serve, *, ssl: SSLContext | None = None) -> AsyncIterator[int]:
    """The port of a server that calls ``serve`` for each connection, and closes the connection afterwards.

    A client that hangs up ends ``serve`` and is no error. At the end, what is still connected is cut off, and every
    socket is closed: one that is not would be found in whichever test the garbage collector runs.

    Raises:
        BaseExceptionGroup: What else ``serve`` has raised.
    """
    connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections[asyncio.create_task(served(reader, writer))] = writer

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client hung up
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=ssl)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        # A socket is a connection some turns of the loop after it was accepted; if the server is closed in between,
        # asyncio forgets the socket.
        await accepted()
        server.close()
        for task, writer in connections.items():
            writer.transport.abort()
            task.cancel()
        ended = await asyncio.gather(*connections, return_exceptions=True)
        # Of a connection that broke this raises what broke it; it is closed all the same.
        await asyncio.gather(*(writer.wait_closed() for writer in connections.values()), return_exceptions=True)
        await server.wait_closed()  # Python 3.11 does not wait here
        failures = [error for error in ended if error and not isinstance(error, asyncio.CancelledError)]
        if failures:
            raise BaseExceptionGroup("the server of the test failed", failures)
