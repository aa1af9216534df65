"""What ``import lro_aio`` gives and what it leaves alone: names, where they say they are from, and what is loaded."""

from __future__ import annotations

import asyncio
import functools
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import lro_aio as lro

ROOT = Path(__file__).resolve().parents[1]

PUBLIC = [
    "Bounds", "BulkPreview", "BulkResult", "CancelReason", "Client", "ClockSkewError", "CloudTasksScheduler", "Code",
    "Description", "Handlers", "HistoryEntry", "InvalidFilterError", "InvalidOperationNameError",
    "InvalidPageTokenError", "InvalidTokenError", "InvalidTransitionError", "KeyStatus", "LeaseLostError",
    "LeasePolicy", "Limits", "LocalScheduler", "LroError", "Message", "OPERATION_COLUMN_NAME", "OPERATION_ID_HEADER",
    "Observer", "Operation", "OperationAlreadyExistsError", "OperationBusyError", "OperationCancelledError",
    "OperationDoneError", "OperationFailedError", "OperationNotDoneError", "OperationNotFoundError",
    "OperationsService", "PayloadTooLargeError", "PollPolicy", "PostgresStore", "Queue", "QueueStatus",
    "RESUME_POINT_COLUMN_NAME", "Rate", "RateLimited", "RemoteCallError", "RemoteOperation", "RemoteProtocolError",
    "ResponseDataError", "RetentionPolicy", "RetryLater", "RetryPolicy", "STATE_COLUMN_NAME", "Schedule",
    "ScheduleInfo", "SchedulerUnavailableError", "Schedules", "Span", "SpannerStore", "SqliteStore",
    "StateCodecError", "Stats", "StoreDataError", "StoreRefusedError", "StoreSchemaError", "StoreUnavailableError",
    "Suspended", "SweepPolicy", "Telemetry", "UnknownHandlerError", "UnknownResumePointError",
    "WaitDeadlineExceededError", "WakeReason", "Webhook", "Webhooks", "WorkerUnavailableError", "WorkflowsScheduler",
    "unmarshal_operation", "wait_operation",
]  # fmt: skip
"""Pinned: taking a name away breaks somebody; adding one is a decision, and is made here too."""

CONSTANTS = {
    "OPERATION_COLUMN_NAME": "Operation",
    "OPERATION_ID_HEADER": "x-alis-operation-id",
    "RESUME_POINT_COLUMN_NAME": "ResumePoint",
    "STATE_COLUMN_NAME": "State",
}

HEAVY = (
    "google.cloud", "google.auth", "google.api_core", "fastapi", "starlette", "httpx", "uvicorn", "typer", "rich",
    "click", "jinja2", "grpc", "grpc_status", "pytest", "lro_aio.servers", "lro_aio.cli", "lro_aio.testing",
    "lro_aio.stores.spanner", "lro_aio.schedulers.workflows", "lro_aio.schedulers.cloud_tasks",
    "lro_aio.stores.postgres", "psycopg", "lro_aio.dashboard", "lro_aio.mcp", "mcp", "mcp_types", "cronsim",
    "google.longrunning.operations_pb2_grpc", "google.longrunning.operations_grpc_pb2",
    "h11", "requests", "urllib3", "certifi", "yaml", "jsonschema", "cryptography", "proto", "opentelemetry",
    "sqlalchemy", "uvloop", "hypothesis", "matplotlib", "benchmarks",
    "unittest", "multiprocessing", "http.server", "xmlrpc", "pdb", "doctest", "tkinter",
    "importlib.metadata", "importlib.resources", "zipfile", "email.message",
)  # fmt: skip
"""What it must not load (benchmark h measures what it does)."""

UNUSED = (
    "lro_aio.core.bulk_rules", "lro_aio.core.description", "lro_aio.core.filter_parser",
    "lro_aio.core.filter_pushdown", "lro_aio.core.filter_values", "lro_aio.core.filters", "lro_aio.core.history",
    "lro_aio.core.pages", "lro_aio.core.rerunning", "lro_aio.core.schedules", "lro_aio.core.stats",
    "lro_aio.core.timeline", "lro_aio.engine.declaring", "lro_aio.engine.listing", "lro_aio.engine.overview",
    "lro_aio.engine.methods", "lro_aio.engine.queues", "lro_aio.engine.rerunning", "lro_aio.engine.schedule_runs",
    "lro_aio.engine.schedules", "lro_aio.engine.selecting", "lro_aio.engine.serving", "lro_aio.engine.webhooks",
    "lro_aio.stores.sqlite.backup", "lro_aio.stores.sqlite.stats", "lro_aio.webhooks",
)  # fmt: skip
"""What only those need who ask for it: neither an import nor a client that runs an operation loads it."""

