"""What the workflow does, run on loopback with its sleeps skipped: every branch, every fault, its limits."""

import itertools
import json

import pytest
from google.auth import jwt
from typer.testing import CliRunner

from lro_aio.cli.app import app
from lro_aio.testing import LocalIssuer
from lro_aio.testing.workflows.expressions import MAX_EXPRESSION
from lro_aio.testing.workflows.fake import DEFINITION
from lro_aio.testing.workflows.reader import load
from lro_aio.testing.workflows.requests import Caller
from lro_aio.testing.workflows.values import WorkflowError

from .workflow_runs import DAY, HOUR, NOW, Run, Script, plain, steps_of

YEAR = 365 * DAY
RETRIED = [408, 425, 429, 500, 502, 503, 504]
REFUSED = [401, 403]  # keys rotate, and a grant takes minutes to be seen
BROKEN = ["refused", "dropped", "timeout"]
OK = (200, {"resumed": True})


@pytest.fixture
def server():
    with Script() as script:
        script.answer("/resume", OK)
        yield script


@pytest.fixture
def caller():
    return Caller(LocalIssuer(issuer="https://issuer.test"))


@pytest.fixture
def run(caller):
    return Run(caller)


@pytest.fixture
def start(server, run):
    """``start(**members)`` runs to the end; returns what the call back said."""

    def execute(**members):
        argument = {
            "operation": "operations/parent", "resumeToken": "token-1", "resumeUrl": f"{server.url}/resume", **members,
        }  # fmt: skip
        result = run.execute(argument)
        said = server.bodies("/resume")[-1]
        assert said["reason"] == result
        return said

    return execute


@pytest.fixture
def poll(server, start):
    """The same with children ``a`` and ``b`` and a poll endpoint."""

    def execute(**members):
        return start(**{"children": ["a", "b"], "pollUrl": f"{server.url}/poll", **members})

    return execute


def pending(*names):
    return 200, {"pending": list(names)}


class TestTheText:
    def test_it_keeps_the_limits_of_a_source(self):
        assert DEFINITION.stat().st_size < 128 * 1024
        texts = load(DEFINITION).expressions
        assert len(texts) > 50
        assert max(map(len, texts)) <= MAX_EXPRESSION

    def test_step_names_are_unique(self):
        names = [name for name, _ in steps_of(plain())]
        assert sorted(names) == sorted(set(names))

    def test_every_call_over_http_has_an_identity_token_with_an_audience(self):
        calls = [step for _, step in steps_of(plain()) if "http" in str(step.get("call", ""))]
        calls += [step["try"] for _, step in steps_of(plain()) if "call" in step.get("try", {})]
        assert len(calls) == 3
        for call in calls:
            assert call["args"]["auth"]["type"] == "OIDC"
            assert call["args"]["auth"]["audience"].endswith("Audience}")

    def test_it_logs_errors_and_nothing_else(self):
        logs = [step for _, step in steps_of(plain()) if step.get("call") == "sys.log"]
        assert logs
        assert {step["args"]["severity"] for step in logs} == {"ERROR"}
        assert not any("oken}" in step["args"]["text"] or "oken +" in step["args"]["text"] for step in logs)

    def test_the_command_prints_it_as_it_is(self):
        printed = CliRunner().invoke(app, ["workflow"])
        assert printed.exit_code == 0
        assert printed.stdout == DEFINITION.read_text(encoding="utf-8")


