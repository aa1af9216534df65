"""The limits of Cloud Workflows, which the workflow keeps: steps, variables, a year.

Time is skipped and the server is a function, so that a year is seconds.
"""

import itertools
import json

import pytest

from lro_aio.schedulers.workflows import MAX_NAMES
from lro_aio.servers.resume import MAX_PENDING_BYTES
from lro_aio.testing.workflows.values import WorkflowError, size

from .workflow_runs import DAY, HOUR, NOW, Run, plain, steps_of

YEAR = 365 * DAY

pytestmark = pytest.mark.slow


def waits(children, *, answer, **members):
    names = [f"operations/{number:036d}" for number in range(children)]
    run = Run(lambda url, body: {"resumed": True} if url.endswith("resume") else answer(names))
    argument = {
        "operation": "operations/parent", "resumeToken": "t" * 40, "resumeUrl": "http://127.0.0.1:1/resume",
        "children": names, "pollUrl": "http://127.0.0.1:1/poll", **members,
    }  # fmt: skip
    assert len(json.dumps(argument)) <= 32 * 1024
    return run, run.execute(argument)


@pytest.mark.parametrize("children", [1, 500])
def test_a_year_takes_less_than_half_of_the_steps(children):
    run, reason = waits(
        children, answer=lambda names: {"pending": names}, deadline=NOW + YEAR - DAY, maxPollInterval=HOUR
    )
    assert reason == "CHILDREN_TIMEOUT"
    assert run.time - NOW == YEAR - DAY
    assert 40_000 < run.steps < 50_000


def test_rounds_that_come_often_go_on_in_another_execution_before_the_limit():
    run, reason = waits(2, answer=lambda names: {"pending": names}, maxPollInterval=5)
    assert reason == "STEP_BUDGET"
    assert 40_000 < run.steps < 50_000


@pytest.mark.parametrize("children", [1, 500])
def test_each_goes_on_in_another_execution_before_the_limit(children):
    run, reason = waits(children, answer=lambda names: {"done": False}, pollStyle="each")
    assert reason == "STEP_BUDGET"
    assert 20_000 < run.steps < 50_000


@pytest.mark.parametrize("style", ["batch", "each"])
def test_failures_cost_no_more_than_is_counted(style):
    calls = iter(range(10**9))

    def half(names):
        return {"pending": names} if next(calls) % 2 else "no JSON"

    run, reason = waits(9, answer=half, pollStyle=style, maxPollInterval=5)
    assert reason == "STEP_BUDGET"
    assert run.steps < 50_000


def test_without_a_deadline_it_goes_on_in_another_execution_within_the_year():
    run, reason = waits(1, answer=lambda names: {"pending": names}, maxPollInterval=DAY)
    assert reason == "STEP_BUDGET"
    assert 300 * DAY < run.time - NOW <= YEAR - DAY


@pytest.mark.parametrize("deadline", [YEAR - 5, YEAR, 2 * YEAR])
def test_a_deadline_later_than_that_is_for_the_execution_after_this_one(deadline):
    run, reason = waits(1, answer=lambda names: {"pending": names}, maxPollInterval=DAY, deadline=NOW + deadline)
    assert reason == "STEP_BUDGET"
    assert run.time - NOW <= YEAR - DAY


def test_a_large_error_of_a_poll_is_a_failed_poll():
    """It is a variable; a second copy of it would end the execution, and no `except` catches that."""
    calls = iter(range(100))

    def answer(names):
        if next(calls) < 3:
            page = ["x" * 1000] * 400  # 400 KB
            raise WorkflowError("m" * 10_000, "HttpError", code=503, headers={}, body=page)
        return {"pending": []}

    run, reason = waits(2, answer=answer)
    assert (reason, len(run.sent)) == ("CHILDREN_DONE", 5)
    assert 400_000 < run.peak < 512 * 1024


@pytest.mark.parametrize("style", ["batch", "each"])
@pytest.mark.parametrize(("length", "kept"), [(500, "m" * 500), (501, "a long message")])
def test_no_long_message_is_kept(style, length, kept):
    def answer(names):
        raise WorkflowError("m" * length, "HttpError", code=400)

    run, reason = waits(2, answer=answer, pollStyle=style)
    said = run.sent[-1][2]["body"]
    assert (reason, said["error"].split(": ")[-1]) == ("POLL_FAILED", kept)


def test_a_large_error_of_the_call_back_is_tried_again():
    answers = iter([WorkflowError("no", "HttpError", code=503, headers={}, body=["x" * 1000] * 400)] * 3)

    def caller(url, body):
        for error in answers:
            raise error
        return {}

    run = Run(caller)
    assert run.execute({"operation": "o", "resumeToken": "t", "resumeUrl": "http://x/r"}) == "ELAPSED"
    assert len(run.sent) == 4


@pytest.mark.parametrize("children", [1, 500])
@pytest.mark.parametrize("status", [200, 503])
def test_in_style_each_ten_answers_of_20_kb_fit_beside_the_lists(children, status):
    """As many as are read at a time. The lists are measured with answers of a few bytes."""
    answers = itertools.cycle([WorkflowError("no", "HttpError", code=503), {"done": False}])

    def answer(names):
        said = next(answers)
        if isinstance(said, WorkflowError):
            raise said
        return said

    run, reason = waits(children, answer=answer, pollStyle="each", deadline=NOW + 100)
    assert reason == "CHILDREN_TIMEOUT"
    large = {
        "code": status,
        "headers": {},
        "body": {"done": True, "response": "x" * 20 * 1024},
        "message": "",
        "tags": [],
    }
    (parallel,) = (step["parallel"] for _, step in steps_of(plain()) if "parallel" in step)
    assert run.peak + parallel["concurrency_limit"] * size(large) < 512 * 1024


@pytest.mark.parametrize("length", [12, 47, 512])
@pytest.mark.parametrize("style", ["batch", "each"])
def test_what_the_scheduler_and_the_endpoint_send_leaves_more_than_half(style, length):
    """Short names take the most: each string is 8 bytes more than its letters."""

    def names(most):
        letters = length - len("operations/")
        return [f"operations/{n:0{letters}d}"[:length] for n in range(most // (length + 4))]

    said = {"pending": names(MAX_PENDING_BYTES)} if style == "batch" else {"done": False}
    run = Run(lambda url, body: said)
    argument = {
        "operation": "o" * 512, "resumeToken": "t" * 40, "resumeUrl": "http://127.0.0.1:1/resume",
        "children": names(MAX_NAMES), "pollUrl": "http://127.0.0.1:1/poll", "pollStyle": style,
        "deadline": NOW + 100,
    }  # fmt: skip
    assert MAX_NAMES - 600 < len(json.dumps(argument["children"])) <= MAX_NAMES
    assert run.execute(argument) in ("CHILDREN_TIMEOUT", "STEP_BUDGET")
    assert run.peak < 256 * 1024


def test_in_style_batch_answers_of_128_kb_fit():
    names = [f"operations/{number:0100d}" for number in range(1120)]
    assert 127_000 < len(json.dumps({"pending": names})) < 128 * 1024
    run, reason = waits(500, answer=lambda _: {"pending": names}, deadline=NOW + HOUR)
    assert reason == "CHILDREN_TIMEOUT"
    assert run.peak < 400 * 1024


def test_the_variables_hold_the_longest_lists():
    long = ["operations/" + "x" * 300 + str(number) for number in range(500)]
    run, reason = waits(500, answer=lambda names: {"pending": long}, deadline=NOW + HOUR)
    assert reason == "CHILDREN_TIMEOUT"
    assert 300 * 1024 < run.peak < 512 * 1024
