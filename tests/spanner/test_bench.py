"""The benchmark runs, and its figures are of what it says."""

import pytest

from benchmarks import bench_spanner
from benchmarks.bench_spanner import Plan

pytestmark = pytest.mark.not_on_emulator("it starts a FakeSpanner, whose calls it counts")

TINY = Plan(seconds=0.05, rounds=1, concurrencies=(4,), latencies=(0.0,), children=20)


def figures(results):
    return {result.pop("benchmark"): result for result in results}


@pytest.mark.slow
def test_the_same_work_is_measured_three_ways():
    """Three calls an operation on the high-level client, four bare ones, and the ratios of the rates beside them."""
    measured = figures(bench_spanner.lifecycle(0.0, 4, TINY))

    calls = {name.rpartition(" ")[2]: one.get("RPCs/operation") for name, one in measured.items()}
    assert calls["database"] == 3
    assert calls["floor"] == 4
    assert 0 < calls["lro"] < 6
    assert all(one["operations/s"] > 0 for one in measured.values() if "operations/s" in one)
    assert all(ratio > 0 for ratio in measured["0 ms, concurrency 4: ratio"].values())


@pytest.mark.slow
def test_children_are_looked_at_in_one_call_against_one_for_each():
    """A poll is one call here, and one for each child on the high-level client."""
    measured = figures(bench_spanner.children(0.0, TINY))

    assert measured["0 ms, poll 20 children: lro"]["RPCs"] == 1
    assert measured["0 ms, poll 20 children: database"]["RPCs"] == 20


@pytest.mark.slow
@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_the_command_prints_its_settings_and_every_setting_measured(as_json, monkeypatch, capsys):
    """One line for each figure, after the settings that it was measured with."""
    monkeypatch.setattr(bench_spanner, "QUICK", TINY)
    monkeypatch.setattr("sys.argv", ["bench_spanner", "--quick", *as_json])

    bench_spanner.main()

    printed = capsys.readouterr().out
    assert "google-cloud-spanner" in printed
    assert printed.count("0 ms, concurrency 4: ") == 4
    assert printed.count("0 ms, poll 20 children: ") == 3
