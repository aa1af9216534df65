"""The rules of a row's life from the third on: they hold in the pure functions, whatever stands around them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from google.protobuf import any_pb2, empty_pb2
from google.rpc import error_details_pb2, status_pb2

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
from lro_aio.core.record import Record, State, Wait, Wake, WakeReason
from lro_aio.core.status import make_status

from .sample_rows import (
    CLEANER,
    LEASE,
    NAME,
    NEXT,
    NOW,
    RETENTION,
    WAIT,
    WORKER,
    a_row,
    creators,
    ended,
    foreign,
    held,
    running,
)


def status_of(row: Record | None) -> status_pb2.Status:
    assert row is not None
    return status_pb2.Status.FromString(row.error)


def reason_of(row: Record | None) -> str:
    info = error_details_pb2.ErrorInfo()
    assert status_of(row).details[0].Unpack(info)
    return info.reason


def failing(code: Code) -> Callable[..., Record | None]:
    return partial(t.finish, retention=RETENTION, error=make_status(code, "no", reason="NO"))


DEFAULTS: dict[str, Any] = {
    "now": NOW, "retention": RETENTION, "by": WORKER, "lease": LEASE, "wait": NEXT, "resume_point": "collect",
    "changes": {"metadata": b"m"},
}  # fmt: skip


def kept(function: Callable[..., Record | None]) -> Callable[..., Record]:
    """The transition, for tests in which it leaves a row; what a test does not name has its default."""
    parameters = inspect.signature(function).parameters.items()
    needed = {name: DEFAULTS[name] for name, parameter in parameters if name in DEFAULTS and _required(parameter)}

    def call(row: Record, **named: Any) -> Record:
        holder = {"holder": held(row)} if "holder" in dict(parameters) else {}
        result = function(row, **{**needed, **holder, **named})
        assert result is not None
        return result

    return call


def _required(parameter: inspect.Parameter) -> bool:
    return parameter.default is inspect.Parameter.empty


claim, renew, release, save = kept(t.claim), kept(t.renew), kept(t.release), kept(t.save)
suspend, retry, finish = kept(t.suspend), kept(t.retry), kept(t.finish)
request_cancel, delete = kept(partial(t.request_cancel, token="t3")), kept(t.delete)
lose_creator, cascaded = kept(t.lose_creator), kept(bookkeeping.cascaded)


def test_rule_3_the_attempt_rises_at_claim_time_so_that_a_crash_counts() -> None:
    row = a_row(State.PENDING, attempt=0)
    now = NOW
    for attempt in range(1, WORKER.max_attempts + 1):
        row = claim(row, now=now)
        assert (row.state, row.attempt) == (State.RUNNING, attempt)
        now += LEASE  # and then it dies
    row = claim(row, now=now)
    assert row.state is State.FAILED
    assert reason_of(row) == "ATTEMPTS_EXHAUSTED"
    assert status_of(row).code == Code.ABORTED


def test_rule_3_fifty_suspends_and_ten_hand_overs_end_well() -> None:
    row = a_row(State.PENDING, attempt=0, claim=0)
    for segment in range(50):
        row = claim(row, token=row.wait.token)
        wait = Wait(token=f"s{segment}", sleep_until=NOW)
        row = suspend(row, wait=wait)
    for _ in range(10):
        row = claim(row, token=row.wait.token)
        row = release(row)
        assert row.attempt == 0
    row = claim(row)
    row = finish(row)
    assert (row.state, row.claim) == (State.SUCCEEDED, 61)


def test_rule_3_a_suspend_starts_the_count_anew_and_a_retry_takes_its_own_back() -> None:
    row = running(attempt=3, retries=2, handover=4)
    suspended = suspend(row)
    assert (suspended.attempt, suspended.retries, suspended.handover) == (0, 0, 0)
    counted = retry(row)
    assert (counted.attempt, counted.retries) == (2, 3)
    free = retry(row, counts=False)
    assert (free.attempt, free.retries) == (2, 2)


def test_rule_4_a_lease_is_over_at_its_moment_and_not_before() -> None:
    row = running(NOW)
    just_before = NOW - 0.001
    assert row.lease_live(just_before)
    with pytest.raises(OperationBusyError) as busy:
        claim(row, now=just_before)
    assert busy.value.retry_after == pytest.approx(0.001)
    assert not row.lease_live(NOW)
    taken = claim(row)
    assert taken.claim == row.claim + 1
    assert taken.check_time == taken.lease_expire_time == NOW + LEASE


def test_rule_4_an_overdue_holder_goes_on_as_long_as_nobody_claimed_the_row() -> None:
    row = running(NOW - 500)
    assert renew(row).lease_live(NOW)
    assert save(row, changes={"metadata": b"m"}).metadata == b"m"


def test_rule_4_a_renewal_is_not_a_change_that_a_reader_sees() -> None:
    row = running()
    renewed = renew(row)
    assert renewed == replace(row, lease_expire_time=NOW + LEASE, check_time=NOW + LEASE)


def test_rule_4_a_renewal_never_shortens_a_lease() -> None:
    """A clock that stepped back, or a batch that came late, must not make a live run look dead. It moves anyway."""
    row = running(NOW + 25)
    renewed = renew(row, now=NOW - 100)
    assert renewed.lease_expire_time == renewed.check_time == NOW + 25.000001


def test_rule_5_a_release_lets_another_process_go_on_at_once_without_cost() -> None:
    row = running(resume_point="collect", state_data=b"s", wake=Wake(reason=WakeReason.ELAPSED))
    freed = release(row)
    assert (freed.state, freed.owner, freed.lease_expire_time, freed.check_time) == (State.PENDING, "", None, NOW)
    taken = claim(freed)
    assert (taken.attempt, taken.resume_point, taken.state_data, taken.wake) == (1, "collect", b"s", row.wake)


def test_rule_6_a_first_run_that_was_handed_back_keeps_its_clean_up() -> None:
    """It began, so there may be something to undo, although it never suspended."""
    row = running(wait=None)
    wait = Wait(token="t9", sleep_until=NOW, on_cancel="undo")
    released = t.release(row, holder=t.Holder("u1", 4), now=NOW, wait=wait)
    cancelled = t.request_cancel(released, now=NOW, retention=RETENTION, token="t10")
    assert cancelled is not None
    assert (cancelled.state, cancelled.resume_point, cancelled.cleaning) == (State.PENDING, "undo", True)


def test_a_release_keeps_the_wait_that_the_row_has() -> None:
    row = running()
    assert t.release(row, holder=t.Holder("u1", 4), now=NOW, wait=NEXT).wait == WAIT


def test_a_hand_over_that_is_noted_late_does_not_postpone_a_row_that_is_due() -> None:
    handed = a_row(State.SUSPENDED)
    claimed = t.claim(handed, now=NOW, by=WORKER, token="t1")
    assert claimed is not None
    released = t.release(claimed, holder=t.Holder("u1", claimed.claim), now=NOW)
    with pytest.raises(InvalidTokenError):
        bookkeeping.handed_over(released, now=NOW, token="t1", check_time=NOW + 21600, revision=handed.revision)


def test_rule_5_the_released_holder_is_out() -> None:
    row = running()
    freed = release(row)
    with pytest.raises(LeaseLostError):
        finish(freed, holder=held(row))


def test_rule_6_a_running_operation_is_told_and_may_still_finish() -> None:
    row = request_cancel(running())
    assert (row.state, row.cancel_requested, row.revision) == (State.RUNNING, True, 8)
    done = finish(row, response=b"\n\x01x")
    assert done.state is State.SUCCEEDED


@pytest.mark.parametrize("state", [State.PENDING, State.SUSPENDED])
def test_rule_6_an_idle_row_without_clean_up_ends_cancelled_at_once(state: State) -> None:
    row = request_cancel(a_row(state))
    assert (row.state, row.wait) == (State.CANCELLED, None)
    assert status_of(row).code == Code.CANCELLED == 1


def test_rule_6_the_clean_up_runs_once_with_a_token_of_its_own_and_ends_cancelled() -> None:
    waiting = a_row(State.SUSPENDED, wait=replace(WAIT, on_cancel="undo"), attempt=3, retries=2)
    row = request_cancel(waiting, token="t3")
    assert (row.state, row.resume_point, row.cleaning, row.check_time) == (State.PENDING, "undo", True, NOW)
    assert (row.attempt, row.retries) == (0, 0)
    with pytest.raises(InvalidTokenError):
        claim(row, by=CLEANER, token="t1")
    assert request_cancel(row, token="t4") is row
    claimed = claim(row, by=CLEANER, token="t3", wake=Wake(reason=WakeReason.ELAPSED))
    assert claimed.wake == Wake(reason=WakeReason.CANCEL_REQUESTED, children=WAIT.children, service="billing")
    with pytest.raises(InvalidTransitionError):
        t.begin_cleanup(claimed, holder=held(claimed), now=NOW, on_cancel="undo")
    done = finish(claimed, response=b"\n\x01x")
    assert (done.state, done.response) == (State.CANCELLED, b"")
    failed = kept(failing(Code.INTERNAL))(claimed, holder=held(claimed), now=NOW)
    assert failed.state is State.FAILED


def test_rule_6_a_clean_up_whose_process_dies_is_run_again_and_not_begun_anew() -> None:
    row = running(NOW, cancel_requested=True, cleaning=True, resume_point="undo", attempt=1)
    again = claim(row, by=replace(CLEANER, on_cancel="other"))
    assert (again.resume_point, again.attempt) == ("undo", 2)


def test_rule_6_a_stopped_run_between_two_tries_still_tells_its_clean_up_of_the_children() -> None:
    wake = Wake(reason=WakeReason.CHILDREN_DONE, children=("operations/c",), service="billing")
    row = running(wake=wake)
    waiting = retry(row, wait=replace(NEXT, on_cancel="undo"))
    cleaning = request_cancel(waiting, token="t3")
    assert cleaning.wake == replace(wake, reason=WakeReason.CANCEL_REQUESTED)


def test_rule_6_a_row_handed_back_with_an_unheard_cancel_is_not_run_as_if_nothing_happened() -> None:
    row = request_cancel(running())
    freed = release(row)
    ended_row = claim(freed)
    assert ended_row.state is State.CANCELLED
    cleaning = claim(freed, by=CLEANER)
    assert (cleaning.state, cleaning.resume_point, cleaning.cleaning) == (State.RUNNING, "undo", True)


def test_rule_6_only_a_cancel_of_this_operation_ends_it_cancelled() -> None:
    """The cancel of a child that the handler let through is a failure of this one."""
    row = kept(failing(Code.CANCELLED))(running(), holder=held(running()), now=NOW)
    assert (row.state, status_of(row).code) == (State.FAILED, Code.ABORTED)
    assert status_of(row).message == "no"


def test_rule_6_the_cancel_of_a_deleted_operation_is_the_cancel_of_no_operation() -> None:
    for row in (running(deleted=True), ended(State.SUCCEEDED, expire_time=NOW)):
        with pytest.raises(OperationNotFoundError):
            request_cancel(row)


def test_rule_6_children_are_owed_the_cancel_until_it_has_been_passed_on() -> None:
    waiting = a_row(State.SUSPENDED)
    row = request_cancel(waiting)
    assert (row.cancel_children, row.check_time) == (True, NOW + t.PASS_ON)
    passed = cascaded(row, now=NOW + 1)
    assert (passed.cancel_children, passed.check_time, passed.revision) == (False, None, row.revision)
    assert cascaded(passed, now=NOW + 2) is passed
    alone = request_cancel(waiting, cancel_children=False)
    assert (alone.cancel_children, alone.check_time) == (False, None)


def test_rule_6_a_delete_does_not_take_the_cancel_from_the_children() -> None:
    row = request_cancel(a_row(State.SUSPENDED))
    hidden = delete(row)
    assert hidden.hidden(NOW)
    assert hidden.check_time == NOW + t.PASS_ON
    with pytest.raises(OperationNotFoundError):
        delete(hidden)
    assert bookkeeping.cascaded(hidden, now=NOW) is None


def test_rule_7_the_token_is_valid_until_its_run_commits_a_suspend_or_an_end() -> None:
    row = claim(a_row(State.SUSPENDED), token="t1", wake=Wake(reason=WakeReason.ELAPSED))
    with pytest.raises(OperationBusyError) as busy:
        claim(row, now=NOW + 12, token="t1")
    assert busy.value.retry_after == LEASE - 12
    again = claim(row, now=NOW + LEASE, token="t1", wake=Wake(reason=WakeReason.POLL_FAILED))
    assert (again.attempt, again.wake) == (row.attempt + 1, Wake(reason=WakeReason.ELAPSED))  # told the same
    suspended = suspend(again)
    done = finish(again)
    with pytest.raises(InvalidTokenError):
        claim(suspended, token="t1")
    with pytest.raises(OperationDoneError):
        claim(done, token="t1")


def test_rule_7_the_token_survives_a_release_and_a_crash_of_the_next_run() -> None:
    row = running()
    row = claim(release(row, holder=held(row)), token="t1")
    row = claim(row, now=NOW + LEASE, token="t1")
    assert row.state is State.RUNNING


def test_rule_7_a_retry_keeps_the_reason_of_the_segment() -> None:
    wake = Wake(reason=WakeReason.CHILDREN_TIMEOUT, pending=("operations/c",))
    row = running(wake=wake)
    waiting = retry(row)
    assert waiting.check_time == NEXT.sleep_until
    again = claim(waiting, token="t2", wake=Wake(reason=WakeReason.ELAPSED))
    assert again.wake == wake


def test_rule_7_a_hand_over_is_noted_only_while_the_row_waits_with_that_token() -> None:
    row = bookkeeping.handed_over(a_row(State.SUSPENDED), now=NOW, token="t1", check_time=NOW + 9, handle="exec/1")
    assert (row.handover, row.schedule_handle, row.check_time, row.revision) == (1, "exec/1", NOW + 9, 7)
    again = bookkeeping.handed_over(row, now=NOW, token="t1", check_time=NOW + 10)
    assert (again.handover, again.schedule_handle) == (2, "exec/1")
    with pytest.raises(InvalidTokenError):
        bookkeeping.handed_over(row, now=NOW, token="t0", check_time=NOW)


@pytest.mark.parametrize(
    ("ours", "theirs", "same"),
    [("1:aa", "1:aa", True), ("1:aa", "1:bb", False), ("2:cc", "1:aa", True), ("", "1:aa", False), ("1:aa", "", False)],
)
def test_rule_8_a_repeat_finds_the_operation_and_another_request_is_refused(ours: str, theirs: str, same: bool) -> None:
    """Another scheme counts as equal; no fingerprint is no scheme."""
    existing = running(fingerprint=theirs)
    repeat = replace(a_row(), uid="u2", fingerprint=ours)
    if same:
        assert t.create(existing, record=repeat, now=NOW) is existing
    else:
        with pytest.raises(OperationAlreadyExistsError):
            t.create(existing, record=repeat, now=NOW)


@pytest.mark.parametrize(
    ("theirs", "same"), [("2:cc", True), ("2:dd", False), ("1:aa", True), ("1:bb", False), ("3:ee", True), ("", False)]
)
def test_rule_8_a_row_of_an_earlier_release_is_compared_by_its_own_scheme(theirs: str, same: bool) -> None:
    existing, repeat = running(fingerprint=theirs), replace(a_row(), uid="u2", fingerprint="2:cc")
    if same:
        assert t.create(existing, record=repeat, now=NOW, also=("1:aa",)) is existing
    else:
        with pytest.raises(OperationAlreadyExistsError):
            t.create(existing, record=repeat, now=NOW, also=("1:aa",))


@pytest.mark.parametrize(("ours", "theirs"), [("1:aa", "1:bb"), ("", "1:bb"), ("", "")])
def test_rule_8_for_a_child_the_key_decides(ours: str, theirs: str) -> None:
    """It is its name; a segment that runs again may compute another state from the clock, or in a later release."""
    child = running(parent_operation="operations/p", fingerprint=theirs)
    again = replace(a_row(), uid="u2", parent_operation="operations/p", fingerprint=ours)
    assert t.create(child, record=again, now=NOW) is child
    for other in (replace(again, handler="other"), replace(again, parent_operation="operations/q")):
        with pytest.raises(OperationAlreadyExistsError):
            t.create(child, record=other, now=NOW)


def test_rule_8_another_handler_is_another_request() -> None:
    with pytest.raises(OperationAlreadyExistsError):
        t.create(running(), record=replace(a_row(), uid="u2", handler="other"), now=NOW)


def test_rule_8_a_child_that_was_deleted_is_found_by_its_parent_and_made_by_nobody() -> None:
    """A segment that runs again asks for it again, and is not to fail because somebody deleted it meanwhile."""
    child = running(parent_operation="operations/p", deleted=True)
    again = replace(a_row(), uid="u2", parent_operation="operations/p")
    assert t.create(child, record=again, now=NOW) is child
    for other in (replace(again, handler="other"), replace(again, parent_operation="")):
        with pytest.raises(OperationAlreadyExistsError):
            t.create(child, record=other, now=NOW)


def test_rule_8_the_same_write_twice_is_one_operation_even_without_a_fingerprint() -> None:
    """A commit whose answer was lost is sent again."""
    record = a_row(fingerprint="")
    assert t.create(None, record=record, now=NOW) is record
    moved_on = running(fingerprint="")
    assert t.create(moved_on, record=record, now=NOW) is moved_on


def test_rule_11_retention_counts_from_the_end() -> None:
    row = running(create_time=NOW - 10_000)
    done = finish(row)
    assert (done.end_time, done.expire_time) == (NOW, NOW + RETENTION)
    assert not done.hidden(NOW + RETENTION - 0.001)
    assert done.hidden(NOW + RETENTION)
    fresh = replace(a_row(), uid="u9", fingerprint="1:zz")
    assert t.create(done, record=fresh, now=NOW + RETENTION) is fresh


def test_rule_11_an_expired_operation_cannot_be_deleted_or_cancelled() -> None:
    row = ended(State.SUCCEEDED, expire_time=NOW)
    with pytest.raises(OperationNotFoundError):
        delete(row)


def test_rule_12_the_sweep_ends_a_row_whose_creator_is_gone() -> None:
    with pytest.raises(InvalidTransitionError):
        lose_creator(creators(NOW), now=NOW - 0.001)
    row = lose_creator(creators(NOW))
    assert (row.state, status_of(row).code, reason_of(row)) == (State.FAILED, Code.ABORTED, "CREATOR_LOST")
    released = release(creators(), holder=held(creators()))
    assert released.check_time == NOW
    assert lose_creator(released)


def test_rule_4_a_lease_that_moved_since_it_was_found_is_not_taken() -> None:
    """Whatever the claimant's clock says of it."""
    waiting = suspend(running())
    theirs = claim(waiting, token="t2", now=NOW - 3600)
    with pytest.raises(OperationBusyError):
        claim(theirs, token="t2", found=waiting)
    moved = renew(theirs, now=NOW - 3590)
    with pytest.raises(OperationBusyError):
        claim(moved, token="t2", found=theirs)
    assert claim(theirs, token="t2", found=theirs).claim == theirs.claim + 1


