"""The benchmark of the dashboard runs, and looks at what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

import lro_aio as lro
from benchmarks import bench_dashboard
from benchmarks.programs.lro_fill import fill


@pytest.mark.slow
@pytest.mark.asyncio
async def test_every_page_is_measured_and_a_viewer_is_compared_with_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_dashboard, "TRIES", 2)
    fill(tmp_path / "operations.db", finished=60, suspended=6, failed=6)
    async with lro.Client(f"sqlite:///{tmp_path}/operations.db", worker=False) as client:
        failed = (await client.list_operations(bench_dashboard.FAILED)).operations
        assert len((await client.list_operations("state = FAILED")).operations) == 6
        assert len(failed) == 2
    found = await bench_dashboard.measure(tmp_path / "operations.db", rounds=1, seconds=0.2)
    assert set(found["pages"]) == set(bench_dashboard.PAGES)
    assert all(page["slowest ms"] >= page["median ms"] > 0 for page in found["pages"].values())
    assert 0 < found["operations/s"]["ratio"] < 10
