"""Shared by the programs that run ``lro_aio`` itself: a store that counts its transactions, what it says of itself."""

from __future__ import annotations

import platform
import sqlite3
from collections.abc import Sequence
from contextlib import AbstractContextManager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lro_aio as lro
from lro_aio.core.change import Change, Outcome


class CountedStore(lro.SqliteStore):
    """The SQLite store, and how many transactions it has committed."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.commits = 0

    def apply(self, changes: Sequence[Change]) -> list[Outcome]:
        self.commits += 1
        return super().apply(changes)

    def reading(self) -> AbstractContextManager[sqlite3.Connection]:
        """The connection that writes, for looking at the file."""
        return self._opened()[0].use()

    def durability(self) -> str:
        """As the open connection has it, not as it should be."""
        with self.reading() as connection:
            mode, level = (
                connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")
            )
        return sqlite_settings(mode, level)


def in_memory() -> lro.Telemetry:
    """Telemetry that OpenTelemetry's SDK takes, as it would in a service, and keeps in memory."""
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    tracers = TracerProvider()
    tracers.add_span_processor(BatchSpanProcessor(InMemorySpanExporter()))
    return lro.Telemetry(tracer_provider=tracers, meter_provider=MeterProvider([InMemoryMetricReader()]))


def sqlite_settings(mode: str, level: int) -> str:
    return f"SQLite, journal_mode={mode.upper()}, synchronous={('OFF', 'NORMAL', 'FULL', 'EXTRA')[level]}"


def hello(durability: str) -> dict[str, Any]:
    """What a program of ours says first."""
    return {
        "versions": {
            "lro-aio": lro.__version__,
            "python": platform.python_version(),
            "sqlite": sqlite3.sqlite_version,
            "protobuf": version("protobuf"),
            "grpcio": version("grpcio"),
        },
        "durability": durability,
    }
