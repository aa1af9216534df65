"""What reads and queries return and refuse. Runs against the official emulator as well, where it can."""

import base64

import pytest
from google.api_core import exceptions as errors
from google.cloud.spanner_v1 import types

from .spanner_calls import BEGIN, listed, operation, write


@pytest.fixture
def notes(spanner):
    spanner.apply(write("insert", "Notes", ["id", "number", "data"], ["c", 1, None], ["a", 3, b"a"], ["b", 2, b"b"]))
    return spanner


def test_rows_come_in_key_order_without_repetition_and_missing_ones_are_left_out(notes):
    assert notes.rows("Notes", ["id", "number"], "b", "nowhere", "a", "b") == [["a", "3"], ["b", "2"]]


def test_a_column_may_be_asked_for_twice(notes):
    assert notes.rows("Notes", ["id", "id"], "a") == [["a", "a"]]


def test_the_result_names_its_columns_and_their_types(notes):
    fields = notes.read("Ops", ["key", "Operation", "Outcome", "CheckTime", "State"]).metadata.row_type.fields
    assert [(field.name, types.TypeCode(field.type_.code).name) for field in fields] == [
        ("key", "STRING"), ("Operation", "PROTO"), ("Outcome", "INT64"), ("CheckTime", "TIMESTAMP"), ("State", "BYTES"),
    ]  # fmt: skip
    assert fields[1].type_.proto_type_fqn == "google.longrunning.Operation"


def test_an_index_follows_the_rows(notes):
    by_number = "SELECT id FROM Notes@{FORCE_INDEX=Notes_ByNumber} ORDER BY number DESC"
    assert notes.sql(by_number) == [["a"], ["b"], ["c"]]
    notes.apply(write("update", "Notes", ["id", "number"], ["a", 0], ["c", 9]))
    assert notes.sql(by_number) == [["c"], ["b"], ["a"]]


