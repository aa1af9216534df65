"""Steps do what the documentation of Cloud Workflows says; each class names its page."""

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lro_aio.testing.workflows.values import ResourceLimitError, UndefinedError, WorkflowError, size

from .workflow_runs import DAY, execute

YEAR = 365 * DAY


def result(text, argument=None, caller=None):
    return execute(text, argument, caller)[0]


def main(steps, what="", others=""):
    """A definition with these steps, in which ``@`` stands for something."""
    return f"main: {{params: [args], steps: [{steps.replace('@', what)}]}}\n{others}"


class TestAssignments:
    """https://cloud.google.com/workflows/docs/reference/syntax/variables."""

    def test_each_sees_those_before_it(self):
        assert result(main("{a: {assign: [{x: 1}, {x: '${x + 1}'}, {y: '${x}'}]}}, {b: {return: '${y}'}}")) == 2

    def test_places_in_maps_and_lists(self):
        """https://cloud.google.com/workflows/docs/reference/syntax/maps, and .../lists."""
        text = main(
            "{a: {assign: [{m: {l: [1, {k: 2}]}}, {k: new}, {'m.l[0]': ten}, {'m.l[len(m.l) - 1].k': 20},"
            " {'m[k + \"est\"]': 30}, {m.other: {}}, {m.other.deep: 40}]}}, {b: {return: '${m}'}}"
        )
        assert result(text) == {"l": ["ten", {"k": 20}], "newest": 30, "other": {"deep": 40}}

    @pytest.mark.parametrize(
        ("target", "tag"),
        [("m.no.deep", "KeyError"), ("m.l[2]", "IndexError"), ("m.l[-1]", "IndexError"), ("m.n.a", "TypeError"),
         ("m.l.a", "TypeError"), ("m[0]", "TypeError"), ('m["n"][0]', "TypeError")],
    )  # fmt: skip
    def test_a_place_that_is_not_there(self, target, tag):
        text = main("{a: {assign: [{m: {l: [1, 2], n: 3}}]}}, {b: {assign: [{'@': 1}]}}", target)
        with pytest.raises(WorkflowError) as caught:
            execute(text)
        assert caught.value.payload["tags"] == [tag]

    def test_a_variable_is_a_copy_and_not_a_reference(self):
        text = main(
            "{a: {assign: [{x: {l: [1, {k: 1}]}}, {y: '${x}'}, {z: '${x.l}'}, {'x.l[1].k': 2}, {'z[0]': 3}]}},"
            " {b: {return: ['${x}', '${y}', '${z}']}}"
        )
        assert result(text) == [{"l": [1, {"k": 2}]}, {"l": [1, {"k": 1}]}, [3, {"k": 1}]]

    def test_the_argument_stays_as_it_is(self):
        argument = {"l": [1]}
        assert result(main("{a: {assign: [{'args.l[0]': 2}]}}, {b: {return: '${args}'}}"), argument) == {"l": [2]}
        assert argument == {"l": [1]}

    def test_a_variable_that_has_no_value_yet_ends_the_execution(self):
        text = main(
            "{a: {next: c}}, {b: {assign: [{x: 1}]}},"
            " {c: {try: {return: '${x}'}, except: {as: e, steps: [{caught: {return: 0}}]}}}"
        )
        with pytest.raises(UndefinedError, match="'x' has no value yet"):
            execute(text)

    def test_keys_can_be_expressions(self):
        """https://cloud.google.com/workflows/docs/reference/syntax/maps."""
        assert result(main("{a: {return: {'${\"a\" + args}': 1, b: 2}}}"), "x") == {"ax": 1, "b": 2}
        with pytest.raises(WorkflowError, match="the key of a map is a string, not an integer"):
            execute(main("{a: {return: {'${args}': 1}}}"), 7)

    @pytest.mark.parametrize(
        ("value", "taken"),
        [
            (1, 8), (1.5, 8), (True, 8), (None, 8), ("", 8), ("This is a string of 28 bytes", 36), ("é", 10),
            ([], 8), ([1, 2], 24), ({}, 8), ({"ab": 1}, 8 + 10 + 8), ({"a": ["b"]}, 8 + 9 + 8 + 9),
        ],
    )  # fmt: skip
    def test_the_memory_that_values_take(self, value, taken):
        assert size(value) == taken

    def test_every_copy_takes_memory(self):
        """The page's example: 28 bytes twice are 72."""
        _, host = execute(main('{a: {assign: [{a: "This is a string of 28 bytes"}, {b: "${a}"}]}}'))
        assert host.peak == 8 + 72  # and the argument, null

    def test_a_value_that_is_replaced_takes_none(self):
        _, host = execute(main("{a: {assign: [{a: '@'}, {a: null}, {b: '@'}]}}", "x" * 100))
        assert host.peak == 8 + 8 + 108

    def test_what_is_local_is_forgotten(self):
        steps = (
            "{a: {for: {value: v, in: ['@'], steps: [{b: {assign: [{w: '${v}'}]}}]}}}, "
            "{c: {try: {raise: '@'}, except: {as: e, steps: [{d: {assign: [{w: '${e}'}]}}]}}}, "
            "{f: {call: sub, args: {p: '@'}}}"
        )
        _, host = execute(main(steps, "x" * 100, "sub: {params: [p], steps: [{a: {assign: [{q: '${p}'}]}}]}"))
        assert host.peak == 8 + 2 * 108
        assert host.held == 0