def test_rule_4_the_lease_of_an_owner_who_is_known_to_be_dead_is_over_as_it_was_found() -> None:
    theirs = running()
    with pytest.raises(OperationBusyError):
        claim(theirs, found=theirs)
    taken = claim(theirs, found=theirs, dead=True)
    assert (taken.claim, taken.attempt) == (theirs.claim + 1, theirs.attempt + 1)
    with pytest.raises(OperationBusyError):
        claim(taken, found=theirs, dead=True)
    driven = creators()
    assert lose_creator(driven, now=NOW - 3600, found=driven, dead=True)
    with pytest.raises(InvalidTransitionError):
        lose_creator(renew(driven, now=NOW + 1), found=driven, dead=True)


def test_rule_12_a_creator_that_renewed_since_is_not_gone() -> None:
    row = creators(NOW - 3600)
    with pytest.raises(InvalidTransitionError):
        lose_creator(renew(row, now=NOW - 3700), found=row)
    assert lose_creator(row, found=row)


def test_rule_12_a_row_without_a_lease_is_never_given_one_and_never_lost() -> None:
    row = creators(None)
    assert renew(row) is row
    assert release(row) is row
    with pytest.raises(InvalidTransitionError):
        lose_creator(row, now=NOW + 1e9)


def test_rule_13_a_deleted_row_runs_to_its_end_and_is_then_removed() -> None:
    row = delete(running())
    assert (row.hidden(NOW), row.state) == (True, State.RUNNING)
    with pytest.raises(OperationNotFoundError):
        delete(row)
    suspended = suspend(row)
    again = claim(suspended, token="t2")
    assert again.deleted
    assert t.finish(again, holder=held(again), now=NOW, retention=RETENTION) is None
    assert failing(Code.INTERNAL)(again, holder=held(again), now=NOW) is None


