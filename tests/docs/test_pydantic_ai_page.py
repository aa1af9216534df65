"""The program of ``docs/agents.md`` for Pydantic AI: killed in the middle, and run again."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

import lro_aio as lro

from .blocks import parse

ROOT = Path(__file__).resolve().parents[2]

# Not imported: the slow lane alone needs it, and every worker would wait for it.
pytestmark = pytest.mark.skipif(not importlib.util.find_spec("pydantic_ai"), reason="Pydantic AI is not installed")


@pytest.fixture
def program(tmp_path: Path) -> Path:
    (block,) = (one for one in parse(ROOT / "docs" / "agents.md") if one.directives.get("file") == "framework.py")
    path = tmp_path / "framework.py"
    path.write_text(block.text, encoding="utf-8")
    return path


async def the_other_answer_is_stored(database: Path) -> None:
    """Both tools are called at once, so the one that answers may not be stored yet when the slow one is asked."""
    async with lro.Client(f"sqlite:///{database}", worker=False) as client, asyncio.timeout(30):
        (operation,) = (await client.list_operations()).operations
        while "Bergen" not in {entry.key for entry in await client.history(operation.name) if entry.kind == "STEP"}:
            await asyncio.sleep(0.01)


@pytest.mark.slow
def test_an_agent_of_pydantic_ai_pays_for_nothing_twice(program: Path) -> None:
    command = [sys.executable, program.name]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=program.parent, env=environment, stdout=subprocess.PIPE, text=True) as first:
        try:
            assert first.stdout is not None
            assert first.stdout.readline() == "asking for the weather in Oslo\n"
            asyncio.run(the_other_answer_is_stored(program.parent / "agents.db"))
        finally:
            first.kill()
    done = subprocess.run(
        command, cwd=program.parent, env=environment, capture_output=True, text=True, check=True, timeout=45
    )
    assert done.stdout == "Take an umbrella.\n"
    ledger = (program.parent / "framework-ledger.txt").read_text().splitlines()
    assert sorted(ledger) == ["model", "model", "weather in Bergen", "weather in Oslo", "weather in Oslo"]
