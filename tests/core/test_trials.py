"""Who is to blame for a crash: the count goes on only for a run that had its process to itself."""

import pytest

from lro_aio.core import transitions, trials
from lro_aio.core.record import Record, State

LEASE = 30.0
BY = transitions.Claimant(owner="me", lease=LEASE, max_attempts=5, retention=1000.0)


def pending():
    return Record(name="operations/a", uid="u", state=State.PENDING, create_time=0.0, update_time=0.0, handler="h")


def crashed(row, *, began, lived, company=1):
    """The row of a run that began at ``began`` and renewed its lease for the last time ``lived`` seconds later."""
    running = transitions.claim(row, now=began, by=BY, company=company)
    if lived and not running.done:
        holder = transitions.Holder(running.uid, running.claim)
        running = transitions.renew(running, holder=holder, now=began + lived, lease=LEASE)
    return running


@pytest.fixture
def suspect():
    """A row whose process died twice, 100 seconds after it began."""
    return crashed(crashed(pending(), began=0.0, lived=0.0), began=1000.0, lived=100.0)


def test_the_first_two_runs_have_company():
    once = crashed(pending(), began=0.0, lived=0.0)
    assert (trials.length(pending(), LEASE), trials.length(once, LEASE)) == (0, 0)
    assert (once.attempt, once.wait) == (1, None)


def test_a_trial_lasts_for_as_long_as_the_run_lived_and_a_little_longer(suspect):
    assert suspect.attempt == 2
    assert trials.length(suspect, LEASE) == pytest.approx(120)
    on_trial = transitions.claim(suspect, now=2000.0, by=BY)
    assert (on_trial.attempt, on_trial.wait.began, on_trial.wait.trial) == (3, 2000.0, pytest.approx(120))


@pytest.mark.parametrize("again", [0.0, 90.0, 100.0, 109.0])
def test_a_run_that_dies_during_its_trial_counts(suspect, again):
    row = crashed(suspect, began=2000.0, lived=again)
    assert trials.counted(row, LEASE) == 3


@pytest.mark.parametrize("later", [115.0, 200.0, 5000.0])
def test_a_run_that_dies_after_its_trial_does_not_count_and_the_next_trial_is_longer(suspect, later):
    row = crashed(suspect, began=2000.0, lived=later)
    assert trials.counted(row, LEASE) == 2
    assert trials.length(row, LEASE) == pytest.approx(min(later + 20, 60 * LEASE))


def test_what_takes_very_long_to_kill_its_process_is_given_up_all_the_same(suspect):
    row, now = suspect, 2000.0
    for _ in range(4):
        row = crashed(row, began=now, lived=5000.0)
        now += 10_000
    assert transitions.claim(row, now=now, by=BY).state is State.FAILED


def test_the_guilty_is_given_up_and_a_bystander_never_is(suspect):
    guilty = bystander = suspect
    for crash in range(8):
        now = 2000.0 + 10_000 * crash
        bystander = crashed(bystander, began=now, lived=trials.length(bystander, LEASE) + 30)
        if guilty.state is State.RUNNING:
            guilty = crashed(guilty, began=now, lived=99.0)
    assert guilty.state is State.FAILED
    assert (bystander.state, bystander.attempt) == (State.RUNNING, 3)


def test_a_graceful_stop_keeps_it_a_suspect(suspect):
    on_trial = transitions.claim(suspect, now=2000.0, by=BY)
    holder = transitions.Holder(on_trial.uid, on_trial.claim)
    back = transitions.release(on_trial, holder=holder, now=2001.0)
    assert (back.attempt, trials.length(back, LEASE)) == (2, pytest.approx(120))


def test_progress_ends_the_suspicion(suspect):
    on_trial = transitions.claim(suspect, now=2000.0, by=BY)
    holder = transitions.Holder(on_trial.uid, on_trial.claim)
    wait = transitions.Wait(token="t", sleep_until=3000.0)
    slept = transitions.suspend(on_trial, holder=holder, now=2001.0, retention=1.0, wait=wait, resume_point="on")
    assert trials.length(slept, LEASE) == 0


def test_a_trial_in_company_tells_nothing_and_the_next_one_is_shared_with_fewer(suspect):
    assert trials.company(suspect) == 16
    row, sizes = suspect, []
    for now in (2000.0, 3000.0, 4000.0):
        sizes.append(trials.company(row))
        row = crashed(row, began=now, lived=50.0, company=sizes[-1])
    assert sizes == [16, 4, 1]
    assert (row.attempt, trials.counted(row, LEASE)) == (3, 3)


def test_who_was_alone_by_chance_is_told_at_once(suspect):
    row = crashed(suspect, began=2000.0, lived=50.0, company=1)
    assert trials.counted(row, LEASE) == 3


def test_a_trial_that_is_over_is_not_kept_in_a_wait_that_goes_on(suspect):
    """Else the crashes of a later segment would be laid to nobody, and its attempts never run out."""
    on_trial = transitions.claim(suspect, now=2000.0, by=BY)
    again = on_trial.wait.again("t2", 2001.0)
    assert (again.began, again.trial, again.company) == (0.0, 0.0, 1)
    row = on_trial.evolve(attempt=0, state=State.PENDING)  # with what an older release may have left in the wait
    for attempt in (1, 2):
        row = crashed(row, began=3000.0 * attempt, lived=200.0)
        assert row.attempt == attempt
