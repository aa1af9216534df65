"""Every (state, event) has one outcome; nobody but the holder of the claim writes (rules 1 and 2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest

from lro_aio.core import bookkeeping
from lro_aio.core import transitions as t
from lro_aio.core.change import Change
from lro_aio.core.codes import Code
from lro_aio.core.errors import (
    InvalidTokenError,
    InvalidTransitionError,
    LeaseLostError,
    OperationAlreadyExistsError,
    OperationBusyError,
    OperationDoneError,
    OperationNotFoundError,
)
from lro_aio.core.record import Record, State
from lro_aio.core.status import make_status

from .sample_rows import (
    CLEANER,
    LEASE,
    NAME,
    NEXT,
    NOW,
    RETENTION,
    WORKER,
    a_row,
    creators,
    ended,
    foreign,
    held,
    running,
)

# -- the table ----------------------------------------------------------------------------------------------------

ROWS: dict[str, Record] = {
    "PENDING": a_row(State.PENDING),
    "RUNNING": running(),
    "DEAD": running(NOW),  # the lease ended at this very moment
    "CREATED": creators(),
    "ORPHAN": creators(NOW),
    "OUTSIDE": creators(None),
    "SUSPENDED": a_row(State.SUSPENDED),
    "SUCCEEDED": ended(State.SUCCEEDED),
    "FAILED": ended(State.FAILED),
    "CANCELLED": ended(State.CANCELLED),
}

CANCEL_ROWS: dict[str, Record] = {
    "RUNNING": running(cancel_requested=True),
    "DEAD": running(NOW, cancel_requested=True),
    "BACK": a_row(State.PENDING, cancel_requested=True),  # handed back before the run heard of it
    "ORPHAN": creators(NOW, cancel_requested=True),
    "TO_CLEAN": a_row(State.PENDING, cancel_requested=True, cleaning=True),
    "CLEANING": running(cancel_requested=True, cleaning=True),
    "CLEAN_DEAD": running(NOW, cancel_requested=True, cleaning=True),
    "CLEAN_WAITS": a_row(State.SUSPENDED, cancel_requested=True, cleaning=True),
}


def elsewhere(row: Record, state: State = State.SUCCEEDED, **changes: object) -> Record:
    """The row after another program wrote an end into it: the result alone, everything else as it was."""
    payload = {"response": b"\n\x01x"} if state is State.SUCCEEDED else {"error": b"\x08\x02"}
    return replace(row, state=state, **{**payload, **changes})  # type: ignore[arg-type]


FOREIGN_ROWS: dict[str, Record] = {
    "FOREIGN": foreign(),
    "F_DONE": elsewhere(foreign()),
    "F_DELETED": elsewhere(foreign(), deleted=True),
    "RAN": elsewhere(running()),
    "RAN_CANCEL": elsewhere(running(cancel_requested=True, cancel_children=True)),
    "WAITED": elsewhere(a_row(State.SUSPENDED), State.FAILED),
}

Event = Callable[[Record], Record | None]


def failing(code: Code) -> Callable[..., Record | None]:
    return partial(t.finish, retention=RETENTION, error=make_status(code, "no", reason="NO"))


HELD: dict[str, Callable[..., Record | None]] = {
    "renew": partial(t.renew, lease=LEASE),
    "release": t.release,
    "suspend": partial(t.suspend, retention=RETENTION, wait=NEXT, resume_point="collect"),
    "suspend, clean-up": partial(
        t.suspend, retention=RETENTION, wait=replace(NEXT, on_cancel="undo"), resume_point="collect"
    ),
    "retry": partial(t.retry, retention=RETENTION, wait=NEXT),
    "save": partial(t.save, changes={"metadata": b"m"}),
    "finish": partial(t.finish, retention=RETENTION, response=b"\n\x01x"),
    "finish: fail": failing(Code.INTERNAL),
    "finish: cancelled": failing(Code.CANCELLED),
    "begin_cleanup": partial(t.begin_cleanup, on_cancel="undo"),
}


def by_holder(name: str) -> Event:
    return lambda row: HELD[name](row, holder=held(row), now=NOW)


EVENTS: dict[str, Event] = {
    **{name: by_holder(name) for name in HELD},
    "create, same": lambda row: t.create(row, record=replace(a_row(), uid="u2", handler=row.handler), now=NOW),
    "create, other": lambda row: t.create(row, record=replace(row, uid="u2", fingerprint="1:bb"), now=NOW),
    "claim": lambda row: t.claim(row, now=NOW, by=WORKER),
    "claim, token": lambda row: t.claim(row, now=NOW, by=WORKER, token="t1"),
    "claim, old token": lambda row: t.claim(row, now=NOW, by=WORKER, token="t0"),
    "claim, clean-up": lambda row: t.claim(row, now=NOW, by=CLEANER, token="t1"),
    "request_cancel": lambda row: t.request_cancel(row, now=NOW, retention=RETENTION, token="t3"),
    "cascaded": lambda row: bookkeeping.cascaded(row, now=NOW),
    "settle": lambda row: t.settle(row, now=NOW, retention=RETENTION),
    "delete": lambda row: t.delete(row, now=NOW),
    "lose_creator": lambda row: t.lose_creator(row, now=NOW, retention=RETENTION),
    "handed_over": lambda row: bookkeeping.handed_over(row, now=NOW, token="t1", check_time=NOW + 60),
}

ERRORS = {
    "Done!": OperationDoneError,
    "Lost!": LeaseLostError,
    "Busy!": OperationBusyError,
    "Token!": InvalidTokenError,
    "Illegal!": InvalidTransitionError,
    "Exists!": OperationAlreadyExistsError,
}

# "same": nothing to write. "gone": the row is removed. With "!": the typed error. Else the state that comes out.
TABLE = """
event             | PENDING   RUNNING   DEAD      CREATED   ORPHAN    OUTSIDE   SUSPENDED SUCCEEDED FAILED    CANCELLED
create, same      | same      same      same      same      same      same      same      same      same      same
create, other     | Exists!   Exists!   Exists!   Exists!   Exists!   Exists!   Exists!   Exists!   Exists!   Exists!
claim             | RUNNING   Busy!     RUNNING   Illegal!  Illegal!  Illegal!  Illegal!  Done!     Done!     Done!
claim, token      | RUNNING   Busy!     RUNNING   Token!    Token!    Token!    RUNNING   Done!     Done!     Done!
claim, old token  | Token!    Token!    Token!    Token!    Token!    Token!    Token!    Done!     Done!     Done!
claim, clean-up   | RUNNING   Busy!     RUNNING   Token!    Token!    Token!    RUNNING   Done!     Done!     Done!
renew             | Lost!     RUNNING   RUNNING   RUNNING   RUNNING   same      Lost!     Done!     Done!     Done!
release           | Lost!     PENDING   PENDING   RUNNING   RUNNING   same      Lost!     Done!     Done!     Done!
suspend           | Lost!     SUSPENDED SUSPENDED Illegal!  Illegal!  Illegal!  Lost!     Done!     Done!     Done!
suspend, clean-up | Lost!     SUSPENDED SUSPENDED Illegal!  Illegal!  Illegal!  Lost!     Done!     Done!     Done!
retry             | Lost!     SUSPENDED SUSPENDED Illegal!  Illegal!  Illegal!  Lost!     Done!     Done!     Done!
save              | Lost!     RUNNING   RUNNING   RUNNING   RUNNING   RUNNING   Lost!     Done!     Done!     Done!
finish            | Lost!     SUCCEEDED SUCCEEDED SUCCEEDED SUCCEEDED SUCCEEDED Lost!     Done!     Done!     Done!
finish: fail      | Lost!     FAILED    FAILED    FAILED    FAILED    FAILED    Lost!     Done!     Done!     Done!
finish: cancelled | Lost!     FAILED    FAILED    CANCELLED CANCELLED CANCELLED Lost!     Done!     Done!     Done!
begin_cleanup     | Lost!     Illegal!  Illegal!  Illegal!  Illegal!  Illegal!  Lost!     Done!     Done!     Done!
request_cancel    | CANCELLED RUNNING   RUNNING   RUNNING   RUNNING   RUNNING   CANCELLED same      same      same
cascaded          | same      same      same      same      same      same      same      same      same      same
settle            | same      same      same      same      same      same      same      same      same      same
delete            | PENDING   RUNNING   RUNNING   RUNNING   RUNNING   gone      SUSPENDED gone      gone      gone
lose_creator      | Illegal!  Illegal!  Illegal!  Illegal!  FAILED    Illegal!  Illegal!  Done!     Done!     Done!
handed_over       | PENDING   Token!    Token!    Token!    Token!    Token!    SUSPENDED Token!    Token!    Token!
"""

CANCEL_TABLE = """
event             | RUNNING   DEAD      BACK      ORPHAN    TO_CLEAN  CLEANING  CLEAN_DEAD CLEAN_WAITS
claim             | Busy!     CANCELLED CANCELLED Illegal!  RUNNING   Busy!     RUNNING    Illegal!
claim, token      | Busy!     CANCELLED CANCELLED Token!    RUNNING   Busy!     RUNNING    RUNNING
claim, clean-up   | Busy!     RUNNING   RUNNING   Token!    RUNNING   Busy!     RUNNING    RUNNING
release           | PENDING   PENDING   Lost!     RUNNING   Lost!     PENDING   PENDING    Lost!
suspend           | CANCELLED CANCELLED Lost!     Illegal!  Lost!     SUSPENDED SUSPENDED  Lost!
suspend, clean-up | PENDING   PENDING   Lost!     Illegal!  Lost!     SUSPENDED SUSPENDED  Lost!
retry             | CANCELLED CANCELLED Lost!     Illegal!  Lost!     SUSPENDED SUSPENDED  Lost!
save              | RUNNING   RUNNING   Lost!     RUNNING   Lost!     RUNNING   RUNNING    Lost!
finish            | SUCCEEDED SUCCEEDED Lost!     SUCCEEDED Lost!     CANCELLED CANCELLED  Lost!
finish: fail      | FAILED    FAILED    Lost!     FAILED    Lost!     FAILED    FAILED     Lost!
finish: cancelled | CANCELLED CANCELLED Lost!     CANCELLED Lost!     CANCELLED CANCELLED  Lost!
begin_cleanup     | PENDING   PENDING   Lost!     Illegal!  Lost!     Illegal!  Illegal!   Lost!
request_cancel    | same      same      same      same      same      same      same       same
delete            | RUNNING   RUNNING   PENDING   RUNNING   PENDING   RUNNING   RUNNING    SUSPENDED
lose_creator      | Illegal!  Illegal!  Illegal!  CANCELLED Illegal!  Illegal!  Illegal!   Illegal!
"""

# Rows that another program made, or made and ended, or ended while they were ours.
FOREIGN_TABLE = """
event             | FOREIGN   F_DONE    F_DELETED RAN        RAN_CANCEL WAITED
create, same      | Exists!   Exists!   Exists!   same       same       same
claim             | Illegal!  Done!     Done!     Done!      Done!      Done!
claim, token      | Token!    Done!     Done!     Done!      Done!      Done!
renew             | same      Done!     Done!     Done!      Done!      Done!
release           | same      Done!     Done!     Done!      Done!      Done!
suspend           | Illegal!  Done!     Done!     Done!      Done!      Done!
retry             | Illegal!  Done!     Done!     Done!      Done!      Done!
save              | RUNNING   Done!     Done!     Done!      Done!      Done!
finish            | SUCCEEDED Done!     Done!     Done!      Done!      Done!
finish: fail      | FAILED    Done!     Done!     Done!      Done!      Done!
finish: cancelled | CANCELLED Done!     Done!     Done!      Done!      Done!
begin_cleanup     | Illegal!  Done!     Done!     Done!      Done!      Done!
lose_creator      | Illegal!  Done!     Done!     Done!      Done!      Done!
handed_over       | Token!    Token!    Token!    Token!     Token!     Token!
request_cancel    | CANCELLED same      -         same       same       same
cascaded          | same      same      same      same       SUCCEEDED  same
settle            | same      SUCCEEDED gone      SUCCEEDED  SUCCEEDED  FAILED
delete            | RUNNING   gone      -         gone       SUCCEEDED  gone
"""


def cells(table: str) -> list[tuple[str, str, str]]:
    head, *lines = table.strip().splitlines()
    columns = head.partition("|")[2].split()
    parsed = [(line.partition("|")[0].strip(), line.partition("|")[2].split()) for line in lines]
    assert all(len(outcomes) == len(columns) for _, outcomes in parsed)
    return [(event, column, outcome) for event, outcomes in parsed for column, outcome in zip(columns, outcomes)]


def check_cell(row: Record, event: Event, outcome: str) -> None:
    if outcome == "-":  # it is not to be seen
        with pytest.raises(OperationNotFoundError):
            event(row)
        return
    if outcome.endswith("!"):
        with pytest.raises(ERRORS[outcome]) as caught:
            event(row)
        assert type(caught.value) is ERRORS[outcome]
        return
    result = event(row)
    if outcome == "same":
        assert result is row
    elif outcome == "gone":
        assert result is None
    else:
        assert result is not None
        assert result is not row
        assert result.state == outcome


@pytest.mark.parametrize(("event", "kind", "outcome"), cells(TABLE))
def test_every_state_and_event_has_its_outcome(event: str, kind: str, outcome: str) -> None:
    check_cell(ROWS[kind], EVENTS[event], outcome)


@pytest.mark.parametrize(("event", "kind", "outcome"), cells(CANCEL_TABLE))
def test_every_state_and_event_after_a_cancel_has_its_outcome(event: str, kind: str, outcome: str) -> None:
    check_cell(CANCEL_ROWS[kind], EVENTS[event], outcome)


@pytest.mark.parametrize(("event", "kind", "outcome"), cells(FOREIGN_TABLE))
def test_every_event_on_another_programs_rows_has_its_outcome(event: str, kind: str, outcome: str) -> None:
    check_cell(FOREIGN_ROWS[kind], EVENTS[event], outcome)


OTHERS = {
    *("Claimant", "Holder", "check_for_parent", "check_holder", "check_parent", "evolved", "first_claim"),
    *("keep", "keep_for_parent", "park", "touch", "traced"),
}
"""Names of the two modules that are no transitions, and those whose every case has a test of its own."""


def test_the_table_names_every_transition_and_every_state() -> None:
    listed = {event for event, _, _ in cells(TABLE)}
    functions = {name for name in (*t.__all__, *bookkeeping.__all__) if name not in OTHERS}
    assert {event.partition(",")[0].partition(":")[0] for event in listed} == functions
    assert listed == set(EVENTS)
    assert {row.state for row in ROWS.values()} == set(State)


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("event", HELD)
@pytest.mark.parametrize("stale", [{"claim": 3}, {"claim": 5}, {"uid": "u0"}], ids=str)
def test_rule_2_a_write_with_another_claim_or_uid_is_lost_in_every_state(kind: str, event: str, stale: dict) -> None:
    """What became of the row since does not matter: a stale holder does not even learn that it has ended."""
    holder = held(replace(ROWS[kind], **stale))
    with pytest.raises(LeaseLostError):
        HELD[event](ROWS[kind], holder=holder, now=NOW)


def test_a_row_that_is_made_claimed_is_what_a_claim_makes_of_a_new_one() -> None:
    new = Record(name="operations/x", uid="u", state=State.PENDING, create_time=NOW, update_time=NOW, handler="h")
    by = t.Claimant(owner="me", lease=30.0, max_attempts=1, retention=RETENTION)
    assert replace(new, **t.first_claim(now=NOW, by=by)) == t.claim(replace(new, check_time=NOW), now=NOW, by=by)


# -- rules 1 and 2 ------------------------------------------------------------------------------------------


def test_rule_1_a_second_end_is_refused_and_the_row_is_untouched() -> None:
    done = t.finish(running(), holder=t.Holder("u1", 4), now=NOW, retention=RETENTION, response=b"\n\x01x")
    assert done is not None
    for event in HELD.values():
        with pytest.raises(OperationDoneError) as caught:
            event(done, holder=t.Holder("u1", 4), now=NOW)
        assert caught.value.state == "SUCCEEDED"


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.FAILED, State.CANCELLED])
def test_rule_1_the_public_cancel_of_a_finished_operation_changes_nothing(state: State) -> None:
    row = ended(state)
    assert t.request_cancel(row, now=NOW, retention=RETENTION, token="t3") is row


@pytest.mark.parametrize("event", EVENTS)
def test_rule_1_no_change_makes_a_removed_row_again(event: str) -> None:
    """A removed row reaches no transition but ``create``."""
    with pytest.raises(OperationNotFoundError):
        Change(NAME, EVENTS[event]).apply(None)


def test_rule_1_a_deleted_row_that_still_runs_keeps_its_name() -> None:
    row = running(deleted=True)
    for repeat in (row, replace(row, uid="u2")):
        with pytest.raises(OperationAlreadyExistsError):
            t.create(row, record=repeat, now=NOW)


def test_rule_2_every_claim_raises_the_number_and_the_holder_before_it_is_out() -> None:
    row = a_row(State.PENDING, claim=0, attempt=0)
    for number in range(1, 4):
        before = held(row)
        claimed = t.claim(row, now=NOW + 100 * number, by=WORKER)
        assert claimed is not None
        assert claimed.claim == number
        with pytest.raises(LeaseLostError):
            t.save(claimed, holder=before, now=NOW, changes={})
        row = claimed


def test_rule_2_somebody_without_a_claim_may_not_write_to_a_row_with_a_handler() -> None:
    nobody = t.Holder("u1", 0)
    for row in (running(), a_row(State.PENDING, claim=0), a_row(State.SUSPENDED)):
        for event in HELD.values():
            with pytest.raises(LeaseLostError):
                event(row, holder=nobody, now=NOW)


def test_rule_2_a_visitor_writes_only_what_nobody_claims() -> None:
    nobody = t.Holder("u1", 0)
    with pytest.raises(LeaseLostError, match="held by"):
        t.save(creators(), holder=nobody, now=NOW, changes={"metadata": b"m"})
    row = creators().evolve(claim=0, owner="", lease_expire_time=None)
    saved = t.save(row, holder=nobody, now=NOW, changes={"metadata": b"m"})
    assert saved.metadata == b"m"
    finished = t.finish(saved, holder=nobody, now=NOW, retention=RETENTION)
    assert finished is not None
    with pytest.raises(OperationDoneError):
        t.finish(finished, holder=nobody, now=NOW, retention=RETENTION)
