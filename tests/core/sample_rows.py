"""Rows for the tests of the transitions."""

from __future__ import annotations

from dataclasses import replace

from lro_aio.core import transitions as t
from lro_aio.core.record import Record, State, Wait

NOW = 1000.0
LEASE = 30.0
RETENTION = 100.0
NAME = "operations/a"
WORKER = t.Claimant(owner="w", lease=LEASE, max_attempts=3, retention=RETENTION)
CLEANER = replace(WORKER, on_cancel="undo")
WAIT = Wait(token="t1", sleep_until=NOW - 5, children=("operations/c",), service="billing")
NEXT = Wait(token="t2", sleep_until=NOW + 60)


def a_row(state: State = State.PENDING, **changes: object) -> Record:
    base = Record(
        name=NAME,
        uid="u1",
        state=state,
        create_time=NOW - 100,
        update_time=NOW - 50,
        handler="h",
        claim=4,
        attempt=1,
        wait=WAIT,
        check_time=NOW,
        fingerprint="1:aa",
        revision=7,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def running(until: float = NOW + 10, **changes: object) -> Record:
    return a_row(State.RUNNING, owner="w", lease_expire_time=until, check_time=until, **changes)


def creators(until: float | None = NOW + 10, **changes: object) -> Record:
    row = running(handler="", wait=None, attempt=1, **changes)
    return replace(row, lease_expire_time=until, check_time=until)


def ended(state: State, **changes: object) -> Record:
    payload = {"response": b"\n\x01x"} if state is State.SUCCEEDED else {"error": b"\x08\x02"}
    common = {"wait": None, "check_time": None, "end_time": NOW - 50, "expire_time": NOW + 50}
    return a_row(state, **{**common, **payload, **changes})


def foreign() -> Record:
    """A row that another program made and drives."""
    return replace(creators(None), uid="", owner="", claim=0, attempt=0, fingerprint="", revision=0)


def held(row: Record) -> t.Holder:
    return t.Holder(row.uid, row.claim)
