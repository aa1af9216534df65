"""The log records of the remote schedulers are those that the page lists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted((ROOT / "lro_aio" / "schedulers").glob("*.py"))
REMOTE = [path for path in MODULES if path.name in ("_remote.py", "cloud_tasks.py", "workflows.py")]


def calls(path: Path, owner: str) -> list[ast.Call]:
    """Calls of ``owner`` or of one of its methods."""
    found = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    return [node for node in found if ast.unparse(node.func).split(".")[0] == owner]


def test_the_events_are_those_of_the_page() -> None:
    """They are keys that others count on: none is renamed in passing."""
    page = (ROOT / "docs" / "scheduling.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"^\| `(\w+)` \| (?:WARNING|INFO) \|", page, re.MULTILINE))
    events = {ast.literal_eval(call.args[1]) for path in REMOTE for call in calls(path, "about")}
    assert events == shown == {"execution_lost", "task_lost", "children_left_out", "call_repeated"}