def test_rule_13_a_deleted_row_is_removed_by_every_way_to_end() -> None:
    worn = a_row(State.PENDING, attempt=3, deleted=True)
    assert t.claim(worn, now=NOW, by=WORKER) is None
    assert t.lose_creator(creators(NOW, deleted=True), now=NOW, retention=RETENTION) is None
    dead = running(NOW, cancel_requested=True, deleted=True)
    assert t.claim(dead, now=NOW, by=WORKER) is None
    told = running(cancel_requested=True, deleted=True)
    assert t.suspend(told, holder=held(told), now=NOW, retention=RETENTION, wait=NEXT, resume_point="x") is None


# -- what every write has in common --------------------------------------------------------------------------------


def test_a_finished_operation_has_always_a_response_or_an_error() -> None:
    row = running()
    done = finish(row)
    response = any_pb2.Any.FromString(done.response)
    assert response.Is(empty_pb2.Empty.DESCRIPTOR)
    wrong = finish(row, error=status_pb2.Status(message="odd"))
    assert (wrong.state, status_of(wrong).code, status_of(wrong).message) == (State.FAILED, Code.UNKNOWN, "odd")


def test_the_last_changes_are_written_with_the_end() -> None:
    row = running()
    done = finish(row, changes={"metadata": b"last"})
    assert done.metadata == b"last"