class TestJumps:
    """https://cloud.google.com/workflows/docs/reference/syntax/jumps."""

    def test_steps_run_in_their_order_unless_one_says_otherwise(self):
        text = main(
            "{init: {assign: [{seen: []}], next: second}},"
            " {third: {assign: [{seen: '${list.concat(seen, 3)}'}], next: last}},"
            " {second: {assign: [{seen: '${list.concat(seen, 2)}'}], next: third}},"
            " {never: {assign: [{seen: []}]}}, {last: {return: '${seen}'}}"
        )
        assert result(text) == [2, 3]

    def test_out_of_nested_steps(self):
        text = main(
            "{init: {assign: [{seen: []}]}}, {nested: {steps: [{a: {for: {value: v, in: [1, 2], steps:"
            " [{b: {assign: [{seen: '${list.concat(seen, v)}'}], next: last}}]}}}]}}, {never: {return: 0}},"
            " {last: {return: '${seen}'}}"
        )
        assert result(text) == [1]

    @pytest.mark.parametrize(
        "step",
        [
            "{steps: [{a: {assign: [{x: 1}]}}], next: last}",
            "{try: {call: sys.now}, retry: '${http.default_retry}', next: last}",
            "{try: {raise: a}, except: {as: e, steps: [{a: {assign: [{x: 1}]}}]}, next: last}",
            "{for: {value: v, in: [1], steps: [{a: {assign: [{x: 1}]}}]}, next: last}",
            "{parallel: {for: {value: v, in: [1], steps: [{a: {assign: [{x: 1}]}}]}}, next: last}",
            "{switch: [{condition: false, return: 0}], next: last}",
            "{switch: [{condition: true, assign: [{x: 1}]}], next: last}",
            "{call: sys.now, next: last}",
        ],
    )
    def test_every_kind_of_step_can_be_followed_by_one(self, step):
        assert result(main("{it: @}, {never: {return: 0}}, {last: {return: 1}}", step)) == 1

    def test_end_stops_this_workflow(self):
        """https://cloud.google.com/workflows/docs/reference/syntax/completing."""
        sub = "sub: {steps: [{a: {for: {value: v, in: [1], steps: [{b: {next: end}}]}}}, {c: {return: 1}}]}"
        assert result(main("{a: {call: sub, result: x}}, {b: {return: ['${x}']}}", others=sub)) == [None]
        assert result(main("{a: {next: end}}, {b: {return: 1}}")) is None

    def test_return_stops_it_from_any_depth_also_with_null(self):
        loop = "{a: {for: {value: v, in: [1], steps: [{b: {steps: [{c: {return: null}}]}}]}}}, {d: {return: 1}}"
        assert result(main(loop)) is None

    def test_without_a_return_the_result_is_null(self):
        assert result(main("{a: {assign: [{x: 1}]}}")) is None


