"""What this interpreter does not cover, and what Cloud Workflows would not deploy, is refused with a sentence."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lro_aio.testing.workflows.expressions import DefinitionError
from lro_aio.testing.workflows.fake import DEFINITION
from lro_aio.testing.workflows.reader import load, read

SHIPPED = yaml.safe_load(DEFINITION.read_text(encoding="utf-8"))


def deploy(text: str) -> Any:
    return read(yaml.safe_load(text))


def step(body: str) -> str:
    """A definition with one step, and some that it may refer to."""
    return (
        "main: {params: [args], steps: [{init: {assign: [{x: 1}]}}, {it: " + body + "}, {last: {return: 1}}]}\n"
        "sub: {params: [a, {b: 2}], steps: [{s: {return: 1}}]}\n"
        "judge: {params: [e], steps: [{s: {return: true}}]}"
    )


@pytest.mark.parametrize(
    "body",
    [
        "{next: last}", "{next: end}", "{assign: [{y: 1}], next: last}", "{call: sub, args: {a: 1}, result: y}",
        "{call: sub, args: {a: 1, b: 2}}", "{call: math.max, args: {x: 1, y: 2}, result: y}",
        "{call: sys.now, result: y}",
        "{steps: [{deeper: {next: last}}]}", "{switch: [{condition: true, next: last}, {condition: '${x == 1}'}]}",
        "{switch: [{condition: true, return: 1}, {condition: true, steps: [{deeper: {next: end}}]}]}",
        "{for: {value: v, index: i, in: [1], steps: [{inner: {next: continue}}, {next_one: {next: break}}]}}",
        "{for: {value: v, range: [1, 2], steps: [{inner: {next: last}}]}}",
        "{for: {value: v, range: '${[x, 2]}', steps: [{inner: {assign: [{x: '${x + v}'}]}}]}}",
        "{try: {call: http.get, args: {url: u}}, retry: '${http.default_retry}'}",
        "{try: {steps: [{inner: {raise: oops}}]}, except: {as: e, steps: [{inner: {raise: '${e}'}}]}}",
        "{try: {call: sys.log, args: {text: a}}, retry: {predicate: '${judge}', max_retries: '${x}',"
        " backoff: {initial_delay: 1, max_delay: 2, multiplier: 1.5}}}",
        "{parallel: {shared: [x], concurrency_limit: 2, exception_policy: continueAll,"
        " for: {value: v, in: [1], steps: [{inner: {assign: [{x: 1}, {own: 1}]}}]}}}",
        "{assign: [{m: {'${\"a\" + string(x)}': [1, {b: null}]}}, {m.a.b: 1}, {'m[\"a\"][x]': 2}]}",
    ],
)  # fmt: skip
def test_what_is_covered_is_read(body: str) -> None:
    assert set(deploy(step(body)).workflows) == {"main", "sub", "judge"}


def test_a_list_of_steps_is_the_main_workflow() -> None:
    assert set(deploy("[{a: {return: 1}}]").workflows) == {"main"}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("{}", "a step is a map"),
        ("[1]", "a step is a map"),
        ("{surprise: 1}", "a step is one of"),
        ("{assign: [{y: 1}], return: 1}", "a step is one of .*, not assign and return"),
        ("{assign: [{y: 1}], surprise: 1}", "a step with `assign` cannot have surprise"),
        ("{assign: [{y: 1}], args: {}}", "a step with `assign` cannot have args"),
        ("{assign: []}", "1 to 50 assignments"),
        (f"{{assign: [{', '.join(f'{{v{n}: 1}}' for n in range(51))}]}}", "1 to 50 assignments"),
        ("{assign: [{y: 1, z: 2}]}", "a map with one variable"),
        ("{assign: [{7: 1}]}", "cannot be assigned to"),
        ("{assign: [{a-b: 1}]}", "cannot be assigned to"),
        ("{assign: [{'y[': 1}]}", "cannot be assigned to"),
        ("{assign: [{nobody.a: 1}]}", "there is no variable 'nobody'"),
        ("{assign: [{y: '${nobody}'}]}", "there is no variable 'nobody'"),
        ("{assign: [{y: '${1 +}'}]}", "unexpected 'end of the expression'"),
        ("{assign: [{y: 'a ${x}'}]}", "an expression must be the whole string"),
        ("{assign: [{y: '${x} ${x}'}]}", "unexpected '}'"),
        ("{assign: [{y: 2020-01-01}]}", "put it in quotes"),
        ("{assign: [{y: {1: 2}}]}", "the keys of a map are strings"),
        ("{call: nothing}", "there is no workflow 'nothing', and this interpreter has no such function"),
        ("{call: googleapis.run.v1.jobs.run}", "no such function"),
        ("{call: events.await_callback}", "no such function"),
        ("{call: sys.sleep}", "sys.sleep needs seconds"),
        ("{call: sys.sleep, args: {seconds: 1, unit: s}}", "sys.sleep does not take unit"),
        ("{call: http.post, args: {body: 1}}", "http.post needs url"),
        ("{call: http.post, args: {url: u, ca_certificate: c}}", "http.post does not take ca_certificate"),
        ("{call: http.get, args: {url: u, auth: {type: OAuth2}}}", "`type: OIDC`"),
        ("{call: http.get, args: {url: u, auth: {type: OIDC, scopes: s}}}", "`type: OIDC`"),
        ("{call: sub}", "sub needs a"),
        ("{call: sub, args: {a: 1, c: 1}}", "sub does not take c"),
        ("{call: sub, args: [1]}", "`args` must be a map"),
        ("{call: sub, args: {a: 1}, result: 1a}", "'1a' cannot be the name of a variable"),
        ("{switch: []}", "1 to 50 conditions"),
        ("{switch: [{next: last}]}", "has a `condition`"),
        ("{switch: [{condition: true, next: nowhere}]}", "there is no step 'nowhere' to go to from here"),
        ("{switch: [{condition: true, surprise: 1}]}", "a step is one of"),
        ("{for: {value: v, steps: [{a: {return: 1}}]}}", "either `in` or `range`"),
        ("{for: {value: v, in: [], range: [1, 2], steps: [{a: {return: 1}}]}}", "either `in` or `range`"),
        ("{for: {value: v, in: [], surprise: 1, steps: [{a: {return: 1}}]}}", "`for` is a map with"),
        ("{for: {value: 1, in: [], steps: [{a: {return: 1}}]}}", "1 cannot be the name of a variable"),
        ("{for: {value: v, in: [], steps: []}}", "`steps` is a list"),
        ("{parallel: {branches: [{a: {steps: [{b: {return: 1}}]}}]}}", "`parallel` with `for` only"),
        ("{parallel: {for: {value: v, in: [], steps: [{a: {return: 1}}]}}}", "`return` within a parallel step"),
        ("{parallel: {for: {value: v, in: [], steps: [{a: {next: last}}]}}}", "there is no step 'last' to go to"),
        ("{parallel: {for: {value: v, in: [], steps: [{a: {next: break}}]}}}", "there is no step 'break' to go to"),
        ("{parallel: {for: {value: v, in: [], steps: [{a: {assign: [{x: 1}]}}]}}}", "'x' is set .* is not shared"),
        ("{parallel: {for: {value: v, in: [], steps: [{a: {call: sys.now, result: x}}]}}}", "'x' is set .* not shared"),
        ("{parallel: {shared: [w], for: {value: v, in: [], steps: [{a: {assign: [{y: 1}]}}]}}}", "no variable 'w'"),
        ("{parallel: {exception_policy: unhandled, for: {value: v, in: [], steps: []}}}", "`continueAll`"),
        ("{parallel: {surprise: 1, for: {value: v, in: [], steps: []}}}", "`parallel` takes"),
        ("{parallel: {for: {value: v, in: [], steps: [{p: {parallel: {for: {}}}}]}}}",
        "does not cover a parallel step within another"),
        ("{try: {return: 1}}", "needs `retry`, `except`, or both"),
        ("{try: [{a: {return: 1}}], except: {as: e, steps: []}}", "`try` takes a step"),
        ("{try: {for: {value: v, in: [], steps: [{a: {return: 1}}]}}, retry: '${http.default_retry}'}", "than `for`"),
        ("{try: {return: 1, next: last}, retry: '${http.default_retry}'}", "a step with `return` cannot have next"),
        ("{try: {return: 1}, except: {as: e}}", "`except` has `as` and `steps`"),
        ("{try: {return: 1}, except: {as: e, steps: [{a: {return: 1}}], surprise: 1}}",
        "`except` has `as` and `steps`"),
        ("{try: {return: 1}, retry: '${judge}'}", "`retry` is a map, or one of http.default_retry"),
        ("{try: {return: 1}, retry: {predicate: '${judge}'}}", "`retry` has `predicate`, `max_retries` and `backoff`"),
        ("{try: {return: 1}, retry: {predicate: '${sub}', max_retries: 1, backoff: {}}}", "with one parameter"),
        ("{try: {return: 1}, retry: {predicate: judge, max_retries: 1, backoff: {}}}", "as an expression"),
        ("{try: {return: 1}, retry: {predicate: '${judge}', max_retries: 1, backoff: {}}}", "`backoff` has"),
        ("{retry: '${http.default_retry}'}", "a step is one of"),
        ("{return: 1, next: last}", "cannot have `next`"),
        ("{raise: 7}", "`raise` takes a string or a map"),
        ("{next: nowhere}", "there is no step 'nowhere'"),
        ("{next: [last]}", "there is no step"),
        ("{next: break}", "there is no step 'break'"),
        ("{next: continue}", "there is no step 'continue'"),
        ("{steps: [{a: {next: s}}]}", "there is no step 's'"),
    ],
)  # fmt: skip
def test_a_step_that_is_not_covered_is_refused_and_named(body: str, words: str) -> None:
    with pytest.raises(DefinitionError, match=rf"main, step '\w+': .*{words}"):
        deploy(step(body))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("7", "a map of workflows with `main`"),
        ("other: {steps: []}", "a map of workflows with `main`"),
        ("main: {}", "main: a workflow has `steps`"),
        ("main: {steps: [{a: {return: 1}}], surprise: 1}", "main: a workflow has `steps`"),
        ("main: {steps: {a: {return: 1}}}", "main: `steps` is a list"),
        ("main: {steps: [{a: {return: 1}, b: {return: 1}}]}", "main: `steps` is a list of maps"),
        ("main: {steps: [{a: {return: 1}}, {a: {return: 1}}]}", "'a' cannot be the name of a step here"),
        ("main: {steps: [{end: {return: 1}}]}", "'end' cannot be the name of a step"),
        ("main: {steps: [{a-b: {return: 1}}]}", "'a-b' cannot be the name of a step"),
        ("main: {params: [a, b], steps: [{a: {return: 1}}]}", "at most one parameter"),
        ("main: {params: a, steps: [{a: {return: 1}}]}", "`params` is a list"),
        ("main: {steps: [{a: {return: 1}}]}\ns: {params: [a, a], steps: [{a: {return: 1}}]}",
        "'a' cannot be a parameter"),
        ("main: {steps: [{a: {return: 1}}]}\ns: {params: [{a: '${1}'}], steps: []}", "not a plain value"),
        ("main: {steps: [{a: {return: 1}}]}\nlen: {steps: [{a: {return: 1}}]}",
        "'len' cannot be the name of a workflow"),
        ("main: {steps: [{a: {return: 1}}]}\ns: {steps: [{a: {return: '${x}'}}]}",
        "s, step 'a': there is no variable 'x'"),
    ],
)  # fmt: skip
def test_a_workflow_that_is_not_covered_is_refused(text: str, words: str) -> None:
    with pytest.raises(DefinitionError, match=words):
        deploy(text)


@pytest.mark.parametrize(
    "use",
    [
        "{for: {value: v, in: [1], steps: [{a: {assign: [{inner: 1}]}}]}}",
        "{for: {value: inner, in: [1], steps: [{a: {return: 1}}]}}",
        "{for: {value: v, index: inner, in: [1], steps: [{a: {return: 1}}]}}",
        "{try: {return: 1}, except: {as: inner, steps: [{a: {return: 1}}]}}",
        "{try: {return: 1}, except: {as: e, steps: [{a: {assign: [{inner: 1}]}}]}}",
        "{parallel: {for: {value: v, in: [1], steps: [{a: {assign: [{inner: 1}]}}]}}}",
    ],
)
def test_what_a_loop_or_an_except_makes_is_not_there_outside(use: str) -> None:
    """https://cloud.google.com/workflows/docs/reference/syntax/variables: an error when the workflow is deployed."""
    text = f"main: {{steps: [{{it: {use}}}, {{after: {{return: '${{inner}}'}}}}]}}"
    with pytest.raises(DefinitionError, match="main, step 'after': there is no variable 'inner' here"):
        deploy(text)