REFUSED = {
    "an unknown table": (("Nope", ["id"]), {}, errors.NotFound, "Table not found: Nope"),
    "an unknown column": (("Notes", ["nope"]), {}, errors.NotFound, "Column not found in table Notes: nope"),
    "a key of another type": (
        ("Notes", ["id"]),
        {"key_set": types.KeySet(keys=[listed(True)])},
        errors.FailedPrecondition,
        "key part id",
    ),
    "a key of too many parts": (
        ("Notes", ["id"]),
        {"key_set": types.KeySet(keys=[listed("a", "b")])},
        errors.FailedPrecondition,
        "Wrong number of key parts for Notes. Expected 1 key parts, found 2 key parts",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_read_is_refused(spanner, refused, case):
    arguments, rest, error, words = REFUSED[case]
    with refused(error, words):
        spanner.read(*arguments, **rest)


def test_a_strong_read_names_its_timestamp_on_demand(notes):
    asked = types.TransactionSelector(single_use={"read_only": {"strong": True, "return_read_timestamp": True}})
    read = notes.read("Notes", ["id"], "a", transaction=asked).metadata.transaction.read_timestamp
    written = notes.apply(write("update", "Notes", ["id", "number"], ["a", 4])).commit_timestamp
    again = notes.read("Notes", ["id"], "a", transaction=asked).metadata.transaction.read_timestamp
    assert read.ToNanoseconds() < int(written.timestamp_pb().ToNanoseconds()) <= again.ToNanoseconds()


def keys(names):
    return types.KeySet(keys=[listed(name) for name in names])


@pytest.mark.parametrize("method", ["streaming_read", "execute_streaming_sql"])
def test_streams_carry_the_same_rows(notes, method):
    request = {
        "streaming_read": types.ReadRequest(session=notes.session, table="Notes", columns=["id"], key_set=keys("abc")),
        "execute_streaming_sql": types.ExecuteSqlRequest(session=notes.session, sql="SELECT id FROM Notes ORDER BY id"),
    }[method]
    parts = list(getattr(notes.client, method)(request=request, retry=None, timeout=10))
    assert [field.name for field in parts[0].metadata.row_type.fields] == ["id"]
    assert [value for part in parts for value in part.values] == ["a", "b", "c"]


@pytest.mark.not_on_emulator("it does not enforce this limit")
@pytest.mark.parametrize("how", ["read", "sql"])
def test_a_unary_result_over_10_mib_is_refused_and_streams_in_parts(notes, how):
    """ "Use StreamingRead": the documented limit of Read and ExecuteSql."""
    for number in range(3):
        state = b"%d" % number * 3_000_000
        notes.apply(write("insert", "Ops", ["Operation", "State"], [operation(f"operations/{number}"), state]))
    one_by_one = [notes.rows("Ops", ["State"], f"operations/{number}") for number in range(3)]
    three = keys(f"operations/{number}" for number in range(3))
    with pytest.raises(errors.FailedPrecondition, match=r"larger than 10\.00 MiB"):
        notes.rows("Ops", ["State"], key_set=three) if how == "read" else notes.sql("SELECT State FROM Ops")
    request = types.ReadRequest(session=notes.session, table="Ops", columns=["State"], key_set=three)
    parts = list(notes.client.streaming_read(request=request, retry=None, timeout=20))
    assert len(parts) == 3
    assert [[value] for part in parts for value in part.values] == [row for [row] in one_by_one]


def test_sql_reads_what_was_committed(notes):
    assert notes.sql("SELECT id, number FROM Notes WHERE number >= 2 ORDER BY number") == [["b", "2"], ["a", "3"]]


def test_sql_takes_parameters(notes):
    numbers = {"code": types.TypeCode.ARRAY, "array_element_type": {"code": types.TypeCode.INT64}}
    found = notes.sql(
        "SELECT id FROM Notes WHERE number IN UNNEST(@numbers) AND id < @last ORDER BY id",
        params={"numbers": ["1", "2"], "last": "c"},
        param_types={"numbers": types.Type(numbers), "last": types.Type(code="STRING")},
    )
    assert found == [["b"]]


def test_sql_reads_fields_of_messages(notes):
    notes.apply(write("insert", "Ops", ["Operation"], [operation("operations/x", done=True)]))
    assert notes.sql("SELECT key, Operation.done FROM Ops") == [["operations/x", True]]


def test_the_schema_can_be_asked_for(spanner):
    columns = spanner.sql(
        "SELECT COLUMN_NAME, SPANNER_TYPE, IS_NULLABLE, COLUMN_DEFAULT, GENERATION_EXPRESSION"
        " FROM INFORMATION_SCHEMA.COLUMNS WHERE TABLE_SCHEMA = '' AND TABLE_NAME = 'Ops' ORDER BY ORDINAL_POSITION"
    )
    assert columns[0] == ["key", "STRING(MAX)", "NO", None, "Operation.name"]
    assert columns[1] == ["Operation", "`google.longrunning.Operation`", "NO", None, None]
    assert [row[0] for row in columns][2:] == [
        "State", "ResumePoint", "Shard", "Outcome", "CheckTime", "ExpireTime",
    ]  # fmt: skip
    made = spanner.sql(
        "SELECT COLUMN_DEFAULT FROM INFORMATION_SCHEMA.COLUMNS WHERE TABLE_NAME = 'Notes' AND COLUMN_NAME = 'made'"
    )
    assert made == [["CURRENT_TIMESTAMP()"]]
    policies = spanner.sql(
        "SELECT TABLE_NAME, ROW_DELETION_POLICY_EXPRESSION FROM INFORMATION_SCHEMA.TABLES"
        " WHERE TABLE_SCHEMA = '' ORDER BY TABLE_NAME"
    )
    assert policies == [["Notes", None], ["Ops", "OLDER_THAN(ExpireTime, INTERVAL 1 DAY)"]]


def test_the_indexes_can_be_asked_for(spanner):
    indexes = spanner.sql(
        "SELECT INDEX_NAME, IS_NULL_FILTERED, INDEX_STATE FROM INFORMATION_SCHEMA.INDEXES"
        " WHERE TABLE_SCHEMA = '' ORDER BY TABLE_NAME, INDEX_NAME"
    )
    assert indexes == [
        ["Notes_ByNumber", False, "READ_WRITE"],
        ["PRIMARY_KEY", False, None],
        ["Ops_Due", True, "READ_WRITE"],
        ["PRIMARY_KEY", False, None],
    ]
    columns = spanner.sql(
        "SELECT COLUMN_NAME, ORDINAL_POSITION, COLUMN_ORDERING"
        " FROM INFORMATION_SCHEMA.INDEX_COLUMNS WHERE INDEX_NAME = 'Ops_Due' ORDER BY COLUMN_NAME"
    )
    assert columns == [["CheckTime", "2", "DESC"], ["ResumePoint", None, None], ["Shard", "1", "ASC"]]


QUERIES = {
    "no SQL": ("SELEC 1", "SELEC"),
    "an unknown table": ("SELECT 1 FROM Nope", "Table not found: Nope"),
    "an unknown column": ("SELECT nope FROM Notes", "Unrecognized name: nope"),
    "an unknown index": ("SELECT id FROM Notes@{FORCE_INDEX=Nope}", "Nope"),
    "a missing parameter": ("SELECT id FROM Notes WHERE id = @id", "id"),
}


@pytest.mark.parametrize("case", QUERIES)
def test_a_query_is_refused(spanner, refused, case):
    text, words = QUERIES[case]
    with refused(errors.InvalidArgument, words):
        spanner.sql(text)


def test_a_parameter_of_the_wrong_type_is_refused(spanner, refused):
    with refused(errors.FailedPrecondition, "Invalid value for bind parameter n"):
        spanner.sql("SELECT @n FROM Notes", params={"n": True}, param_types={"n": types.Type(code="INT64")})


def within(result):
    return types.TransactionSelector(id=result.metadata.transaction.id)


PAST = types.TransactionSelector(single_use={"read_only": {"exact_staleness": {"seconds": 20}}})
SEVERAL = types.TransactionSelector(begin={"read_only": {"strong": True}})
REPEATABLE = types.TransactionSelector(begin={"read_write": {}, "isolation_level": "REPEATABLE_READ"})
BOUNDS = types.KeyRange(start_closed=listed("a"), end_closed=listed("b"))

NOT_MODELLED = {
    "reads of the past": ({"transaction": PAST}, "reads of the past"),
    "read-only transactions": ({"transaction": SEVERAL}, "transactions of several requests that are read_only"),
    "another isolation level": ({"transaction": REPEATABLE}, "the isolation level REPEATABLE_READ"),
    "all rows": ({"key_set": types.KeySet(all_=True)}, "ranges of keys"),
    "a range": ({"key_set": types.KeySet(ranges=[BOUNDS])}, "ranges of keys"),
    "an index": ({"index": "Notes_ByNumber"}, "reads by an index or with a limit"),
    "a limit": ({"limit": 1}, "reads by an index or with a limit"),
    "a partition": ({"partition_token": b"x"}, "partitioned and resumed reads"),
}


@pytest.mark.not_on_emulator("it does all of this")
@pytest.mark.parametrize("case", NOT_MODELLED)
def test_a_read_that_the_fake_does_not_model_it_refuses(notes, case):
    """UNIMPLEMENTED rather than an answer that Spanner would not give."""
    options, words = NOT_MODELLED[case]
    with pytest.raises(errors.MethodNotImplemented, match=words):
        notes.rows("Notes", ["id"], "a", **options)


@pytest.mark.not_on_emulator("it does all of this")
def test_what_else_the_fake_does_not_model_it_refuses(notes):
    with pytest.raises(errors.MethodNotImplemented, match="queries that begin a transaction"):
        notes.sql("SELECT id FROM Notes", transaction=BEGIN)
    with pytest.raises(errors.MethodNotImplemented, match="query plans"):
        notes.sql("SELECT id FROM Notes", query_mode="PLAN")
    with pytest.raises(errors.InvalidArgument, match="Expected 'SELECT'"):
        notes.sql("DELETE FROM Notes WHERE TRUE")
    with pytest.raises(errors.InvalidArgument, match="the parameter id needs a type"):
        notes.sql("SELECT id FROM Notes WHERE id = @id", params={"id": "a"})
    with pytest.raises(errors.InvalidArgument, match="FLOAT64"):
        notes.sql("SELECT @n FROM Notes", params={"n": 1.5}, param_types={"n": types.Type(code="FLOAT64")})
    begun = notes.begin()
    with pytest.raises(errors.MethodNotImplemented, match="the mutation replace"):
        notes.commit(begun, write("replace", "Notes", ["id", "number"], ["a", 1]))
    with pytest.raises(errors.MethodNotImplemented, match="commit statistics"):
        notes.apply(return_commit_stats=True)
    with pytest.raises(errors.MethodNotImplemented):
        notes.client.begin_transaction(session=notes.session, options=types.TransactionOptions(read_write={}))


@pytest.mark.not_on_emulator("it does not look at tags")
def test_a_tag_of_more_than_50_characters_is_refused(notes):
    notes.rows("Notes", ["id"], "a", request_options={"request_tag": "x" * 50})
    with pytest.raises(errors.InvalidArgument, match="longer than 50 characters"):
        notes.rows("Notes", ["id"], "a", request_options={"request_tag": "x" * 51})
    with pytest.raises(errors.InvalidArgument, match="longer than 50 characters"):
        notes.sql("SELECT id FROM Notes", request_options={"request_tag": "x" * 51})
    with pytest.raises(errors.InvalidArgument, match="longer than 50 characters"):
        notes.apply(request_options={"transaction_tag": "x" * 51})


def test_bytes_and_messages_travel_as_base64(spanner):
    message = operation("operations/a", done=True)
    spanner.apply(write("insert", "Ops", ["Operation", "State"], [message, b"\x00\xff"]))
    [row] = spanner.rows("Ops", ["Operation", "State"], "operations/a")
    assert [base64.b64decode(value) for value in row] == [message, b"\x00\xff"]
