"""The expressions of the Spanner that is for tests. The answers are those of Google's emulator for the same text."""

import hashlib
from typing import Any

import pytest
from google.longrunning import operations_proto_pb2 as operations_pb2
from google.protobuf.descriptor_pool import Default
from google.rpc import status_pb2

from lro_aio.testing.spanner.expressions import EvaluationError, parse_expression
from lro_aio.testing.spanner.values import BOOL, BYTES, INT64, STRING, TIMESTAMP, Type, array, parse_timestamp

NOW = parse_timestamp("2026-01-31T12:34:56.123456789Z")
OPERATION = Type("PROTO", proto="google.longrunning.Operation")
COLUMNS = {
    "n": INT64,
    "s": Type("STRING", length=36),
    "b": BOOL,
    "t": TIMESTAMP,
    "an": array(INT64),
    "x": STRING,
    "data": BYTES,
    "Operation": OPERATION,
}
ROW: dict[str, Any] = dict.fromkeys(COLUMNS) | {"x": "äbc", "data": b"\xff"}


def value(text: str, **columns: Any) -> Any:
    return parse_expression(text).bind(COLUMNS, Default())(ROW | columns, NOW)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 = 7 AND TRUE OR TRUE", True),
        ("NOT 1 = 2", True),
        ("1 <> 2 AND 1 <= 1 AND 2 >= 1 AND 1 < 2 AND 2 > 1", True),
        ("'a' < 'B'", False),
        ("(1 = 2) = (2 = 1)", True),
        (r"'\n\\\''", "\n\\'"),
        (r"r'\n'", "\\n"),
        ("TIMESTAMP '1970-01-01T00:00:00.000000001Z'", 1),
        ("`x`", "äbc"),
    ],
)
def test_operators_and_literals(text: str, expected: object) -> None:
    assert value(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("n = 1", None),
        ("n IS NULL", True),
        ("n IS NOT NULL", False),
        ("NOT b", None),
        ("b AND FALSE", False),
        ("FALSE AND b", False),
        ("b AND TRUE", None),
        ("b OR TRUE", True),
        ("b OR FALSE", None),
        ("1 IN UNNEST(an)", False),
        ("n IN UNNEST(an)", False),
        ("CONCAT('a', s)", None),
        ("SUBSTR('abc', 1, n)", None),
        ("IF(b, 1, 2)", 2),
        ("IFNULL(n, 5)", 5),
        ("IFNULL(n, n)", None),
        ("TIMESTAMP_TRUNC(t, MICROSECOND)", None),
        ("REGEXP_EXTRACT(s, '(a)')", None),
    ],
)
def test_null_is_neither_true_nor_false(text: str, expected: object) -> None:
    assert value(text) is expected or value(text) == expected


@pytest.mark.parametrize(
    ("text", "an", "expected"),
    [
        ("1 IN UNNEST(an)", [1, None], True),
        ("2 IN UNNEST(an)", [1, None], None),
        ("NOT 2 IN UNNEST(an)", [1, None], None),
        ("NOT 2 IN UNNEST(an)", [1], True),
        ("n IN UNNEST(an)", [1], None),
        ("n IN UNNEST(an)", [], False),
    ],
)
def test_an_array_with_null_in_it_holds_nobody_knows_what(text: str, an: list[Any], expected: object) -> None:
    assert value(text, an=an) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SUBSTR('hello', 2, 2)", "el"),
        ("SUBSTR('hello', 9, 1)", ""),
        ("SUBSTR(x, 1, 1)", "ä"),
        ("TO_HEX(SHA256('abc'))", hashlib.sha256(b"abc").hexdigest()),
        ("TO_HEX(data)", "ff"),
        ("CONCAT('a')", "a"),
        ("CONCAT('a', 'b', x)", "abäbc"),
        ("REGEXP_EXTRACT('x/operations/1', r'^(.*)/operations/[^/]+$')", "x"),
        ("REGEXP_EXTRACT('operations/1', r'^(.*)/operations/[^/]+$')", None),
        ("REGEXP_EXTRACT('ab\\n', '(b)$')", None),
        ("CURRENT_TIMESTAMP() = CURRENT_TIMESTAMP()", True),
        ("TIMESTAMP_TRUNC(CURRENT_TIMESTAMP(), MICROSECOND)", NOW // 1000 * 1000),
    ],
)
def test_functions(text: str, expected: object) -> None:
    assert value(text) == expected


