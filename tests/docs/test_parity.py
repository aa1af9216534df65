"""``docs/parity.md`` speaks the truth: each name of the Go package has a row, and each form that it has here exists.

The six scenarios of the Go package's example run twice: as the page shows them (their blocks, below), and with a closer
look at what they promise.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import sys
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import empty_pb2, struct_pb2, wrappers_pb2

import lro_aio as lro
from lro_aio.servers.grpc import add_operations_servicer, operation_from_context
from lro_aio.testing import ManualClock

from .parity_rows import go_name, resolve, rows, spans

PAGE = Path(__file__).resolve().parents[2] / "docs" / "parity.md"
TEXT = PAGE.read_text(encoding="utf-8")

GO_NAMES = [
    # functions
    "NewClient", "NewOperation", "UnmarshalOperation", "WaitOperation",
    # the client and its options
    "Client", "Client.Close", "Client.GetOperation", "Client.UnmarshalOperation", "ClientOption", "ClientOptions",
    "SpannerConfig", "SpannerConfig.Project", "SpannerConfig.Instance", "SpannerConfig.Database",
    "WithLocation", "WithProject", "WithResumeHost",
    # the operation and its options
    "Operation", "Operation.Delete", "Operation.Done", "Operation.Error", "Operation.GetOperation",
    "Operation.InDevMode", "Operation.Name", "Operation.ResumePoint", "Operation.ReturnRPC", "Operation.SetMetadata",
    "Operation.SetState", "Operation.State", "Operation.Wait", "OperationOption", "OperationOptions",
    "OperationsService", "OperationsService.GetOperation", "WithCallbackFn", "WithExistingOperation",
    "WithResumeMethod",
    # waiting
    "WaitConfig", "WaitOption", "WithAsync", "WithChildGetOperationEndpoint", "WithChildOperations",
    "WithPollFrequency", "WithService", "WithSleep", "WithTimeout",
    # errors
    "ErrInvalidNextToken", "ErrInvalidNextToken.Error", "ErrNotFound", "ErrNotFound.Operation", "ErrNotFound.Error",
    "ErrWaitDeadlineExceeded", "ErrWaitDeadlineExceeded.Error", "InvalidOperationName", "InvalidOperationName.Name",
    "InvalidOperationName.Error",
    # constants and variables
    "OperationColumnName", "StateColumnName", "ResumePointColumnName", "OperationIdHeaderKey", "EOF",
    # named in texts only
    "CreateOperation", "SetSuccessful", "SetFailed", "WaitAsync", "WithClient", "WithWorkflowsResumeHost", "SaveState",
    "GetState", "SetResponse",
    # environment variables, and what the README files make a user write down
    "env ALIS_OS_PROJECT", "env ALIS_REGION", "env ALIS_RUN_HASH", "env ALIS_MANAGED_SPANNER_PROJECT",
    "env ALIS_MANAGED_SPANNER_INSTANCE", "env ALIS_MANAGED_SPANNER_DB", "table {PROJECT}_Operations", "column key",
    "column Operation", "column Checkpoint", "workflow argument operationId", "workflow argument operations",
    "workflow argument method", "workflow argument timeout", "workflow argument pollFrequency",
    "workflow step GetOperation", "workflow step resumeMethod",
]  # fmt: skip

ROWS = list(rows(TEXT))
HERE = [row for row in ROWS if "Here" in row]


FORMS = [(go_name(row), form) for row in HERE for form in spans(row["Here"])]


def test_every_go_name_has_one_row() -> None:
    assert sorted(map(go_name, ROWS)) == sorted(GO_NAMES)


def test_every_row_has_a_form_or_a_reason() -> None:
    assert HERE == ROWS
    for row in HERE:
        if row["Here"] == "none":
            assert len(row["Remarks"]) > 10, row
        else:
            assert spans(row["Here"]), row
            assert re.sub(r"`[^`]+`|, ", "", row["Here"]) == "", row


@pytest.mark.parametrize(("name", "form"), FORMS, ids=[f"{name} -> {form}" for name, form in FORMS])
def test_the_form_exists(name: str, form: str) -> None:
    """And takes the argument that the page names."""
    assert form.startswith(("lro.", "lro_aio.")), name
    match = re.fullmatch(r"([\w.]+)(?:\((\w+)=\))?", form)
    assert match is not None
    found = resolve(match[1])
    if match[2]:
        assert match[2] in inspect.signature(found).parameters


BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
SCENARIOS = re.findall(r"^### Scenario (\d): .*?```python\n(.*?)```", TEXT, re.DOTALL | re.MULTILINE)


def test_the_page_has_the_six_scenarios() -> None:
    assert [number for number, _ in SCENARIOS] == list("123456")
    assert len(BLOCKS) == 7
    for _, block in SCENARIOS:
        assert "assert " in block


@pytest.mark.parametrize(("number", "block"), SCENARIOS, ids=[f"scenario {number}" for number, _ in SCENARIOS])
def test_the_scenario_of_the_page_runs_by_itself(number: str, block: str) -> None:
    """With nothing but the shared block before it."""
    tree = ast.parse(BLOCKS[0] + block, f"{PAGE.name}: scenario {number}")
    code = compile(tree, PAGE.name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    namespace: dict[str, Any] = {"__name__": f"parity_scenario_{number}"}
    module = types.ModuleType(namespace["__name__"])
    module.__dict__.update(namespace)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, module.__name__, module)  # dataclasses look their module up
        asyncio.run(types.FunctionType(code, module.__dict__)())


# The scenarios, closer


@dataclass
class Names:
    names: list[str] = field(default_factory=list)


def text(value: str) -> wrappers_pb2.StringValue:
    return wrappers_pb2.StringValue(value=value)


@pytest.fixture
def lro_handlers() -> lro.Handlers:
    handlers = lro.Handlers()

    @handlers.handler("sleep-30")
    async def sleep_30(op: lro.Operation[None]) -> None:
        assert await op.wait(sleep=30) == []

    @handlers.handler("children", state=Names)
    async def children(op: lro.Operation[Names]) -> wrappers_pb2.StringValue:
        done = await op.wait(children=op.state.names)
        return text(" ".join(f"{child.name.partition('/')[2]}:{child.WhichOneof('result')}" for child in done))

    @handlers.handler("child-and-itself", state=Names)
    async def child_and_itself(op: lro.Operation[Names]) -> wrappers_pb2.StringValue:
        with pytest.raises(ValueError, match="cannot wait for itself"):
            await op.wait(children=[*op.state.names, op.name])
        with pytest.raises(ValueError, match="cannot wait for itself"):
            op.suspend(resume_at="", children=[op.name])
        with pytest.raises(ValueError, match="nothing to wait for"):
            await op.wait()
        return text("refused")

    return handlers


@pytest.mark.asyncio
async def test_scenario_1_sleeps_thirty_seconds_and_no_longer(lro_client: lro.Client, lro_clock: ManualClock) -> None:
    op = await lro_client.start("sleep-30")
    await lro_clock.advance(29.999)
    assert not (await op.fetch()).done
    await lro_clock.advance(0.001)
    assert (await op.fetch()).done


@pytest.mark.asyncio
async def test_scenario_2_waits_for_the_children_only(lro_client: lro.Client, lro_clock: ManualClock) -> None:
    """The last one ends the wait, well or not; the operation itself is not done, and a missing child is no obstacle."""
    one, two = await lro_client.create(operation_id="one"), await lro_client.create(operation_id="two")
    op = await lro_client.start("children", Names([two.name, "operations/three", one.name]))
    await one.done()
    await lro_clock.advance(60)
    assert not (await op.fetch()).done
    await two.fail("broken")
    await lro_clock.settle()
    assert (await op.result(wrappers_pb2.StringValue)).value == "two:error three:error one:response"


@pytest.mark.asyncio
async def test_an_operation_cannot_wait_for_itself_nor_for_nothing(lro_client: lro.Client) -> None:
    op = await lro_client.start("child-and-itself", Names(["operations/other"]))
    assert (await op.result(wrappers_pb2.StringValue, timeout=10)).value == "refused"


@pytest.mark.asyncio
async def test_the_timeout_counts_from_the_end_of_the_sleep(lro_clock: ManualClock) -> None:
    handlers = lro.Handlers()

    @handlers.handler("late")
    async def late(op: lro.Operation[None]) -> wrappers_pb2.StringValue:
        with pytest.raises(lro.WaitDeadlineExceededError):
            await op.wait(sleep=100, children=[other.name], timeout=10)
        return text("gave up")

    async with lro.Client("sqlite://", handlers=[handlers], clock=lro_clock) as client:
        other = await client.create()
        op = await client.start("late")
        await lro_clock.advance(109.9)
        assert not (await op.fetch()).done
        await lro_clock.advance(0.1)
        assert (await op.result(wrappers_pb2.StringValue)).value == "gave up"


@pytest.mark.asyncio
async def test_a_suspend_that_is_not_returned_fails_the_operation(lro_clock: ManualClock) -> None:
    handlers = lro.Handlers()

    @handlers.handler("forgetful", resume_points=("after",))
    async def forgetful(op: lro.Operation[None]) -> None:
        op.suspend(resume_at="after", sleep=60)

    async with lro.Client("sqlite://", handlers=[handlers], clock=lro_clock) as client:
        op = await client.start("forgetful")
        await lro_clock.settle()
        (info,) = (await op.fetch()).error.details
        assert b"SUSPEND_NOT_RETURNED" in info.value


class Counting:
    """A foreign service that is never done, and that writes down when it was asked."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.asked: list[float] = []

    async def get_operation(self, name: str, /) -> operations_pb2.Operation:
        self.asked.append(self.clock.time())
        return operations_pb2.Operation(name=name)


