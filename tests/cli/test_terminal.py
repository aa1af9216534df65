"""What a terminal of 80 columns shows: whole names or names with dots in the middle, and every percentage."""

import fcntl
import io
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time

import pytest
from google.longrunning import operations_pb2
from google.protobuf import any_pb2, struct_pb2, timestamp_pb2
from google.rpc import status_pb2
from rich.cells import cell_len
from rich.console import Console

from lro_aio.cli.backends import Row
from lro_aio.cli.printing import WatchLine, middle, print_list
from lro_aio.core import progress_pb2
from lro_aio.core.shown_progress import Progress, created_of, progress_of

from .test_places import read_until

NOW = 1_700_000_000.0
SHORT = "operations/01a22526-f2fb-7841-b443-50df5201b899"
LONG = "projects/my-project-123/locations/europe-west1/operations/01a22469-db37-7597-a432-4b6601c8a6bf"
REASON = "quota of project p is used up; ask for more, or wait until tomorrow"


def operation(name=SHORT, *, error=None, done=False, **metadata):
    made = operations_pb2.Operation(name=name, done=done or error is not None)
    if error is not None:
        made.error.CopyFrom(error)
    if metadata:
        members = struct_pb2.Struct()
        members.update(metadata)
        made.metadata.Pack(members)
    return made


FAILED = operation(error=status_pb2.Status(code=8, message=REASON))


def listed(*rows, width=80):
    """The lines of a list on a terminal, and whether a name was shortened."""
    output = io.StringIO()
    shortened = print_list(Console(file=output, width=width, force_terminal=True, color_system=None), list(rows), NOW)
    lines = [line.rstrip() for line in output.getvalue().splitlines()]
    assert all(cell_len(line) <= width for line in lines)
    return lines, shortened


class TestList:
    def test_a_failed_operation_at_80_columns(self):
        lines, shortened = listed(Row(FAILED, "copy", NOW - 3700))
        assert lines == [
            "NAME                                             STATUS  HANDLER  AGE",
            f"{SHORT}  failed  copy      1h",
            "  RESOURCE_EXHAUSTED: quota of project p is used up; ask for more, or wait until",
            "  tomorrow",
        ]
        assert not shortened

    def test_a_wide_terminal_has_one_line_for_each(self):
        lines, _ = listed(Row(FAILED, "copy", NOW - 5), Row(operation(progress=0.4, message="page 40")), width=200)
        assert lines[1] == f"{SHORT}  failed: RESOURCE_EXHAUSTED  copy      5s            {REASON}"
        assert lines[2].split() == [SHORT, "running", "40%", "page", "40"]
        assert lines[0].index("MESSAGE") == lines[1].index(REASON) == lines[2].index("page 40")

    def test_a_name_that_does_not_fit_has_dots_in_its_middle(self):
        lines, shortened = listed(Row(operation(LONG, progress=0.4), "copy", NOW - 90_000), Row(operation()))
        assert shortened
        start, _, end = lines[1].split()[0].partition("…")
        assert LONG.startswith(start)
        assert LONG.endswith(end)
        assert len(end) > len(start)
        assert "running 40%  copy" in lines[1]
        assert lines[1].endswith("1d")
        assert lines[2].startswith(SHORT), "the others stay whole"

    def test_a_handler_gives_way_to_names(self):
        (_, line, *_), shortened = listed(Row(FAILED, "reports.generate-monthly-statement", NOW))
        assert not shortened
        assert SHORT in line
        assert re.search(r"repo\S*…\S*ment", line)

    @pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 120, 160])
    def test_every_name_and_every_reason_is_there_at_any_width(self, width):
        output = io.StringIO()
        console = Console(file=output, width=width, force_terminal=True, color_system=None)
        print_list(console, [Row(FAILED, "copy", NOW), Row(operation(LONG, message="übermäßig " * 30))], NOW)
        shown = output.getvalue()
        assert "RESOURCE_EXHAUSTED" in shown.replace("\n  ", "")
        assert re.sub(r"\s", "", REASON) in re.sub(r"\s", "", shown)
        for line in shown.splitlines()[1:]:
            assert "…" in line or SHORT in line or LONG in line or line.startswith("  ")

    def test_an_ascii_terminal_gets_dots_that_it_has(self):
        output = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="backslashreplace")
        print_list(Console(file=output, width=80, force_terminal=True, color_system=None), [Row(operation(LONG))], NOW)
        output.seek(0)
        assert "..." in output.read()

    def test_square_brackets_and_escape_sequences_are_text(self):
        lines, _ = listed(Row(operation(error=status_pb2.Status(code=2, message="[red]\x1b[31m full")), "[b]", NOW))
        assert "[b]" in lines[1]
        assert "[red]?[31m full" in lines[2]

    @pytest.mark.parametrize(
        ("seconds", "text"), [(0, "0s"), (59.9, "59s"), (60, "1m"), (7199, "1h"), (86400 * 30, "30d"), (-5, "0s")]
    )
    def test_ages_are_in_their_largest_unit(self, seconds, text):
        assert listed(Row(operation(), "", NOW - seconds))[0][1].split()[-1] == text