def test_a_time_before_the_epoch_is_cut_to_the_one_before_it() -> None:
    assert value("TIMESTAMP_TRUNC(t, MICROSECOND)", t=-1) == -1000


def test_arrays_are_joined() -> None:
    assert value("ARRAY_CONCAT(an, an)", an=[1, None]) == [1, None, 1, None]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nope", "Unrecognized name: nope"),
        ("NOPE(1)", "Function not found: NOPE"),
        ("COUNT(n)", "Function not found: COUNT"),
        ("1 = 'a'", "operator = for argument types: INT64, STRING"),
        ("data = 'x'", "argument types: BYTES, STRING"),
        ("t > '2020-01-01T00:00:00Z'", "argument types: TIMESTAMP, STRING"),
        ("1 AND TRUE", "operator AND for argument types: INT64"),
        ("NOT 1", "operator NOT for argument types: INT64"),
        ("an = an", "argument types: ARRAY<INT64>"),
        ("Operation = Operation", "argument types: PROTO<google.longrunning.Operation>"),
        ("IF(1, 2, 3)", "function IF for argument types: INT64, INT64, INT64"),
        ("IF(TRUE, 1, 'a')", "function IF"),
        ("IF(TRUE, 1)", "function IF"),
        ("IFNULL('a', 1)", "function IFNULL for argument types: STRING, INT64"),
        ("CONCAT('a', 1)", "function CONCAT"),
        ("CONCAT()", "argument types: none"),
        ("TO_HEX('abc')", "function TO_HEX for argument types: STRING"),
        ("SUBSTR('abc', 1)", "function SUBSTR"),
        ("ARRAY_CONCAT(an, n)", "ARRAY<INT64>, INT64"),
        ("CURRENT_TIMESTAMP(1)", "function CURRENT_TIMESTAMP"),
        ("'a' IN UNNEST(an)", "operator IN for argument types"),
        ("1 IN UNNEST(1)", "operator IN for argument types"),
        ("s.a", "Cannot access field a on a value with type STRING"),
        ("TIMESTAMP_TRUNC(t, DAY)", "this fake knows MICROSECOND"),
        ("TIMESTAMP_TRUNC(n, MICROSECOND)", "argument types: INT64"),
        ("@p", "Incomplete query parameters p"),
        ("1 IN (SELECT n FROM T)", "a query cannot stand in this expression"),
    ],
)
def test_a_wrong_name_or_type_is_refused_before_a_row_is_read(text: str, message: str) -> None:
    expression = parse_expression(text)
    with pytest.raises(ValueError, match=message) as raised:
        expression.bind(COLUMNS, Default())
    assert "[at 1:" in str(raised.value)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", "1:1"),
        ("1 =", "1:4"),
        ("1 2", "1:3"),
        ("'a", "1:1"),
        (r"'\q'", "1:2"),
        ("1\n  = ~", "2:5"),
        ("7 + 2", "1:3"),
        ("1 < 2 = TRUE", "1:7"),
        ("1 IS NULL IS NULL", "1:11"),
        ("b IS TRUE", "1:6"),
        ("'a' LIKE 'b'", "1:5"),
        ("n BETWEEN 1 AND 2", "1:3"),
        ("n IN (1, 2)", "1:7"),
        ("n = NULL", "1:5"),
        ("CAST(1 AS STRING)", "1:1"),
        ("CASE WHEN b THEN 1 END", "1:1"),
        ("[1, 2]", "1:1"),
        ("select", "1:1"),
        ("1 -- a comment", "1:3"),
        ("(" * 70 + "1" + ")" * 70, "1:61"),
    ],
)
def test_what_is_not_in_the_dialect_is_refused_with_its_place(text: str, place: str) -> None:
    with pytest.raises(ValueError, match=f"at {place}"):
        parse_expression(text)


