"""FakeWorkflows behaves like Cloud Workflows as far as a scheduler can tell, and fails on request."""

import asyncio
import json
import threading
import time

import grpc
import pytest
import pytest_asyncio
from google.api_core import exceptions
from google.auth.transport import requests as google_requests
from google.cloud.workflows.executions_v1 import Execution, ExecutionsAsyncClient, types
from google.oauth2 import id_token

from lro_aio.testing import FakeWorkflows, LocalIssuer, ManualClock
from lro_aio.testing.workflows import engine
from lro_aio.testing.workflows.expressions import UndefinedError, evaluate, library, render

from .workflow_runs import DAY, NOW, Run, Script

PARENT = "projects/p/locations/l/workflows/lro-aio"
OK = (200, {"resumed": True})


@pytest.fixture
def clock():
    return ManualClock(NOW)


@pytest_asyncio.fixture
async def fake(clock):
    async with FakeWorkflows(clock=clock) as opened:
        yield opened


@pytest.fixture
def server():
    with Script() as script:
        script.answer("/resume", OK)
        yield script


@pytest.fixture
def executions(fake):
    return ExecutionsAsyncClient(transport=fake.transport())


@pytest.fixture
def create(executions, server):
    """``await create(**members)`` starts an execution with this argument."""

    async def start(**members):
        argument = {"operation": "operations/a", "resumeToken": "t", "resumeUrl": f"{server.url}/resume", **members}
        made = Execution(argument=json.dumps(argument), labels={"operation": "a"})
        return await executions.create_execution(parent=PARENT, execution=made, timeout=10)

    return start


def said(server):
    return [body["reason"] for body in server.bodies("/resume")]


@pytest.mark.asyncio
async def test_a_month_passes_in_a_moment_and_not_by_itself(create, clock, server, fake):
    made = await create(wakeTime=NOW + 30 * DAY)
    await clock.advance(30 * DAY - 1)
    assert not server.calls
    assert fake.executions[made.name].sleeping_until == NOW + 30 * DAY
    began = time.monotonic()
    await clock.advance(1)
    assert said(server) == ["ELAPSED"]
    assert time.monotonic() - began < 5


@pytest.mark.asyncio
async def test_advance_goes_through_every_poll(create, clock, server, fake):
    server.answer("/poll", *[(200, {"pending": ["b"]})] * 5, (200, {"pending": []}))
    made = await create(children=["b"], pollUrl=f"{server.url}/poll", pollInterval=10, maxPollInterval=10)
    await clock.advance(49)
    assert len(server.bodies("/poll")) == 5
    await clock.advance(1)
    assert said(server) == ["CHILDREN_DONE"]
    assert fake.executions[made.name].state == "SUCCEEDED"
    assert fake.steps[made.name] == fake.executions[made.name].steps > 30
    assert [request.url for request in fake.requests if request.execution == made.name][-1].endswith("/resume")


@pytest.mark.asyncio
async def test_an_execution_can_be_read_and_listed_while_it_lives_and_after(create, clock, executions, server):
    made = await create(wakeTime=NOW + 60)
    assert made.name.startswith(f"{PARENT}/executions/")
    found = await executions.get_execution(name=made.name, timeout=10)
    assert (found.state, dict(found.labels)) == (Execution.State.ACTIVE, {"operation": "a"})
    assert json.loads(found.argument)["operation"] == "operations/a"
    assert found.start_time.timestamp() == NOW
    await clock.advance(60)
    found = await executions.get_execution(name=made.name, timeout=10)
    assert (found.state, found.result) == (Execution.State.SUCCEEDED, '"ELAPSED"')
    assert found.end_time.timestamp() == NOW + 60
    basic = await executions.get_execution(request={"name": made.name, "view": types.ExecutionView.BASIC}, timeout=10)
    assert not basic.argument
    others = [await create() for _ in range(3)]
    pager = await executions.list_executions(request={"parent": PARENT, "page_size": 2}, timeout=10)
    names = [one.name async for one in pager]
    assert names == [one.name for one in reversed([made, *others])]


@pytest.mark.asyncio
async def test_a_cancelled_execution_calls_nobody(create, clock, executions, server):
    made = await create(wakeTime=NOW + 60)
    gone = await executions.cancel_execution(name=made.name, timeout=10)
    assert gone.state == Execution.State.CANCELLED
    with pytest.raises(exceptions.FailedPrecondition):
        await executions.cancel_execution(name=made.name, timeout=10)
    await clock.advance(100)
    assert not server.calls


