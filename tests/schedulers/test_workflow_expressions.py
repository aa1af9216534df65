"""Expressions mean what the documentation of Cloud Workflows says; each class names its page."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lro_aio.testing.workflows.expressions import DefinitionError, parse
from lro_aio.testing.workflows.functions import FUNCTIONS
from lro_aio.testing.workflows.values import ResourceLimitError, UndefinedError, WorkflowError, kind

VARIABLES = {"x": 2, "y": 0.5, "s": "text", "yes": True, "m": {"a": {"b": 7}, "n": None}, "l": [10, 20, [30]]}


class Variables:
    """A context in which it is noon."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values

    def lookup(self, name: str) -> Any:
        if name not in self.values:
            raise UndefinedError(name)
        return self.values[name]

    def now(self) -> float:
        return 12.0


def evaluate(text: str, values: dict[str, Any] = VARIABLES) -> Any:
    return parse(f"${{{text}}}").evaluate(Variables(values))


def same(one: Any, other: Any) -> bool:
    """Equal and of the same kind."""
    return type(one) is type(other) and one == other


class TestTheElements:
    """https://cloud.google.com/workflows/docs/reference/syntax/expressions."""

    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("7", 7), ("7.25", 7.25), ('"a \\"b\\" \\n c"', 'a "b" \n c'), ('"${x}"', "${x}"), ("[]", []),
            ("[x, [y]]", [2, [0.5]]), ("null", None), ("true", True), ("True", True), ("TRUE", True),
            ("false", False), ("False", False), ("FALSE", False),
            ("x", 2), ("m.a.b", 7), ('m["a"]["b"]', 7), ("m.a[\"b\"]", 7), ("m.n", None), ("l[0]", 10),
            ("l[x][0]", 30), ("l[len(l) - 1]", [30]), ("sys.now()", 12.0),
        ],
    )  # fmt: skip
    def test_literals_and_places(self, text: str, value: Any) -> None:
        assert same(evaluate(text), value)

    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("1 + 2", 3), ("1 + 0.5", 1.5), ('"a" + "b"', "ab"), ("x - 3", -1), ("-x", -2), ("--x", 2),
            ("3 * 0.5", 1.5),
            ("4 / 2", 2.0), ("7 // 2", 3), ("-7 // 2", -4), ("7 % 4", 3),
        ],
    )  # fmt: skip
    def test_arithmetic(self, text: str, value: Any) -> None:
        assert same(evaluate(text), value)

    def test_it_may_extend_over_lines(self) -> None:
        assert evaluate('\n  "SELECT *\nFROM " +\n  s\n') == "SELECT *\nFROM text"

    def test_400_characters_with_the_braces_are_the_limit(self) -> None:
        assert evaluate('"' + "a" * 395 + '"') == "a" * 395
        with pytest.raises(DefinitionError, match="401 characters; the limit is 400"):
            evaluate('"' + "a" * 396 + '"')

    @pytest.mark.parametrize(
        "text",
        [
            "", "'a'", "x if x else 1", "[y for y in x]", "lambda: 1", "{1: 2}", "x := 1", "x == ", "(x", "x)", "[x",
            "x x", "1.5.5", ".5", "x.", "x.5", "m.a.b()", "x()", '"open', "a ? b : c", "x = 1", "x && yes", "!yes", "@",
            '"\\q"', "not", "and", "x is null", '"a" not in m', "default(value=1)", "x ** 2",
        ],
    )  # fmt: skip
    def test_nothing_else_is_an_expression(self, text: str) -> None:
        with pytest.raises(DefinitionError):
            evaluate(text)

    @pytest.mark.parametrize("name", ["http.get", "sys.sleep", "sys.log", "events.await_callback"])
    def test_what_blocks_is_for_call_steps(self, name: str) -> None:
        with pytest.raises(DefinitionError, match="call step"):
            evaluate(f'{name}("u")')

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("json.decode(s)", "does not have the function 'json.decode'"),
            ("transient(x)", "does not have the function 'transient'"),
            ("len()", "len takes 1 arguments, not 0"),
            ("sys.now(1)", "does not have the function 'sys.now'"),
        ],
    )
    def test_a_function_that_is_not_covered_is_refused_before_it_runs(self, text: str, words: str) -> None:
        with pytest.raises(DefinitionError, match=words):
            parse(f"${{{text}}}")

    def test_it_says_which_variables_it_reads(self) -> None:
        assert parse('${default(map.get(args, "x"), y + z.a[i])}').variables == {"args", "y", "z", "i"}