@pytest.mark.parametrize(
    "text", ["9223372036854775808", "TIMESTAMP '2020-01-01'", "TIMESTAMP '2020-01-01T00:00:00+01:00'"]
)
def test_a_literal_out_of_range_or_in_another_time_zone_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"Invalid integer literal|as a TIMESTAMP"):
        parse_expression(text)


@pytest.mark.parametrize(
    "text",
    [
        "SUBSTR('hello', 0, 1)",
        "SUBSTR('hello', 1, n)",
        "REGEXP_EXTRACT('abc', '(a)(b)')",
        "REGEXP_EXTRACT('abc', 'a')",
        "REGEXP_EXTRACT('abc', '(a')",
        "REGEXP_EXTRACT('abc', '(?=a)')",
        "REGEXP_EXTRACT('abc', '(a*+)')",
        r"REGEXP_EXTRACT('abc', r'(a)\1')",
    ],
)
def test_a_value_that_breaks_an_expression_is_an_error_of_its_own(text: str) -> None:
    bound = parse_expression(text).bind(COLUMNS, Default())
    with pytest.raises(EvaluationError):
        bound(ROW | {"n": -1}, NOW)


def test_fields_of_a_message() -> None:
    live = operations_pb2.Operation(name="operations/a").SerializeToString()
    failed = operations_pb2.Operation(name="x/operations/b", done=True, error=status_pb2.Status(code=3, message="m"))
    outcome = "IF(Operation.done, IF(Operation.error IS NULL, 1, 2), 0)"
    assert value("Operation.name", Operation=live) == "operations/a"
    assert value("operation.DONE", Operation=live) is False
    assert value("Operation.error IS NULL AND Operation.error.message IS NULL", Operation=live) is True
    assert value(outcome, Operation=live) == 0
    assert value(outcome, Operation=failed.SerializeToString()) == 2
    assert value("Operation.error.message", Operation=failed.SerializeToString()) == "m"
    assert value("Operation.error", Operation=failed.SerializeToString()) == failed.error.SerializeToString()
    assert value("Operation.name", Operation=None) is None


@pytest.mark.parametrize(
    ("text", "messages", "message"),
    [
        ("Operation.nope", Default(), "google.longrunning.Operation does not have a field called nope"),
        ("Operation.error.details", Default(), "of a type that this fake does not know"),
        ("Operation.error.code", Default(), "of a type that this fake does not know"),
        ("Operation.name", None, "Type not found: google.longrunning.Operation"),
    ],
)
def test_a_field_that_is_not_there_is_refused(text: str, messages: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_expression(text).bind(COLUMNS, messages)


def test_an_expression_says_what_it_reads_and_what_it_gives() -> None:
    due = parse_expression("IF(Operation.done AND ExpireTime IS NULL, TIMESTAMP '1970-01-01T00:00:00Z', CheckTime)")
    assert due.columns == {"Operation", "ExpireTime", "CheckTime"}
    assert parse_expression("TIMESTAMP_TRUNC(t, MICROSECOND)").columns == {"t"}
    for text, type_ in [("s", STRING), ("an", array(INT64)), ("n > 1", BOOL), ("t", TIMESTAMP)]:
        assert parse_expression(text).bind(COLUMNS, Default()).type == type_


def test_names_are_found_whatever_their_case() -> None:
    assert value("`X` = x") is True
    assert value("timestamp_trunc(T, microsecond) IS null") is True