class TestSleeping:
    def test_it_sleeps_until_the_time_and_says_that_it_is_over(self, start, run):
        said = start(wakeTime=NOW + 30 * DAY)
        assert said == {
            "operation": "operations/parent", "resumeToken": "token-1", "reason": "ELAPSED", "pending": [], "error": "",
        }  # fmt: skip
        assert run.time == NOW + 30 * DAY

    @pytest.mark.parametrize("wake", [{}, {"wakeTime": NOW - 5}, {"wakeTime": 0}, {"wakeTime": None}])
    def test_a_time_that_is_past_or_absent_is_no_sleep(self, start, run, wake):
        assert start(**wake)["reason"] == "ELAPSED"
        assert run.time == NOW

    def test_a_late_start_does_not_sleep_longer(self, start, run):
        run.time = NOW + 10
        start(wakeTime=NOW + 100)
        assert run.time == NOW + 100

    def test_a_fraction_of_a_second_is_never_slept_short(self, start, run):
        start(wakeTime=NOW + 0.3)
        assert run.time >= NOW + 0.3

    def test_a_year_but_for_a_day_is_slept_in_one_execution(self, start, run):
        assert start(wakeTime=NOW + YEAR - DAY)["reason"] == "ELAPSED"
        assert run.time == NOW + YEAR - DAY

    @pytest.mark.parametrize("wake", [YEAR - DAY + 2, YEAR - 5, YEAR, YEAR + 60, 3 * YEAR])
    def test_longer_ones_go_on_in_another_execution_before_this_one_ends(self, caller, start, run, wake):
        """With a day to spare: an execution ends after a year, in the middle of its retries too."""
        caller.fail(503, 5, "/resume", "before")
        assert start(wakeTime=NOW + wake)["reason"] == "STEP_BUDGET"
        assert NOW + YEAR - DAY <= run.time < NOW + YEAR - DAY + 60

    def test_a_day_is_long_enough_for_every_retry_of_the_call_back(self):
        calls = []

        def slow(url, body):
            calls.append(body["reason"])
            run.time += 1800
            if len(calls) <= 20:
                raise WorkflowError("no answer in time", "TimeoutError")
            return {"resumed": True}

        run = Run(slow)
        argument = {"operation": "o", "resumeToken": "t", "resumeUrl": "http://x/r", "wakeTime": NOW + YEAR - DAY}
        assert run.execute(argument) == "ELAPSED"
        assert len(calls) == 21
        assert run.time < NOW + YEAR - DAY / 3

    def test_children_come_after_the_sleep(self, server, poll, run):
        server.answer("/poll", pending())
        assert poll(wakeTime=NOW + DAY)["reason"] == "CHILDREN_DONE"
        assert [time for time, url, _ in run.sent if url.endswith("/poll")] == [NOW + DAY]


