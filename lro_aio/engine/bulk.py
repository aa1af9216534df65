"""The same for many operations: bulk actions are operations too, which any worker runs and goes on with."""

from __future__ import annotations

import abc
import asyncio
import hashlib
import logging
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack, overload

from google.protobuf import struct_pb2

from lro_aio.core.bulk import FASTEST, HANDLER, RERUN, SLOWEST, BulkPreview, BulkResult, BulkState
from lro_aio.core.errors import (
    InvalidTransitionError,
    LroError,
    OperationDoneError,
    OperationNotDoneError,
    OperationNotFoundError,
    StoreUnavailableError,
)
from lro_aio.core.logs import event
from lro_aio.core.names import ANY_PARENT
from lro_aio.core.policies import RetryPolicy
from lro_aio.core.webhooks import Webhook
from lro_aio.engine.cancelling import check_reason
from lro_aio.engine.engine import Engine
from lro_aio.engine.handlers import OwnHandlers
from lro_aio.engine.operation import Operation
from lro_aio.engine.settings import check_kept
from lro_aio.engine.suspension import Suspended

if TYPE_CHECKING:
    from lro_aio.engine.selecting import Selection

__all__ = ["Bulk", "BulkOptions", "PreviewOptions", "handlers"]

logger = logging.getLogger("lro_aio")

handlers = OwnHandlers()
"""The handler of bulk actions. Every client has it."""

MOST_AT_ONCE = 500
"""Operations of one step: their names are in the state."""
SOON = 1.0
"""Seconds up to which the next step is waited for in the process."""
RUN = 20.0
"""Seconds after which a run is suspended in any case, so that others get its slot."""
MOST_ERRORS = 10
"""Operations that failed and are named."""

_RETRY = RetryPolicy(on=(StoreUnavailableError,), max_attempts=1000, initial_delay=1.0, max_delay=60.0)


@handlers.handler(HANDLER, state=BulkState, retry=_RETRY, pause_on_failure=False, resume_points=())
async def bulk(op: Operation[BulkState]) -> BulkResult | Suspended:
    """Act on the operations that the filter selects and that were made before this one, the newest first."""
    return await _Run(op).go()


