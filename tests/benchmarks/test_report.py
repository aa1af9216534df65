"""The page says what was measured, and no more."""

import json

import pytest

from benchmarks import __main__ as command
from benchmarks.__main__ import BENCHMARKS
from benchmarks.model import Plan
from benchmarks.report import number, page, table
from benchmarks.results import kept, load, save

RUN = {
    "kind": "run", "benchmark": "b", "time": "2026-01-02 03:04 UTC", "cores": 2, "processor": "Some CPU",
    "memory GB": 8, "platform": "Linux", "load before": 0.25, "rounds": 2, "quick": False,
}  # fmt: skip


def a_side(name, title):
    return {
        "kind": "side", "benchmark": "b", "side": name, "title": title, "durability": "synchronous=FULL",
        "versions": {"python": "3.11"},
    }  # fmt: skip


def a_result(side, *seconds, case="100 children"):
    rounds = [{"seconds": one, "cpu": 10.0} for one in seconds]
    return {
        "kind": "result", "benchmark": "b", "case": case, "side": side, "rounds": rounds,
        "median": {"seconds": sorted(seconds)[len(seconds) // 2], "cpu": 10.0, "commits": None},
    }  # fmt: skip


LINES = [
    RUN,
    {"kind": "left out", "benchmark": "b", "side": "restate", "title": "Restate", "why": "not installed"},
    a_side("lro", "lro-aio"),
    a_side("dbos", "DBOS"),
    a_result("lro", 0.5, 0.25),
    a_result("dbos", 5.0, 2.5),
    {"kind": "aim", "benchmark": "b", "what": "b. children", "at least": 20, "value": 10.0, "reached": False},
]


def test_a_table_has_every_side_with_its_figures_and_the_ratio():
    """Ten times as long in each round is ten, and a figure that nobody took has no column."""
    text = page(LINES, BENCHMARKS, {})

    assert "| 100 children | lro-aio | 0.500 | 10 |  |" in text
    assert "|  | DBOS | 5.000 | 10 | 10 x |" in text
    assert "commits per child" not in text


def test_a_page_says_where_how_and_who_was_left_out():
    text = page(LINES, BENCHMARKS, {"b": "benchmarks/b.png"})

    assert "Measured 2026-01-02 03:04 UTC on 2 cores of Some CPU, 8 GB, Linux, with a load of 0.25" in text
    assert "- DBOS: synchronous=FULL (python 3.11)." in text
    assert "- Left out: Restate (not installed)." in text
    assert "![Fan-out](benchmarks/b.png)" in text
    assert "A quick look" not in text
    assert "Provisional" in text  # two rounds
    assert "Provisional" not in page([{**RUN, "rounds": 3}, *LINES[1:]], BENCHMARKS, {})
    assert "A quick look" in page([{**RUN, "quick": True}, *LINES[1:]], BENCHMARKS, {})


def test_an_aim_that_was_not_reached_is_not_hidden():
    assert "| b. children | at least 20 | 10 | **no** |" in page(LINES, BENCHMARKS, {})


def test_what_was_not_measured_has_no_section():
    text = page(LINES, BENCHMARKS, {})
    assert "## b. Fan-out" in text
    assert "## a. " not in text


def test_numbers_keep_the_digits_that_say_something():
    assert number(12345.678, 0) == "12,346"
    assert number(0.0041, 2) == "0.004"
    assert number(0.0, 2) == "0.00"
    assert table(("a", "b"), [("x", "1")], right=1) == "| a | b |\n| --- | ---: |\n| x | 1 |"


def test_results_of_a_benchmark_that_is_run_again_replace_the_old_ones(tmp_path):
    """Those of the others stay, and numbers are kept with six digits."""
    path = tmp_path / "new" / "results.jsonl"
    assert load(path) == []
    save(path, [{"benchmark": "b", "value": [1.23456789, None]}, {"benchmark": "a", "kind": "run"}])
    assert load(path) == [{"benchmark": "a", "kind": "run"}, {"benchmark": "b", "value": [1.23457, None]}]
    save(path, [*kept(load(path), without="b"), {"benchmark": "b", "value": 2}])
    assert load(path) == [{"benchmark": "a", "kind": "run"}, {"benchmark": "b", "value": 2}]
    assert [file.name for file in path.parent.iterdir()] == ["results.jsonl"]


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("key", BENCHMARKS)
def test_a_declaration_holds_together(key, quick):
    """Its sides and cases have names of their own, and cases name sides that take part."""
    benchmark, plan = BENCHMARKS[key], Plan(quick=quick)
    sides = [side.name for side in benchmark.sides(plan)]
    cases = benchmark.cases(plan)
    assert len(set(sides)) == len(sides)
    assert len({case.title for case in cases}) == len(cases)
    assert all(case.sides is None or case.sides <= set(sides) for case in cases)
    assert benchmark.compared in {figure.key for figure in benchmark.figures}
    assert "lro" in sides


@pytest.mark.parametrize("key", BENCHMARKS)
def test_every_aim_is_of_something_that_is_measured(key):
    """Of a full run: a quick one leaves the large sizes out."""
    benchmark, plan = BENCHMARKS[key], Plan()
    sides = {side.name for side in benchmark.sides(plan)}
    cases = {case.title: case.sides if case.sides is not None else sides for case in benchmark.cases(plan)}
    figures = {figure.key for figure in benchmark.figures}
    for aim in benchmark.aims:
        assert {aim.side, aim.against or aim.side} <= cases[aim.case] & cases[aim.than or aim.case]
        assert aim.figure in figures
        assert (aim.at_least is None) != (aim.at_most is None)


@pytest.mark.slow
def test_one_benchmark_runs_from_the_command_line(tmp_path, capsys):
    """Ours and the floor, measured for real, end in the file and can be read by `report`."""
    path = tmp_path / "results.jsonl"
    command.run(command.parse(["run", "--quick", "--no-peers", "--only", "b", "--json", str(path)]))

    lines = load(path)
    done = {line["side"]: line["median"] for line in lines if line["kind"] == "result"}
    assert set(done) == {"lro", "floor"}
    assert all(figures["seconds"] > 0 for figures in done.values())
    assert 0 < done["lro"]["commits"] < 1  # many children to a transaction
    assert "synchronous=FULL" in next(line["durability"] for line in lines if line.get("side") == "lro")
    assert "| 100 children | lro-aio |" in page(lines, BENCHMARKS, {})
    assert "b took" in capsys.readouterr().err


def test_without_a_file_results_are_printed_as_json_lines(monkeypatch, capsys):
    monkeypatch.setattr(
        command, "measure", lambda *_: iter([{"kind": "aim", "what": "w", "value": 1.0, "reached": True}])
    )
    command.run(command.parse(["run", "--only", "h"]))

    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["kind"] for line in printed] == ["run", "aim"]
    assert all(line["benchmark"] == "h" for line in printed)


@pytest.mark.parametrize("words", [["run", "--only", "z"], ["run", "--rounds", "0"], []])
def test_a_command_that_makes_no_sense_is_refused(words, capsys):
    with pytest.raises(SystemExit) as stopped:
        command.parse(words)
    assert stopped.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_charts_are_drawn_for_what_was_measured(tmp_path):
    """Needs matplotlib, which only `make bench` installs."""
    pytest.importorskip("matplotlib")
    from benchmarks.charts import draw

    drawn = draw(LINES, BENCHMARKS, tmp_path / "benchmarks")
    assert drawn == {"b": "benchmarks/b.png"}
    assert (tmp_path / drawn["b"]).read_bytes().startswith(b"\x89PNG")
