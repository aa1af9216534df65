"""Rows that lie in the rows of another table, and go with them. Runs against the official emulator as well."""

import pytest
from google.api_core import exceptions as errors

from .spanner_calls import delete, operation, write

PARTS = (
    "CREATE TABLE Ops_Parts (key STRING(MAX) NOT NULL, part INT64 NOT NULL, text STRING(MAX)) PRIMARY KEY (key, part),"
    " INTERLEAVE IN PARENT Ops ON DELETE CASCADE"
)


@pytest.fixture
def parts(spanner):
    """A table in one whose key is generated."""
    spanner.ddl(PARTS)
    return spanner


def op(name):
    return write("insert", "Ops", ["Operation"], [operation(name)])


def part(name, *numbers):
    return write("insert", "Ops_Parts", ["key", "part", "text"], *([name, number, "x"] for number in numbers))


def numbers(spanner):
    rows = spanner.sql("SELECT key, part FROM Ops_Parts WHERE key IS NOT NULL ORDER BY key, part")
    return [(key, int(number)) for key, number in rows]


def test_a_row_needs_its_parent(parts, refused):
    with refused(errors.NotFound, r"Parent row \[operations/a\] in table Ops is missing"):
        parts.apply(part("operations/a", 1))
    parts.apply(op("operations/a"), part("operations/a", 1))
    parts.apply(part("operations/a", 2))
    assert numbers(parts) == [("operations/a", 1), ("operations/a", 2)]


def test_a_row_that_is_there_is_not_inserted_again(parts):
    parts.apply(op("operations/a"), part("operations/a", 1))
    with pytest.raises(errors.AlreadyExists):
        parts.apply(part("operations/a", 1))


def test_a_delete_takes_the_rows_below_and_no_others(parts):
    names = ["operations/a", "operations/a2", "operations/b"]
    parts.apply(*map(op, names), *(part(name, 1, 2) for name in names))
    parts.apply(delete("Ops", "operations/a"))
    assert {name for name, _ in numbers(parts)} == set(names[1:])
    parts.apply(op("operations/a"))
    assert {name for name, _ in numbers(parts)} == set(names[1:])


def test_deleted_and_made_again_in_one_commit(parts):
    parts.apply(op("operations/a"), part("operations/a", 1, 2))
    parts.apply(part("operations/a", 3), delete("Ops", "operations/a"), op("operations/a"), part("operations/a", 4))
    assert numbers(parts) == [("operations/a", 4)]


def test_a_parent_that_goes_in_the_same_commit_takes_no_more_rows(parts, refused):
    parts.apply(op("operations/a"))
    with refused(errors.NotFound, "Parent row"):
        parts.apply(delete("Ops", "operations/a"), part("operations/a", 1))


def test_a_table_with_others_in_it_is_not_dropped(parts, refused):
    with refused(errors.FailedPrecondition, "Cannot drop table Ops with interleaved tables: Ops_Parts"):
        parts.ddl("DROP TABLE Ops")
    parts.ddl("DROP TABLE Ops_Parts")


def test_the_schema_shows_the_parent(parts):
    rows = parts.sql(
        "SELECT TABLE_NAME, PARENT_TABLE_NAME, ON_DELETE_ACTION FROM INFORMATION_SCHEMA.TABLES"
        " WHERE TABLE_SCHEMA = '' ORDER BY TABLE_NAME"
    )
    assert {name: (parent or "", action or "") for name, parent, action in rows} == {
        "Notes": ("", ""),
        "Ops": ("", ""),
        "Ops_Parts": ("Ops", "CASCADE"),
    }


def test_a_row_deletion_policy_takes_the_rows_below(fake, connect):
    spanner = connect()
    spanner.ddl(PARTS)
    expiring = write("insert", "Ops", ["Operation", "ExpireTime"], [operation("operations/a"), "2020-01-01T00:00:00Z"])
    spanner.apply(expiring, op("operations/b"), part("operations/a", 1), part("operations/b", 1))
    assert fake.expire_rows() == 1
    assert numbers(spanner) == [("operations/b", 1)]
