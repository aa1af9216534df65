"""What a row keeps of traces, and what is known of the caller's without any library for traces."""

import subprocess
import sys
from dataclasses import replace

import pytest

from lro_aio.core import bookkeeping, tracing
from lro_aio.core.record import Record, State, Wait


def test_a_wait_that_begins_is_one_of_the_run_that_began_it_and_no_other_is_touched():
    before, wait = Wait(token="a", sleep_until=0.0), Wait(token="b", sleep_until=9.0)
    row = Record(name="operations/a", uid="u", state=State.RUNNING, create_time=0.0, update_time=0.0, wait=before)

    def traced(event):
        return bookkeeping.traced(row, event=event, traceparent="t")

    assert traced(lambda row: row.evolve(wait=wait)).wait == replace(wait, traceparent="t")
    assert traced(lambda row: row.evolve(state=State.PENDING)).wait is before
    assert traced(lambda row: row) is row
    assert traced(lambda row: row.evolve(wait=None)).wait is None
    assert traced(lambda row: None) is None


def test_a_row_of_a_release_that_traces_is_readable_by_one_that_does_not_and_the_other_way_round():
    wait = Wait(token="a", sleep_until=0.0, traceparent="t")
    assert Wait.from_json(wait.to_json()) == wait
    assert "traceparent" not in Wait(token="a", sleep_until=0.0).to_json()
    assert Wait.from_json('{"token":"a","sleep_until":0.0,"a later member":1}').traceparent == ""


def test_what_is_kept_of_a_union_keeps_its_trace():
    assert Wait(token="a", sleep_until=0.0, union=True, traceparent="t").spent().traceparent == "t"


@pytest.mark.slow
def test_nothing_of_opentelemetry_is_loaded_to_find_that_there_is_no_span():
    code = """
import sys
from lro_aio.core import tracing
assert tracing.current_traceparent() == "" and tracing.current_ids() == {}
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def test_a_module_that_is_only_half_loaded_has_no_span(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", object())
    assert tracing.current_ids() == {}
