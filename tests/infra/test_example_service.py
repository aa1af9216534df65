"""The example service: one command at a desk, a clean end on SIGTERM, closed to strangers in the cloud."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import httpx
import pytest

import lro_aio as lro

from ..ports import free_port

MAIN = Path(__file__).resolve().parents[2] / "docs" / "examples" / "service" / "main.py"
CLOUD = {
    "ALIS_MANAGED_SPANNER_DB": "operations",
    "ALIS_MANAGED_SPANNER_INSTANCE": "lro-aio",
    "ALIS_MANAGED_SPANNER_PROJECT": "my-project",
    "ALIS_OS_PROJECT": "my-project",
    "ALIS_REGION": "europe-west1",
    "LRO_CALLERS": "workflow@my-project.iam.gserviceaccount.com,sweep@my-project.iam.gserviceaccount.com",
    "LRO_CLOUD_RUN_IAM": "true",
    "LRO_RESUME_HOST": "https://reminders-123.europe-west1.run.app",
    "LRO_WORKFLOW": "lro-aio",
}
"""As the Terraform module sets them."""


@pytest.fixture
def service(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """``python main.py`` in an empty directory, and a client of it."""
    port = free_port()
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("LRO_", "ALIS_", "K_"))}
    with (
        (tmp_path / "log").open("w+", encoding="utf-8") as log,
        subprocess.Popen(
            [sys.executable, MAIN], cwd=tmp_path, env={**plain, "PORT": str(port)}, stdout=log, stderr=log, text=True
        ) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as http,
    ):
        try:
            deadline = time.monotonic() + 50
            while True:
                try:
                    http.get("/v1/operations").raise_for_status()
                    break
                except httpx.TransportError:
                    assert process.poll() is None, (tmp_path / "log").read_text(encoding="utf-8")
                    assert time.monotonic() < deadline
                    time.sleep(0.05)  # a process starts
            yield process, http
        finally:
            process.kill()


@pytest.mark.slow
def test_it_runs_at_a_desk_with_one_command(service: tuple[subprocess.Popen[str], httpx.Client]) -> None:
    """On SQLite, with nothing set."""
    _, http = service
    started = http.post("/v1/reminders", json={"text": "tea", "after": 0.2}).json()
    ended = http.post(f"/v1/{started['name']}:wait", json={"timeout": "15s"}).json()
    assert ended["response"]["value"] == "tea"
    assert http.post("/v1/reminders", json={"text": "", "after": 0}).status_code == 400
    assert http.post("/lro/sweep").status_code == 404  # nobody has to call back at a desk


@pytest.mark.slow
def test_a_repeated_request_starts_nothing(service: tuple[subprocess.Popen[str], httpx.Client]) -> None:
    _, http = service
    names = {
        http.post("/v1/reminders", json={"text": "tea", "after": 0.1, "request_id": "one"}).json()["name"]
        for _ in range(3)
    }
    assert len(names) == 1


@pytest.mark.slow
def test_on_sigterm_it_drains_and_ends(service: tuple[subprocess.Popen[str], httpx.Client]) -> None:
    """Within the ten seconds that Cloud Run gives, with an operation asleep."""
    process, http = service
    http.post("/v1/reminders", json={"text": "later", "after": 3600}).raise_for_status()
    process.send_signal(signal.SIGTERM)
    assert process.wait(50) in (0, -signal.SIGTERM)  # five times as long, for a machine that is busy


@pytest.fixture
def in_the_cloud(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module as Cloud Run loads it; nothing is opened."""
    for name, value in CLOUD.items():
        monkeypatch.setenv(name, value)
    spec = importlib.util.spec_from_file_location("example_service", MAIN)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def test_in_the_cloud_it_is_on_spanner_and_workflows(in_the_cloud: ModuleType) -> None:
    client = in_the_cloud.client
    assert client.store.url == "spanner://my-project/lro-aio/operations?table=Operations"
    assert isinstance(client.scheduler, lro.WorkflowsScheduler)
    assert "projects/my-project/locations/europe-west1/workflows/lro-aio" in repr(client.scheduler)
    assert client._settings.dispatch == "scheduler"


@pytest.mark.asyncio
@pytest.mark.parametrize("verb", ["resume", "poll", "sweep"])
@pytest.mark.parametrize("token", [None, "Bearer x.y.z"])
async def test_in_the_cloud_strangers_wake_nobody(in_the_cloud: ModuleType, verb: str, token: str | None) -> None:
    transport = httpx.ASGITransport(app=in_the_cloud.app)
    headers = {"Authorization": token} if token else {}
    async with httpx.AsyncClient(transport=transport, base_url=CLOUD["LRO_RESUME_HOST"]) as http:
        answer = await http.post(
            f"/lro/{verb}", json={"operation": "operations/a", "resumeToken": "t"}, headers=headers
        )
    assert answer.status_code == 401


def test_in_the_cloud_every_variable_is_needed(in_the_cloud: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ALIS_MANAGED_SPANNER_DB")
    with pytest.raises(ValueError, match="ALIS_MANAGED_SPANNER_DB"):
        in_the_cloud.make_client()