class _Run:
    """One run of a bulk action. What it is about to act on is in its state before it does."""

    def __init__(self, op: Operation[BulkState]) -> None:
        self._op = op
        self._engine: Engine = op.client.engine
        state = op.state
        self._again = bool(state.pending)
        """What is acted on was acted on before, perhaps: by a run that died."""
        self._selection = _selection(self._engine, state.verb, state.filter, state.parent)

    async def go(self) -> BulkResult | Suspended:
        """Go on, until nothing is left or the rate asks for a pause."""
        op, state, clock = self._op, self._op.state, self._engine.clock
        ends = clock.monotonic() + RUN
        if not state.counted:
            count = (await self._selection.preview(now=op.record.create_time)).count
            state.total, state.counted = None if count.more else count.number, True
        while state.pending or not state.exhausted:
            if not state.pending:
                await self._choose()
            acted = len(state.pending)
            await self._act()
            state.pending = []
            await op.set_metadata(_metadata(state))
            delay = acted / state.per_second
            if state.exhausted:
                break
            if delay >= SOON or clock.monotonic() >= ends:
                return op.suspend(resume_at="", sleep=delay)
            await op.wait(sleep=delay)
        return BulkResult(done=state.done, skipped=state.skipped, failed=state.failed, errors=tuple(state.errors))

    async def _choose(self) -> None:
        """Write down what comes next."""
        self._again = False
        op, state = self._op, self._op.state
        found = await self._selection.part(
            now=self._engine.clock.time(),
            until=op.record.create_time,
            after=state.position,
            limit=max(1, min(MOST_AT_ONCE, int(state.per_second))),
        )
        state.pending = [record.name for record in found.records if record.name != op.name]
        state.position, state.exhausted = found.after, not found.more
        await op.save()

    async def _act(self) -> None:
        """Act on all of them at a time, which is one write or a few.

        Raises:
            StoreUnavailableError: It is not known of all of them. The same is done again.
        """
        state = self._op.state
        results = await asyncio.gather(*map(self._one, state.pending), return_exceptions=True)
        for result in results:
            if isinstance(result, StoreUnavailableError) or (
                isinstance(result, BaseException) and not isinstance(result, LroError)
            ):
                raise result
        for name, result in zip(state.pending, results, strict=True):
            if isinstance(result, OperationNotFoundError) and state.verb == "delete" and self._again:
                state.done += 1  # by the run before this one
            elif isinstance(result, (OperationNotFoundError, OperationDoneError, OperationNotDoneError)):
                state.skipped += 1
            elif isinstance(result, LroError):
                self._note_failure(name, result)
            else:
                state.done += 1

    async def _one(self, name: str) -> None:
        engine, state = self._engine, self._op.state
        reason = f"{state.reason} (by {self._op.name})" if state.reason else f"by {self._op.name}"
        if state.verb == "cancel":
            await engine.canceller.cancel(name, reason=reason)
        elif state.verb == "pause":
            await engine.pauser.pause(name, reason)
        elif state.verb == "unpause":
            await self._unpause(name, reason)
        elif state.verb == RERUN:
            request = hashlib.sha256(f"{self._op.name}\n{self._op.uid}\n{name}".encode()).hexdigest()
            await engine.rerunner.rerun(name, request, reason=reason, anywhere=True)
        else:
            await engine.rows.delete(name)

    async def _unpause(self, name: str, reason: str) -> None:
        """Unpause, unless somebody did already: this action before a crash, say."""
        try:
            await self._engine.pauser.unpause(name, reason)
        except InvalidTransitionError:
            if (await self._engine.rows.record(name)).paused:
                raise

    def _note_failure(self, name: str, exc: LroError) -> None:
        state = self._op.state
        state.failed += 1
        if len(state.errors) < MOST_ERRORS:
            state.errors.append(f"{name}: {exc.message}")
        logger.warning(
            "%s could not %s %s: %s",
            self._op.name,
            state.verb,
            name,
            exc,
            extra=event("bulk_refused", operation=name),
        )


def _selection(engine: Engine, verb: str, text: str, parent: str) -> Selection:
    """Imported here, as it reads filters: most processes never act on many."""
    from lro_aio.engine.selecting import Selection

    return Selection(engine.rows, engine.settings.limits, verb=verb, filter=text, parent=parent)


def _metadata(state: BulkState) -> struct_pb2.Struct:
    """How far it has come, for clients."""
    seen = state.done + state.skipped + state.failed
    members: dict[str, Any] = {
        "verb": state.verb,
        "filter": state.filter,
        "reason": state.reason,
        "done": state.done,
        "skipped": state.skipped,
        "failed": state.failed,
    }
    if state.total is not None:
        members["total"] = max(state.total, seen)
        members["progress"] = seen / members["total"] if members["total"] else 1.0
    of = "" if state.total is None else f" of {members['total']:,}"
    members["message"] = f"{state.verb}: {seen:,}{of}" + (f", {state.failed:,} failed" if state.failed else "")
    told = struct_pb2.Struct()
    told.update(members)
    return told


class PreviewOptions(TypedDict, total=False):
    """The options of an action that only counts."""

    reason: str
    per_second: float
    parent: str


class BulkOptions(PreviewOptions, total=False):
    """The options of an action that acts."""

    request_id: str | None
    webhook: Webhook | None