class TestConditions:
    """https://cloud.google.com/workflows/docs/reference/syntax/conditions."""

    TEXT = main(
        "{init: {assign: [{x: 0}]}}, {choose: {switch: ["
        " {condition: '${args > 1}', steps: [{one: {assign: [{x: '${x + 1}'}]}}]},"
        " {condition: '${args > 0}', steps: [{two: {assign: [{x: '${x + 10}'}]}}], next: last},"
        " {condition: true, next: other}]}}, {after: {assign: [{x: '${x + 100}'}], next: last}},"
        " {other: {assign: [{x: 5}]}}, {last: {return: '${x}'}}"
    )

    @pytest.mark.parametrize(("argument", "value"), [(2, 101), (1, 10), (0, 5)])
    def test_the_first_that_matches_is_taken_and_no_other(self, argument, value):
        assert result(self.TEXT, argument) == value

    def test_where_none_matches_the_next_step_follows(self):
        assert result(main("{a: {switch: [{condition: '${args}', return: 1}]}}, {b: {return: 2}}"), False) == 2

    @pytest.mark.parametrize("value", [None, 1, "true", []])
    def test_it_is_a_boolean(self, value):
        with pytest.raises(WorkflowError, match="a condition must be a boolean"):
            execute(main("{a: {switch: [{condition: '${args}', return: 1}]}}"), value)


class TestLoops:
    """https://cloud.google.com/workflows/docs/reference/syntax/iteration."""

    def seen(self, loop, argument=None):
        text = main(
            "{init: {assign: [{seen: []}, {last: null}]}},"
            f" {{loop: {{for: {{{loop}, steps: [{{a: {{switch: [{{condition: '${{v == 3}}', next: break}},"
            " {condition: '${v == 1}', next: continue}]}}, {b: {assign: [{seen: '${list.concat(seen, v)}'}]}}]}}},"
            " {end_of_it: {return: '${seen}'}}"
        )
        return result(text, argument)

    def test_over_a_list_with_break_and_continue(self):
        assert self.seen("value: v, in: '${args}'", [0, 1, 2, 3, 4]) == [0, 2]
        assert self.seen("value: v, in: []") == []

    @pytest.mark.parametrize(
        ("bounds", "values"),
        [("[4, 6]", [4, 5, 6]), ("[4, 4]", [4]), ("[5, 4]", []), ("[4.5, 6]", [4.5, 5.5]), ("'${[args, 5]}'", [4, 5])],
    )
    def test_over_a_range_that_has_both_ends(self, bounds, values):
        assert self.seen(f"value: v, range: {bounds}", 4) == values

    def test_the_index_begins_with_0(self):
        loop = "{a: {for: {value: v, index: i, in: [a, b], steps: [{s: {assign: [{x: '${v + string(i)}'}]}}]}}}"
        assert result(main("{init: {assign: [{x: ''}]}}, @, {b: {return: '${x}'}}", loop)) == "b1"

    def test_a_variable_of_the_loop_lives_through_its_iterations(self):
        loop = (
            "{a: {for: {value: v, index: i, in: [1, 2], steps: [{s: {switch: [{condition: '${i == 0}',"
            " assign: [{kept: 7}]}]}}, {t: {assign: [{x: '${kept + v}'}]}}]}}}"
        )
        assert result(main("{init: {assign: [{x: 0}]}}, @, {b: {return: '${x}'}}", loop)) == 9

    @pytest.mark.parametrize(
        ("loop", "words"),
        [("in: '${args}'", "takes a list, not a map"), ("range: '${args}'", "takes a list, not a map"),
         ("range: [1]", "a list of two numbers"), ("range: [1, a]", "range must be a number, not a string")],
    )  # fmt: skip
    def test_what_it_cannot_go_through(self, loop, words):
        with pytest.raises(WorkflowError, match=words):
            self.seen(f"value: v, {loop}", {"a": 1})


