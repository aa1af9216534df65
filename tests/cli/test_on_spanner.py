"""``lro --store spanner://...``: the same commands, the demo with its crash, and what is said of a wrong database."""

import asyncio
import json
import os
import pty
import re
import subprocess
import sys
import threading

import pytest
from google.protobuf import wrappers_pb2

import lro_aio
from lro_aio.testing import FakeSpanner

from .test_demo import DIRECTORIES, Demo, digest_of, make_tree
from .test_places import read_until


@pytest.fixture
def fake():
    with FakeSpanner() as fake:
        yield fake


@pytest.fixture
def filled(fake):
    """The URL of a store with one operation of each kind."""

    async def fill():
        async with lro_aio.Client(fake.url, worker=False) as client:
            done = await client.create(operation_id="done")
            await done.done(wrappers_pb2.Int64Value(value=7))
            failed = await client.create(operation_id="failed")
            await failed.fail(lro_aio.OperationFailedError("the disk is full", code=lro_aio.Code.RESOURCE_EXHAUSTED))
            await client.create(operation_id="open", lease=False)

    asyncio.run(fill())
    return fake.url


def end(url, name, after):
    """Let an operation end, seen from another process's client, after so many seconds."""

    async def finish():
        async with lro_aio.Client(url, worker=False) as client:
            await (await client.operation(name)).done()

    timer = threading.Timer(after, lambda: asyncio.run(finish()))
    timer.start()
    return timer


def test_list_and_get(lro, filled):
    names = [json.loads(line)["name"] for line in lro("list", "--json", "--store", filled).stdout.splitlines()]
    assert names == ["operations/open", "operations/failed", "operations/done"]
    (only,) = lro("list", "--filter", "error.code = 8", "--json", env={"LRO_STORE": filled}).stdout.splitlines()
    assert json.loads(only)["error"]["message"] == "the disk is full"
    shown = lro("get", "done", "--store", filled)
    assert (shown.exit_code, '"value": "7"' in shown.stdout) == (0, True)
    missing = lro("get", "nope", "--store", filled)
    assert (missing.exit_code, missing.stderr) == (3, "lro: operation 'operations/nope' does not exist\n")


@pytest.mark.parametrize("verb", ["wait", "watch"])
def test_wait_and_watch(lro, filled, verb):
    """The exit code says how it ended; an operation that another process ends meanwhile is noticed."""
    assert lro(verb, "done", "--store", filled).exit_code == 0
    assert lro(verb, "failed", "--store", filled).exit_code == 1
    timer = end(filled, "operations/open", after=0.3)
    result = lro(verb, "open", "--json", "--store", filled)
    timer.join()
    assert (result.exit_code, json.loads(result.stdout.splitlines()[-1])["done"]) == (0, True)


def test_a_wait_ends_at_its_timeout(lro, filled):
    result = lro("wait", "open", "--timeout", "0.2", "--store", filled)
    assert (result.exit_code, result.stderr) == (4, "lro: operations/open has not ended within 0.2 s; it goes on\n")


def test_cancel_and_delete(lro, filled, fake):
    assert lro("cancel", "open", "done", "--store", filled).exit_code == 0
    rows = {row["key"]: row for row in fake.rows()}
    assert (rows["operations/open"]["CancelRequested"], rows["operations/done"]["CancelRequested"]) == (True, False)
    assert lro("delete", "open", "--store", filled).exit_code == 0
    assert lro("get", "open", "--store", filled).exit_code == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("right", "wrong", "sentence"),
    [
        ("table=Operations", "table=Nope", "there is no table Nope in the database.*`lro spanner migrate '"),
        (
            "test-database",
            "typo",
            "Database not found: .*create the database first: gcloud spanner databases create typo",
        ),
        ("test-instance", "typo", "Instance not found: .*create the instance 'typo' first"),
    ],
)
def test_what_does_not_exist_is_5_and_says_what_to_do(lro, fake, tmp_path, right, wrong, sentence):
    url = fake.url.replace(right, wrong)
    for verb in (["list"], ["get", "x"], ["wait", "x"], ["watch", "x"], ["cancel", "x"], ["delete", "x"]):
        result = lro(*verb, "--store", url)
        assert (result.exit_code, result.stdout) == (5, "")
        assert re.fullmatch(f"lro: {sentence}.*\n", result.stderr)
    if right.startswith("table"):  # the demo's server says the same
        result = lro("demo", "--path", str(tmp_path), "--store", url)
        assert result.exit_code == 5
        assert re.search(sentence, result.stderr)
        assert "Traceback" not in result.stderr


def test_a_database_that_does_not_answer_is_5(lro, fake):
    url = f"{fake.url}&timeout=0.5"
    fake.stop()
    for verb in (["list"], ["cancel", "x"]):
        result = lro(*verb, "--store", url)
        assert (result.exit_code, result.stdout) == (5, "")
        assert "the store is unavailable: spanner://test-project" in result.stderr
        assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("url", ["spanner://project/instance", "spanner://p/i/d", "spanner://p1/i1/d1?colour=red"])
def test_a_url_that_cannot_be_right_is_2(lro, url):
    result = lro("list", "--store", url)
    assert (result.exit_code, result.stdout, len(result.stderr.splitlines())) == (2, "", 1)
    assert "expected spanner://PROJECT/INSTANCE/DATABASE?table=TABLE" in result.stderr


class Shown(Demo):
    """One ``lro demo`` on a terminal, to its end."""

    def __init__(self, *arguments):
        ours, theirs = pty.openpty()
        env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"}
        command = [sys.executable, "-m", "lro_aio.cli", "demo", *arguments]
        with subprocess.Popen(command, stdout=theirs, stderr=subprocess.PIPE, env=env) as self.process:
            os.close(theirs)
            self.shown = read_until(ours, None, seconds=50).decode()
            self.code, self.problems = self.process.wait(20), self.process.stderr.read()
        os.close(ours)
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.shown)
        self.lines = plain.splitlines(keepends=True)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Its server is killed half way; another one goes on with what is in Spanner."""
    tree = tmp_path_factory.mktemp("demo") / "tree"
    with FakeSpanner() as fake:
        fake.idle_limit = 0.6  # to its lease of 2 s as Spanner's 10 s to one of 30 s
        wanted = make_tree(tree)
        demo = Shown("--path", str(tree), "--pace", "2", "--store", fake.url)
        demo.wanted, demo.store = wanted, fake.url
        yield demo


@pytest.mark.slow
def test_the_demo_loses_nothing(lro, demo):
    assert (demo.code, demo.problems) == (0, b"")
    first, second = demo.servers
    assert first != second
    assert f"SIGKILL to server process {first} (exit status -9)" in demo.output
    assert f"digest      {digest_of(demo.wanted)} (the same as recomputed here)" in demo.output
    assert "nothing was lost" in demo.output
    result = lro("list", "--store", demo.store, "--parent", "-", "--limit", "0", "--json")
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(rows) == 1 + 2 + len(DIRECTORIES)
    assert all(row["done"] and "response" in row for row in rows)
    demo.assert_no_server_left()


@pytest.mark.slow
def test_the_demo_on_a_terminal(demo):
    """Bars for what runs, and what the crash has hit, while it goes on; the summary stays."""
    assert "━" in demo.shown
    assert "interrupted, waits to run again" in demo.shown
    assert "nothing was lost" in demo.shown
