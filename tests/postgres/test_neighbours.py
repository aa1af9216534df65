"""Processes of one machine on a table: who is known to be dead, what is left of them, and where nobody is known."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

import lro_aio as lro
from lro_aio.core import transitions
from lro_aio.core.change import Change, Outcome
from lro_aio.core.errors import OperationBusyError
from lro_aio.core.record import State
from lro_aio.ports import Look
from lro_aio.stores import _locks, _neighbours
from lro_aio.stores.postgres import PostgresStore, neighbours, orphans
from lro_aio.stores.postgres import store as stores
from lro_aio.testing._store_rows import NOW, create_all, name_of, names, row, update
from tests.crash.processes import Workers
from tests.stores.neighbours import DEAD, LATER, ME, OTHER, Processes, found_dead, held, look

from ..waiting import block_until
from .neighbours import die
from .schemas import a_schema_of_its_own

LEASE = 30
SOON = 15.0
"""Seconds: half of the lease, far above what a take-over takes."""
Sql = psycopg.Connection[tuple[object, ...]]


@pytest.fixture(autouse=True)
def looks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_neighbours, "LOOKS", 0.0)


@pytest.fixture
def here(emptied: str, tmp_path: Path) -> str:
    """The URL of a table whose processes know each other in ``tmp_path``."""
    return f"{emptied}&neighbours={tmp_path}"


@pytest.fixture
def joined(here: str) -> Iterator[PostgresStore]:
    with closing(PostgresStore(here)) as store:
        store.open()
        store.join(ME, lambda: None)
        yield store


@pytest.fixture
def folder(joined: PostgresStore) -> Path:
    return folder_in(joined)


def folder_in(store: PostgresStore) -> Path:
    assert store._neighbours is not None
    return Path(store._neighbours._path())


@pytest.fixture
def processes() -> Iterator[Processes]:
    with Processes() as processes:
        yield processes


def settle(store: PostgresStore) -> None:
    """Let the time be over in which the server may carry out what a dead process has sent."""
    for scans in store._orphans._scans.values():
        scans.again = 0.0
    store._orphans._next = 0.0
    assert store.changed_elsewhere()
    assert not store.changed_elsewhere(), "it is said once"


def test_what_a_dead_process_held_is_found_at_once(joined: PostgresStore, folder: Path) -> None:
    create_all(joined, held(1, DEAD), held(2, OTHER), held(3, ME), row(4, owner="", check_time=LATER))
    assert look(joined) == Look([], LATER, None)
    die(folder, DEAD)
    assert found_dead(joined) == [name_of(1)]
    assert look(joined).dead == {DEAD}
    assert not joined.changed_elsewhere(), "it is said once"


def test_what_it_held_under_any_resume_point_comes_first_and_within_the_limit(
    joined: PostgresStore, folder: Path
) -> None:
    create_all(joined, *(row(i, check_time=NOW - 1) for i in range(3)))
    create_all(joined, held(3, DEAD, resume_point="a"), held(4, DEAD), held(5, DEAD, handler="other"))
    die(folder, DEAD)
    joined.changed_elsewhere()
    assert set(names(look(joined, limit=2).due)) == {name_of(3), name_of(4)}
    assert len(look(joined, limit=1).due) == 1
    assert set(names(look(joined, limit=4).due)[:2]) == {name_of(3), name_of(4)}
    assert len(look(joined).due) == 5
    assert names(look(joined, routes=[("other", "")]).due) == [name_of(5)]


def test_a_row_that_is_due_anyhow_is_found_once(joined: PostgresStore, folder: Path) -> None:
    create_all(joined, held(1, DEAD, check_time=NOW - 1, lease_expire_time=NOW - 1))
    die(folder, DEAD)
    assert found_dead(joined) == [name_of(1)]


def test_rows_that_were_taken_over_do_not_hide_those_behind_them(joined: PostgresStore, folder: Path) -> None:
    create_all(joined, *(held(i, DEAD) for i in range(10)))
    die(folder, DEAD)
    joined.changed_elsewhere()
    first = names(look(joined, limit=5).due)
    joined.apply([update(name, owner=OTHER, claim=2) for name in first])
    assert set(names(look(joined, limit=5).due)) == {name_of(i) for i in range(10)} - set(first)


def test_files_go_once_their_owner_holds_nothing_and_can_commit_nothing(joined: PostgresStore, folder: Path) -> None:
    create_all(joined, held(1, DEAD), held(2, DEAD, handler="other"))
    die(folder, DEAD, OTHER)
    assert found_dead(joined) == [name_of(1)]
    assert (folder / f"{OTHER}.lock").exists(), "a commit of it may be under way"
    settle(joined)
    look(joined)
    assert not (folder / f"{OTHER}.lock").exists()
    joined.apply([update(name_of(1), owner=ME, claim=2)])
    settle(joined)
    assert look(joined).due == []
    assert (folder / f"{DEAD}.lock").exists(), "it holds a row that another process may know"
    joined.apply([update(name_of(2), owner="", state=State.PENDING)])
    settle(joined)
    assert look(joined).due == []
    assert not (folder / f"{DEAD}.lock").exists()
    assert not joined.changed_elsewhere()


@pytest.fixture
def counted(joined: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements that are carried out, one by one."""
    called: list[str] = []
    read = joined._reading

    def reading(name: str, values: dict[str, Any]) -> Any:
        called.append(name)
        return read(name, values)

    monkeypatch.setattr(joined, "_reading", reading)
    return called


