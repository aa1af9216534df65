"""A paused row is claimed by nobody, whatever comes; unpaused, it goes on where it would have."""

from __future__ import annotations

from dataclasses import replace

import pytest
from google.protobuf import any_pb2, struct_pb2

from lro_aio.core import bookkeeping, trail
from lro_aio.core import transitions as t
from lro_aio.core.errors import InvalidTokenError, InvalidTransitionError, OperationDoneError, OperationNotFoundError
from lro_aio.core.pausing import pause, unpause
from lro_aio.core.record import Record, State, Wake, WakeReason

from .sample_rows import CLEANER, NEXT, NOW, RETENTION, WAIT, WORKER, a_row, creators, ended, foreign, held, running

IDLE = {
    "PENDING": a_row(State.PENDING),
    "NEW": a_row(State.PENDING, wait=None, attempt=0),
    "SUSPENDED": a_row(State.SUSPENDED),
    "CLEANING": a_row(State.SUSPENDED, cancel_requested=True, cleaning=True),
}


def paused(row: Record) -> Record:
    after = pause(row, now=NOW, reason="look into it")
    assert after is not None
    return after


def kinds(row: Record) -> list[str]:
    return [happening.kind for happening in trail.happenings(row.trail)]


@pytest.mark.parametrize("kind", IDLE)
def test_no_scan_finds_a_paused_row_and_no_token_wakes_it(kind: str) -> None:
    before = IDLE[kind]
    row = paused(before)
    assert (row.state, row.paused, row.check_time, row.owner) == (State.SUSPENDED, True, None, "")
    assert row.revision > before.revision
    with pytest.raises(InvalidTransitionError):
        t.claim(row, now=NOW, by=WORKER)
    with pytest.raises(InvalidTokenError):
        t.claim(row, now=NOW, by=WORKER, token="t1")
    with pytest.raises(InvalidTokenError):
        bookkeeping.handed_over(row, now=NOW, token="t1", check_time=NOW + 60)
    assert row.wait is not None
    claimed = t.claim(row.evolve(check_time=NOW), now=NOW, by=WORKER, token=row.wait.token)  # a message made it due
    assert claimed is not None
    assert (claimed.state, claimed.paused, claimed.check_time) == (State.SUSPENDED, True, None)


@pytest.mark.parametrize("kind", IDLE)
def test_unpaused_it_is_due_as_it_would_have_been(kind: str) -> None:
    before = IDLE[kind]
    row = unpause(paused(before), now=NOW)
    assert not row.paused
    assert row.check_time is not None
    assert row.check_time <= NOW
    assert (row.attempt, row.retries) == (0, 0)
    assert row.wait is not None
    assert row.wait.children == (WAIT.children if before.state is State.SUSPENDED else ())
    assert kinds(row)[-2:] == [trail.PAUSED, trail.UNPAUSED]
    wake = Wake(reason=WakeReason.ELAPSED)
    claimed = t.claim(row, now=NOW, by=WORKER, token=row.wait.token, wake=wake)
    assert claimed is not None
    assert (claimed.state, claimed.attempt) == (State.RUNNING, 1)
    assert claimed.wake == (wake if before.state is State.SUSPENDED else before.wake)


def test_the_reason_is_in_the_trail() -> None:
    (happening,) = trail.happenings(paused(a_row(State.PENDING)).trail)
    assert (happening.kind, happening.text, happening.time) == (trail.PAUSED, "look into it", NOW)


def test_to_pause_again_changes_nothing() -> None:
    for row in (paused(running()), paused(a_row(State.PENDING))):
        assert pause(row, now=NOW + 1, reason="me too") is row


def test_a_run_goes_on_to_its_next_stop() -> None:
    row = paused(running())
    assert (row.state, row.lease_expire_time) == (State.RUNNING, NOW + 10)
    for stopped in (
        t.suspend(row, holder=held(row), now=NOW, retention=RETENTION, wait=NEXT, resume_point="collect"),
        t.retry(row, holder=held(row), now=NOW, retention=RETENTION, wait=NEXT),
        t.release(row, holder=held(row), now=NOW),
    ):
        assert stopped is not None
        assert (stopped.state, stopped.paused, stopped.check_time) == (State.SUSPENDED, True, None)
    finished = t.finish(row, holder=held(row), now=NOW, retention=RETENTION)
    assert finished is not None
    assert (finished.state, finished.paused) == (State.SUCCEEDED, False)