class TestSubworkflows:
    """https://cloud.google.com/workflows/docs/reference/syntax/subworkflows."""

    def test_parameters_have_defaults(self):
        sub = "sub: {params: [a, {b: 2}, {c: null}], steps: [{r: {return: ['${a}', '${b}', '${c}']}}]}"
        calls = "{x: {call: sub, args: {a: 1}, result: x}}, {y: {call: sub, args: {a: 1, b: null, c: 3}, result: y}}"
        text = main(calls + ", {r: {return: ['${x}', '${y}']}}", others=sub)
        assert result(text) == [[1, 2, None], [1, None, 3]]

    def test_they_do_not_see_the_variables_of_their_caller(self):
        sub = "sub: {steps: [{a: {assign: [{x: 2}]}}, {r: {return: '${x}'}}]}"
        steps = "{a: {assign: [{x: 1}]}}, {c: {call: sub, result: y}}, {r: {return: ['${x}', '${y}']}}"
        assert result(main(steps, others=sub)) == [1, 2]

    def test_twenty_may_be_within_each_other(self):
        """https://cloud.google.com/workflows/quotas; RecursionError: .../docs/reference/syntax/error-types."""
        sub = (
            "sub: {params: [n], steps: [{a: {switch: [{condition: '${n > 1}', call: sub, args: {n: '${n - 1}'}}]}},"
            " {r: {return: ok}}]}"
        )
        text = main("{a: {call: sub, args: {n: '${args}'}, result: x}}, {r: {return: '${x}'}}", others=sub)
        assert result(text, 20) == "ok"
        with pytest.raises(WorkflowError) as caught:
            execute(text, 21)
        assert caught.value.payload["tags"] == ["RecursionError"]

    def test_functions_can_be_called_by_a_step(self):
        """https://cloud.google.com/workflows/docs/reference/stdlib/overview."""
        text = main("{a: {call: text.split, args: {source: a-b, separator: '-'}, result: x}}, {r: {return: '${x}'}}")
        assert result(text) == ["a", "b"]
        assert result(main("{a: {call: sys.now, result: x}}, {r: {return: '${x == sys.now()}'}}")) is True


def failing(*errors):
    """A caller that raises these, one after the other, and then answers."""
    left = list(errors)

    def call(url, body):
        if left:
            raise left.pop(0)
        return "answer"

    return call


def http_error(code):
    return WorkflowError(f"status {code}", "HttpError", code=code, headers={}, body="no")


class TestErrors:
    """https://cloud.google.com/workflows/docs/reference/syntax/catching-errors, and .../raising-errors."""

    CATCH = "{a: {try: @, except: {as: e, steps: [{b: {return: '${e}'}}]}}}"

    @pytest.mark.parametrize("error", ["went wrong", {"code": 55, "message": "went wrong"}, {"own": [1]}])
    def test_what_is_raised_is_what_is_caught(self, error):
        assert result(main(self.CATCH, "{raise: '${args}'}"), error) == error
        with pytest.raises(WorkflowError) as caught:
            execute(main("{a: {raise: '${args}'}}"), error)
        assert caught.value.payload == error

    def test_an_error_of_a_subworkflow_is_caught_by_its_caller(self):
        sub = "sub: {steps: [{a: {return: '${1 / 0}'}}]}"
        caught = result(main(self.CATCH, "{call: sub}", sub))
        assert caught["tags"] == ["ZeroDivisionError"]

    def test_an_http_error_has_its_answer(self):
        caught = result(main(self.CATCH, "{call: http.get, args: {url: u}}"), caller=failing(http_error(404)))
        assert caught == {"message": "status 404", "tags": ["HttpError"], "code": 404, "headers": {}, "body": "no"}

    def test_it_goes_on_after_an_except_that_does_not_say_otherwise(self):
        text = main(
            "{init: {assign: [{x: 0}]}}, {a: {try: {steps: [{b: {assign: [{x: 1}]}}, {c: {raise: no}},"
            " {d: {assign: [{x: 2}]}}]}, except: {as: e, steps: [{f: {assign: [{y: 3}]}}]}}}, {g: {return: '${x}'}}"
        )
        assert result(text.replace("raise: no", "raise: oops")) == 1

    def test_an_error_in_an_except_is_not_caught_by_it(self):
        text = main("{a: {try: {raise: one}, except: {as: e, steps: [{b: {raise: '${e + \" more\"}'}}]}}}")
        with pytest.raises(WorkflowError, match="one more"):
            execute(text)

    def test_a_limit_cannot_be_caught(self):
        text = main("{a: {try: {assign: [{x: '${args}'}]}, except: {as: e, steps: [{b: {return: 1}}]}}}")
        with pytest.raises(ResourceLimitError):
            execute(text, ["x" * 1000] * 300)


