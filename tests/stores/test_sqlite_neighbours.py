"""Processes on one file: who is known to be dead, what is left of them, and where nobody is known."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from lro_aio.core.record import State
from lro_aio.ports import Look
from lro_aio.stores import _neighbours as neighbours
from lro_aio.stores.sqlite import SqliteStore
from lro_aio.stores.sqlite.neighbours import Neighbours
from lro_aio.testing._store_rows import NOW, create_all, name_of, names, row, update

from ..waiting import block_until
from .neighbours import DEAD, LATER, ME, OTHER, Processes, die, folder_of, found_dead, held, look


@pytest.fixture(autouse=True)
def looks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "LOOKS", 0.0)


@pytest.fixture
def joined(store: SqliteStore) -> SqliteStore:
    store.join(ME, lambda: None)
    return store


@pytest.fixture
def processes() -> Iterator[Processes]:
    with Processes() as processes:
        yield processes


def test_what_a_dead_process_held_is_found_at_once(joined: SqliteStore, path: Path) -> None:
    create_all(joined, held(1, DEAD), held(2, OTHER), held(3, ME), row(4, owner="", check_time=LATER))
    assert look(joined) == Look([], LATER, None)
    die(path, DEAD)
    assert found_dead(joined) == [name_of(1)]
    assert look(joined).dead == {DEAD}
    assert not joined.changed_elsewhere(), "it is said once"


def test_what_it_held_under_any_resume_point_comes_first_and_within_the_limit(joined: SqliteStore, path: Path) -> None:
    create_all(joined, *(row(i, check_time=NOW - 1) for i in range(3)))
    create_all(joined, held(3, DEAD, resume_point="a"), held(4, DEAD), held(5, DEAD, handler="other"))
    die(path, DEAD)
    joined.changed_elsewhere()
    assert set(names(look(joined, limit=2).due)) == {name_of(3), name_of(4)}
    assert set(names(look(joined, limit=4).due)[:2]) == {name_of(3), name_of(4)}
    assert len(look(joined).due) == 5
    assert names(look(joined, routes=[("other", "")]).due) == [name_of(5)]


def test_a_row_that_is_due_anyhow_is_found_once(joined: SqliteStore, path: Path) -> None:
    create_all(joined, held(1, DEAD, check_time=NOW - 1, lease_expire_time=NOW - 1))
    die(path, DEAD)
    assert found_dead(joined) == [name_of(1)]


def test_files_go_once_their_owner_holds_nothing(joined: SqliteStore, path: Path) -> None:
    create_all(joined, held(1, DEAD), held(2, DEAD, handler="other"))
    die(path, DEAD, OTHER)
    assert found_dead(joined) == [name_of(1)]
    assert not (folder_of(path) / f"{OTHER}.lock").exists(), "it held nothing"
    joined.apply([update(name_of(1), owner=ME, claim=2)])
    assert look(joined).due == []
    assert (folder_of(path) / f"{DEAD}.lock").exists(), "it holds a row that another process may know"
    joined.apply([update(name_of(2), owner="", state=State.PENDING)])
    assert look(joined).due == []
    assert not (folder_of(path) / f"{DEAD}.lock").exists()


def test_a_second_death_is_found_while_the_first_is_not_repaired(joined: SqliteStore, path: Path) -> None:
    create_all(joined, held(1, DEAD), held(2, OTHER))
    die(path, DEAD)
    assert found_dead(joined) == [name_of(1)]
    die(path, OTHER)
    assert set(found_dead(joined)) == {name_of(1), name_of(2)}


def test_a_thousand_stale_files_are_gone_after_one_look(joined: SqliteStore, path: Path) -> None:
    die(path, *(f"host:{number}:dddd" for number in range(1000)))
    assert found_dead(joined) == []
    assert sorted(os.listdir(folder_of(path))) == [f"{ME}.bell", f"{ME}.lock"]
    assert not joined.changed_elsewhere()


def test_files_that_tell_nothing_go_when_they_are_old(store: SqliteStore, path: Path) -> None:
    folder = folder_of(path)
    folder.mkdir()
    for name in (f"{DEAD}.lock", f"{DEAD}.bell", f"{OTHER}.lock", "notes.txt"):
        (folder / name).touch()
    for name in (f"{DEAD}.lock", f"{DEAD}.bell", "notes.txt"):
        os.utime(folder / name, (0, 0))
    store.join(ME, lambda: None)
    assert sorted(os.listdir(folder)) == [f"{ME}.bell", f"{ME}.lock", f"{OTHER}.lock", "notes.txt"]


def test_a_killed_process_is_dead_and_a_stopped_one_lives(
    joined: SqliteStore, path: Path, processes: Processes
) -> None:
    create_all(joined, held(1, OTHER))
    process = processes.start(f"sqlite:///{path}")
    process.send_signal(signal.SIGSTOP)
    joined.changed_elsewhere()
    assert look(joined).due == []
    process.kill()
    process.wait()
    assert found_dead(joined) == [name_of(1)]


def test_a_forked_child_does_not_keep_its_parent_alive(joined: SqliteStore, path: Path, processes: Processes) -> None:
    """A server that preloads forks its workers: they cannot write through a store that their parent opened."""
    create_all(joined, held(1, OTHER))
    process = processes.start(f"sqlite:///{path}", "fork")
    child = int(subprocess.check_output(["pgrep", "-P", str(process.pid)]))
    process.kill()
    process.wait()
    try:
        assert found_dead(joined) == [name_of(1)]
    finally:
        os.kill(child, signal.SIGKILL)


def test_one_whose_own_code_has_closed_its_lock_is_not_dead(joined: SqliteStore, path: Path) -> None:
    """Somebody closed a descriptor twice, and this one had the number by then: the bell is there still."""
    other = SqliteStore(path)
    other.open()
    other.join(OTHER, lambda: None)
    create_all(joined, held(1, OTHER))
    os.close(other._neighbours._held)
    other._neighbours._held = -1
    joined.changed_elsewhere()
    assert look(joined).due == []
    other.close()


@pytest.mark.slow
def test_a_process_whose_store_is_closed_is_not_dead(joined: SqliteStore, path: Path, processes: Processes) -> None:
    """Its handlers may run on: what it could not give back waits for its lease."""
    create_all(joined, held(1, OTHER))
    process = processes.start(f"sqlite:///{path}", "close")
    joined.changed_elsewhere()
    assert look(joined).due == []
    process.kill()
    process.wait()
    joined.changed_elsewhere()
    assert look(joined).due == []


def test_the_last_one_to_leave_takes_the_directory_along(path: Path) -> None:
    stores = [SqliteStore(path), SqliteStore(path)]
    for store, owner in zip(stores, (ME, OTHER), strict=True):
        store.open()
        store.join(owner, lambda: None)
    stores[0].close()
    assert sorted(os.listdir(folder_of(path))) == [f"{OTHER}.bell", f"{OTHER}.lock"]
    stores[1].close()
    assert not folder_of(path).exists()
    stores[0].open()
    stores[0].join(DEAD, lambda: None)
    assert sorted(os.listdir(folder_of(path))) == [f"{DEAD}.bell", f"{DEAD}.lock"]
    stores[0].close()


def test_processes_find_each_other_through_links_and_whatever_the_path(tmp_path: Path) -> None:
    real = tmp_path / "é" / ("long" * 40) / "operations.db"
    real.parent.mkdir(parents=True)
    (tmp_path / "link.db").symlink_to(real)
    rung: list[str] = []
    stores = [SqliteStore(real), SqliteStore(tmp_path / "link.db")]
    for store, owner in zip(stores, (ME, OTHER), strict=True):
        store.open()
        store.join(owner, lambda owner=owner: rung.append(owner))
    create_all(stores[0], row(1))
    block_until(lambda: rung)
    assert set(rung) == {OTHER}
    for store in stores:
        store.close()


def test_without_a_free_descriptor_everything_else_works(joined: SqliteStore, path: Path) -> None:
    die(path, DEAD, OTHER)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        create_all(joined, held(1, DEAD))
        assert not joined.changed_elsewhere()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert found_dead(joined) == [name_of(1)]


def test_where_other_hosts_may_have_the_file_system_nobody_is_known(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours.locks, "on_local_disk", lambda _: False)
    store.join(ME, lambda: None)
    assert not folder_of(path).exists()
    create_all(store, held(1, DEAD))
    assert look(store).due == []


def a_file(folder: Path) -> None:
    folder.write_text("")


def a_link(folder: Path) -> None:
    (folder.parent / "elsewhere").mkdir()
    folder.symlink_to("elsewhere")


def open_to_strangers(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o777)


def of_a_stranger(folder: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can give a directory away")
    folder.mkdir()
    os.chown(folder, 12345, 12345)


@pytest.mark.parametrize("unfit", [a_file, a_link, open_to_strangers, of_a_stranger])
def test_without_a_directory_to_trust_everything_else_works(store: SqliteStore, path: Path, unfit: object) -> None:
    unfit(folder_of(path))  # type: ignore[operator]
    store.join(ME, lambda: None)
    create_all(store, row(1))
    assert names(look(store).due) == [name_of(1)]
    assert not store.changed_elsewhere()


@pytest.mark.parametrize("owner", ["", "me", "../host:1:aaaa", "host:1:aa/../aa", f"{'h' * 200}:1:aa", "host:1:AA"])
def test_an_owner_whose_name_is_no_file_name_of_ours_is_not_known(store: SqliteStore, path: Path, owner: str) -> None:
    store.join(owner, lambda: None)
    assert not folder_of(path).exists()


def test_one_that_only_reads_leaves_no_trace(store: SqliteStore, path: Path) -> None:
    reader = SqliteStore(f"sqlite:///{path}?mode=ro")
    reader.open()
    reader.join(ME, lambda: None)
    assert not folder_of(path).exists()
    reader.close()


def test_a_directory_that_is_deleted_costs_nothing_but_the_speed(joined: SqliteStore, path: Path) -> None:
    shutil.rmtree(folder_of(path))
    create_all(joined, held(1, OTHER))
    joined.changed_elsewhere()
    assert look(joined).due == []


def test_the_directory_may_be_used_by_whoever_may_use_the_database(path: Path) -> None:
    path.touch()
    path.chmod(0o660)
    store = SqliteStore(path)
    store.open()
    store.join(ME, lambda: None)
    assert folder_of(path).stat().st_mode & 0o777 == 0o770
    assert {file.stat().st_mode & 0o777 for file in folder_of(path).iterdir()} == {0o660}
    store.close()


def test_a_directory_that_goes_away_while_one_comes_is_made_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last process to leave removes it; this one has opened it, and has no file in it yet."""
    path.touch()
    take = neighbours.locks.take
    goes = iter([True])

    def late(*args: object, **options: object) -> int:
        if next(goes, False):
            folder_of(path).rmdir()
        return take(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(neighbours.locks, "take", late)
    coming = Neighbours(str(path))
    assert coming.join(ME, lambda: None)
    coming.leave()


def test_a_look_is_made_ten_times_a_second_at_most(
    joined: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "LOOKS", 3600.0)
    joined.changed_elsewhere()
    die(path, DEAD)
    assert not joined.changed_elsewhere()
    monkeypatch.setattr(neighbours, "LOOKS", 0.0)
    assert joined.changed_elsewhere()


def test_a_crowd_looks_at_each_other_more_rarely(
    joined: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them would look at all others."""
    other = SqliteStore(path)
    other.open()
    other.join(OTHER, lambda: None)
    with closing(other), monkeypatch.context() as rare:
        joined.changed_elsewhere()
        rare.setattr(neighbours, "LOOKS", 1.0)
        rare.setattr(neighbours, "CROWD", 0.001)
        rare.setattr(joined._neighbours, "_looked", time.monotonic() - 10)
        die(path, DEAD)
        assert not joined.changed_elsewhere()
        rare.setattr(neighbours, "CROWD", 20)
        assert joined.changed_elsewhere()


def test_of_an_owner_without_a_file_nothing_is_known(joined: SqliteStore, path: Path) -> None:
    """A process of an older release, one on another host, or one whose process id is used again by now."""
    create_all(joined, held(1, f"host:{os.getpid()}:eeee"), held(2, OTHER))
    joined.changed_elsewhere()
    assert look(joined).due == []
