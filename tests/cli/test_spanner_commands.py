"""``lro spanner``: what it prints, and what it exits with."""

import subprocess
import sys

import grpc
import pytest
from google.protobuf import descriptor_pb2

from lro_aio.stores.spanner import schema
from lro_aio.testing import FakeSpanner


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.delenv("SPANNER_EMULATOR_HOST", raising=False)
    with FakeSpanner(variant=None) as running:
        yield running


def problem_of(result):
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("lro: ")
    return line


def statements_of(result):
    return [text.strip() for text in result.stdout.split(";\n") if text.strip()]


class TestDdl:
    @pytest.mark.parametrize("variant", schema.VARIANTS)
    def test_it_prints_the_statements_and_nothing_else(self, lro, variant):
        result = lro("spanner", "ddl", "--variant", variant, "--table", "Mine")
        assert result.exit_code == 0
        assert statements_of(result) == schema.ddl("Mine", variant)
        assert result.stderr == ""

    def test_the_default_is_the_proto_variant_of_operations(self, lro):
        assert statements_of(lro("spanner", "ddl")) == schema.ddl("Operations", "proto")

    def test_it_writes_the_descriptor_set_for_those_who_use_gcloud(self, lro, tmp_path):
        file = tmp_path / "descriptors.pb"
        assert lro("spanner", "ddl", "--descriptors", str(file)).exit_code == 0
        files = descriptor_pb2.FileDescriptorSet.FromString(file.read_bytes()).file
        assert "google/longrunning/operations.proto" in [each.name for each in files]

    def test_a_file_that_cannot_be_written_is_a_usage_problem(self, lro, tmp_path):
        result = lro("spanner", "ddl", "--descriptors", str(tmp_path / "no" / "file"))
        assert result.exit_code == 2
        assert "cannot write" in problem_of(result)

    def test_what_cannot_be_a_table_is_refused(self, lro):
        result = lro("spanner", "ddl", "--table", "x-y")
        assert result.exit_code == 2
        assert "'x-y' cannot be the name of the table" in problem_of(result)


class TestMigrate:
    @pytest.mark.parametrize("variant", schema.VARIANTS)
    def test_it_makes_the_table_and_says_so_and_a_second_run_has_nothing_to_do(self, lro, fake, variant):
        first = lro("spanner", "migrate", fake.url, "--variant", variant)
        assert (first.exit_code, first.stdout) == (0, "")
        assert f"is up to date; {len(schema.ddl('T', variant))} statements applied" in first.stderr
        second = lro("spanner", "migrate", fake.url)
        assert (second.exit_code, second.stdout) == (0, "")
        assert "is up to date; nothing to do" in second.stderr

    def test_a_dry_run_prints_what_the_next_run_applies(self, lro, fake):
        dry = lro("spanner", "migrate", fake.url, "--dry-run")
        assert dry.exit_code == 0
        assert statements_of(dry) == schema.ddl("Operations", "proto")
        assert fake.rpcs["UpdateDatabaseDdl"] == 0
        assert "16 statements applied" in lro("spanner", "migrate", fake.url).stderr

    def test_a_policy_of_somebody_else_is_kept_and_told_until_it_is_to_be_replaced(self, lro, fake):
        lro("spanner", "migrate", fake.url)
        theirs = "REPLACE ROW DELETION POLICY (OLDER_THAN(UpdateTime, INTERVAL 30 DAY))"
        change_schema(fake.url, f"ALTER TABLE Operations {theirs}")
        kept = lro("spanner", "migrate", fake.url)
        assert kept.exit_code == 0
        assert "OLDER_THAN(UpdateTime, INTERVAL 30 DAY) is kept" in kept.stderr
        assert "--replace-ttl" in kept.stderr
        replaced = lro("spanner", "migrate", fake.url, "--replace-ttl")
        assert "1 statement applied" in replaced.stderr
        assert "--replace-ttl" not in replaced.stderr

    @pytest.mark.parametrize("url", ["spanner://p/i", "sqlite://", "nonsense", "spanner://p1/i1/d1?colour=red"])
    def test_a_malformed_url_is_a_usage_problem_that_shows_the_form(self, lro, url):
        result = lro("spanner", "migrate", url)
        assert result.exit_code == 2
        assert "spanner://PROJECT/INSTANCE/DATABASE" in problem_of(result)

    def test_a_server_that_does_not_answer_is_exit_code_5(self, lro, monkeypatch):
        monkeypatch.delenv("SPANNER_EMULATOR_HOST", raising=False)
        result = lro("spanner", "migrate", "spanner://p-1/i-1/d-1?host=127.0.0.1:1&timeout=0.3")
        assert result.exit_code == 5
        assert "the store is unavailable" in problem_of(result)

    def test_a_table_that_cannot_be_upgraded_is_exit_code_5_and_says_why(self, lro, fake):
        lro("spanner", "migrate", fake.url, "--variant", "bytes")
        result = lro("spanner", "migrate", fake.url, "--variant", "proto")
        assert result.exit_code == 5
        assert "has the variant bytes" in problem_of(result)

    def test_a_missing_permission_is_exit_code_5_and_names_the_role(self, lro, fake):
        fake.fail("UpdateDatabaseDdl", grpc.StatusCode.PERMISSION_DENIED, times=9)
        result = lro("spanner", "migrate", fake.url)
        assert result.exit_code == 5
        assert "roles/spanner.databaseAdmin" in problem_of(result)

    def test_ctrl_c_is_exit_code_130(self, lro, monkeypatch):
        from lro_aio.stores.spanner import migrate

        def interrupted(*_, **__):
            raise KeyboardInterrupt

        monkeypatch.setattr(migrate, "migrate", interrupted)
        assert lro("spanner", "migrate", "spanner://p-1/i-1/d-1").exit_code == 130