@pytest.mark.parametrize(
    "use",
    [
        "{for: {value: v, in: [1], steps: [{a: {assign: [{inner: 1}]}}]}}",
        "{try: {return: 1}, except: {as: e, steps: [{a: {assign: [{inner: 1}]}}]}}",
        "{parallel: {shared: [inner], for: {value: v, in: [1], steps: [{a: {assign: [{inner: 1}]}}]}}}",
    ],
)
def test_what_was_there_before_it_is_there_afterwards(use: str) -> None:
    before, after = "{before: {assign: [{inner: 0}]}}", "{after: {return: '${inner}'}}"
    deploy(f"main: {{steps: [{before}, {{it: {use}}}, {after}]}}")


class TestFiles:
    def test_a_key_that_is_there_twice_is_refused(self, tmp_path: Path) -> None:
        """The YAML reader alone would take the last one without a word."""
        path = tmp_path / "workflow.yaml"
        path.write_text("main:\n  steps:\n    - a:\n        return: 1\n        return: 2\n")
        with pytest.raises(DefinitionError, match="line 5: duplicate key 'return'"):
            load(path)

    def test_what_is_no_yaml_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "workflow.yaml"
        path.write_text("main: [")
        with pytest.raises(DefinitionError, match=r"workflow.yaml is not YAML"):
            load(path)

    def test_128_kb_are_the_limit(self, tmp_path: Path) -> None:
        path = tmp_path / "workflow.yaml"
        path.write_text("main: {steps: [{a: {return: 1}}]}\n" + "#" * 128 * 1024)
        with pytest.raises(DefinitionError, match="the limit is 131072"):
            load(path)

    def test_json_is_read_too(self, tmp_path: Path) -> None:
        path = tmp_path / "workflow.json"
        path.write_text('{"main": {"steps": [{"a": {"return": "${1 + 1}"}}]}}')
        assert load(path).expressions == ("${1 + 1}",)


def structure(value: Any) -> Iterator[dict[str, Any]]:
    """Every map of a definition whose members the language defines, as opposed to values."""
    yield value
    for workflow in value.values():
        yield workflow
        yield from of_steps(workflow["steps"])


def of_steps(steps: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for one in steps:
        yield one
        for body in one.values():
            yield from of_step(body)


def of_step(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield body
    for kind, inner in body.items():
        if kind == "steps":
            yield from of_steps(inner)
        elif kind == "switch":
            for arm in inner:
                yield from of_step(arm)
        elif kind == "assign":
            yield from inner
        elif kind in ("for", "parallel", "try", "except", "retry"):
            yield from of_step(inner)
        elif kind in ("args", "backoff"):
            yield inner
            if "auth" in inner:
                yield inner["auth"]


def test_the_shipped_definition_has_all_kinds_of_maps() -> None:
    assert len(list(structure(SHIPPED))) > 120


@pytest.mark.slow
def test_a_member_that_is_not_known_is_never_ignored() -> None:
    """Wherever it is put."""
    for number in range(len(list(structure(SHIPPED)))):
        definition = copy.deepcopy(SHIPPED)
        list(structure(definition))[number]["surprise"] = "x"
        with pytest.raises(DefinitionError):
            read(definition)
