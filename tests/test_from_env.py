"""``Client.from_env``: Spanner and Workflows from the Go package's variables; and the warning on Cloud Run."""

from __future__ import annotations

import logging

import pytest

import lro_aio as lro

VARIABLES = {
    "ALIS_OS_PROJECT": "acme-shop-prod",
    "ALIS_REGION": "europe-west1",
    "ALIS_RUN_HASH": "abc123-ew.a",
    "ALIS_MANAGED_SPANNER_PROJECT": "acme-data",
    "ALIS_MANAGED_SPANNER_INSTANCE": "primary",
    "ALIS_MANAGED_SPANNER_DB": "acme-shop",
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)


def test_the_variables_name_database_workflow_and_host() -> None:
    client = lro.Client.from_env()
    assert client.store.url == "spanner://acme-data/primary/acme-shop?table=acme_shop_prod_Operations"
    assert repr(client.scheduler) == (
        "WorkflowsScheduler('projects/acme-shop-prod/locations/europe-west1/workflows/lro-aio',"
        " resume_host='https://internal-gateway-abc123-ew.a.run.app')"
    )


def test_every_variable_has_an_argument_that_overrides_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name)
    client = lro.Client.from_env(
        project="other-project",
        location="us-east1",
        resume_host="https://reports.run.app/",
        table="Ops",
        workflow="sleeper",
        spanner_project="data-2",
        instance="second",
        database="db-2",
        worker=False,
    )
    assert client.store.url == "spanner://data-2/second/db-2?table=Ops"
    assert repr(client.scheduler) == (
        "WorkflowsScheduler('projects/other-project/locations/us-east1/workflows/sleeper',"
        " resume_host='https://reports.run.app')"
    )


def test_all_that_is_missing_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ALIS_REGION")
    monkeypatch.setenv("ALIS_MANAGED_SPANNER_DB", "")
    with pytest.raises(
        ValueError, match=r"needs location \(or ALIS_REGION\), database \(or ALIS_MANAGED_SPANNER_DB\)$"
    ):
        lro.Client.from_env()


@pytest.mark.asyncio
@pytest.mark.parametrize(("service", "worker", "times"), [("reports", True, 1), ("", True, 0), ("reports", False, 0)])
async def test_a_local_scheduler_on_cloud_run_is_warned_of_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, service: str, worker: bool, times: int
) -> None:
    """Background work is frozen there after the response; a front end has none."""
    monkeypatch.setenv("K_SERVICE", service)
    with caplog.at_level(logging.WARNING, "lro_aio"):
        async with lro.Client("sqlite://", worker=worker):
            pass
    said = [record for record in caplog.records if "Cloud Run" in record.getMessage()]
    assert len(said) == times