class TestBatch:
    def test_it_asks_until_nobody_is_pending(self, server, poll):
        server.answer("/poll", pending("a", "b"), pending("b"), pending())
        said = poll()
        assert (said["reason"], said["pending"], said["error"]) == ("CHILDREN_DONE", [], "")
        question = {"operation": "operations/parent", "resumeToken": "token-1", "operations": ["a", "b"]}
        assert server.bodies("/poll") == [question] * 3, "an answer may be cut: nobody is dropped from the question"

    def test_children_that_the_service_knows_are_not_named(self, server, poll):
        server.answer("/poll", pending("x"), pending())
        assert poll(children=None)["reason"] == "CHILDREN_DONE"
        assert server.bodies("/poll")[0] == {"operation": "operations/parent", "resumeToken": "token-1"}

    def test_null_is_an_empty_list_as_go_writes_it(self, server, poll):
        server.answer("/poll", (200, {"pending": None}))
        assert poll()["reason"] == "CHILDREN_DONE"

    def test_the_interval_grows_by_a_quarter_up_to_the_cap(self, server, poll, run):
        server.answer("/poll", *[pending("a")] * 9, pending())
        poll(pollInterval=10, maxPollInterval=30)
        times = [time for time, url, _ in run.sent if url.endswith("/poll")]
        assert times[0] == NOW
        exact = [10, 12.5, 15.625, 19.53, 24.41, 30, 30, 30, 30]
        gaps = [after - before for before, after in itertools.pairwise(times)]
        assert all(want <= gap < want + 1 for want, gap in zip(exact, gaps, strict=True))

    def test_intervals_have_defaults_and_a_floor(self, server, poll, run):
        server.answer("/poll", *[pending("a")] * 30, pending())
        poll()
        assert run.slept[1] == 5
        assert max(run.slept) == 300
        run.slept.clear()
        server.answer("/poll", pending("a"), pending())
        poll(pollInterval=0, maxPollInterval=0)
        assert set(run.slept[1:]) <= {1}

    def test_the_deadline_names_those_that_are_pending(self, server, poll, run):
        server.answer("/poll", pending("a", "b"), pending("b"))
        said = poll(deadline=NOW + 1000)
        assert (said["reason"], said["pending"], said["error"]) == ("CHILDREN_TIMEOUT", ["b"], "")
        assert run.time == NOW + 1000

    def test_the_deadline_is_measured_by_the_clock_not_by_what_was_slept(self, server, poll, run):
        def slowly(body):
            run.time += 400
            return pending("a")

        server.answer("/poll", slowly)
        poll(deadline=NOW + 1000)
        assert run.time <= NOW + 1000 + 400
        assert len(server.bodies("/poll")) <= 4

    def test_who_ends_at_the_deadline_is_seen(self, server, poll, run):
        server.answer("/poll", lambda body: pending() if run.time >= NOW + 60 else pending("a"))
        assert poll(deadline=NOW + 60)["reason"] == "CHILDREN_DONE"

    @pytest.mark.parametrize("fault", [*RETRIED, *REFUSED, *BROKEN])
    def test_a_poll_that_fails_is_tried_again(self, server, caller, poll, run, fault):
        server.answer("/poll", pending())
        caller.fail(fault, 5, "/poll", "before")
        said = poll()
        assert (said["reason"], said["error"]) == ("CHILDREN_DONE", "")
        assert run.time == NOW + 1 + 2 + 4 + 8 + 16

    @pytest.mark.parametrize(
        "answer",
        [
            (200, "<html>wait</html>"),
            (200, {}),
            (200, {"pending": 7}),
            (200, {"pending": "a"}),
            ("drop", ""),
            (503, "no"),
        ],
        ids=["page", "empty", "number", "text", "dropped", "503"],
    )
    def test_an_answer_that_says_nothing_is_never_taken_for_done(self, server, poll, answer):
        server.answer("/poll", answer, answer, pending("a"), pending())
        assert poll()["reason"] == "CHILDREN_DONE"
        assert len(server.bodies("/poll")) == 4

    @pytest.mark.parametrize("fault", [503, 403, "refused", "dropped", "timeout"])
    def test_a_poll_that_keeps_failing_resumes_with_the_reason(self, server, caller, poll, run, fault):
        server.answer("/poll", pending("b"))
        caller.fail(500, 0, "/poll", "before")
        server.answer("/poll", lambda body: caller.fail(fault, 100, "/poll", "before") or pending("b"))
        said = poll()
        assert (said["reason"], said["pending"]) == ("POLL_FAILED", ["b"])
        assert said["error"].startswith(f"poll failed, status {fault if isinstance(fault, int) else 0}: ")
        assert len([url for _, url, _ in run.sent if url.endswith("/poll")]) == 2 + 13
        assert 20 * 60 < run.time - NOW < HOUR

    @pytest.mark.parametrize("status", [400, 404, 413])
    def test_what_no_retry_mends_resumes_at_once(self, server, poll, run, status):
        server.answer("/poll", (status, "no"))
        said = poll()
        assert (said["reason"], said["pending"]) == ("POLL_FAILED", ["a", "b"])
        assert f"status {status}" in said["error"]
        assert run.time == NOW

    def test_the_deadline_is_kept_while_polls_fail(self, server, poll, run):
        server.answer("/poll", (503, "no"))
        said = poll(deadline=NOW + 100)
        assert (said["reason"], said["pending"]) == ("CHILDREN_TIMEOUT", ["a", "b"])
        assert "status 503" in said["error"]
        assert run.time == NOW + 100

    def test_failures_that_are_mended_do_not_add_up(self, server, poll):
        server.answer("/poll", *[(503, "no"), (503, "no"), pending("a")] * 10, pending())
        assert poll()["reason"] == "CHILDREN_DONE"


