"""The decision who gets a place: no store, no clock."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lro_aio.core import straight
from lro_aio.core import transitions as t
from lro_aio.core.change import Change
from lro_aio.core.queueing import WINDOW, QueueRow, Rest, Standing, Starts
from lro_aio.core.queues import Bounds, Queue, QueueTerms, Rate, RateLimited, check_key
from lro_aio.core.record import Record, Seat, State, Wait
from lro_aio.core.step_places import Take

from .queue_model import LEASE, Model, waiting_row

NOW = 1000.0
BY = t.Claimant(owner="w", lease=LEASE, max_attempts=5, retention=100.0)


def a_model(**bounds: object) -> Model:
    return Model(QueueRow(name="q", bounds=Bounds(**bounds)))  # type: ignore[arg-type]


def add(model: Model, uid: str, key: str = "", priority: int = 0, *, now: float = NOW, **seat: object) -> Record:
    row = waiting_row(uid, Seat(queue="q", key=key, priority=priority, **seat), now)  # type: ignore[arg-type]
    (outcome,) = model.apply(Change(row.name, lambda _: row, creates=True))
    assert isinstance(outcome, Record)
    return outcome


def claim(model: Model, uid: str, now: float = NOW) -> Record:
    row = model.rows[f"operations/{uid}"]
    token = row.wait.token if row.wait is not None and row.state is State.SUSPENDED else None
    (outcome,) = model.apply(Change(row.name, partial(t.claim, now=now, by=BY, token=token)))
    assert isinstance(outcome, Record)
    return outcome


def write(model: Model, uid: str, event: object, now: float = NOW, **options: object) -> Record | None:
    row = model.rows[f"operations/{uid}"]
    holder = t.Holder(row.uid, row.claim)
    change = partial(event, holder=holder, now=now)  # type: ignore[call-overload]
    (outcome,) = model.apply(Change(row.name, change, **options))  # type: ignore[arg-type]
    assert outcome is None or isinstance(outcome, Record), outcome
    return outcome


def end(model: Model, uid: str, now: float = NOW) -> None:
    write(model, uid, partial(t.finish, retention=100.0), now)


def serve(model: Model, now: float = NOW) -> list[str]:
    """Claim all who are next; gives those that run now."""
    return [ticket.uid for ticket in model.line("q", now) if claim(model, ticket.uid, now).state is State.RUNNING]


def test_a_claim_without_a_place_stands_in_line_and_counts_no_attempt() -> None:
    model = a_model(running=1)
    add(model, "a"), add(model, "b")
    assert claim(model, "a").state is State.RUNNING
    waits = claim(model, "b")
    assert (waits.state, waits.attempt, waits.owner, waits.check_time) == (State.PENDING, 0, "", None)
    end(model, "a")
    assert serve(model) == ["b"]


def test_who_waits_has_the_first_claim_on_a_place_that_is_given_back() -> None:
    model = a_model(running=1)
    add(model, "a"), claim(model, "a"), add(model, "b")
    end(model, "a")
    add(model, "c")
    row = waiting_row("d", Seat(queue="q"), NOW).evolve(**t.first_claim(now=NOW, by=BY))
    (late,) = model.apply(Change(row.name, lambda _: row, creates=True))
    assert isinstance(late, Record)
    assert (late.state, late.attempt, late.lease_expire_time) == (State.PENDING, 0, None)
    assert [ticket.uid for ticket in model.line("q", NOW)] == ["b"]


def test_a_woken_row_stands_in_line_with_what_it_was_woken_by() -> None:
    model = a_model(running=1)
    add(model, "a"), add(model, "b")
    claim(model, "a")
    write(model, "a", partial(t.suspend, retention=1.0, wait=Wait(token="k", sleep_until=NOW), resume_point="on"))
    assert serve(model) == ["b"]
    row = model.rows["operations/a"]
    wake = Wait(token="k", sleep_until=NOW).wake(t.WakeReason.ELAPSED)
    model.apply(Change(row.name, partial(t.claim, now=NOW, by=BY, token="k", wake=wake)))
    stands = model.rows["operations/a"]
    assert (stands.state, stands.wake, stands.resume_point) == (State.PENDING, wake, "on")
    end(model, "b")
    assert serve(model) == ["a"]


def test_the_whole_operation_keeps_its_place_while_it_waits() -> None:
    model = a_model(running=1)
    add(model, "a", whole=True), claim(model, "a"), add(model, "b")
    write(model, "a", partial(t.suspend, retention=1.0, wait=Wait(token="k", sleep_until=NOW), resume_point=""))
    assert model.line("q", NOW) == []
    assert claim(model, "a").state is State.RUNNING
    end(model, "a")
    assert serve(model) == ["b"]


def test_who_takes_over_a_dead_run_has_its_place() -> None:
    model = a_model(running=1)
    add(model, "a"), claim(model, "a"), add(model, "b")
    again = claim(model, "a", NOW + LEASE)
    assert (again.state, again.claim) == (State.RUNNING, 2)
    assert model.line("q", NOW + LEASE) == []


def test_a_place_that_is_given_back_for_others_to_go_on_with_is_the_first_in_line() -> None:
    model = a_model(running=1)
    add(model, "a"), claim(model, "a"), add(model, "b")
    assert write(model, "a", t.release).state is State.PENDING  # type: ignore[union-attr]
    assert serve(model) == ["a"]


@pytest.mark.parametrize("what", ["cancel", "delete", "pause"])
def test_what_leaves_the_line_leaves_no_ticket(what: str) -> None:
    model = a_model(running=1)
    add(model, "a"), claim(model, "a"), add(model, "b")
    name = "operations/b"
    if what == "cancel":
        model.apply(Change(name, partial(t.request_cancel, now=NOW, retention=1.0, token="n")))
    elif what == "delete":
        model.apply(Change(name, lambda _: None))
    else:
        model.apply(Change(name, lambda row: replace(row, state=State.SUSPENDED, paused=True, check_time=None)))
    assert list(model.tickets) == ["a"]


def test_lower_priorities_come_first() -> None:
    model = a_model(running=1)
    add(model, "x"), claim(model, "x")
    for uid, priority in (("a", 5), ("b", 0), ("c", -3), ("d", 0)):
        add(model, uid, priority=priority)
    served = []
    last = "x"
    for _ in range(4):
        end(model, last)
        (last,) = serve(model)
        served.append(last)
    assert served == ["c", "b", "d", "a"]


def test_keys_take_turns_however_many_one_of_them_has() -> None:
    model = a_model(running=1)
    add(model, "x"), claim(model, "x")
    for number in range(40):
        add(model, f"a{number}", "a")
    add(model, "b0", "b"), add(model, "b1", "b")
    served, last = [], "x"
    for _ in range(6):
        end(model, last)
        (last,) = serve(model)
        served.append(last)
    assert [uid[0] for uid in served][:5] in (["a", "b", "a", "b", "a"], ["b", "a", "b", "a", "a"])


def test_a_key_at_its_limit_is_in_nobodys_way() -> None:
    model = a_model(running=3, per_key=1)
    for number in range(30):
        add(model, f"a{number}", "a")
    add(model, "b", "b")
    assert sorted(serve(model)) == ["a0", "b"]
    assert model.line("q", NOW) == []
    end(model, "a0")
    assert serve(model) == ["a1"]


def test_no_more_of_a_key_are_ready_than_may_go() -> None:
    model = a_model(per_key=2)
    for number in range(50):
        add(model, f"a{number}", "a")
    ready = Counter(ticket.standing for ticket in model.tickets.values())
    assert ready[Standing.READY] == 2
    free = a_model()
    for number in range(50):
        add(free, f"a{number}", "a")
    assert Counter(ticket.standing for ticket in free.tickets.values())[Standing.READY] == WINDOW


def test_a_rest_holds_for_the_key_alone_and_without_one_for_the_queue() -> None:
    model = a_model(running=5)
    for uid, key in (("a", "a"), ("b", "b"), ("c", ""), ("a2", "a")):
        add(model, uid, key)
    claim(model, "a")
    write(model, "a", t.release, rests=(Rest("q", "a", NOW + 60),))
    assert serve(model) == ["b", "c"]
    assert model.line("q", NOW + 59.9) == []
    assert model.keys["q", "a"].wakes == NOW + 60
    assert serve(model, NOW + 60) == ["a"]  # who came back first; the other follows
    assert serve(model, NOW + 60) == ["a2"]
    write(model, "c", t.release, now=NOW + 60, rests=(Rest("q", "", NOW + 90),))
    assert model.line("q", NOW + 89.9) == []
    assert serve(model, NOW + 90) == ["c"]


def test_a_paused_queue_gives_no_place() -> None:
    model = Model(QueueRow(name="q", paused=True))
    add(model, "a")
    assert claim(model, "a").state is State.PENDING
    assert model.line("q", NOW) == []


def test_a_clock_that_is_set_back_gives_no_start_too_many() -> None:
    model = a_model(rate=Rate(1, per=60))
    add(model, "a"), add(model, "b")
    assert claim(model, "a", NOW + 30).state is State.RUNNING
    end(model, "a", NOW + 30)
    assert claim(model, "b", NOW).state is State.PENDING
    assert claim(model, "b", NOW + 89).state is State.PENDING
    assert claim(model, "b", NOW + 90).state is State.RUNNING


@settings(deadline=None)
@given(count=st.integers(1, 100), gaps=st.lists(st.floats(0, 3), max_size=150))
def test_never_more_starts_than_the_rate_says_in_any_window(count: int, gaps: list[float]) -> None:
    rate, now, times = Rate(count, per=10), NOW, []
    starts = Starts(rate, 0, [])
    for gap in gaps:
        now += gap
        kept = list(enumerate(times, 1))[-count:]
        fresh = Starts(rate, len(times), kept[:64])  # as the next transaction reads it
        assert starts.free(now) <= fresh.free(now)
        if fresh.free(now) > 0:
            fresh.add(now)
            times.append(now)
            starts = fresh
    for place, time in enumerate(times[count:]):
        assert time - times[place] >= 10 - 1e-9


class Play:
    """Lets things happen to operations of one queue, and sees that no limit is exceeded."""

    def __init__(self, bounds: Bounds, *, whole: bool) -> None:
        self.bounds = bounds
        self.whole = whole
        self.model = Model(QueueRow(name="q", bounds=bounds))
        self.now = NOW
        self.made = 0
        self.begun: list[tuple[float, str]] = []

    def running(self) -> list[str]:
        return sorted(row.uid for row in self.model.rows.values() if row.state is State.RUNNING)

    def add(self, which: int, key: int) -> None:
        self.made += 1
        add(self.model, f"n{self.made}", f"k{key}" if key else "", which % 3, now=self.now, whole=self.whole)

    def serve(self, _which: int = 0, _key: int = 0) -> None:
        for uid in serve(self.model, self.now):
            self.note(uid)

    def note(self, uid: str) -> None:
        self.begun.append((self.now, self.model.tickets[uid].key))

    def later(self, which: int, _key: int) -> None:
        self.now += which / 5

    def cancel(self, which: int, _key: int) -> None:
        if self.model.rows:
            name = sorted(self.model.rows)[which % len(self.model.rows)]
            self.model.apply(Change(name, partial(t.request_cancel, now=self.now, retention=1.0, token="n")))

    def end(self, which: int, _key: int) -> None:
        for uid in self.one(which):
            end(self.model, uid, self.now)

    def die(self, which: int, _key: int) -> None:
        for uid in self.one(which):
            self.now += LEASE
            claim(self.model, uid, self.now)

    def release(self, which: int, _key: int) -> None:
        for uid in self.one(which, whole=False):
            write(self.model, uid, t.release, self.now)

    def rest(self, which: int, _key: int) -> None:
        for uid in self.one(which, whole=False):
            rest = Rest("q", self.model.tickets[uid].key, self.now + which / 10)
            write(self.model, uid, t.release, self.now, rests=(rest,))

    def suspend(self, which: int, _key: int) -> None:
        for uid in self.one(which, whole=False):
            wait = Wait(token="k", sleep_until=self.now)
            left = write(self.model, uid, partial(t.suspend, retention=1.0, wait=wait, resume_point=""), self.now)
            assert left is not None
            if left.done:  # it was cancelled
                continue
            if claim(self.model, uid, self.now).state is State.RUNNING:
                self.note(uid)

    def one(self, which: int, *, whole: bool = True) -> list[str]:
        runs = self.running() if whole or not self.whole else []
        return [runs[which % len(runs)]] if runs else []

    def check(self) -> None:
        held = {ticket.uid for ticket in self.model.tickets.values() if ticket.held}
        assert set(self.running()) <= held
        assert self.whole or len(self.running()) == len(held)
        check_held(self.model, self.bounds)

    def check_rates(self) -> None:
        rate, each = self.bounds.rate, self.bounds.rate_per_key
        if rate is not None:
            check_rate(rate, [time for time, _ in self.begun])
        for name in {key for _, key in self.begun if key and each is not None}:
            assert each is not None
            check_rate(each, [time for time, key in self.begun if key == name])


def check_rate(rate: Rate, times: list[float]) -> None:
    assert all(later >= time + rate.period for time, later in zip(times, times[rate.count :], strict=False))


ACTIONS = st.tuples(
    st.sampled_from(["add", "serve", "end", "suspend", "release", "rest", "later", "die", "cancel"]),
    st.integers(0, 50),
    st.integers(0, 3),
)
BOUNDS = st.builds(
    Bounds,
    running=st.none() | st.integers(1, 4),
    per_key=st.none() | st.integers(1, 2),
    rate=st.none() | st.builds(Rate, st.integers(1, 3), st.just(10)),
    rate_per_key=st.none() | st.builds(Rate, st.integers(1, 2), st.just(10)),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(ACTIONS, max_size=60), BOUNDS, st.booleans())
def test_whatever_happens_no_limit_is_exceeded_and_all_that_waits_gets_a_place_in_the_end(
    actions: list[tuple[str, int, int]], bounds: Bounds, whole: bool
) -> None:
    play = Play(bounds, whole=whole)
    for action, which, key in actions:
        getattr(play, action)(which, key)
        play.check()
    for _ in range(4 * play.made + 10):  # nobody is left in line
        for uid in play.running():
            end(play.model, uid, play.now)
        play.now += 10
        play.serve()
        play.check()
    assert not [ticket for ticket in play.model.tickets.values() if not ticket.held]
    play.check_rates()


def check_held(model: Model, bounds: Bounds) -> None:
    held = [ticket for ticket in model.tickets.values() if ticket.held]
    assert bounds.running is None or len(held) <= bounds.running
    keys = Counter(ticket.key for ticket in held if ticket.key)
    assert bounds.per_key is None or max(keys.values(), default=0) <= bounds.per_key


def keep_all(model: Model, now: float) -> None:
    """Keep the results of all steps that have a place."""
    for ticket in [ticket for ticket in model.tickets.values() if ticket.held]:
        uid, step = ticket.uid.split("\n")
        write(model, uid, partial(straight.appended, progress=False, gives=True), now, gives=(step,))


STEP_ACTIONS = st.tuples(
    st.sampled_from(["take", "take", "keep", "fail", "suspend", "die", "later"]),
    st.integers(0, 2),
    st.sampled_from(["s1", "s2", "s3"]),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(STEP_ACTIONS, max_size=60), BOUNDS)
def test_steps_never_have_more_places_than_there_are_and_all_get_one_in_the_end(
    actions: list[tuple[str, int, str]], bounds: Bounds
) -> None:
    model, now = Model(QueueRow(name="q", bounds=bounds)), NOW
    for uid in "abc":
        row = waiting_row(uid, Seat(queue=""), now)
        model.apply(Change(row.name, lambda _, row=row: row, creates=True))
        claim(model, uid)
    begun: list[float] = []

    def take(uid: str, step: str) -> None:
        before = model.tickets.get(f"{uid}\n{step}")
        wanted = Take(step=step, queue="q", key=step, moment=now)
        write(model, uid, straight.wants_place, now, takes=wanted)
        if wanted.granted and (before is None or not before.held):
            begun.append(now)

    def suspend_and_wake(uid: str) -> None:
        wait = Wait(token="k", sleep_until=now, union=True, rerun=True)
        waiting = tuple(step for step in ("s1", "s2") if f"{uid}\n{step}" in model.tickets)
        event = partial(t.suspend, retention=1.0, wait=wait, resume_point="")
        write(model, uid, event, now, stands=waiting)
        assert not [ticket for place, ticket in model.tickets.items() if place.startswith(uid) and ticket.held]
        claim(model, uid, now)

    for action, which, step in actions:
        uid = "abc"[which]
        if action == "take":
            take(uid, step)
        elif action in ("keep", "fail"):
            write(model, uid, partial(straight.appended, progress=False, gives=True), now, gives=(step,))
        elif action == "suspend":
            suspend_and_wake(uid)
        elif action == "die":
            now += LEASE
            claim(model, uid, now)
        else:
            now += 3
        check_held(model, bounds)
    for _ in range(30):
        keep_all(model, now)
        now += 10
        for ticket in model.line("q", now):
            take(*ticket.uid.split("\n"))
    assert model.tickets == {}
    if bounds.rate is not None:
        check_rate(bounds.rate, begun)


@settings(deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=40))
def test_between_two_turns_of_a_key_no_other_has_more_than_two(keys: list[int]) -> None:
    model = a_model(running=1)
    add(model, "x"), claim(model, "x")
    for number, key in enumerate(keys):
        add(model, f"{number}", f"k{key}")
    last, turns = "x", []
    for _ in keys:
        end(model, last)
        (last,) = serve(model)
        turns.append(keys[int(last)])
    for place, key in enumerate(turns):
        if key in turns[place + 1 :]:
            between = Counter(turns[place + 1 : turns.index(key, place + 1)])
            assert max(between.values(), default=0) <= 2


@pytest.mark.parametrize(
    "bad",
    [
        lambda: Queue("q", running=0),
        lambda: Queue("q", per_key=-1),
        lambda: Queue("q", running=True),
        lambda: Queue(""),
        lambda: Queue("a\nb"),
        lambda: Queue("q" * 129),
        lambda: Queue("q", scope="step"),  # type: ignore[arg-type]
        lambda: Rate(0, per=1),
        lambda: Rate(1, per=0),
        lambda: Rate(1, per=float("inf")),
        lambda: Queue("q", running=10**9 + 1),
        lambda: Queue("q", per_key=2**63),
        lambda: Rate(10**5000, per=1),
        lambda: Rate(1, per=1e12),
        lambda: Rate(1, per=1e-300),
        lambda: check_key("k" * 257),
        lambda: check_key(""),
        lambda: check_key("\ud800"),
        lambda: RateLimited(retry_after=-1),
    ],
)
def test_what_makes_no_sense_is_a_value_error(bad: object) -> None:
    with pytest.raises(ValueError, match="must be"):
        bad()  # type: ignore[operator]


def test_a_rate_that_is_no_rate_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="rate must be a Rate"):
        Queue("q", rate=5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="retry_after or until"):
        RateLimited()


def test_the_strictest_of_two_releases_holds_until_one_is_gone_or_somebody_sets_it() -> None:
    old, new = Bounds(running=5, rate=Rate(10, per=1)), Bounds(running=3, rate=Rate(100, per=2), per_key=1)
    terms = QueueTerms().declare("old", old, NOW).declare("new", new, NOW)
    assert terms.bounds == Bounds(running=3, rate=Rate(10, per=1), per_key=1)
    assert terms.undeclare("old").bounds == new
    assert terms.declare("new", new, NOW + 601).bounds == new
    assert replace(terms, override=Bounds(running=9)).bounds == Bounds(running=9)
    assert QueueTerms.declared_of(terms.declared_json()) == terms.declared


def test_what_an_older_release_stored_beyond_all_sense_is_read_as_the_most_that_makes_some() -> None:
    stored = '{"running":9223372036854775808,"rate":[36893488147419103232,60.0],"rate_per_key":[1,1e+300]}'
    read = Bounds.from_json(stored)
    assert (read.running, read.rate) == (10**9, Rate(10**9, per=60))
    assert read.rate_per_key is not None
    assert read.rate_per_key.period < 1e10
    assert Bounds.from_json(read.to_json()) == read
