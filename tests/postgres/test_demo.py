"""The demo with its operations in PostgreSQL: the server is killed half way, and nothing is lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_the_demo_loses_nothing_on_postgresql(url: str, tmp_path: Path) -> None:
    for number in range(8):
        folder = tmp_path / f"part-{number}"
        folder.mkdir()
        (folder / "text.py").write_text("line\n" * number)
    command = [sys.executable, "-m", "lro_aio.cli", "demo", "--path", str(tmp_path), "--pace", "3", "--store", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "nothing was lost" in done.stdout
    assert "SIGKILL" in done.stdout
