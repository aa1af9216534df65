"""Hands waits to Cloud Tasks: a task calls the resume endpoint when it is time to wake or to check the children."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import re
from datetime import UTC, datetime
from typing import Any

from google.api_core.exceptions import AlreadyExists, FailedPrecondition, GoogleAPICallError, NotFound
from google.cloud.tasks_v2 import CloudTasksAsyncClient, HttpMethod, HttpRequest, OidcToken, Task, types
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcAsyncIOTransport
from google.protobuf import duration_pb2

from lro_aio.core.errors import SchedulerUnavailableError
from lro_aio.core.logs import about
from lro_aio.core.policies import Duration, grown, seconds
from lro_aio.core.record import Plan, Record, Wait
from lro_aio.ports import SchedulerHost
from lro_aio.schedulers._remote import GROWTH, HORIZON, Callback, call, default_credentials, poll_cap

__all__ = ["CloudTasksScheduler"]

logger = logging.getLogger("lro_aio")

LONGEST = 29 * 86400.0
"""Seconds that a task is scheduled ahead. Cloud Tasks takes 30 days; a longer wait is handed over again on arrival."""
MAX_DISPATCH = 1800.0
"""Seconds that a task may wait for an answer, and so the longest time that one segment of a handler may run."""

_TASK = "/tasks/"
"""Part of every task's name. A handle without it is from another scheduler, which the client had before."""


