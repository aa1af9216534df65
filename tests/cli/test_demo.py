"""``lro demo`` as its user runs it: a process of its own, a real SIGKILL, and a digest that the test makes itself."""

import hashlib
import os
import re
import signal
import subprocess
import sys
import time

import pytest

DIRECTORIES = [f"part-{number:02d}" for number in range(11)]
LIMIT = 60.0
"""Seconds that anything here may take on a busy machine."""


def make_tree(root):
    """Eleven sub-directories and some files, with everything that must be left out; returns what is to be indexed."""
    wanted = {}

    def add(name, content, counts=True):
        path = os.path.join(os.fsencode(root), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)
        if counts:
            wanted[name.decode("utf-8", "backslashreplace")] = content

    for number, directory in enumerate(DIRECTORIES):
        add(f"{directory}/text.py".encode(), b"line\n" * number)
        add(f"{directory}/deep/er/data.bin".encode(), os.urandom(1000 * number))
    add(b"part-03/name-\xff\xfe.txt", b"not UTF-8")
    add("part-04/ümlaut [bold].txt".encode(), b"no line feed")
    add(b"a-file.txt", b"1\n2\n")
    add(b"part-01/__pycache__/text.pyc", b"cache", counts=False)
    add(b"site-packages/package.py", b"others write here", counts=False)
    add(b"part-02/dist-packages/package.py", b"and here", counts=False)
    os.makedirs(os.path.join(root, "zz-empty"))
    os.symlink("part-01", os.path.join(root, "link-to-directory"))
    os.symlink("a-file.txt", os.path.join(root, "part-05", "link-to-file"))
    return wanted


def digest_of(wanted):
    """As the documentation of the manifest has it."""
    parts = {name: [] for name in [".", "zz-empty", *DIRECTORIES]}
    for name in sorted(wanted):
        top = name.partition("/")[0] if "/" in name else "."
        parts[top].append(f"{hashlib.sha256(wanted[name]).hexdigest()}  {name}\n")
    folded = [f"{hashlib.sha256(''.join(parts[name]).encode()).hexdigest()}  {name}\n" for name in sorted(parts)]
    return hashlib.sha256("".join(folded).encode()).hexdigest()


class Demo:
    """One ``lro demo`` under way. Several run at a time: most of their time is the throttle's."""

    def __init__(self, *arguments, temporary):
        temporary.mkdir(exist_ok=True)
        self.temporary = temporary
        self.lines = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "lro_aio.cli", "demo", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": str(temporary), "PYTHONIOENCODING": "utf-8"},
        )

    def read_to(self, word):
        """Read its output up to a line with ``word``."""
        for line in self.process.stdout:
            self.lines.append(line)
            if word in line:
                return self
        raise AssertionError(f"no {word!r} in {self.lines} {self.process.stderr.read()}")

    def end(self):
        """Read the rest; returns the exit code."""
        output, self.problems = self.process.communicate(timeout=LIMIT)
        self.lines += output.splitlines(keepends=True)
        return self.process.returncode

    @property
    def output(self):
        return "".join(self.lines)

    @property
    def servers(self):
        """Process ids of the servers that it started."""
        return [int(pid) for pid in re.findall(r"server process (\d+): gRPC", self.output)]

    def assert_no_server_left(self):
        assert self.servers
        deadline = time.monotonic() + LIMIT
        while any(map(is_alive, self.servers)):
            assert time.monotonic() < deadline, f"a server process was left behind: {self.servers}"
            time.sleep(0.05)


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture(scope="module")
def demos(tmp_path_factory):
    """One that succeeds, on a store of its own, and one whose files change under its hands; both to their ends."""
    base = tmp_path_factory.mktemp("demo")
    wanted = make_tree(base / "tree")
    make_tree(base / "other")
    store = f"sqlite:///{base}/kept.db"
    good = Demo("--path", str(base / "tree"), "--pace", "2", "--store", store, temporary=base / "tmp-1")
    bad = Demo("--path", str(base / "other"), "--pace", "2", temporary=base / "tmp-2")
    try:
        bad.read_to("SIGKILL")
        for directory in DIRECTORIES:
            with open(base / "other" / directory / "text.py", "ab") as file:
                file.write(b"# changed\n")
        bad.code, good.code = bad.end(), good.end()
        good.wanted, good.store = wanted, store
        yield good, bad
    finally:
        for demo in (good, bad):
            demo.process.kill()