class TestEach:
    @pytest.fixture
    def each(self, server, start):
        """``each({child: [answers]})``; the last answer of a child is given again and again."""

        def execute(answers, **members):
            def answer(body):
                queue = answers[body["name"]]
                return queue.pop(0) if len(queue) > 1 else queue[0]

            server.answer("/get", answer)
            members = {"children": list(answers), "pollUrl": f"{server.url}/get", "pollStyle": "each", **members}
            return start(**members)

        return execute

    DONE = (200, {"name": "x", "done": True, "response": {}})
    FAILED = (200, {"name": "x", "done": True, "error": {"code": 5}})
    PENDING = (200, {"name": "x"})

    def test_it_asks_for_each_until_all_are_done(self, server, each):
        said = each({"a": [self.DONE], "b": [self.PENDING, self.PENDING, self.DONE], "c": [self.PENDING, self.FAILED]})
        assert (said["reason"], said["pending"], said["error"]) == ("CHILDREN_DONE", [], "")
        asked = [body["name"] for body in server.bodies("/get")]
        assert sorted(asked[:3]) == ["a", "b", "c"]
        assert sorted(asked[3:5]) == ["b", "c"]
        assert asked[5:] == ["b"]

    @pytest.mark.parametrize(
        "body", [{}, {"done": False}, {"done": None}, {"done": "true"}, {"response": {}}, {"done": 1}]
    )
    def test_only_true_is_done(self, each, body):
        said = each({"a": [(200, body)]}, deadline=NOW + 60)
        assert (said["reason"], said["pending"]) == ("CHILDREN_TIMEOUT", ["a"])

    def test_a_child_that_does_not_exist_has_ended(self, each):
        said = each({"a": [(404, {"error": {"code": 404}})], "b": [self.DONE]})
        assert (said["reason"], said["error"]) == ("CHILDREN_DONE", "")

    @pytest.mark.parametrize("status", [*RETRIED, *REFUSED])
    def test_a_poll_that_fails_is_tried_again_for_that_child_only(self, server, each, status):
        said = each({"a": [self.PENDING, self.DONE], "b": [(status, "no"), (status, "no"), self.PENDING, self.DONE]})
        assert (said["reason"], said["error"]) == ("CHILDREN_DONE", "")
        assert [body["name"] for body in server.bodies("/get")].count("a") == 2

    def test_a_page_that_is_no_operation_is_never_taken_for_done(self, each):
        said = each({"a": [(200, "<html>")]}, deadline=NOW + 60)
        assert (said["reason"], said["pending"]) == ("CHILDREN_TIMEOUT", ["a"])

    def test_one_that_keeps_failing_resumes_with_all_that_are_pending(self, each, run):
        said = each({"a": [self.PENDING], "b": [(503, "no")], "c": [self.DONE]})
        assert said["reason"] == "POLL_FAILED"
        assert sorted(said["pending"]) == ["a", "b"]
        assert "b failed, status 503" in said["error"]
        assert 20 * 60 < run.time - NOW < HOUR

    def test_what_no_retry_mends_resumes_at_once(self, each, run):
        said = each({"a": [self.PENDING], "b": [(400, "no")]})
        assert said["reason"] == "POLL_FAILED"
        assert sorted(said["pending"]) == ["a", "b"]
        assert run.time == NOW

    def test_the_deadline_counts_those_that_could_not_be_asked(self, each, run):
        said = each({"a": [self.PENDING], "b": [(503, "no")]}, deadline=NOW + 30)
        assert said["reason"] == "CHILDREN_TIMEOUT"
        assert sorted(said["pending"]) == ["a", "b"]
        assert run.time == NOW + 30

    def test_nothing_sleeps_while_it_keeps_others_waiting(self, each, run):
        each({**{f"c{n}": [(503, "no"), self.PENDING, self.DONE] for n in range(45)}})
        assert run.slept
        assert not run.slept_in_parallel


