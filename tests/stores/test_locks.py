"""What a lock file proves: that its owner is dead, or nothing."""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lro_aio.stores import _locks as locks
from lro_aio.stores._locks import Found

OWNER = "host:1:abcd"
NAME = "host:1:abcd.lock"
HOLDER = """
import os, sys, time
from lro_aio.stores import _locks as locks
folder = os.open(sys.argv[1], os.O_RDONLY)
locks.take(sys.argv[2] + ".lock", folder, owner=sys.argv[2], mode=0o600)
child = os.fork() if "fork" in sys.argv else 1
if child:
    print(child, flush=True)
time.sleep(600)
"""
"""A process that holds a lock, and its child, which has inherited the descriptor."""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


@contextlib.contextmanager
def holder(folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process with the lock, and the id of its child."""
    command = [sys.executable, "-c", HOLDER, str(folder), OWNER, *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        try:
            yield process, child
        finally:
            process.kill()
            if child > 1:
                os.kill(child, signal.SIGKILL)


def take(folder: int) -> int:
    return locks.take(NAME, folder, owner=OWNER, mode=0o600)


def die(descriptor: int) -> None:
    """What the kernel does when the process is killed."""
    os.close(descriptor)


def look(folder: int) -> Found:
    return locks.look(NAME, folder, owner=OWNER)


def test_a_killed_process_is_dead_and_a_stopped_one_is_not(tmp_path: Path, folder: int) -> None:
    with holder(tmp_path) as (process, _):
        assert look(folder) is Found.ALIVE
        process.send_signal(signal.SIGSTOP)
        assert look(folder) is Found.ALIVE
        process.kill()
        process.wait()
        assert look(folder) is Found.DEAD
        assert look(folder) is Found.DEAD, "to look changes nothing"


def test_a_child_that_inherited_the_descriptor_keeps_the_lock_of_a_dead_parent(tmp_path: Path, folder: int) -> None:
    """It proves nothing that the parent is gone: whoever has its descriptors may have those of the database."""
    with holder(tmp_path, "fork") as (process, _):
        process.kill()
        process.wait()
        assert look(folder) is Found.ALIVE


def test_several_who_look_at_a_time_do_not_take_each_other_for_the_owner(folder: int) -> None:
    die(take(folder))
    other = os.open(NAME, os.O_RDONLY, dir_fd=folder)
    fcntl.flock(other, fcntl.LOCK_SH)
    assert look(folder) is Found.DEAD
    os.close(other)


def copied(path: Path) -> None:
    shutil.copy2(path, path.with_name("copy"))
    os.replace(path.with_name("copy"), path)


def renamed(path: Path) -> None:
    path.rename(path.with_name("other"))


def deleted(path: Path) -> None:
    path.unlink()


def overwritten_by_that_of_another_owner(path: Path) -> None:
    path.write_text(path.read_text().replace(OWNER, "host:2:abcd"))


def of_another_boot(path: Path) -> None:
    *fields, boot = path.read_text().split(" ")
    path.write_text(" ".join([*fields, f"{'0' * len(boot.strip())}\n"]))


def cut(path: Path) -> None:
    os.truncate(path, 10)


def made_a_link(path: Path) -> None:
    path.rename(path.with_name("other"))
    path.symlink_to("other")


def made_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def made_a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("lives", [True, False])
@pytest.mark.parametrize(
    "accident",
    [
        copied,
        renamed,
        deleted,
        overwritten_by_that_of_another_owner,
        of_another_boot,
        cut,
        made_a_link,
        made_a_pipe,
        made_a_directory,
    ],
)
def test_any_other_file_proves_nothing(
    tmp_path: Path, folder: int, accident: Callable[[Path], None], lives: bool
) -> None:
    held = take(folder)
    if not lives:
        die(held)
    accident(tmp_path / NAME)
    assert look(folder) is Found.UNKNOWN
    if lives:
        die(held)


def test_a_file_under_another_name_proves_nothing(tmp_path: Path, folder: int) -> None:
    die(take(folder))
    os.link(tmp_path / NAME, tmp_path / "host:2:abcd.lock")
    assert locks.look("host:2:abcd.lock", folder, owner="host:2:abcd") is Found.UNKNOWN


def test_an_owner_who_goes_on_to_live_leaves_nothing_that_could_tell_otherwise(tmp_path: Path, folder: int) -> None:
    held = take(folder)
    os.link(tmp_path / NAME, tmp_path / "kept")
    locks.free(held, NAME, folder)
    assert look(folder) is Found.UNKNOWN
    os.rename(tmp_path / "kept", tmp_path / NAME)  # somebody puts it back
    assert look(folder) is Found.UNKNOWN


def test_a_file_that_cannot_be_made_to_say_nothing_stays_locked(tmp_path: Path, folder: int) -> None:
    """As on a file system that has become read-only."""
    held = take(folder)
    readable = os.open(NAME, os.O_RDONLY, dir_fd=folder)
    writable = os.dup(held)
    os.dup2(readable, held)  # a descriptor that refuses to be written to; the lock is the other's
    locks.free(held, NAME, folder)
    assert look(folder) is Found.ALIVE
    for descriptor in (held, readable, writable):
        os.close(descriptor)


def test_a_file_is_made_once(folder: int) -> None:
    held = take(folder)
    with pytest.raises(FileExistsError):
        take(folder)
    assert look(folder) is Found.ALIVE
    die(held)


def test_a_full_disk_leaves_no_file(tmp_path: Path, folder: int) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        with pytest.raises(OSError, match=r"."):
            take(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_an_exec_closes_the_descriptor(folder: int) -> None:
    held = take(folder)
    with subprocess.Popen(["sleep", "600"], close_fds=False) as program:
        die(held)
        try:
            assert look(folder) is Found.DEAD
        finally:
            program.kill()


def test_only_a_file_system_of_this_kernel_alone_is_believed(tmp_path: Path, folder: int) -> None:
    assert locks.on_local_disk(folder)
    elsewhere = os.open("/proc/self", os.O_RDONLY)
    assert not locks.on_local_disk(elsewhere)
    os.close(elsewhere)