@pytest.mark.asyncio
async def test_a_killed_execution_calls_nobody(create, clock, server, fake):
    made = await create(wakeTime=NOW + 60)
    fake.kill(made.name)
    await clock.advance(100)
    assert not server.calls
    assert fake.executions[made.name].state == "FAILED"


@pytest.mark.asyncio
async def test_one_that_waits_for_an_answer_can_be_killed(create, fake, server):
    arrived, release = threading.Event(), threading.Event()

    def hang(body):
        arrived.set()
        release.wait(10)
        return OK

    server._answers["/resume"].clear()
    server.answer("/resume", hang)
    made = await create()
    assert await asyncio.to_thread(arrived.wait, 10)
    fake.kill(made.name)
    await asyncio.to_thread(fake.executions[made.name].join, 10)
    assert not fake.executions[made.name]._thread.is_alive()
    release.set()


@pytest.mark.asyncio
async def test_time_can_move_while_a_call_waits_for_its_answer(clock, server):
    """The handler behind it may wait for the clock."""
    moved = threading.Event()

    def wait_for_the_clock(body):
        moved.wait(10)
        return OK

    server._answers["/resume"].clear()
    server.answer("/resume", wait_for_the_clock)
    async with FakeWorkflows(clock=clock, patience=0.05) as fake:
        executions = ExecutionsAsyncClient(transport=fake.transport())
        argument = {"operation": "operations/a", "resumeToken": "t", "resumeUrl": f"{server.url}/resume"}
        await executions.create_execution(parent=PARENT, execution=Execution(argument=json.dumps(argument)), timeout=10)
        clock.call_at(NOW + 10, moved.set)
        await clock.advance(10)
        await fake.settle()
        async with asyncio.timeout(10):
            while not [one for one in fake.executions.values() if one.state == "SUCCEEDED"]:
                await asyncio.sleep(0.01)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("argument", "parent", "error"),
    [
        ("{", PARENT, exceptions.InvalidArgument),
        (json.dumps("x" * 32 * 1024), PARENT, exceptions.InvalidArgument),
        ("{}", "projects/p/locations/l", exceptions.InvalidArgument),
    ],
    ids=["no JSON", "too long", "no workflow"],
)
async def test_what_workflows_refuses_is_refused(executions, argument, parent, error):
    with pytest.raises(error):
        await executions.create_execution(parent=parent, execution=Execution(argument=argument), timeout=10)


@pytest.mark.asyncio
async def test_an_unknown_execution_is_not_found(executions):
    for call in (executions.get_execution, executions.cancel_execution):
        with pytest.raises(exceptions.NotFound):
            await call(name=f"{PARENT}/executions/none", timeout=10)


@pytest.mark.asyncio
async def test_an_argument_without_a_way_back_fails_and_says_why(executions, clock, fake):
    made = await executions.create_execution(parent=PARENT, execution=Execution(argument="{}"), timeout=10)
    await clock.settle()
    found = await executions.get_execution(name=made.name, timeout=10)
    assert found.state == Execution.State.FAILED
    assert "KeyError" in found.error.payload


@pytest.mark.asyncio
@pytest.mark.parametrize(("when", "started"), [("before", 0), ("after", 1)])
async def test_create_fails_before_or_after_it_is_done(create, clock, server, fake, when, started):
    fake.fail("CreateExecution", grpc.StatusCode.UNAVAILABLE, when=when)
    with pytest.raises(exceptions.ServiceUnavailable):
        await create()
    await clock.settle()
    assert len(said(server)) == started
    await create()
    await clock.settle()
    assert len(said(server)) == started + 1
    assert fake.rpcs["CreateExecution"] == 2


@pytest.mark.asyncio
async def test_an_execution_can_be_created_twice(create, clock, server, fake):
    fake.double()
    await create()
    await clock.settle()
    assert said(server) == ["ELAPSED"] * 2
    assert len(fake.executions) == 2


@pytest.mark.asyncio
async def test_http_calls_fail_before_or_after_they_arrive(create, clock, server, fake):
    fake.fail_http(503, path="/resume")
    fake.fail_http("dropped", path="/resume", when="after")
    fake.fail_http("timeout", path="/somewhere-else")
    await create()
    await clock.advance(10)
    assert said(server) == ["ELAPSED"] * 2
    assert [request.status for request in fake.requests] == [503, None, 200]
    assert fake.faults_injected == 2


@pytest.mark.asyncio
async def test_the_back_off_takes_engine_time(create, clock, server, fake):
    fake.fail_http(503, 3, path="/resume")
    await create()
    await clock.advance(1 + 2 + 3)
    assert not server.calls
    await clock.advance(1)
    assert said(server) == ["ELAPSED"]


