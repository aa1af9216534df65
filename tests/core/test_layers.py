"""Imports go down only, and the lower layers stay light. Read from the source, so that a lazy import counts too."""

from __future__ import annotations

import ast
import functools
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = "lro_aio"
ROOT = Path(__file__).parents[2] / PACKAGE


def drawn() -> dict[str, int]:
    """The picture in the package's docstring: layer -> its line, counted from the lowest; "" is the package itself."""
    text = ast.get_docstring(ast.parse((ROOT / "__init__.py").read_text())) or ""
    lines = text.partition("::\n\n")[2].partition("\n\n")[0].splitlines()
    columns = [re.split(r"\s{2,}", line.strip(), maxsplit=1)[0] for line in reversed(lines)]
    return {name.removeprefix(PACKAGE): rank for rank, column in enumerate(columns) for name in column.split(", ")}


RANKS = drawn()
"""A module may import from lower ranks and from its own folder. The picture needs every top-level module."""

MESSAGES = {"google.protobuf", "google.rpc", "google.longrunning"}
THIRD_PARTY = {
    "core": MESSAGES,
    "core.calendars": {"cronsim"},  # lazily: where there is a schedule
    "core.codes": {"grpc"},  # lazily: `code.grpc_code`
    "core.errors": MESSAGES | {"grpc"},  # for an annotation
    "core.codec": MESSAGES | {"pydantic", "pydantic_core"},
    "core.data": MESSAGES | {"pydantic", "pydantic_core"},
    "core.payloads": MESSAGES | {"pydantic"},
    "ports": {"google.longrunning"},
    "engine": MESSAGES | {"anyio", "typing_extensions"},
}
"""What the lower layers may import besides the standard library and each other."""

IMPURE = {"time", "os", "io", "pathlib", "socket", "sqlite3", "threading", "subprocess", "concurrent", "logging"}
"""Of the standard library, and not for the core: it has no I/O and no clock."""