def test_a_clock_that_steps_back_moves_no_time_back() -> None:
    row = running(create_time=NOW, update_time=NOW)
    saved = save(row, now=NOW - 100, changes={"metadata": b"m"})
    assert (saved.update_time, saved.revision) == (NOW, 8)
    done = finish(row, now=NOW - 100)
    assert (done.update_time, done.end_time, done.expire_time) == (NOW, NOW, NOW + RETENTION)


def test_a_suspend_is_looked_at_first_when_its_sleep_ends() -> None:
    row = running()
    children = Wait(token="t2", sleep_until=NOW + 5, children=("operations/c",), deadline=NOW + 65)
    suspended = suspend(row, wait=children)
    assert (suspended.check_time, suspended.owner, suspended.lease_expire_time) == (NOW + 5, "", None)


def test_only_a_change_that_creates_is_called_without_a_row() -> None:
    record = a_row()
    change = Change(NAME, partial(t.create, record=record, now=NOW), creates=True)
    assert change.apply(None) is record
    assert change.apply(record) is record


# -- rows that another program wrote ----------------------------------------------------------------------------


def test_a_row_without_a_uid_is_another_programs() -> None:
    assert foreign().foreign
    assert not creators(None).foreign


def test_a_cancel_ends_another_programs_row_at_once() -> None:
    """Nobody there looks for a request; ours, driven from outside just the same, is asked."""
    row = t.request_cancel(foreign(), now=NOW, retention=RETENTION, token="t3")
    assert row is not None
    assert (row.state, row.end_time, row.expire_time) == (State.CANCELLED, NOW, NOW + RETENTION)
    assert status_of(row).code == Code.CANCELLED
    assert row.uid == ""
    assert t.request_cancel(row, now=NOW, retention=RETENTION, token="t4") is row
    asked = t.request_cancel(creators(None), now=NOW, retention=RETENTION, token="t3")
    assert asked is not None
    assert (asked.state, asked.cancel_requested) == (State.RUNNING, True)


