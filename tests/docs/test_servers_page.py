"""``docs/servers.md``: what a reader compiles does compile, and its examples of access control let a tenant list."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from .blocks import parse
from .pages import REPOSITORY

PAGE = REPOSITORY / "docs" / "servers.md"
BLOCKS = parse(PAGE)
COMMANDS = [
    shlex.split(line.removeprefix("$ "))
    for block in BLOCKS
    if block.language == "console" and "grpc_tools" in block.text
    for line in block.text.replace("\\\n", " ").splitlines()
]

needs_compiler = pytest.mark.skipif(importlib.util.find_spec("grpc_tools") is None, reason="needs grpcio-tools")


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A directory in which a reader has followed the page, up to the compiler."""
    (proto,) = (block for block in BLOCKS if block.language == "proto")
    (tmp_path / proto.directives["file"]).write_text(proto.text, encoding="utf-8")
    (command,) = (words for words in COMMANDS if words[:2] == ["lro", "protos"])
    run([sys.executable, "-m", "lro_aio.cli", *command[1:]], tmp_path)
    return tmp_path


def run(command: list[str], directory: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path[1:]])}
    return subprocess.run(
        command, cwd=directory, env=environment, check=True, capture_output=True, text=True, timeout=60
    ).stdout


def imports(path: Path) -> set[str]:
    return set(re.findall(r'^import (?:public )?"([^"]+)";', path.read_text(encoding="utf-8"), re.MULTILINE))


@pytest.mark.slow
def test_whatever_the_proto_imports_is_there(sources: Path) -> None:
    """But for google/protobuf, which comes with every compiler. The source of our own metadata is there too."""
    written = {str(path.relative_to(sources / "protos")) for path in sources.rglob("protos/**/*.proto")}
    wanted = {name for path in sources.rglob("*.proto") for name in imports(path)}
    assert "google/longrunning/operations.proto" in wanted
    wanted.add("lro/v1/progress.proto")
    assert {name for name in wanted if not name.startswith("google/protobuf/")} == written


@pytest.mark.slow
@needs_compiler
def test_the_proto_compiles_by_the_command_of_the_page(sources: Path) -> None:
    """And what comes out knows the types of the operation."""
    (command,) = (words for words in COMMANDS if words[0] == "python")
    run([sys.executable, *command[1:]], sources)
    code = (
        "import reports_pb2, reports_pb2_grpc; from google.longrunning import operations_pb2;"
        "method = reports_pb2.DESCRIPTOR.services_by_name['Reports'].methods_by_name['CreateReport'];"
        "print(method.GetOptions().Extensions[operations_pb2.operation_info].response_type)"
    )
    assert run([sys.executable, "-c", code], sources) == "Report\n"


def test_the_page_about_deploying_says_what_each_server_does_on_sigterm() -> None:
    text = (REPOSITORY / "docs" / "deploying.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"^\| Server \| On SIGTERM \|\n(?:^\|.*\n)+", text, re.MULTILINE)
    said = dict(re.findall(r"^\| `([\w.]+)`[^|]* \| ([^|]+) \|$", table, re.MULTILINE))
    assert {"uvicorn", "gunicorn", "hypercorn", "grpc.aio"} <= said.keys()
