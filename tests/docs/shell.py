"""A real shell for the ``console`` blocks of a page: one bash with job control, as a reader would have."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path

from .blocks import DocsError

TIMEOUT = 30.0
"""Seconds that one command, or the first words of a background one, may take."""


class Shell:
    """Runs commands one after the other; background jobs are stopped by ``close``."""

    def __init__(self, directory: Path) -> None:
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env=self._environment(),
            start_new_session=True,
        )
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, name="docs-shell", daemon=True)
        self._reader.start()
        self._count = 0
        self._write("set -m")

    @staticmethod
    def _environment() -> dict[str, str]:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        plain = {"PYTHONUNBUFFERED": "1", "NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "120"}
        # A nested pytest needs none of these, and they take longer to load than its tests to run.
        plugins = "-p no:hypothesispytest -p no:xdist -p no:pytest_cov"
        return {**os.environ, **plain, "PATH": path, "PYTEST_ADDOPTS": plugins}

    def run(self, command: str, *, expected: list[str]) -> str:
        """Run a command and return what was printed meanwhile.

        A command that ends with ``&`` is waited for until the first expected line has come.

        Raises:
            DocsError: It ended with another status than 0, or did not answer in time.
        """
        self._count += 1
        mark = f"__docs_{self._count}__"
        background = command.rstrip().endswith("&")
        if background and not expected:
            raise DocsError(f"no output is shown that tells when it has started: {command}")
        # After a kill, what was killed is waited for, and its job number is free again, as at a prompt.
        settle = "\nwait; jobs >/dev/null" if command.startswith("kill ") else ""
        self._write(f"{command}\nstatus=$?{settle}\necho {mark} $status")
        printed: list[str] = []
        deadline = time.monotonic() + TIMEOUT
        marked = False
        while not marked or (background and not any(matches(expected[0], line) for line in printed)):
            line = self._next(deadline, command, printed)
            head, _, status = line.partition(mark)
            if status:
                marked = True
                if head:
                    printed.append(head)
                if int(status):
                    raise DocsError(f"$ {command}\nended with status {int(status)}:\n" + "\n".join(printed))
            else:
                printed.append(line)
        return "\n".join(printed)

    def close(self) -> None:
        """Stop what still runs and end the shell."""
        if self._process.poll() is None:
            self._write("kill -TERM $(jobs -p) 2>/dev/null; wait; exit 0")
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(TIMEOUT)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _write(self, text: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{text}\n".encode())
        self._process.stdin.flush()

    def _next(self, deadline: float, command: str, printed: list[str]) -> str:
        try:
            line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            line = None
        if line is None:
            shown = "\n".join(printed)
            raise DocsError(f"$ {command}\ndid not end within {TIMEOUT:g} s, or ended the shell:\n{shown}")
        return line

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.decode("utf-8", "replace").rstrip("\n"))
        self._lines.put(None)


def matches(expected: str, line: str) -> bool:
    """Whether a printed line is the one of the page, where ``...`` stands for anything."""
    place = 0
    parts = [part.strip() for part in expected.split("...")]
    for index, part in enumerate(parts):
        found = line.strip().find(part, place)
        if found < 0 or (index == 0 and found):
            return False
        place = found + len(part)
    return not parts[-1] or line.strip().endswith(parts[-1])


def check_output(expected: list[str], printed: str, place: str) -> None:
    """Every expected line was printed, in this order; other lines may stand between.

    Raises:
        DocsError: One is missing.
    """
    left = iter(printed.splitlines())
    for wanted in expected:
        if wanted.strip() in ("", "..."):
            continue
        if not any(matches(wanted, line) for line in left):
            raise DocsError(f"{place}: not printed, or not in this order:\n{wanted}\n\nprinted:\n{printed}")