class CloudTasksScheduler:
    """Cloud Tasks as the scheduler: one task for each wake-up, and for each check of the children.

    Args:
        project: Google Cloud project id of the queue.
        location: Region of the queue.
        queue: Id of the queue.
        resume_host: URL at which the service serves the resume endpoints.
        service_account: E-mail of the account whose tokens the tasks send.
        audience: Of the OIDC tokens. Default: scheme and host of ``resume_host``.
        dispatch_deadline: Seconds, or a timedelta, for which a task waits for the answer: 15 s to 30 min.
        transport: For ``CloudTasksAsyncClient``, in tests. Default: gRPC with the application's default credentials.
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
        queue: str,
        resume_host: str,
        service_account: str,
        audience: str | None = None,
        dispatch_deadline: Duration = MAX_DISPATCH,
        transport: CloudTasksGrpcAsyncIOTransport | None = None,
        prefix: str = "/lro",
    ) -> None:
        for name, value in (("project", project), ("location", location), ("queue", queue)):
            if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9:._\-]*", value):
                raise ValueError(f"{name} must be the {name}'s id, not {value!r}")
        if not isinstance(service_account, str) or "@" not in service_account:
            raise ValueError(f"service_account must be the e-mail of a service account, not {service_account!r}")
        self._deadline = seconds(dispatch_deadline, "dispatch_deadline")
        if not 15 <= self._deadline <= MAX_DISPATCH:
            raise ValueError(f"dispatch_deadline must be from 15 to {MAX_DISPATCH:.0f} seconds, not {self._deadline:g}")
        self._callback = Callback.of(resume_host, audience, prefix)
        self._account = service_account
        self._parent = f"projects/{project}/locations/{location}/queues/{queue}"
        self._transport = transport
        self._given = transport is not None
        self._client: CloudTasksAsyncClient | None = None
        self._host: SchedulerHost | None = None

    def __repr__(self) -> str:
        return f"CloudTasksScheduler({self._parent!r}, resume_host={self._callback.host!r})"

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
            credentials = await default_credentials(CloudTasksGrpcAsyncIOTransport.AUTH_SCOPES, "Cloud Tasks")
            self._transport = CloudTasksGrpcAsyncIOTransport(credentials=credentials)
        self._client = CloudTasksAsyncClient(transport=self._transport)

    async def close(self) -> None:
        """Disconnect. The tasks stay."""
        transport, self._client = self._transport, None
        if transport is not None and not self._given:
            self._transport = None
            await transport.close()  # type: ignore[no-untyped-call]  # google's transports are typed but for this

    async def schedule(self, record: Record) -> str | None:
        """Create the task for the row's wake-up, or for the next check, unless the one that it has is there.

        Raises:
            SchedulerUnavailableError: It was not created; the sweep hands the wait over again.
        """
        wait = record.wait
        plan = None if wait is None or self._host is None else wait.plan(self._host.clock.time())
        if wait is None or plan is None:
            return None
        if _TASK in record.schedule_handle:
            if await self._exists(record):
                return record.schedule_handle
            sentence = "%s was not woken: task %s is gone; the wait is handed over again"
            logger.warning(sentence, record.name, record.schedule_handle, extra=about(record, "task_lost"))
        task = self._task(record, wait, plan)
        request = types.CreateTaskRequest(parent=self._parent, task=task)
        try:
            await call(self._opened.create_task, request, record, what=f"creating a task in {self._parent}")
        except AlreadyExists:
            pass  # an earlier attempt of this hand-over has made it, and its answer was lost
        except NotFound as exc:
            raise SchedulerUnavailableError(f"there is no queue {self._parent}; create it first") from exc
        except GoogleAPICallError as exc:
            raise SchedulerUnavailableError(f"creating a task in {self._parent}: {exc.message}") from exc
        return str(task.name)

    async def cancel(self, record: Record) -> None:
        """Delete the task of the row's wait, if it is still there.

        Raises:
            SchedulerUnavailableError: The RPC was not answered.
        """
        if _TASK in record.schedule_handle:
            request = types.DeleteTaskRequest(name=record.schedule_handle)
            with contextlib.suppress(NotFound, FailedPrecondition):
                await call(self._opened.delete_task, request, record, what=f"deleting {record.schedule_handle}")

    async def _exists(self, record: Record) -> bool:
        name = record.schedule_handle
        try:
            await call(self._opened.get_task, types.GetTaskRequest(name=name), record, what=f"reading {name}")
        except (NotFound, FailedPrecondition):
            return False
        return True

    def _task(self, record: Record, wait: Wait, plan: Plan) -> Task:
        # The name is the same for every attempt of one hand-over, so a repeated call makes no second task, and a repair
        # makes a new one.
        key = "\n".join((record.name, wait.token, str(record.handover), *(["news"] if wait.news is not None else [])))
        when, reason = self._visit(record, wait, plan)
        body: dict[str, Any] = {
            "operation": record.name,
            "resumeToken": wait.token,
            "reason": reason,
            "visit": record.handover,
        }
        return Task(
            name=f"{self._parent}/tasks/{hashlib.sha256(key.encode()).hexdigest()[:40]}",
            schedule_time=datetime.fromtimestamp(when, UTC),
            dispatch_deadline=duration_pb2.Duration(seconds=int(self._deadline)),
            http_request=HttpRequest(
                url=self._callback.resume_url,
                http_method=HttpMethod.POST,
                headers={"Content-Type": "application/json"},
                body=json.dumps(body).encode(),
                oidc_token=OidcToken(service_account_email=self._account, audience=self._callback.audience),
            ),
        )

    def _visit(self, record: Record, wait: Wait, plan: Plan) -> tuple[float, str]:
        """When the task comes, and its reason: the sleep is over, or "check for yourself"."""
        assert self._host is not None
        now = self._host.clock.time()
        if plan.sleep_until > now or not plan.children:
            when = max(now, plan.sleep_until)
            return min(when, now + LONGEST), "STEP_BUDGET" if plan.children else "ELAPSED"
        pause = grown(wait.poll_interval, GROWTH, record.handover, poll_cap(wait, plan, now))
        when = now if record.handover == 0 else now + pause
        return (when if plan.deadline is None else min(when, max(now, plan.deadline))), "STEP_BUDGET"

    @property
    def _opened(self) -> CloudTasksAsyncClient:
        if self._client is None:
            raise SchedulerUnavailableError("the scheduler is not open")
        return self._client