class TestRetries:
    """https://cloud.google.com/workflows/docs/reference/syntax/retrying."""

    OWN = (
        "{a: {try: {call: http.post, args: {url: u, body: 1}, result: r},"
        " retry: {predicate: '${own}', max_retries: @, backoff: {initial_delay: 3, max_delay: 10, multiplier: 2}}}},"
        " {b: {return: '${r.body}'}}"
    )
    ALWAYS = "own: {params: [e], steps: [{a: {return: '${e.code == 503}'}}]}"

    def test_they_begin_with_the_initial_delay_and_stay_at_the_longest(self):
        value, host = execute(main(self.OWN, "5", self.ALWAYS), caller=failing(*[http_error(503)] * 5))
        assert value == "answer"
        assert host.slept == [3, 6, 10, 10, 10]

    def test_after_the_last_the_error_goes_on(self):
        with pytest.raises(WorkflowError, match="503"):
            execute(main(self.OWN, "'${args + 1}'", self.ALWAYS), 1, caller=failing(*[http_error(503)] * 3))

    def test_the_predicate_says_which_errors(self):
        with pytest.raises(WorkflowError, match="404"):
            execute(main(self.OWN, "5", self.ALWAYS), caller=failing(http_error(503), http_error(404)))

    def test_it_returns_a_boolean(self):
        with pytest.raises(WorkflowError, match="a predicate must return a boolean, not an integer"):
            execute(main(self.OWN, "5", "own: {params: [e], steps: [{a: {return: 1}}]}"), caller=failing(http_error(1)))

    def test_the_whole_try_runs_again(self):
        text = main(
            "{i: {assign: [{n: 0}]}}, {a: {try: {steps: [{s: {assign: [{n: '${n + 1}'}]}}, {c: {call: http.get, args:"
            " {url: u}}}]}, retry: '${http.default_retry}'}}, {b: {return: '${n}'}}"
        )
        assert result(text, caller=failing(*[http_error(503)] * 2)) == 3

    @pytest.mark.parametrize(
        ("policy", "error", "again"),
        [
            *[("http.default_retry", http_error(code), True) for code in (429, 502, 503, 504)],
            *[("http.default_retry", http_error(code), False) for code in (400, 404, 500)],
            *[("http.default_retry", WorkflowError("no", tag), True)
              for tag in ("ConnectionError", "ConnectionFailedError", "TimeoutError")],
            *[("http.default_retry_non_idempotent", http_error(code), True) for code in (429, 503)],
            *[("http.default_retry_non_idempotent", http_error(code), False) for code in (502, 504)],
            ("http.default_retry_non_idempotent", WorkflowError("no", "ConnectionFailedError"), True),
            ("http.default_retry_non_idempotent", WorkflowError("no", "ConnectionError"), False),
            ("http.default_retry", WorkflowError.raised("a string"), False),
        ],
    )  # fmt: skip
    def test_the_default_policies(self, policy, error, again):
        text = main("{a: {try: {call: http.get, args: {url: u}}, retry: '${@}'}}, {b: {return: ok}}", policy)
        if again:
            value, host = execute(text, caller=failing(*[error] * 5))
            assert (value, host.slept) == ("ok", [1, 1.25, 1.5625, 1.953125, 2.44140625])
        else:
            with pytest.raises(WorkflowError):
                execute(text, caller=failing(error))

    def test_the_default_predicates_can_be_used_with_other_delays(self):
        text = main(self.OWN.replace("${own}", "${http.default_retry_predicate}"), "2")
        assert execute(text, caller=failing(http_error(502)))[1].slept == [3]


