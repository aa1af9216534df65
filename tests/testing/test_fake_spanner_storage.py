"""Keys sort as their values do, and an index finds what reading every row would."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lro_aio.testing.spanner.ddl import CreateIndex, parse_statement
from lro_aio.testing.spanner.faults import Faults
from lro_aio.testing.spanner.keys import encode_part, successor
from lro_aio.testing.spanner.messages import PartialResultSet, ResultSet
from lro_aio.testing.spanner.select import KeyRange
from lro_aio.testing.spanner.storage import Row, Table
from lro_aio.testing.spanner.values import Type
from lro_aio.testing.spanner.wire import cell, head, partial_sets, result_set

KINDS = [
    st.text(max_size=4),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-62_135_596_800 * 10**9, 253_402_300_800 * 10**9),  # timestamps
]
TABLE = "CREATE TABLE T (id INT64, a STRING(MAX), b INT64) PRIMARY KEY (id)"
INDEXES = [
    "CREATE INDEX I ON T (a, b)",
    "CREATE INDEX I ON T (a, b DESC)",
    "CREATE NULL_FILTERED INDEX I ON T (a, b DESC)",
]
ROWS = st.lists(
    st.tuples(st.sampled_from(["", "a", "a\x00", "ab", None]), st.one_of(st.none(), st.integers(-3, 3))), max_size=25
)
BOUND = st.one_of(st.none(), st.integers(-4, 4))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("descending", [False, True])
def test_encoded_values_sort_like_the_values(kind, descending):
    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.one_of(st.none(), kind), min_size=2, max_size=6))
    def check(values):
        by_value = sorted(values, key=lambda value: (value is not None, value if value is not None else 0))
        expected = by_value[::-1] if descending else by_value
        found = sorted(values, key=lambda value: encode_part(value, descending=descending))
        assert found == expected

    check()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(max_size=3), min_size=2, max_size=2), st.lists(st.text(max_size=3), min_size=2, max_size=2))
def test_keys_of_several_parts_sort_part_by_part(one, other):
    def encode(parts):
        return b"".join(encode_part(part) for part in parts)

    assert (encode(one) < encode(other)) == (one < other)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=3), st.binary(max_size=4))
def test_the_successor_ends_what_begins_with_a_prefix(prefix, key):
    after = successor(prefix)
    begins = key.startswith(prefix)
    assert begins == (key >= prefix and (after is None or key < after))


@pytest.mark.parametrize("value", [True, b"a", [1]])
def test_what_no_key_of_the_table_has_is_refused(value):
    with pytest.raises(TypeError, match=f"no keys of the type {type(value).__name__}"):
        encode_part(value)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    statement=st.sampled_from(INDEXES),
    rows=ROWS,
    equal=st.sampled_from(["", "a", "a\x00"]),
    low=BOUND,
    high=BOUND,
    low_open=st.booleans(),
    high_open=st.booleans(),
    data=st.data(),
)
def test_a_scan_finds_what_reading_every_row_finds(statement, rows, equal, low, high, low_open, high_open, data):
    """Also after rows were changed and deleted through the index."""
    table = Table(parse_statement(TABLE), None)
    declared = parse_statement(statement)
    assert isinstance(declared, CreateIndex)
    index = table.add_index(declared)
    for number, (a, b) in enumerate(rows):
        put(table, number, a, b)
    for number in data.draw(st.lists(st.integers(0, max(0, len(rows) - 1)), max_size=6)):
        a, b = data.draw(st.tuples(st.sampled_from(["", "a", None]), st.one_of(st.none(), st.integers(-3, 3))))
        put(table, number, a, b) if data.draw(st.booleans()) else table.put(table.primary.prefix([number]), None)
    column = index.parts[1].column
    span = None if low is None and high is None else KeyRange(column, low, low_open, high, high_open)
    found = [row.values for row in index.scan({"a": equal}, span)]
    there = [row.values for row in table.rows.values() if index.entry(row.values) is not None]
    expected = [row for row in there if row["a"] == equal and within(row[column], span)]
    assert sorted(found, key=lambda row: row["id"]) == sorted(expected, key=lambda row: row["id"])
    assert found == sorted(found, key=index.entry)


def put(table, number, a, b):
    key = table.primary.prefix([number])
    table.put(key, Row(key, {"id": number, "a": a, "b": b}))


def within(value, span):
    if span is None:
        return True
    if value is None:
        return False
    above = span.low is None or (value > span.low if span.low_open else value >= span.low)
    below = span.high is None or (value < span.high if span.high_open else value <= span.high)
    return above and below


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.one_of(st.none(), st.text(max_size=300)), st.integers(-5, 5)), max_size=10))
def test_results_put_together_from_bytes_are_what_the_classes_read(rows):
    types = [Type("STRING"), Type("INT64")]
    cells = [[cell(type_, value) for type_, value in zip(types, row, strict=True)] for row in rows]
    whole = ResultSet.FromString(result_set(head(["a", "b"], types, partial=False), cells))
    texts = [[None if a is None else a, str(b)] for a, b in rows]
    assert [field.name for field in whole.metadata.row_type.fields] == ["a", "b"]
    assert [[plain(value) for value in row.values] for row in whole.rows] == texts
    parts = [PartialResultSet.FromString(part) for part in partial_sets(head(["a"], types[:1], partial=True), cells)]
    assert [plain(value) for part in parts for value in part.values] == [text for row in texts for text in row]


def plain(value):
    return None if value.WhichOneof("kind") == "null_value" else value.string_value


def test_random_faults_are_spread_over_what_a_call_can_show():
    faults = Faults()
    faults.randomly(1.0, 5)
    drawn = {faults.draw("CreateSession", transactional=False) for _ in range(200)}
    assert not any(fault.session_lost or fault.code.name == "ABORTED" for fault in drawn)
    assert len(drawn) == 4
    drawn = {faults.draw("Commit", transactional=True) for _ in range(200)}
    assert len(drawn) == 6
