"""``python -m lro_aio.testing.spanner``: the fake as a process, for tests that need one that outlives them.

Prints its URL and serves until its standard input ends. Each line on standard input is a command, answered with one
line: ``rpcs`` (the counts as JSON), ``reset`` (the counts to zero), ``latency SECONDS``, ``cpu`` (seconds used).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence

from lro_aio.testing.spanner.fake import FakeSpanner


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(prog="python -m lro_aio.testing.spanner", description=__doc__)
    parser.add_argument("--variant", choices=["proto", "bytes", "none"], default="proto", help="of the table made")
    parser.add_argument("--table", default="Operations", help="its name")
    parser.add_argument("--port", type=int, default=0, help="of the loopback interface; 0: any")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds added to every call")
    given = parser.parse_args(arguments)
    variant = None if given.variant == "none" else given.variant
    with FakeSpanner(variant=variant, table=given.table, port=given.port, latency=given.latency) as fake:
        _say(fake.url)
        for line in sys.stdin:
            _say(_answer(fake, line.split()))


def _answer(fake: FakeSpanner, words: list[str]) -> str:
    match words:
        case ["rpcs"]:
            return json.dumps(dict(fake.rpcs))
        case ["reset"]:
            fake.rpcs.clear()
        case ["latency", seconds]:
            fake.latency = float(seconds)
        case ["cpu"]:
            return str(time.process_time())
        case _:
            return f"unknown: {' '.join(words)}"
    return "ok"


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
