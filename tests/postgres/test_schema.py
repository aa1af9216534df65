"""The tables: made at open or by hand, never another application's, and used by a role with few rights."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg
import pytest
from typer.testing import CliRunner, Result

import lro_aio as lro
from lro_aio.cli.app import app
from lro_aio.core.journal import Entry
from lro_aio.ports import ListQuery
from lro_aio.stores.postgres import PostgresStore
from lro_aio.testing._store_rows import NOW, create_all, ended, name_of, names, only, put, remove, row, update

Lro = Callable[..., Result]


@pytest.fixture
def run() -> Lro:
    """``run("postgres", "ddl")``: the command line, in this process."""
    runner = CliRunner()
    return lambda *words: runner.invoke(app, list(words))


@pytest.fixture
def sql(database: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def schema(url: str) -> str:
    """The name of the test's own schema."""
    return url.rpartition("=")[2]


def opened(url: str, **options: object) -> PostgresStore:
    store = PostgresStore(url, **options)
    store.open()
    return store


def test_of_several_processes_that_open_a_new_database_one_makes_the_tables(url: str) -> None:
    with ThreadPoolExecutor(6) as pool:
        stores = list(pool.map(lambda _: opened(url), range(6)))
    create_all(stores[0], row())
    assert only(stores[5], name_of(1)) == row()
    for store in stores:
        store.close()


def test_tables_of_two_names_and_of_two_schemas_know_nothing_of_each_other(
    url: str, database: str, schema: str
) -> None:
    with (
        closing(opened(url)) as first,
        closing(opened(url, table="jobs")) as second,
        closing(opened(database, schema=f"{schema}x")) as third,
    ):
        for number, store in enumerate((first, second, third)):
            create_all(store, row(number, uid="same"))
            store.apply([put(row(number, uid="same"))])
        for number, store in enumerate((first, second, third)):
            assert names(store.list(ListQuery(now=NOW, limit=9))) == [name_of(number)]
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(f'DROP SCHEMA "{schema}x" CASCADE'.encode())


def test_the_table_of_another_application_is_left_alone(
    url: str, schema: str, sql: psycopg.Connection[tuple[object, ...]]
) -> None:
    sql.execute(f'CREATE SCHEMA "{schema}"; CREATE TABLE "{schema}".operations (name text)'.encode())
    with pytest.raises(lro.StoreSchemaError, match="another application's"):
        opened(url)
    assert sql.execute(f'SELECT count(*) FROM "{schema}".operations'.encode()).fetchone() == (0,)


def test_a_newer_table_is_refused(url: str, schema: str, sql: psycopg.Connection[tuple[object, ...]]) -> None:
    opened(url).close()
    sql.execute(f"""COMMENT ON TABLE "{schema}".operations IS 'lro_aio schema 99'""".encode())
    with pytest.raises(lro.StoreSchemaError, match=r"schema version 99.*upgrade lro_aio"):
        opened(url)


def test_who_removes_a_row_by_hand_removes_its_journal(
    url: str, schema: str, sql: psycopg.Connection[tuple[object, ...]]
) -> None:
    with closing(opened(url)) as store:
        change = put(row())
        change.appends = (Entry(kind="STEP", key="a", time=0.0),)
        store.apply([change])
        sql.execute(f'DELETE FROM "{schema}".operations'.encode())
        assert sql.execute(f'SELECT count(*) FROM "{schema}".operations_journal'.encode()).fetchone() == (0,)


def test_a_role_with_few_rights_does_all_that_a_store_does(
    run: Lro, url: str, schema: str, sql: psycopg.Connection[tuple[object, ...]]
) -> None:
    """What `lro postgres ddl --role` prints is enough, and makes no tables."""
    role = f"r{uuid.uuid4().hex[:12]}"
    sql.execute(f'CREATE ROLE "{role}" LOGIN'.encode())
    try:
        printed = run("postgres", "ddl", "--schema", schema, "--role", role)
        assert printed.exit_code == 0, printed.output
        sql.execute(printed.stdout.encode())
        with closing(opened(url.replace("lro@", f"{role}@"), migrate=False)) as store:
            change = put(row(1))
            change.appends = (Entry(kind="STEP", key="a", time=0.0),)
            store.apply([change, put(row(2)), put(ended(3, expire_time=1.0))])
            store.apply([update(name_of(2), claim=1), remove(name_of(1))])
            assert store.purge(now=NOW, limit=9) == 1
            assert store.journal([name_of(1), name_of(2)]) == {}
            assert [record.name for record in store.look(now=NOW, routes=[("job", "")], limit=9, owner="").due]
        with pytest.raises(lro.StoreSchemaError, match=r"does not exist.*lro postgres migrate"):
            opened(url.replace("lro@", f"{role}@"), table="more")
    finally:
        sql.execute(f'DROP OWNED BY "{role}"; DROP ROLE "{role}"'.encode())


def test_a_database_of_another_encoding_is_refused(database: str, sql: psycopg.Connection[tuple[object, ...]]) -> None:
    """Not every text could be stored in it."""
    name = f"d{uuid.uuid4().hex[:12]}"
    sql.execute(f"CREATE DATABASE {name} ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'".encode())
    try:
        with pytest.raises(lro.StoreSchemaError, match=r"LATIN1.*UTF8"):
            opened(f"{database.rpartition('/')[0]}/{name}")
    finally:
        sql.execute(f"DROP DATABASE {name}".encode())


class TestCommands:
    """``lro postgres``."""

    def test_migrate_makes_the_tables_once_and_says_so(self, run: Lro, url: str) -> None:
        dry = run("postgres", "migrate", url, "--dry-run")
        assert "CREATE TABLE" in dry.stdout
        with pytest.raises(lro.StoreSchemaError, match=r"does not exist.*lro postgres migrate"):
            opened(url, migrate=False)
        assert run("postgres", "migrate", url).exit_code == 0
        opened(url, migrate=False).close()
        again = run("postgres", "migrate", url)
        assert (again.exit_code, again.stdout) == (0, "")
        assert "nothing to do" in again.stderr

    def test_ddl_makes_what_migrate_makes(
        self, run: Lro, url: str, schema: str, sql: psycopg.Connection[tuple[object, ...]]
    ) -> None:
        sql.execute(run("postgres", "ddl", "--schema", schema, "--table", "jobs").stdout.encode())
        with closing(opened(url, table="jobs", migrate=False)) as store:
            create_all(store, row())

    def test_a_look_at_a_database_makes_no_tables_in_it(self, run: Lro, url: str) -> None:
        listed = run("list", "--store", url)
        assert listed.exit_code == 5
        assert "does not exist" in listed.stderr

    def test_operations_are_listed(self, run: Lro, url: str) -> None:
        with closing(opened(url)) as store:
            create_all(store, row())
        listed = run("list", "--store", url)
        assert listed.exit_code == 0, listed.output
        assert "op-0001" in listed.stdout

    @pytest.mark.parametrize("url", ["postgresql://h/d?table=A-b", "postgresql://h/d?colour=red", "postgresql://h/d?a"])
    def test_a_malformed_url_is_a_usage_error(self, run: Lro, url: str) -> None:
        result = run("postgres", "migrate", url)
        assert result.exit_code == 2

    def test_a_server_that_is_not_there_is_one_sentence(self, run: Lro) -> None:
        result = run("postgres", "migrate", "postgresql://u:secret@127.0.0.1:1/d")
        assert result.exit_code == 5
        assert "secret" not in result.output
