"""What the fake says of the work behind its answers: the promises of ``FakeSpanner.work``."""

import pytest

from lro_aio.testing import FakeSpanner

TABLE = """CREATE TABLE Jobs (
  id STRING(MAX) NOT NULL, Shard STRING(MAX), Due INT64, Owner STRING(MAX), Text STRING(MAX)
) PRIMARY KEY (id)"""
CHILD = """CREATE TABLE Jobs_Steps (id STRING(MAX) NOT NULL, step INT64 NOT NULL) PRIMARY KEY (id, step),
  INTERLEAVE IN PARENT Jobs ON DELETE CASCADE"""
INDEX = "CREATE NULL_FILTERED INDEX ByDue ON Jobs (Shard, Due) STORING (Owner)"
SCAN = "SELECT {} FROM Jobs@{{FORCE_INDEX=ByDue}} WHERE Shard = 's' AND Due IS NOT NULL{} ORDER BY Due LIMIT {}"


@pytest.fixture
def fake():
    with FakeSpanner(variant=None) as fake:
        fake.execute_ddl(TABLE, CHILD, INDEX)
        yield fake


def put(fake, *jobs):
    fake.write("Jobs", "insert_or_update", ["id", "Shard", "Due", "Owner", "Text"], jobs)


def work(fake, action):
    fake.work.clear()
    action()
    return {name: count for name, count in fake.work.items() if count and name != "bytes"}


def test_a_commit_tells_what_it_writes_and_how_many_must_agree_to_it(fake):
    counted = work(fake, lambda: put(fake, ["a", "s", 1, "", ""], ["b", "s", 2, "", ""], ["c", "s", None, "", ""]))
    assert counted == {"commits": 1, "columns_written": 15, "entries_written": 2, "participants": 4}


def test_an_entry_that_moves_is_removed_and_written(fake):
    put(fake, ["a", "s", 1, "", ""])
    counted = work(fake, lambda: fake.write("Jobs", "update", ["id", "Due"], [["a", 2]]))
    assert counted == {
        "commits": 1,
        "columns_written": 2,
        "entries_written": 1,
        "entries_deleted": 1,
        "participants": 2,
    }


def test_a_stored_column_is_written_to_the_index_too_and_another_is_not(fake):
    put(fake, ["a", "s", 1, "", ""])
    assert work(fake, lambda: fake.write("Jobs", "update", ["id", "Owner"], [["a", "me"]]))["entries_written"] == 1
    assert "entries_written" not in work(fake, lambda: fake.write("Jobs", "update", ["id", "Text"], [["a", "t"]]))


def test_what_is_interleaved_lies_with_its_row(fake):
    put(fake, ["a", "s", None, "", ""])
    write = lambda: fake.write("Jobs_Steps", "insert", ["id", "step"], [["a", 1], ["a", 2]])  # noqa: E731
    assert work(fake, write) == {"commits": 1, "columns_written": 4, "participants": 1}
    gone = work(fake, lambda: fake.write("Jobs", "delete", ["id"], [["a"]]))
    assert gone == {"commits": 1, "columns_written": 1, "participants": 1}


def test_a_query_looks_up_what_its_index_has_not(fake, connect):
    spanner = connect()
    put(fake, *([f"{number}", "s", number, "", ""] for number in range(5)))
    sql = SCAN.format
    assert work(fake, lambda: spanner.sql(sql("id, Due, Owner", "", 3))) == {"entries_read": 3}
    assert work(fake, lambda: spanner.sql(sql("id, Text", "", 3))) == {"entries_read": 3, "rows_looked_up": 3}
    filtered = sql("id", " AND Text = 't'", 3)
    assert work(fake, lambda: spanner.sql(filtered)) == {"entries_read": 5, "rows_looked_up": 5}
    fake.execute_ddl("ALTER INDEX ByDue ADD STORED COLUMN Text")
    assert work(fake, lambda: spanner.sql(filtered)) == {"entries_read": 5}


def test_a_query_passes_what_was_removed_before_and_seeks_past_it_where_it_says_so(fake, connect):
    spanner = connect()
    put(fake, *([f"{number}", "s", number, "", ""] for number in range(10)))
    fake.write("Jobs", "update", ["id", "Due"], [[f"{number}", None] for number in range(8)])
    sql = SCAN.format
    assert work(fake, lambda: spanner.sql(sql("id", "", 1))) == {"entries_read": 1, "removed_entries_passed": 8}
    assert work(fake, lambda: spanner.sql(sql("id", " AND Due >= 6", 5))) == {
        "entries_read": 2,
        "removed_entries_passed": 2,
    }
    put(fake, ["3", "s", 3, "", ""])  # back under its old key
    assert work(fake, lambda: spanner.sql(sql("id", "", 1))) == {"entries_read": 1, "removed_entries_passed": 3}


def test_what_is_refused_counts_as_nothing_but_bytes(fake, connect):
    spanner = connect()
    fake.work.clear()
    with pytest.raises(Exception, match="not found"):
        spanner.sql("SELECT id FROM Nowhere")
    assert not fake.work.keys() - {"bytes"}


def test_bytes_are_those_of_requests_and_answers(fake, connect):
    spanner = connect()
    put(fake, ["a", "s", 1, "", "x" * 1000])
    fake.work.clear()
    spanner.rows("Jobs", ["Text"], "a")
    assert 1000 < fake.work["bytes"] < 1400