def test_what_a_dead_process_had_sent_and_the_server_commits_later_is_found_by_a_second_scan(
    joined: PostgresStore, folder: Path, broom: Sql, database: str, shared: str, counted: list[str]
) -> None:
    create_all(joined, held(1, DEAD), row(2, state=State.PENDING, check_time=LATER))
    with psycopg.connect(database, options=f"-csearch_path={shared.rpartition('=')[2]}") as late:
        late.execute(
            b"UPDATE operations SET state = 'RUNNING', owner = %s, claim = 1 WHERE name = %s", [DEAD, name_of(2)]
        )
        die(folder, DEAD)
        assert found_dead(joined) == [name_of(1)]
    joined.apply([update(name_of(1), owner=ME, claim=2)])
    for _ in range(5):
        assert look(joined).due == []
    assert counted.count("held_by") == 1, "nobody scans all the time"
    settle(joined)
    assert names(look(joined).due) == [name_of(2)]
    assert counted.count("held_by") == 2


def test_the_second_scan_comes_when_the_server_has_given_up_what_it_had_been_sent(
    emptied: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orphans, "SLACK", 0.0)
    with closing(PostgresStore(emptied, timeout=0.5, neighbours=tmp_path)) as store:
        store.open()
        store.join(ME, lambda: None)
        die(folder_in(store), DEAD)
        assert found_dead(store) == []
        assert (folder_in(store) / f"{DEAD}.lock").exists()
        block_until(store.changed_elsewhere)
        look(store)
        assert not (folder_in(store) / f"{DEAD}.lock").exists()


def test_a_claim_waits_for_what_a_dead_process_had_sent_and_is_decided_by_it(
    joined: PostgresStore, folder: Path, database: str, shared: str
) -> None:
    """The last half of a claim, or of an end, is under way: to take the row over all the same would do it twice."""
    create_all(joined, held(1, DEAD, handler="job"))
    outcomes: list[Outcome] = []
    by = transitions.Claimant(owner=ME, lease=30.0, max_attempts=5, retention=60.0)
    with psycopg.connect(database, options=f"-csearch_path={shared.rpartition('=')[2]}") as late:
        late.execute(b"UPDATE operations SET claim = 2, revision = revision + 1 WHERE name = %s", [name_of(1)])
        die(folder, DEAD)
        joined.changed_elsewhere()
        (found,) = look(joined).due
        claim = partial(transitions.claim, now=NOW, by=by, found=found, dead=True)
        thread = threading.Thread(target=lambda: outcomes.extend(joined.apply([Change(found.name, claim)])))
        thread.start()
        block_until(lambda: waits_for_a_lock(database))
    thread.join()
    assert isinstance(outcomes[0], OperationBusyError)


def waits_for_a_lock(database: str) -> bool:
    with psycopg.connect(database) as sql:
        return sql.execute("SELECT FROM pg_locks WHERE NOT granted").fetchone() is not None


