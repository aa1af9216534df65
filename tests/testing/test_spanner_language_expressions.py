"""The expressions of the Spanner that is for tests. The answers are those of Google's emulator for the same text."""

import hashlib
import math
from typing import Any

import pytest
from google.longrunning import operations_proto_pb2 as operations_pb2
from google.protobuf.descriptor_pool import Default
from google.rpc import status_pb2

from lro_aio.testing.spanner.expressions import EvaluationError, Scope, parse_expression
from lro_aio.testing.spanner.values import BOOL, BYTES, FLOAT64, INT64, STRING, TIMESTAMP, Type, array, parse_timestamp

NOW = parse_timestamp("2026-01-31T12:34:56.123456789Z")
OPERATION = Type("PROTO", proto="google.longrunning.Operation")
SCOPE = Scope(
    {
        "n": INT64,
        "s": Type("STRING", length=36),
        "b": BOOL,
        "t": TIMESTAMP,
        "an": array(INT64),
        "x": STRING,
        "data": BYTES,
        "nan": FLOAT64,
        "Operation": OPERATION,
    },
    Default(),
)
ROW: dict[str, Any] = dict.fromkeys(SCOPE.columns) | {"x": "äbc", "data": b"\xff", "nan": math.nan}


def value(text: str, **columns: Any) -> Any:
    return parse_expression(text).evaluate(SCOPE, ROW | columns, NOW)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 + 2 * 3 = 7 AND TRUE OR FALSE", True),
        ("5 - 3 - 1", 1),
        ("-1 - -1 * 2", 1),
        ("1 + 1.5", 2.5),
        ("-9223372036854775808", -(2**63)),
        ("0x1F", 31),
        (".5", 0.5),
        ("NOT 1 = 2", True),
        ("NOT NOT TRUE", True),
        ("1 <> 2 AND 1 != 2", True),
        ("'a' || 'b' || 'c'", "abc"),
        ("b'a' < b'b'", True),
        ("'a' < 'B'", False),
        ("1 = 1.0", True),
        ("CASE WHEN b THEN 1 WHEN TRUE THEN 2 ELSE 3 END", 2),
        ("CASE WHEN b THEN 1 END", None),
        ("1 BETWEEN 0 AND 2", True),
        ("1 NOT BETWEEN 2 AND 3", True),
        ("[1, n]", [1, None]),
        ("[]", []),
        ("ARRAY<STRING>[]", []),
        (r"'\n\x41\u00e9\'\101'", "\nA\xe9'A"),
        (r"r'\n'", "\\n"),
        (r"b'\xff'", b"\xff"),
        ("/* a comment */ 1 # another", 1),
        ("1 -- another", 1),
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
        ("b IS TRUE", False),
        ("b IS NOT FALSE", True),
        ("n IN (1)", None),
        ("1 IN (1, NULL)", True),
        ("2 IN (1, NULL)", None),
        ("2 NOT IN (1, NULL)", None),
        ("2 NOT IN (1)", True),
        ("1 IN UNNEST(an)", False),
        ("n IN UNNEST(an)", False),
        ("1 IN UNNEST([1, NULL])", True),
        ("3 IN UNNEST(ARRAY<INT64>[])", False),
        ("5 BETWEEN n AND 2", False),
        ("1 BETWEEN n AND 2", None),
        ("1 - n", None),
        ("CONCAT('a', s)", None),
        ("SUBSTR('abc', 1, n)", None),
        ("IF(b, 1, 2)", 2),
        ("IFNULL(n, 5)", 5),
        ("COALESCE(n, NULL, 7)", 7),
        ("COALESCE(n, n)", None),
        ("TIMESTAMP_TRUNC(t, SECOND)", None),
        ("TO_HEX(NULL)", None),
        ("ARRAY_CONCAT(an, [1])", None),
        ("ARRAY_LENGTH(an)", None),
        ("REGEXP_EXTRACT(s, 'a')", None),
    ],
)
def test_null_is_neither_true_nor_false(text: str, expected: object) -> None:
    assert value(text) is expected or value(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("nan = nan", False), ("nan <> nan", True), ("nan IN (nan)", False), ("nan > 1.0", False)],
)
def test_nan_is_equal_to_nothing(text: str, expected: object) -> None:
    assert value(text) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SUBSTR('hello', 2)", "ello"),
        ("SUBSTR('hello', 2, 2)", "el"),
        ("SUBSTR('hello', 0, 2)", "he"),
        ("SUBSTR('hello', -2)", "lo"),
        ("SUBSTR('hello', -9, 6)", "hello"),
        ("SUBSTR('hello', -7, 3)", "hel"),
        ("SUBSTR('hello', 9)", ""),
        ("SUBSTR(x, 1, 1)", "ä"),
        ("SUBSTR(b'hello', 1, 1)", b"h"),
        ("TO_HEX(SHA256('abc'))", hashlib.sha256(b"abc").hexdigest()),
        ("SHA256(b'abc') = SHA256('abc')", True),
        ("TO_HEX(data)", "ff"),
        ("LENGTH(x)", 3),
        ("LENGTH(b'abcd')", 4),
        ("LOWER('A') || UPPER('b')", "aB"),
        ("STARTS_WITH('abc', 'ab')", True),
        ("CONCAT('a')", "a"),
        ("CONCAT(b'a', b'b')", b"ab"),
        ("ARRAY_CONCAT([1], [2, NULL])", [1, 2, None]),
        ("ARRAY_LENGTH([1, 2])", 2),
        ("REGEXP_EXTRACT('x/operations/1', r'^(.*)/operations/[^/]+$')", "x"),
        ("REGEXP_EXTRACT('operations/1', r'^(.*)/operations/[^/]+$')", None),
        ("REGEXP_EXTRACT('abc', 'b')", "b"),
        ("REGEXP_EXTRACT('abc', '(z)?b')", None),
        ("REGEXP_EXTRACT('a-b]', '[]-]+')", "-"),
        ("REGEXP_EXTRACT('ab\\n', 'b$')", None),
        ("REGEXP_EXTRACT('é', r'\\w')", None),
        ("REGEXP_CONTAINS('a', '^$')", False),
        ("CURRENT_TIMESTAMP() = CURRENT_TIMESTAMP", True),
        ("TIMESTAMP_SECONDS(-1) = TIMESTAMP '1969-12-31T23:59:59Z'", True),
        ("UNIX_SECONDS(TIMESTAMP_MICROS(-1))", -1),
        ("UNIX_MILLIS(TIMESTAMP_MILLIS(5))", 5),
    ],
)
def test_functions(text: str, expected: object) -> None:
    assert value(text) == expected


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("MICROSECOND", "2026-01-31T12:34:56.123456Z"),
        ("MILLISECOND", "2026-01-31T12:34:56.123Z"),
        ("SECOND", "2026-01-31T12:34:56Z"),
        ("HOUR", "2026-01-31T12:00:00Z"),
    ],
)
def test_the_current_time_can_be_cut(part: str, expected: str) -> None:
    assert value(f"TIMESTAMP_TRUNC(CURRENT_TIMESTAMP(), {part})") == parse_timestamp(expected)
    assert value("TIMESTAMP_TRUNC(t, MICROSECOND)", t=-1) == -1000


