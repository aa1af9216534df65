"""How each cost grows is told from what was measured."""

from __future__ import annotations

import pytest

from benchmarks import __main__ as command
from benchmarks.__main__ import BENCHMARKS, COSTS
from benchmarks.costs import BEGIN, END, GROWTHS, costs, renewed
from benchmarks.model import Plan
from benchmarks.results import save


def a_result(case, side, **figures):
    return {"kind": "result", "benchmark": "g", "case": case, "side": side, "rounds": [figures] * 3}


LINES = [
    a_result("repair pass", "lro", p50=2.0),
    a_result("repair pass", "lro-full", p50=3.0),
    a_result("1 process on one file, concurrency 32 each", "lro", rate=100.0),
    a_result("2 processes on one file, concurrency 32 each", "lro", rate=160.0),
]


def test_more_time_and_a_lower_rate_both_cost_more():
    text = costs(LINES)
    assert "| Sweep that finds nothing: time |" in text
    assert "| none | 1,100,000 | 1.50 | g |" in text
    assert "| processes on one file | 1 | 2 | 0.62 | g |" in text


def test_what_was_not_measured_says_so():
    assert costs(LINES).count("not measured") == len(GROWTHS) - 2


@pytest.mark.parametrize("growth", GROWTHS, ids=lambda growth: f"{growth.cost} by {growth.grows}")
def test_each_is_of_something_that_a_full_run_measures(growth):
    benchmark, plan = BENCHMARKS[growth.benchmark], Plan()
    everybody = frozenset(side.name for side in benchmark.sides(plan))
    cases = {case.title: case.sides or everybody for case in benchmark.cases(plan)}
    for case, side in (growth.before, growth.after):
        assert side in cases[case]


def test_one_command_prints_the_table(tmp_path, capsys):
    path = tmp_path / "results.jsonl"
    save(path, LINES)
    command.costs(command.parse(["costs", "--json", str(path)]))
    assert capsys.readouterr().out == costs(LINES) + "\n"
    with pytest.raises(SystemExit, match="has no results"):
        command.costs(command.parse(["costs", "--json", str(tmp_path / "none.jsonl")]))


def test_a_report_renews_the_table_of_the_page_and_nothing_else():
    page = f"before\n{BEGIN}\nold\n\n{END}after\n"
    renewed_page = renewed(page, LINES)
    assert renewed_page == f"before\n{BEGIN}\n{costs(LINES)}\n\n{END}after\n"
    assert renewed(renewed_page, LINES) == renewed_page
    with pytest.raises(ValueError, match="has no <!-- costs -->"):
        renewed("no place", LINES)


def test_the_page_has_a_place_for_the_table():
    assert "| Cost | What grows |" in renewed(COSTS.read_text(encoding="utf-8"), LINES)