def test_a_scan_that_fails_keeps_nobody_from_what_is_due(
    joined: PostgresStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes longer than the server may, say. It is made again, later and later."""
    monkeypatch.setattr(orphans, "RETRY", 0.3)
    joined._orphans = orphans.Orphans(8.0)
    create_all(joined, held(1, DEAD), row(2, check_time=NOW - 1))
    die(folder, DEAD)
    with monkeypatch.context() as broken:
        broken.setitem(joined._texts._texts, "held_by", "SELECT * FROM nothing_there WHERE %(owners)b::text[] IS NULL")
        assert found_dead(joined) == [name_of(2)]
        assert names(look(joined).due) == [name_of(2)]
    block_until(joined.changed_elsewhere)
    assert names(look(joined).due) == [name_of(1), name_of(2)]


def test_a_thousand_stale_files_are_gone_after_two_looks(joined: PostgresStore, folder: Path) -> None:
    die(folder, *(f"host:{number}:dddd" for number in range(1000)))
    assert found_dead(joined) == []
    settle(joined)
    look(joined)
    assert sorted(os.listdir(folder)) == [f"{ME}.bell", f"{ME}.lock"]


def test_a_killed_process_is_dead_and_a_stopped_one_lives(
    joined: PostgresStore, here: str, processes: Processes
) -> None:
    create_all(joined, held(1, OTHER))
    process = processes.start(here)
    process.send_signal(signal.SIGSTOP)
    joined.changed_elsewhere()
    assert look(joined).due == []
    process.kill()
    process.wait()
    assert found_dead(joined) == [name_of(1)]


def test_a_forked_child_does_not_keep_its_parent_alive(joined: PostgresStore, here: str, processes: Processes) -> None:
    create_all(joined, held(1, OTHER))
    process = processes.start(here, "fork")
    child = int(subprocess.check_output(["pgrep", "-P", str(process.pid)]))
    process.kill()
    process.wait()
    try:
        assert found_dead(joined) == [name_of(1)]
    finally:
        os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("what", ["close", "deaf"])
def test_a_process_that_has_closed_its_store_or_lost_its_server_is_not_dead(
    joined: PostgresStore, here: str, processes: Processes, what: str
) -> None:
    create_all(joined, held(1, OTHER))
    processes.start(here, what)
    joined.changed_elsewhere()
    assert look(joined).due == []


def test_the_directory_is_this_users_alone_and_goes_with_the_last_process(here: str, tmp_path: Path) -> None:
    stores = [PostgresStore(here), PostgresStore(here)]
    for store, owner in zip(stores, (ME, OTHER), strict=True):
        store.open()
        store.join(owner, lambda: None)
    (home,) = tmp_path.iterdir()
    (folder,) = home.iterdir()
    assert home.name == f"lro-aio-{os.geteuid()}"
    assert [path.stat().st_mode & 0o777 for path in (home, folder)] == [0o700, 0o700]
    stores[0].close()
    assert sorted(os.listdir(folder)) == [f"{OTHER}.bell", f"{OTHER}.lock"]
    stores[1].close()
    assert not folder.exists()


def a_file(home: Path) -> None:
    home.write_text("")


def a_link(home: Path) -> None:
    (home.parent / "elsewhere").mkdir(0o700)
    home.symlink_to("elsewhere")


def open_to_others(home: Path) -> None:
    home.mkdir()
    home.chmod(0o750)


def of_a_stranger(home: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can give a directory away")
    home.mkdir(0o700)
    os.chown(home, 12345, 12345)


def not_to_be_made(home: Path) -> None:
    home.parent.rmdir()


@pytest.mark.parametrize("unfit", [a_file, a_link, open_to_others, of_a_stranger, not_to_be_made])
def test_without_a_directory_to_trust_everything_else_works(
    here: str, tmp_path: Path, unfit: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "lro_aio")
    unfit(tmp_path / f"lro-aio-{os.geteuid()}")
    works_alone(PostgresStore(here))
    assert [record.levelname for record in caplog.records if "are not known" in record.message] == ["DEBUG"]


def works_alone(store: PostgresStore) -> None:
    with closing(store):
        store.open()
        store.join(ME, lambda: None)
        create_all(store, held(1, DEAD), row(2, check_time=NOW - 1))
        assert names(look(store).due) == [name_of(2)]
        assert store._neighbours is None
        assert store.foreign_poll_interval == stores._TOLD_INTERVAL


def test_it_can_be_turned_off(emptied: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours.tempfile, "tempdir", str(tmp_path))
    works_alone(PostgresStore(emptied, neighbours=False))
    assert list(tmp_path.iterdir()) == []


def test_a_url_turns_it_off_too(emptied: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours.tempfile, "tempdir", str(tmp_path))
    works_alone(PostgresStore(f"{emptied}&neighbours=0"))
    assert list(tmp_path.iterdir()) == []


def test_it_is_among_the_temporary_files_where_nothing_is_said(
    emptied: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours.tempfile, "tempdir", str(tmp_path))
    with closing(PostgresStore(emptied)) as store:
        store.open()
        store.join(ME, lambda: None)
        assert folder_in(store).parent.parent == tmp_path


def test_where_there_is_no_fcntl_everything_else_works(here: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows, say."""
    monkeypatch.setitem(sys.modules, "fcntl", None)
    for module in ("postgres.neighbours", "_neighbours", "_locks"):
        monkeypatch.delitem(sys.modules, f"lro_aio.stores.{module}")
    for module in ("_neighbours", "_locks"):
        monkeypatch.delattr(lro.stores, module)
    works_alone(PostgresStore(here))


def test_where_no_temporary_file_can_be_made_everything_else_works(
    emptied: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none() -> str:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(neighbours.tempfile, "gettempdir", none)
    works_alone(PostgresStore(emptied))


def test_where_other_hosts_may_have_the_file_system_nobody_is_known(
    here: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_locks, "on_local_disk", lambda _: False)
    works_alone(PostgresStore(here))
    assert list(tmp_path.rglob("*.lock")) == []


def test_those_of_another_table_or_another_database_are_elsewhere(
    joined: PostgresStore, folder: Path, database: str, here: str, tmp_path: Path
) -> None:
    """They would find no rows of a dead process of this one, and remove its files."""
    create_all(joined, held(1, DEAD))
    die(folder, DEAD)
    with psycopg.connect(database, autocommit=True) as sql:
        sql.execute("CREATE DATABASE another")
    try:
        with a_schema_of_its_own(database) as other:
            elsewhere = [other, other.replace("/lro?", "/another?"), f"{other}&table=jobs"]
            for url in elsewhere:
                with closing(PostgresStore(f"{url}&neighbours={tmp_path}")) as store:
                    store.open()
                    store.join(OTHER, lambda: None)
                    assert folder_in(store) != folder
                    store.changed_elsewhere()
                    assert look(store).due == []
    finally:
        with psycopg.connect(database, autocommit=True) as sql:
            sql.execute("DROP DATABASE another")
    assert found_dead(joined) == [name_of(1)]


def test_those_who_reach_the_table_in_another_way_are_here(joined: PostgresStore, folder: Path, here: str) -> None:
    with closing(PostgresStore(here.replace("127.0.0.1", "localhost"))) as store:
        store.open()
        store.join(OTHER, lambda: None)
        assert folder_in(store) == folder


def test_of_a_server_that_does_not_tell_which_it_is_the_url_tells(here: str) -> None:
    found = []
    for _ in range(2):
        with closing(PostgresStore(here)) as store:
            store._texts._texts["server"] = "SELECT * FROM nothing_there"
            store.open()
            store.join(ME, lambda: None)
            found.append(folder_in(store))
    assert found[0] == found[1]


def test_behind_a_pooler_without_notices_each_scan_looks_who_has_died(emptied: str, tmp_path: Path) -> None:
    """Nobody asks there whether something has changed."""
    with closing(PostgresStore(emptied, pooled=True, neighbours=tmp_path)) as store:
        store.open()
        store.join(ME, lambda: None)
        assert store.foreign_poll_interval is None
        create_all(store, held(1, DEAD))
        die(folder_in(store), DEAD)
        assert names(look(store).due) == [name_of(1)]


def test_a_directory_that_is_deleted_costs_nothing_but_the_speed(
    joined: PostgresStore, folder: Path, tmp_path: Path
) -> None:
    shutil.rmtree(tmp_path / folder.parent)
    create_all(joined, held(1, OTHER))
    joined.changed_elsewhere()
    assert look(joined).due == []


def test_what_removes_old_files_is_told_that_the_lock_is_none(
    joined: PostgresStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "TOUCHES", 0.0)
    os.utime(folder / f"{ME}.lock", (0, 0))
    joined.changed_elsewhere()
    assert (folder / f"{ME}.lock").stat().st_mtime > 0


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_thousand_in_flight_are_finished_by_another_process_and_by_one_that_begins_again(
    here: str, tmp_path: Path
) -> None:
    workers = Workers(tmp_path, ["lro_aio.stores.postgres"])
    try:
        first = workers.start(
            here, lease=LEASE, max_running=1000,
            starts=[("relay", {"index": i, "last_claim": 3}, f"{i}") for i in range(1000)],
        )  # fmt: skip
        await workers.seen("begin", count=1000, pid=first)
        second = workers.start(here, lease=LEASE, max_running=1000)
        await workers.seen("ready", pid=second)
        killed = workers.kill(first)
        begun = await workers.seen("begin", count=1000, pid=second)
        assert begun[-1]["time"] - killed < SOON
        workers.kill(second)
        third = workers.start(here, lease=LEASE, max_running=1000)
        (up,) = await workers.seen("up", pid=third)
        ends = await workers.seen("end", count=1000, pid=third)
        assert ends[-1]["time"] - up["time"] < SOON
    finally:
        workers.close()
