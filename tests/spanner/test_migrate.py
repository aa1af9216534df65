"""``migrate`` on a whole Spanner: it makes and upgrades tables, and says what it cannot."""

from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import grpc
import pytest
from google.cloud.spanner_admin_database_v1 import DatabaseAdminClient
from google.longrunning import operations_pb2

from lro_aio import StoreSchemaError, StoreUnavailableError
from lro_aio.stores.spanner import schema
from lro_aio.stores.spanner.connection import Connection
from lro_aio.stores.spanner.location import Location
from lro_aio.stores.spanner.migrate import bundle_types, migrate
from lro_aio.stores.spanner.queries import Query
from lro_aio.stores.spanner.table import INDEXES

BUNDLE = "CREATE PROTO BUNDLE (google.longrunning.Operation)"
GO = (
    "CREATE TABLE {table} (key STRING(MAX) NOT NULL AS (Operation.name) STORED,"
    " Operation google.longrunning.Operation NOT NULL{more}) PRIMARY KEY (key){policy}"
)
GO_TABLES = {
    "version 1": "",
    "version 1 with Checkpoint": ", Checkpoint BYTES(MAX)",
    "version 1 with resume points": ", State BYTES(MAX), ResumePoint STRING(MAX)",
    "version 2": ", State BYTES(MAX), ResumePoint STRING(MAX), UpdateTime TIMESTAMP NOT NULL",
}


@pytest.fixture
def empty(spanner_database):
    return Location.parse(spanner_database(None))


@contextmanager
def connected(location):
    connection = Connection(location)
    try:
        connection.open()
        yield connection
    finally:
        connection.close()


def look(location):
    """What is there now."""
    with connected(location) as connection:
        return schema.read_schema(
            lambda sql, params: connection.query(Query(sql).text(**params), budget=connection.budget(), tag="test"),
            location.table,
        )


def usable(location):
    schema.check(look(location), location.table)
    return True


@pytest.mark.parametrize("variant", schema.VARIANTS)
def test_a_table_is_made_once_and_then_there_is_nothing_to_do(empty, variant):
    made = migrate(empty, variant)
    assert [text for text in made.statements if "CREATE TABLE" in text]
    assert usable(empty)
    assert look(empty).variant == variant
    assert migrate(empty, variant).statements == ()
    assert migrate(empty).statements == ()


def test_a_new_table_has_the_variant_proto_unless_told_otherwise(empty):
    migrate(empty)
    assert look(empty).variant == "proto"


@pytest.mark.parametrize("variant", schema.VARIANTS)
def test_the_statements_that_ddl_prints_make_the_same_table(spanner_database, variant):
    location = Location.parse(spanner_database(variant))
    assert usable(location)
    assert migrate(location).statements == ()


def test_a_dry_run_says_what_would_be_done_and_does_nothing(empty):
    planned = migrate(empty, "proto", dry_run=True)
    assert look(empty) is None
    assert migrate(empty, "proto").statements == planned.statements


def test_a_second_table_uses_the_bundle_that_is_there(empty):
    migrate(empty)
    other = replace(empty, table="Others")
    assert not any("BUNDLE" in text for text in migrate(other).statements)
    assert usable(other)


def test_a_table_may_be_called_like_a_keyword(empty):
    location = replace(empty, table="Select")
    migrate(location)
    assert usable(location)


@pytest.mark.parametrize("table", ["x_Operations", "x_AlisManagedOperations"])
@pytest.mark.parametrize("more", GO_TABLES.values(), ids=GO_TABLES)
def test_a_table_of_the_go_package_gets_our_columns(empty, apply_ddl, table, more):
    location = replace(empty, table=table)
    apply_ddl(empty.url, [BUNDLE, GO.format(table=table, more=more, policy="")])
    before = look(location)
    migrate(location)
    assert usable(location)
    after = look(location)
    assert after.columns.keys() >= before.columns.keys()
    assert after.columns["UpdateTime"].default
    assert migrate(location).statements == ()


