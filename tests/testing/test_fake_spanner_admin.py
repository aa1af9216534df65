"""Schema changes through the admin API. What both answer alike runs against the official emulator as well."""

import pytest
from google.api_core import exceptions as errors
from google.cloud.spanner_admin_database_v1 import UpdateDatabaseDdlRequest
from google.cloud.spanner_v1 import types
from google.longrunning import operations_pb2

from lro_aio.stores.spanner.schema import descriptor_set
from lro_aio.testing import FakeSpanner

from .spanner_calls import DDL, Spanner, operation, write

ALL = types.KeySet(all_=True)


def statements(spanner):
    return list(spanner.admin.get_database_ddl(database=spanner.database, retry=None, timeout=10).statements)


def test_the_schema_is_shown_as_ddl(spanner):
    assert statements(spanner) == [
        "CREATE PROTO BUNDLE (\n  google.longrunning.Operation,\n  google.protobuf.Any,\n  google.rpc.Status,\n)",
        "CREATE TABLE Ops (\n"
        "  key STRING(MAX) NOT NULL AS (Operation.name) STORED,\n"
        "  Operation `google.longrunning.Operation` NOT NULL,\n"
        "  State BYTES(MAX),\n"
        "  ResumePoint STRING(MAX),\n"
        "  Shard STRING(1) AS (SUBSTR(TO_HEX(SHA256(Operation.name)), 1, 1)) STORED,\n"
        "  Outcome INT64 AS (IF(Operation.done, IF(Operation.error IS NULL, 1, 2), 0)) STORED,\n"
        "  CheckTime TIMESTAMP,\n"
        "  ExpireTime TIMESTAMP,\n"
        ") PRIMARY KEY(key), ROW DELETION POLICY (OLDER_THAN(ExpireTime, INTERVAL 1 DAY))",
        "CREATE NULL_FILTERED INDEX Ops_Due ON Ops(Shard, CheckTime DESC) STORING (ResumePoint)",
        "CREATE TABLE Notes (\n"
        "  id STRING(10) NOT NULL,\n"
        "  number INT64 NOT NULL,\n"
        "  data BYTES(5),\n"
        "  flag BOOL,\n"
        "  stamp TIMESTAMP OPTIONS (\n    allow_commit_timestamp = true\n  ),\n"
        "  made TIMESTAMP DEFAULT (CURRENT_TIMESTAMP()),\n"
        ") PRIMARY KEY(id)",
        "CREATE UNIQUE NULL_FILTERED INDEX Notes_ByData ON Notes(data)",
        "CREATE INDEX Notes_ByNumber ON Notes(number DESC)",
    ]


def test_what_is_shown_makes_the_same_schema(spanner):
    shown = statements(spanner)
    shown[0] = shown[0].replace("google.protobuf.Any", "google.protobuf.`Any`")  # a keyword, but shown as it is
    with FakeSpanner(variant=None) as other:
        other.execute_ddl(*shown, descriptors=descriptor_set())
        again = Spanner(other.host, other.database_path)
        assert statements(again)[1:] == shown[1:]
        again.close()


def test_a_column_that_is_added_is_filled_in(spanner):
    spanner.apply(write("insert", "Notes", ["id", "number"], ["a", 1]))
    spanner.ddl(
        "ALTER TABLE Notes ADD COLUMN more INT64 NOT NULL DEFAULT (7)",
        "ALTER TABLE Notes ADD COLUMN text STRING(MAX)",
        "ALTER TABLE Notes ADD COLUMN both STRING(MAX) AS (CONCAT(id, '!')) STORED",
    )
    assert spanner.rows("Notes", ["more", "text", "both"], "a") == [["7", None, "a!"]]
    spanner.apply(write("insert", "Notes", ["id", "number"], ["b", 2]))
    assert spanner.rows("Notes", ["id", "more", "both"], key_set=ALL) == [["a", "7", "a!"], ["b", "7", "b!"]]


