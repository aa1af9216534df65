"""A run that failed: the operation is paused, or cleans up, or ends; and what a deadline does to it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from google.protobuf import any_pb2, struct_pb2
from google.rpc import status_pb2

from lro_aio.core import bookkeeping, trail
from lro_aio.core import transitions as t
from lro_aio.core.codes import Code
from lro_aio.core.errors import InvalidTransitionError, LeaseLostError, OperationDoneError
from lro_aio.core.failing import OnFailure, fail, overdue
from lro_aio.core.moves import KEPT_STATE
from lro_aio.core.pausing import pause, unpause
from lro_aio.core.record import NOT_KEPT, Record, State, WakeReason
from lro_aio.core.rerunning import again
from lro_aio.core.status import make_status, reason_of

from .sample_rows import NEXT, NOW, RETENTION, WAIT, WORKER, a_row, ended, held, running

ERROR = make_status(Code.INTERNAL, "no", reason="NO")
CLEANS = OnFailure(point="undo")
PAUSES = OnFailure(pause=True, on_cancel="put back")
BOTH = replace(PAUSES, point="undo")
EXHAUSTED = replace(WORKER, max_attempts=1)


def failed(row: Record, then: OnFailure, error: status_pb2.Status = ERROR, told: str = "") -> Record:
    after = fail(row, holder=held(row), now=NOW, retention=RETENTION, error=error, then=then, told=told)
    assert after is not None
    return after


def cleaning(**changes: object) -> Record:
    """The run of a clean-up because of a failure."""
    claimed = t.claim(failed(running(**changes), CLEANS), now=NOW, by=WORKER)
    assert claimed is not None
    return claimed


def reason(data: bytes) -> str:
    return reason_of(status_pb2.Status.FromString(data))


def happened(row: Record) -> list[tuple[str, str]]:
    return [(happening.kind, happening.text) for happening in trail.happenings(row.trail)]


def test_with_nothing_declared_it_ends() -> None:
    row = failed(running(), OnFailure())
    assert (row.state, reason(row.error), row.failure) == (State.FAILED, "NO", b"")


def test_it_is_paused_and_says_why_to_operators() -> None:
    row = failed(running(), PAUSES, told="KeyError: 'x'")
    assert (row.state, row.paused, row.check_time, row.owner) == (State.SUSPENDED, True, None, "")
    assert reason(row.failure) == "NO"
    assert row.error == b""
    assert happened(row) == [("FAILURE", "INTERNAL NO: KeyError: 'x'"), ("PAUSED", "because of the failure")]
    members = struct_pb2.Struct()
    assert any_pb2.Any.FromString(row.metadata).Unpack(members)
    assert dict(members["failure"]) == {"code": "INTERNAL", "reason": "NO", "message": "no"}


def test_unpaused_the_same_segment_runs_again_with_fresh_counts_and_shows_no_failure() -> None:
    row = unpause(failed(running(attempt=3, retries=7, resume_point="on"), PAUSES), now=NOW)
    assert (row.failure, row.metadata, row.attempt, row.retries) == (b"", b"", 0, 0)
    assert row.wait is not None
    claimed = t.claim(row, now=NOW, by=WORKER, token=row.wait.token)
    assert claimed is not None
    assert (claimed.state, claimed.resume_point, claimed.attempt) == (State.RUNNING, "on", 1)


def test_a_failure_that_is_paused_can_be_cancelled_with_its_clean_up() -> None:
    row = t.request_cancel(failed(running(), PAUSES), now=NOW, retention=RETENTION, token="t3")
    assert row is not None
    assert (row.state, row.resume_point, row.paused, row.failure) == (State.PENDING, "put back", False, b"")


def test_a_failure_after_a_cancel_or_a_delete_is_not_paused() -> None:
    assert failed(running(cancel_requested=True), PAUSES).state is State.FAILED
    deleted = running(deleted=True)
    assert fail(deleted, holder=held(deleted), now=NOW, retention=RETENTION, error=ERROR, then=PAUSES) is None


def test_it_cleans_up_once_and_ends_with_the_failure() -> None:
    row = failed(running(attempt=2, retries=1), CLEANS)
    assert (row.state, row.resume_point, row.cleaning, row.check_time) == (State.PENDING, "undo", True, NOW)
    assert (row.attempt, row.retries) == (0, 0)
    assert row.wake is not None
    assert (row.wake.reason, row.wake.children) == (WakeReason.FAILED, WAIT.children)
    run = cleaning()
    done = t.finish(run, holder=held(run), now=NOW, retention=RETENTION, response=b"\n\x01x")
    assert done is not None
    assert (done.state, reason(done.error), done.response, done.failure) == (State.FAILED, "NO", b"", b"")


@pytest.mark.parametrize("then", [CLEANS, PAUSES, BOTH, OnFailure()])
def test_a_clean_up_that_fails_too_ends_with_the_first_failure_and_tells_of_the_second(then: OnFailure) -> None:
    second = make_status(Code.NOT_FOUND, "worse", reason="WORSE")
    row = failed(cleaning(), then, second)
    assert (row.state, reason(row.error)) == (State.FAILED, "NO")
    assert happened(row)[-1] == ("FAILURE", "NOT_FOUND WORSE: worse")


def test_a_clean_up_that_crashes_runs_again_until_its_attempts_are_used_up() -> None:
    row = cleaning()
    again = t.claim(row, now=NOW + 100, by=WORKER)
    assert again is not None
    assert (again.state, again.attempt, again.cleaning) == (State.RUNNING, 2, True)
    over = t.claim(again, now=NOW + 200, by=replace(EXHAUSTED, on_failure=BOTH))
    assert over is not None
    assert (over.state, reason(over.error)) == (State.FAILED, "NO")


def test_a_clean_up_may_wait_and_a_cancel_changes_neither_it_nor_the_end() -> None:
    run = cleaning(deadline=NOW + 5)
    waits = t.suspend(run, holder=held(run), now=NOW, retention=RETENTION, wait=NEXT, resume_point="undo")
    assert waits is not None
    assert waits.check_time == NEXT.sleep_until  # whatever the deadline is
    for row in (run, waits, pause(waits, now=NOW)):
        assert row is not None
        after = t.request_cancel(row, now=NOW, retention=RETENTION, token="t3")
        assert after is not None
        assert (after.state, after.cleaning, after.cancel_requested) == (row.state, True, True)
        assert (after.paused, reason(after.failure)) == (False, "NO")
    cancelled = t.request_cancel(run, now=NOW, retention=RETENTION, token="t3")
    assert cancelled is not None
    done = t.finish(cancelled, holder=held(run), now=NOW, retention=RETENTION)
    assert done is not None
    assert done.state is State.FAILED


def test_a_pause_by_hand_holds_the_clean_up_back() -> None:
    asked = pause(running(), now=NOW)
    assert asked is not None
    row = failed(asked, CLEANS)
    assert (row.state, row.paused, row.check_time, row.resume_point) == (State.SUSPENDED, True, None, "undo")
    row = unpause(row, now=NOW)
    assert (row.check_time, reason(row.failure)) == (NOW, "NO")


def test_used_up_attempts_are_paused_or_cleaned_up_after_too() -> None:
    dead = running(NOW, attempt=1)
    ended_row = t.claim(dead, now=NOW, by=EXHAUSTED)
    paused = t.claim(dead, now=NOW, by=replace(EXHAUSTED, on_failure=PAUSES))
    cleans = t.claim(dead, now=NOW, by=replace(EXHAUSTED, on_failure=CLEANS))
    assert ended_row is not None
    assert paused is not None
    assert cleans is not None
    assert (ended_row.state, paused.state, cleans.state) == (State.FAILED, State.SUSPENDED, State.PENDING)
    assert reason(ended_row.error) == reason(paused.failure) == reason(cleans.failure) == "ATTEMPTS_EXHAUSTED"
    assert paused.wait is not None
    assert paused.wait.on_cancel == "put back"


def test_only_the_holder_can_fail_it() -> None:
    row = running()
    with pytest.raises(LeaseLostError):
        fail(row, holder=t.Holder("u1", 3), now=NOW, retention=RETENTION, error=ERROR, then=BOTH)
    done = ended(State.SUCCEEDED)
    with pytest.raises(OperationDoneError):
        fail(done, holder=held(done), now=NOW, retention=RETENTION, error=ERROR, then=BOTH)


# -- deadlines ------------------------------------------------------------------------------------------------


def test_a_wait_is_looked_at_when_the_deadline_has_come() -> None:
    row = running(deadline=NOW + 9)
    for parked in (
        t.suspend(row, holder=held(row), now=NOW, retention=RETENTION, wait=NEXT, resume_point="on"),
        t.retry(row, holder=held(row), now=NOW, retention=RETENTION, wait=NEXT),
    ):
        assert parked is not None
        assert parked.check_time == NOW + 9
        given = bookkeeping.handed_over(parked, now=NOW, token="t2", check_time=NOW + 999)
        assert given.check_time == NOW + 9
        paused = pause(parked, now=NOW)
        assert paused is not None
        assert paused.check_time == NOW + 9


@pytest.mark.parametrize("paused", [False, True])
def test_what_waits_fails_at_its_deadline_after_its_clean_up(paused: bool) -> None:
    row: Record | None = a_row(State.SUSPENDED, deadline=NOW)
    if paused:
        row = pause(row, now=NOW)
    assert row is not None
    done = overdue(row, now=NOW, retention=RETENTION, then=PAUSES)
    assert done is not None
    assert (done.state, reason(done.error)) == (State.FAILED, "DEADLINE_EXCEEDED")
    cleans = overdue(row, now=NOW, retention=RETENTION, then=BOTH)
    assert cleans is not None
    assert (cleans.state, cleans.paused, reason(cleans.failure)) == (State.PENDING, False, "DEADLINE_EXCEEDED")


def test_a_deadline_changes_nothing_of_what_runs_has_time_cleans_up_or_has_ended() -> None:
    for row in (
        running(deadline=NOW),
        a_row(State.SUSPENDED, deadline=NOW + 1),
        a_row(State.SUSPENDED, deadline=NOW, cleaning=True, cancel_requested=True),
        ended(State.SUCCEEDED, deadline=NOW),
    ):
        assert overdue(row, now=NOW, retention=RETENTION, then=BOTH) is row


def test_what_would_run_again_after_its_deadline_fails_instead() -> None:
    for row in (a_row(State.PENDING, deadline=NOW), running(NOW, deadline=NOW)):
        done = t.claim(row, now=NOW, by=WORKER)
        assert done is not None
        assert (done.state, reason(done.error)) == (State.FAILED, "DEADLINE_EXCEEDED")


# -- the state with which it began ------------------------------------------------------------------------------


def test_the_first_state_is_kept_once_it_is_changed_and_only_then() -> None:
    row = running(state_data=b"a", state_codec="json;v=1")
    untouched = t.save(row, holder=held(row), now=NOW, changes={"metadata": b"m"})
    assert (untouched.initial_data, untouched.initial_codec) == (b"", "")
    for state in (b"b", b"c"):
        row = t.save(row, holder=held(row), now=NOW, changes={"state_data": state, "state_codec": "json;v=2"})
    done = t.finish(row, holder=held(row), now=NOW, retention=RETENTION, changes={"state_data": b"d"})
    assert done is not None
    assert (done.state_data, done.initial_data, done.initial_codec) == (b"d", b"a", "json;v=1")


def test_a_first_state_that_is_too_large_beside_another_is_not_kept_and_a_rerun_says_so() -> None:
    row = running(state_data=bytes(KEPT_STATE + 1), state_codec="json;v=1")
    row = t.save(row, holder=held(row), now=NOW, changes={"state_data": b"b"})
    assert (row.initial_data, row.initial_codec) == (b"", NOT_KEPT)
    done = t.finish(row, holder=held(row), now=NOW, retention=RETENTION)
    assert done is not None
    with pytest.raises(InvalidTransitionError, match="too large to keep"):
        again(done, name="operations/b", uid="u2", now=NOW, fingerprint="")
