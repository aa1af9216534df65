"""Options are checked where they are made, in seconds, and a delay is always within its bounds."""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from lro_aio.core import policies
from lro_aio.core.policies import (
    LeasePolicy,
    Limits,
    PollPolicy,
    RetentionPolicy,
    RetryPolicy,
    SweepPolicy,
    seconds,
    spread,
    whole,
)

ALL = [LeasePolicy, PollPolicy, RetryPolicy, RetentionPolicy, SweepPolicy, Limits]
POSITIVE = [
    (LeasePolicy, "duration"),
    (LeasePolicy, "max_stall"),
    (PollPolicy, "interval"),
    (PollPolicy, "max_interval"),
    (RetentionPolicy, "duration"),
    (SweepPolicy, "interval"),
]
ZERO_OR_MORE = [(RetryPolicy, "initial_delay"), (RetryPolicy, "max_delay")]
COUNTS = [(RetryPolicy, "max_attempts"), (SweepPolicy, "batch"), (SweepPolicy, "purge_batch")] + [
    (Limits, field.name) for field in dataclasses.fields(Limits)
]


def test_the_defaults_are_the_documented_ones() -> None:
    assert (LeasePolicy().duration, LeasePolicy().renew_interval, LeasePolicy().max_stall) == (30, 10, 600)
    assert RetentionPolicy().duration == 30 * 24 * 3600
    assert (Limits().metadata, Limits().state, Limits().response) == (64 * 1024, 1024**2, 2 * 1024**2)
    assert (Limits().page_bytes, Limits().max_page_size, Limits().scan_rows) == (3 * 1024**2, 1000, 10_000)
    assert RetryPolicy().on == (), "no exception is retried by itself"


@pytest.mark.parametrize("policy", ALL)
def test_a_policy_is_a_value(policy: Any) -> None:
    assert policy() == policy()
    assert hash(policy()) == hash(policy())
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(policy(), dataclasses.fields(policy)[0].name, 1)
    assert all(field.default is not dataclasses.MISSING for field in dataclasses.fields(policy))
    assert policy.__name__ in policies.__all__


@pytest.mark.parametrize(("policy", "field"), POSITIVE + ZERO_OR_MORE)
def test_a_duration_is_seconds_or_a_timedelta_and_read_as_seconds(policy: Any, field: str) -> None:
    for given_value in (90, 90.0, dt.timedelta(minutes=1.5)):
        value = getattr(policy(**{field: given_value}), field)
        assert value == 90.0
        assert type(value) is float


@pytest.mark.parametrize(("policy", "field"), POSITIVE + ZERO_OR_MORE)
@pytest.mark.parametrize("value", [-1, math.inf, math.nan, -math.inf, dt.timedelta(seconds=-1), 10**400])
def test_a_duration_that_is_negative_or_without_end_is_refused(policy: Any, field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"{policy.__name__}\.{field} must be"):
        policy(**{field: value})


@pytest.mark.parametrize(("policy", "field"), POSITIVE + ZERO_OR_MORE)
@pytest.mark.parametrize("value", ["5", None, True, [1]])
def test_a_duration_of_another_type_is_refused(policy: Any, field: str, value: Any) -> None:
    with pytest.raises(TypeError, match=rf"{policy.__name__}\.{field} must be seconds or a timedelta"):
        policy(**{field: value})


def test_zero_is_a_delay_but_no_lease() -> None:
    for policy, field in ZERO_OR_MORE:
        assert getattr(policy(**{field: 0}), field) == 0.0
    for policy, field in POSITIVE:
        with pytest.raises(ValueError, match="must be positive"):
            policy(**{field: 0})


@pytest.mark.parametrize(("policy", "field"), COUNTS)
@pytest.mark.parametrize("value", [0, -1, 1.0, "1", True, None])
def test_a_count_is_a_whole_number_from_one(policy: Any, field: str, value: Any) -> None:
    assert getattr(policy(**{field: 1}), field) == 1
    with pytest.raises(ValueError, match=rf"{policy.__name__}\.{field} must be a whole number of 1 or more"):
        policy(**{field: value})


