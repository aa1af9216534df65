"""Schema changes through the admin API. What both answer alike runs against the official emulator as well."""

from contextlib import closing

import pytest
from google.api_core import exceptions as errors
from google.cloud.spanner_admin_database_v1 import UpdateDatabaseDdlRequest
from google.longrunning import operations_pb2

from lro_aio.testing import FakeSpanner

from .spanner_calls import DDL, Spanner, operation, write


def statements(spanner):
    return list(spanner.admin.get_database_ddl(database=spanner.database, retry=None, timeout=10).statements)


def test_the_proto_bundle_is_shown_as_ddl(spanner):
    assert statements(spanner)[0] == (
        "CREATE PROTO BUNDLE (\n  google.longrunning.Operation,\n  google.protobuf.Any,\n  google.rpc.Status,\n)"
    )


def test_a_database_without_a_bundle_shows_none():
    with FakeSpanner(variant="bytes") as fake, closing(Spanner(fake.host, fake.database_path)) as spanner:
        assert statements(spanner) == []


def schema(spanner):
    """What a statement may change."""
    return [
        spanner.sql(
            f"SELECT {columns} FROM INFORMATION_SCHEMA.{view} WHERE TABLE_SCHEMA = '' ORDER BY TABLE_NAME, {by}"
        )
        for view, columns, by in [
            ("TABLES", "TABLE_NAME, ROW_DELETION_POLICY_EXPRESSION", "TABLE_NAME"),
            ("COLUMNS", "COLUMN_NAME, SPANNER_TYPE, IS_NULLABLE, COLUMN_DEFAULT", "ORDINAL_POSITION"),
            ("INDEXES", "INDEX_NAME, IS_NULL_FILTERED", "INDEX_NAME"),
        ]
    ]


def test_a_column_that_is_added_is_filled_in(spanner):
    spanner.apply(write("insert", "Notes", ["id", "number"], ["a", 1]))
    spanner.ddl(
        "ALTER TABLE Notes ADD COLUMN more INT64 NOT NULL DEFAULT (7)",
        "ALTER TABLE Notes ADD COLUMN text STRING(MAX)",
        "ALTER TABLE Notes ADD COLUMN both STRING(MAX) AS (CONCAT(id, '!')) STORED",
    )
    assert spanner.rows("Notes", ["more", "text", "both"], "a") == [["7", None, "a!"]]
    spanner.apply(write("insert", "Notes", ["id", "number"], ["b", 2]))
    assert spanner.all("Notes", "id", "more", "both") == [["a", "7", "a!"], ["b", "7", "b!"]]


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
    spanner.ddl("CREATE INDEX Notes_ByStamp ON Notes (stamp, number DESC)")
    found = spanner.sql("SELECT id FROM Notes@{FORCE_INDEX=Notes_ByStamp} ORDER BY stamp, number DESC")
    assert found == [["c"], ["b"], ["a"]]


def test_a_column_is_added_to_an_index_and_then_shown_with_it(spanner):
    spanner.ddl("ALTER INDEX Notes_ByNumber ADD STORED COLUMN flag")
    columns = "SELECT COLUMN_NAME, COLUMN_ORDERING FROM INFORMATION_SCHEMA.INDEX_COLUMNS"
    found = spanner.sql(f"{columns} WHERE TABLE_SCHEMA = '' AND INDEX_NAME = 'Notes_ByNumber' ORDER BY COLUMN_NAME")
    assert found == [["flag", None], ["number", "DESC"]]


def test_a_row_deletion_policy_is_added_and_replaced(spanner):
    policy = "SELECT ROW_DELETION_POLICY_EXPRESSION FROM INFORMATION_SCHEMA.TABLES WHERE TABLE_NAME = 'Notes'"
    spanner.ddl("ALTER TABLE Notes ADD ROW DELETION POLICY (OLDER_THAN(stamp, INTERVAL 30 DAY))")
    assert spanner.sql(policy) == [["OLDER_THAN(stamp, INTERVAL 30 DAY)"]]
    spanner.ddl("ALTER TABLE Notes REPLACE ROW DELETION POLICY (OLDER_THAN(made, INTERVAL 0 DAY))")
    assert spanner.sql(policy) == [["OLDER_THAN(made, INTERVAL 0 DAY)"]]