@pytest.mark.slow
def test_the_list_of_a_store_in_a_real_terminal(site):
    shown = in_terminal(["list", "--filter", 'handler = "broken"', *site.at("store")])
    lines = plain(shown).splitlines()
    assert lines[1].split()[:3] == ["operations/failed", "failed", "broken"]
    assert lines[2] == "  RESOURCE_EXHAUSTED: the disk is full [red]"


class TestMiddle:
    @pytest.mark.parametrize("text", ["", "a", "abcdef" * 20, "日本語" * 20, "\u0301" * 50])
    @pytest.mark.parametrize("width", [1, 2, 5, 16, 80])
    def test_it_fits(self, text, width):
        assert cell_len(middle(text, width)) <= width
        assert (middle(text, width) == text) is (cell_len(text) <= width)


class TestWatchLine:
    def shown(self, name, progress, width=80):
        line = WatchLine(name)
        line.progress = progress
        output = io.StringIO()
        Console(file=output, width=width, force_terminal=True, color_system=None).print(line)
        (shown,) = output.getvalue().splitlines()
        assert cell_len(shown) <= width
        return shown

    @pytest.mark.parametrize("name", ["operations/x", SHORT, LONG, "x" * 2000])
    @pytest.mark.parametrize("message", ["", "page 40", "a long story " * 20])
    @pytest.mark.parametrize("width", [40, 80, 120, 250])
    def test_the_percentage_and_the_time_are_always_there(self, name, message, width):
        shown = self.shown(name, Progress(0.4, message), width)
        assert " 40% 0:00:00" in shown
        assert "━" in shown

    def test_name_and_message_share_what_is_left(self):
        shown = self.shown(LONG, Progress(0.4, "page 40 of 100"))
        assert "…" in shown
        assert shown.rstrip().endswith("page 40 of 100")
        assert LONG[-12:] in shown

    def test_without_a_percentage_there_is_none(self):
        assert "%" not in self.shown("operations/x", Progress(None, "starting"))