class TestTypes:
    """https://cloud.google.com/workflows/docs/reference/syntax/error-types, and .../syntax/datatypes."""

    @pytest.mark.parametrize(
        ("text", "tag"),
        [
            ('"a" + 1', "TypeError"), ("1 + null", "TypeError"), ("true + 1", "TypeError"), ("[1] + [2]", "TypeError"),
            ("-s", "TypeError"), ('"a" * 2', "TypeError"), ("not s", "TypeError"), ("not null", "TypeError"),
            ("x and yes", "TypeError"), ("yes and x", "TypeError"), ("x or yes", "TypeError"),
            ('1 < "a"', "TypeError"), ("null < 1", "TypeError"), ("true < false", "TypeError"),
            ("[1] < [2]", "TypeError"),
            ("1 / 0", "ZeroDivisionError"), ("1 // 0", "ZeroDivisionError"), ("1 % 0", "ZeroDivisionError"),
            ("1 / 0.0", "ZeroDivisionError"),
            ("m.b", "KeyError"), ('m["b"]', "KeyError"), ("l[3]", "IndexError"), ("l[-1]", "IndexError"),
            ("s.length", "TypeError"), ("m.n.b", "TypeError"), ("l.a", "TypeError"), ("l[0.0]", "TypeError"),
            ("l[true]", "TypeError"), ("m[0]", "TypeError"), ('"t" in s', "TypeError"), ("1 in 1", "TypeError"),
        ],
    )  # fmt: skip
    def test_what_a_workflow_can_catch(self, text: str, tag: str) -> None:
        with pytest.raises(WorkflowError) as caught:
            evaluate(text)
        assert caught.value.payload["tags"] == [tag]
        assert caught.value.payload["message"]

    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("1 == 1.0", True), ("true == 1", False), ("0 == false", False), ("null == null", True),
            ("null == false", False),
            ('"1" == 1', False), ("[1, true] == [1, 1]", False), ("[1, [null]] == [1.0, [null]]", True),
            ("m.a == m.a", True), ("m == m.a", False), ("1 != true", True),
            ('"a" < "b"', True), ("1 <= 1.0", True), ("2 > 1.5", True), ("2 >= 3", False),
            ('"a" in m', True), ('"b" in m', False), ("1 in m", False), ("20 in l", True), ("true in [1]", False),
        ],
    )  # fmt: skip
    def test_comparisons(self, text: str, value: bool) -> None:
        assert evaluate(text) is value

    def test_integers_have_64_bits(self) -> None:
        assert evaluate(f"{2**63 - 1}") == 2**63 - 1
        with pytest.raises(ResourceLimitError, match="64 bits"):
            evaluate(f"{2**63 - 1} + 1")

    def test_a_variable_without_a_value_cannot_be_caught(self) -> None:
        with pytest.raises(UndefinedError):
            evaluate("nobody")


class TestOrder:
    """https://cloud.google.com/workflows/docs/reference/syntax/datatypes, "Order of operations"."""

    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("1 + 2 * 3", 7), ("(1 + 2) * 3", 9), ("10 - 3 - 2", 5), ("2 * 7 % 4", 2), ("-2 * 3 + 1", -5),
            ("-m.a.b", -7),
            ("1 + 1 == 2", True), ("1 == 1 and 2 == 3 or 4 == 4", True), ("yes or yes and not yes", True),
            ("not yes or yes", True), ("not(yes and yes)", False), ("not not yes", True),
            ("NOT yes OR yes AND yes", True),
        ],
    )  # fmt: skip
    def test_of_operators(self, text: str, value: Any) -> None:
        assert same(evaluate(text), value)

    def test_not_binds_tighter_than_a_comparison(self) -> None:
        """In Python it is the other way round, and this would be true."""
        assert evaluate("not yes == false", {"yes": True}) is True
        assert evaluate("not no == false", {"no": False}) is False
        with pytest.raises(WorkflowError, match="not takes booleans"):
            evaluate("not x == 3")

    def test_one_comparison_does_not_follow_another(self) -> None:
        with pytest.raises(DefinitionError, match="without parentheses"):
            evaluate("1 < 2 < 3")
        assert evaluate("(1 < 2) == (2 < 3)") is True

    @pytest.mark.parametrize("text", ["yes or nobody", "not yes and nobody"])
    def test_the_second_operand_is_left_alone_where_the_first_decides(self, text: str) -> None:
        assert evaluate(text) in (True, False)