def test_a_default_is_set(spanner):
    spanner.ddl("ALTER TABLE Notes ALTER COLUMN number SET DEFAULT (5)")
    spanner.apply(write("insert", "Notes", ["id"], ["a"]))
    assert spanner.rows("Notes", ["number"], "a") == [["5"]]


def test_a_column_is_widened(spanner):
    spanner.ddl("ALTER TABLE Notes ALTER COLUMN data BYTES(MAX)")
    spanner.apply(write("insert", "Notes", ["id", "number", "data"], ["a", 1, b"more than five"]))
    assert spanner.rows("Notes", ["number"], "a") == [["1"]]


def test_types_are_added_to_the_proto_bundle(spanner):
    spanner.ddl("ALTER PROTO BUNDLE INSERT (google.longrunning.OperationInfo)")
    spanner.ddl("CREATE TABLE T (id INT64, info google.longrunning.OperationInfo) PRIMARY KEY (id)")
    message = operations_pb2.OperationInfo(response_type="r").SerializeToString()
    spanner.apply(write("insert", "T", ["id", "info"], [1, message]))
    assert spanner.sql("SELECT info.response_type FROM T LIMIT 2") == [["r"]]


def test_a_generated_column_can_be_not_null(spanner):
    spanner.ddl("CREATE TABLE T (id INT64, a STRING(MAX), b STRING(MAX) NOT NULL AS (a) STORED) PRIMARY KEY (id)")
    spanner.apply(write("insert", "T", ["id", "a"], [1, "x"]))
    with pytest.raises(errors.FailedPrecondition):
        spanner.apply(write("insert", "T", ["id"], [2]))
    assert spanner.all("T", "id", "b") == [["1", "x"]]


def test_a_table_is_dropped(spanner):
    spanner.ddl("CREATE TABLE T (id INT64) PRIMARY KEY (id)")
    spanner.ddl("DROP TABLE T")
    with pytest.raises(errors.NotFound, match="Table not found: T"):
        spanner.rows("T", ["id"], 1)


REFUSED = {
    "CREATE TABL T": (errors.InvalidArgument, "Error parsing Spanner DDL statement: CREATE TABL T"),
    "CREATE TABLE Notes (id INT64) PRIMARY KEY (id)": (errors.FailedPrecondition, "Duplicate name in schema: Notes."),
    "CREATE TABLE T (id INT64, id INT64) PRIMARY KEY (id)": (errors.FailedPrecondition, "Duplicate column name T.id."),
    "CREATE TABLE T (id INT64) PRIMARY KEY (nope)": (errors.FailedPrecondition, "nonexistent key column nope"),
    "CREATE INDEX I ON Notes (nope)": (errors.InvalidArgument, "Index I specifies column nope"),
    "CREATE INDEX I ON Nope (id)": (errors.NotFound, "Table not found: Nope"),
    "CREATE INDEX Ops_Due ON Notes (number)": (errors.FailedPrecondition, "Duplicate name in schema: Ops_Due."),
    "CREATE INDEX I ON Notes (number) STORING (nope)": (errors.InvalidArgument, "Index I specifies column nope"),
    "ALTER INDEX Nope ADD STORED COLUMN flag": (errors.NotFound, "Index not found: Nope"),
    "ALTER INDEX Notes_ByNumber ADD STORED COLUMN nope": (errors.NotFound, "nope"),
    "ALTER INDEX Notes_ByNumber ADD STORED COLUMN number": (errors.FailedPrecondition, "has the column number already"),
    "ALTER INDEX Ops_Due ADD STORED COLUMN ResumePoint": (errors.FailedPrecondition, "ResumePoint already"),
    "ALTER TABLE Notes ADD COLUMN number INT64": (errors.FailedPrecondition, "Duplicate column name Notes.number."),
    "ALTER TABLE Notes ADD COLUMN more INT64 NOT NULL": (
        errors.MethodNotImplemented,
        "Cannot add NOT NULL column Notes.more to existing table Notes.",
    ),
    "ALTER TABLE Nope ADD COLUMN more INT64": (errors.NotFound, "Table not found: Nope"),
    "ALTER TABLE Notes ADD COLUMN more STRING(MAX) AS (nope) STORED": (errors.InvalidArgument, "nope"),
    "ALTER TABLE Notes ADD ROW DELETION POLICY (OLDER_THAN(nope, INTERVAL 0 DAY))": (
        errors.InvalidArgument,
        "no TIMESTAMP column named nope in table Notes",
    ),
    "ALTER TABLE Notes ADD ROW DELETION POLICY (OLDER_THAN(number, INTERVAL 0 DAY))": (
        errors.InvalidArgument,
        "no TIMESTAMP column named number in table Notes",
    ),
    "ALTER TABLE Ops ADD ROW DELETION POLICY (OLDER_THAN(CheckTime, INTERVAL 0 DAY))": (
        errors.InvalidArgument,
        "there is already one on column named ExpireTime in table Ops",
    ),
    "ALTER TABLE Notes REPLACE ROW DELETION POLICY (OLDER_THAN(stamp, INTERVAL 0 DAY))": (
        errors.InvalidArgument,
        "ROW DELETION POLICY does not exist on table Notes",
    ),
    "ALTER TABLE Notes ALTER COLUMN number STRING(MAX)": (errors.InvalidArgument, "Cannot change type of column"),
    "CREATE TABLE T (id STRING(10)) PRIMARY KEY (id), INTERLEAVE IN PARENT Nope ON DELETE CASCADE": (
        errors.NotFound,
        "Table not found: Nope",
    ),
    "CREATE TABLE T (n INT64, id STRING(10)) PRIMARY KEY (n, id), INTERLEAVE IN PARENT Notes ON DELETE CASCADE": (
        errors.GoogleAPICallError,
        "Table T does not reference parent key column id",
    ),
    "CREATE TABLE T (id INT64, n INT64) PRIMARY KEY (id, n), INTERLEAVE IN PARENT Notes ON DELETE CASCADE": (
        errors.GoogleAPICallError,
        "must have the type of the parent's",
    ),
    "DROP TABLE Nope": (errors.NotFound, "Table not found: Nope"),
    "DROP TABLE Notes": (
        errors.FailedPrecondition,
        "Cannot drop table Notes with indices: Notes_ByNumber",
    ),
    "ALTER PROTO BUNDLE INSERT (google.rpc.Status)": (errors.AlreadyExists, "Type already exists: `google.rpc.Status`"),
    "ALTER PROTO BUNDLE INSERT (google.rpc.Nope)": (errors.NotFound, "Missing descriptor for `google.rpc.Nope`"),
}