EXTRAS = (
    "fastapi", "starlette", "jinja2", "httpx", "uvicorn", "typer", "rich", "click", "pytest", "pytest_asyncio",
    "opentelemetry", "mcp", "mcp_types", "cronsim",
)  # fmt: skip
"""What an installation without extras may lack."""


def run(code: str, *, without: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """The code in a fresh interpreter in which the packages ``without`` cannot be imported."""
    block = "".join(f"sys.modules[{name!r}] = None\n" for name in without)
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", f"import sys\n{block}{code}"],
        capture_output=True, text=True, cwd=ROOT, timeout=30,
    )  # fmt: skip


def output(code: str, *, without: tuple[str, ...] = ()) -> str:
    done = run(code, without=without)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


MISSING = (
    "opentelemetry", "httpx", "google.cloud", "google.auth", "psycopg", "fastapi", "jinja2", "mcp",
)  # fmt: skip
"""Of each extra that an error names, what cannot be imported."""

WEBHOOKS = "lro_aio.Client('sqlite://', webhooks=lro_aio.Webhooks(secrets='whsec_' + 'a' * 32))"
SPANNER, POSTGRES = "lro_aio.Client('spanner://p-1/i-1/db')", "lro_aio.Client('postgresql://h/d')"
FASTAPI, DASHBOARD = "import_module('lro_aio.servers.fastapi')", "import_module('lro_aio.dashboard')"
USES = (
    "lro_aio.Telemetry", "lro_aio.remote.HttpTransport", "lro_aio.WorkflowsScheduler", "lro_aio.CloudTasksScheduler",
    "lro_aio.SpannerStore", SPANNER, "lro_aio.PostgresStore", POSTGRES, WEBHOOKS,
    "import_module('lro_aio.mcp')", FASTAPI, DASHBOARD,
)  # fmt: skip
"""What needs an extra."""


@functools.cache
def refusals(without: tuple[str, ...], uses: tuple[str, ...] = USES) -> dict[str, str]:
    """What each use is told where these packages cannot be imported. In one interpreter, which costs the most."""
    code = f"""
import json, lro_aio
from importlib import import_module
said = {{}}
for use in {uses!r}:
    try:
        eval(use)
    except ImportError as exc:
        said[use] = str(exc)
print(json.dumps(said))
"""
    said: dict[str, str] = json.loads(output(code, without=without))
    return said


def needs(what: str, extra: str) -> str:
    return f"{what} needs an extra that is not installed: pip install 'lro-aio[{extra}]'"


def test_the_public_names_are_the_pinned_ones() -> None:
    assert set(lro.__all__) == set(PUBLIC)


def test_the_public_names_are_sorted_and_given_once() -> None:
    assert lro.__all__ == sorted(set(lro.__all__))


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_can_be_imported_and_says_that_it_is_from_lro_aio(name: str) -> None:
    value = getattr(lro, name)
    if name in CONSTANTS:
        assert value == CONSTANTS[name]
    else:
        assert value.__module__ == "lro_aio"
        assert value.__name__ == name


@pytest.mark.slow
def test_a_star_import_brings_exactly_the_public_names() -> None:
    code = "from lro_aio import *\nimport json\nprint(json.dumps([n for n in dir() if not n.startswith('__')]))"
    assert set(json.loads(output(code))) - {"json", "sys"} == set(PUBLIC)


def test_every_public_name_is_shown_before_it_is_imported() -> None:
    assert set(json.loads(output("import json, lro_aio\nprint(json.dumps(dir(lro_aio)))"))) >= set(PUBLIC)


def test_the_version_is_the_one_of_the_distribution() -> None:
    assert lro.__version__ == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'lro_aio' has no attribute 'Clent'"):
        _ = lro.Clent  # type: ignore[attr-defined]  # the point of the test
    assert not hasattr(lro, "no_such_name")


def test_import_loads_no_server_command_line_cloud_or_grpc_code() -> None:
    """Neither does making a client: a SQLite store needs none of it."""
    code = (
        "import json\nbefore = set(sys.modules)\nimport lro_aio\nlro_aio.Client('sqlite://')\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))"  # what measures coverage loads modules of its own
    )
    loaded = json.loads(output(code))
    assert "lro_aio.stores.sqlite.store" in loaded
    heavy = [module for module in loaded for name in HEAVY if module == name or module.startswith(f"{name}.")]
    assert heavy == []


