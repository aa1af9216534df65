"""The emulator is found where the Cloud SDK is, runs beside a command, and is gone after it."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from .emulator import BINARY, find, running

ROOT = Path(__file__).resolve().parents[2]

STUB = f"""#!{sys.executable}
import os, sys, time
assert sys.argv[1] == "--host_port=127.0.0.1:0"
print("WARNING: no log", flush=True)
print("I0000 emulator_main.cc:40] Server address: 127.0.0.1:12345", flush=True)
print("x" * 200_000, flush=True)  # more than a pipe holds
with open(os.path.join(os.path.dirname(sys.argv[0]), "pid.new"), "w") as file:
    file.write(str(os.getpid()))
os.rename(file.name, file.name.removesuffix(".new"))
time.sleep(60)
"""


def executable(path, text="#!/bin/sh\n"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def sdk(tmp_path):
    """A Cloud SDK with an emulator that only says that it runs."""
    executable(tmp_path / "sdk" / "bin" / "gcloud")
    executable(tmp_path / "sdk" / BINARY, STUB)
    return tmp_path / "sdk"


def test_it_is_found_by_the_root_that_the_environment_names(sdk):
    assert find({"CLOUDSDK_ROOT_DIR": str(sdk)}, ()) == sdk / BINARY


def test_it_is_found_beside_gcloud_wherever_the_path_has_a_link_to_that(sdk, tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "gcloud").symlink_to(sdk / "bin" / "gcloud")
    assert find({"PATH": str(tmp_path / "bin")}, ()) == sdk / BINARY


def test_it_is_found_in_a_usual_folder(sdk, tmp_path):
    assert find({"PATH": ""}, (str(tmp_path / "nowhere"), str(sdk))) == sdk / BINARY


def test_it_is_not_found_where_the_sdk_has_none(sdk):
    (sdk / BINARY).unlink()
    assert find({"PATH": str(sdk / "bin"), "CLOUDSDK_ROOT_DIR": str(sdk)}, ()) is None


def test_one_that_does_not_start_is_an_error_with_what_it_said(tmp_path):
    broken = executable(tmp_path / "emulator_main", "#!/bin/sh\necho port taken >&2\nexit 1\n")
    with pytest.raises(RuntimeError, match="did not start: port taken"), running(broken):
        pass


def command(*arguments, **environment):
    """In a process of its own, whose environment has nothing of the emulator but what is given."""
    kept = {name: value for name, value in os.environ.items() if name != "SPANNER_EMULATOR_HOST"}
    return subprocess.run(
        [sys.executable, "-m", "tests.spanner.emulator", *arguments],
        cwd=ROOT, env={**kept, **environment}, capture_output=True, text=True, timeout=50,
    )  # fmt: skip


SHOW = (sys.executable, "-c", "import os, sys; print(os.environ['SPANNER_EMULATOR_HOST']); sys.exit(7)")


def test_a_command_runs_with_its_address_and_it_is_gone_afterwards(sdk):
    pid = sdk / BINARY.parent / "pid"
    until = f"import os, time\nwhile not os.path.exists({str(pid)!r}): time.sleep(0.01)\n"
    done = command(*SHOW[:2], until + SHOW[2], CLOUDSDK_ROOT_DIR=str(sdk))
    assert done.returncode == 7
    assert done.stdout.splitlines() == [f"{sdk / BINARY} at 127.0.0.1:12345", "127.0.0.1:12345"]
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_one_that_runs_already_is_used(sdk):
    done = command(*SHOW, CLOUDSDK_ROOT_DIR=str(sdk), SPANNER_EMULATOR_HOST="127.0.0.1:9")
    assert (done.returncode, done.stdout) == (7, "127.0.0.1:9\n")
    assert not (sdk / BINARY.parent / "pid").exists()


def test_it_says_where_it_is(sdk):
    done = command("--find", CLOUDSDK_ROOT_DIR=str(sdk))
    assert (done.returncode, done.stdout.strip()) == (0, str(sdk / BINARY))