def test_a_column_that_the_rows_cannot_have_is_not_added(fake, connect):
    spanner = connect()
    spanner.apply(write("insert", "Notes", ["id", "number"], ["a", -1]))
    with pytest.raises(errors.InvalidArgument):
        spanner.ddl("ALTER TABLE Notes ADD COLUMN part STRING(MAX) AS (SUBSTR(id, 1, number)) STORED")
    assert fake.ddl == list(DDL)
    spanner.apply(write("update", "Notes", ["id", "number"], ["a", -2]))
    assert spanner.rows("Notes", ["id", "number"], "a") == [["a", "-2"]]


def test_an_index_that_is_added_has_the_rows(spanner):
    spanner.apply(write("insert", "Notes", ["id", "number", "flag"], ["a", 1, True], ["b", 2, False], ["c", 3, None]))
    spanner.ddl("CREATE NULL_FILTERED INDEX Notes_ByFlag ON Notes (flag)")
    assert spanner.rows("Notes", ["id"], key_set=ALL, index="Notes_ByFlag") == [["b"], ["a"]]
    spanner.ddl("DROP INDEX Notes_ByFlag")
    with pytest.raises(errors.NotFound):
        spanner.rows("Notes", ["id"], key_set=ALL, index="Notes_ByFlag")


def test_a_statement_may_be_repeated_if_it_says_so(spanner):
    before = statements(spanner)
    spanner.ddl(
        "ALTER TABLE Notes ADD COLUMN IF NOT EXISTS number INT64",
        "CREATE INDEX IF NOT EXISTS Notes_ByNumber ON Notes (number)",
        "DROP INDEX IF EXISTS Nope",
        "DROP TABLE IF EXISTS Nope",
    )
    assert statements(spanner) == before


def test_a_row_deletion_policy_is_added_replaced_and_dropped(spanner):
    policy = "SELECT ROW_DELETION_POLICY_EXPRESSION FROM INFORMATION_SCHEMA.TABLES WHERE TABLE_NAME = 'Notes'"
    spanner.ddl("ALTER TABLE Notes ADD ROW DELETION POLICY (OLDER_THAN(stamp, INTERVAL 30 DAY))")
    assert spanner.sql(policy) == [["OLDER_THAN(stamp, INTERVAL 30 DAY)"]]
    spanner.ddl("ALTER TABLE Notes REPLACE ROW DELETION POLICY (OLDER_THAN(made, INTERVAL 0 DAY))")
    assert spanner.sql(policy) == [["OLDER_THAN(made, INTERVAL 0 DAY)"]]
    spanner.ddl("ALTER TABLE Notes DROP ROW DELETION POLICY")
    assert spanner.sql(policy) == [[None]]


def test_defaults_are_set_and_dropped(spanner):
    spanner.ddl("ALTER TABLE Notes ALTER COLUMN number SET DEFAULT (5)")
    spanner.apply(write("insert", "Notes", ["id"], ["a"]))
    assert spanner.rows("Notes", ["number"], "a") == [["5"]]
    spanner.ddl("ALTER TABLE Notes ALTER COLUMN number DROP DEFAULT")
    with pytest.raises(errors.FailedPrecondition):
        spanner.apply(write("insert", "Notes", ["id"], ["b"]))


def test_types_are_added_to_the_proto_bundle(spanner):
    spanner.ddl("ALTER PROTO BUNDLE INSERT (google.longrunning.OperationInfo)")
    spanner.ddl("CREATE TABLE T (id INT64, info google.longrunning.OperationInfo) PRIMARY KEY (id)")
    message = operations_pb2.OperationInfo(response_type="r").SerializeToString()
    spanner.apply(write("insert", "T", ["id", "info"], [1, message]))
    assert spanner.sql("SELECT info.response_type FROM T") == [["r"]]


def test_a_generated_column_can_be_not_null(spanner):
    spanner.ddl("CREATE TABLE T (id INT64, a STRING(MAX), b STRING(MAX) NOT NULL AS (a) STORED) PRIMARY KEY (id)")
    spanner.apply(write("insert", "T", ["id", "a"], [1, "x"]))
    for mutation in (write("insert", "T", ["id"], [2]), write("update", "T", ["id", "a"], [1, None])):
        with pytest.raises(errors.FailedPrecondition):
            spanner.apply(mutation)
    assert spanner.rows("T", ["id", "b"], key_set=ALL) == [["1", "x"]]