def test_a_client_that_runs_an_operation_loads_nothing_that_it_was_not_asked_for() -> None:
    """And what it needs, the import has loaded: no operation waits for that."""
    code = """
import asyncio, json
import lro_aio as lro

handlers = lro.Handlers()

async def one():
    return 1

@handlers.handler
async def nap(op: lro.Operation[int | None]) -> str:
    await op.sleep("a moment", 0.01)
    await op.step("one", one)
    return "done"

client = lro.Client("sqlite://", handlers=handlers, telemetry=False)
imported = set(sys.modules)

async def main():
    async with client:
        op = await client.start("nap")
        assert await op.result(timeout=10) == "done"
        await client.get_operation(op.name)

asyncio.run(main())
ours = {name for name in sys.modules if name.startswith("lro_aio.")}
print(json.dumps([sorted(ours & imported), sorted(ours - imported)]))
"""
    imported, later = json.loads(output(code))
    assert [name for name in imported if name in UNUSED] == []
    assert later == []


def test_without_any_extra_operations_run() -> None:
    """The base installation is a whole: client, SQLite, and the gRPC and ASGI servers."""
    code = """
import asyncio
import lro_aio as lro
import lro_aio.servers.grpc, lro_aio.servers.resume, lro_aio.testing, lro_aio.remote.grpc

handlers = lro.Handlers()

@handlers.handler("nothing")
async def nothing(op):
    return None

async def main():
    async with lro.Client("sqlite://", handlers=[handlers]) as client:
        op = await client.start("nothing")
        print(type(await op.result(timeout=10)).__name__)

asyncio.run(main())
"""
    assert output(code, without=EXTRAS) == "Empty"


def test_without_any_extra_webhooks_are_received() -> None:
    code = """
import lro_aio as lro
try:
    lro.webhooks.verify(b"{}", {}, "whsec_" + "a" * 32)
except lro.webhooks.SignatureError as error:
    print(error)
"""
    assert output(code, without=EXTRAS) == "the header webhook-id is missing"


def test_without_an_http_client_none_are_sent_and_it_says_what_to_install() -> None:
    assert refusals(MISSING)[WEBHOOKS].endswith("pip install 'lro-aio[http]'")


def test_telemetry_that_is_off_loads_nothing_of_opentelemetry() -> None:
    """A client that has it on loads the API when it is opened, and never an SDK."""
    code = """
import asyncio, lro_aio

async def opened(**options):
    async with lro_aio.Client("sqlite://", **options):
        return sorted(name for name in sys.modules if name.startswith("opentelemetry.sdk") or name == "opentelemetry")

print(asyncio.run(opened(telemetry=False)), asyncio.run(opened()))
"""
    assert output(code) == "[] ['opentelemetry']"


def test_a_client_takes_the_global_providers_that_are_set_when_it_opens() -> None:
    """And without any, it makes nothing to be told: nobody would listen."""
    code = """
import asyncio, lro_aio as lro
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter = InMemorySpanExporter()
tracers = TracerProvider()
tracers.add_span_processor(SimpleSpanProcessor(exporter))
client = lro.Client("sqlite://")

async def started():
    async with client:
        await (await client.create()).done()
        return client.engine.observing is not None, [span.name for span in exporter.get_finished_spans()]

print(asyncio.run(started()))
trace.set_tracer_provider(tracers)
print(asyncio.run(started()))
"""
    assert output(code).splitlines() == ["(False, [])", "(True, ['create'])"]


def test_telemetry_without_its_extra_names_the_install_command() -> None:
    assert refusals(MISSING)["lro_aio.Telemetry"] == needs("lro_aio.Telemetry", "otel")


def test_without_opentelemetry_all_is_the_same(tmp_path: Path) -> None:
    """Neither is anything kept in the row that nobody gave, nor does a log record have other fields."""
    code = f"""
import asyncio, logging, lro_aio as lro
from lro_aio.core import logs

handlers = lro.Handlers()

@handlers.handler("nap", resume_points=("awake",))
async def nap(op) -> str:
    return op.suspend(resume_at="awake", sleep=0.01) if not op.resume_point else op.traceparent

async def main():
    async with lro.Client("sqlite:////{tmp_path}/operations.db", handlers=[handlers]) as client:
        given = await (await client.start(nap, traceparent="given")).result(timeout=10)
        none = await client.start(nap)
        print([given, await none.result(timeout=10), none.traceparent], list(logs.event("a")))

asyncio.run(main())
print("opentelemetry.trace" in sys.modules)
"""
    said = "['given', '', ''] ['event', 'operation', 'handler']\nFalse"
    assert output(code, without=("opentelemetry",)) == said


