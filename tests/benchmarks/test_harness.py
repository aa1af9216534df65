"""The harness compares fairly: one program at a time, in turns, and ratios of what was measured side by side."""

import itertools
import json
import os
from dataclasses import replace

import pytest

from benchmarks.harness import Program, ProgramError, aimed, measure, median, medians, ordered, ratio
from benchmarks.model import Aim, Benchmark, Case, Figure, Plan, Side

FAKE = "tests.benchmarks.fake_program"
FIRST = Side(name="lro", title="First", module=FAKE, options=("--version", "1"))
SECOND = Side(name="other", title="Second", module=FAKE, options=("--version", "2"))
ABSENT = replace(SECOND, name="absent", title="Absent", missing="not installed")
SUM = Case(title="a sum", order={"do": "add", "first": 2, "second": 3})


def a_benchmark(sides, cases=(SUM,), aims=()):
    return Benchmark(
        key="x",
        title="Sums",
        about="Adds.",
        sides=lambda _plan: sides,
        cases=lambda _plan: cases,
        figures=(Figure(key="sum", title="sum"),),
        compared="sum",
        more_is_better=True,
        aims=aims,
    )


def run(benchmark, plan):
    told = []
    return list(measure(benchmark, plan, told.append)), told


def test_every_other_round_goes_the_other_way_round():
    """Who comes first in one round comes last in the next."""
    sides = [FIRST, SECOND, ABSENT]
    assert [side.name for side in ordered(sides, 0)] == ["lro", "other", "absent"]
    assert [side.name for side in ordered(sides, 1)] == ["absent", "other", "lro"]
    assert ordered(sides, 2) == sides