class TestParallel:
    """https://cloud.google.com/workflows/docs/reference/syntax/parallel-steps."""

    SUM = main(
        "{init: {assign: [{sum: 0}, {seen: []}, {mine: outer}]}},"
        " {each: {parallel: {shared: [sum, seen], for: {value: item, index: i, in: '${args}', steps:"
        " [{own: {assign: [{double: '${item * 2}'}]}},"
        " {ask: {call: http.post, args: {url: u, body: '${double}'}, result: got}},"
        " {add: {assign: [{sum: '${sum + got.body}'}, {seen: '${list.concat(seen, double + i)}'}]}}]}}}},"
        " {last: {return: ['${sum}', '${seen}', '${mine}']}}"
    )

    def test_iterations_have_their_own_variables_and_write_shared_ones_atomically(self):
        total, seen, mine = result(self.SUM, list(range(50)))
        assert (total, sorted(seen), mine) == (sum(range(50)) * 2, [number * 3 for number in range(50)], "outer")

    @pytest.mark.parametrize(
        ("limit", "most"), [("", 20), ("concurrency_limit: 3,", 3), ("concurrency_limit: 99,", 20)]
    )
    def test_twenty_run_at_a_time_or_fewer(self, limit, most):
        """https://cloud.google.com/workflows/quotas. The calls wait for each other, so that more would be seen."""
        barrier = threading.Barrier(most)
        inside, highest, lock = 0, 0, threading.Lock()

        def call(url, body):
            nonlocal inside, highest
            with lock:
                inside += 1
                highest = max(highest, inside)
            barrier.wait(10)
            with lock:
                inside -= 1
            barrier.wait(10)
            return body

        execute(self.SUM.replace("{shared", "{" + limit + " shared"), list(range(most * 2)), call)
        assert highest == most

    def test_errors_end_their_iterations_only_and_are_told_together(self):
        text = main(
            "{i: {assign: [{n: 0}]}}, {a: {try: {parallel: {shared: [n], for: {value: v, in: [0, 1, 2, 0],"
            " steps: [{b: {assign: [{x: '${1 / v}'}]}}, {c: {assign: [{n: '${n + 1}'}]}}]}}},"
            " except: {as: e, steps: [{d: {return: ['${n}', '${e}']}}]}}}"
        )
        count, error = result(text)
        assert count == 2
        assert error["tags"] == ["UnhandledBranchError"]
        assert [branch["id"] for branch in error["branches"]] == ["0", "3"]
        assert error["branches"][0]["error"]["tags"] == ["ZeroDivisionError"]

    def test_a_limit_in_one_ends_the_execution(self):
        text = main(
            "{a: {parallel: {for: {value: v, in: [1, 2, 3],"
            " steps: [{b: {call: http.get, args: {url: u}, result: r}}]}}}}"
        )
        with pytest.raises(ResourceLimitError, match="the variables hold"):
            execute(text, caller=lambda url, body: ["x" * 200_000, "y" * 200_000, "z" * 200_000])

    def test_a_list_that_is_empty_is_nothing_to_do(self):
        assert result(self.SUM, []) == [0, [], "outer"]


