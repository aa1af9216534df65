"""``lro`` as a process of its own: 1 stands for a failed operation, and for nothing else."""

import contextlib
import http.server
import os
import signal
import subprocess
import sys
import threading

import pytest

from ..waiting import block_until
from .test_commands import problem_of

MAIN = "from lro_aio.cli import main; main()"


def run(*arguments, before="", **options):
    """Run ``lro`` after some Python of the test's."""
    command = [sys.executable, "-c", f"{before}\n{MAIN}", *arguments]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
    return subprocess.run(command, timeout=60, check=False, **options)


def failing(exception):
    """Python after which the commands fail so."""
    return (
        "from lro_aio.cli import commands\n"
        f"async def fail(*arguments, **options): raise {exception}\n"
        "commands.get = fail"
    )


@pytest.fixture(scope="module")
def store(site):
    return site.at("store")


@pytest.mark.slow
def test_a_defect_has_its_traceback_and_is_70(store):
    done = run("get", "done", *store, before=failing("ZeroDivisionError('a defect')"))
    assert done.returncode == 70
    assert "Traceback" in done.stderr
    assert "a defect" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("exception", "code"),
    [
        ("KeyboardInterrupt", 130),
        ("BrokenPipeError", 141),
        ("OSError(28, 'No space left on device')", 70),
    ],
)
def test_no_exception_is_1(store, exception, code):
    assert run("get", "done", *store, before=failing(exception)).returncode == code


@pytest.mark.slow
def test_an_interrupt_while_the_program_starts_is_130():
    done = run("list", before="import sys, types\nclass T(types.ModuleType):\n"
               "    def __getattr__(self, name): raise KeyboardInterrupt\nsys.modules['rich'] = T('rich')")  # fmt: skip
    assert (done.returncode, done.stderr) == (130, "")


@pytest.mark.slow
def test_a_module_that_is_missing_by_mistake_is_70():
    done = run("list", before="import sys; sys.modules['lro_aio.cli.services'] = None")
    assert done.returncode == 70
    assert "Traceback" in done.stderr


@pytest.mark.slow
def test_an_output_that_nobody_reads_is_141_and_says_nothing(store):
    reader, writer = os.pipe()
    os.close(reader)
    for arguments in (["list", *store], ["--help"], ["workflow"]):
        done = run(*arguments, stdout=writer)
        assert (done.returncode, done.stderr) == (141, "")
    os.close(writer)


@pytest.mark.slow
def test_a_full_disk_is_70_and_said_in_a_sentence(store):
    with open("/dev/full", "w") as full:
        done = run("list", *store, stdout=full)
    assert done.returncode == 70
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_terminal_without_the_characters_gets_them_spelt_out(store):
    done = run("get", "nöpe", *store, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 2
    assert r"n\xf6pe" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--nope"],
        ["bogus"],
        ["get"],
        ["get", "x", "--nope"],
        ["wait", "x", "--timeout", "soon"],
        ["demo", "--pace", "x"],
    ]
    + [["wait", "x", "--timeout", timeout] for timeout in ("nan", "inf", "-1")],
)
@pytest.mark.slow
def test_a_command_line_that_cannot_be_right_is_2(arguments):
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["list", "--help"]])
def test_a_question_about_the_command_is_0(arguments):
    assert run(*arguments).returncode == 0


@pytest.mark.slow
def test_a_wait_that_is_terminated_is_143(site):
    command = [sys.executable, "-c", MAIN, "wait", "gate-0", *site.at("server")]
    before = site.calls().count("WaitOperation")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as waiting:
        block_until(lambda: site.calls().count("WaitOperation") > before)
        assert waiting.poll() is None
        waiting.send_signal(signal.SIGTERM)
        assert waiting.communicate(timeout=30) == ("", "")
    assert waiting.returncode in (143, -signal.SIGTERM)


PAGES = {
    "html": (200, "text/html", b"<html>Welcome!</html>"),
    "html-404": (404, "text/html", b"<html>no such page</html>"),
    "text-404": (404, "text/plain", b"default backend - 404"),
    "html-405": (405, "text/html", b"<html>not allowed</html>"),
    "html-501": (501, "text/html", b"<html>unsupported method</html>"),
    "login": (302, "text/html", b"<html>moved</html>"),
    "html-503": (503, "text/html", b"<html>down for maintenance</html>"),
}


@contextlib.contextmanager
def web_site(status, kind, body):
    """The URL of a site that answers every request so."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.send_header("Content-Type", kind)
            if status == 302:
                self.send_header("Location", "https://login.example.com/")
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_DELETE = do_GET

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    "page", ["html", *(pytest.param(page, marks=pytest.mark.slow) for page in PAGES if page != "html")]
)
def test_a_web_site_is_no_service(lro, page):
    with web_site(*PAGES[page]) as url:
        for verb in (["list"], ["get", "x"], ["wait", "x"], ["watch", "x"], ["cancel", "x"], ["delete", "x"]):
            for style in ("google", "azure"):
                if verb == ["list"] and style == "azure":
                    continue
                result = lro(*verb, "--url", url, "--style", style)
                assert (result.exit_code, result.stdout) == (5, ""), verb
                told = "does not answer" if page == "html-503" else "is not a service of operations"
                assert told in problem_of(result)


def test_tls_to_a_server_without_it_does_not_answer(lro):
    with web_site(*PAGES["html"]) as url:
        result = lro("get", "x", "--url", url.replace("http:", "https:"))
    assert result.exit_code == 5
    assert "does not answer: ConnectError: [SSL" in problem_of(result)


def test_a_wait_that_runs_out_tells_the_last_failure(lro):
    """The service has answered once, and is busy from then on."""
    answers = [(200, b'{"name": "operations/x"}')]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            status, body = answers.pop() if answers else (429, b'{"error": {"code": 429, "message": "no quota"}}')
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            result = lro("wait", "x", "--timeout", "2", "--url", f"http://127.0.0.1:{server.server_port}")
        finally:
            server.shutdown()
            thread.join()
    assert result.exit_code == 4
    assert "has not ended within 2 s; it goes on; the last poll failed: HTTP 429: no quota" in result.stderr