LEVELS = {"or": 1, "and": 2, "==": 3, "<": 3, "+": 4, "-": 4, "*": 5, "//": 5, "%": 5}
PYTHON = {
    "+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "//": lambda a, b: a // b,
    "%": lambda a, b: a % b, "==": lambda a, b: a == b, "<": lambda a, b: a < b,
    "or": lambda a, b: a or b, "and": lambda a, b: a and b,
}  # fmt: skip

Tree = Any
"""A number or boolean, ("neg" | "not", tree), or (operator, tree, tree)."""

numbers = st.recursive(
    st.integers(0, 9),
    lambda inner: (
        st.tuples(st.just("neg"), inner) | st.tuples(st.sampled_from(["+", "-", "*", "//", "%"]), inner, inner)
    ),
    max_leaves=6,
)
booleans = st.recursive(
    st.booleans() | st.tuples(st.sampled_from(["==", "<"]), numbers, numbers),
    lambda inner: st.tuples(st.just("not"), inner) | st.tuples(st.sampled_from(["and", "or"]), inner, inner),
    max_leaves=5,
)


def level(tree: Tree) -> int:
    if not isinstance(tree, tuple):
        return 8
    return {"not": 7, "neg": 6}.get(tree[0]) or LEVELS[tree[0]]


def written(tree: Tree, least: int = 0) -> str:
    """The tree with as few parentheses as the documented order allows."""
    if not isinstance(tree, tuple):
        text = str(tree).lower()
    elif tree[0] == "neg":
        text = f"-{written(tree[1], 6)}"
    elif tree[0] == "not":
        text = f"not {written(tree[1], 7)}"
    else:
        tight = LEVELS[tree[0]]
        left = tight + 1 if tight == 3 else tight  # comparisons do not follow each other
        text = f"{written(tree[1], left)} {tree[0]} {written(tree[2], tight + 1)}"
    return f"({text})" if level(tree) < least else text


def computed(tree: Tree) -> Any:
    if not isinstance(tree, tuple):
        return tree
    if tree[0] == "neg":
        return -computed(tree[1])
    if tree[0] == "not":
        return not computed(tree[1])
    if tree[0] in ("and", "or"):
        left = computed(tree[1])
        return left if left == (tree[0] == "or") else computed(tree[2])
    return PYTHON[tree[0]](computed(tree[1]), computed(tree[2]))


@settings(deadline=None)
@given(numbers | booleans)
def test_any_operations_have_the_value_that_their_order_says(tree: Tree) -> None:
    text = written(tree)
    if len(text) > 390:
        return
    try:
        expected = computed(tree)
    except ZeroDivisionError:
        with pytest.raises(WorkflowError, match="division by zero"):
            evaluate(text)
    else:
        assert same(evaluate(text), expected), text


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
words = st.sampled_from(
    ["x", "y", "1", "2.5", '"a"', "null", "true", "(", ")", "[", "]", ",", ".a", "+", "-", "*", "/", "//", "%", "<",
    "==",
     "in", "not", "and", "or", " ", "len(", "default(", "map.get(", "text.split(", "int(", "if(", "sys.now()"]
)  # fmt: skip


@settings(deadline=None)
@given(st.lists(words, max_size=12).map("".join) | st.text(max_size=20), values, values)
def test_whatever_is_written_is_refused_or_has_a_value_or_an_error_of_the_language(text: str, x: Any, y: Any) -> None:
    with contextlib.suppress(DefinitionError, WorkflowError, ResourceLimitError, UndefinedError):
        assert kind(evaluate(text, {"x": x, "y": y}))