def test_every_field_is_covered_by_the_tests_above() -> None:
    tested = {(policy, field) for policy, field in POSITIVE + ZERO_OR_MORE + COUNTS}
    rest = {(policy, field.name) for policy in ALL for field in dataclasses.fields(policy)} - tested
    assert rest == {
        (PollPolicy, "multiplier"),
        (PollPolicy, "jitter"),
        (RetryPolicy, "multiplier"),
        (RetryPolicy, "jitter"),
        (RetryPolicy, "on"),
    }


@pytest.mark.parametrize("policy", [PollPolicy, RetryPolicy])
@pytest.mark.parametrize(
    ("field", "value"),
    [("multiplier", 0.5), ("multiplier", math.inf), ("multiplier", math.nan), ("jitter", -0.1), ("jitter", 1.0)],
)
def test_a_shrinking_or_wild_growth_is_refused(policy: Any, field: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"{policy.__name__}\.{field} must be"):
        policy(**{field: value})


def test_retry_takes_one_exception_class_or_several() -> None:
    assert RetryPolicy(on=OSError).on == (OSError,)  # type: ignore[arg-type]
    assert RetryPolicy(on=[OSError, KeyError]).on == (OSError, KeyError)  # type: ignore[arg-type]


@pytest.mark.parametrize("on", [BaseException, KeyboardInterrupt, int, "OSError", ValueError("x"), (OSError, None)])
def test_retry_takes_nothing_but_exception_classes(on: Any) -> None:
    with pytest.raises(TypeError):
        RetryPolicy(on=on)


@given(st.floats(0.001, 1e6), st.floats(1, 1e12), st.floats(0.001, 1e6), st.floats(0, 0.99), st.integers(0, 10**6))
@settings(max_examples=100, deadline=None)
def test_a_delay_is_within_its_bounds_however_often_it_grew(
    first: float, multiplier: float, most: float, jitter: float, times: int
) -> None:
    poll = PollPolicy(interval=first, multiplier=multiplier, max_interval=most, jitter=jitter)
    retry = RetryPolicy(initial_delay=first, multiplier=multiplier, max_delay=most, jitter=jitter)
    for delay in (poll.delay(times), retry.delay(times)):
        assert 0 <= delay <= most * (1 + jitter) * (1 + 1e-9)


def test_a_delay_grows_by_the_multiplier_up_to_its_cap() -> None:
    poll = PollPolicy(interval=1, multiplier=2, max_interval=10, jitter=0)
    assert [poll.delay(n) for n in range(6)] == [1, 2, 4, 8, 10, 10]
    retry = RetryPolicy(initial_delay=3, multiplier=3, max_delay=20, jitter=0)
    assert [retry.delay(n) for n in range(4)] == [3, 9, 20, 20]
    assert RetryPolicy(initial_delay=0, multiplier=1e300, jitter=0).delay(1000) == 0
    assert PollPolicy(multiplier=1e300, jitter=0).delay(10**9) == 10


def test_a_delay_without_growth_stays() -> None:
    assert PollPolicy(interval=2, multiplier=1, jitter=0).delay(10**9) == 2


def test_jitter_spreads_around_the_delay() -> None:
    poll = PollPolicy(interval=10, multiplier=1, max_interval=10, jitter=0.2)
    made = [poll.delay(0) for _ in range(200)]
    assert min(made) >= 8
    assert max(made) <= 12
    assert len(set(made)) > 100
    assert min(made) < 10 < max(made)


def test_a_delay_is_spread_to_the_sides_that_are_named() -> None:
    assert spread(10) == 10
    longer = [spread(10, longer=0.2) for _ in range(200)]
    shorter = [spread(10, shorter=0.5) for _ in range(200)]
    assert 10 <= min(longer) < 10.5 < 11.5 < max(longer) <= 12
    assert 5 <= min(shorter) < 6 < 9 < max(shorter) <= 10


def test_whole_takes_counts_and_nothing_else() -> None:
    assert whole(1, "lanes") == 1
    for wrong in (0, -1, 1.0, True, "1", None):
        with pytest.raises(ValueError, match=f"lanes must be a whole number of 1 or more, not {wrong!r}"):
            whole(wrong, "lanes")


def test_seconds_names_what_is_wrong() -> None:
    assert seconds(dt.timedelta(days=30), "sleep") == 2_592_000.0
    with pytest.raises(ValueError, match="sleep must be zero or more and finite, not -1"):
        seconds(-1, "sleep")
    with pytest.raises(ValueError, match="timeout must be positive and finite, not 0"):
        seconds(0, "timeout", positive=True)
