"""What a commit does to the rows, and what it refuses. Runs against the official emulator as well."""

import base64

import pytest
from google.api_core import exceptions as errors
from google.cloud.spanner_v1 import types

from .spanner_calls import READ_WRITE, delete, listed, operation, write

OPS = ["key", "Shard", "Outcome", "ResumePoint"]


def note(kind, *rows, columns=("id", "number")):
    return write(kind, "Notes", columns, *rows)


def op(kind, name, *columns, key=False, **fields):
    names = [*(["key"] if key else []), "Operation", *[column for column, _ in columns]]
    values = [*([name] if key else []), operation(name, **fields), *[value for _, value in columns]]
    return write(kind, "Ops", names, values)


def test_an_insert_computes_defaults_and_generated_columns(spanner):
    spanner.apply(op("insert", "operations/a", ("ResumePoint", "")), note("insert", ["a", 1]))
    assert spanner.rows("Ops", OPS, "operations/a") == [["operations/a", "e", "0", ""]]
    [[made]] = spanner.rows("Notes", ["made"], "a")
    assert made.endswith("Z")


def test_generated_columns_follow_their_sources(spanner):
    spanner.apply(op("insert", "operations/a"))
    spanner.apply(op("update", "operations/a", key=True, done=True))
    assert spanner.rows("Ops", OPS, "operations/a") == [["operations/a", "e", "1", None]]
    spanner.apply(op("insert_or_update", "operations/a", done=True, error={"code": 5}))
    assert spanner.rows("Ops", OPS, "operations/a") == [["operations/a", "e", "2", None]]


def test_an_update_leaves_other_columns_alone(spanner):
    spanner.apply(op("insert", "operations/a", ("ResumePoint", "r"), ("State", b"s")))
    spanner.apply(write("update", "Ops", ["key", "State"], ["operations/a", b"t"]))
    [[resume_point, state]] = spanner.rows("Ops", ["ResumePoint", "State"], "operations/a")
    assert (resume_point, base64.b64decode(state)) == ("r", b"t")


def test_insert_or_update_does_either(spanner):
    spanner.apply(op("insert_or_update", "operations/a", ("ResumePoint", "first")))
    spanner.apply(op("insert_or_update", "operations/a", ("State", b"s")))
    assert spanner.rows("Ops", ["ResumePoint"], "operations/a") == [["first"]]


def test_a_delete_needs_no_row(spanner):
    spanner.apply(note("insert", ["a", 1], ["b", 2], ["c", 3]))
    spanner.apply(delete("Notes", "a", "nowhere"))
    assert spanner.all("Notes", "id") == [["b"], ["c"]]


def test_mutations_are_applied_in_their_order(spanner):
    spanner.apply(note("insert", ["a", 1]), note("update", ["a", 2]), delete("Notes", "a"), note("insert", ["a", 3]))
    assert spanner.rows("Notes", ["number"], "a") == [["3"]]


def test_a_refused_mutation_takes_the_whole_commit_with_it(spanner, refused):
    with refused(errors.NotFound, "Row .b. in table Notes is missing. Row cannot be updated."):
        spanner.apply(note("insert", ["a", 1]), note("update", ["b", 1]))
    assert spanner.rows("Notes", ["id"], "a", "b") == []


def test_tables_and_columns_are_found_in_any_case(spanner):
    spanner.apply(write("insert", "ops", ["operation"], [operation("operations/a")]))
    assert spanner.rows("OPS", ["Key"], "operations/a") == [["operations/a"]]


def test_null_is_stored_and_read(spanner):
    spanner.apply(note("insert", ["a", 1, None, None], columns=["id", "number", "flag", "data"]))
    assert spanner.rows("Notes", ["flag", "data"], "a") == [[None, None]]


