"""What others do with operations, whoever runs them: the part of ``Client`` that changes their lives."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any

from lro_aio.engine.engine import Engine
from lro_aio.engine.operation import Operation

if TYPE_CHECKING:
    from lro_aio.engine.schedules import Schedules

__all__ = ["Controls"]


class Controls(abc.ABC):
    """Send, cancel, delete, pause, unpause and rerun, by the name of the operation."""

    @property
    @abc.abstractmethod
    def engine(self) -> Engine:
        """The present life of the client. For the engine."""

    @property
    def schedules(self) -> Schedules:
        """The schedules of the store: to list, pause, run and backfill them."""
        from lro_aio.engine.schedules import Schedules

        return Schedules(self.engine)

    async def send(self, name: str, topic: str, payload: Any = None, *, message_id: str | None = None) -> None:
        """Send a message to an operation that has not ended. Returns once it is durable.

        It is kept until the handler receives it, whether or not it waits already. A handler that waits for the topic is
        woken at once.

        Args:
            name: Resource name.
            topic: What the handler gives to ``op.receive`` or ``op.suspend(messages=)``.
            payload: Data that pydantic can serialize, a protobuf message, or None.
            message_id: 1 to 256 printable characters. A message of the same topic with the same id is there once.

        Raises:
            InvalidOperationNameError: Malformed name.
            OperationNotFoundError: Never created, deleted or expired.
            OperationDoneError: It has ended.
            StateCodecError: The payload cannot be encoded. It names the field.
            PayloadTooLargeError: Over ``Limits.message``, or the journal is over ``Limits.entries``.
            InvalidTransitionError: Another program drives the operation.
            ValueError: ``topic`` or ``message_id`` is malformed.
            StoreSchemaError: The store keeps no journal.
            StoreUnavailableError: It is not known whether it is stored. With a ``message_id``, the call may safely be
                repeated.
        """
        await self.engine.messenger.send(name, topic, payload, message_id=message_id)

    async def cancel_operation(self, name: str, *, cancel_children: bool = True, reason: str = "") -> None:
        """Ask for a cancel. The operation may still end otherwise; one that has ended stays as it is.

        Args:
            name: Resource name.
            cancel_children: Whether to cancel the operations that it started with ``start_child`` too.
            reason: For the operation's history.

        Raises:
            InvalidOperationNameError: Malformed name.
            OperationNotFoundError: Never created, deleted or expired.
            StoreUnavailableError: The store did not answer.
        """
        await self.engine.canceller.cancel(name, cancel_children=cancel_children, reason=reason)

    async def delete_operation(self, name: str) -> None:
        """Forget the operation. This does not stop the work: an unfinished operation is hidden and runs to its end.

        One that is paused is gone at once.

        Raises:
            InvalidOperationNameError: Malformed name.
            OperationNotFoundError: Never created, deleted or expired.
            StoreUnavailableError: The store did not answer.
        """
        await self.engine.rows.delete(name)

    async def pause_operation(self, name: str, reason: str = "") -> None:
        """Let no run of the operation begin until ``unpause_operation``. One that is paused already stays so.

        A run that is under way goes on to its next stop: a suspend, a retry, or the end of the operation. A paused
        operation still gets what is sent to it, remembers what it waits for, can be cancelled and deleted, and fails at
        its deadline.

        Args:
            name: Resource name.
            reason: For the operation's history.

        Raises:
            InvalidOperationNameError: Malformed name.
            OperationNotFoundError: Never created, deleted or expired.
            OperationDoneError: It has ended.
            InvalidTransitionError: It has no handler: its creator drives it. Or a cancel is about to end it.
            StoreSchemaError: The store's table is from before there were pauses.
            StoreUnavailableError: The store did not answer; ask again.
        """
        await self.engine.pauser.pause(name, reason)

    async def unpause_operation(self, name: str, reason: str = "") -> None:
        """Let a paused operation run again, with a fresh count of attempts and retries.

        What it waited for, it waits for on; after a failure, the segment that failed runs again.

        Args:
            name: Resource name.
            reason: For the operation's history.

        Raises:
            InvalidOperationNameError: Malformed name.
            OperationNotFoundError: Never created, deleted or expired.
            OperationDoneError: It has ended.
            InvalidTransitionError: It is not paused.
            StoreSchemaError: The store's table is from before there were pauses.
            StoreUnavailableError: Nothing is known. A repeat finds it not paused, if it was unpaused.
        """
        await self.engine.pauser.unpause(name, reason)

    async def rerun_operation(self, name: str, *, request_id: str | None = None, reason: str = "") -> Operation[Any]:
        """Run an operation that has ended once more: as a new one, which is returned in the hands of a visitor.

        It has the same handler, the state with which the first one began, the results of its steps, and as much time
        until its deadline; no metadata and no parent. The histories of both name the other. The first one stays as it
        ended.

        Args:
            name: Resource name.
            request_id: The caller's id for the request, as in ``start``. A repeat returns the same new operation.
            reason: For the histories of both.

        Raises:
            InvalidOperationNameError: Malformed name.
            OperationNotFoundError: Never created, deleted or expired.
            OperationNotDoneError: It has not ended.
            InvalidTransitionError: It has no handler: its creator drove it. Or it has another state than it began with,
                and that one was larger than 256 KiB.
            UnknownHandlerError: Its handler is not registered, and this client is a worker.
            OperationAlreadyExistsError: The rerun with this ``request_id`` was deleted and has not ended yet.
            ValueError: ``request_id`` is malformed.
            StoreSchemaError: The store's table is from before there were reruns.
            StoreUnavailableError: Nothing is known. With a ``request_id``, the call may safely be repeated.
        """
        return Operation(await self.engine.rerunner.rerun(name, request_id, reason=reason))

    async def replay_webhook(
        self, name: str, *, request_id: str | None = None, reason: str = ""
    ) -> list[Operation[Any]]:
        """Send what an operation tells of its end once more, with the same ``webhook-id``. Its history tells of that.

        Args:
            name: Of an operation that has ended: to each webhook that was told of the end. Or of a delivery that has
                ended, well or not.
            request_id: The caller's id for the request, as in ``start``. A repeat sends nothing more.
            reason: For the history of the operation.

        Returns:
            The new deliveries: operations of the handler ``lro.webhook``, which processes with ``Client(webhooks=...)``
            run.

        Raises:
            InvalidOperationNameError: Malformed name.
            OperationNotFoundError: Never created, deleted or expired.
            OperationNotDoneError: It has not ended.
            InvalidTransitionError: It has no webhook, or none that is told of such an end.
            ValueError: ``request_id`` is malformed.
            StoreUnavailableError: It is not known whether it will be sent. With a ``request_id``, the call may safely
                be repeated.
        """
        made = await self.engine.webhooks.replay(name, request_id, reason=reason)
        return [await self.engine.operation(delivery) for delivery in made]
