"""The queries of the Spanner that is for tests: right answers, from no more rows than the conditions and LIMIT need."""

from collections.abc import Collection, Iterator, Mapping, Sequence
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

    def scan(
        self,
        table: str,
        index: str | None,
        equal: Mapping[str, Any],
        span: KeyRange | None,
        needs: Collection[str],
    ) -> Iterator[Row]:
        self.needs = set(needs)
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


def run(sql: str, source: Rows | None = None, **params: tuple[Type, Any]) -> Result:
    return parse_select(sql).run(source or Rows(*map(row, range(6))), params, 0)


def rows(sql: str, source: Rows | None = None, **params: tuple[Type, Any]) -> list[tuple[Any, ...]]:
    return run(sql, source, **params).rows


def keys(sql: str, source: Rows | None = None, **params: tuple[Type, Any]) -> list[int]:
    return [int(item[0].removeprefix("operations/")) for item in rows(sql, source, **params)]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT 1, 'a' AS b FROM T LIMIT 1", [(1, "a")]),
        ("SELECT 1, 'a' AS b", [(1, "a")]),
        ("SELECT key FROM T LIMIT 0", []),
        ("SELECT T.Due FROM T WHERE T.Due = 5 - 2 - 1", [(2,)]),
        ("SELECT a.Due, b.Due FROM T AS a, T AS b WHERE a.Due < 1 AND b.Due > 4 - a.Due", [(0, 5)]),
        ("SELECT ARRAY(SELECT n FROM UNNEST(@os) AS n WHERE n > 1), ARRAY_LENGTH(@ss)", [([2], 2)]),
        (
            "SELECT ARRAY(SELECT AS STRUCT Due AS x, ARRAY(SELECT s FROM UNNEST(@ss) AS s) AS y FROM T WHERE Due < 1)",
            [([{"x": 0, "y": ["b", "a"]}],)],
        ),
        ("SELECT Outcome FROM T WHERE key = 'operations/004'", [(1,)]),
        ("SELECT Due FROM T ORDER BY Due DESC LIMIT 2", [(5,), (4,)]),
        ("SELECT Outcome, Due FROM T WHERE Due > 3 ORDER BY Outcome DESC, Due", [(2, 5), (1, 4)]),
        ("SELECT s, o FROM UNNEST(@ss) AS s, UNNEST(@os) AS o WHERE o = 2", [("b", 2), ("a", 2)]),
        ("SELECT o FROM UNNEST(@os) AS o ORDER BY o", [(None,), (1,), (2,)]),
        ("SELECT o FROM UNNEST(@os) AS o ORDER BY o DESC", [(2,), (1,), (None,)]),
        (
            "SELECT r.x, r.y FROM UNNEST(ARRAY(SELECT AS STRUCT Due AS x, 'a' AS y FROM T WHERE Due = 2)) AS r",
            [(2, "a")],
        ),
        ("SELECT n FROM UNNEST(ARRAY(SELECT Due FROM T WHERE Outcome = 2 ORDER BY Due DESC)) AS n", [(5,), (2,)]),
        (
            "SELECT s, n FROM UNNEST(@ss) AS s, UNNEST(ARRAY(SELECT Due FROM T WHERE Shard = s AND Due < 2)) AS n",
            [("b", 1), ("a", 0)],
        ),
        ("SELECT Due FROM T WHERE key = key AND key > Shard LIMIT 1", [(0,)]),
        ("SELECT Due FROM T WHERE NOT Due IN (SELECT Due FROM T WHERE Due > 0)", [(0,)]),
        (
            "SELECT r.Due FROM UNNEST(ARRAY_CONCAT(ARRAY(SELECT AS STRUCT Due FROM T WHERE Due > 4),"
            " ARRAY(SELECT AS STRUCT Due FROM T WHERE Due < 1))) AS r",
            [(5,), (0,)],
        ),
    ],
)
def test_answers(sql: str, expected: list[tuple[Any, ...]]) -> None:
    """A whole number stands in the place of the time, since literals can be compared with it."""
    found = rows(sql.replace("Due", "Number"), Numbered(), ss=(STRINGS, ["b", "a"]), os=(array(INT64), [None, 2, 1]))
    assert found == expected


class Numbered(Rows):
    """The same, with the number of each row as a column."""

    def __init__(self) -> None:
        super().__init__(*({**row(number), "Number": number} for number in range(6)))

    def columns(self, table: str) -> Mapping[str, Type]:
        return {**super().columns(table), "Number": INT64}


def test_the_answer_names_its_columns_and_knows_their_types_without_rows() -> None:
    sql = "SELECT KEY, Outcome AS o, Due, r.n, Due IS NULL FROM T, UNNEST(ARRAY(SELECT AS STRUCT 1 AS n FROM T)) AS r"
    result = run(f"{sql} WHERE FALSE")
    assert result.names == ("KEY", "o", "Due", "n", "")
    assert result.types == (STRING, INT64, TIMESTAMP, INT64, BOOL)
    assert result.rows == []


