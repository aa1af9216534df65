"""What a client was configured with."""

from __future__ import annotations

import os
import secrets
import socket
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from lro_aio.core.policies import LeasePolicy, Limits, PollPolicy, RetentionPolicy, SweepPolicy
from lro_aio.core.transitions import Claimant
from lro_aio.ports import Store

__all__ = ["COMMIT_RETRY", "Settings", "check_row"]

COMMIT_RETRY = PollPolicy(interval=0.2, multiplier=2, max_interval=5.0)
"""A result is worth waiting for: while the store is down, the commit is repeated until the lease is lost."""


@dataclass(frozen=True, kw_only=True)
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
    owner: str = ""
    """Who this process is, in the rows that it holds. Drawn when a client is opened: processes that were forked from
    one that made it are not one owner, and neither are two lives of one client."""
    _claimants: dict[str, Claimant] = field(default_factory=dict, repr=False, compare=False)

    def for_a_life(self) -> Settings:
        """The same, with an owner of its own."""
        owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        return replace(self, owner=owner, _claimants={})

    def claimant(self, on_cancel: str = "") -> Claimant:
        """The terms on which this process claims rows.

        Args:
            on_cancel: Resume point of the clean-up that the row's handler declares; "" for none.
        """
        known = self._claimants.get(on_cancel)
        if known is None:
            known = self._claimants[on_cancel] = Claimant(
                owner=self.owner,
                lease=self.lease.duration,
                max_attempts=self.max_attempts,
                retention=self.retention.duration,
                on_cancel=on_cancel,
            )
        return known


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
