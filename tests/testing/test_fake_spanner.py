"""The fake itself: its life cycle, what it counts, its fault points, and Google's own client on it."""

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import closing

import grpc
import pytest
from google.api_core import exceptions as errors
from google.cloud.spanner_v1 import types
from google.rpc import error_details_pb2

import lro_aio.testing
from lro_aio.stores.spanner.location import Location
from lro_aio.testing import FakeSpanner
from lro_aio.testing.spanner import SpannerError

from .spanner_calls import BEGIN, Spanner, listed, operation, write

NOTE = write("insert", "Notes", ["id", "number"], ["a", 1])
UNAVAILABLE, DEADLINE, ABORTED = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.ABORTED,
)


def ids(fake):
    return [row["id"] for row in fake.rows("Notes")]


# Life cycle


@pytest.mark.asyncio
@pytest.mark.parametrize("variant", ["proto", "bytes"])
async def test_it_starts_with_the_table_of_a_variant_and_its_url_says_where(variant):
    async with FakeSpanner(variant=variant, table="Things") as fake:
        location = Location.parse(fake.url)
        assert (location.host, location.table) == (fake.host, "Things")
        assert fake.rows() == []
        spanner = Spanner(location.host, location.database_path).open()
        named = {"key": "operations/a"} if variant == "bytes" else {}
        columns = [*named, "Operation", "UpdateTime"]
        values = [*named.values(), operation("operations/a"), "2026-01-31T12:00:00.000001Z"]
        begun = spanner.read("Things", ["key"], "operations/a", transaction=BEGIN)
        spanner.commit(begun, write("insert", "Things", columns, values))
        [row] = fake.rows()
        assert row["key"] == "operations/a"
        assert row["UpdateTime"] == 1769860800_000_001_000
        assert row["Shard"] == "e"
        spanner.close()


def test_it_needs_no_event_loop_and_no_table():
    with FakeSpanner(variant=None) as fake:
        assert fake.ddl == []
        with closing(Spanner(fake.host, fake.database_path)) as spanner:
            assert spanner.open().sql("SELECT TABLE_NAME FROM INFORMATION_SCHEMA.TABLES") == []


def test_a_fake_that_was_not_started_says_so():
    with pytest.raises(RuntimeError, match="async with FakeSpanner"):
        _ = FakeSpanner().url


def test_a_variant_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="json"):
        FakeSpanner(variant="json")


def test_testing_has_no_other_lazy_names():
    with pytest.raises(AttributeError, match="FakeBigtable"):
        _ = lro_aio.testing.FakeBigtable


@pytest.mark.slow
def test_importing_the_testing_package_loads_no_spanner_code():
    code = "import sys, lro_aio.testing; print([name for name in sys.modules if 'spanner' in name])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.asyncio
async def test_an_outage_keeps_the_port_the_rows_and_the_transactions(fake, connect):
    spanner = connect()
    begun = spanner.read("Notes", ["id"], "a", transaction=BEGIN)
    url = fake.url
    fake.stop()
    with pytest.raises(errors.ServiceUnavailable):
        spanner.rows("Notes", ["id"], "a")
    fake.stop()
    await fake.start()
    await fake.start()
    assert fake.url == url
    with closing(Spanner(fake.host, fake.database_path)) as again:
        again.session = spanner.session
        again.commit(begun, NOTE)
    assert ids(fake) == ["a"]


def test_two_fakes_on_one_port_are_refused(fake):
    port = int(fake.host.rpartition(":")[2])
    with pytest.raises(OSError, match=f"port {port} of 127.0.0.1 is taken"), FakeSpanner(variant=None, port=port):
        pass


