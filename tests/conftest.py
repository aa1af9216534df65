"""What every test stands on."""

import os
import signal

import pytest

os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # servers that tests cut off are no news; before grpc is imported

# A shell that starts us in the background has SIGINT ignored, and ignored signals pass on to the programs that tests
# start and interrupt. A handler of our own does not: it is reset there.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    """Who measures the event loop must not share the cores with another worker."""
    for item in items:
        if "loop_watch" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.alone)
