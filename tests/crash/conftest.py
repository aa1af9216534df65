"""Real processes for the tests that kill them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import lro_aio as lro

from . import worker_process
from .processes import Workers


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    """Processes over stores in ``tmp_path``; none outlives the test."""
    workers = Workers(tmp_path)
    try:
        yield workers
    finally:
        workers.close()


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    """A file that all processes of the test share."""
    return f"sqlite:///{tmp_path / 'operations.db'}"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """The directory of what those processes know of each other."""
    return tmp_path / ".operations.db-lro"


@pytest.fixture
def crash_handlers(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> Iterator[lro.Handlers]:
    """The handlers of the worker program, to be run in the test's own process; they write to the same ledger."""
    ledger = worker_process.Ledger(str(workers.ledger))
    monkeypatch.setattr(worker_process, "LEDGER", ledger, raising=False)
    yield worker_process.handlers
    ledger.close()
