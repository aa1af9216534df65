"""The demo's server process, as the client starts, kills and stops it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from pathlib import Path
from typing import Self

__all__ = ["ServerProcess", "ServerStartError"]

START_TIMEOUT = 30.0
"""Seconds until the server answers; a cold machine reads a lot of modules first."""
STOP_TIMEOUT = 10.0
"""Seconds that a stop by SIGTERM may take."""


class ServerStartError(Exception):
    """The server process did not start; the text has the end of its log."""


class ServerProcess:
    """One running server. Its input is a pipe from this process: it stops by itself if this process dies.

    Attributes:
        pid: Process id.
        grpc: ``HOST:PORT``.
        http: Base URL.
    """

    def __init__(self, process: asyncio.subprocess.Process, ports: dict[str, int]) -> None:
        self._process = process
        self.pid = process.pid
        self.grpc = f"127.0.0.1:{ports['grpc']}"
        self.http = f"http://127.0.0.1:{ports['http']}"

    @classmethod
    async def start(cls, store: str, *, lease: float, log: Path) -> Self:
        """Start a server and wait until it listens.

        Raises:
            ServerStartError: It ended, or did not report its ports in time.
        """
        with log.open("ab") as stderr:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "lro_aio.cli.demo.server", "--store", store, "--lease", str(lease)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,  # Ctrl-C reaches the client only, which then stops the server
            )
        try:
            assert process.stdout is not None
            line = await asyncio.wait_for(process.stdout.readline(), START_TIMEOUT)
            return cls(process, json.loads(line))
        except (TimeoutError, ValueError) as exc:
            await _end(process)
            raise ServerStartError(f"the server did not start: {_last_line(log)}") from exc
        except BaseException:
            await _end(process)
            raise

    async def kill(self) -> int:
        """SIGKILL, now; returns the exit status, which is -9."""
        self._process.send_signal(signal.SIGKILL)
        return await self._process.wait()

    async def stop(self) -> int:
        """SIGTERM, and SIGKILL if that takes too long; returns the exit status. May be called again."""
        if self._process.returncode is None:
            self._process.terminate()
            try:
                await asyncio.wait_for(self._process.wait(), STOP_TIMEOUT)
            except TimeoutError:
                await _end(self._process)
        return self._process.returncode if self._process.returncode is not None else -signal.SIGKILL

    @property
    def running(self) -> bool:
        """Whether the process has not ended."""
        return self._process.returncode is None


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()


def _last_line(log: Path) -> str:
    lines = log.read_text("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else "it wrote nothing"
