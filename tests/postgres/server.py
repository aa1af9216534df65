"""A PostgreSQL server of the tests' own: made, started, restarted and removed by them, on a free port of the loopback.

python -m tests.postgres.server --find             say where the programs are, or how to get them
python -m tests.postgres.server [--fsync] [COMMAND...]    run COMMAND with $LRO_TEST_POSTGRES, the server's URL
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Self

import psycopg

from ..ports import free_port
from .programs import MISSING, programs

PATIENCE = 30.0
"""Seconds for a server to start: only a broken one takes as long."""

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "autovacuum_naptime": "1d",
}


class Server:
    """A server with a database ``lro`` and a role ``lro`` that may do everything. Use as a context manager.

    Args:
        fsync: Whether what it has committed survives the machine. Without, it is twice as fast.
        standby_of: Make it a standby of this one, which streams its log.
        settings: More of them, as in ``postgresql.conf``.
    """

    def __init__(self, *, fsync: bool = False, standby_of: Server | None = None, **settings: str) -> None:
        folder = programs()
        if folder is None:
            raise FileNotFoundError(MISSING)
        self._programs = folder
        self._primary = standby_of
        self._settings = {**_SETTINGS, "fsync": "on" if fsync else "off", **settings}
        # The server refuses to run as root, and a directory of pytest's is for its owner alone.
        self._user: dict[str, Any] = {"user": "nobody", "group": "nogroup", "extra_groups": []} if _is_root() else {}
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """Of the database ``lro``."""
        return f"postgresql://lro@127.0.0.1:{self.port}/lro"

    def __enter__(self) -> Self:
        self._home = Path(tempfile.mkdtemp(prefix="lro-postgres-"))
        if self._user:
            shutil.chown(self._home, self._user["user"])
        if self._primary is not None:
            where = ["--host=127.0.0.1", f"--port={self._primary.port}", "--username=lro"]
            self._run("pg_basebackup", f"--pgdata={self._home / 'data'}", *where, "-R", "-X", "stream", "-c", "fast")
        else:
            options = ["--auth=trust", "--username=lro", "--encoding=UTF8", "--locale=C", "--no-sync"]
            self._run("initdb", f"--pgdata={self._home / 'data'}", *options)
        self.port = free_port()
        self.start()
        if self._primary is not None:
            return self
        with psycopg.connect(self.url.removesuffix("lro") + "postgres", autocommit=True) as connection:
            connection.execute("CREATE DATABASE lro")
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self._home, ignore_errors=True)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = [f"--{name}={value}" for name, value in {**self._settings, "port": str(self.port)}.items()]
        log = (self._home / "log").open("ab")
        # It stops with us, whatever becomes of us: with the end of its guard's input.
        guard = '"$@" & child=$!; cat > /dev/null; kill -QUIT $child 2> /dev/null; wait $child'
        with log:
            self._process = subprocess.Popen(
                ["sh", "-c", guard, "sh", str(self._programs / "postgres"), "-D", str(self._home / "data"), *settings],
                stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=self._home, **self._user,
            )  # fmt: skip
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                psycopg.connect(self.url.removesuffix("lro") + "postgres", connect_timeout=2).close()
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise AssertionError((self._home / "log").read_text()) from None
                time.sleep(0.02)  # it tells nobody when it is ready
            else:
                return

    def stop(self) -> None:
        """Stop it at once, as ``pg_ctl stop -m immediate``: what is not in the log is lost."""
        if self._process is not None:
            self._process.communicate(timeout=PATIENCE)
            self._process = None

    def restart(self) -> None:
        """As ``pg_ctl restart -m immediate``."""
        self.stop()
        self.start()

    def promote(self) -> None:
        """Make a standby the primary."""
        self._run("pg_ctl", "promote", f"--pgdata={self._home / 'data'}")

    def _run(self, program: str, *options: str) -> None:
        done = subprocess.run(
            [str(self._programs / program), *options], capture_output=True, text=True, cwd=self._home, **self._user
        )
        assert done.returncode == 0, done.stderr


def _is_root() -> bool:
    return os.geteuid() == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fsync", action="store_true")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    if programs() is None:
        print(MISSING, file=sys.stderr)
        return 1
    with Server(fsync=arguments.fsync) as server:
        return subprocess.run(arguments.command, env={**os.environ, "LRO_TEST_POSTGRES": server.url}).returncode


if __name__ == "__main__":
    sys.exit(main())
