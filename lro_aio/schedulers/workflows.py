"""Waits handed to Cloud Workflows: an execution sleeps, polls, and calls the resume endpoint. Nobody holds a process.

The definition is ``workflow.yaml`` beside this file; ``lro workflow`` prints it.
"""

from __future__ import annotations

import contextlib
import json
import re
from typing import Any

from google.api_core.exceptions import FailedPrecondition, GoogleAPICallError, NotFound
from google.cloud.workflows.executions_v1 import Execution, ExecutionsAsyncClient, types
from google.cloud.workflows.executions_v1.services.executions.transports import ExecutionsGrpcAsyncIOTransport

from lro_aio.core.errors import SchedulerUnavailableError
from lro_aio.core.record import Record, Wait
from lro_aio.ports import SchedulerHost
from lro_aio.schedulers._remote import GROWTH, HORIZON, Callback, call, default_credentials, origin, poll_cap

__all__ = ["WorkflowsScheduler"]

MAX_ARGUMENT = 32 * 1024 - 512
"""Bytes: cloud.google.com/workflows/quotas, less a margin."""
_EXECUTION = "/executions/"
"""In the name of each. A handle without it is another scheduler's, which the client had before."""
_ALIVE = (Execution.State.ACTIVE, Execution.State.QUEUED)


class WorkflowsScheduler:
    """Cloud Workflows as the scheduler: one execution for each wait.

    An execution that is created twice does no harm: the second one to call finds nothing to do.

    Args:
        project: Google Cloud project id of the workflow.
        location: Its region.
        workflow: Its id.
        resume_host: URL at which the service serves the resume endpoints, such as "https://service.run.app".
        audience: Of the OIDC tokens with which the workflow calls; the host's origin unless given.
        transport: Of ``ExecutionsAsyncClient``, for tests. Default: gRPC with the application's default credentials.
        prefix: Before the endpoints' own names.

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

    async def open(self, host: SchedulerHost) -> None:
        """Connect; nothing is sent before the first wait.

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
            SchedulerUnavailableError: It was not created; the sweep comes again.
        """
        wait = record.wait
        if wait is None:
            return None
        if _EXECUTION in record.schedule_handle and await self._alive(record.schedule_handle):
            return record.schedule_handle
        what = f"creating an execution of {self._parent}"
        request = types.CreateExecutionRequest(
            parent=self._parent,
            execution=Execution(argument=self._argument(record, wait), labels={"lro-operation": _label(record.name)}),
        )
        try:
            execution = await call(
                self._opened.create_execution, request, what=f"creating an execution of {self._parent}"
            )
        except NotFound as exc:
            raise SchedulerUnavailableError(
                f"there is no workflow {self._parent}; deploy it: `lro workflow > workflow.yaml` and"
                f" `gcloud workflows deploy {self._parent.rpartition('/')[2]} --source=workflow.yaml`"
            ) from exc
        except GoogleAPICallError as exc:
            raise SchedulerUnavailableError(f"{what}: {exc.message}") from exc
        return str(execution.name)

    async def cancel(self, record: Record) -> None:
        """Cancel the execution of the row's wait; one that has ended is left alone.

        Raises:
            SchedulerUnavailableError: It was not answered.
        """
        if _EXECUTION in record.schedule_handle:
            request = types.CancelExecutionRequest(name=record.schedule_handle)
            with contextlib.suppress(NotFound, FailedPrecondition):
                await call(self._opened.cancel_execution, request, what=f"cancelling {record.schedule_handle}")

    async def _alive(self, name: str) -> bool:
        request = types.GetExecutionRequest(name=name, view=types.ExecutionView.BASIC)
        try:
            execution = await call(self._opened.get_execution, request, what=f"reading {name}")
        except (NotFound, FailedPrecondition):
            return False
        return execution.state in _ALIVE

    def _argument(self, record: Record, wait: Wait) -> str:
        """The contract of the workflow, as JSON. Absent members have defaults there."""
        assert self._host is not None
        now = self._host.clock.time()
        argument: dict[str, Any] = {
            "operation": record.name,
            "resumeToken": wait.token,
            "wakeTime": wait.sleep_until,
            "resumeUrl": self._callback.resume_url,
            "resumeAudience": self._callback.audience,
        }
        if not wait.children:
            return json.dumps(argument)
        foreign = wait.poll_endpoint
        cap = poll_cap(wait, now)
        argument |= {
            "children": list(wait.children),
            "pollUrl": foreign or self._callback.poll_url,
            "pollStyle": "each" if foreign else "batch",
            "pollAudience": origin(foreign) if foreign else self._callback.audience,
            # An execution that follows another goes on with looks as rare as they were.
            "pollInterval": min(cap, wait.poll_interval * GROWTH ** min(record.handover, 100)),
            "maxPollInterval": cap,
        }
        if wait.deadline is not None:
            argument["deadline"] = wait.deadline
        text = json.dumps(argument)
        if len(text.encode()) > MAX_ARGUMENT:
            # The poll endpoint reads them from the row, and asks a foreign service itself: later than never.
            del argument["children"]
            argument |= {
                "pollUrl": self._callback.poll_url,
                "pollStyle": "batch",
                "pollAudience": self._callback.audience,
            }
            text = json.dumps(argument)
        return text

    @property
    def _opened(self) -> ExecutionsAsyncClient:
        if self._client is None:
            raise SchedulerUnavailableError("the scheduler is not open")
        return self._client


def _label(name: str) -> str:
    """The operation's id as the value of a label: 63 of lower-case letters, digits, - and _ (cloud.google.com)."""
    return re.sub(r"[^a-z0-9_-]", "_", name.rpartition("/")[2].lower())[:63]