@pytest.mark.slow
def test_nothing_is_lost(demos):
    good, _ = demos
    assert (good.code, good.problems) == (0, "")
    assert f"digest      {digest_of(good.wanted)} (the same as recomputed here)" in good.output
    assert "nothing was lost" in good.output
    size = sum(map(len, good.wanted.values()))
    lines = sum(content.count(b"\n") for content in good.wanted.values())
    assert f"result      {len(good.wanted):,} files, {size:,} bytes, {lines:,} lines\n" in good.output


@pytest.mark.slow
def test_the_crash_is_real_and_hits_work_in_flight(demos):
    good, _ = demos
    first, second = good.servers
    assert f"SIGKILL to server process {first} (exit status -9)" in good.output
    assert second != first
    hit = int(re.search(rf"SIGKILL to process {first} hit (\d+) children", good.output)[1])
    assert hit >= 1
    assert "the parent was SUSPENDED and held no process" in good.output
    assert "asked again with the same request_id: it is the same operation" in good.output


@pytest.mark.slow
def test_the_summary_is_what_the_rows_say(demos, lro):
    """The store is still there: its operations add up to the summary's numbers."""
    import json

    good, _ = demos
    result = lro("list", "--store", good.store, "--parent", "-", "--limit", "0", "--json")
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert all(row["done"] and "response" in row for row in rows)
    parts = [row["response"] for row in rows if row["response"]["@type"].endswith("lro_aio.demo.v1.Part")]
    (manifest,) = [row["response"] for row in rows if row["response"]["@type"].endswith("Manifest")]
    assert sorted(part["directory"] for part in parts) == sorted([".", "zz-empty", *DIRECTORIES])
    assert manifest["digest"] == digest_of(good.wanted)
    again = [part for part in parts if int(part["claim"]) > 1]
    runs = sum(int(part["claim"]) for part in parts)
    assert f"1 parent and {len(parts)} children, all done" in good.output
    assert f"{runs + 2} runs of a handler: 2 of the parent, {runs} of the children;" in good.output
    assert f"{len(again)} children ran again" in good.output
    hit = re.search(r"hit (\d+) children in flight: (.*)", good.output)
    assert int(hit[1]) == len(again)
    assert set(hit[2].split(", ")) == {part["directory"] for part in again}


@pytest.mark.slow
def test_files_that_change_under_its_hands_are_found_out(demos):
    """What the dead server had hashed was committed, and is not what the files say now."""
    _, bad = demos
    assert bad.code == 7
    assert "the digest differs" in bad.output
    assert "lines differ" in bad.output
    assert "nothing was lost" not in bad.output


@pytest.mark.slow
def test_no_server_and_no_file_is_left_behind(demos):
    for demo in demos:
        demo.assert_no_server_left()
        assert list(demo.temporary.iterdir()) == []


@pytest.mark.slow
def test_no_server_outlives_the_demo(tmp_path):
    """Ctrl-C, a polite kill, a rude one, and a timeout; all at the same time, since most of it is waiting."""
    (tmp_path / "tree").mkdir()
    arguments = ["--path", str(tmp_path / "tree"), "--pace", "100"]
    late = Demo(*arguments, "--timeout", "2.5", temporary=tmp_path / "late")
    signals = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -signal.SIGKILL}
    ended = {number: Demo(*arguments, temporary=tmp_path / number.name) for number in signals}
    for number, demo in ended.items():
        demo.read_to("started demos/")
        demo.process.send_signal(number)
    for number, demo in ended.items():
        assert (demo.end(), demo.problems) == (signals[number], "")
    assert (late.end(), late.problems) == (4, "lro: the demo was not done in 2.5 s\n")
    for demo in ended.values():
        demo.assert_no_server_left()
    if late.servers:  # on a slow machine the time may run out before the server has started
        late.assert_no_server_left()


def test_a_path_that_is_no_directory_is_refused(lro, tmp_path):
    result = lro("demo", "--path", str(tmp_path / "nope"))
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"lro: {tmp_path}/nope is not a directory\n"


@pytest.mark.slow
def test_a_server_that_cannot_start_says_why(lro, tmp_path):
    result = lro("demo", "--path", str(tmp_path), "--store", "nonsense")
    assert result.exit_code == 5
    assert "'nonsense' is not a store URL" in result.stderr
    assert "Traceback" not in result.stderr