def test_tables_and_columns_are_dropped(spanner):
    spanner.ddl("ALTER TABLE Notes DROP COLUMN flag", "DROP INDEX Notes_ByData", "DROP INDEX Notes_ByNumber")
    with pytest.raises(errors.NotFound, match="Column not found in table Notes: flag"):
        spanner.rows("Notes", ["flag"], key_set=ALL)
    spanner.ddl("DROP TABLE Notes")
    with pytest.raises(errors.NotFound, match="Table not found: Notes"):
        spanner.rows("Notes", ["id"], key_set=ALL)


REFUSED = {
    "CREATE TABL T": (errors.InvalidArgument, "Error parsing Spanner DDL statement: CREATE TABL T"),
    "CREATE TABLE Notes (id INT64) PRIMARY KEY (id)": (errors.FailedPrecondition, "Duplicate name in schema: Notes."),
    "CREATE TABLE T (id INT64, id INT64) PRIMARY KEY (id)": (errors.FailedPrecondition, "Duplicate column name T.id."),
    "CREATE TABLE T (id INT64) PRIMARY KEY (nope)": (errors.FailedPrecondition, "nonexistent key column nope"),
    "CREATE INDEX I ON Notes (nope)": (
        errors.InvalidArgument,
        "Index I specifies key column nope which does not exist",
    ),
    "CREATE INDEX I ON Nope (id)": (errors.NotFound, "Table not found: Nope"),
    "CREATE INDEX Ops_Due ON Notes (number)": (errors.FailedPrecondition, "Duplicate name in schema: Ops_Due."),
    "CREATE INDEX I ON Notes (number) STORING (id)": (
        errors.FailedPrecondition,
        "Index I specifies stored column id which is a key of table Notes.",
    ),
    "ALTER TABLE Notes ADD COLUMN number INT64": (errors.FailedPrecondition, "Duplicate column name Notes.number."),
    "ALTER TABLE Notes ADD COLUMN more INT64 NOT NULL": (
        errors.MethodNotImplemented,
        "Cannot add NOT NULL column Notes.more to existing table Notes.",
    ),
    "ALTER TABLE Nope ADD COLUMN more INT64": (errors.NotFound, "Table not found: Nope"),
    "ALTER TABLE Notes ADD COLUMN more STRING(MAX) AS (nope) STORED": (errors.InvalidArgument, "nope"),
    "ALTER TABLE Notes ADD ROW DELETION POLICY (OLDER_THAN(nope, INTERVAL 0 DAY))": (
        errors.InvalidArgument,
        "no column named nope in table Notes",
    ),
    "ALTER TABLE Notes ADD ROW DELETION POLICY (OLDER_THAN(number, INTERVAL 0 DAY))": (
        errors.InvalidArgument,
        "Row Deletion Policy must be set on column of type TIMESTAMP",
    ),
    "ALTER TABLE Ops ADD ROW DELETION POLICY (OLDER_THAN(CheckTime, INTERVAL 0 DAY))": (
        errors.InvalidArgument,
        "there is already one on column named ExpireTime in table Ops",
    ),
    "ALTER TABLE Notes REPLACE ROW DELETION POLICY (OLDER_THAN(stamp, INTERVAL 0 DAY))": (
        errors.InvalidArgument,
        "ROW DELETION POLICY does not exist on table Notes",
    ),
    "ALTER TABLE Notes DROP ROW DELETION POLICY": (errors.InvalidArgument, "does not exist on table Notes"),
    "ALTER TABLE Notes DROP COLUMN number": (errors.FailedPrecondition, "index `Notes_ByNumber`"),
    "DROP INDEX Nope": (errors.NotFound, "Index not found: Nope"),
    "DROP TABLE Nope": (errors.NotFound, "Table not found: Nope"),
    "DROP TABLE Notes": (
        errors.FailedPrecondition,
        "Cannot drop table Notes with indices: Notes_ByData,Notes_ByNumber",
    ),
    "ALTER PROTO BUNDLE INSERT (google.rpc.Status)": (errors.AlreadyExists, "Type already exists: `google.rpc.Status`"),
    "ALTER PROTO BUNDLE INSERT (google.rpc.Nope)": (errors.NotFound, "Missing descriptor for `google.rpc.Nope`"),
}