@pytest.mark.parametrize(
    "left",
    [running(NOW + 10), a_row(State.SUSPENDED, wake=Wake(reason=WakeReason.ELAPSED)), foreign()],
    ids=["running", "suspended", "foreign"],
)
def test_an_end_by_another_program_is_completed(left: Record) -> None:
    """It wrote the result alone: what our end would have written besides is written now, and the result stays."""
    row = replace(left, state=State.SUCCEEDED, response=b"\n\x01x", metadata=b"theirs")
    settled = t.settle(row, now=NOW, retention=RETENTION)
    assert settled is not None
    assert settled == replace(
        row,
        update_time=NOW,
        end_time=NOW,
        expire_time=NOW + RETENTION,
        owner="",
        lease_expire_time=None,
        wait=None,
        wake=None,
        check_time=None,
        revision=row.revision + 1,
    )
    assert t.settle(settled, now=NOW + 1, retention=RETENTION) is settled


def test_an_end_by_another_program_is_not_older_than_the_row() -> None:
    row = replace(running(), state=State.SUCCEEDED, response=b"\n\x01x", update_time=NOW + 5)
    settled = t.settle(row, now=NOW, retention=RETENTION)
    assert settled is not None
    assert (settled.end_time, settled.update_time, settled.expire_time) == (NOW + 5, NOW + 5, NOW + 5 + RETENTION)