class TestCheck:
    def test_a_table_that_can_be_used_is_exit_code_0(self, lro, fake):
        lro("spanner", "migrate", fake.url)
        result = lro("spanner", "check", fake.url)
        assert (result.exit_code, result.stdout) == (0, f"{fake.url} can be used\n")

    def test_a_policy_of_somebody_else_is_told(self, lro, fake):
        lro("spanner", "migrate", fake.url)
        change_schema(
            fake.url, "ALTER TABLE Operations REPLACE ROW DELETION POLICY (OLDER_THAN(UpdateTime, INTERVAL 90 DAY))"
        )
        result = lro("spanner", "check", fake.url)
        assert result.exit_code == 0
        assert "removes rows 90 days after their UpdateTime" in result.stdout
        assert "--replace-ttl" in result.stdout

    def test_what_is_missing_for_queues_and_what_to_do_is_told(self, lro, fake):
        lro("spanner", "migrate", fake.url)
        change_schema(fake.url, "DROP TABLE Operations_Starts")
        result = lro("spanner", "check", fake.url)
        assert result.exit_code == 0
        assert f"{fake.url} has no queues: the table Operations has no tables for them yet" in result.stdout
        assert "run `lro spanner migrate" in result.stdout

    def test_a_table_that_cannot_be_used_is_exit_code_5_and_says_why(self, lro, fake):
        result = lro("spanner", "check", fake.url)
        assert result.exit_code == 5
        assert "there is no table Operations" in problem_of(result)
        assert lro("spanner", "check", "spanner://p/i").exit_code == 2


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["ddl"], ["migrate", "spanner://p-1/i-1/d-1"]], ids=" ".join)
def test_without_the_extra_both_commands_name_the_install_command(arguments):
    """In a process of its own, where google.cloud.spanner_v1 and the admin API cannot be imported."""
    script = (
        "import sys\n"
        "sys.modules['google.cloud.spanner_v1'] = sys.modules['google.cloud.spanner_admin_database_v1'] = None\n"
        "from lro_aio.cli import main\n"
        f"sys.argv = ['lro', 'spanner', *{arguments!r}]\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert done.stderr.startswith("lro: google.cloud.spanner")
    assert "pip install 'lro-aio[spanner,cli]'" in done.stderr


@pytest.mark.slow
def test_the_other_commands_load_nothing_of_spanner():
    script = "import sys, lro_aio.cli.app; sys.exit(any(name.startswith('google.cloud') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", script], timeout=30).returncode == 0


def change_schema(url, statement):
    from lro_aio.stores.spanner.connection import Connection
    from lro_aio.stores.spanner.location import Location
    from lro_aio.stores.spanner.migrate import _Admin

    connection = Connection(Location.parse(url))
    try:
        _Admin(connection, 10, lambda _: None).update([statement])
    finally:
        connection.close()