class Import(NamedTuple):
    importer: str
    """Dotted, without the package's name; "" is the package."""
    imported: str
    """Dotted, in full."""
    line: int


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(module: str) -> Iterator[Import]:
    """Every import in the module, at any depth, also those for types only."""
    path = MODULES[module]
    folder = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(module, alias.name, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                up = [PACKAGE, *filter(None, folder.split("."))]
                base = ".".join([*up[: len(up) - node.level + 1], *filter(None, [base])])
            for alias in node.names:
                full = f"{base}.{alias.name}"
                is_module = full.removeprefix(f"{PACKAGE}.") in MODULES or base == "google.longrunning"
                yield Import(module, full if is_module else base, node.lineno)


@functools.cache
def all_imports() -> list[Import]:
    return [item for module in MODULES for item in imports(module)]


@functools.cache
def own_imports() -> list[Import]:
    return [item for item in all_imports() if item.imported.split(".")[0] == PACKAGE]


def inner(name: str) -> str:
    return name.removeprefix(PACKAGE).removeprefix(".")


def layer(name: str) -> str:
    return name.split(".")[0]


def product(name: str) -> str:
    """The folder or module of one product: "stores.sqlite"; "stores" for what is common to all, as "stores._x" is."""
    parts = name.split(".")[:2]
    return parts[0] if parts[-1].startswith("_") else ".".join(parts)


def test_the_walk_sees_the_package() -> None:
    assert {"", "core.transitions", "core.codec", "ports"} <= set(MODULES)
    assert len(own_imports()) > 50


def test_every_top_level_module_is_in_the_picture_and_nothing_else() -> None:
    assert {layer(module) for module in MODULES} == set(RANKS)
    assert RANKS["core"] < RANKS["ports"] < RANKS["engine"] < RANKS["stores"] < RANKS["client"] < RANKS["servers"]


def test_imports_go_down_only() -> None:
    wrong = [
        item
        for item in own_imports()
        if layer(item.importer) != layer(inner(item.imported))
        and RANKS[layer(item.importer)] <= RANKS[layer(inner(item.imported))]
    ]
    assert wrong == []


def test_no_two_files_import_each_other_in_a_circle() -> None:
    """Inside folders too, and for types too: whoever reads a file can read what it stands on first.

    The package's own ``__init__`` imports everything below it, so what comes from there is left out.
    """
    needs: dict[str, set[str]] = {module: set() for module in MODULES}
    for item in own_imports():
        if inner(item.imported) in needs and inner(item.imported) not in ("", item.importer):
            needs[item.importer].add(inner(item.imported))
    while free := {module for module, others in needs.items() if not others & needs.keys()}:
        needs = {module: others for module, others in needs.items() if module not in free}
    assert needs == {}


@pytest.mark.parametrize("folder", ["stores", "schedulers"])
def test_one_product_knows_neither_another_nor_the_engine(folder: str) -> None:
    mine = [item for item in own_imports() if layer(item.importer) == folder]
    wrong = [
        item
        for item in mine
        if layer(inner(item.imported)) not in ("core", "ports", "_missing", folder)
        or (
            layer(inner(item.imported)) == folder
            and product(inner(item.imported)) not in (folder, product(item.importer))
            and item.importer != folder
        )
    ]
    assert wrong == []


def test_of_the_command_line_only_the_demo_runs_a_server() -> None:
    wrong = [
        item
        for item in own_imports()
        if layer(item.importer) == "cli"
        and not item.importer.startswith("cli.demo")
        and layer(inner(item.imported)) == "servers"
    ]
    assert wrong == []


def test_the_lower_layers_import_only_what_they_need() -> None:
    wrong = []
    for item in all_imports():
        allowed = THIRD_PARTY.get(item.importer, THIRD_PARTY.get(layer(item.importer)))
        top = item.imported.split(".")[0]
        if allowed is None or top == PACKAGE or top in sys.stdlib_module_names:
            continue
        if not any(item.imported == name or item.imported.startswith(f"{name}.") for name in allowed):
            wrong.append(item)
    assert wrong == []


def test_the_lower_layers_take_the_operation_from_the_module_without_grpc() -> None:
    """``google.longrunning.operations_pb2`` imports grpc; ``operations_proto_pb2`` has the same classes."""
    wrong = [
        item
        for item in all_imports()
        if layer(item.importer) in THIRD_PARTY
        and item.imported.startswith("google.longrunning")
        and item.imported != "google.longrunning.operations_proto_pb2"
    ]
    assert wrong == []


def test_the_core_has_no_io_and_no_clock() -> None:
    wrong = [item for item in all_imports() if layer(item.importer) == "core" and item.imported.split(".")[0] in IMPURE]
    # Names are drawn at random, and `os` is where randomness comes from.
    assert [item for item in wrong if (item.importer, item.imported) != ("core.names", "os")] == []
    for module, path in MODULES.items():
        if layer(module) == "core":
            calls = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
            assert not calls & {"now", "utcnow", "today"}, module


def reaching(target: str) -> set[str]:
    """The core modules that import ``target``, directly or through others."""
    found = {target}
    while True:
        more = {
            item.importer for item in own_imports() if layer(item.importer) == "core" and inner(item.imported) in found
        }
        if more <= found:
            return found
        found |= more


def loaded_by(names: list[str]) -> set[str]:
    """Top-level packages that a fresh interpreter has after it imported these modules, and not the package itself."""
    code = (
        "import importlib, json, sys, types\n"
        f"package = types.ModuleType({PACKAGE!r})\n"
        f"package.__path__ = [{str(ROOT)!r}]\n"
        f"sys.modules[{PACKAGE!r}] = package\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    return _run(code)


def _run(code: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT.parent)
    return set(json.loads(done.stdout))


def test_importing_the_core_loads_no_grpc_and_pydantic_only_through_the_codec() -> None:
    core = [module for module in MODULES if layer(module) == "core"]
    with_codec = reaching("core.codec")
    without = [f"{PACKAGE}.{module}" for module in core if module not in with_codec]
    assert f"{PACKAGE}.core.transitions" in without
    assert not loaded_by(without) & {"grpc", "pydantic", "pydantic_core", "anyio"}
    assert not loaded_by([f"{PACKAGE}.{module}" for module in core]) & {"grpc", "anyio"}


def test_importing_the_package_loads_no_server_command_line_or_cloud_code() -> None:
    code = f"import json, sys, {PACKAGE}\nprint(json.dumps(sorted({{*sys.modules}})))"
    loaded = _run(code)
    assert f"{PACKAGE}.core.errors" in loaded
    heavy = {
        "fastapi", "starlette", "uvicorn", "httpx", "typer", "click", "rich", "pytest", "google.cloud", "google.auth",
        "google.api_core", f"{PACKAGE}.servers", f"{PACKAGE}.cli", f"{PACKAGE}.testing", f"{PACKAGE}.remote",
        f"{PACKAGE}.dashboard", "jinja2", f"{PACKAGE}.mcp", "mcp", "mcp_types",
    }  # fmt: skip
    assert not loaded & heavy