def test_a_table_of_the_information_schema_is_read_like_any_other() -> None:
    assert rows("SELECT TABLE_NAME FROM INFORMATION_SCHEMA.TABLES WHERE TABLE_NAME = 'T'") == [("T",)]


def test_a_difference_that_no_int64_holds_is_an_error() -> None:
    with pytest.raises(EvaluationError, match="int64 overflow"):
        rows("SELECT @a - 1", a=(INT64, -(2**63)))
    assert rows("SELECT @a - 1", a=(INT64, None)) == [(None,)]


def test_parameters_stand_for_their_values() -> None:
    pairs = array(Type("STRUCT", fields=(("a", STRING), ("b", INT64))))
    assert rows("SELECT p.b, p.a FROM UNNEST(@p) AS p", p=(pairs, [{"a": "x", "b": 1}])) == [(1, "x")]
    assert rows("SELECT @a, @b IS NULL FROM T LIMIT 1", a=(STRING, "x"), b=(INT64, None)) == [("x", True)]
    assert keys("SELECT key FROM T WHERE key IN UNNEST(@k)", k=(STRINGS, ["operations/004", None])) == [4]
    assert keys("SELECT key FROM T ORDER BY key LIMIT @n", n=(INT64, 2)) == [0, 1]


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT nope FROM T", "Unrecognized name: nope"),
        ("SELECT 1 FROM Nope", "Table not found: Nope"),
        ("SELECT 1 FROM T@{FORCE_INDEX=Nope}", "does not have a secondary index called Nope"),
        ("SELECT 1 FROM T@{GROUPBY_SCAN_OPTIMIZATION=true}", "Unsupported hint"),
        ("@{nope=true} SELECT 1 FROM T", "Unsupported hint: nope"),
        ("SELECT key FROM T, T", "Duplicate table alias"),
        ("SELECT TABLE_NAME FROM INFORMATION_SCHEMA.TABLES, INFORMATION_SCHEMA.TABLE", "Table not found"),
        ("SELECT 1 FROM T WHERE 1", "WHERE clause should return type BOOL, but returns INT64"),
        ("SELECT COUNT(*) FROM T", "Illegal input character"),
        ("SELECT * FROM T", "Illegal input character"),
        ("SELECT s FROM UNNEST('a') AS s", "must be arrays"),
        ("SELECT s FROM UNNEST(@ss)", "Expected 'AS'"),
        ("SELECT s.x FROM UNNEST(@ss) AS s", "Cannot access field x"),
        ("SELECT r.z FROM UNNEST(ARRAY(SELECT AS STRUCT 1 AS x FROM T)) AS r", "Field name z does not exist"),
        ("SELECT r FROM UNNEST(ARRAY(SELECT AS STRUCT 1 AS x FROM T)) AS r", "A struct value cannot be returned"),
        ("SELECT AS STRUCT 1 AS x FROM T", "A struct value cannot be returned"),
        ("SELECT 1 WHERE TRUE", "Expected end of input but got WHERE"),
        ("SELECT t.Nope FROM T AS t", "Name Nope not found inside t"),
        ("SELECT T.key FROM T AS t2", "Unrecognized name: T"),
        ("SELECT 1 - 'a'", "operator - for argument types: INT64, STRING"),
        ("SELECT n FROM UNNEST(ARRAY(SELECT key, Due FROM T)) AS n", "more than one column"),
        ("SELECT n FROM UNNEST(ARRAY(SELECT AS STRUCT 1, 2 AS x FROM T)) AS n", "a name of its own"),
        ("SELECT (SELECT key FROM T) FROM T", "Expected a name but got SELECT"),
        ("SELECT key FROM T WHERE 1 IN (SELECT key FROM T)", "operator IN for argument types INT64"),
        ("SELECT key FROM T ORDER BY 2", "takes the name of a column"),
        ("SELECT Owner FROM T ORDER BY CONCAT(Owner)", "takes the name of a column"),
        ("SELECT key FROM T LIMIT @s", "LIMIT expects an integer"),
        ("SELECT @nope FROM T", "Incomplete query parameters nope"),
        ("SELECT key FROM T LIMIT 'a'", "at 1:25"),
        ("SELECT key FROM T LIMIT 1 OFFSET 1", "Expected end of input but got OFFSET"),
        ("SELECT key FROM T SELECT key FROM T", "Expected end of input but got SELECT .at 1:19"),
        ("SELECT key FROM T;", "Expected end of input but got ;"),
        ("SELECT", "end of statement .at 1:7"),
        ("SELECT key FROM T JOIN T AS b ON TRUE", "JOIN"),
        ("SELECT DISTINCT key FROM T", "DISTINCT"),
        ("SELECT Shard FROM T GROUP BY Shard", "GROUP"),
        ("SELECT key FROM T UNION ALL SELECT key FROM T", "UNION"),
        ("WITH a AS (SELECT 1) SELECT 1 FROM a", "WITH"),
        ("SELECT x FROM (SELECT 1 AS x)", r"Expected a name but got \("),
        ("INSERT INTO T (key) VALUES ('a')", "Expected 'SELECT'"),
        ("DELETE FROM T WHERE TRUE", "Expected 'SELECT'"),
    ],
)
def test_what_is_wrong_or_not_in_the_dialect_is_refused(sql: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        run(sql, s=(STRING, "x"), ss=(STRINGS, ["x"]))
    assert not isinstance(raised.value, EvaluationError)


@pytest.mark.parametrize("limit", [None, -1])
def test_a_limit_that_is_none_is_an_error_of_evaluation(limit: int | None) -> None:
    with pytest.raises(EvaluationError, match="non-negative"):
        rows("SELECT key FROM T LIMIT @n", n=(INT64, limit))


def test_an_index_without_nulls_is_used_only_by_a_query_that_wants_none() -> None:
    for condition in ("Shard = 'a'", "Shard = 'a' AND (Due < @t OR Due > @t)", "Shard IS NOT NULL AND Owner = 'x'"):
        with pytest.raises(ValueError, match="null filtered index T_Due may filter out rows"):
            rows(f"SELECT key FROM T@{{FORCE_INDEX=T_Due}} WHERE {condition}", t=(TIMESTAMP, 3))
    for condition in ("Shard = 'b' AND Due IS NOT NULL", "Shard = 'b' AND Due >= @t", "Shard = @s AND @t <= Due"):
        found = keys(f"SELECT key FROM T@{{force_index=T_Due}} WHERE {condition}", t=(TIMESTAMP, 0), s=(STRING, "b"))
        assert found == [1, 3, 5]


def test_a_key_is_found_without_reading_the_table() -> None:
    source = Rows(*map(row, range(100)))
    assert keys("SELECT key FROM T WHERE key = 'operations/007'", source) == [7]
    assert keys(
        "SELECT key FROM T WHERE key IN UNNEST(@k) ORDER BY key DESC", source, k=(STRINGS, ["operations/008", "x"])
    )
    sub = "SELECT key FROM T WHERE key IN (SELECT r.key FROM UNNEST(@k) AS s,"
    sub += " UNNEST(ARRAY(SELECT AS STRUCT key FROM T WHERE key = s)) AS r) ORDER BY key"
    assert keys(sub, source, k=(STRINGS, ["operations/009", "operations/001"])) == [1, 9]
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
        "SELECT r.key FROM UNNEST(@shards) AS s, UNNEST(@outcomes) AS o, UNNEST(ARRAY("
        "SELECT AS STRUCT key, Due FROM T@{FORCE_INDEX=T_Newest} WHERE Shard = s AND Outcome = o AND Due <= @last"
        " ORDER BY Due DESC, key LIMIT 3)) AS r ORDER BY r.Due DESC, r.key LIMIT 4"
    )
    params = {"shards": (STRINGS, ["a", "b"]), "outcomes": (array(INT64), [0, 1]), "last": (TIMESTAMP, 500)}
    assert keys(sql, source, **params) == [499, 498, 496, 495]
    assert source.read == 4 * 3
    assert {index for index, _, _ in source.scans} == {"T_Newest"}
    assert source.scans[0][1:] == ({"Shard": "a", "Outcome": 0}, KeyRange("Due", high=500))


