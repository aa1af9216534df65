"""``lro stats``, and all that ``lro get`` shows of an operation in a store."""

import json

import pytest

from .conftest import start_site, stop_site


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    started = start_site(tmp_path_factory.mktemp("seeing"), what="waits")
    yield started
    stop_site(started)


def test_stats_are_a_table_of_handlers_and_states(lro, site):
    result = lro("stats", *site.at("store"))
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0] == ["HANDLER", "SUSPENDED", "SUCCEEDED"]
    assert ["asleep", "3", "-"] in lines
    assert ["quick", "-", "1"] in lines
    assert ["all", "4", "1"] in lines
    assert ["1", "paused"] in lines


def test_stats_as_json(lro, site):
    told = json.loads(lro("stats", "--json", *site.at("store")).stdout)
    assert {"handler": "asleep", "state": "SUSPENDED", "count": 3} in told["counts"]
    assert (told["paused"], told["running"], told["failures"]) == ({"count": 1}, [], [])


def test_only_a_store_tells(lro, site):
    assert lro("stats", *site.at("store")).exit_code == 0
    refused = lro("stats", env={"LRO_STORE": ""})
    assert (refused.exit_code, "--store URL" in refused.stderr) == (2, True)


def test_get_shows_the_life_of_an_operation_in_a_store(lro, site):
    shown = lro("get", "stuck", *site.at("store"))
    assert shown.exit_code == 0
    for part in ("SUSPENDED and paused", "until it is unpaused", "SEGMENT", "PAUSE", "because of the failure"):
        assert part in shown.stdout
    assert "[red] bucket" in shown.stdout
    ended = lro("get", "done", *site.at("store")).stdout
    assert "start -> SUCCEEDED" in ended
    assert "ended" in ended


@pytest.mark.slow
def test_get_over_a_server_and_as_json_is_the_operation_alone(lro, site):
    assert "SEGMENT" not in lro("get", "done", *site.at("url")).stdout
    over_store, over_url = (
        json.loads(lro("get", "done", "--json", *site.at(kind)).stdout) for kind in ("store", "url")
    )
    assert over_store == over_url
