"""Every log record of a remote scheduler has the fields that the page lists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from lro_aio.core.record import Record, State
from lro_aio.schedulers._log import fields

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted((ROOT / "lro_aio" / "schedulers").glob("*.py"))
REMOTE = [path for path in MODULES if path.name in ("_remote.py", "cloud_tasks.py", "workflows.py")]


def calls(path: Path, owner: str) -> list[ast.Call]:
    """Calls of ``owner`` or of one of its methods."""
    found = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    return [node for node in found if ast.unparse(node.func).split(".")[0] == owner]


@pytest.mark.parametrize("path", REMOTE, ids=lambda path: path.name)
def test_every_record_has_fields(path: Path) -> None:
    logged = calls(path, "logger")
    assert logged
    for call in logged:
        (extra,) = (word.value for word in call.keywords if word.arg == "extra")
        assert ast.unparse(extra) in ("extra", "fields"), ast.unparse(call)
    assert len(calls(path, "fields")) == len(logged)


def test_the_events_are_those_of_the_page() -> None:
    """They are keys that others count on: none is renamed in passing."""
    page = (ROOT / "docs" / "scheduling.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"^\| `(\w+)` \| (?:WARNING|INFO) \|", page, re.MULTILINE))
    events = {ast.literal_eval(call.args[1]) for path in REMOTE for call in calls(path, "fields")}
    assert events == shown == {"execution_lost", "task_lost", "children_left_out", "call_repeated"}


def test_they_name_the_operation_and_its_handler() -> None:
    record = Record(name="operations/a", uid="u", state=State.SUSPENDED, create_time=0.0, update_time=0.0, handler="h")
    assert fields(record, "task_lost") == {"operation": "operations/a", "handler": "h", "event": "task_lost"}