class TestProgress:
    @pytest.mark.parametrize(
        ("metadata", "expected"),
        [
            ({"progress": 0.4, "message": "page 40"}, Progress(0.4, "page 40")),
            ({"progressPercent": 40}, Progress(0.4)),
            ({"progress_percent": "40"}, Progress(0.4)),
            ({"percentComplete": 40.0}, Progress(0.4)),
            ({"percent_complete": 40}, Progress(0.4)),
            ({"percentageComplete": "40%"}, Progress(0.4)),
            ({"progress": 40}, Progress(0.4)),
            ({"progress": {"percentComplete": 40}}, Progress(0.4)),
            ({"genericMetadata": {"progressPercent": 40, "statusMessage": "halting"}}, Progress(0.4, "halting")),
            ({"properties": {"percentComplete": 40}}, Progress(0.4)),
            ({"progress": 1}, Progress(1.0)),
            ({"progress": 250}, Progress(1.0)),
            ({"progress": -3}, Progress(0.0)),
            ({"progress": True}, Progress()),
            ({"progress": "soon", "message": 5}, Progress()),
            ({"progressPercent": None}, Progress()),
        ],
    )
    def test_of_whoever_wrote_it(self, metadata, expected):
        assert progress_of(operation(**metadata)) == expected

    def test_of_metadata_that_cannot_be_read(self):
        made = operation()
        assert progress_of(made) == Progress()
        made.metadata.CopyFrom(any_pb2.Any(type_url="type.googleapis.com/acme.Unknown", value=b"\xff"))
        assert progress_of(made) == Progress()
        made.metadata.Pack(timestamp_pb2.Timestamp(seconds=5))
        assert progress_of(made) == Progress()
        made.metadata.CopyFrom(any_pb2.Any(type_url="type.googleapis.com/lro.v1.Progress", value=b"\xff"))
        assert progress_of(made) == Progress()

    def test_of_counts(self):
        made = operation()
        counts = progress_pb2.Progress(done=1200, total=4800, unit="files", text="a.txt")
        made.metadata.Pack(counts)
        assert progress_of(made) == Progress(0.25, "1,200 of 4,800 files, a.txt")
        made.metadata.Pack(progress_pb2.Progress(done=7))
        assert progress_of(made) == Progress(None, "7")
        counts.eta.FromSeconds(1_900_000_000)
        made.metadata.Pack(counts)
        assert progress_of(made).message.endswith(", a.txt, until 2030-03-17T17:46:40Z")

    @pytest.mark.parametrize(
        ("name", "metadata", "expected"),
        [
            ("operations/x", {"createTime": "2026-01-02T03:04:05.5Z"}, 1767323045.5),
            ("operations/x", {"createdDateTime": "2026-01-02T03:04:05+00:00"}, 1767323045.0),
            ("operations/x", {"startTime": "soon"}, None),
            ("operations/01a22526-f2fb-7841-b443-50df5201b899", {}, 0x01A22526F2FB / 1000),
            ("operations/5d0c3c0e-9a55-4a4e-8d5e-3c1f2c7b6a10", {}, None),
            ("operations/x", {}, None),
        ],
    )
    def test_the_start_is_in_the_metadata_or_in_the_id(self, name, metadata, expected):
        assert created_of(operation(name, **metadata)) == expected


def in_terminal(arguments, *, until=None, then=None):
    """What ``lro`` writes to a terminal of 80 columns, up to its end; ``then(process)`` once ``until`` is shown."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    env = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES")} | {"TERM": "xterm"}
    command = [sys.executable, "-m", "lro_aio.cli", *arguments]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=env) as process:
        os.close(theirs)
        shown = b""
        if until is not None:
            shown = read_until(ours, until, 60)
            then(process)
        shown += read_until(ours, None, 60)
        process.wait(60)
    os.close(ours)
    return shown.decode()


def plain(shown):
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_watch_that_is_stopped_shows_the_cursor_again(site, number, code):
    ended = []

    def stop(process):
        process.send_signal(number)
        ended.append(process)

    shown = in_terminal(["watch", "gate-35", *site.at("server")], until=b"50%", then=stop)
    assert ended[0].returncode == code
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1
    assert "Traceback" not in shown
    assert "50%" in plain(shown)


def test_the_time_of_a_watch_goes_on(monkeypatch):
    line = WatchLine("operations/x")
    began = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: began + 3725)
    output = io.StringIO()
    Console(file=output, width=80, force_terminal=True, color_system=None).print(line)
    assert "1:02:0" in output.getvalue()