@pytest.mark.parametrize("statement", REFUSED)
def test_a_statement_is_refused_and_changes_nothing(spanner, refused, statement):
    error, words = REFUSED[statement]
    before = schema(spanner)
    with refused(error, words):
        spanner.ddl(statement)
    assert schema(spanner) == before


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
    with pytest.raises(errors.NotFound, match="Table not found: Nope"):
        spanner.ddl(first, "DROP TABLE Nope", "DROP TABLE T")
    assert fake.ddl == [*DDL, first]
    with pytest.raises(errors.InvalidArgument, match="Error parsing"):
        spanner.ddl("DROP TABLE T", "nonsense")
    assert fake.ddl == [*DDL, first]


def test_a_schema_change_is_an_operation_that_can_be_fetched(connect):
    spanner = connect()
    request = UpdateDatabaseDdlRequest(
        database=spanner.database, statements=["CREATE TABLE T (id INT64) PRIMARY KEY (id)"]
    )
    started = spanner.admin.update_database_ddl(request=request, retry=None)
    fetched = spanner.admin.get_operation(operations_pb2.GetOperationRequest(name=started.operation.name))
    assert fetched == started.operation
    assert fetched.done
    assert list(started.metadata.statements) == list(request.statements)
    with pytest.raises(errors.NotFound):
        spanner.admin.get_operation(operations_pb2.GetOperationRequest(name=f"{spanner.database}/operations/nope"))


def test_a_schema_change_is_seen_by_transactions_that_run(connect):
    spanner = connect()
    spanner.apply(write("insert", "Ops", ["Operation"], [operation("operations/a")]))
    spanner.ddl("ALTER TABLE Ops ADD COLUMN Later INT64")
    spanner.apply(write("update", "Ops", ["key", "Later"], ["operations/a", 1]))
    assert spanner.rows("Ops", ["key", "Later"], "operations/a") == [["operations/a", "1"]]


def test_another_database_is_not_found(spanner, refused):
    with refused(errors.NotFound, "Database not found"):
        spanner.admin.get_database_ddl(database=f"{spanner.database}x", retry=None)