class TestUnusable:
    @pytest.mark.parametrize(
        "members",
        [
            {"children": ["a"]},
            {"children": ["a"], "pollUrl": "http://127.0.0.1:1/poll", "pollStyle": "all"},
            {"pollUrl": "http://127.0.0.1:1/get", "pollStyle": "each"},
        ],
        ids=["no url", "unknown style", "each without children"],
    )
    def test_an_argument_that_says_not_how_to_poll_resumes_with_the_reason(self, start, members):
        said = start(**members)
        assert said["reason"] == "POLL_FAILED"
        assert "pollUrl" in said["error"]

    @pytest.mark.parametrize("missing", ["operation", "resumeToken", "resumeUrl"])
    def test_an_argument_without_a_way_back_fails(self, run, missing):
        argument = {"operation": "operations/a", "resumeToken": "t", "resumeUrl": "http://127.0.0.1:1/resume"}
        del argument[missing]
        with pytest.raises(WorkflowError, match=missing):
            run.execute(argument)


class TestResuming:
    @pytest.mark.parametrize("fault", [*RETRIED, *REFUSED, *BROKEN])
    def test_it_is_tried_twenty_times_more(self, caller, start, run, fault):
        caller.fail(fault, 20, "/resume", "before")
        assert start()["reason"] == "ELAPSED"
        assert len(run.sent) == 21
        assert run.slept[1:] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, *[600] * 10]

    def test_an_answer_that_is_lost_is_a_call_back_more_with_the_same_token(self, server, caller, start):
        caller.fail("dropped", 1, "/resume", "after")
        start()
        first, second = server.bodies("/resume")
        assert first == second

    @pytest.mark.parametrize("status", REFUSED)
    def test_a_refusal_is_logged(self, caller, start, run, status):
        caller.fail(status, 2, "/resume", "before")
        start()
        assert [entry["severity"] for entry in run.logged] == ["ERROR", "ERROR"]
        assert str(status) in run.logged[0]["text"]

    def test_nothing_is_logged_where_nothing_is_wrong(self, server, caller, poll, run):
        server.answer("/poll", (503, "no"), pending("a"), pending())
        caller.fail(503, 3, "/resume", "before")
        poll()
        assert run.logged == []

    def test_at_the_end_of_the_tries_it_fails_and_says_so(self, caller, server, run, start):
        caller.fail(503, 100, "/resume", "before")
        with pytest.raises(WorkflowError, match="503"):
            start()
        assert len(run.sent) == 21
        assert "operations/parent" in run.logged[-1]["text"]
        assert "token-1" not in json.dumps(run.logged)

    @pytest.mark.parametrize("status", [400, 404, 413])
    def test_what_no_retry_mends_is_not_tried_again(self, caller, start, run, status):
        caller.fail(status, 100, "/resume", "before")
        with pytest.raises(WorkflowError):
            start()
        assert len(run.sent) == 1

    def test_it_waits_for_the_handler_as_long_as_workflows_can(self, start, run):
        start()
        assert run.sent[0][2]["timeout"] == 1800


class TestTokens:
    def claims(self, server, path):
        headers = next(headers for called, _, headers in server.calls if called == path)
        kind, _, token = headers["Authorization"].partition(" ")
        assert kind == "Bearer"
        return jwt.decode(token, verify=False)

    def test_the_audience_is_the_origin_unless_given(self, server, poll):
        server.answer("/poll", pending())
        poll()
        assert self.claims(server, "/poll")["aud"] == server.url
        assert self.claims(server, "/resume")["aud"] == server.url

    def test_each_endpoint_has_its_own_audience(self, server, poll):
        server.answer("/poll", pending())
        poll(pollAudience="https://poll.test", resumeAudience="https://resume.test")
        assert self.claims(server, "/poll")["aud"] == "https://poll.test"
        assert self.claims(server, "/resume")["aud"] == "https://resume.test"
