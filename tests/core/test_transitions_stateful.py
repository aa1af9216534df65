"""No sequence of events breaks the rules: one row, several claimants, stale holders, repeats, clocks that step back."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import hypothesis.strategies as st
import pytest
from google.rpc import status_pb2
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from lro_aio.core import bookkeeping
from lro_aio.core import transitions as t
from lro_aio.core.change import Change
from lro_aio.core.codes import Code
from lro_aio.core.errors import LeaseLostError, LroError, OperationAlreadyExistsError, OperationNotFoundError
from lro_aio.core.record import Record, State, Wait, Wake, WakeReason
from lro_aio.core.status import make_status

NAME = "operations/a"
LEASE = 30.0
RETENTION = 500.0
MAX_ATTEMPTS = 3
CLEAN_UP = "undo"

Event = Callable[[Record], Record | None]
WRITES = ("renew", "release", "suspend", "retry", "save", "finish", "fail", "cancelled", "begin_cleanup")
ENDS_A_RUN = ("release", "suspend", "retry", "finish", "fail", "cancelled", "begin_cleanup")


@dataclass
class Live:
    """What the outside knows of a run: it counts until it committed its end, or its lease is over."""

    holder: t.Holder
    until: float | None


class OneRow(RuleBasedStateMachine):
    """A store of one row. ``apply`` is the only way in, and judges every change by what it knew before."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.row: Record | None = None
        self.handler = ""
        self.on_cancel = ""
        self.leased = True
        self.serial = 0
        self.holders: list[t.Holder] = [t.Holder("nobody", 0)]
        self.tokens: list[str] = ["none"]
        self.live: Live | None = None
        self.last: tuple[str, Callable[[], object]] | None = None
        self.removed: set[str] = set()
        self.clean_ups: dict[str, int] = {}

    @initialize(
        kind=st.sampled_from(["local"] * 3 + ["handed over"] * 3 + ["created", "outside"]), clean_up=st.booleans()
    )
    def begin(self, kind: str, clean_up: bool) -> None:
        self.handler = "" if kind in ("created", "outside") else "h"
        self.on_cancel = CLEAN_UP if clean_up and self.handler else ""
        self.leased = kind != "outside"
        self.kind = kind
        self.start()

    # -- events ----------------------------------------------------------------------------------------------

    @rule(times=st.integers(0, 3))
    def start_again(self, times: int) -> None:
        if times == 0 or self.row is None:
            self.start()

    def start(self) -> None:
        """A request comes, perhaps for the first time."""
        self.serial += 1
        uid = f"u{self.serial}"
        record = Record(
            name=NAME,
            uid=uid,
            state=State.PENDING,
            create_time=self.now,
            update_time=self.now,
            handler=self.handler,
            fingerprint="1:aa",
            check_time=self.now,
        )
        if self.kind == "handed over":
            record = replace(record, wait=self.a_wait(0, rerun=True))
        else:
            until = self.now + LEASE if self.leased else None
            owner = "w0" if self.leased else ""
            record = replace(record, state=State.RUNNING, owner=owner, claim=1, attempt=1, lease_expire_time=until)
            record = replace(record, check_time=until)
        self.last = "create", partial(self.insert, record)
        self.insert(record)

    @rule(by=st.integers(0, 2), token=st.sampled_from(["row's", "none", "any"]), pick=st.integers(0, 50))
    def claim(self, by: int, token: str, pick: int) -> None:
        """A scheduler's hint, an old one of it, or a worker that looks for itself."""
        given: str | None = self.tokens[pick % len(self.tokens)]
        if token != "any":
            wait = self.row.wait if self.row is not None else None
            given = wait.token if token == "row's" and wait is not None else None
        self.do("claim", self.claiming(f"w{by}", given))

    @rule(what=st.sampled_from(WRITES), pick=st.integers(0, 50), sleep=st.sampled_from([0.0, 20.0, 90.0]))
    def write(self, what: str, pick: int, sleep: float) -> None:
        """Somebody writes who held the row at some time: the newest holder, or one that should be gone."""
        self.write_as(what, self.holders[-1 - pick % len(self.holders)], sleep)

    @precondition(lambda self: self.live is not None)
    @rule(what=st.sampled_from(WRITES), sleep=st.sampled_from([20.0, 90.0]))
    def run_writes(self, what: str, sleep: float) -> None:
        assert self.live is not None
        self.write_as(what, self.live.holder, sleep)

    @precondition(lambda self: self.live is not None and self.handler)
    @rule(what=st.sampled_from(["suspend", "suspend", "retry", "release"]))
    def run_goes_on_later(self, what: str) -> None:
        """A run obeys a cancel that it heard of."""
        assert self.live is not None
        assert self.row is not None
        stops = self.row.cancel_requested and not self.row.cleaning and self.on_cancel and what == "suspend"
        self.write_as("begin_cleanup" if stops else what, self.live.holder, 0.0)

    @precondition(lambda self: self.row is not None and not self.row.done and self.live is None)
    @rule(by=st.integers(0, 2))
    def claim_well(self, by: int) -> None:
        assert self.row is not None
        self.do("claim", self.claiming(f"w{by}", self.row.wait.token if self.row.wait is not None else None))

    @precondition(lambda self: self.row is not None and not self.row.deleted)
    @rule(what=st.sampled_from(["cancel", "cancel alone", "delete", "look", "look", "look"]))
    def user_asks(self, what: str) -> None:
        if what == "delete":
            self.do("delete", lambda row: t.delete(row, now=self.now))
        elif what != "look":
            self.cancel(children=what == "cancel")

    def cancel(self, *, children: bool) -> None:
        token = self.new_token()
        event = partial(t.request_cancel, retention=RETENTION, token=token, cancel_children=children)
        self.do("request_cancel", lambda row: event(row, now=self.now))

    @precondition(lambda self: self.row is not None and self.row.wait is not None)
    @rule(old=st.booleans(), later=st.sampled_from([0.0, 60.0]))
    def hand_over(self, old: bool, later: float) -> None:
        assert self.row is not None
        assert self.row.wait is not None
        token = self.tokens[0] if old else self.row.wait.token
        self.do(
            "handed_over",
            lambda row: bookkeeping.handed_over(
                row, now=self.now, token=token, check_time=self.now + later, handle="x"
            ),
        )

    @precondition(lambda self: self.last is not None)
    @rule()
    def repeat(self) -> None:
        """The answer was lost and the same change is sent again; or a hint comes twice."""
        assert self.last is not None
        name, again = self.last
        before = self.row
        outcome = again()
        if name in ("create", "request_cancel", "cascaded") and not isinstance(outcome, LroError):
            assert outcome is before or before is None or before.hidden(self.now)
        elif name in ENDS_A_RUN and (self.handler or name != "release"):
            assert isinstance(outcome, LroError), "one run was ended twice"

    @rule(seconds=st.sampled_from([0.5, 29.5, 30.0, 61.0, 600.0, -45.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.live is not None and self.live.until is not None)
    @rule()
    def pass_time_to_the_end_of_the_lease(self) -> None:
        assert self.live is not None
        assert self.live.until is not None
        self.now = self.live.until

    @rule()
    def sweep(self) -> None:
        """What every worker does with a row whose ``check_time`` has come."""
        row = self.row
        if row is None or row.check_time is None or row.check_time > self.now:
            return
        if row.done:
            self.do("cascaded", lambda row: bookkeeping.cascaded(row, now=self.now))
        elif not row.handler:
            self.do("lose_creator", lambda row: t.lose_creator(row, now=self.now, retention=RETENTION))
        else:
            token = row.wait.token if row.state is State.SUSPENDED and row.wait is not None else None
            self.do("claim", self.claiming("sweeper", token))

    @rule()
    def purge(self) -> None:
        """As ``Store.purge``."""
        if self.row is not None and self.row.expire_time is not None and self.row.expire_time <= self.now:
            self.forget()

    # -- the store -------------------------------------------------------------------------------------------

    def do(self, name: str, event: Event) -> object:
        self.last = name, lambda: self.apply(name, event)
        return self.apply(name, event)

    def insert(self, record: Record) -> object:
        before = self.row
        change = Change(NAME, lambda row: t.create(row, record=record, now=self.now), creates=True)
        if before is None and record.uid in self.removed:
            return None  # the engine's writes are sent again for seconds, not after the row's whole life
        if before is not None and before.deleted:
            with pytest.raises(OperationAlreadyExistsError) as refused:
                change.apply(before)
            return refused.value
        after = change.apply(before)
        assert after is not None
        if after is not before:
            assert before is None or (before.done and before.hidden(self.now))
            if before is not None:
                self.forget()
            self.clean_ups[after.uid] = 0
            self.live = None
            if after.state is State.RUNNING:
                self.holders.append(t.Holder(after.uid, after.claim))
                self.live = Live(self.holders[-1], after.lease_expire_time)
        self.row = after
        return after

    def apply(self, name: str, event: Event) -> object:
        before = self.row
        try:
            after = Change(NAME, event).apply(before)
        except LroError as exc:
            return exc
        assert before is not None, "a write made a removed row again"
        if after is None:
            unheld = not before.handler and before.lease_expire_time is None
            assert before.done or before.deleted or unheld, "only what nobody would end or need is removed"
            assert name == "cascaded" or not before.cancel_children, "the children would never hear of the cancel"
            self.forget()
        elif after is not before:
            self.judge(name, before, after)
            self.follow(name, before, after)
        self.row = after
        return after

    def judge(self, name: str, before: Record, after: Record) -> None:
        assert after.uid == before.uid
        assert (after.name, after.create_time, after.handler) == (before.name, before.create_time, before.handler)
        assert after.update_time >= before.update_time
        assert after.revision >= before.revision
        seen = after.to_operation() != before.to_operation() or after.state != before.state
        assert not seen or after.revision > before.revision, "readers would not notice"
        for once in ("deleted", "cancel_requested", "cleaning"):
            assert getattr(after, once) >= getattr(before, once), f"{once} was taken back"
        claims = name == "claim" and after.state is State.RUNNING
        assert after.claim == before.claim + claims
        if name == "renew":
            assert before.lease_expire_time is not None
            assert after.lease_expire_time is not None
            assert after.lease_expire_time >= before.lease_expire_time
        if before.cleaning and after.done:
            assert after.state in (State.CANCELLED, State.FAILED)
        if before.done:
            kept = ("state", "response", "error", "metadata", "state_data", "end_time", "expire_time", "claim")
            assert all(getattr(after, field) == getattr(before, field) for field in kept), "terminal is final"

    def follow(self, name: str, before: Record, after: Record) -> None:
        if after.cleaning and not before.cleaning:
            self.clean_ups[after.uid] += 1
        if name == "claim" and after.state is State.RUNNING:
            assert self.live is None or self.over(self.live), "two live runs"
            assert after.cleaning or not after.cancel_requested, "it ran as if nobody had cancelled it"
            self.holders.append(t.Holder(after.uid, after.claim))
            self.live = Live(self.holders[-1], after.lease_expire_time)
        elif after.state is not State.RUNNING:
            self.live = None
        elif self.live is not None and name in ("renew", "release"):
            self.live.until = after.lease_expire_time

    def over(self, live: Live) -> bool:
        return live.until is not None and live.until <= self.now

    def forget(self) -> None:
        assert self.row is not None
        self.removed.add(self.row.uid)
        self.row = None
        self.live = None

    # -- parts of events -------------------------------------------------------------------------------------

    def claiming(self, owner: str, token: str | None) -> Event:
        by = t.Claimant(
            owner=owner, lease=LEASE, max_attempts=MAX_ATTEMPTS, retention=RETENTION, on_cancel=self.on_cancel
        )
        wake = Wake(reason=WakeReason.ELAPSED)
        return lambda row: t.claim(row, now=self.now, by=by, token=token, wake=wake)

    def write_as(self, what: str, holder: t.Holder, sleep: float) -> None:
        error = make_status(Code.CANCELLED if what == "cancelled" else Code.INTERNAL, "no", reason="NO")
        functions: dict[str, Callable[..., Record | None]] = {
            "renew": partial(t.renew, lease=LEASE),
            "release": t.release,
            "suspend": partial(t.suspend, retention=RETENTION, wait=self.a_wait(sleep), resume_point="collect"),
            "retry": partial(t.retry, retention=RETENTION, wait=self.a_wait(sleep)),
            "save": partial(t.save, changes={"state_data": str(self.serial).encode()}),
            "finish": partial(t.finish, retention=RETENTION),
            "fail": partial(t.finish, retention=RETENTION, error=error),
            "cancelled": partial(t.finish, retention=RETENTION, error=error),
            "begin_cleanup": partial(t.begin_cleanup, on_cancel=CLEAN_UP),
        }
        before = self.row
        outcome = self.do(what, lambda row: functions[what](row, holder=holder, now=self.now))
        if before is None:
            assert isinstance(outcome, OperationNotFoundError)
        elif holder.uid != before.uid or (holder.claim != before.claim and (holder.claim or before.handler)):
            assert isinstance(outcome, LeaseLostError), "a stale holder wrote"

    def a_wait(self, sleep: float, *, rerun: bool = False) -> Wait:
        token = self.new_token()
        return Wait(token=token, sleep_until=self.now + sleep, on_cancel=self.on_cancel, rerun=rerun)

    def new_token(self) -> str:
        self.serial += 1
        self.tokens.append(f"t{self.serial}")
        return self.tokens[-1]

    # -- what holds at every moment --------------------------------------------------------------------------

    @invariant()
    def the_row_is_consistent(self) -> None:
        row = self.row
        if row is None:
            return
        assert 0 <= row.attempt <= MAX_ATTEMPTS
        assert self.clean_ups[row.uid] <= 1, "the clean-up was begun twice"
        assert row.update_time >= row.create_time
        assert (row.state is State.RUNNING) or (row.owner, row.lease_expire_time) == ("", None)
        if row.state in (State.PENDING, State.SUSPENDED):
            assert row.handler, "nobody could ever go on with it"
            assert row.cleaning or not row.cancel_requested or row.state is State.PENDING, "a cancel was forgotten"
        if row.state is State.SUSPENDED:
            assert row.wait is not None
            assert row.wait.token in self.tokens
        if row.done:
            self.an_end_is_complete(row)
        else:
            assert (row.end_time, row.expire_time, row.response, row.error) == (None, None, b"", b"")

    @invariant()
    def a_sweep_finds_every_row_that_needs_one(self) -> None:
        row = self.row
        if row is None:
            return
        if row.done:
            assert (row.check_time is not None) == (row.cancel_children or bool(row.parent_operation))
        elif row.handler or self.leased:
            assert row.check_time is not None
            assert row.lease_expire_time is None or row.check_time <= row.lease_expire_time
        else:
            assert row.check_time is None

    @invariant()
    def the_live_run_is_the_holder(self) -> None:
        if self.live is not None:
            assert self.row is not None
            assert self.row.state is State.RUNNING
            assert t.Holder(self.row.uid, self.row.claim) == self.live.holder
            assert self.row.lease_expire_time == self.live.until

    def an_end_is_complete(self, row: Record) -> None:
        assert row.end_time is not None
        assert row.end_time >= row.create_time
        assert row.expire_time == row.end_time + RETENTION
        assert row.wait is None
        assert not row.deleted or row.cancel_children, "a deleted row that ended is kept for its children only"
        operation = row.to_operation()
        assert operation.done
        assert bool(row.response) == (row.state is State.SUCCEEDED)
        assert bool(row.error) == (row.state is not State.SUCCEEDED)
        assert operation.WhichOneof("result") == ("response" if row.state is State.SUCCEEDED else "error")
        if row.state is not State.SUCCEEDED:
            code = status_pb2.Status.FromString(row.error).code
            assert (code == Code.CANCELLED) == (row.state is State.CANCELLED)
        assert row.state is not State.CANCELLED or row.cancel_requested or not row.handler
        assert row.state is not State.SUCCEEDED or not row.cleaning

    def teardown(self) -> None:
        """From wherever the row is: with every process dead, sweeps alone bring it to its end."""
        for _ in range(4 * MAX_ATTEMPTS + 8):
            if self.row is None or self.row.check_time is None:
                break
            self.now = max(self.now, self.row.check_time)
            self.sweep()
            self.the_row_is_consistent()
            self.a_sweep_finds_every_row_that_needs_one()
        if self.row is None:
            return
        assert self.row.done or not self.leased, "no sweep ended it"
        if self.row.done:
            assert self.row.expire_time is not None
            self.now = max(self.now, self.row.expire_time)
            self.purge()
            assert self.row is None


TestOneRow = OneRow.TestCase
TestOneRow.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)

LATER = ["suspend", "suspend", "retry", "release"]
SLEEPS = [20.0, 90.0]
TIMES = [0.5, 29.5, 30.0, 61.0, 600.0, -45.0]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_long_walks_break_no_rule(seed: int) -> None:
    """The same machine, driven deeper than examples that can be shrunk: a failure says its seed."""
    rng = random.Random(seed)
    for _ in range(100):
        machine = OneRow()
        machine.begin(kind=rng.choice(["local", "handed over", "created", "outside"]), clean_up=rng.random() < 0.5)
        for _ in range(60):
            _step(machine, rng)
            machine.the_row_is_consistent()
            machine.a_sweep_finds_every_row_that_needs_one()
            machine.the_live_run_is_the_holder()
        machine.teardown()


def _step(machine: OneRow, rng: random.Random) -> None:
    row, live = machine.row, machine.live
    steps: list[Callable[[], object]] = [
        lambda: machine.claim(by=rng.randrange(3), token=rng.choice(["row's", "none", "any"]), pick=rng.randrange(50)),
        lambda: machine.write(what=rng.choice(WRITES), pick=rng.randrange(50), sleep=rng.choice(SLEEPS)),
        lambda: machine.pass_time(seconds=rng.choice(TIMES)),
        machine.sweep,
        machine.repeat,
    ]
    if row is None or row.done:
        steps += [machine.purge, lambda: machine.start_again(times=rng.randrange(4))]
    if live is not None:
        steps += [lambda: machine.run_writes(what=rng.choice(WRITES), sleep=rng.choice(SLEEPS))] * 2
        if live.until is not None:
            steps.append(machine.pass_time_to_the_end_of_the_lease)
        if machine.handler:
            steps += [lambda: machine.run_goes_on_later(what=rng.choice(LATER))] * 3
    if row is not None and not row.done and live is None:
        steps += [lambda: machine.claim_well(by=rng.randrange(3))] * 4
    if row is not None and row.wait is not None:
        steps.append(lambda: machine.hand_over(old=rng.random() < 0.5, later=rng.choice([0.0, 60.0])))
    if row is not None and not row.deleted and rng.random() < 0.3:
        steps.append(lambda: machine.user_asks(what=rng.choice(["cancel", "cancel", "cancel alone", "delete"])))
    rng.choice(steps)()