def test_the_client_side_is_loaded_when_it_is_used_and_grpc_with_its_transport() -> None:
    code = """
import lro_aio
assert "lro_aio.remote" not in sys.modules
handle, gather = lro_aio.RemoteOperation, lro_aio.remote.gather
assert handle is lro_aio.remote.RemoteOperation and "grpc" not in sys.modules and "httpx" not in sys.modules
lro_aio.remote.GrpcTransport
assert "grpc" in sys.modules and "httpx" not in sys.modules
print(handle.__module__)
"""
    assert output(code) == "lro_aio"


def test_the_http_transport_without_its_extra_names_the_install_command() -> None:
    name = "lro_aio.remote.HttpTransport"
    assert refusals(MISSING)[name] == needs(name, "http")


@pytest.mark.parametrize(("name", "extra"), [("WorkflowsScheduler", "workflows"), ("CloudTasksScheduler", "tasks")])
def test_a_scheduler_without_its_extra_names_the_install_command(name: str, extra: str) -> None:
    assert refusals(MISSING)[f"lro_aio.{name}"] == needs(f"lro_aio.{name}", extra)


def test_spanner_without_its_extra_names_the_install_command() -> None:
    """The name and the URL say the same; nothing else of the package minds."""
    name, said = "lro_aio.SpannerStore", refusals(MISSING)
    assert said[name] == said[SPANNER] == needs(name, "spanner")


def test_postgresql_without_its_extra_names_the_install_command() -> None:
    """The name and the URL say the same."""
    name, said = "lro_aio.PostgresStore", refusals(MISSING)
    assert said[name] == said[POSTGRES] == needs(name, "postgres")


def test_every_extra_that_an_error_names_exists() -> None:
    from lro_aio import _LAZY, remote

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {extra for _, extra in [*_LAZY.values(), *remote._LAZY.values()] if extra} <= set(extras)


def test_the_fastapi_server_without_its_extra_names_the_install_command() -> None:
    """Whichever of its packages is missing."""
    for said in (refusals(MISSING), refusals(("starlette",), (FASTAPI, DASHBOARD))):
        assert "pip install 'lro-aio[fastapi]'" in said[FASTAPI]


def test_the_dashboard_without_its_extra_names_the_install_command() -> None:
    """Whichever of its packages is missing."""
    for said in (refusals(MISSING), refusals(("starlette",), (FASTAPI, DASHBOARD))):
        assert said[DASHBOARD] == needs("lro_aio.dashboard", "dashboard")


@pytest.mark.parametrize("missing", ["typer", pytest.param("rich", marks=pytest.mark.slow)])
def test_the_command_line_without_its_extra_names_the_install_command(missing: str) -> None:
    """One sentence on the error output and exit code 2, no traceback."""
    done = run("sys.argv = ['lro', '--help']\nfrom lro_aio.cli import main\nmain()", without=(missing,))
    assert done.returncode == 2
    assert "pip install 'lro-aio[cli]'" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_the_pytest_plugin_without_pytest_asyncio_breaks_no_test_that_does_not_ask_for_it(tmp_path: Path) -> None:
    """It is loaded wherever lro-aio is installed; the one fixture that needs more says what to install."""
    (tmp_path / "test_it.py").write_text(
        "def test_clock(lro_clock):\n    assert lro_clock.time() > 0\n\ndef test_client(lro_client):\n    pass\n"
    )
    options = ["-p", "lro_aio.testing.plugin", "-p", "no:cacheprovider", "-rA", str(tmp_path)]
    code = f"import os, pytest\nos.environ['PYTEST_DISABLE_PLUGIN_AUTOLOAD'] = '1'\nsys.exit(pytest.main({options!r}))"
    done = run(code, without=("pytest_asyncio",))
    assert "1 passed, 1 error" in done.stdout
    assert "pip install 'lro-aio[testing]'" in done.stdout


def test_the_fixture_for_telemetry_says_what_it_needs(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("def test_it(lro_telemetry):\n    pass\n")
    options = ["-p", "lro_aio.testing.plugin", "-p", "no:cacheprovider", "-rA", str(tmp_path)]
    code = f"import os, pytest\nos.environ['PYTEST_DISABLE_PLUGIN_AUTOLOAD'] = '1'\nsys.exit(pytest.main({options!r}))"
    assert "pip install opentelemetry-sdk" in run(code, without=("opentelemetry.sdk",)).stdout


def test_constructing_a_client_does_no_io(tmp_path: Path) -> None:
    """Nor does it need an event loop."""
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()
    path = tmp_path / "operations.db"
    client = lro.Client(f"sqlite:////{path.relative_to('/')}")
    assert str(path) in client.store.url
    assert list(tmp_path.iterdir()) == []


def test_the_tasks_of_mcp_without_their_extra_name_the_install_command() -> None:
    assert refusals(MISSING)["import_module('lro_aio.mcp')"] == needs("lro_aio.mcp", "mcp")