def test_a_run_that_is_unpaused_before_its_stop_never_stops() -> None:
    row = unpause(paused(running()), now=NOW)
    assert (row.state, row.paused, row.attempt) == (State.RUNNING, False, 1)


def test_a_run_that_died_is_not_begun_again() -> None:
    row = t.claim(paused(running(NOW, attempt=9)), now=NOW, by=CLEANER)
    assert row is not None
    assert (row.state, row.paused, row.owner, row.check_time) == (State.SUSPENDED, True, "", None)
    assert row.wait is not None
    assert row.wait.on_cancel == "undo"
    assert kinds(row) == [trail.PAUSED, trail.LEASE_LOST]
    assert unpause(row, now=NOW).attempt == 0


def test_a_cancel_ends_a_pause() -> None:
    plain = t.request_cancel(paused(a_row(State.SUSPENDED)), now=NOW, retention=RETENTION, token="t3")
    assert plain is not None
    assert (plain.state, plain.paused) == (State.CANCELLED, False)
    waiting = a_row(State.SUSPENDED, wait=replace(WAIT, on_cancel="undo"))
    cleaning = t.request_cancel(paused(waiting), now=NOW, retention=RETENTION, token="t3")
    assert cleaning is not None
    assert (cleaning.state, cleaning.paused, cleaning.resume_point) == (State.PENDING, False, "undo")


def test_a_cancel_ends_the_pause_of_a_run_that_is_handed_over() -> None:
    row = t.request_cancel(paused(running()), now=NOW, retention=RETENTION, token="t3")
    assert row is not None
    left = t.release(row, holder=held(row), now=NOW)
    assert left is not None
    assert (left.state, left.paused, left.check_time) == (State.PENDING, False, NOW)


def test_a_paused_row_that_is_deleted_is_removed_at_once_or_when_its_run_stops() -> None:
    assert t.delete(paused(a_row(State.SUSPENDED)), now=NOW) is None
    running_on = t.delete(paused(running()), now=NOW)
    assert running_on is not None
    for stopped in (
        t.suspend(running_on, holder=held(running_on), now=NOW, retention=RETENTION, wait=NEXT, resume_point="on"),
        t.release(running_on, holder=held(running_on), now=NOW),
    ):
        assert stopped is None


@pytest.mark.parametrize("act", [lambda row: pause(row, now=NOW), lambda row: unpause(row, now=NOW)])
def test_what_has_ended_or_is_hidden_is_refused(act) -> None:
    for state in (State.SUCCEEDED, State.FAILED, State.CANCELLED):
        with pytest.raises(OperationDoneError):
            act(ended(state))
    with pytest.raises(OperationNotFoundError):
        act(a_row(State.SUSPENDED, deleted=True))
    with pytest.raises(OperationNotFoundError):
        act(ended(State.SUCCEEDED, expire_time=NOW))


def test_what_is_not_paused_cannot_be_unpaused() -> None:
    with pytest.raises(InvalidTransitionError, match="not paused"):
        unpause(a_row(State.SUSPENDED), now=NOW)


def test_what_nobody_could_pause_is_refused() -> None:
    for row in (creators(), creators(None), foreign()):
        with pytest.raises(InvalidTransitionError, match="without a handler"):
            pause(row, now=NOW)
    with pytest.raises(InvalidTransitionError, match="about to be cancelled"):
        pause(running(cancel_requested=True), now=NOW)


def test_metadata_that_is_not_ours_stays_as_it_is() -> None:
    members = struct_pb2.Struct()
    members["owner"] = "ana"
    packed = any_pb2.Any()
    packed.Pack(members)
    row = a_row(State.SUSPENDED, metadata=packed.SerializeToString())
    assert unpause(paused(row), now=NOW).metadata == row.metadata