@pytest.mark.parametrize(
    ("options", "times", "timeout"),
    [({}, 3, 420), ({"poll_interval": 30, "timeout": 600}, 30, 600)],
    ids=["the defaults are Go's: every 3 seconds for 7 minutes", "every 30 seconds for 10 minutes"],
)
@pytest.mark.asyncio
async def test_scenario_3_polls_as_often_and_as_long_as_it_is_told(
    lro_clock: ManualClock, options: dict[str, Any], times: float, timeout: float
) -> None:
    service = Counting(lro_clock)
    handlers = lro.Handlers()

    @handlers.handler("impatient")
    async def impatient(op: lro.Operation[None]) -> wrappers_pb2.StringValue:
        with pytest.raises(lro.WaitDeadlineExceededError) as caught:
            await op.wait(children=["operations/123"], service=service, **options)
        return text(f"{caught.value.timeout:g} {caught.value.pending}")

    async with lro.Client("sqlite://", handlers=[handlers], clock=lro_clock) as client:
        began = lro_clock.time()
        op = await client.start("impatient")
        await lro_clock.advance(timeout - 0.001)
        assert not (await op.fetch()).done
        await lro_clock.advance(0.001)
        assert (await op.result(wrappers_pb2.StringValue)).value == f"{timeout:g} ('operations/123',)"
    assert [moment - began for moment in service.asked] == [i * times for i in range(int(timeout / times) + 1)]


