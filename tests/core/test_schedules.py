"""What a schedule may be, and what it says of the field that is wrong."""

from __future__ import annotations

import datetime
import subprocess
import sys

import pytest

import lro_aio as lro
from lro_aio.core.bulk_rules import spared
from lro_aio.core.record import Record, State

DAILY = {"cron": "30 2 * * *"}


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({}, "cron or every"),
        ({**DAILY, "every": 60}, "cron or every"),
        ({"cron": "0 0 31 2 *"}, "cron"),
        ({"cron": 5}, "cron"),
        ({"every": 0}, "every"),
        ({"every": 0.5}, "every"),
        ({"every": datetime.timedelta(milliseconds=1500)}, "every"),
        ({**DAILY, "timezone": "Europe/Atlantis"}, "timezone"),
        ({**DAILY, "timezone": None}, "timezone"),
        ({**DAILY, "overlap": "replace"}, "overlap"),
        ({**DAILY, "catch_up": "some"}, "catch_up"),
        ({**DAILY, "jitter": -1}, "jitter"),
    ],
)
def test_a_malformed_schedule_names_the_field(options, field):
    with pytest.raises((ValueError, TypeError), match=field):
        lro.Schedule("nightly", "report", **options)


@pytest.mark.parametrize("name", ["", "a b", "a/b", "-a", "x" * 101, "operations", None])
def test_a_malformed_name_is_refused(name):
    with pytest.raises(ValueError, match="name"):
        lro.Schedule(name, "report", **DAILY)


@pytest.mark.parametrize("handler", ["", None, 5])
def test_a_handler_is_a_name_or_a_function(handler):
    with pytest.raises((ValueError, TypeError), match="handler"):
        lro.Schedule("nightly", handler, **DAILY)


def test_two_of_one_name_are_refused():
    twice = [lro.Schedule("nightly", "report", **DAILY), lro.Schedule("nightly", "other", every=60)]
    with pytest.raises(ValueError, match="two are named 'nightly'"):
        lro.Client("sqlite://", schedules=twice)
    with pytest.raises(TypeError, match="schedules must be Schedule objects"):
        lro.Client("sqlite://", schedules=["nightly"])  # type: ignore[list-item]


@pytest.mark.asyncio
async def test_a_handler_that_is_not_registered_is_refused_when_the_client_opens():
    client = lro.Client("sqlite://", schedules=[lro.Schedule("nightly", "report", **DAILY)])
    with pytest.raises(lro.UnknownHandlerError, match="report") as caught:
        await client.__aenter__()
    assert caught.value.__notes__ == ["of the schedule 'nightly'"]
    assert not client.is_open


@pytest.mark.asyncio
async def test_a_state_that_cannot_be_stored_is_refused_when_the_client_opens():
    registry = lro.Handlers()

    @registry.handler
    async def report(op: lro.Operation[dict[str, int]]) -> None: ...

    wrong = lro.Schedule("nightly", report, state={"a": "b"}, **DAILY)
    client = lro.Client("sqlite://", handlers=registry, schedules=[wrong])
    with pytest.raises(lro.StateCodecError, match="a"):
        await client.__aenter__()
    assert not client.is_open


@pytest.mark.slow
def test_without_the_extra_it_says_what_to_install():
    code = """
import sys
sys.modules["cronsim"] = None
import lro_aio
lro_aio.Schedule("often", "report", every=60)
lro_aio.Schedule("nightly", "report", cron="30 2 * * *")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ImportError: Schedule(cron=...) needs an extra" in done.stderr
    assert "pip install 'lro-aio[schedules]'" in done.stderr


def test_a_bulk_action_spares_schedules_that_it_does_not_name():
    own = Record(
        name="schedules/operations/nightly",
        uid="u",
        state=State.SUSPENDED,
        create_time=0,
        update_time=0,
        handler="lro.schedule.nightly",
    )
    assert spared(own, "*")
    assert not spared(own, 'handler = "lro.schedule.nightly"')
    assert not spared(own, 'handler = "lro.schedule.*"')
    assert not spared(own.evolve(handler="nightly"), "*")


def test_a_definition_is_known_by_its_state_and_not_by_the_bytes_that_a_process_makes_of_it():
    schedule = lro.Schedule("nightly", "report", **DAILY)
    here, there = (schedule.defined("report", data, "json;v=1", "2:ab") for data in (b'["a","b"]', b'["b","a"]'))
    assert here.fingerprint == there.fingerprint
    assert here.fingerprint != schedule.defined("report", b"", "json;v=1", "2:ac").fingerprint
