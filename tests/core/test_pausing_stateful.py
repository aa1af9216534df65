"""No order of pauses, cancels, failures, crashes, waits, messages and deadlines breaks a rule, or leaves a row without
an end."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import hypothesis.strategies as st
import pytest
from google.rpc import status_pb2
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from lro_aio.core import bookkeeping, failing, pausing, straight
from lro_aio.core import transitions as t
from lro_aio.core.change import Change
from lro_aio.core.codes import Code
from lro_aio.core.errors import InvalidTransitionError, LroError
from lro_aio.core.record import NEVER, Record, State, Wait, Wake, WakeReason
from lro_aio.core.status import make_status, reason_of

NAME = "operations/a"
LEASE = 30.0
RETENTION = 500.0
START = 1000.0

Event = Callable[[Record], Record | None]


class OneRow(RuleBasedStateMachine):
    """A store of one row, changed by a run, by operators and by sweeps."""

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.row: Record | None = None
        self.tokens = ["none"]
        self.clean_ups = 0
        self.first_failure = b""

    @initialize(
        deadline=st.sampled_from([None, None, START + 100]),
        point=st.sampled_from(["", "undo"]),
        pause=st.booleans(),
        on_cancel=st.sampled_from(["", "put back"]),
    )
    def begin(self, deadline: float | None, point: str, pause: bool, on_cancel: str) -> None:
        self.then = failing.OnFailure(point=point, pause=pause, on_cancel=on_cancel)
        self.by = t.Claimant(
            owner="w", lease=LEASE, max_attempts=3, retention=RETENTION, on_cancel=on_cancel, on_failure=self.then
        )
        self.row = Record(
            name=NAME,
            uid="u",
            state=State.PENDING,
            create_time=self.now,
            update_time=self.now,
            handler="h",
            check_time=self.now,
            state_data=b"first",
            state_codec="json;v=1",
            deadline=deadline,
        )

    # -- what operators do ---------------------------------------------------------------------------------------

    @rule()
    def pause(self) -> None:
        self.do("pause", lambda row: pausing.pause(row, now=self.now, reason="a reason"))

    @rule()
    def unpause(self) -> None:
        before = self.row
        outcome = self.do("unpause", lambda row: pausing.unpause(row, now=self.now))
        if before is not None and not before.done and not before.deleted and not before.paused:
            assert isinstance(outcome, InvalidTransitionError)

    @rule()
    def cancel(self) -> None:
        token = f"cancel {len(self.tokens)}"
        event = partial(t.request_cancel, retention=RETENTION, token=token, cancel_children=False)
        self.do("cancel", lambda row: event(row, now=self.now))

    @rule(topic=st.sampled_from(["go", "other"]))
    def send(self, topic: str) -> None:
        """A message, which is stored in the same write."""
        before = self.row
        sent = self.do(
            "send", lambda row: straight.message(row, now=self.now, topic=topic).evolve(entries=row.entries + 1)
        )
        if before is None or not isinstance(sent, Record):
            return
        waits = before.state is State.SUSPENDED and before.wait is not None and topic in before.wait.topics
        if waits and not sent.paused:
            assert sent.wait is not None
            assert sent.check_time is not None
            assert sent.check_time <= max(self.now, sent.wait.not_before), "it is not woken"
        elif not waits:
            assert (sent.wait, sent.check_time) == (before.wait, before.check_time)

    @rule(sure=st.integers(0, 3))
    def delete(self, sure: int) -> None:
        if not sure:
            self.do("delete", lambda row: t.delete(row, now=self.now))

    # -- what a run does -----------------------------------------------------------------------------------------

    @rule(pick=st.integers(0, 50), own=st.booleans())
    def wake(self, pick: int, own: bool) -> None:
        """A child has ended, a sleep is over, a message came: with the row's token, or one that was given out."""
        row = self.row
        token: str | None = self.tokens[pick % len(self.tokens)]
        if own and row is not None:
            token = row.wait.token if row.wait is not None else None
        self.do("claim", self.claiming(token))

    @precondition(lambda self: self.running)
    @rule(sleep=st.sampled_from([0.0, 20.0, 300.0]), children=st.booleans())
    def suspend(self, sleep: float, children: bool) -> None:
        wait = Wait(
            token=self.new_token(),
            sleep_until=self.now + sleep,
            children=("operations/c",) if children else (),
            on_cancel=self.by.on_cancel,
        )
        changes = {"state_data": b"changed", "state_codec": "json;v=1"}
        self.write(partial(t.suspend, retention=RETENTION, wait=wait, resume_point="on", changes=changes))

    @precondition(lambda self: self.running)
    @rule(timer=st.sampled_from([None, 20.0, 300.0]), children=st.booleans(), behind=st.booleans())
    def wait_durably(self, timer: float | None, children: bool, behind: bool) -> None:
        """Straight code waits for a message, and perhaps for more; it may not have heard of the last one."""
        assert self.row is not None
        wait = Wait(
            token=self.new_token(),
            sleep_until=NEVER,
            union=True,
            rerun=True,
            topics=("go",),
            timer=None if timer is None else self.now + timer,
            children=("operations/c",) if children else (),
            not_before=self.now + 1,
            on_cancel=self.by.on_cancel,
        )
        known = self.row.entries - behind
        event = partial(straight.wait_durably, retention=RETENTION, wait=wait, known=known)
        if not behind:
            self.write(event)
            return
        before = self.row
        with pytest.raises(straight.JournalMovedError):
            self.write(event)
        assert self.row is before

    @precondition(lambda self: self.running)
    @rule()
    def store_a_step(self) -> None:
        assert self.row is not None
        self.write(lambda row, **given: straight.appended(row, progress=True, **given).evolve(entries=row.entries + 1))
        assert self.row is not None
        assert self.row.attempt <= 1

    @precondition(lambda self: self.running)
    @rule()
    def retry(self) -> None:
        wait = Wait(token=self.new_token(), sleep_until=self.now + 5, on_cancel=self.by.on_cancel)
        self.write(partial(t.retry, retention=RETENTION, wait=wait))

    @precondition(lambda self: self.running)
    @rule()
    def shut_down(self) -> None:
        self.write(t.release)

    @precondition(lambda self: self.running)
    @rule(text=st.sampled_from(["one", "two"]))
    def fail(self, text: str) -> None:
        error = make_status(Code.INTERNAL, text, reason="NO")
        self.write(partial(failing.fail, retention=RETENTION, error=error, then=self.then))

    @precondition(lambda self: self.running)
    @rule(sure=st.integers(0, 2))
    def finish(self, sure: int) -> None:
        if not sure:
            self.write(partial(t.finish, retention=RETENTION))

    @precondition(lambda self: self.running and self.row.cancel_requested and not self.row.cleaning)
    @rule()
    def obey_the_cancel(self) -> None:
        if self.by.on_cancel:
            self.write(partial(t.begin_cleanup, on_cancel=self.by.on_cancel))

    # -- what time does ------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([1.0, 30.0, 70.0, -10.0]))
    def pass_time(self, seconds: float) -> None:
        """30 s without a renewal: the process has died."""
        self.now += seconds

    @rule()
    def sweep(self) -> None:
        row = self.row
        if row is None or row.done or row.check_time is None or row.check_time > self.now:
            return
        late = row.wait is not None and row.wait.expires is not None and row.wait.expires <= self.now
        if late and row.state is not State.RUNNING:
            event = partial(failing.overdue, retention=RETENTION, then=self.then)
            self.do("overdue", lambda row: event(row, now=self.now))
        elif row.state is State.SUSPENDED and row.wait is not None and row.wait.reason(self.now, ()) is None:
            token, moments = row.wait.token, (row.wait.ends, row.wait.news or NEVER, row.wait.deadline or NEVER)
            check = min(moment for moment in (self.now + 60, *moments) if moment > self.now)
            event = partial(bookkeeping.handed_over, token=token, check_time=check)
            self.do("handed_over", lambda row: event(row, now=self.now))
        else:
            token = row.wait.token if row.state is State.SUSPENDED and row.wait is not None else None
            self.do("claim", self.claiming(token))

    # -- the store -----------------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        return self.row is not None and self.row.state is State.RUNNING

    def new_token(self) -> str:
        self.tokens.append(f"t{len(self.tokens)}")
        return self.tokens[-1]

    def claiming(self, token: str | None) -> Event:
        return lambda row: t.claim(row, now=self.now, by=self.by, token=token, wake=Wake(reason=WakeReason.ELAPSED))

    def write(self, event: Callable[..., Record | None]) -> None:
        assert self.row is not None
        holder = t.Holder(self.row.uid, self.row.claim)
        outcome = self.do("write", lambda row: event(row, holder=holder, now=self.now))
        assert not isinstance(outcome, LroError)

    def do(self, name: str, event: Event) -> object:
        before = self.row
        try:
            after = Change(NAME, event).apply(before)
        except LroError as exc:
            return exc
        assert before is not None
        if after is not before:
            self.judge(name, before, after)
        self.row = after
        return after

    def judge(self, name: str, before: Record, after: Record | None) -> None:
        assert not before.done or after is None, "the end is final"
        if after is None:
            assert before.deleted or name == "delete"
            return
        if name == "claim" and after.state is State.RUNNING:
            assert not before.paused, "a run of a paused operation began"
            assert after.cleaning or after.deadline is None or self.now < after.deadline, "it ran after its deadline"
        if name == "unpause":
            assert not after.paused
            assert after.state is State.RUNNING or (after.attempt, after.retries) == (0, 0)
            assert after.check_time is not None or (after.wait is not None and after.wait.union)
        if after.cleaning and not before.cleaning:
            self.clean_ups += 1
            self.first_failure = after.failure
        if before.cleaning and before.failure and after.done:
            assert (after.state, after.error) == (State.FAILED, self.first_failure)
        if before.paused and not after.paused:
            assert name in ("unpause", "cancel", "overdue", "write", "claim", "shut_down")

    # -- what holds at every moment ------------------------------------------------------------------------------

    @invariant()
    def a_paused_row_is_found_by_nobody(self) -> None:
        row = self.row
        if row is None or not row.paused or row.state is State.RUNNING:
            return
        assert row.state is State.SUSPENDED
        assert not row.deleted, "nobody could unpause it"
        assert row.check_time == (None if row.cleaning else row.deadline)
        assert row.wait is not None
        assert row.wait.token not in self.tokens, "a scheduler could wake it"

    @invariant()
    def what_is_not_paused_is_looked_at_in_time(self) -> None:
        row = self.row
        if row is None or row.done or row.paused:
            return
        alone = row.wait is not None and row.wait.union and not row.wait.children and row.wait.timer is None
        assert row.check_time is not None or (alone and row.deadline is None)  # it waits for a message alone
        if row.deadline is not None and not row.cleaning and row.state is State.SUSPENDED:
            assert row.check_time <= row.deadline

    @invariant()
    def columns_belong_together(self) -> None:
        row = self.row
        if row is None:
            return
        assert self.clean_ups <= 1
        assert not row.done or not (row.paused or row.failure)
        assert not row.failure or row.paused or row.cleaning
        assert not row.error or row.done
        assert row.initial_codec == ("" if row.state_data == b"first" else "json;v=1")
        assert row.initial_data == (b"" if row.state_data == b"first" else b"first")

    def teardown(self) -> None:
        """From wherever the row is: unpaused, and with every process dead, sweeps alone bring it to its end."""
        if self.row is not None and self.row.paused:
            self.unpause()
        for _ in range(30):
            if self.row is None or self.row.done:
                break
            if self.row.check_time is None:
                self.send("go")
            assert self.row.check_time is not None
            self.now = max(self.now, self.row.check_time)
            self.sweep()
            if self.row is not None and self.row.paused:
                self.unpause()
                self.then = failing.OnFailure(point=self.then.point)  # else it would be paused for ever
                self.by = t.Claimant(owner="w", lease=LEASE, max_attempts=3, retention=RETENTION, on_failure=self.then)
        assert self.row is None or self.row.done
        if self.row is not None and self.row.state is State.FAILED:
            assert reason_of(status_pb2.Status.FromString(self.row.error))


TestOneRow = OneRow.TestCase
TestOneRow.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
