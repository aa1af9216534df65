"""``lro queues``: over a store that a client has left."""

import asyncio
import json

import pytest

import lro_aio as lro_


@pytest.fixture
def store(tmp_path):
    """The options that name a store with one queue, in which two operations wait."""
    url = f"sqlite:///{tmp_path / 'operations.db'}"

    async def fill():
        async with lro_.Client(url, drain_timeout=0) as client:

            @client.handler("model", queue=lro_.Queue("model-api", running=1, rate=lro_.Rate(100, per=60)))
            async def model(op):
                await asyncio.Event().wait()

            await client.sweep()
            await client.queues.pause("model-api")
            for number in range(2):
                await client.start("model", queue_key="tenant-1", operation_id=f"ask-{number}")

    asyncio.run(fill())
    return ["--store", url]


def test_list_shows_who_waits_and_what_holds(lro, store):
    shown = lro("queues", "list", *store)
    assert shown.exit_code == 0
    assert lro("queues", *store).stdout == shown.stdout
    assert "model-api" in shown.stdout
    assert "running=1, rate=100 per 60 s; paused" in shown.stdout
    assert "tenant-1" in shown.stdout
    (told,) = json.loads(lro("queues", "list", "--json", *store).stdout)
    assert (told["waiting"], told["bounds"]) == (2, {"running": 1, "rate": [100, 60.0]})


def test_set_changes_what_is_given_and_unset_takes_it_back(lro, store):
    done = lro("queues", "set", "model-api", "--running", "7", "--rate", "none", "--rate-per-key", "5/1.5", *store)
    assert (done.exit_code, done.stdout) == (0, "model-api: running=7, rate_per_key=5 per 1.5 s\n")
    assert "set by hand" in lro("queues", "list", *store).stdout
    assert lro("queues", "set", "model-api", "--unset", *store).stdout == "model-api: running=1, rate=100 per 60 s\n"


def test_pause_and_unpause(lro, store):
    assert lro("queues", "unpause", "model-api", *store).stdout == "model-api: unpaused\n"
    assert json.loads(lro("queues", "pause", "model-api", "--json", *store).stdout)["paused"] is True


def test_stats_tell_how_many_wait(lro, store):
    lines = [line.split() for line in lro("stats", *store).stdout.splitlines()]
    assert lines[lines.index(["QUEUE", "WAITING", "RUNNING"]) + 1] == ["model-api", "2", "0"]
    told = json.loads(lro("stats", "--json", *store).stdout)
    assert told["queues"] == [{"queue": "model-api", "waiting": {"count": 2}, "running": {"count": 0}}]


def test_get_tells_where_an_operation_stands(lro, store):
    for name, before in (("ask-0", "nobody before it"), ("ask-1", "1 before it")):
        assert f"model-api, key tenant-1; {before}; the queue is paused" in lro("get", name, *store).stdout


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("pause", "no-such"), 3, "no queue 'no-such'"),
        (("set", "model-api", "--running", "0"), 2, "running must be"),
        (("set", "model-api", "--running", "many"), 2, "--running many is no limit"),
        (("set", "model-api", "--rate", "5"), 2, "--rate 5 is no limit"),
        (("set", "model-api", "--rate", "9223372036854775808/60"), 2, "count must be a whole number of at most"),
        (("set", "model-api", "--per-key", "9223372036854775808"), 2, "per_key must be a whole number of at most"),
        (("set", "model-api"), 2, "give limits, or --unset"),
    ],
)
def test_what_makes_no_sense_says_so(lro, store, arguments, code, says):
    refused = lro("queues", *arguments, *store)
    assert refused.exit_code == code
    assert says in refused.stderr
