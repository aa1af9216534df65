"""The public types, as the type checkers of users see them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

CHECKERS = {
    "mypy": [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--no-error-summary"],
    "pyright": ["pyright", "--pythonpath", sys.executable],
}


def lines_with_errors(checker: str, file: Path) -> tuple[set[int], str]:
    if checker == "pyright" and shutil.which("pyright") is None:
        pytest.skip("pyright is not installed")
    done = subprocess.run([*CHECKERS[checker], str(file)], capture_output=True, text=True, cwd=ROOT, check=False)
    found = re.findall(rf"{file.name}:(\d+):.*error:", done.stdout)
    assert found or done.returncode == 0, done.stdout + done.stderr
    return {int(line) for line in found}, done.stdout


@pytest.mark.timeout(300)
@pytest.mark.parametrize("checker", CHECKERS)
def test_types_are_inferred_from_the_decorated_function(checker: str) -> None:
    lines, output = lines_with_errors(checker, HERE / "good.py")
    assert lines == set(), output


@pytest.mark.timeout(300)
@pytest.mark.parametrize("checker", CHECKERS)
def test_each_wrong_line_is_refused_and_no_other(checker: str) -> None:
    text = (HERE / "bad.py").read_text()
    wrong = {number for number, line in enumerate(text.splitlines(), 1) if line.endswith("# wrong")}
    lines, output = lines_with_errors(checker, HERE / "bad.py")
    assert lines == wrong, output
