"""Hands waits to Cloud Workflows: an execution sleeps, polls, and calls the resume endpoint, so that no process has to.

The definition is ``workflow.yaml`` beside this file; ``lro workflow`` prints it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
from typing import Any

from google.api_core.exceptions import FailedPrecondition, GoogleAPICallError, NotFound
from google.cloud.workflows.executions_v1 import Execution, ExecutionsAsyncClient, types
from google.cloud.workflows.executions_v1.services.executions.transports import ExecutionsGrpcAsyncIOTransport

from lro_aio.core.errors import SchedulerUnavailableError
from lro_aio.core.logs import about
from lro_aio.core.policies import grown
from lro_aio.core.record import Plan, Record, Wait
from lro_aio.ports import SchedulerHost
from lro_aio.schedulers._remote import GROWTH, HORIZON, Callback, call, default_credentials, origin, poll_cap

__all__ = ["WorkflowsScheduler"]

logger = logging.getLogger("lro_aio")

MAX_NAMES = 16 * 1024
"""Bytes of the children's names, as JSON, in the argument of an execution.

An argument may have 32 KB, but the names are held in up to seven variables of the workflow at a time, and all of its
variables share 512 KB with the answers of the polls (cloud.google.com/workflows/quotas).
"""
_EXECUTION = "/executions/"
"""Part of every execution's name. A handle without it is from another scheduler, which the client had before."""
_ALIVE = (Execution.State.ACTIVE, Execution.State.QUEUED)