@pytest.mark.slow
def test_sides_take_turns_and_one_lives_at_a_time(tmp_path, monkeypatch):
    """A program is gone before the next begins, and each round has all of them."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    diary = tmp_path / "diary.jsonl"
    lives = []

    def tell(_text):
        if diaries := list(tmp_path.glob("lro-bench-*/diary.jsonl")):
            lives[:] = diaries[0].read_text().splitlines()
            diary.write_text("\n".join(lives))

    lines = list(measure(a_benchmark([FIRST, SECOND]), Plan(rounds=3), tell))

    order = [json.loads(line)["version"] for line in lives]
    assert order == ["1", "2", "2", "1", "1"]  # the sixth was still alive when it told
    for earlier, later in itertools.pairwise(lives):
        assert json.loads(earlier)["ended"] <= json.loads(later)["began"]
    results = {line["side"]: line for line in lines if line["kind"] == "result"}
    assert [len(line["rounds"]) for line in results.values()] == [3, 3]
    assert results["other"]["median"] == {"sum": 5}


def test_who_is_missing_is_named_with_the_reason():
    lines, _ = run(a_benchmark([FIRST, ABSENT]), Plan(rounds=1))

    assert {"kind": "left out", "side": "absent", "title": "Absent", "why": "not installed"} in lines
    assert {line["side"] for line in lines if line["kind"] == "result"} == {"lro"}


def test_a_side_says_what_it_is():
    lines, _ = run(a_benchmark([SECOND]), Plan(rounds=1))

    (said,) = [line for line in lines if line["kind"] == "side"]
    assert said["versions"] == {"fake": "2"}
    assert said["durability"] == "none"


def test_a_case_is_asked_of_its_own_sides_only():
    only = replace(SUM, title="another", sides=frozenset({"other"}))
    lines, _ = run(a_benchmark([FIRST, SECOND], [SUM, only]), Plan(rounds=1))

    done = {(line["case"], line["side"]) for line in lines if line["kind"] == "result"}
    assert done == {("a sum", "lro"), ("a sum", "other"), ("another", "other")}


def test_a_benchmark_that_crashes_fails_with_the_programs_own_words():
    """No figure is made up for it."""
    broken = a_benchmark([FIRST], [Case(title="broken", order={"do": "fail"})])
    with pytest.raises(ProgramError, match=r"(?s)First: .*RuntimeError: on purpose"):
        run(broken, Plan(rounds=1))


def test_a_program_that_cannot_start_fails_with_what_it_wrote(tmp_path):
    with pytest.raises(ProgramError, match=r"(?s)it ended.*No module named"):
        Program(replace(FIRST, module="benchmarks.programs.no_such_program"), tmp_path)


def test_what_a_library_prints_is_no_answer(tmp_path):
    with Program(FIRST, tmp_path) as program:
        assert program.ask(Case(title="chatter", order={"do": "chatter"})) == {"sum": 0}
        assert program.ask(SUM) == {"sum": 5}


def test_a_side_has_its_own_names_for_commands(tmp_path):
    with Program(replace(FIRST, commands={"plus": "add"}), tmp_path) as program:
        assert program.ask(replace(SUM, order={**SUM.order, "do": "plus"})) == {"sum": 5}


def test_a_killed_program_is_gone_at_once(tmp_path):
    """Without a chance to say goodbye: nothing is in its diary."""
    folder = tmp_path / "folder"
    folder.mkdir()
    with Program(FIRST, folder) as program:
        process = program.process
        program.kill()
        assert process.returncode == -9
        with pytest.raises(ProcessLookupError):
            os.kill(process.pid, 0)
    assert not (tmp_path / "diary.jsonl").exists()


def test_a_median_is_taken_figure_by_figure():
    found = [{"rate": 1.0, "memory": 5.0}, {"rate": 3.0, "memory": None}, {"rate": 2.0, "memory": 6.0}]
    assert medians(found) == {"rate": 2.0, "memory": None}  # one round could not take it
    assert median([]) is None


def test_a_ratio_is_the_median_of_the_rounds_own_ratios():
    """A slow minute of the machine hits both sides of a round: 30 to 10 in it is 3, as 300 to 100 is."""
    ours = [{"rate": 300.0}, {"rate": 30.0}, {"rate": 310.0}]
    theirs = [{"rate": 100.0}, {"rate": 10.0}, {"rate": 100.0}]
    assert ratio(ours, theirs, "rate") == pytest.approx(3.0)
    assert ratio(ours, theirs, "rate", inverse=True) == pytest.approx(1 / 3)
    assert ratio(ours, [{"rate": None}] * 3, "rate") is None


def test_an_aim_of_somebody_who_is_missing_is_left_open():
    samples = {("a sum", "lro"): [{"sum": 10.0}, {"sum": 12.0}, {"sum": 11.0}], ("a sum", "other"): [{"sum": 5.0}] * 3}
    against = Aim(what="twice", case="a sum", figure="sum", against="other", at_least=2)
    assert aimed(against, samples) == pytest.approx(2.2)
    assert aimed(replace(against, against="absent"), samples) is None
    assert aimed(replace(against, against=""), samples) == 11.0
    doubled = replace(against, against="", than="a sum", case="twice the sum")
    assert aimed(doubled, {**samples, ("twice the sum", "lro"): [{"sum": 20.0}, {"sum": 24.0}, {"sum": 33.0}]}) == 2.0
    assert aimed(doubled, samples) is None  # nobody was asked for the other case
    assert against.reached(2.0)
    assert not against.reached(1.9)
    assert Aim(what="few", case="a sum", figure="sum", at_most=11).reached(11.0)
    assert not Aim(what="few", case="a sum", figure="sum", at_most=11).reached(11.1)


def test_aims_are_told_with_the_results():
    aim = Aim(what="as much", case="a sum", figure="sum", against="other", at_least=1)
    lines, _ = run(a_benchmark([FIRST, SECOND], aims=[aim]), Plan(rounds=1))

    assert {"kind": "aim", "what": "as much", "at least": 1, "value": 1.0, "reached": True} in lines
