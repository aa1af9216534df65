"""The queries of the Spanner that is for tests: right answers, from no more rows than the conditions and LIMIT need."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from google.protobuf.descriptor_pool import Default, DescriptorPool
from hypothesis import given, settings
from hypothesis import strategies as st

from lro_aio.testing.spanner.select import EvaluationError, KeyRange, Result, parse_select
from lro_aio.testing.spanner.values import BOOL, INT64, STRING, TIMESTAMP, Type, array

Row = Mapping[str, Any]
COLUMNS = {"key": STRING, "Shard": STRING, "Due": TIMESTAMP, "Outcome": INT64, "Owner": STRING, "Ready": BOOL}
KEY = ("key", False)
ORDERS = {
    None: (KEY,),
    "T_Due": (("Shard", False), ("Due", False), KEY),
    "T_Up": (("Outcome", False), KEY),
    "T_Down": (("Outcome", True), KEY),
    "T_Newest": (("Shard", False), ("Outcome", False), ("Due", True), KEY),
}
STRINGS = array(STRING)


def row(number: int, **columns: Any) -> Row:
    columns = {"Shard": "ab"[number % 2], "Due": number, "Outcome": number % 3, "Owner": None, "Ready": True} | columns
    return {"key": f"operations/{number:03}"} | columns


class Rows:
    """A table, an index that leaves out NULLs, and one that does not; counts what is read of them."""

    def __init__(self, *rows: Row) -> None:
        self.rows = rows
        self.scans: list[tuple[str | None, dict[str, Any], KeyRange | None]] = []
        self.read = 0

    @property
    def messages(self) -> DescriptorPool | None:
        return Default()

    def columns(self, table: str) -> Mapping[str, Type]:
        return {"T": COLUMNS, "INFORMATION_SCHEMA.TABLES": {"TABLE_NAME": STRING}}[table]

    def order(self, table: str, index: str | None) -> Sequence[tuple[str, bool]]:
        return ORDERS[index] if table == "T" else ()

    def left_out(self, table: str, index: str) -> list[str]:
        return [column for column, _ in ORDERS[index] if column != "key"] if index == "T_Due" else []

    def scan(self, table: str, index: str | None, equal: Mapping[str, Any], span: KeyRange | None) -> Iterator[Row]:
        self.scans.append((index, dict(equal), span))
        if table != "T":
            yield {"TABLE_NAME": "T"}
            return
        order = ORDERS[index]
        assert [column for column, _ in order[: len(equal)]] == list(equal), "equal is not the beginning of the order"
        assert span is None or span.column == order[len(equal)][0], "span is not the column after it"
        assert None not in equal.values()
        found = [item for item in self.rows if all(item[column] == value for column, value in equal.items())]
        if index == "T_Due":
            found = [item for item in found if item["Shard"] is not None and item["Due"] is not None]
        for column, descending in reversed(order):
            found.sort(key=lambda item: (item[column] is not None, item[column]), reverse=descending)
        for item in found:
            if span is None or within(span, item[span.column]):
                self.read += 1
                yield item


def within(span: KeyRange, value: Any) -> bool:
    if value is None:
        return False
    above = span.low is None or value > span.low or (value == span.low and not span.low_open)
    return above and (span.high is None or value < span.high or (value == span.high and not span.high_open))


def run(sql: str, source: Rows | None = None, **params: tuple[Type | None, Any]) -> Result:
    return parse_select(sql).run(source or Rows(*map(row, range(6))), params, 0)


def rows(sql: str, source: Rows | None = None, **params: tuple[Type | None, Any]) -> list[tuple[Any, ...]]:
    return run(sql, source, **params).rows


def keys(sql: str, source: Rows | None = None, **params: tuple[Type | None, Any]) -> list[int]:
    return [int(item[0].removeprefix("operations/")) for item in rows(sql, source, **params)]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT 1, 'a';", [(1, "a")]),
        ("SELECT 1 LIMIT 0", []),
        ("SELECT key, FROM T LIMIT 1", [("operations/000",)]),
        ("SELECT Outcome FROM T WHERE key = 'operations/004'", [(1,)]),
        ("SELECT Due FROM T ORDER BY Due DESC LIMIT 2 OFFSET 1", [(4,), (3,)]),
        ("SELECT Outcome AS o, Due FROM T WHERE Due > 3 ORDER BY o DESC, 2", [(2, 5), (1, 4)]),
        ("SELECT s, o FROM UNNEST(['a', 'b']) AS s, UNNEST([1, 2]) o WHERE o = 2", [("a", 2), ("b", 2)]),
        ("SELECT s FROM UNNEST([3, 1, NULL, 2]) AS s ORDER BY s", [(None,), (1,), (2,), (3,)]),
        ("SELECT s FROM UNNEST([3, 1, NULL, 2]) AS s ORDER BY s DESC", [(3,), (2,), (1,), (None,)]),
        ("SELECT s FROM UNNEST([TRUE, FALSE, NULL]) AS s WHERE NOT s", [(False,)]),
        ("SELECT t FROM UNNEST([1]) AS s, UNNEST([s, 2]) AS t WHERE t = s", [(1,)]),
        ("SELECT x, r.y FROM UNNEST(ARRAY(SELECT AS STRUCT 1 AS x, 'a' AS y)) AS r", [(1, "a")]),
        ("SELECT * FROM UNNEST(ARRAY(SELECT AS STRUCT 1 AS x, 'a' AS y))", [(1, "a")]),
        ("SELECT COUNT(*), COUNT(Owner), MIN(Due), MAX(key) FROM T", [(6, 0, 0, "operations/005")]),
        ("SELECT COUNT(*), MIN(Due) FROM T WHERE Due > 9", [(0, None)]),
        (
            "SELECT (SELECT MAX(Due) FROM T), (SELECT key FROM T WHERE Due > 9), EXISTS(SELECT 1 FROM T)",
            [(5, None, True)],
        ),
        ("SELECT ARRAY(SELECT Due FROM T WHERE Outcome = 2 ORDER BY Due DESC)", [([5, 2],)]),
        ("SELECT a.Due, b.Due FROM T a, T b WHERE a.Due < b.Due AND b.Due < 3 ORDER BY 1, 2", [(0, 1), (0, 2), (1, 2)]),
        ("SELECT a.Due FROM T a, T b WHERE a.key = b.key AND b.Outcome = 1 ORDER BY 1", [(1,), (4,)]),
        ("SELECT Due FROM T WHERE key = key AND key > Shard LIMIT 1", [(0,)]),
        ("SELECT a.Due FROM T AS a WHERE (SELECT COUNT(*) FROM T b WHERE b.Due < a.Due) = 2", [(2,)]),
        ("SELECT z FROM UNNEST(['a', 'b']) z WHERE EXISTS(SELECT 1 FROM UNNEST(['b']) y WHERE y = z)", [("b",)]),
        ("SELECT Due FROM T WHERE 3 IN (SELECT Due FROM T) AND Due NOT IN (SELECT Due FROM T WHERE Due > 0)", [(0,)]),
    ],
)
def test_answers(sql: str, expected: list[tuple[Any, ...]]) -> None:
    """A whole number stands in the place of the time, since literals can be compared with it."""
    assert rows(sql.replace("Due", "Number"), Numbered()) == expected


class Numbered(Rows):
    """The same, with the number of each row as a column."""

    def __init__(self) -> None:
        super().__init__(*({**row(number), "Number": number} for number in range(6)))

    def columns(self, table: str) -> Mapping[str, Type]:
        return {**super().columns(table), "Number": INT64}


def test_the_answer_names_its_columns_and_knows_their_types_without_rows() -> None:
    result = run("SELECT KEY, r.due, Outcome AS o, Due IS NULL, NULL, [key] FROM T AS r WHERE FALSE")
    assert result.names == ("KEY", "due", "o", "", "", "")
    assert result.types == (STRING, TIMESTAMP, INT64, BOOL, INT64, array(STRING))
    assert run("SELECT * FROM T").names == tuple(COLUMNS)
    assert run("SELECT T.*, r FROM T, UNNEST([1]) AS r").names == (*COLUMNS, "r")
    struct = Type("STRUCT", fields=(("key", STRING), ("n", INT64)))
    assert run("SELECT ARRAY(SELECT AS STRUCT key, 1 AS n FROM T WHERE FALSE)").types == (array(struct),)


def test_a_table_of_the_information_schema_is_read_like_any_other() -> None:
    assert rows("SELECT t.TABLE_NAME FROM INFORMATION_SCHEMA.TABLES AS t WHERE TABLE_NAME = 'T'") == [("T",)]


def test_parameters_are_found_whatever_their_case_and_stand_for_their_values() -> None:
    assert rows("SELECT @A, @b IS NULL", a=(STRING, "x"), B=(INT64, None)) == [("x", True)]
    assert keys("SELECT key FROM T WHERE key IN UNNEST(@k)", k=(STRINGS, ["operations/004", None])) == [4]
    assert keys("SELECT key FROM T ORDER BY key LIMIT @n OFFSET @n", n=(INT64, 2)) == [2, 3]


def test_a_text_parameter_stands_for_a_timestamp_beside_a_column() -> None:
    assert keys("SELECT key FROM T WHERE Due > @t", t=(STRING, "1970-01-01T00:00:00.000000004Z")) == [5]
    with pytest.raises(ValueError, match="TIMESTAMP, STRING"):
        rows("SELECT @t = @s", t=(TIMESTAMP, 1), s=(STRING, "1970-01-01T00:00:00Z"))


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT nope FROM T", "Unrecognized name: nope"),
        ("SELECT T.nope FROM T", "Name nope not found inside T"),
        ("SELECT T.key FROM T AS r", "Unrecognized name: T"),
        ("SELECT 1 FROM Nope", "Table not found: Nope"),
        ("SELECT 1 FROM T@{FORCE_INDEX=Nope}", "does not have a secondary index called Nope"),
        ("SELECT 1 FROM T@{GROUPBY_SCAN_OPTIMIZATION=true}", "Unsupported hint"),
        ("@{nope=true} SELECT 1", "Unsupported hint: nope"),
        ("SELECT key FROM T a, T b", "Column name key is ambiguous"),
        ("SELECT 1 FROM T a, T A", "Duplicate table alias"),
        ("SELECT T FROM T", "its row is no value"),
        ("SELECT 1 FROM T WHERE 1", "WHERE clause should return type BOOL, but returns INT64"),
        ("SELECT 1 FROM T WHERE COUNT(*) > 1", "not allowed here"),
        ("SELECT COUNT(*), key FROM T", "neither grouped nor aggregated"),
        ("SELECT COUNT(*)", "An aggregate function needs FROM"),
        ("SELECT *", "must have a FROM clause"),
        ("SELECT s.* FROM UNNEST([1]) s", "Dot-star is not supported"),
        ("SELECT s FROM UNNEST('a') AS s", "must be arrays"),
        ("SELECT s.x FROM UNNEST(['a']) AS s", "Cannot access field x"),
        ("SELECT r.z FROM UNNEST(ARRAY(SELECT AS STRUCT 1 AS x)) r", "Field name z does not exist in STRUCT<x INT64>"),
        ("SELECT r FROM UNNEST(ARRAY(SELECT AS STRUCT 1 AS x)) r", "struct value cannot be returned"),
        ("SELECT AS STRUCT 1 AS x", "struct value cannot be returned"),
        ("SELECT ARRAY(SELECT key, Due FROM T)", "more than one column"),
        ("SELECT (SELECT key, Due FROM T)", "more than one column"),
        ("SELECT ARRAY(SELECT AS STRUCT 1, 2 AS x)", "a name of its own"),
        ("SELECT 1 IN (SELECT key FROM T)", "operator IN for argument types INT64"),
        ("SELECT key FROM T ORDER BY 2", "out of SELECT column number range"),
        ("SELECT key FROM T ORDER BY 'a'", "Cannot ORDER BY literal"),
        ("SELECT key AS k, Due AS k FROM T ORDER BY k", "Column name k is ambiguous"),
        ("SELECT [1] AS a FROM T ORDER BY a", "ORDER BY does not support expressions of type ARRAY<INT64>"),
        ("SELECT key FROM T LIMIT @s", "LIMIT expects an integer"),
        ("SELECT @nope", "Incomplete query parameters nope"),
        ("SELECT @untyped", "needs a type"),
        ("SELECT key FROM T LIMIT 1 + 1", "at 1:27"),
        ("SELECT key FROM T LIMIT -1", "at 1:25"),
        ("SELECT 1 SELECT 2", "Expected end of input but got SELECT .at 1:10"),
        ("SELECT", "end of statement .at 1:7"),
        ("SELECT 1 WHERE TRUE", "at 1:10"),
        ("SELECT key FROM T JOIN T AS b ON TRUE", "JOIN"),
        ("SELECT key FROM T LEFT JOIN T AS b ON TRUE", "LEFT"),
        ("SELECT DISTINCT key FROM T", "DISTINCT"),
        ("SELECT Shard, COUNT(*) FROM T GROUP BY Shard", "GROUP"),
        ("SELECT 1 UNION ALL SELECT 2", "UNION"),
        ("WITH a AS (SELECT 1) SELECT 1 FROM a", "WITH"),
        ("SELECT x FROM (SELECT 1 AS x)", r"Expected a name but got \("),
        ("INSERT INTO T (key) VALUES ('a')", "Expected 'SELECT'"),
        ("DELETE FROM T WHERE TRUE", "Expected 'SELECT'"),
    ],
)
def test_what_is_wrong_or_not_in_the_dialect_is_refused(sql: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        run(sql, s=(STRING, "x"), untyped=(None, "x"))
    assert not isinstance(raised.value, EvaluationError)


@pytest.mark.parametrize("limit", [None, -1])
def test_a_limit_that_is_none_is_an_error_of_evaluation(limit: int | None) -> None:
    with pytest.raises(EvaluationError, match="non-negative"):
        rows("SELECT key FROM T LIMIT @n", n=(INT64, limit))


def test_a_query_for_one_value_may_not_find_two() -> None:
    with pytest.raises(EvaluationError, match="More than one element"):
        rows("SELECT (SELECT key FROM T)")


def test_an_index_without_nulls_is_used_only_by_a_query_that_wants_none() -> None:
    for condition in ("Shard = 'a'", "Shard = 'a' AND (Due < @t OR Due > @t)", "Shard IS NOT NULL AND Owner = 'x'"):
        with pytest.raises(ValueError, match="null filtered index T_Due may filter out rows"):
            rows(f"SELECT key FROM T@{{FORCE_INDEX=T_Due}} WHERE {condition}", t=(TIMESTAMP, 3))
    for condition in ("Shard = 'b' AND Due IS NOT NULL", "Shard = 'b' AND Due >= @t", "Shard IN ('b') AND @t <= Due"):
        found = keys(f"SELECT key FROM T@{{force_index=T_Due}} WHERE {condition}", t=(TIMESTAMP, 0))
        assert found == [1, 3, 5]


def test_a_key_is_looked_up_and_the_table_is_not_read() -> None:
    source = Rows(*map(row, range(100)))
    assert keys("SELECT key FROM T WHERE key = 'operations/007'", source) == [7]
    assert keys(
        "SELECT key FROM T WHERE key IN UNNEST(@k) ORDER BY key DESC", source, k=(STRINGS, ["operations/008", "x"])
    )
    sub = "SELECT key FROM T WHERE key IN (SELECT r.key FROM UNNEST(['operations/009', 'operations/001']) AS s,"
    sub += " UNNEST(ARRAY(SELECT AS STRUCT key FROM T WHERE key = s)) AS r) ORDER BY key"
    assert keys(sub, source) == [1, 9]
    assert source.read == 6


def test_a_comparison_with_null_reads_nothing() -> None:
    source = Rows(*map(row, range(100)))
    for condition in ("key = @s", "key > @s", "key < 'x' AND key > @s", "key IN UNNEST(@ss)"):
        assert keys(f"SELECT key FROM T WHERE {condition}", source, s=(STRING, None), ss=(STRINGS, [None])) == []
    assert source.read == 0


def test_bounds_become_the_narrowest_range() -> None:
    source = Rows()
    keys("SELECT key FROM T WHERE key > 'b' AND 'a' <= key AND key >= 'b' AND key < 'x' AND key <= 'x'", source)
    assert source.scans == [(None, {}, KeyRange("key", "b", True, "x", True))]


def test_what_comes_in_order_is_read_no_further_than_the_limit() -> None:
    source = Rows(*map(row, range(1000)))
    sql = (
        "SELECT r.key FROM UNNEST(@shards) AS s, UNNEST([0, 1]) AS o, UNNEST(ARRAY("
        "SELECT AS STRUCT key, Due FROM T@{FORCE_INDEX=T_Newest} WHERE Shard = s AND Outcome = o AND Due <= @last"
        " ORDER BY Due DESC, key LIMIT 3)) AS r ORDER BY r.Due DESC, r.key LIMIT 4"
    )
    assert keys(sql, source, shards=(STRINGS, ["a", "b"]), last=(TIMESTAMP, 500)) == [499, 498, 496, 495]
    assert source.read == 4 * 3
    assert {index for index, _, _ in source.scans} == {"T_Newest"}
    assert source.scans[0][1:] == ({"Shard": "a", "Outcome": 0}, KeyRange("Due", high=500))


def test_columns_that_are_all_equal_do_not_matter_to_the_order() -> None:
    source = Rows(*map(row, range(1000)))
    sql = "SELECT key FROM T@{FORCE_INDEX=T_Newest} WHERE Shard = 'a' AND Outcome = 0 ORDER BY Outcome DESC, Due DESC"
    assert keys(sql + ", Shard, key LIMIT 2", source) == [996, 990]
    assert source.read == 2


@pytest.mark.parametrize(
    ("index", "direction", "expected"), [("T_Down", "DESC", [17, 16, 8]), ("T_Up", "ASC", [1, 8, 16])]
)
def test_several_values_are_looked_up_in_the_order_of_the_index(
    index: str, direction: str, expected: list[int]
) -> None:
    source = Rows(*(row(number, Outcome=number) for number in range(20)))
    sql = f"SELECT key FROM T@{{FORCE_INDEX={index}}} WHERE Outcome IN UNNEST(@o) ORDER BY Outcome {direction} LIMIT 3"
    assert keys(sql, source, o=(array(INT64), [16, 8, 17, 1, 8, None])) == expected
    assert source.read == 3


def test_a_query_that_does_not_depend_on_the_row_is_run_once() -> None:
    source = Rows(*map(row, range(10)))
    sql = "SELECT key FROM T WHERE Due IN (SELECT Due FROM T WHERE key < 'operations/002')"
    sql += " AND (SELECT COUNT(*) FROM T) > 1"
    assert keys(sql, source) == [0, 1]
    assert len(source.scans) == 3


def test_a_text_is_parsed_once() -> None:
    assert parse_select("SELECT 1 FROM T") is parse_select("SELECT 1 FROM T")


SMALL = st.one_of(st.none(), st.integers(0, 3))
TABLES = st.lists(st.tuples(st.sampled_from([None, "a", "b"]), SMALL, SMALL), max_size=12).map(
    lambda found: [row(i, Shard=s, Due=d, Outcome=o) for i, (s, d, o) in enumerate(found)]
)
CONDITIONS = ("Shard = @s", "Outcome = @o", "Outcome IN UNNEST(@os)", "Due > @low", "Due <= @high", "Due >= @high")
KEYS = ("Shard", "Outcome DESC", "Due", "Due DESC", "key", "key DESC")


def holds(condition: str, item: Row, params: Mapping[str, tuple[Type, Any]]) -> bool:
    column, operator, name = condition.replace("IN UNNEST(", "IN ").rstrip(")").split()
    one, other = item[column], params[name.removeprefix("@")][1]
    if one is None or other is None:
        return False
    tests = {"=": one == other, "IN": operator == "IN" and one in (other or ())}
    if operator in tests:
        return bool(tests[operator])
    return bool({">": one > other, ">=": one >= other, "<=": one <= other}[operator])


@given(
    table=TABLES,
    index=st.sampled_from([None, "T_Newest"]),
    conditions=st.lists(st.sampled_from(CONDITIONS), unique=True),
    order=st.lists(st.sampled_from(KEYS), min_size=1, max_size=4),
    limit=st.integers(0, 4),
    values=st.tuples(st.sampled_from([None, "a"]), SMALL, st.lists(SMALL, max_size=3), SMALL, SMALL),
)
@settings(max_examples=300, deadline=None)
def test_an_index_and_an_order_never_change_the_answer(
    table: list[Row],
    index: str | None,
    conditions: list[str],
    order: list[str],
    limit: int,
    values: tuple[Any, ...],
) -> None:
    types = (STRING, INT64, array(INT64), TIMESTAMP, TIMESTAMP)
    params = {name: (type_, value) for name, type_, value in zip(("s", "o", "os", "low", "high"), types, values)}
    order = [*order, "key"]
    hint = "" if index is None else f"@{{FORCE_INDEX={index}}}"
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    sql = f"SELECT key FROM T{hint}{where} ORDER BY {', '.join(order)} LIMIT {limit}"
    expected = [item for item in table if all(holds(condition, item, params) for condition in conditions)]
    for part in reversed(order):
        column = part.split()[0]
        expected.sort(key=lambda item: (item[column] is not None, item[column]), reverse=part.endswith("DESC"))
    assert rows(sql, Rows(*table), **params) == [(item["key"],) for item in expected[:limit]]