class WorkflowsScheduler:
    """Cloud Workflows as the scheduler: one execution for each wait.

    An execution that is created twice does no harm: the second one that calls back finds nothing to do.

    Args:
        project: Google Cloud project id of the workflow.
        location: Region of the workflow.
        workflow: Id of the workflow.
        resume_host: URL at which the service serves the resume endpoints, such as "https://service.run.app".
        audience: Of the OIDC tokens that the workflow sends. Default: scheme and host of ``resume_host``.
        transport: For ``ExecutionsAsyncClient``, in tests. Default: gRPC with the application's default credentials.
        prefix: Path in front of the endpoints' names.

    Raises:
        ValueError: An argument is malformed.
    """

    local = False
    horizon = HORIZON

    def __init__(
        self,
        *,
        project: str,
        location: str,
        workflow: str = "lro-aio",
        resume_host: str,
        audience: str | None = None,
        transport: ExecutionsGrpcAsyncIOTransport | None = None,
        prefix: str = "/lro",
    ) -> None:
        for name, value in (("project", project), ("location", location), ("workflow", workflow)):
            if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9:._\-]*", value):
                raise ValueError(f"{name} must be the {name}'s id, not {value!r}")
        self._callback = Callback.of(resume_host, audience, prefix)
        self._parent = f"projects/{project}/locations/{location}/workflows/{workflow}"
        self._transport = transport
        self._given = transport is not None
        self._client: ExecutionsAsyncClient | None = None
        self._host: SchedulerHost | None = None

    def __repr__(self) -> str:
        return f"WorkflowsScheduler({self._parent!r}, resume_host={self._callback.host!r})"

    @property
    def resume_host(self) -> str:
        """URL at which the service serves the resume endpoints."""
        return self._callback.host

    async def open(self, host: SchedulerHost) -> None:
        """Connect. Nothing is sent before the first wait.

        Raises:
            SchedulerUnavailableError: There are no credentials.
        """
        self._host = host
        if self._transport is None:
            credentials = await default_credentials(ExecutionsGrpcAsyncIOTransport.AUTH_SCOPES, "Cloud Workflows")
            self._transport = ExecutionsGrpcAsyncIOTransport(credentials=credentials)
        self._client = ExecutionsAsyncClient(transport=self._transport)

    async def close(self) -> None:
        """Disconnect. The executions go on."""
        transport, self._client = self._transport, None
        if transport is not None and not self._given:
            self._transport = None
            await transport.close()  # type: ignore[no-untyped-call]  # google's transports are typed but for this

    async def schedule(self, record: Record) -> str | None:
        """Create an execution for the row's wait, unless the one that it has is alive.

        Raises:
            SchedulerUnavailableError: It was not created; the sweep hands the wait over again.
        """
        wait = record.wait
        plan = None if wait is None or self._host is None else wait.plan(self._host.clock.time())
        if wait is None or plan is None:
            return None
        failed = False
        if _EXECUTION in record.schedule_handle:
            state = await self._state(record)
            if state in _ALIVE:
                return record.schedule_handle
            failed = state is Execution.State.FAILED
            ended = "is gone" if state is None else f"has ended as {state.name}"
            sentence = "%s was not woken: execution %s %s; the wait is handed over again"
            logger.warning(sentence, record.name, record.schedule_handle, ended, extra=about(record, "execution_lost"))
        what = f"creating an execution of {self._parent}"
        argument = json.dumps(self._argument(record, wait, plan, direct=not failed))
        execution = Execution(argument=argument, labels={"lro-operation": _label(record.name)})
        request = types.CreateExecutionRequest(parent=self._parent, execution=execution)
        try:
            created = await call(self._opened.create_execution, request, record, what=what)
        except NotFound as exc:
            raise SchedulerUnavailableError(
                f"there is no workflow {self._parent}; deploy it with `lro workflow > workflow.yaml` and"
                f" `gcloud workflows deploy {self._parent.rpartition('/')[2]} --source=workflow.yaml`"
            ) from exc
        except GoogleAPICallError as exc:
            raise SchedulerUnavailableError(f"{what}: {exc.message}") from exc
        return str(created.name)

    async def cancel(self, record: Record) -> None:
        """Cancel the execution of the row's wait; one that has ended is left alone.

        Raises:
            SchedulerUnavailableError: The RPC was not answered.
        """
        if _EXECUTION in record.schedule_handle:
            request = types.CancelExecutionRequest(name=record.schedule_handle)
            with contextlib.suppress(NotFound, FailedPrecondition):
                await call(self._opened.cancel_execution, request, record, what=f"cancelling {record.schedule_handle}")

    async def _state(self, record: Record) -> Execution.State | None:
        """State of the execution that the row has; None: there is no such execution any more."""
        name = record.schedule_handle
        request = types.GetExecutionRequest(name=name, view=types.ExecutionView.BASIC)
        try:
            execution = await call(self._opened.get_execution, request, record, what=f"reading {name}")
        except (NotFound, FailedPrecondition):
            return None
        return Execution.State(execution.state)

    def _argument(self, record: Record, wait: Wait, plan: Plan, *, direct: bool) -> dict[str, Any]:
        """The argument of an execution; absent members have defaults in the workflow.

        Args:
            record: The row.
            wait: Its wait.
            plan: What is to be done for it.
            direct: Whether the workflow may poll a remote service itself. An answer that is too large for it ends an
                execution, so the one after a failed one polls our endpoint, which asks the service and answers briefly.
        """
        assert self._host is not None
        now = self._host.clock.time()
        argument: dict[str, Any] = {
            "operation": record.name,
            "resumeToken": wait.token,
            "wakeTime": plan.sleep_until,
            "resumeUrl": self._callback.resume_url,
            "resumeAudience": self._callback.audience,
        }
        if not plan.children:
            return argument
        cap = poll_cap(wait, plan, now)
        # An execution that follows another begins with the interval that the other had reached.
        argument["pollInterval"] = grown(wait.poll_interval, GROWTH, record.handover, cap)
        argument["maxPollInterval"] = cap
        if plan.deadline is not None:
            argument["deadline"] = plan.deadline
        names = list(plan.children)
        fits = len(json.dumps(names)) <= MAX_NAMES
        if fits:
            argument["children"] = names
        else:  # our endpoint reads them from the row
            sentence = "%s: the names of its %d children do not fit into an execution; it polls %s without them"
            shown = (record.name, len(names), self._callback.poll_url)
            logger.info(sentence, *shown, extra=about(record, "children_left_out"))
        if wait.poll_endpoint and fits and direct:
            audience = origin(wait.poll_endpoint)
            return argument | {"pollUrl": wait.poll_endpoint, "pollStyle": "each", "pollAudience": audience}
        poll = {"pollUrl": self._callback.poll_url, "pollStyle": "batch", "pollAudience": self._callback.audience}
        return argument | poll

    @property
    def _opened(self) -> ExecutionsAsyncClient:
        if self._client is None:
            raise SchedulerUnavailableError("the scheduler is not open")
        return self._client


def _label(name: str) -> str:
    """The operation's id as the value of a label: at most 63 lower-case letters, digits, hyphens and underscores."""
    return re.sub(r"[^a-z0-9_-]", "_", name.rpartition("/")[2].lower())[:63]