def test_a_literal_stands_for_a_timestamp_and_nothing_else_does() -> None:
    assert value("t > '2020-01-01T00:00:00Z'", t=NOW) is True
    assert value("t IN ('2026-01-31T12:34:56.123456789Z')", t=NOW) is True
    with pytest.raises(ValueError, match='Could not cast literal "zz" to type TIMESTAMP'):
        value("t > 'zz'")
    with pytest.raises(ValueError, match="argument types: TIMESTAMP, STRING"):
        value("t > s")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nope", "Unrecognized name: nope"),
        ("NOPE(1)", "Function not found: NOPE"),
        ("1 = 'a'", "operator = for argument types: INT64, STRING"),
        ("data = 'x'", "argument types: BYTES, STRING"),
        ("1 AND TRUE", "operator AND for argument types: INT64"),
        ("n = NULL", "cannot be literal NULL"),
        ("NOT NULL", "cannot be literal NULL"),
        ("NULL + 1", "cannot be literal NULL"),
        ("an = an", "not defined for arguments of type ARRAY<INT64>"),
        ("Operation = Operation", "not defined for arguments of type PROTO"),
        ("IF(1, 2, 3)", "function IF for argument types: INT64, INT64, INT64"),
        ("IF(TRUE, 1, 'a')", "function IF"),
        ("IF(TRUE, 1)", "Number of arguments"),
        ("IFNULL('a', 1)", "function IFNULL for argument types: STRING, INT64"),
        ("CONCAT('a', 1)", "function CONCAT"),
        ("CONCAT()", "argument types: none"),
        ("TO_HEX('abc')", "function TO_HEX for argument types: STRING"),
        ("ARRAY_CONCAT([1], ['a'])", "ARRAY<INT64>, ARRAY<STRING>"),
        ("[1, 'a']", "do not have a common supertype"),
        ("1 IN ('a')", "do not have a common supertype"),
        ("1 IN UNNEST(['a'])", "operator IN for argument types"),
        ("1 IN UNNEST(1)", "must be an array but was INT64"),
        ("s.a", "Cannot access field a on a value with type STRING"),
        ("TIMESTAMP_TRUNC(t, DAY)", "this fake knows MICROSECOND"),
        ("COUNT(*)", "Aggregate function"),
        ("@p", "Incomplete query parameters p"),
        ("(SELECT 1)", "a query cannot stand in this expression"),
        ("[[1]]", "nested arrays"),
    ],
)
def test_a_wrong_name_or_type_is_refused_before_a_row_is_looked_at(text: str, message: str) -> None:
    expression = parse_expression(text)
    with pytest.raises(ValueError, match=message) as raised:
        expression.bind(SCOPE)
    assert "[at 1:" in str(raised.value)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", "1:1"),
        ("1 +", "1:4"),
        ("1 2", "1:3"),
        ("'a", "1:1"),
        ("'a' 'b'", "1:5"),
        (r"'\q'", "1:2"),
        ("1\n  = ~", "2:5"),
        ("7 / 2", "1:3"),
        ("1 < 2 = TRUE", "1:7"),
        ("1 IS NULL IS NULL", "1:11"),
        ("'a' LIKE 'b'", "1:5"),
        ("CAST(1 AS STRING)", "1:1"),
        ("select", "1:1"),
        ("CASE 1 WHEN 2 THEN 3 END", "1:6"),
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
    with pytest.raises(ValueError, match=r"Invalid integer literal|no other time zone"):
        parse_expression(text)