def test_columns_that_are_all_equal_do_not_matter_to_the_order() -> None:
    source = Rows(*map(row, range(1000)))
    sql = "SELECT key FROM T@{FORCE_INDEX=T_Newest} WHERE Shard = 'a' AND Outcome = 0 ORDER BY Outcome DESC, Due DESC"
    assert keys(sql + ", Shard, key LIMIT 2", source) == [996, 990]
    assert source.read == 2


@pytest.mark.parametrize(
    ("index", "direction", "expected"), [("T_Down", "DESC", [17, 16, 8]), ("T_Up", "", [1, 8, 16])]
)
def test_several_values_are_read_in_the_order_of_the_index(index: str, direction: str, expected: list[int]) -> None:
    source = Rows(*(row(number, Outcome=number) for number in range(20)))
    sql = f"SELECT key FROM T@{{FORCE_INDEX={index}}} WHERE Outcome IN UNNEST(@o) ORDER BY Outcome {direction} LIMIT 3"
    assert keys(sql, source, o=(array(INT64), [16, 8, 17, 1, 8, None])) == expected
    assert source.read == 3


def test_a_query_that_does_not_depend_on_the_row_is_run_once() -> None:
    source = Rows(*map(row, range(10)))
    assert keys("SELECT key FROM T WHERE Due IN (SELECT Due FROM T WHERE key < 'operations/002')", source) == [0, 1]
    assert len(source.scans) == 2


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


@pytest.mark.slow
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
