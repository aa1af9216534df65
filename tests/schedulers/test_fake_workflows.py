"""FakeWorkflows behaves like Cloud Workflows as far as a scheduler can tell, and fails on request."""

import asyncio
import json
import subprocess
import sys
import threading

import grpc
import pytest
import pytest_asyncio
from google.api_core import exceptions
from google.auth.transport import requests as google_requests
from google.cloud.workflows.executions_v1 import Execution, ExecutionsAsyncClient, types
from google.oauth2 import id_token

from lro_aio.testing import FakeWorkflows, LocalIssuer, ManualClock

from .workflow_runs import DAY, NOW, Script

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
async def test_a_month_passes_when_the_clock_is_moved_and_not_by_itself(create, clock, server, fake):
    made = await create(wakeTime=NOW + 30 * DAY)
    await clock.advance(30 * DAY - 1)
    assert not server.calls
    assert fake.executions[made.name].sleeping_until == NOW + 30 * DAY
    await clock.advance(1)
    assert said(server) == ["ELAPSED"]


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
async def test_a_redirect_is_an_answer_and_no_error(create, clock, server, fake):
    """An HttpError has a status of 400 or more: .../workflows/docs/reference/syntax/catching-errors."""
    fake.fail_http(302, path="/resume")
    made = await create()
    await clock.settle()
    assert fake.executions[made.name].state == "SUCCEEDED"
    assert [request.status for request in fake.requests] == [302]


@pytest.mark.asyncio
async def test_an_answer_over_2_mb_ends_the_execution(create, clock, server, fake):
    server._answers["/resume"].clear()
    server.answer("/resume", (200, {"resumed": "x" * 2 * 1024 * 1024}))
    made = await create()
    await clock.settle()
    assert fake.executions[made.name].error["tags"] == ["ResourceLimitError"]


@pytest.mark.asyncio
async def test_a_definition_of_your_own_is_run_or_refused(tmp_path, clock):
    path = tmp_path / "workflow.yaml"
    path.write_text("main: {steps: [{a: {call: googleapis.run.v1.jobs.run}}]}")
    with pytest.raises(ValueError, match="this interpreter has no such function"):
        await FakeWorkflows(definition=path).__aenter__()
    own = tmp_path / "own.yaml"  # twenty iterations sleep at a time, so that fifty take three times as long
    own.write_text(
        "main: {steps: [{all: {parallel: {for: {value: v, range: [1, 50],"
        " steps: [{rest: {call: sys.sleep, args: {seconds: 10}}}]}}}}, {end_of_it: {return: '${sys.now()}'}}]}"
    )
    async with FakeWorkflows(clock=clock, definition=own) as fake:
        executions = ExecutionsAsyncClient(transport=fake.transport())
        made = await executions.create_execution(parent=PARENT, execution=Execution(), timeout=10)
        await clock.advance(29)
        assert fake.executions[made.name].state == "ACTIVE"
        await clock.advance(1)
        assert fake.executions[made.name].result == NOW + 30


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["google.cloud.workflows", "yaml"])
def test_it_says_what_to_install(missing):
    code = f"import sys; sys.modules[{missing!r}] = None; import lro_aio.testing.workflows"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "pip install 'lro-aio[workflows,testing]'" in done.stderr


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
    with pytest.raises(ValueError, match=r"no RPC|not a failure|when must|times must|a fault is|no flaw"):
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
