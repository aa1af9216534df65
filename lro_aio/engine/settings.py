"""What a client was configured with."""

from __future__ import annotations

import os
import secrets
import socket
from dataclasses import field, replace
from typing import Any, Literal

from lro_aio.core.errors import StoreSchemaError
from lro_aio.core.failing import OnFailure
from lro_aio.core.moments import Observer
from lro_aio.core.policies import LeasePolicy, Limits, PollPolicy, RetentionPolicy, SweepPolicy
from lro_aio.core.quick import dataclass
from lro_aio.core.transitions import Claimant
from lro_aio.core.webhooks import WebhookRules
from lro_aio.engine.handlers import Handler
from lro_aio.ports import Store

__all__ = ["COMMIT_RETRY", "Settings", "check_kept", "check_row"]

COMMIT_RETRY = PollPolicy(interval=0.2, multiplier=2, max_interval=5.0)
"""A result is worth waiting for: while the store is down, the commit is repeated until the lease is lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options of ``Client``, checked and completed. See there."""

    worker: bool
    dispatch: Literal["local", "scheduler"]
    max_running: int
    lease: LeasePolicy
    sweep: SweepPolicy
    retention: RetentionPolicy
    limits: Limits
    max_attempts: int
    drain_timeout: float
    expose_errors: bool
    linger: float = 1.0
    """Seconds for which a durable wait holds its process before it is suspended."""
    resources: Any = None
    pause_on_failure: bool = False
    observers: tuple[Observer, ...] = ()
    webhooks: WebhookRules | None = None
    owner: str = ""
    """Who this process is, in the rows that it holds. Drawn when a client is opened: processes that were forked from
    one that made it are not one owner, and neither are two lives of one client."""
    _claimants: dict[str, Claimant] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.pause_on_failure, bool):
            raise TypeError(f"pause_on_failure must be True or False, not {self.pause_on_failure!r}")
        for observer in self.observers:
            if not callable(getattr(observer, "observe", None)):
                raise TypeError(f"an observer must have a method observe, and {observer!r} has none")

    def for_a_life(self, observers: tuple[Observer, ...]) -> Settings:
        """The same, with an owner of its own, and with more observers."""
        owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        return replace(self, owner=owner, observers=self.observers + observers, _claimants={})

    def claimant(self, handler: Handler | None, store: Store) -> Claimant:
        """The terms on which this process claims rows.

        Args:
            handler: Of the rows; None: it is not known here.
            store: Open.
        """
        name = handler.name if handler is not None else ""
        known = self._claimants.get(name)
        if known is None:
            known = self._claimants[name] = Claimant(
                owner=self.owner,
                lease=self.lease.duration,
                max_attempts=self.max_attempts,
                retention=self.retention.duration,
                on_cancel=handler.on_cancel if handler is not None else "",
                on_failure=self.on_failure(handler, store),
            )
        return known

    def on_failure(self, handler: Handler | None, store: Store) -> OnFailure:
        """What is done before an operation of the handler fails: nothing where the store cannot keep the failure."""
        if handler is None or not store.keeps_journal:
            return OnFailure()
        pause = self.pause_on_failure if handler.pause_on_failure is None else handler.pause_on_failure
        return OnFailure(point=handler.on_failure, pause=pause, on_cancel=handler.on_cancel)


def check_kept(store: Store, what: str) -> None:
    """Refuse what the store could not keep, because it has no journal.

    Raises:
        StoreSchemaError: It could not. Says what to do.
    """
    if not store.keeps_journal:
        raise StoreSchemaError(f"{store.url} cannot keep {what}: {store.no_journal_reason or 'it has no journal'}")


def check_row(store: Store, limits: Limits) -> None:
    """Check that what the limits allow fits into one row of the store, which would refuse it when it is too late.

    Raises:
        ValueError: It does not fit.
    """
    most = store.max_row
    total = limits.state + limits.metadata + max(limits.response, limits.error)
    if most is not None and total > most:
        raise ValueError(
            f"Limits.state, metadata and response (or error) are {total} bytes together, but a row of the store"
            f" {store.url} holds {most}; lower one of them, and keep large data elsewhere, its address in the state"
        )
