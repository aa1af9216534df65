"""What a commit did to an operation, how late a run began, and what it has led to, by the rows alone."""

import lro_aio as lro
from lro_aio import moments
from lro_aio.core.record import Record, State, Wait


def row_of(**columns):
    return Record(name="operations/a", uid="u", create_time=100.0, update_time=100.0, **columns)


def wake_of(wait, reason):
    before = row_of(state=State.SUSPENDED, claim=1, wait=wait)
    return moments.lateness(
        before, before.evolve(state=State.RUNNING, claim=2, update_time=130.0, wake=wait.wake(reason))
    )


def test_how_late_a_run_begins_counts_from_what_made_it_due():
    slept = Wait(token="t", sleep_until=120.0)
    assert wake_of(slept, lro.WakeReason.ELAPSED) == 10.0
    assert wake_of(slept.told(125.0), lro.WakeReason.MESSAGE) == 5.0
    timed = Wait(token="t", sleep_until=90.0, children=("operations/b",), deadline=127.0)
    assert wake_of(timed, lro.WakeReason.CHILDREN_TIMEOUT) == 3.0
    assert wake_of(timed, lro.WakeReason.CHILDREN_DONE) is None  # when they ended, the row does not say
    pending = row_of(state=State.PENDING)
    assert moments.lateness(pending, pending.evolve(state=State.RUNNING, claim=1, update_time=104.0)) == 4.0
    union = Wait(token="t", sleep_until=9e9, union=True, timer=128.0)
    assert wake_of(union, lro.WakeReason.CHILDREN_DONE) == 2.0
    assert wake_of(Wait(token="t", sleep_until=131.0), lro.WakeReason.ELAPSED) is None  # it was woken before
    died = row_of(state=State.RUNNING, claim=1)
    assert moments.lateness(died, died.evolve(claim=2, update_time=160.0)) is None


def test_a_write_that_changes_nothing_is_nothing_that_happened():
    done = row_of(state=State.SUCCEEDED)
    assert moments.fact(done, done) is None
    assert moments.fact(done, done.evolve(expire_time=1.0)) is None
    assert moments.fact(done, None) is None


def test_a_name_that_is_used_again_is_another_operation():
    assert isinstance(
        moments.fact(row_of(state=State.FAILED), row_of(state=State.PENDING).evolve(uid="v")), moments.Started
    )


def test_what_waits_is_suspended_or_retried_and_what_is_paused_is_neither():
    """A wait of straight code runs the handler again from the top, and that is no retry."""
    running = row_of(state=State.RUNNING, claim=1)
    for wait, told, word in (
        (Wait(token="t", sleep_until=107.0), moments.Suspended, "SUSPENDED"),
        (Wait(token="t", sleep_until=107.0, rerun=True), moments.Retried, "RETRIED"),
        (Wait(token="t", sleep_until=107.0, rerun=True, union=True), moments.Suspended, "SUSPENDED"),
    ):
        after = running.evolve(state=State.SUSPENDED, wait=wait)
        assert isinstance(moments.fact(running, after), told)
        assert moments.outcome(after, running) == word
        assert moments.fact(running, after.evolve(paused=True)) is None
        assert moments.outcome(after.evolve(paused=True), running) == "PAUSED"


def test_a_clean_up_that_is_given_back_is_no_second_clean_up():
    running, pending = row_of(state=State.RUNNING), row_of(state=State.PENDING, cleaning=True)
    assert moments.outcome(pending, running) == "CLEANUP"
    assert moments.outcome(pending, running.evolve(cleaning=True)) == "RELEASED"


def test_an_operation_took_until_its_end_and_never_less_than_no_time():
    running = row_of(state=State.RUNNING)

    def took(**columns):
        return moments.fact(running, running.evolve(state=State.CANCELLED, **columns)).seconds

    assert took(update_time=109.0, end_time=104.0) == 4.0
    assert took(update_time=109.0) == 9.0
    assert took(update_time=99.0) == 0.0  # the clock was set back