@pytest.mark.asyncio
async def test_nothing_leaves_the_machine(create, clock, fake):
    made = await create(resumeUrl="https://service.test/resume")
    await clock.advance(3 * 3600)
    assert fake.executions[made.name].error["tags"] == ["ConnectionFailedError"]


@pytest.mark.parametrize(
    "call",
    [
        lambda fake: fake.fail("Create", grpc.StatusCode.UNAVAILABLE),
        lambda fake: fake.fail("CreateExecution", grpc.StatusCode.OK),
        lambda fake: fake.fail("CreateExecution", grpc.StatusCode.UNAVAILABLE, when="during"),
        lambda fake: fake.fail("CreateExecution", grpc.StatusCode.UNAVAILABLE, times=-1),
        lambda fake: fake.fail_http(200),
        lambda fake: fake.fail_http("lost"),
        lambda fake: fake.spoil("ugly"),
    ],
)
def test_a_fault_that_does_not_exist_is_refused(call):
    with pytest.raises(ValueError, match=r"no RPC|no fault|when is|times is|a fault is|no flaw"):
        call(FakeWorkflows())


def test_it_says_that_it_must_be_entered():
    with pytest.raises(RuntimeError, match="async with"):
        FakeWorkflows().host  # noqa: B018


def verified(issuer, token, audience):
    claims = id_token.verify_token(
        token, google_requests.Request(), audience=audience, certs_url=issuer.certs_url, clock_skew_in_seconds=0
    )
    if claims["iss"] != issuer.issuer or claims["email"] != issuer.email or not claims["email_verified"]:
        raise ValueError("another account")
    return claims


@pytest.mark.asyncio
async def test_calls_carry_tokens_that_google_auth_verifies(create, clock, server, fake):
    fake.spoil("expired", path="/resume")
    server._answers["/resume"].clear()
    server.answer("/resume", (401, "no"), OK)
    await create(resumeAudience="https://service.test")
    await clock.advance(1)
    assert [(request.flaw, request.status) for request in fake.requests] == [("expired", 401), (None, 200)]
    bad, good = (headers["Authorization"].removeprefix("Bearer ") for _, _, headers in server.calls)
    with pytest.raises(Exception, match=r"(?i)expired"):
        await asyncio.to_thread(verified, fake.issuer, bad, "https://service.test")
    assert (await asyncio.to_thread(verified, fake.issuer, good, "https://service.test"))["email"] == fake.issuer.email


class TestIssuer:
    @pytest.fixture
    def issuer(self):
        with LocalIssuer() as opened:
            yield opened

    def test_a_good_token_is_verified(self, issuer):
        claims = verified(issuer, issuer.token("https://a.test"), "https://a.test")
        assert claims["aud"] == "https://a.test"
        assert issuer.fetches == 1

    @pytest.mark.parametrize(
        "flaw",
        ["expired", "early", "audience", "email", "unverified", "issuer", "unsigned", "unknown_key", "tampered",
         "garbage"],
    )  # fmt: skip
    def test_a_bad_one_is_not(self, issuer, flaw):
        with pytest.raises(Exception):  # noqa: B017 (google-auth raises several)
            verified(issuer, issuer.token("https://a.test", flaw), "https://a.test")

    def test_after_a_rotation_the_old_tokens_are_bad(self, issuer):
        old = issuer.token("https://a.test")
        issuer.rotate()
        assert verified(issuer, issuer.token("https://a.test"), "https://a.test")
        with pytest.raises(Exception):  # noqa: B017 (as above)
            verified(issuer, old, "https://a.test")

    def test_it_can_be_out_of_reach(self, issuer):
        issuer.available = False
        with pytest.raises(Exception, match="Could not fetch certificates"):
            verified(issuer, issuer.token("https://a.test"), "https://a.test")