@pytest.mark.parametrize("variant", schema.VARIANTS)
def test_an_index_that_stores_less_is_used_as_it_is_and_stores_more_after_a_migration(empty, apply_ddl, variant):
    statements = schema.ddl(empty.table, variant)
    apply_ddl(empty.url, [text.partition(" STORING")[0] if "INDEX" in text else text for text in statements])
    assert usable(empty)
    assert "ALTER INDEX Operations_Newest ADD STORED COLUMN Deleted" in migrate(empty).statements
    assert {name: index.storing for name, index in look(empty).indexes.items()} == {
        index.name(empty.table): frozenset(index.storing) for index in INDEXES
    }
    assert migrate(empty).statements == ()


def test_types_that_the_bundle_lacks_are_added_to_it(empty, apply_ddl):
    apply_ddl(empty.url, ["CREATE PROTO BUNDLE (google.rpc.Status)"])
    done = migrate(empty)
    assert done.statements[0].startswith("ALTER PROTO BUNDLE INSERT (google.longrunning.Operation,")
    assert usable(empty)


def test_columns_that_are_too_narrow_are_widened(empty, apply_ddl):
    apply_ddl(
        empty.url,
        [
            "CREATE TABLE Operations (key STRING(90) NOT NULL, Operation BYTES(MAX) NOT NULL, State BYTES(90) NOT NULL,"
            " ResumePoint STRING(36) DEFAULT ('')) PRIMARY KEY (key)"
        ],
    )
    migrate(empty)
    assert usable(empty)
    columns = look(empty).columns
    assert columns["key"].type == columns["ResumePoint"].type == "STRING(MAX)"
    assert columns["State"].nullable
    assert columns["ResumePoint"].default


def test_a_row_deletion_policy_of_somebody_else_is_replaced_only_when_asked(empty, apply_ddl):
    policy = ", ROW DELETION POLICY (OLDER_THAN(UpdateTime, INTERVAL 30 DAY))"
    apply_ddl(empty.url, [BUNDLE, GO.format(table="Operations", more=", UpdateTime TIMESTAMP", policy=policy)])
    kept = migrate(empty)
    assert kept.kept_policy == "OLDER_THAN(UpdateTime, INTERVAL 30 DAY)"
    assert usable(empty)
    assert look(empty).other_policy == ("UpdateTime", 30)
    assert migrate(empty).statements == ()

    replaced = migrate(empty, replace_ttl=True)
    assert len(replaced.statements) == 1
    assert not replaced.kept_policy
    assert look(empty).other_policy is None
    assert migrate(empty, replace_ttl=True).statements == ()


def test_what_a_migration_cannot_change_is_refused_whole(empty, apply_ddl):
    apply_ddl(
        empty.url, [BUNDLE, GO.format(table="Operations", more=", State STRING(MAX), Mine INT64 NOT NULL", policy="")]
    )
    before = look(empty)
    with pytest.raises(StoreSchemaError, match=r"State has the type STRING\(MAX\) .*; column Mine, .* NOT NULL"):
        migrate(empty)
    assert look(empty) == before


def test_a_newer_schema_is_refused(spanner_database, apply_ddl):
    location = Location.parse(spanner_database("proto"))
    apply_ddl(location.url, ["ALTER TABLE Operations ALTER COLUMN SchemaVersion SET DEFAULT (99)"])
    with pytest.raises(StoreSchemaError, match=r"schema version 99, .* upgrade lro_aio"):
        migrate(location)
    with pytest.raises(StoreSchemaError, match="upgrade lro_aio"):
        usable(location)


def test_a_table_does_not_change_its_variant(spanner_database):
    location = Location.parse(spanner_database("bytes"))
    with pytest.raises(StoreSchemaError, match="has the variant bytes, and cannot change to proto"):
        migrate(location, "proto")


