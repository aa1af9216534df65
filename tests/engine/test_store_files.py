"""Stores that cannot be used, as a user of ``Client`` meets them."""

import asyncio
import contextlib
import sqlite3

import pytest
from google.protobuf import wrappers_pb2

import lro_aio as lro


@pytest.mark.parametrize(
    "url",
    [
        "",
        "operations.db",
        "mysql://x",
        "sqlite:operations.db",
        "sqlite:/a.db",
        "sqlite:///a.db?nonsense=1",
        "sqlite:///a.db?busy_timeout=soon",
        "sqlite:///a.db?mode=wx",
    ],
)
def test_a_malformed_store_url_is_refused_where_the_client_is_made(url):
    with pytest.raises(ValueError, match=r".+"):
        lro.Client(url)


async def refused(url, error=lro.StoreSchemaError):
    client = lro.Client(url)
    with pytest.raises(error) as caught:
        await client.__aenter__()
    with pytest.raises(RuntimeError, match="use it inside"):
        await client.create()
    return str(caught.value)


@pytest.mark.asyncio
async def test_a_file_that_is_not_sqlite_is_refused_and_not_touched(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("dear diary, " * 1000)
    assert "notes.txt" in await refused(f"sqlite:///{path}")
    assert path.read_text() == "dear diary, " * 1000


@pytest.mark.asyncio
async def test_a_directory_and_a_missing_directory_are_refused(tmp_path):
    assert "directory" in await refused(f"sqlite:///{tmp_path}")
    assert "does not exist" in await refused(f"sqlite:///{tmp_path}/no/ops.db")


@pytest.mark.asyncio
async def test_a_file_of_a_newer_version_is_refused(tmp_path):
    path = tmp_path / "ops.db"
    async with lro.Client(f"sqlite:///{path}"):
        pass
    connection = sqlite3.connect(path)
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    connection.execute(f"PRAGMA user_version = {version + 1}")
    connection.close()
    assert "newer" in await refused(f"sqlite:///{path}")


@pytest.mark.asyncio
async def test_a_read_only_store_can_be_read_and_refuses_every_write(tmp_path):
    path = tmp_path / "ops.db"
    async with lro.Client(f"sqlite:///{path}") as client:
        op = await client.create(lease=False)
    async with lro.Client(f"sqlite:///{path}?mode=ro", worker=False) as reader:
        assert (await reader.get_operation(op.name)).name == op.name
        assert len((await reader.list_operations()).operations) == 1
        visitor = await reader.operation(op.name)
        for write in (
            reader.create(),
            visitor.done(),
            reader.cancel_operation(op.name),
            reader.delete_operation(op.name),
        ):
            with pytest.raises(lro.StoreSchemaError, match="mode=ro"):
                await write
    await refused(f"sqlite:///{tmp_path}/none.db?mode=ro")
    async with lro.Client(f"sqlite:///{path}") as client:
        assert not (await client.get_operation(op.name)).done


@pytest.mark.asyncio
async def test_a_writer_that_keeps_the_file_locked_is_an_outage_that_passes(tmp_path):
    path = tmp_path / "ops.db"
    # No worker, so no sweep: one that purges would wait for the same lock, before the call whose words are read here.
    async with lro.Client(f"sqlite:///{path}?busy_timeout=0.1", worker=False) as client:
        op = await client.create()
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(lro.StoreUnavailableError, match="locked by another writer") as caught:
            await asyncio.wait_for(op.done(), 10)
        assert caught.value.retry_after > 0
        assert not (await client.get_operation(op.name)).done, "reads go on"
        other.execute("COMMIT")
        other.close()
        assert (await op.done()).done


@pytest.mark.asyncio
async def test_a_full_disk_is_an_outage_and_what_was_committed_stays(tmp_path):
    path = tmp_path / "ops.db"
    async with lro.Client(f"sqlite:///{path}?max_page_count=60", worker=False) as client:
        kept, page = [], wrappers_pb2.BytesValue(value=b"x" * 9000)
        with pytest.raises(lro.StoreUnavailableError, match="full"):
            while len(kept) < 200:
                kept += [(await client.create(page, lease=False)).name]
        assert kept
        listed = [op.name for op in (await client.list_operations(page_size=500)).operations]
        assert sorted(listed) == sorted(kept)
    async with lro.Client(f"sqlite:///{path}", worker=False) as client:
        assert len((await client.list_operations(page_size=500)).operations) == len(kept)
        await client.create()


@pytest.mark.asyncio
async def test_a_file_that_is_deleted_takes_no_more_orders_and_a_new_one_at_its_place_is_not_read(tmp_path, caplog):
    path = tmp_path / "ops.db"
    async with lro.Client(f"sqlite:///{path}", worker=False) as client:
        before = await client.create(lease=False)
        for file in tmp_path.glob("ops.db*"):  # by its name, as a clean-up job would: it meets files alone
            file.unlink()
        async with lro.Client(f"sqlite:///{path}", worker=False) as other:  # makes a new file
            kept = await other.create(lease=False)
            for call in (
                client.start("order", operation_id="order-1"),
                client.create(lease=False),
                before.done(),
                client.list_operations(),
                client.get_operation(kept.name),
            ):
                with pytest.raises(lro.StoreUnavailableError, match="was deleted or replaced while it was in use"):
                    await call
    assert [record.event for record in caplog.records if record.levelname == "CRITICAL"] == ["store_gone"]
    async with lro.Client(f"sqlite:///{path}", worker=False) as client:
        assert [one.name for one in (await client.list_operations()).operations] == [kept.name]


@pytest.mark.asyncio
async def test_a_damaged_file_does_not_flood_the_log(tmp_path, caplog):
    path = tmp_path / "ops.db"
    async with lro.Client(f"sqlite:///{path}", sweep=lro.SweepPolicy(interval=0.01), drain_timeout=0) as client:
        for _ in range(300):
            await client.create(lease=False)
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with path.open("r+b") as file:
            file.seek(3 * 4096)
            file.write(b"\xff" * (path.stat().st_size - 3 * 4096))
        for _ in range(50):
            with pytest.raises(lro.StoreSchemaError, match="is damaged"):
                await client.create(lease=False)
    assert 1 <= len(caplog.records) <= 5
