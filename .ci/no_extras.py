"""Runs an operation where only the base package is installed, and asks for what an extra brings."""

import asyncio
import importlib.util
import sys
import tempfile
from pathlib import Path

from google.protobuf import wrappers_pb2

import lro_aio as lro
import lro_aio.remote.grpc
import lro_aio.servers.grpc
import lro_aio.servers.resume
import lro_aio.testing

ABSENT = ("fastapi", "httpx", "uvicorn", "typer", "rich", "pytest", "psycopg", "google.cloud.spanner_v1", "google.auth")
"""Packages without which this proves something."""

EXTRAS = {
    "http": lambda: lro.remote.HttpTransport,
    "postgres": lambda: lro.PostgresStore,
    "spanner": lambda: lro.SpannerStore,
    "workflows": lambda: lro.WorkflowsScheduler,
    "tasks": lambda: lro.CloudTasksScheduler,
    "fastapi": lambda: importlib.import_module("lro_aio.servers.fastapi"),
}
"""What asks for each extra."""

handlers = lro.Handlers()


@handlers.handler("count", state=int, resume_points=("rested",))
async def count(op: lro.Operation[int]) -> lro.Suspended | wrappers_pb2.Int64Value:
    """One more, after a rest."""
    if op.resume_point == "":
        return op.suspend(resume_at="rested", sleep=0.1)
    return wrappers_pb2.Int64Value(value=op.state + 1)


async def one_operation(path: Path) -> int:
    """From its start to its result, on a file."""
    async with lro.Client(f"sqlite:///{path}", handlers=[handlers]) as client:
        op = await client.start("count", 41)
        return (await op.result(wrappers_pb2.Int64Value, timeout=20)).value


def installed(package: str) -> bool:
    """Whether a package, or the part of a namespace, can be imported."""
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:
        return False


def main() -> None:
    """Exit with a sentence where a promise is not kept."""
    if found := [package for package in ABSENT if installed(package)]:
        sys.exit(f"this environment is not bare: it has {', '.join(found)}")
    with tempfile.TemporaryDirectory() as directory:
        if (value := asyncio.run(one_operation(Path(directory) / "operations.db"))) != 42:
            sys.exit(f"41 and 1 are {value}")
    for extra, use in EXTRAS.items():
        try:
            use()
        except ImportError as exc:
            if f"pip install 'lro-aio[{extra}]'" not in str(exc):
                sys.exit(f"the error does not name the extra {extra}: {exc}")
        else:
            sys.exit(f"the extra {extra} is not needed")


if __name__ == "__main__":
    main()
