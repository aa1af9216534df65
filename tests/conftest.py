"""What every test stands on."""

import atexit
import gc
import importlib.util
import os
import shutil
import signal
import sys
import tempfile

import certifi
import hypothesis
import pytest

from .open_transports import pytest_runtest_teardown as pytest_runtest_teardown

pytest_plugins = ("pytester",)

# The lane with the lowest versions has no MCP SDK, which needs newer ones.
collect_ignore = [] if importlib.util.find_spec("mcp") else ["mcp", "docs/test_reference.py"]

os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # servers that tests cut off are no news; before grpc is imported

# Where no bytecode is kept, each worker compiles all tests, and each of the hundred interpreters that tests start all
# that it imports: a sixth of the time of a run. So it is kept, whatever the shell says.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# What is slow tells of a busy machine; what hangs meets the timeout of its test.
hypothesis.settings.register_profile("lro", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("lro")

# A shell that starts us in the background has SIGINT ignored, and ignored signals pass on to the programs that tests
# start and interrupt. A handler of our own does not: it is reset there.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _trust_one_authority():
    """Let HTTP clients load one certificate, not all: no test speaks TLS, and each client would need 50 ms for them."""
    with open(certifi.where()) as authorities:
        first, end, _ = authorities.read().partition("-----END CERTIFICATE-----\n")
    descriptor, path = tempfile.mkstemp(suffix=".pem", text=True)  # it goes with the directory of the run
    with os.fdopen(descriptor, "w") as file:
        file.write(first + end)
    os.environ["SSL_CERT_FILE"] = path  # the workers of xdist and the programs of tests inherit it


def _remove(path, owner):
    if os.getpid() == owner:
        shutil.rmtree(path, ignore_errors=True)


def _keep_apart():
    """Have temporary files in a directory of the run's own: what processes on PostgreSQL know of each other is there.

    The directories that tests ask pytest for stay where it keeps them.
    """
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
    folder = tempfile.mkdtemp(prefix="lro-tests-")
    os.chmod(folder, 0o711)  # a server that tests start may be another user's
    atexit.register(_remove, folder, os.getpid())
    os.environ["TMPDIR"] = tempfile.tempdir = folder  # the workers of xdist and the programs of tests inherit it


if "PYTEST_XDIST_WORKER" not in os.environ:
    _keep_apart()
    _trust_one_authority()


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Let the garbage collector pass over what is there before the first test: the modules and thousands of tests.

    It would go through all of that again and again, for a tenth of the time of a run, and find nothing.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()
        gc.set_threshold(5_000, 20)  # full collections took a tenth of a run, and found little