@pytest.mark.parametrize(
    "text",
    [
        "9223372036854775807 + LENGTH('a')",
        "SUBSTR('hello', 1, -1)",
        "REGEXP_EXTRACT('abc', '(a)(b)')",
        "REGEXP_EXTRACT('abc', '(a')",
        "REGEXP_EXTRACT('abc', '(?=a)')",
        "REGEXP_EXTRACT('abc', 'a*+')",
        r"REGEXP_EXTRACT('abc', r'(a)\1')",
        "TIMESTAMP_SECONDS(999999999999)",
    ],
)
def test_a_value_that_breaks_an_expression_is_an_error_of_its_own(text: str) -> None:
    bound = parse_expression(text).bind(SCOPE)
    with pytest.raises(EvaluationError):
        bound(ROW, NOW)


def test_fields_of_a_message() -> None:
    live = operations_pb2.Operation(name="operations/a").SerializeToString()
    failed = operations_pb2.Operation(name="x/operations/b", done=True, error=status_pb2.Status(code=3, message="m"))
    outcome = "IF(Operation.done, IF(Operation.error IS NULL, 1, 2), 0)"
    assert value("Operation.name", Operation=live) == "operations/a"
    assert value("operation.DONE", Operation=live) is False
    assert value("Operation.error IS NULL AND Operation.error.code IS NULL", Operation=live) is True
    assert value(outcome, Operation=live) == 0
    assert value(outcome, Operation=failed.SerializeToString()) == 2
    assert value("Operation.error.code", Operation=failed.SerializeToString()) == 3
    assert value("(Operation.error).message", Operation=failed.SerializeToString()) == "m"
    assert value("Operation.error", Operation=failed.SerializeToString()) == failed.error.SerializeToString()
    assert value("Operation.name", Operation=None) is None
    assert value("Operation.response.value", Operation=live) is None


@pytest.mark.parametrize(
    ("text", "messages", "message"),
    [
        ("Operation.nope", Default(), "google.longrunning.Operation does not have a field called nope"),
        ("Operation.error.details", Default(), "repeated or an enum"),
        ("Operation.name", None, "Type not found: google.longrunning.Operation"),
    ],
)
def test_a_field_that_is_not_there_is_refused(text: str, messages: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_expression(text).bind(Scope(SCOPE.columns, messages))


def test_an_expression_says_what_it_reads_and_what_it_gives() -> None:
    due = parse_expression("IF(Operation.done AND ExpireTime IS NULL, TIMESTAMP '1970-01-01T00:00:00Z', CheckTime)")
    assert due.columns == {"Operation", "ExpireTime", "CheckTime"}
    assert parse_expression("TIMESTAMP_TRUNC(t, MICROSECOND)").columns == {"t"}
    assert parse_expression("[n, 1] = an OR x IN (s, 'a')").columns == {"n", "an", "x", "s"}
    for text, type_ in [("s", STRING), ("[n]", array(INT64)), ("NULL", INT64), ("n + 1.5", FLOAT64), ("t", TIMESTAMP)]:
        assert parse_expression(text).bind(SCOPE).type == type_


def test_names_are_found_whatever_their_case_and_between_backticks() -> None:
    assert value("`X` = x") is True
    assert value("timestamp_trunc(T, second) IS null") is True
