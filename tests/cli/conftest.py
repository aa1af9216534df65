import functools
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer.main
from typer.testing import CliRunner

from lro_aio.cli.app import app

from ..waiting import PATIENCE

# To build the commands takes longer than most of them run: once is enough.
_get_command = functools.cache(typer.main.get_command)

SERVE = Path(__file__).with_name("serve.py")


@dataclass
class Site:
    """A running server and the store under it."""

    server: str
    url: str
    store: str
    log: Path
    process: subprocess.Popen

    def at(self, kind):
        """The options that name it."""
        if kind == "azure":
            return ["--url", f"{self.url}/azure", "--style", "azure"]
        return [f"--{kind}", getattr(self, kind)]

    def calls(self):
        """The methods that were called over gRPC, in order."""
        return self.log.read_text() if self.log.exists() else ""

    def open_gate(self, number, after=0.0):
        """Let ``gate-{number}`` end."""
        threading.Timer(after, self._open, [number]).start()

    def open_gate_once_shown(self, number):
        """Let ``gate-{number}`` end once the command that runs in this process has shown a line."""

        def wait():
            ours, deadline = sys.stdout, time.monotonic() + PATIENCE
            while sys.stdout is ours or b"\n" not in sys.stdout.buffer.getvalue():
                if time.monotonic() > deadline:
                    return  # nor is it shown: the test fails
                time.sleep(0.01)
            self._open(number)

        threading.Thread(target=wait, daemon=True).start()

    def _open(self, number):
        self.process.stdin.write(f"{number}\n")
        self.process.stdin.flush()


def start_site(directory, *, port=0, what="everything"):
    store = f"sqlite:///{directory}/operations.db"
    process = subprocess.Popen(
        [sys.executable, str(SERVE), store, str(port), what],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    line = process.stdout.readline()
    assert line, "the test's server did not start"
    grpc, http = line.split()
    return Site(f"127.0.0.1:{grpc}", f"http://127.0.0.1:{http}", store, Path(directory) / "calls.log", process)


def stop_site(site):
    site.process.stdin.close()
    try:
        site.process.wait(10)
    finally:
        site.process.kill()
        site.process.wait()
        site.process.stdout.close()


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    started = start_site(tmp_path_factory.mktemp("site"))
    yield started
    stop_site(started)


@pytest.fixture(params=["server", "url", "store"])
def where(request, site):
    """The same operations, over gRPC, over HTTP, and in the store."""
    return site.at(request.param)


@pytest.fixture
def lro(monkeypatch):
    """Run ``lro`` in this process; a defect is raised here and not shown as exit code 1."""
    monkeypatch.delenv("LRO_SERVER", raising=False)
    monkeypatch.delenv("LRO_STORE", raising=False)
    monkeypatch.delenv("LRO_URL", raising=False)
    monkeypatch.delenv("LRO_STYLE", raising=False)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.setattr("typer.testing._get_command", _get_command)

    def run(*arguments, env=None, stdin=None):
        result = CliRunner().invoke(app, list(arguments), env=env, input=stdin, prog_name="lro")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run
