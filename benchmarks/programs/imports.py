"""Imports in fresh interpreters: what ``import lro_aio`` costs, and what its dependencies alone do."""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import statistics
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from importlib.metadata import distribution, version
from pathlib import Path
from typing import Any

from benchmarks.programs.common import Figures, main

OURS = "import lro_aio; lro_aio.Client('sqlite://')"
LISTED = f"""
{OURS}
import json, sys
files = {{name: str(vars(module).get("__file__")) for name, module in sys.modules.items()}}
print(json.dumps([name for name, file in files.items() if "site-packages" in file]))
"""
"""Says which modules of installed packages that loads (ours may be among them, and are taken out)."""
BASE = ("protobuf", "googleapis-common-protos", "grpcio", "grpcio-status", "anyio", "pydantic", "pydantic-core")
MEASURE = """
import sys, time, json
wall, cpu = time.perf_counter(), time.process_time()
{code}
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
print(json.dumps([wall, cpu, len(sys.modules)]))
"""


async def said(code: str) -> list[Any]:
    """What the code prints, in an interpreter of its own."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-I", "-c", code, stdout=asyncio.subprocess.PIPE)
    found: list[Any] = json.loads((await process.communicate())[0])
    return found


async def imported(what: str) -> str:
    """The code that a side runs: the package, just those modules of others that it loads, or all base dependencies."""
    if what == "lro":
        return OURS
    loaded = [name for name in await said(LISTED) if name.partition(".")[0] != "lro_aio" and ":" not in name]
    more = ["grpc", "grpc_status.rpc_status"] if what == "base" else []
    return f"import {', '.join(['asyncio', 'sqlite3', *loaded, *more])}"


async def imports(what: str, code: str, repeats: int) -> Figures:
    """The median of so many interpreters, and the installed size."""
    seen = [await said(MEASURE.format(code=code)) for _ in range(repeats)]
    walls, cpus, modules = zip(*seen, strict=True)
    return {
        "wall": statistics.median(walls) * 1e3,
        "cpu": statistics.median(cpus) * 1e3,
        "modules": float(modules[0]),
        "size": (own_size() if what == "lro" else sum(map(size_of, BASE))) / 1e6,
    }


def size_of(name: str) -> int:
    """Bytes of an installed distribution, without compiled Python."""
    files = distribution(name).files or ()
    return _sum(Path(str(file.locate())) for file in files)


def own_size() -> int:
    """Bytes of what a wheel of this package installs (it may be installed editable here)."""
    import lro_aio

    return _sum(Path(lro_aio.__file__).parent.rglob("*"))


def _sum(files: Iterable[Path]) -> int:
    return sum(file.stat().st_size for file in files if file.is_file() and file.suffix != ".pyc")


@asynccontextmanager
async def program(arguments: argparse.Namespace) -> AsyncIterator[tuple[Any, Any]]:
    async def measured(repeats: int) -> Figures:
        return await imports(arguments.what, code, repeats)

    code = await imported(arguments.what)
    await said(MEASURE.format(code=code))  # compiled, and in the page cache
    versions = {"python": platform.python_version(), **{name: version(name) for name in BASE}}
    yield {"versions": versions, "durability": "nothing is stored"}, {"imports": measured}


if __name__ == "__main__":
    main(program, "what")
