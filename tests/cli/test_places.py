"""Which server or store ``lro`` talks to, and what it says of one that is not there."""

import os
import pty
import select
import socket
import subprocess
import sys
import time

import pytest

from lro_aio.cli.problems import Exit

from ..waiting import block_until
from .conftest import start_site, stop_site


def test_one_of_server_and_store_must_be_given(lro, site):
    for arguments in ([], [*site.at("server"), *site.at("store")]):
        result = lro("list", *arguments)
        assert result.exit_code == 2
        assert "--server HOST:PORT or --store URL" in result.stderr
        assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("kind", ["server", "store"])
def test_the_environment_names_the_default(lro, site, kind):
    env = {f"LRO_{kind.upper()}": getattr(site, kind)}
    assert lro("get", "done", env=env).exit_code == 0


def test_an_option_wins_over_the_environment(lro, site):
    env = {"LRO_SERVER": "127.0.0.1:1", "LRO_STORE": "sqlite:///nowhere.db"}
    assert lro("get", "done", *site.at("store"), env=env).exit_code == 0
    assert lro("get", "done", env=env).exit_code == 2


def test_a_server_that_is_not_there_is_5(lro):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # so that nobody else has it, and nobody listens
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        for verb in (["list"], ["get", "x"], ["wait", "x"], ["watch", "x"], ["cancel", "x"], ["delete", "x"]):
            result = lro(*verb, "--server", address)
            assert (result.exit_code, result.stdout) == (5, "")
            assert len(result.stderr.splitlines()) == 1
            assert "does not answer" in result.stderr


def test_a_store_that_does_not_exist_is_5_and_is_not_made(lro, tmp_path):
    for verb in (["list"], ["get", "x"], ["cancel", "x"]):
        result = lro(*verb, "--store", f"sqlite:///{tmp_path}/typo.db")
        assert result.exit_code == 5
        assert result.stderr == f"lro: the store {tmp_path}/typo.db does not exist\n"
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_store_is_5_and_stays_as_it_is(lro, tmp_path):
    notes = tmp_path / "notes.txt"
    notes.write_text("not a database, but dear to somebody")
    for verb in (["list"], ["cancel", "x"]):
        assert lro(*verb, "--store", f"sqlite:///{notes}").exit_code == 5
    assert notes.read_text() == "not a database, but dear to somebody"


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:/one-slash.db", "nonsense", "spanner://p/i/d?table=t"])
def test_a_url_that_cannot_be_right_is_2(lro, url):
    result = lro("list", "--store", url)
    assert (result.exit_code, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.slow
def test_looking_writes_nothing(lro, tmp_path):
    """A newer release that looks at an older service's store must not upgrade it under its feet."""
    site = start_site(tmp_path)
    stop_site(site)
    database = tmp_path / "operations.db"
    before = database.read_bytes()
    database.chmod(0o444)
    for verb in (["list"], ["get", "done"], ["wait", "done"], ["watch", "done"]):
        assert lro(*verb, *site.at("store")).exit_code == 0
    assert database.read_bytes() == before


@pytest.mark.slow
def test_a_wait_outlives_a_restart_of_the_server(tmp_path):
    site = start_site(tmp_path)
    command = [sys.executable, "-m", "lro_aio.cli", "wait", "gate-0", "--timeout", "30", *site.at("server")]
    try:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as waiting:
            block_until(lambda: "WaitOperation" in site.calls())
            with pytest.raises(subprocess.TimeoutExpired):
                waiting.wait(1.0)  # and it waits for the answer
            site.process.kill()
            stop_site(site)
            site = start_site(tmp_path, port=int(site.server.rpartition(":")[2]))
            site.open_gate(0)
            output, problems = waiting.communicate(timeout=30)
        assert (waiting.returncode, problems) == (0, "")
        assert "opened" in output
    finally:
        stop_site(site)


@pytest.mark.slow
def test_a_terminal_gets_a_progress_bar(site):
    ours, theirs = pty.openpty()
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "30"}
    command = [sys.executable, "-m", "lro_aio.cli", "watch", "gate-11", *site.at("server")]
    with subprocess.Popen(command, stdout=theirs, stderr=subprocess.PIPE, env=env) as process:
        os.close(theirs)
        shown = read_until(ours, b"50%")
        site.open_gate(11)
        shown += read_until(ours, None)
        assert (process.wait(20), process.stderr.read()) == (0, b"")
    os.close(ours)
    assert "━" in shown.decode()
    assert b"succeeded" in shown


def read_until(terminal, wanted, seconds=20.0):
    """What the terminal showed up to ``wanted``, or up to the end."""
    shown = b""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and (wanted is None or wanted not in shown):
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                more = os.read(terminal, 65536)
            except OSError:  # Linux says so when the other side has closed
                return shown
            if not more:
                return shown
            shown += more
    assert wanted is None or wanted in shown
    return shown


class TestEntryPoint:
    def run(self, code, *arguments):
        command = [sys.executable, "-c", code, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    @pytest.mark.slow
    @pytest.mark.parametrize("module", ["typer", "rich"])
    def test_a_missing_extra_names_the_install_command(self, module):
        code = f"import sys; sys.modules[{module!r}] = None; from lro_aio.cli import main; main()"
        done = self.run(code, "list")
        assert (done.returncode, done.stdout) == (2, "")
        assert "pip install 'lro-aio[cli]'" in done.stderr
        assert len(done.stderr.splitlines()) == 1

    @pytest.mark.slow
    @pytest.mark.parametrize("module", ["fastapi", "uvicorn"])
    def test_the_demo_names_the_extra_that_it_needs(self, module):
        code = f"import sys; sys.modules[{module!r}] = None; from lro_aio.cli import main; main()"
        done = self.run(code, "demo")
        assert (done.returncode, done.stdout) == (2, "")
        assert "pip install 'lro-aio[cli,fastapi]'" in done.stderr

    @pytest.mark.slow
    def test_the_installed_script_is_main(self):
        done = subprocess.run(
            [os.path.join(os.path.dirname(sys.executable), "lro"), "--version"],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        assert done.stdout.startswith("lro 0.")


def test_help_and_documentation_name_every_exit_code(lro):
    import lro_aio.cli

    for arguments in (["--help"], ["wait", "--help"], ["demo", "--help"]):
        shown = {line.split()[0] for line in lro(*arguments).stdout.splitlines() if line.strip()}
        assert {str(int(code)) for code in Exit} <= shown
    assert all(f"\n{int(code)} " in lro_aio.cli.__doc__ for code in Exit)


def test_unknown_commands_and_options_are_2(lro):
    assert lro("bogus").exit_code == 2
    assert lro("list", "--bogus").exit_code == 2
    assert lro("list", "--limit", "-1").exit_code == 2
    assert lro().exit_code == 2