REFUSED = {
    "a duplicate": (note("insert", ["here", 1]), errors.AlreadyExists, "Row .here. in table Notes already exists"),
    "a duplicate in one commit": (note("insert", ["a", 1], ["a", 2]), errors.AlreadyExists, "Row .a. in table Notes"),
    "an update of nothing": (note("update", ["a", 1]), errors.NotFound, "Row .a. in table Notes is missing"),
    "an unknown table": (write("insert", "Nope", ["id"], ["a"]), errors.NotFound, "Table not found: Nope"),
    "an unknown column": (
        note("insert", ["a", 1, 1], columns=["id", "number", "nope"]),
        errors.NotFound,
        "Column not found in table Notes: nope",
    ),
    "a column twice": (
        note("insert", ["a", 1, 1], columns=["id", "number", "number"]),
        errors.InvalidArgument,
        "Multiple values for column number",
    ),
    "too few values": (
        note("insert", ["a"], columns=["id", "number"]),
        errors.InvalidArgument,
        "Mutation column and value size mismatch: Found: 2 columns and 1 values",
    ),
    "a bool for an INT64": (
        note("insert", ["a", True]),
        errors.FailedPrecondition,
        "Invalid value for column number in table Notes",
    ),
    "text for an INT64": (note("insert", ["a", "one"]), errors.FailedPrecondition, "Invalid value for column number"),
    "a fraction for an INT64": (note("insert", ["a", 1.5]), errors.FailedPrecondition, "Invalid value for column"),
    "a number for a STRING": (note("insert", [1.5, 1]), errors.FailedPrecondition, "Invalid value for column id"),
    "no base64": (
        note("insert", ["a", 1, "??"], columns=["id", "number", "data"]),
        errors.FailedPrecondition,
        "Invalid value for column data",
    ),
    "no timestamp": (
        note("insert", ["a", 1, "yesterday"], columns=["id", "number", "stamp"]),
        errors.FailedPrecondition,
        "Invalid value for column stamp",
    ),
    "NULL in NOT NULL": (
        note("insert", ["a", None]),
        errors.FailedPrecondition,
        "number must not be NULL in table Notes",
    ),
    "NULL in NOT NULL by update": (
        note("update", ["here", None]),
        errors.FailedPrecondition,
        "number must not be NULL in table Notes",
    ),
    "a NULL key": (note("insert", [None, 1]), errors.FailedPrecondition, "id must not be NULL in table Notes"),
    "no value for NOT NULL": (
        note("insert", ["a"], columns=["id"]),
        errors.FailedPrecondition,
        "does not specify a non-null value for these NOT NULL columns: number",
    ),
    "no value for NOT NULL of a row that is there": (
        note("insert_or_update", ["here"], columns=["id"]),
        errors.FailedPrecondition,
        "does not specify a non-null value for these NOT NULL columns: number",
    ),
    "no key": (note("update", [1], columns=["number"]), errors.FailedPrecondition, "id must not be NULL"),
    "a text too long": (
        note("insert", ["a" * 11, 1]),
        errors.FailedPrecondition,
        "New value exceeds the maximum size limit for this column: Notes.id, size: 11, limit: 10.",
    ),
    "bytes too long": (
        note("insert", ["a", 1, b"123456"], columns=["id", "number", "data"]),
        errors.FailedPrecondition,
        "New value exceeds the maximum size limit for this column: Notes.data, size: 6, limit: 5.",
    ),
    "a value for a generated column": (
        op("insert", "operations/a", ("Shard", "0")),
        errors.FailedPrecondition,
        "Cannot write into generated column `Ops.Shard`.",
    ),
    "a value for a generated column by update": (
        op("update", "operations/here", ("Shard", "0"), key=True),
        errors.FailedPrecondition,
        "Cannot write into generated column `Ops.Shard`.",
    ),
    "a value for a generated key by insert": (
        op("insert", "operations/a", key=True),
        errors.FailedPrecondition,
        "Cannot write into generated column `Ops.key`.",
    ),
    "a value for a generated key by insert_or_update": (
        op("insert_or_update", "operations/here", key=True),
        errors.FailedPrecondition,
        "Cannot write into generated column `Ops.key`.",
    ),
    "another key": (
        write("update", "Ops", ["key", "Operation"], ["operations/here", operation("operations/there")]),
        errors.OutOfRange,
        "The value of generated primary key column `Ops.key` cannot be modified",
    ),
    "an update without the key's source": (
        write("update", "Ops", ["State"], [b""]),
        errors.FailedPrecondition,
        "must be explicitly specified or else its non-key dependent columns must be specified",
    ),
    "a row deletion of the wrong key type": (delete("Notes", True), errors.FailedPrecondition, "key part id"),
    "a key of too many parts": (
        types.Mutation(delete=types.Mutation.Delete(table="Notes", key_set=types.KeySet(keys=[listed("a", "b")]))),
        errors.FailedPrecondition,
        "Wrong number of key parts for Notes. Expected 1 key parts, found 2 key parts.",
    ),
    "an empty mutation": (types.Mutation(), errors.InvalidArgument, "Mutation.operation"),
    "a key over 8 KiB": (
        op("insert", f"operations/{'x' * 8200}"),
        errors.InvalidArgument,
        "Number of bytes for key of table Ops is 8211 which exceeds the maximum of 8192.",
    ),
    "a cell over 10 MiB": (
        op("insert", "operations/a", ("State", b"x" * (10 * 1024 * 1024 + 1))),
        errors.FailedPrecondition,
        "New value exceeds the maximum size limit for this column: Ops.State, size: 10485761, limit: 10485760.",
    ),
    "a text over 2,621,440 characters": (
        op("insert", "operations/a", ("ResumePoint", "x" * 2_621_441)),
        errors.FailedPrecondition,
        "New value exceeds the maximum size limit for this column: Ops.ResumePoint, size: 2621441, limit: 2621440.",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_spanner_refuses(spanner, refused, case):
    """With the service's code, and nothing is written."""
    mutation, error, words = REFUSED[case]
    spanner.apply(op("insert", "operations/here"))
    spanner.apply(note("insert", ["here", 1, b"data"], columns=["id", "number", "data"]))
    before = everything(spanner)
    with refused(error, words):
        spanner.apply(mutation)
    assert everything(spanner) == before


def everything(spanner):
    return spanner.all("Ops", *OPS), spanner.all("Notes", "id", "number", "data")


def test_commit_timestamps_rise_in_whole_microseconds(spanner):
    stamps = [spanner.apply(note("insert", [f"n{number}", number])).commit_timestamp for number in range(20)]
    assert all(stamp.nanosecond % 1000 == 0 for stamp in stamps)
    assert stamps == sorted(set(stamps))


@pytest.mark.slow
@pytest.mark.not_on_emulator("it does not enforce this limit")
def test_more_than_80000_mutations_are_refused(spanner):
    rows = [[f"{number}", number] for number in range(26_666)]
    spanner.apply(note("insert", *rows))  # two cells and an index entry each
    with pytest.raises(errors.InvalidArgument, match=r"too many mutations.*Maximum number: 80000"):
        spanner.apply(note("insert", *[[f"x{number}", number] for number in range(26_667)]))
    assert len(spanner.all("Notes", "id")) == 26_666


def test_a_single_use_commit_is_not_protected_against_replay(spanner, refused):
    request = types.CommitRequest(
        session=spanner.session, single_use_transaction=READ_WRITE, mutations=[note("insert", ["a", 1])]
    )
    spanner.client.commit(request=request, retry=None, timeout=10)
    with refused(errors.AlreadyExists, "already exists"):
        spanner.client.commit(request=request, retry=None, timeout=10)


def test_a_corrupted_message_in_a_generated_column_is_out_of_range(spanner, refused):
    with refused(errors.OutOfRange, "orrupted"):
        spanner.apply(write("insert", "Ops", ["Operation"], [b"\x0a\x05ab"]))