@pytest.mark.slow
def test_it_runs_as_a_process_until_its_input_ends():
    command = [sys.executable, "-m", "lro_aio.testing.spanner", "--variant", "bytes", "--port", "0"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def ask(line):
            process.stdin.write(f"{line}\n")
            process.stdin.flush()
            return process.stdout.readline().strip()

        location = Location.parse(process.stdout.readline().strip())
        with closing(Spanner(location.host, location.database_path)) as spanner:
            assert spanner.open().rows("Operations", ["key"], "operations/a") == []
        assert json.loads(ask("rpcs")) == {"CreateSession": 1, "Read": 1}
        assert ask("reset") == "ok"
        assert json.loads(ask("rpcs")) == {}
        assert ask("latency 0.001") == "ok"
        assert float(ask("cpu")) > 0
        assert ask("dance") == "unknown: dance"
        process.stdin.close()
        assert process.wait(10) == 0


# What it shows


def test_calls_are_counted_with_their_tags_and_priorities(fake, connect):
    spanner = connect()
    options = {"request_tag": "get", "priority": types.RequestOptions.Priority.PRIORITY_LOW}
    spanner.rows("Notes", ["id"], "a", request_options=options)
    spanner.apply(NOTE, request_options={"transaction_tag": "put", "priority": 3})
    assert fake.rpcs == {"CreateSession": 1, "Read": 2, "Commit": 1}
    assert [call[:3] for call in fake.calls][1:] == [
        ("Read", "get", "LOW"),
        ("Read", "", "UNSPECIFIED"),
        ("Commit", "put", "HIGH"),
    ]


def test_another_program_can_write_and_wins_every_conflict(fake, connect):
    spanner = connect()
    begun = spanner.read("Ops", ["key"], "operations/a", transaction=BEGIN)
    message = operation("operations/a", done=True)
    stamp = fake.write("Ops", "insert_or_update", ["Operation", "CheckTime"], [[message, 5_000_000_001]])
    [row] = fake.rows("Ops")
    assert row == {
        "key": "operations/a", "Operation": message, "State": None, "ResumePoint": None, "Shard": "e", "Outcome": 1,
        "CheckTime": 5_000_000_001, "ExpireTime": None,
    }  # fmt: skip
    assert abs(stamp / 1e9 - time.time()) < 60
    with pytest.raises(errors.Aborted):
        spanner.commit(begun, write("insert", "Ops", ["Operation"], [message]))
    fake.write("Ops", "delete", ["key"], [["operations/a"]])
    assert fake.rows("Ops") == []
    with pytest.raises(SpannerError, match="is missing") as refused:
        fake.write("Ops", "update", ["key", "ResumePoint"], [["operations/a", ""]])
    assert refused.value.code is grpc.StatusCode.NOT_FOUND
    for kind in ("upsert", "replace"):
        with pytest.raises(ValueError, match=f"no mutation '{kind}'"):
            fake.write("Ops", kind, ["key"], [["operations/a"]])


def test_rows_expire_only_when_asked(fake, connect):
    spanner = connect()
    times = {"past": "2026-01-01T00:00:00Z", "later": "2026-01-02T00:00:00Z", "never": None}
    spanner.apply(
        write("insert", "Ops", ["Operation", "ExpireTime"], *[[operation(name), at] for name, at in times.items()])
    )
    day_after = 1767312000.0  # 2026-01-02, and the policy says one day
    assert fake.expire_rows(day_after) == 0
    assert fake.expire_rows(day_after + 1) == 1
    assert [row["key"] for row in fake.rows("Ops")] == ["later", "never"]
    assert fake.expire_rows() == 1
    assert spanner.all("Ops", "key") == [["never"]]


def test_its_clock_can_be_ahead_and_timestamps_still_rise(fake):
    def commit(name):
        return fake.write("Notes", "insert", ["id", "number"], [[name, 1]])

    fake.clock_offset = 3600.0
    ahead = commit("a")
    assert 3590 < ahead / 1e9 - time.time() < 3610
    assert fake.rows("Notes")[0]["made"] >= ahead
    fake.clock_offset = 0.0
    assert commit("b") > ahead


# Sessions


@pytest.mark.parametrize("multiplexed", [True, False])
def test_a_session_can_be_asked_for(fake, connect, multiplexed):
    """As the pools of older clients ask before they hand one out."""
    spanner = connect(multiplexed=multiplexed)
    found = spanner.client.get_session(name=spanner.session)
    assert (found.name, found.multiplexed) == (spanner.session, multiplexed)
    fake.lose_sessions()
    with pytest.raises(errors.NotFound, match="Session not found: "):
        spanner.client.get_session(name=spanner.session)


@pytest.mark.parametrize("multiplexed", [True, False])
def test_a_lost_session_is_not_found_and_names_itself(fake, connect, multiplexed):
    spanner = connect(multiplexed=multiplexed)
    begun = spanner.read("Notes", ["id"], "a", transaction=BEGIN)
    fake.lose_sessions()
    with pytest.raises(errors.NotFound, match="Session not found: ") as lost:
        spanner.rows("Notes", ["id"], "a")
    [detail] = [item for item in lost.value.details if isinstance(item, error_details_pb2.ResourceInfo)]
    assert detail.resource_type == "type.googleapis.com/google.spanner.v1.Session"
    assert detail.resource_name == spanner.session
    with pytest.raises(errors.NotFound, match="Session not found: "):
        spanner.commit(begun, NOTE)
    other = connect()
    other.commit(other.read("Notes", ["id"], "a", transaction=BEGIN), NOTE)
    assert ids(fake) == ["a"]


@pytest.mark.parametrize(
    ("path", "error", "words"),
    [
        ("projects/test-project/instances/test-instance/databases/nope", errors.NotFound, "Database not found"),
        ("projects/test-project/instances/nope/databases/test-database", errors.NotFound, "Instance not found"),
        ("nope", errors.InvalidArgument, "Invalid database uri: nope"),
    ],
)
def test_another_database_is_not_found(fake, path, error, words):
    with closing(Spanner(fake.host, path)) as spanner, pytest.raises(error, match=words):
        spanner.open()


# Fault points


def test_a_call_fails_before_it_is_carried_out(fake, connect):
    spanner = connect()
    begun = spanner.read("Notes", ["id"], "a", transaction=BEGIN)
    fake.fail("Commit", UNAVAILABLE)
    with pytest.raises(errors.ServiceUnavailable):
        spanner.commit(begun, NOTE)
    assert ids(fake) == []
    spanner.commit(begun, NOTE)
    assert ids(fake) == ["a"]


@pytest.mark.parametrize(
    ("code", "error"), [(UNAVAILABLE, errors.ServiceUnavailable), (DEADLINE, errors.DeadlineExceeded)]
)
def test_a_call_fails_after_it_was_carried_out(fake, connect, code, error):
    spanner = connect()
    begun = spanner.read("Notes", ["id"], "a", transaction=BEGIN)
    fake.fail("Commit", code, when="after")
    with pytest.raises(error):
        spanner.commit(begun, NOTE)
    assert ids(fake) == ["a"]
    spanner.commit(begun, NOTE)
    assert ids(fake) == ["a"]


def test_an_aborted_commit_ends_its_transaction(fake, connect):
    spanner = connect()
    begun = spanner.read("Notes", ["id"], "a", transaction=BEGIN)
    fake.fail("Commit", ABORTED)
    for _ in range(2):
        with pytest.raises(errors.Aborted) as aborted:
            spanner.commit(begun, NOTE)
        assert any(isinstance(item, error_details_pb2.RetryInfo) for item in aborted.value.details)
    assert ids(fake) == []


def test_faults_come_in_the_order_asked_for_and_can_be_cleared(fake, connect):
    spanner = connect()
    fake.fail("Read", UNAVAILABLE, times=2)
    fake.fail("Read", DEADLINE)
    for error in (errors.ServiceUnavailable, errors.ServiceUnavailable, errors.DeadlineExceeded):
        with pytest.raises(error):
            spanner.rows("Notes", ["id"], "a")
    fake.fail("Read", UNAVAILABLE, times=5)
    fake.fail("Read", UNAVAILABLE, times=0)
    assert spanner.rows("Notes", ["id"], "a") == []


def test_streams_fail_too(fake, connect):
    spanner = connect()
    request = types.ReadRequest(
        session=spanner.session, table="Notes", columns=["id"], key_set=types.KeySet(keys=[listed("a")])
    )
    fake.write("Notes", "insert", ["id", "number"], [["a", 1]])
    fake.fail("StreamingRead", UNAVAILABLE)
    with pytest.raises(errors.ServiceUnavailable):
        list(spanner.client.streaming_read(request=request, retry=None))
    fake.fail("StreamingRead", UNAVAILABLE, when="after")
    seen = []
    with pytest.raises(errors.ServiceUnavailable):
        seen.extend(part for part in spanner.client.streaming_read(request=request, retry=None))
    assert len(list(spanner.client.streaming_read(request=request, retry=None))) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("Comit", UNAVAILABLE), "there is no RPC 'Comit'"),
        (("Commit", grpc.StatusCode.OK), "OK is no fault"),
        (("Commit", UNAVAILABLE, -1), "times is 0 or more"),
        (("Commit", UNAVAILABLE, 1, "during"), "before"),
        (("Commit", ABORTED, 1, "after"), "ABORTED says that nothing was applied"),
    ],
)
def test_a_fault_that_cannot_be_is_refused(fake, arguments, words):
    with pytest.raises(ValueError, match=words):
        fake.fail(*arguments)


