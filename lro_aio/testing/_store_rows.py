"""Rows and changes for the contract suite of stores."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from google.protobuf import any_pb2
from google.rpc import status_pb2

from lro_aio.core.change import Change, Outcome
from lro_aio.core.record import LATER, Record, Seat, State, Wait, Wake, WakeReason
from lro_aio.core.transitions import Claimant, Holder
from lro_aio.ports import Store

__all__ = [
    "LEASE",
    "NOW",
    "RETENTION",
    "any_of",
    "apply_one",
    "claimant",
    "create_all",
    "ended",
    "holder",
    "name_of",
    "names",
    "only",
    "other_values",
    "put",
    "put_or_count",
    "remove",
    "row",
    "state_for",
    "status_of",
    "update",
]

NOW = 1_700_000_000.0
LEASE = 30.0
RETENTION = 86_400.0


def name_of(number: int | str, parent: str = "") -> str:
    """A resource name."""
    tail = f"operations/op-{number:04}" if isinstance(number, int) else f"operations/{number}"
    return f"{parent}/{tail}" if parent else tail


def row(number: int | str = 1, *, parent: str = "", **fields: Any) -> Record:
    """A PENDING row of the handler "job", which is due at ``NOW``; fields as given."""
    base = Record(
        name=name_of(number, parent),
        uid=f"uid-{number}",
        state=State.PENDING,
        create_time=NOW,
        update_time=NOW,
        handler="job",
        check_time=NOW,
    )
    return dataclasses.replace(base, **fields)


def ended(number: int | str, **fields: Any) -> Record:
    """A row that SUCCEEDED and is kept for a day."""
    defaults: dict[str, Any] = {
        "state": State.SUCCEEDED,
        "check_time": None,
        "end_time": NOW,
        "expire_time": NOW + 86_400,
    }
    return row(number, **(defaults | fields))


def put(record: Record) -> Change:
    """Write the row, whether or not one exists."""
    return Change(record.name, lambda _: record, creates=True)


def put_or_count(record: Record) -> Change:
    """Write the row, or count in its claim that there is one."""
    return Change(record.name, lambda there: there.evolve(claim=there.claim + 1) if there else record, creates=True)


def remove(name: str) -> Change:
    """Remove the row."""
    return Change(name, lambda _: None)


def update(name: str, **fields: Any) -> Change:
    """Replace fields of the row."""
    return Change(name, lambda record: dataclasses.replace(record, **fields))


def create_all(store: Store, *records: Record) -> None:
    """Write rows, and fail if one is refused."""
    for outcome in store.apply([put(record) for record in records]):
        assert isinstance(outcome, Record), outcome


def apply_one(store: Store, name: str, event: Callable[..., Record | None], *, creates: bool = False) -> Record | None:
    """Apply one change and return the row after it; a refusal is raised."""
    outcomes: list[Outcome] = store.apply([Change(name, event, creates=creates)])
    assert len(outcomes) == 1, outcomes
    if isinstance(outcomes[0], Exception):
        raise outcomes[0]
    return outcomes[0]


def only(store: Store, name: str) -> Record:
    """The row with this name, which must exist."""
    found = store.read([name])
    assert [record.name for record in found] == [name]
    return found[0]


def names(records: Sequence[Record]) -> list[str]:
    """The names of the records, in order."""
    return [record.name for record in records]


def claimant(owner: str = "worker") -> Claimant:
    """A claimant for ``LEASE`` seconds."""
    return Claimant(owner=owner, lease=LEASE, max_attempts=100, retention=RETENTION)


def holder(record: Record) -> Holder:
    """The holder of the row, as it is now."""
    return Holder(record.uid, record.claim)


def any_of(value: bytes) -> bytes:
    """A serialized ``Any``: metadata or response, which a store may keep inside an ``Operation``."""
    return any_pb2.Any(type_url="type.googleapis.com/example.Thing", value=value).SerializeToString()


def status_of(message: str) -> bytes:
    """A serialized ``Status``: the error of an operation that failed."""
    return status_pb2.Status(code=9, message=message).SerializeToString()


def state_for(field: str, state: State) -> State:
    """The state in which a row can have this field; the given one if it can."""
    # What runs, or is to run, in a queue that nobody has declared stands in line instead.
    fits = {"response": State.SUCCEEDED, "error": State.FAILED, "seat": State.SUSPENDED}
    return fits.get(field, state)


_BYTES = bytes(range(256))
_TEXT = "Grüße, 世界 🚀 'quoted' \"twice\" %s ? -- \t\n"
_WAIT = Wait(
    token=_TEXT,
    sleep_until=NOW + 0.1,
    children=("operations/a", "projects/p/operations/b"),
    service="billing",
    deadline=NOW + 1 / 3,
    poll_interval=0.25,
    max_poll_interval=60.5,
    poll_endpoint="https://host/poll?a=b",
    on_cancel="clean",
    rerun=True,
)
_WAKE = Wake(
    reason=WakeReason.POLL_FAILED,
    children=("operations/a",),
    service="billing",
    pending=("operations/a",),
    error="no route to «host»\n",
)
_BY_TYPE: dict[str, tuple[Any, ...]] = {
    "str": ("x", _TEXT),
    "bytes": (b"\x00", _BYTES),
    "int": (7, 2**40),
    "bool": (True, False),
    "float": (NOW + 1 / 3, 0.0),
    "float | None": (NOW + 1 / 3, None),
    "State": tuple(State),
    "Wait | None": (Wait(token=_TEXT[:5], sleep_until=0.0), _WAIT, None),
    "Wake | None": (Wake(reason=WakeReason.ELAPSED), _WAKE, None),
    "Seat | None": (Seat(queue="q"), Seat(queue=_TEXT[:9], key=_TEXT, priority=-(2**40), whole=True), None),
}
_BY_FIELD: dict[str, tuple[Any, ...]] = {
    "metadata": (any_of(b"\x00"), any_of(_BYTES)),
    "response": (any_of(b"\x00"), any_of(_BYTES)),
    "error": (status_of("x"), status_of(_TEXT)),
}


def other_values(store: Store) -> dict[str, tuple[Any, ...]]:
    """Values for every field of a row but its name, which must be read as they were written."""
    left_out = {"name"} if store.keeps_journal else {"name", *LATER}
    if store.no_queues_reason:
        left_out.add("seat")
    fields = [item for item in dataclasses.fields(Record) if item.name not in left_out]
    missing = {str(item.type) for item in fields} - set(_BY_TYPE)
    assert not missing, f"the suite has no example of the types {missing}"
    return {item.name: _BY_FIELD.get(item.name) or _BY_TYPE[str(item.type)] for item in fields}
