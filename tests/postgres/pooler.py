"""A PgBouncer of the tests' own, in transaction mode, before a server on the loopback."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import psycopg

from ..ports import free_port
from .server import PATIENCE

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
MISSING = "pgbouncer is not installed: apt-get install pgbouncer"
SETTINGS = """\
[databases]
* = host=127.0.0.1 port={behind.port} user={behind.username}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 2
"""


class Pooler:
    """Lends two connections to the server, for one transaction each. Use as a context manager.

    Args:
        url: Of the database behind it.
    """

    def __init__(self, url: str) -> None:
        self._direct = url

    def __enter__(self) -> Self:
        assert PROGRAM is not None
        behind = urlsplit(self._direct)
        port = free_port()
        self.url = self._direct.replace(f":{behind.port}/", f":{port}/")
        self._home = Path(tempfile.mkdtemp(prefix="lro-pgbouncer-"))
        # It refuses to run as root, as the server does.
        user: dict[str, Any] = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
        settings = self._home / "pgbouncer.ini"
        settings.write_text(SETTINGS.format(behind=behind, port=port))
        if user:
            self._home.chmod(0o755)
        with (self._home / "log").open("wb") as log:
            self._process = subprocess.Popen([PROGRAM, str(settings)], stdout=log, stderr=log, cwd="/", **user)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                psycopg.connect(self.url, connect_timeout=2).close()
            except psycopg.OperationalError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    self.__exit__()
                    raise
                time.sleep(0.02)  # it tells nobody when it is ready
            else:
                return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._home, ignore_errors=True)
