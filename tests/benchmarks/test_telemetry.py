"""The floor of the telemetry benchmark tells as much of an operation as telemetry does."""

import asyncio

import pytest

import lro_aio as lro
from benchmarks.programs.lro_common import CountedStore
from benchmarks.programs.lro_runs import Program, handlers
from benchmarks.programs.lro_telemetry import TOGETHER, ByHand, LastBatch
from lro_aio.testing import TelemetryRecorder

from ..waiting import PATIENCE, until


def shown(span):
    names = {key: value for key, value in span.attributes.items() if key != "lro.operation.name"}
    return span.name, span.kind, names, "lro.operation.name" in span.attributes, len(span.links)


@pytest.mark.asyncio
async def test_by_hand_there_are_the_same_spans_and_entries(tmp_path):
    ours, theirs = TelemetryRecorder(), TelemetryRecorder()
    async with asyncio.timeout(PATIENCE):
        store = CountedStore(tmp_path / "ours.db")
        async with lro.Client(store, handlers=[handlers], telemetry=ours.telemetry) as client:
            await Program(store, client, tmp_path).once()
        store = CountedStore(tmp_path / "theirs.db")
        async with lro.Client(store, handlers=[handlers], telemetry=False) as client:
            by_hand = ByHand(store, client, tmp_path, theirs.tracer_provider, theirs.meter_provider)
            for _ in range(TOGETHER):
                await by_hand.once()
        await until(lambda: ours.points("lro.run.duration"))
    assert list(map(shown, theirs.spans()[:2])) == list(map(shown, ours.spans()))
    for metric in ("operation.duration", "run.duration", "operation.started", "operation.ended", "run.active"):
        (mine,), (other,) = ours.points(f"lro.{metric}"), theirs.points(f"hand.{metric}")
        assert dict(other.attributes) == dict(mine.attributes)
    assert sum(point.count for point in theirs.points("hand.run.duration")) == TOGETHER
    assert [point.value for point in theirs.points("hand.operation.ended")] == [TOGETHER]


def test_an_exporter_keeps_no_batch_but_the_last():
    exporter = LastBatch()
    exporter.export(["first"])
    exporter.export(["second"])
    assert exporter.batch == ["second"]