class TestEngine:
    """What the engine of the package does otherwise, and the service as the fake does."""

    @pytest.fixture
    def execute(self, tmp_path):
        def run_text(text, argument=None, caller=None):
            path = tmp_path / "workflow.yaml"
            path.write_text(text)
            host = Run(caller or (lambda url, body: body))
            return engine.run(engine.load(path), argument, host), host

        return run_text

    def test_a_matched_arm_does_not_fall_through(self, execute):
        text = """
main:
  params: [args]
  steps:
    - init: {assign: [{x: 0}]}
    - choose:
        switch:
          - condition: ${args > 1}
            steps: [{one: {assign: [{x: "${x + 1}"}]}}]
          - condition: ${args > 0}
            steps: [{two: {assign: [{x: "${x + 10}"}]}}]
    - end: {return: "${x}"}
"""
        assert [execute(text, argument)[0] for argument in (2, 1, 0)] == [1, 10, 0]

    def test_iterations_have_their_own_variables_and_twenty_at_a_time(self, execute):
        text = """
main:
  params: [args]
  steps:
    - init: {assign: [{sum: 0}, {seen: []}]}
    - each:
        parallel:
          shared: [sum, seen]
          for:
            value: item
            in: ${args}
            steps:
              - own: {assign: [{mine: "${item * 2}"}]}
              - ask:
                  call: http.post
                  args: {url: u, body: {n: "${mine}"}}
                  result: got
              - add: {assign: [{sum: "${sum + got.body.n}"}, {seen: "${list.concat(seen, mine)}"}]}
    - end: {return: ["${sum}", "${seen}"]}
"""
        (total, seen), _ = execute(text, list(range(50)))
        assert total == sum(range(50)) * 2
        assert sorted(seen) == [number * 2 for number in range(50)]

    def test_a_variable_that_is_not_shared_cannot_be_set_in_parallel(self, execute):
        text = """
main:
  steps:
    - init: {assign: [{sum: 0}]}
    - each:
        parallel:
          for: {value: item, in: [1, 2], steps: [{add: {assign: [{sum: "${item}"}]}}]}
"""
        with pytest.raises(SyntaxError, match="not shared"):
            execute(text)

    def test_retries_begin_with_the_initial_delay_and_stay_at_the_longest(self, execute):
        text = """
main:
  steps:
    - ask:
        try: {call: http.post, args: {url: u, body: {}}}
        retry: {predicate: "${always}", max_retries: 5, backoff: {initial_delay: 3, max_delay: 10, multiplier: 2}}
        except: {as: e, steps: [{give: {return: "${e.tags[0]}"}}]}
always: {params: [e], steps: [{sure: {return: true}}]}
"""

        def broken(url, body):
            raise engine.WorkflowError("no", "ConnectionError")

        result, host = execute(text, caller=broken)
        assert result == "ConnectionError"
        assert host.slept == [3, 6, 10, 10, 10]

    def test_an_endless_loop_ends_at_the_limit_of_steps(self, execute):
        with pytest.raises(Exception, match="100,000 steps"):
            execute("main: {steps: [{again: {assign: [{x: 1}], next: again}}]}")

    def test_too_much_memory_ends_it(self, execute):
        text = 'main: {params: [args], steps: [{again: {assign: [{x: "${args}"}]}}]}'
        with pytest.raises(Exception, match="the variables hold"):
            execute(text, ["x" * 1000] * 300)

    def test_an_error_that_nobody_catches_is_the_result(self, execute):
        with pytest.raises(engine.WorkflowError, match="division") as caught:
            execute('main: {steps: [{bad: {return: "${1 / 0}"}}]}')
        assert caught.value.payload["tags"] == ["ZeroDivisionError"]

    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("null", None),
            ("default(null, 3)", 3),
            ("default(0, 3)", 0),
            ('default("", 3)', ""),
            ('if(x > 1, "if (a)", "b")', "if (a)"),
            ('map.get(m, ["a", "b"])', 7),
            ('map.get(m, ["a", "c", "d"])', None),
            ('map.get(7, "a")', None),
            ("m.a.b == 7 and not(true == 1)", True),
            ('"a" in m', True),
            ("int(2.999) + 1", 3),
            ("string(true)", "true"),
            ("math.min(x, 1.5)", 1.5),
            ("list.concat([1], 2)", [1, 2]),
            ('text.split("a/b", "/")', ["a", "b"]),
        ],
    )
    def test_expressions(self, text, value):
        assert evaluate(text, {"x": 2, "m": {"a": {"b": 7}}}, library(engine._modules(), now=lambda: 0.0)) == value

    @pytest.mark.parametrize(
        "text",
        [
            "'a'", "x if x else 1", "[y for y in x]", "lambda: 1", "{1: 2}", 'http.get("u")', "sys.sleep(1)",
            "x < 1 < 2", "x.__class__()" * 40, "default(value=1)", "x := 1",
        ],
    )  # fmt: skip
    def test_what_is_no_expression_is_refused(self, text):
        with pytest.raises(SyntaxError):
            evaluate(text, {"x": 1}, {})

    def test_an_unknown_variable_cannot_be_caught(self):
        with pytest.raises(UndefinedError):
            render("${nobody}", {}, {})
        with pytest.raises(TypeError, match="no members"):
            render("${x.__class__}", {"x": 1}, {})
