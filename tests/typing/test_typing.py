"""The public types, as the type checkers of users see them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

# A cache of its own: that of `make check`, with other options, would make this one start anew each time.
CACHE = ROOT / ".mypy_cache" / "typing"
CHECKERS = {
    "mypy": [
        "mypy", "--strict", "--follow-imports=silent", "--no-error-summary", f"--cache-dir={CACHE}",
        str(HERE / "good.py"), str(HERE / "bad.py"),
    ],
    # The build of pyright that brings its own Node.js; with the rules of pyright's default mode.
    "pyright": ["basedpyright", "--project", str(HERE), "--pythonpath", sys.executable],
}  # fmt: skip


@pytest.mark.slow  # the checkers take a quarter of a minute, and much longer where they have no cache
@pytest.mark.timeout(300)
@pytest.mark.parametrize("checker", CHECKERS)
def test_types_are_inferred_and_each_wrong_line_is_refused_and_no_other(checker: str) -> None:
    """Of both files in one run, which reads the package once."""
    command = [sys.executable, "-m", *CHECKERS[checker]]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    found = re.findall(r"(good|bad)\.py:(\d+):.*error:", done.stdout)
    lines = (HERE / "bad.py").read_text(encoding="utf-8").splitlines()
    wrong = {("bad", str(number)) for number, line in enumerate(lines, 1) if line.endswith("# wrong")}
    assert set(found) == wrong, done.stdout + done.stderr
