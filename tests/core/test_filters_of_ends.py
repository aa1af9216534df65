"""Promises of filters over how operations ended, and what became of them then."""

from __future__ import annotations

from google.rpc import status_pb2

from lro_aio.core import trail
from lro_aio.core.record import State
from lro_aio.core.rerunning import linked

from .test_filters import T0, failed, matches, record


def test_what_was_run_again_is_told_from_what_was_not() -> None:
    once = failed()
    again = linked(once, now=T0 + 70, to="operations/b")
    copy = record(trail=trail.noted("", T0, trail.RERUN, "of operations/a"))
    for text, expected in (("rerun=true", [again]), ("rerun:*", [again]), ("rerun=false", [once, copy])):
        assert [row for row in (once, again, copy) if matches(text, row)] == expected
        assert [row for row in (once, again, copy) if matches(f"NOT {text}", row)] != expected


def test_an_error_without_a_reason_has_an_empty_one() -> None:
    bare = record(State.FAILED, error=status_pb2.Status(code=5).SerializeToString())
    assert matches('error.reason=""', bare)
    assert not matches("error.reason:*", bare)