@pytest.mark.parametrize("statement", REFUSED)
def test_a_statement_is_refused_and_changes_nothing(spanner, refused, statement):
    error, words = REFUSED[statement]
    before = statements(spanner)
    with refused(error, words):
        spanner.ddl(statement)
    assert statements(spanner) == before


@pytest.mark.not_on_emulator("it answers INTERNAL")
def test_a_type_that_is_not_in_the_proto_bundle_is_refused(spanner):
    with pytest.raises(errors.InvalidArgument, match=r"Type not found: google\.rpc\.Help"):
        spanner.ddl("CREATE TABLE T (id INT64, help google.rpc.Help) PRIMARY KEY (id)")


def test_a_bundle_needs_descriptors(spanner, refused):
    request = UpdateDatabaseDdlRequest(
        database=spanner.database, statements=["ALTER PROTO BUNDLE INSERT (google.longrunning.OperationInfo)"]
    )
    with refused(errors.InvalidArgument, "Contents of proto_descriptor_file cannot be empty"):
        spanner.admin.update_database_ddl(request=request, retry=None).result(timeout=10)


def test_statements_before_a_refused_one_are_carried_out(fake, connect):
    """Documented: each statement is applied in order, and the operation's error is of the first that is not."""
    spanner = connect()
    first = "CREATE TABLE T (id INT64) PRIMARY KEY (id)"
    with pytest.raises(errors.NotFound, match="Index not found: Nope"):
        spanner.ddl(first, "DROP INDEX Nope", "DROP TABLE T")
    assert fake.ddl == [*DDL, first]
    with pytest.raises(errors.InvalidArgument, match="Error parsing"):
        spanner.ddl("DROP TABLE T", "nonsense")
    assert fake.ddl == [*DDL, first]


def test_a_schema_change_is_an_operation_that_can_be_fetched(connect):
    spanner = connect()
    request = UpdateDatabaseDdlRequest(
        database=spanner.database, statements=["DROP INDEX Notes_ByData"], operation_id="drop_it"
    )
    started = spanner.admin.update_database_ddl(request=request, retry=None)
    assert started.operation.name == f"{spanner.database}/operations/drop_it"
    fetched = spanner.admin.get_operation(operations_pb2.GetOperationRequest(name=started.operation.name))
    assert fetched == started.operation
    assert fetched.done
    assert list(started.metadata.statements) == ["DROP INDEX Notes_ByData"]
    with pytest.raises(errors.AlreadyExists):
        spanner.admin.update_database_ddl(request=request, retry=None)
    with pytest.raises(errors.NotFound):
        spanner.admin.get_operation(operations_pb2.GetOperationRequest(name=f"{spanner.database}/operations/nope"))


def test_a_schema_change_is_seen_by_transactions_that_run(connect):
    spanner = connect()
    spanner.apply(write("insert", "Ops", ["Operation"], [operation("operations/a")]))
    spanner.ddl("ALTER TABLE Ops ADD COLUMN Later INT64")
    spanner.apply(write("update", "Ops", ["key", "Later"], ["operations/a", 1]))
    assert spanner.rows("Ops", ["key", "Later"], "operations/a") == [["operations/a", "1"]]


def test_the_database_is_there_and_others_are_not(spanner, refused):
    assert spanner.admin.get_database(name=spanner.database, retry=None).name == spanner.database
    with refused(errors.NotFound, "Database not found"):
        spanner.admin.get_database(name=f"{spanner.database}x", retry=None)
    with refused(errors.NotFound, "Database not found"):
        spanner.admin.get_database_ddl(database=f"{spanner.database}x", retry=None)