@pytest.mark.parametrize("deleted", [False, True])
def test_an_end_by_another_program_keeps_the_cancel_of_the_children_in_sight(deleted: bool) -> None:
    row = running(cancel_requested=True, cancel_children=True, deleted=deleted)
    settled = t.settle(replace(row, state=State.FAILED, error=b"\x08\x02"), now=NOW, retention=RETENTION)
    assert settled is not None
    assert (settled.cancel_children, settled.check_time) == (True, NOW + t.PASS_ON)
    after = bookkeeping.cascaded(settled, now=NOW)
    assert after is None if deleted else after is not None and after.check_time is None


def test_rule_4_a_touch_writes_and_leaves_a_lease_that_is_over_due_for_everybody() -> None:
    row = found = running(NOW + 25)
    for _ in range(3):
        touched = bookkeeping.touch(row, found=found)
        assert touched != row, "it is a write"
        assert touched.evolve(check_time=row.check_time) == row, "of nothing else"
        assert touched.check_time in (NOW + 25, pytest.approx(NOW + 25, abs=2e-6))
        assert touched.check_time is not None
        assert touched.check_time <= NOW + 25, "due at the end of the lease, for older releases too"
        row = touched
    renewed = renew(row, now=NOW + 30)
    assert bookkeeping.touch(renewed, found=found) is renewed, "it has moved"
    noted = row.evolve(check_time=NOW + 3600)
    assert bookkeeping.touch(noted, found=found).check_time < NOW + 25.1, "the note of an older release is gone"