@pytest.mark.parametrize("suspends", [False, True])
@pytest.mark.asyncio
async def test_scenario_4_waits_for_operations_of_another_grpc_service(*, suspends: bool) -> None:
    """A stub of ``google.longrunning.Operations``, named once; its failed child is handed back."""
    handlers = lro.Handlers()

    @handlers.handler("foreign", state=Names, resume_points=("paid",))
    async def foreign(op: lro.Operation[Names]) -> Any:
        if op.resume_point == "paid":
            done = op.children
        elif suspends:
            return op.suspend(resume_at="paid", children=op.state.names, service="billing", poll_interval=0.01)
        else:
            done = await op.wait(children=op.state.names, service="billing", poll_interval=0.01)
        return text(" ".join(f"{child.error.code}:{child.error.message}" for child in done))

    server = grpc.aio.server()
    async with lro.Client("sqlite://") as product:
        add_operations_servicer(product, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        bill, receipt = await product.create(), await product.create()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            services = {"billing": operations_pb2_grpc.OperationsStub(channel)}
            async with lro.Client("sqlite://", handlers=[handlers], services=services) as client:
                op = await client.start("foreign", Names([bill.name, receipt.name]))
                await bill.fail(lro.OperationFailedError("no money", code=lro.Code.FAILED_PRECONDITION))
                assert not (await op.fetch()).done
                await receipt.done()
                assert (await op.result(wrappers_pb2.StringValue, timeout=10)).value == "9:no money 0:"
        await server.stop(None)


@pytest.mark.asyncio
async def test_scenario_5_needs_nothing_but_get_operation(lro_clock: ManualClock) -> None:
    """By name too; an object with neither form of it is refused when the client is made."""

    class Later(Counting):
        async def get_operation(self, name: str, /) -> operations_pb2.Operation:
            operation = await super().get_operation(name)
            operation.done = len(self.asked) > 3
            return operation

    service = Later(lro_clock)
    handlers = lro.Handlers()

    @handlers.handler("product", resume_points=("after",))
    async def product(op: lro.Operation[None]) -> Any:
        if op.resume_point == "after":
            assert op.wake_reason is lro.WakeReason.CHILDREN_DONE
            return text(op.children[0].name)
        return op.suspend(resume_at="after", children=["operations/123"], service="product", poll_interval=30)

    async with lro.Client("sqlite://", handlers=[handlers], clock=lro_clock, services={"product": service}) as client:
        op = await client.start("product")
        await lro_clock.advance(60)
        assert not (await op.fetch()).done
        await lro_clock.advance(60)
        assert (await op.result(wrappers_pb2.StringValue)).value == "operations/123"
    with pytest.raises(TypeError, match="neither get_operation"):
        lro.Client("sqlite://", services={"product": object()})  # type: ignore[dict-item]  # the point of the test


@pytest.mark.asyncio
async def test_scenario_6_suspends_for_a_day_and_finds_its_state_in_another_process(
    lro_clock: ManualClock, tmp_path: Path
) -> None:
    """Nothing of it is in memory meanwhile: the client that started it is gone."""
    handlers = lro.Handlers()

    @handlers.handler("daily", state=Names, resume_points=("resumePoint1",))
    async def daily(op: lro.Operation[Names]) -> Any:
        if op.resume_point == "resumePoint1":
            return text(" ".join(op.state.names))
        op.state = Names(["kept", "over", "night"])
        return op.suspend(resume_at="resumePoint1", sleep=24 * 3600)

    url = f"sqlite:////{(tmp_path / 'operations.db').relative_to('/')}"
    async with lro.Client(url, handlers=[handlers], clock=lro_clock) as client:
        name = (await client.start("daily")).name
        await lro_clock.advance(3600)
    async with lro.Client(url, handlers=[handlers], clock=lro_clock) as client:
        op = await client.operation(name)
        await lro_clock.advance(23 * 3600 - 1)
        assert not (await op.fetch()).done
        await lro_clock.advance(1)
        assert (await op.result(wrappers_pb2.StringValue)).value == "kept over night"


# The other names, called


@pytest.mark.asyncio
async def test_an_operation_driven_by_hand_has_all_that_go_has(lro_client: lro.Client) -> None:
    op = await lro_client.create(metadata=text("begun"), state=Names)
    assert op.name.startswith("operations/")
    assert (op.resume_point, op.dev_mode) == ("", True)
    assert op.proto == operations_pb2.Operation.FromString((await op.fetch()).SerializeToString())
    await op.set_metadata(text("half way"))
    op.state = Names(["one"])
    visitor = await lro_client.operation(op.name, state=Names)
    assert visitor.state == Names()
    await op.save()
    visitor = await lro_client.operation(op.name, state=Names)
    assert visitor.state == Names(["one"])
    await op.done(text("whole"))
    found = await lro_client.unmarshal_operation(op.name, wrappers_pb2.StringValue, wrappers_pb2.StringValue)
    assert found == (text("whole"), text("half way"))
    response, metadata = wrappers_pb2.StringValue(), wrappers_pb2.StringValue()
    lro.unmarshal_operation(op.proto, response, metadata)
    assert (response.value, metadata.value) == ("whole", "half way")
    await op.delete()
    with pytest.raises(lro.OperationNotFoundError) as caught:
        await lro_client.get_operation(op.name)
    assert caught.value.name == op.name
    assert caught.value.message == str(caught.value)


@pytest.mark.asyncio
async def test_unmarshal_is_refused_before_the_end_and_after_a_failure(lro_client: lro.Client) -> None:
    op = await lro_client.create()
    with pytest.raises(lro.OperationNotDoneError):
        await lro_client.unmarshal_operation(op.name, empty_pb2.Empty)
    await op.fail("broken")
    with pytest.raises(lro.OperationFailedError, match="broken"):
        lro.unmarshal_operation(op.proto, empty_pb2.Empty, struct_pb2.Struct)


@pytest.mark.asyncio
async def test_the_two_waits_differ_at_the_timeout(lro_client: lro.Client, lro_clock: ManualClock) -> None:
    """The function raises, the client's method answers with the latest state."""
    op = await lro_client.create()
    raising = asyncio.ensure_future(lro.wait_operation(op.name, lro_client, clock=lro_clock))
    answering = asyncio.ensure_future(lro_client.wait_operation(op.name, timeout=77))
    await lro_clock.advance(76.9)
    assert not raising.done()
    assert not answering.done()
    await lro_clock.advance(0.1)
    assert not (await answering).done
    with pytest.raises(lro.WaitDeadlineExceededError) as caught:
        await raising
    assert (caught.value.timeout, caught.value.pending) == (77, (op.name,))
    await op.done()
    assert (await lro.wait_operation(op.name, lro_client, clock=lro_clock)).done
    assert (await lro_client.wait_operation(op.name)).done


@pytest.mark.asyncio
async def test_malformed_names_and_tokens_are_go_s_errors(lro_client: lro.Client) -> None:
    with pytest.raises(lro.InvalidOperationNameError) as caught:
        await lro_client.get_operation("jobs/1")
    assert caught.value.name == "jobs/1"
    with pytest.raises(lro.InvalidPageTokenError):
        await lro_client.list_operations(page_token="altered")


class Context:
    """Of a gRPC call, as far as its metadata."""

    def __init__(self, **metadata: str) -> None:
        self._metadata = tuple((key.replace("_", "-"), value) for key, value in metadata.items())

    def invocation_metadata(self) -> Any:
        return self._metadata


@pytest.mark.asyncio
async def test_the_header_of_go_names_an_existing_operation(lro_client: lro.Client) -> None:
    """Without it, a new operation is made."""
    assert lro.OPERATION_ID_HEADER == "x-alis-operation-id"
    made: Any = await operation_from_context(lro_client, Context())
    assert made.claim > 0
    for sent in (made.id, made.name):
        found: Any = await operation_from_context(lro_client, Context(x_alis_operation_id=sent))
        assert (found.name, found.claim) == (made.name, 0)
