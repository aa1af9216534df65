"""``lro pause``, ``unpause`` and ``rerun``, in the store and over HTTP."""

import json

import pytest

from .conftest import start_site, stop_site

PLACES = ("url", "store")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A server of these tests alone: they change what is listed."""
    started = start_site(tmp_path_factory.mktemp("controls"), what="waits")
    yield started
    stop_site(started)


@pytest.fixture(params=PLACES)
def place(request, site):
    """Where the operations are, and the one that a test has to itself there."""
    return site.at(request.param), f"asleep-{PLACES.index(request.param)}"


def test_pause_and_unpause(lro, place, site):
    where, name = place
    paused = lro("pause", name, "--reason", "look into it", *where)
    assert (paused.exit_code, paused.stdout) == (0, f"operations/{name}: paused\n")
    listed = lro("list", "--filter", "paused = true", *site.at("store")).stdout
    assert f"operations/{name}  paused" in listed
    assert "look into it" in lro("history", name, *site.at("store")).stdout
    assert lro("pause", name, "--json", *where).stdout == ""
    unpaused = lro("unpause", name, *where)
    assert (unpaused.exit_code, unpaused.stdout) == (0, f"operations/{name}: unpaused\n")
    refused = lro("unpause", name, *where)
    assert refused.exit_code == 6
    assert "not paused" in refused.stderr


def test_a_failure_that_waits_for_somebody_is_shown(lro, where):
    shown = lro("get", "stuck", *where).stdout
    assert "paused: NOT_FOUND" in shown
    assert "no such [red] bucket" in shown
    assert "paused: NOT_FOUND" in lro("list", *where).stdout


def test_rerun(lro, place, site):
    where, _ = place
    made = [lro("rerun", "done", "--request-id", "r1", "--json", *where) for _ in range(2)]
    first, second = (json.loads(result.stdout)["name"] for result in made)
    assert first == second
    told = lro("rerun", "done", *where)
    assert (told.exit_code, told.stdout.startswith("operations/done: runs again as operations/")) == (0, True)
    assert f"as {first}" in lro("history", "done", *site.at("store")).stdout
    assert lro("rerun", "asleep-2", *where).exit_code == 6


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["pause", "unpause", "rerun"])
def test_what_is_not_there_and_what_has_no_such_verb(lro, place, site, verb):
    where, _ = place
    assert lro(verb, "never", *where).exit_code == 3
    for other in ("server", "azure"):
        refused = lro(verb, "done", *site.at(other))
        assert refused.exit_code == 2
        assert "give --store URL" in refused.stderr


@pytest.mark.slow
def test_what_has_ended_is_not_paused(lro, place):
    where, _ = place
    assert lro("pause", "done", *where).exit_code == 6
