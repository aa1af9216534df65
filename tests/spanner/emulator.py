"""Runs a command with Google's Spanner emulator beside it: ``python -m tests.spanner.emulator COMMAND...``.

Where SPANNER_EMULATOR_HOST is set, that one is used. Otherwise the emulator's binary is started on a free port of the
loopback interface, and stopped when the command has ended. It is part of the Cloud SDK, and needs no Docker. ``--find``
prints where it is, and ends with status 1 where it is not.
"""

from __future__ import annotations

import collections
import contextlib
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

__all__ = ["find", "main", "running"]

BINARY = Path("bin", "cloud_spanner_emulator", "emulator_main")
"""Below the root of the Cloud SDK."""
FOLDERS = (
    "~/google-cloud-sdk",
    "/usr/lib/google-cloud-sdk",
    "/usr/share/google-cloud-sdk",
    "/usr/local/google-cloud-sdk",
    "/usr/local/share/google-cloud-sdk",
    "/opt/google-cloud-sdk",
    "/opt/homebrew/share/google-cloud-sdk",
    "/snap/google-cloud-cli/current",
    "/snap/google-cloud-sdk/current",
)
"""Where installers put the Cloud SDK."""
PATIENCE = 30.0
"""Seconds for the emulator to start."""
MISSING = (
    "Google's Spanner emulator is not installed: `gcloud components install cloud-spanner-emulator`"
    " (or the package google-cloud-cli-spanner-emulator), or set SPANNER_EMULATOR_HOST to the HOST:PORT of one that"
    " runs; infra/compose.yaml starts one at 127.0.0.1:9010"
)


def find(environment: Mapping[str, str] = os.environ, folders: Sequence[str] = FOLDERS) -> Path | None:
    """The emulator's binary: below the Cloud SDK that the environment names, that of ``gcloud``, or a usual one."""
    roots = [Path(environment["CLOUDSDK_ROOT_DIR"])] if environment.get("CLOUDSDK_ROOT_DIR") else []
    gcloud = shutil.which("gcloud", path=environment.get("PATH"))
    if gcloud is not None:
        roots.append(Path(gcloud).resolve().parents[1])
    roots += [Path(folder).expanduser() for folder in folders]
    return next((root / BINARY for root in roots if os.access(root / BINARY, os.X_OK)), None)


@contextlib.contextmanager
def running(binary: Path) -> Iterator[str]:
    """The emulator for as long as the context is open; gives its HOST:PORT.

    Raises:
        RuntimeError: It did not start.
    """
    command = [str(binary), "--host_port=127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        given_up = threading.Timer(PATIENCE, process.kill)
        given_up.start()
        reader = threading.Thread(target=collections.deque, args=(process.stdout, 0))  # a full pipe would stop it
        try:
            address = _address(process.stdout)
            given_up.cancel()
            reader.start()
            yield address
        finally:
            given_up.cancel()
            process.terminate()
            process.wait()
            if reader.ident is not None:
                reader.join()


def _address(output: Iterator[str]) -> str:
    said = []
    for line in output:
        said.append(line)
        _, found, address = line.partition("Server address: ")
        if found:
            return address.strip()
    raise RuntimeError(f"the Spanner emulator did not start: {''.join(said).strip() or 'it said nothing'}")


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns its status, or 2 where there is no emulator."""
    binary = find()
    if list(arguments) == ["--find"]:
        print(binary or MISSING, file=sys.stdout if binary else sys.stderr)
        return 0 if binary else 1
    if os.environ.get("SPANNER_EMULATOR_HOST"):
        return subprocess.call(arguments)
    if binary is None:
        print(MISSING, file=sys.stderr)
        return 2
    with running(binary) as address:
        print(f"{binary} at {address}", flush=True)
        return subprocess.call(arguments, env={**os.environ, "SPANNER_EMULATOR_HOST": address})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
