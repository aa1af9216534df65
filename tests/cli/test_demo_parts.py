"""The demo's parts by themselves: hashing in slices, the report that finds a difference, the bars."""

import io
import os

import pytest
from google.longrunning import operations_pb2
from google.protobuf import struct_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from lro_aio.cli.demo import command, indexer_pb2
from lro_aio.cli.demo.check import Expected, recompute
from lro_aio.cli.demo.follow import Snapshot, child_of
from lro_aio.cli.demo.indexing import PartHasher, digest_of, list_parts, shown
from lro_aio.cli.demo.report import Crash, Report
from lro_aio.cli.demo.view import BarView, LineView

NAMES = st.sampled_from(["a", "b", "B", "-", "c.txt", "é", "site-packages", "__pycache__", "a b"])
TREES = st.dictionaries(st.lists(NAMES, min_size=1, max_size=3).map(tuple), st.binary(max_size=40), max_size=12)


def write(root, tree):
    for names, content in tree.items():
        path = root.joinpath(*names)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        except (NotADirectoryError, FileExistsError, IsADirectoryError):
            pass  # the name is a file here and a directory there: the first one stays


def index(root, budget):
    """What the handlers do, without the operations; returns the manifest's digest and sums."""
    parts = []
    for part in list_parts(str(root)):
        hasher = PartHasher(str(root), part)
        hasher.scan()
        while not hasher.done:
            before = hasher.fraction
            hasher.work(budget)
            assert before <= hasher.fraction <= 1
        parts.append((part, hasher))
    sums = tuple(sum(getattr(hasher, what) for _, hasher in parts) for what in ("files", "bytes", "lines"))
    return digest_of((hasher.digest, shown(part)) for part, hasher in parts), sums


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=TREES, budget=st.integers(1, 100))
def test_any_tree_in_any_slices_has_the_digest_of_the_plain_computation(tmp_path_factory, tree, budget):
    root = tmp_path_factory.mktemp("tree")
    write(root, tree)
    expected = recompute(str(root))
    assert index(root, budget) == (expected.digest, (expected.files, expected.bytes, expected.lines))


def test_the_digest_is_that_of_sha256sum(tmp_path):
    """Fixed, so that it means the same in every release: both computations could change together otherwise."""
    write(tmp_path, {("a",): b"x\n", ("d", "b"): b""})
    # printf 'x\n' | sha256sum; printf '' | sha256sum; each line folded per part, and the parts folded once more
    assert recompute(str(tmp_path)).digest == "e8862539489d35aa3443e86486d70aa6212773e47228a141bb08d270fbde09a4"


def test_files_and_directories_that_cannot_be_read_are_counted_and_left_out(tmp_path):
    write(tmp_path, {("d", "gone"): b"x", ("d", "here"): b"y"})
    hasher = PartHasher(str(tmp_path), b"d")
    hasher.scan()
    os.unlink(tmp_path / "d" / "gone")
    hasher.work(1000)
    assert (hasher.done, hasher.files, hasher.skipped) == (True, 1, 1)
    missing = PartHasher(str(tmp_path), b"nope")
    missing.scan()
    assert (missing.done, missing.fraction, missing.skipped) == (True, 1.0, 1)


def good_report():
    part = indexer_pb2.Part(directory="a", files=1, bytes=2, lines=3, digest="d1", attempt=2, claim=2)
    manifest = indexer_pb2.Manifest(files=1, bytes=2, lines=3, digest="d0", parts=[part], claim=2)
    expected = Expected(digest="d0", files=1, bytes=2, lines=3, parts={"a": "d1"})
    return Report(manifest, expected, Crash(7, -9, {"operations/x": "a"}, 0, "SUSPENDED"), 1.0, http_agrees=True)


def test_a_report_without_a_difference_has_no_problems():
    assert good_report().problems == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: (setattr(r.expected, "digest", "e"), r.expected.parts.update(a="e")), "the digest differs: d0"),
        (lambda r: setattr(r.expected, "files", 2), "files differ: 1 from the server, 2 here"),
        (lambda r: setattr(r.manifest, "bytes", 9), "bytes differ"),
        (lambda r: setattr(r.manifest, "lines", 9), "lines differ"),
        (lambda r: setattr(r.crash, "exit_status", 0), "not by SIGKILL"),
        (lambda r: r.crash.in_flight.clear(), "the crash interrupted nothing"),
        (lambda r: setattr(r.manifest.parts[0], "claim", 1), "interrupted, and not run again: a"),
        (lambda r: setattr(r, "http_agrees", False), "over HTTP"),
    ],
)
def test_every_difference_is_a_problem(change, words):
    report = good_report()
    change(report)
    (problem,) = report.problems
    assert words in problem


def child(name, progress, *, directory="[bold]x[/]", attempt=1, done=False):
    metadata = struct_pb2.Struct()
    metadata.update({"directory": directory, "progress": progress, "message": "3 files", "attempt": attempt})
    operation = operations_pb2.Operation(name=name, done=done)
    operation.metadata.Pack(metadata)
    return child_of(operation)


def snapshot():
    children = (child("a", 1, done=True), child("b", 0.5), child("c", 0.25, attempt=2))
    return Snapshot(operations_pb2.Operation(), 4, children)


def test_a_snapshot_counts():
    assert snapshot().tally == "1/4 done, 2 running, 1 waiting"
    assert snapshot().hit({"b"}).tally == "1/4 done, 1 running, 1 interrupted, 1 waiting"
    assert snapshot().fraction == (1 + 0.5 + 0.25) / 4


def test_an_interrupted_child_runs_again_with_its_next_attempt():
    metadata = struct_pb2.Struct()
    metadata.update({"directory": "x", "attempt": 1})
    operation = operations_pb2.Operation(name="operations/x")
    operation.metadata.Pack(metadata)
    assert child_of(operation, {"operations/x": 1}).interrupted
    assert not child_of(operation, {"operations/x": 0}).interrupted
    assert not child_of(operation, {"operations/y": 1}).interrupted
    operation.done = True
    assert not child_of(operation, {"operations/x": 1}).interrupted


def test_bars_show_running_children_and_mark_interrupted_ones():
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=100, color_system=None)
    with BarView(console) as view:
        view.say("[bold]said[/]")
        view.update(snapshot().hit({"b"}))
    shown_text = output.getvalue()
    assert "[bold]said[/]" in shown_text
    assert "[bold]x[/]" in shown_text
    assert "interrupted, waits to run again" in shown_text
    assert "attempt 2" in shown_text
    assert "1/4 done" in shown_text


def test_lines_come_when_a_tenth_is_done_and_not_with_every_look():
    output = io.StringIO()
    with LineView(Console(file=output, width=10)) as view:
        for _ in range(5):
            view.update(snapshot())
    (line,) = output.getvalue().splitlines()
    assert line.endswith("44%  1/4 done, 2 running, 1 waiting")


# What it says at the end


def test_it_says_how_to_see_its_operations_in_a_browser(monkeypatch):
    assert command.how_to_look("sqlite:///my demo.db") == "lro dashboard --store 'sqlite:///my demo.db'"
    assert command.how_to_look(None).startswith("run it with --store sqlite:///demo.db, then lro dashboard")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert command.how_to_look("sqlite:///a.db").startswith("pip install 'lro-aio[dashboard]', then lro dashboard")


def test_it_shows_no_password_of_a_store():
    assert "secret" not in command.how_to_look("postgresql://me:secret@host/db")