class Bulk(abc.ABC):
    """Cancel, pause, unpause, rerun and delete many operations: the part of ``Client`` for operators.

    Without ``force``, each tells how many operations it would act on, and names some. With it, it starts an operation
    that does so, with the handler ``lro.bulk``: any worker runs it, and goes on with it where another one died. Its
    metadata tells how far it has come, and its end what was done. It may be cancelled; what was done stays done.

    It acts on operations that were made before it, on each once, and at most at the given rate. It leaves itself alone,
    and other bulk actions, schedules and the deliveries of webhooks as well, unless the filter names them or their
    handlers. The reason and its name are in the history of what it cancels, pauses, unpauses and runs again.
    """

    @property
    @abc.abstractmethod
    def engine(self) -> Engine:
        """The present life of the client. For the engine."""

    @overload
    async def cancel_operations(
        self, filter: str, *, force: Literal[False] = ..., **options: Unpack[PreviewOptions]
    ) -> BulkPreview: ...

    @overload
    async def cancel_operations(
        self, filter: str, *, force: Literal[True], **options: Unpack[BulkOptions]
    ) -> Operation[BulkState, BulkResult]: ...

    async def cancel_operations(
        self,
        filter: str,  # noqa: A002 (the field's name in AIP-165)
        *,
        force: bool = False,
        reason: str = "",
        per_second: float = 50,
        parent: str = "-",
        request_id: str | None = None,
        webhook: Webhook | None = None,
    ) -> BulkPreview | Operation[BulkState, BulkResult]:
        """Ask for the operations that a filter selects to be cancelled, as ``cancel_operation`` does.

        Those that have ended are left alone.

        Args:
            filter: AIP-160, as for ``list_operations``; ``*`` is every operation.
            force: Whether to act.
            reason: For the history of the operations.
            per_second: Operations at most.
            parent: Whose operations; "-" is every parent, "operations" the top level.
            request_id: The caller's id for the request, as in ``start``. A repeat returns the same bulk action. A
                preview needs none.
            webhook: Who is told when all is done, as in ``start``. A preview tells nobody.

        Raises:
            InvalidFilterError: The filter is empty or does not parse. It says where.
            InvalidOperationNameError: ``parent`` is malformed.
            OperationAlreadyExistsError: The ``request_id`` stands for another bulk action.
            ValueError: ``per_second`` is not from 0.001 to 10,000, ``request_id`` is malformed, or the webhook is not
                allowed.
            StoreSchemaError: The store's table is from before there were pauses and reruns, or webhooks.
            StoreUnavailableError: The store did not answer. With a ``request_id``, the call may safely be repeated.
        """
        return await self._bulk(
            "cancel",
            filter,
            force=force,
            reason=reason,
            per_second=per_second,
            parent=parent,
            request_id=request_id,
            webhook=webhook,
        )

    @overload
    async def pause_operations(
        self, filter: str, *, force: Literal[False] = ..., **options: Unpack[PreviewOptions]
    ) -> BulkPreview: ...

    @overload
    async def pause_operations(
        self, filter: str, *, force: Literal[True], **options: Unpack[BulkOptions]
    ) -> Operation[BulkState, BulkResult]: ...

    async def pause_operations(
        self,
        filter: str,  # noqa: A002 (the field's name in AIP-165)
        *,
        force: bool = False,
        reason: str = "",
        per_second: float = 50,
        parent: str = "-",
        request_id: str | None = None,
        webhook: Webhook | None = None,
    ) -> BulkPreview | Operation[BulkState, BulkResult]:
        """Pause the operations that a filter selects, as ``pause_operation`` does.

        Those that have ended, or are paused already, are left alone.

        Arguments and errors: as ``cancel_operations``.
        """
        return await self._bulk(
            "pause",
            filter,
            force=force,
            reason=reason,
            per_second=per_second,
            parent=parent,
            request_id=request_id,
            webhook=webhook,
        )

    @overload
    async def unpause_operations(
        self, filter: str, *, force: Literal[False] = ..., **options: Unpack[PreviewOptions]
    ) -> BulkPreview: ...

    @overload
    async def unpause_operations(
        self, filter: str, *, force: Literal[True], **options: Unpack[BulkOptions]
    ) -> Operation[BulkState, BulkResult]: ...

    async def unpause_operations(
        self,
        filter: str,  # noqa: A002 (the field's name in AIP-165)
        *,
        force: bool = False,
        reason: str = "",
        per_second: float = 50,
        parent: str = "-",
        request_id: str | None = None,
        webhook: Webhook | None = None,
    ) -> BulkPreview | Operation[BulkState, BulkResult]:
        """Let the paused ones among the operations that a filter selects run again, as ``unpause_operation`` does.

        Arguments and errors: as ``cancel_operations``.
        """
        return await self._bulk(
            "unpause",
            filter,
            force=force,
            reason=reason,
            per_second=per_second,
            parent=parent,
            request_id=request_id,
            webhook=webhook,
        )

    @overload
    async def rerun_operations(
        self, filter: str, *, force: Literal[False] = ..., **options: Unpack[PreviewOptions]
    ) -> BulkPreview: ...

    @overload
    async def rerun_operations(
        self, filter: str, *, force: Literal[True], **options: Unpack[BulkOptions]
    ) -> Operation[BulkState, BulkResult]: ...

    async def rerun_operations(
        self,
        filter: str,  # noqa: A002 (the field's name in AIP-165)
        *,
        force: bool = False,
        reason: str = "",
        per_second: float = 50,
        parent: str = "-",
        request_id: str | None = None,
        webhook: Webhook | None = None,
    ) -> BulkPreview | Operation[BulkState, BulkResult]:
        """Run those that have ended among the operations that a filter selects once more, as ``rerun_operation`` does.

        None is run twice by one action, whatever crashes. Their handlers need not be registered in the acting process.

        Arguments and errors: as ``cancel_operations``.
        """
        return await self._bulk(
            "rerun",
            filter,
            force=force,
            reason=reason,
            per_second=per_second,
            parent=parent,
            request_id=request_id,
            webhook=webhook,
        )

    @overload
    async def delete_operations(
        self, filter: str, *, force: Literal[False] = ..., **options: Unpack[PreviewOptions]
    ) -> BulkPreview: ...

    @overload
    async def delete_operations(
        self, filter: str, *, force: Literal[True], **options: Unpack[BulkOptions]
    ) -> Operation[BulkState, BulkResult]: ...

    async def delete_operations(
        self,
        filter: str,  # noqa: A002 (the field's name in AIP-165)
        *,
        force: bool = False,
        reason: str = "",
        per_second: float = 50,
        parent: str = "-",
        request_id: str | None = None,
        webhook: Webhook | None = None,
    ) -> BulkPreview | Operation[BulkState, BulkResult]:
        """Forget the operations that a filter selects, as ``delete_operation`` does. This stops nothing.

        Of their history nothing is left, and so no reason either: it is in the action's own metadata.

        Arguments and errors: as ``cancel_operations``.
        """
        return await self._bulk(
            "delete",
            filter,
            force=force,
            reason=reason,
            per_second=per_second,
            parent=parent,
            request_id=request_id,
            webhook=webhook,
        )

    async def _bulk(
        self,
        verb: str,
        filter: str,  # noqa: A002 (the field's name in AIP-165)
        *,
        force: bool,
        reason: str,
        per_second: float,
        parent: str,
        request_id: str | None,
        webhook: Webhook | None,
    ) -> BulkPreview | Operation[BulkState, BulkResult]:
        engine = self.engine
        engine.life.check_open()
        check_reason(reason)
        if isinstance(per_second, bool) or not isinstance(per_second, int | float):
            raise TypeError(f"per_second must be a number, not {type(per_second).__name__}")
        if not SLOWEST <= per_second <= FASTEST:
            raise ValueError(f"per_second must be from {SLOWEST:g} to {FASTEST:g}, not {per_second!r}")
        selection = _selection(engine, verb, filter, parent)
        if verb in ("pause", "unpause", RERUN):
            check_kept(engine.rows.store, f"{verb}s")
        if not force:
            return await selection.preview(now=engine.clock.time())
        state = BulkState(
            verb=verb,
            filter=filter,
            parent=selection.collection or "operations",
            reason=reason,
            per_second=float(per_second),
        )
        home = "" if selection.collection == ANY_PARENT else selection.collection
        holding = await engine.starter.start(
            bulk, state, parent=home, metadata=_metadata(state), request_id=request_id, webhook=webhook
        )
        return Operation(holding)
