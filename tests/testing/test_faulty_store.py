"""``FaultyStore``: which call fails, and who waits where."""

import asyncio

import pytest

import lro_aio as lro
from lro_aio.testing import FaultyStore


@pytest.fixture
def store():
    store = FaultyStore(lro.SqliteStore("sqlite://"))
    store.open()
    yield store
    store.close()


def outcomes(store, calls):
    failed = []
    for _ in range(calls):
        try:
            store.read(["operations/a"])
            failed.append(False)
        except lro.StoreUnavailableError:
            failed.append(True)
    return failed


@pytest.mark.parametrize(
    ("fault", "failed"),
    [
        ({}, [True, False, False, False]),
        ({"nth": 3}, [False, False, True, False]),
        ({"nth": 2, "times": 2}, [False, True, True, False]),
        ({"nth": 2, "times": 0}, [False] * 4),
    ],
)
def test_the_calls_that_a_test_names_fail(store, fault, failed):
    store.fail("read", **fault)
    assert outcomes(store, 4) == failed


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.asyncio
async def test_a_test_waits_for_a_call_that_is_held(store, when):
    held = store.hold("read", when=when)
    with pytest.raises(TimeoutError):
        await held.reached(timeout=0.01)
    reading = asyncio.create_task(asyncio.to_thread(store.read, ["operations/a"]))
    await held.reached()
    assert not reading.done()
    held()
    assert await reading == []