class TestLimits:
    """https://cloud.google.com/workflows/quotas."""

    @pytest.mark.slow
    def test_100_000_steps(self):
        with pytest.raises(ResourceLimitError, match="100,000 steps"):
            execute(main("{again: {assign: [{x: 1}], next: again}}"))

    def test_512_kb_of_variables(self):
        text = main("{a: {assign: [{x: '${args}'}]}}, {b: {return: ok}}")
        assert result(text, ["x" * 1000] * 250) == "ok"
        with pytest.raises(ResourceLimitError, match=r"the variables hold .* the limit is 524288"):
            execute(text, ["x" * 1000] * 262)

    def test_256_kb_a_string(self):
        assert result(main("{a: {return: '${len(args)}'}}"), "x" * 256 * 1024) == 256 * 1024
        with pytest.raises(ResourceLimitError, match="a string has 262146 bytes"):
            execute(main("{a: {return: 1}}"), "x" * 256 * 1024 + "é")

    @pytest.mark.parametrize("seconds", [-1, YEAR + 1])
    def test_a_sleep_is_at_most_a_year(self, seconds):
        with pytest.raises(WorkflowError, match="cannot sleep"):
            execute(main("{a: {call: sys.sleep, args: {seconds: '${args}'}}}"), seconds)

    def test_an_execution_ends_after_a_year(self):
        text = main("{a: {call: sys.sleep, args: {seconds: '${args}'}}}, {b: {return: ok}}")
        assert result(text, YEAR - 1) == "ok"
        with pytest.raises(ResourceLimitError, match="has lasted for a year"):
            execute(text, YEAR)
        rounds = main("{a: {call: sys.sleep, args: {seconds: 86400}, next: a}}")
        with pytest.raises(ResourceLimitError, match="has lasted for a year"):
            execute(rounds)

    def test_an_http_call_lasts_1800_s_at_most(self):
        """https://cloud.google.com/workflows/docs/reference/stdlib/http/post."""
        text = main("{a: {call: http.post, args: {url: u, body: 1, timeout: '${args}'}}}")
        execute(text, 1800)
        for timeout in (1801, 0):
            with pytest.raises(WorkflowError, match="the limit is 1800"):
                execute(text, timeout)


class TestLog:
    """https://cloud.google.com/workflows/docs/reference/stdlib/sys/log."""

    def test_it_takes_one_of_data_text_and_json(self):
        log = "call: sys.log, args:"
        _, host = execute(main("{a: {@ {data: [1], severity: ERROR}}}, {b: {@ {text: t}}}", log))
        assert host.logged == [{"data": [1], "severity": "ERROR"}, {"text": "t"}]

    @pytest.mark.parametrize(
        ("args", "words"),
        [("{}", "one of data, text and json"), ("{text: a, data: b}", "one of data"),
        ("{json: a}", "json must be a map"),
         ("{text: a, severity: BAD}", "severity must be one of")],
    )  # fmt: skip
    def test_anything_else_is_an_error(self, args, words):
        with pytest.raises(WorkflowError, match=words):
            execute(main("{a: {call: sys.log, args: @}}", args))


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2),
    max_leaves=6,
)
places = st.lists(st.sampled_from(["a", "b", 0, 1]), min_size=1, max_size=3)


@pytest.mark.slow
@settings(deadline=None)
@given(plain, places, plain)
def test_setting_a_place_changes_that_place_and_no_other_variable(value, path, new):
    target = "x" + "".join(f'["{key}"]' if isinstance(key, str) else f"[{key}]" for key in path)
    text = main(
        "{a: {assign: [{x: '${args.value}'}, {y: '${x}'}]}},"
        " {b: {try: {assign: [{'@': '${args.new}'}]}, except: {as: e, steps: [{c: {return: refused}}]}}},"
        " {d: {return: ['${y}', '${@}']}}",
        target,
    )
    given = {"value": value, "new": new}
    outcome, host = execute(text, given)
    assert outcome in ("refused", [value, new])
    assert given == {"value": value, "new": new}
    assert host.held == 0


@given(plain)
def test_a_value_takes_what_its_parts_take(value):
    if isinstance(value, dict):
        assert size(value) == 8 + sum(map(size, value)) + sum(map(size, value.values()))
    elif isinstance(value, list):
        assert size(value) == 8 + sum(map(size, value))
    else:
        assert size(value) == 8 + (len(value.encode()) if isinstance(value, str) else 0)
