"""``lro cancel --filter`` and its neighbours, in the store and over HTTP."""

import json

import pytest

from .conftest import start_site, stop_site

PLACES = ("url", "store")
VERBS = ("cancel", "pause", "unpause", "rerun", "delete")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A server of these tests alone: it is the worker that acts."""
    started = start_site(tmp_path_factory.mktemp("bulk"), what="waits")
    yield started
    stop_site(started)


@pytest.fixture(params=PLACES)
def where(request, site):
    return site.at(request.param)


def test_without_yes_they_are_counted_and_it_is_said_what_to_type(lro, where):
    text = 'handler = "asleep"'
    counted = lro("cancel", "--filter", text, "--reason", "it's late", *where)
    assert counted.exit_code == 0
    lines = counted.stdout.splitlines()
    assert lines[0] == "3 operations would be cancelled:"
    assert sorted(lines[1:4]) == [f"  operations/asleep-{number}" for number in range(3)]
    typed = f"""lro cancel --filter '{text}' --reason 'it'"'"'s late' {where[0]} {where[1]} --yes"""
    assert lines[4] == f"to do it: {typed}"
    assert json.loads(lro("pause", "--filter", text, "--json", *where).stdout)["count"] == 3
    assert lro("unpause", "--filter", text, *where).stdout == "0 operations would be unpaused\n"


def test_with_yes_an_operation_does_it(lro, where, site):
    text = 'name = "operations/asleep-0" OR name = "operations/asleep-1"'
    for verb, expected in (("pause", "paused"), ("unpause", "running")):
        started = lro(verb, "--filter", text, "--yes", "--reason", "look into it", "--json", *where)
        name = json.loads(started.stdout)["name"]
        ended = json.loads(lro("wait", name, "--timeout", "20", "--json", *where).stdout)
        assert ended["response"]["value"]["done"] == 2
        assert expected in lro("list", "--filter", text, *site.at("store")).stdout
    assert f"look into it (by {name})" in lro("history", "asleep-0", *site.at("store")).stdout
    told = lro("rerun", "--filter", 'handler = "quick"', "--yes", *where)
    assert told.stdout.endswith(": does it, in a process that runs handlers\n")
    assert "lro watch operations/" in told.stderr


@pytest.mark.parametrize("verb", VERBS)
def test_names_or_a_filter_or_all(lro, site, verb):
    for arguments in ([], ["asleep-0", "--all"], ["--filter", "done = true", "--all"], ["asleep-0", "--yes"]):
        refused = lro(verb, *arguments, *site.at("store"))
        assert (refused.exit_code, refused.stdout) == (2, "")
    for place in PLACES:
        assert lro(verb, "--all", *site.at(place)).exit_code == 0


@pytest.mark.parametrize(
    "arguments", [["--filter", "state = BROKEN"], ["--filter", "done = true", "--per-second", "0"]]
)
def test_what_cannot_be_meant_is_refused(lro, where, arguments):
    refused = lro("delete", *arguments, "--yes", *where)
    assert refused.exit_code == 2
    assert "position 8" in refused.stderr or "per_second" in refused.stderr


def test_services_without_such_verbs_say_so(lro, site):
    for kind in ("server", "azure"):
        refused = lro("cancel", "--all", *site.at(kind))
        assert refused.exit_code == 2
        assert "give --store URL" in refused.stderr


@pytest.mark.slow
def test_a_cancel_by_name_takes_a_reason(lro, site):
    assert lro("cancel", "asleep-2", "--reason", "too dear", *site.at("url")).exit_code == 0
    assert "too dear" in lro("history", "asleep-2", *site.at("store")).stdout
    assert lro("cancel", "asleep-2", "--reason", "x", *site.at("server")).exit_code == 2