def test_a_migration_that_another_process_makes_meanwhile_is_not_an_error(empty, monkeypatch):
    """Both plan at the same time; the second is refused, looks again, and finds that nothing is left to do."""
    update = DatabaseAdminClient.update_database_ddl
    raced = []

    def first_somebody_else(client, **arguments):
        if not raced:
            raced.append(True)
            update(client, **arguments).result(timeout=20)
        return update(client, **arguments)

    monkeypatch.setattr(DatabaseAdminClient, "update_database_ddl", first_somebody_else)
    assert migrate(empty).statements == ()
    assert raced
    assert usable(empty)


def test_a_refusal_by_spanner_is_told_in_its_words(empty, apply_ddl, monkeypatch):
    monkeypatch.setattr(schema, "plan", lambda *_, **__: ["CREATE INDEX Nowhere ON Nothing (X)"])
    with pytest.raises(StoreSchemaError, match="Nothing"):
        migrate(empty)


def test_a_database_that_is_not_there_is_named_with_the_command_that_makes_it(empty):
    with pytest.raises(StoreSchemaError, match="gcloud spanner databases create nowhere --instance="):
        migrate(replace(empty, database="nowhere"))


def test_a_server_that_does_not_answer_is_an_outage():
    nobody = Location(project="p-1", instance="i-1", database="d-1", host="127.0.0.1:1", timeout=0.3)
    with pytest.raises(StoreUnavailableError):
        migrate(nobody)


def test_the_bundle_is_read_from_the_ddl_as_spanner_prints_it():
    printed = "CREATE PROTO BUNDLE (\n  google.longrunning.Operation,\n  google.protobuf.`Any`,\n)"
    assert bundle_types(["CREATE TABLE T (k INT64) PRIMARY KEY (k)", printed]) == {
        "google.longrunning.Operation",
        "google.protobuf.Any",
    }
    assert bundle_types(["CREATE TABLE T (k INT64) PRIMARY KEY (k)"]) is None


@pytest.mark.not_on_emulator("it has no permissions")
@pytest.mark.parametrize(
    ("rpc", "code", "says"),
    [
        ("UpdateDatabaseDdl", grpc.StatusCode.PERMISSION_DENIED, "roles/spanner.databaseAdmin"),
        ("GetDatabaseDdl", grpc.StatusCode.PERMISSION_DENIED, "roles/spanner.databaseAdmin"),
    ],
)
def test_a_missing_permission_is_told_with_the_role_that_has_it(rpc, code, says):
    from lro_aio.testing import FakeSpanner

    with FakeSpanner(variant=None) as fake:
        fake.fail(rpc, code, times=10)
        with pytest.raises(StoreSchemaError, match=says):
            migrate(Location.parse(fake.url))


class Slow:
    """A schema change that is done after a number of looks at it. Real otherwise: the client is asked through it."""

    def __init__(self, monkeypatch, looks):
        update = DatabaseAdminClient.update_database_ddl
        self.looks = looks
        self.pauses = []

        def start(client, **arguments):
            started = update(client, **arguments)
            self.end = operations_pb2.Operation.FromString(started.operation.SerializeToString())
            return SimpleNamespace(operation=operations_pb2.Operation(name=self.end.name))

        def get(_, request, **__):
            assert request.name == self.end.name
            self.looks -= 1
            return self.end if self.looks <= 0 else operations_pb2.Operation(name=self.end.name)

        monkeypatch.setattr(DatabaseAdminClient, "update_database_ddl", start)
        monkeypatch.setattr(DatabaseAdminClient, "get_operation", get)


def test_a_schema_change_that_takes_long_is_waited_for_with_growing_pauses(empty, monkeypatch):
    slow = Slow(monkeypatch, looks=10)
    migrate(empty, sleep=slow.pauses.append)
    assert len(slow.pauses) == 10
    assert slow.pauses == sorted(slow.pauses)
    assert slow.pauses[-1] <= 5
    assert usable(empty)


def test_a_schema_change_that_takes_too_long_goes_on_and_is_named(empty, monkeypatch):
    slow = Slow(monkeypatch, looks=10)
    with pytest.raises(StoreUnavailableError, match=r"operations/\S+ is not done after 0 s; it continues"):
        migrate(empty, wait=0, sleep=slow.pauses.append)
    assert slow.pauses == []