def test_latency_is_added_to_every_call_and_not_to_the_lock(fake, connect):
    """Calls at the same time take the time of one."""
    spanner = connect()
    fake.latency = 0.5
    start = time.monotonic()
    threads = [threading.Thread(target=spanner.rows, args=("Notes", ["id"], "a")) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 0.5 <= time.monotonic() - start < 10 * 0.5


def test_chaos_shows_every_fault_and_the_same_ones_for_the_same_seed(fake):
    def run(seed):
        fake.chaos(0.0)
        with closing(Spanner(fake.host, fake.database_path)) as spanner:
            spanner.open()
            fake.chaos(0.5, seed=seed)
            found = []
            for _ in range(60):
                try:
                    begun = spanner.read("Notes", ["id"], "a", transaction=BEGIN)
                    spanner.commit(begun)
                    found.append("")
                except errors.GoogleAPICallError as exc:
                    found.append(exc.grpc_status_code.name)
                    if isinstance(exc, errors.NotFound):
                        fake.chaos(0.0)
                        spanner.open()
                        fake.chaos(0.5, seed=seed + len(found))
            return found

    found = run(7)
    assert {*found} == {"", "UNAVAILABLE", "DEADLINE_EXCEEDED", "ABORTED", "NOT_FOUND"}
    assert run(7) == found
    assert run(8) != found
    with pytest.raises(ValueError, match="from 0 to 1"):
        fake.chaos(1.5)


def test_chaos_does_not_abort_reads_outside_of_transactions(fake, connect):
    spanner = connect()
    fake.chaos(1.0, seed=1)
    seen = set()
    for _ in range(40):
        with pytest.raises(errors.GoogleAPICallError) as failed:
            spanner.rows("Notes", ["id"], "a")
        seen.add(failed.value.grpc_status_code)
    assert ABORTED not in seen


def test_work_that_is_repeated_until_it_succeeds_is_done_once_under_chaos(fake):
    """The point of it all: with the rules of the API obeyed, faults lose and double nothing."""
    fake.write("Notes", "insert", ["id", "number"], [["a", 0]])
    fake.idle_limit = 0.05  # a read whose answer is lost leaves a transaction behind, with its locks
    with closing(Spanner(fake.host, fake.database_path)) as spanner:
        fake.chaos(0.2, seed=3)
        for step in range(1, 31):
            _step(spanner, step)
        fake.chaos(0.0)
    assert fake.rows("Notes")[0]["number"] == 30


def _step(spanner, step):
    """From one number to the next, once, whatever became of the attempts before."""
    for _ in range(200):
        try:
            if not spanner.session:
                spanner.open()
            begun = spanner.read("Notes", ["number"], "a", transaction=BEGIN)
            found = int(begun.rows[0].values[0].string_value)
            assert found in (step - 1, step)
            if found == step:
                return
            spanner.commit(begun, write("update", "Notes", ["id", "number"], ["a", step]))
            return
        except errors.NotFound:
            spanner.session = ""
        except (errors.Aborted, errors.ServiceUnavailable, errors.DeadlineExceeded):
            continue
    raise AssertionError("no success in 200 attempts")


# Google's own client

HIGH_LEVEL = """
import os, sys
os.environ["SPANNER_DISABLE_BUILTIN_METRICS"] = "true"  # they ask Google where this machine is
from google.auth.credentials import AnonymousCredentials
from google.cloud import spanner

client = spanner.Client(project="test-project", credentials=AnonymousCredentials())
database = client.instance("test-instance").database("test-database")
with database.batch() as batch:
    batch.insert("Notes", ["id", "number"], [["a", 1]])

def double(transaction):
    [[number]] = list(transaction.read("Notes", ["number"], spanner.KeySet(keys=[["a"]])))
    transaction.update("Notes", ["id", "number"], [["a", 2 * number]])

database.run_in_transaction(double)
with database.snapshot() as snapshot:
    print(list(snapshot.read("Notes", ["id", "number"], spanner.KeySet(keys=[["a"]]))))
with database.snapshot() as snapshot:
    print(list(snapshot.execute_sql("SELECT number FROM Notes WHERE id = 'a'")))
sys.stdout.flush()
os._exit(0)  # closing the database joins a thread that sleeps for minutes
"""


@pytest.mark.slow
def test_the_high_level_client_of_google_runs_on_it(fake):
    """In a process of its own, since it cannot be closed quickly."""
    environment = {**os.environ, "SPANNER_EMULATOR_HOST": fake.host}
    done = subprocess.run(
        [sys.executable, "-c", HIGH_LEVEL], capture_output=True, text=True, timeout=50, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[['a', 2]]", "[[2]]"]
    assert {"Commit", "StreamingRead", "ExecuteStreamingSql"} <= fake.rpcs.keys()