class TestFunctions:
    """https://cloud.google.com/workflows/docs/reference/stdlib/overview, and the pages of each function."""

    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("default(null, 3)", 3), ("default(0, 3)", 0), ('default("", 3)', ""), ("default(false, 3)", False),
            ('if(x > 1, "if (a)", "b")', "if (a)"), ("if(false, 1, 2)", 2),
            ("int(2.999)", 2), ("int(-2.9)", -2), ('int("12")', 12), ('double("2.5")', 2.5), ("double(2)", 2.0),
            ("string(7)", "7"), ("string(1.5)", "1.5"), ("string(true)", "true"), ('string("a")', "a"),
            ("keys(m)", ["a", "n"]), ("len(l)", 3), ("len(m)", 2), ("len(s)", 4), ('len("é")', 1),
            ("list.concat(l, 40)", [10, 20, [30], 40]), ("list.prepend(l, 0)", [0, 10, 20, [30]]),
            ('map.get(m, "a")', {"b": 7}), ('map.get(m, ["a", "b"])', 7), ('map.get(m, ["a", "c", "d"])', None),
            ('map.get(7, "a")', None), ('map.get(null, "a")', None),
            ('map.delete(m.a, "b")', {}), ('map.delete(m.a, "c")', {"b": 7}),
            ("map.merge(m.a, m)", {"a": {"b": 7}, "b": 7, "n": None}),
            ("math.abs(-1.5)", 1.5), ("math.floor(2.7)", 2), ("math.max(x, 1)", 2), ("math.min(x, 1.5)", 1.5),
            ('text.split("a/b", "/")', ["a", "b"]), ('text.split("a", "/")', ["a"]), ("text.substring(s, 1, 3)", "ex"),
            ("text.substring(s, 0, 4)", "text"), ('text.substring("", 0, 0)', ""),
            ('text.replace_all(s, "t", "T")', "TexT"), ("text.to_upper(s)", "TEXT"), ('text.to_lower("Ab")', "ab"),
        ],
    )  # fmt: skip
    def test_results(self, text: str, value: Any) -> None:
        assert same(evaluate(text), value)

    @pytest.mark.parametrize(
        ("text", "tag"),
        [
            ("if(null, 1, 2)", "TypeError"), ("if(1, 1, 2)", "TypeError"),
            ("if(true, 1, m.b)", "KeyError"),  # both are evaluated before one is taken
            ("int(null)", "TypeError"), ("int(true)", "TypeError"), ('int("a")', "ValueError"),
            ('double("a")', "ValueError"),
            ('math.floor(double("inf"))', "ValueError"), ("double([])", "TypeError"), ("string(null)", "TypeError"),
            ("string(l)", "TypeError"),
            ("keys(l)", "TypeError"),
            ("len(1)", "TypeError"), ("len(null)", "TypeError"), ('list.concat("a", 1)', "TypeError"),
            ("list.prepend(null, 1)", "TypeError"), ("map.get(m, 1)", "TypeError"),
            ('map.get(m, ["a", 1])', "TypeError"),
            ("map.merge(m, l)", "TypeError"), ("map.delete(m, 1)", "TypeError"), ("math.abs(s)", "TypeError"),
            ("math.max(1, true)", "TypeError"), ("math.min(null, 1)", "TypeError"), ("math.floor(s)", "TypeError"),
            ("text.split(1, s)", "TypeError"), ("text.split(s, 1)", "TypeError"), ('text.split(s, "")', "ValueError"),
            ("text.substring(s, 0, 5)", "IndexError"), ("text.substring(s, 2, 1)", "IndexError"),
            ("text.substring(s, 0, 1.0)", "TypeError"), ("text.substring(x, 0, 1)", "TypeError"),
            ("text.replace_all(s, 1, s)", "TypeError"), ("text.to_upper(null)", "TypeError"),
            ("text.to_lower(1)", "TypeError"),
        ],
    )  # fmt: skip
    def test_errors(self, text: str, tag: str) -> None:
        with pytest.raises(WorkflowError) as caught:
            evaluate(text)
        assert caught.value.payload["tags"] == [tag]

    @settings(deadline=None)
    @given(st.sampled_from(sorted(FUNCTIONS)), st.data())
    def test_any_argument_gives_a_value_or_an_error_of_the_language(self, name: str, data: st.DataObject) -> None:
        function = FUNCTIONS[name]
        arguments = [data.draw(values) for _ in function.parameters]
        with contextlib.suppress(WorkflowError, ResourceLimitError):
            assert kind(function.call(*arguments))
