"""SpannerStore keeps the contract of stores: in both variants of the table, and with calls that fail at random."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

import lro_aio as lro
from lro_aio.core.record import State
from lro_aio.testing import FakeSpanner
from lro_aio.testing.store_contract import StoreContract, WriteContract

ON_EMULATOR = bool(os.environ.get("SPANNER_EMULATOR_HOST"))
TIMEOUT = 120.0 if ON_EMULATOR else 20.0
"""Seconds: forty threads want one row, on a machine that may be busy. The emulator scans whole indexes besides."""


def maker(url: str) -> Callable[[], lro.SpannerStore]:
    return lambda: lro.SpannerStore.from_url(f"{url}&timeout={TIMEOUT}")


@pytest.mark.timeout(480 if ON_EMULATOR else 60)
class TestProto(StoreContract):
    """``Operation`` is a PROTO, the key generated from it."""

    @pytest.fixture
    def make_store(self, spanner_database: Callable[[str], str]) -> Callable[[], lro.SpannerStore]:
        return maker(spanner_database("proto"))

    @pytest.mark.slow
    @pytest.mark.not_on_emulator("a commit of a thousand rows takes it a quarter of a minute, and it has no limits")
    def test_a_thousand_rows_in_one_batch(self, store: lro.SpannerStore) -> None:
        super().test_a_thousand_rows_in_one_batch(store)

    @pytest.mark.slow
    @pytest.mark.not_on_emulator("every one of the hundreds of statements scans all rows 48 times there")
    def test_every_condition_holds_with_every_other(self, store: lro.SpannerStore) -> None:
        super().test_every_condition_holds_with_every_other(store)

    @pytest.mark.slow
    def test_every_look_gives_what_a_plain_loop_gives(self, store: lro.SpannerStore) -> None:
        super().test_every_look_gives_what_a_plain_loop_gives(store)

    @pytest.mark.slow
    @pytest.mark.parametrize("state", [State.RUNNING, State.SUCCEEDED])
    def test_every_field_comes_back_from_a_changed_row(self, store: lro.SpannerStore, state: State) -> None:
        super().test_every_field_comes_back_from_a_changed_row(store, state)


@pytest.mark.slow
@pytest.mark.timeout(480 if ON_EMULATOR else 60)
class TestBytes(StoreContract):
    """``Operation`` is BYTES, the key plain."""

    @pytest.fixture
    def make_store(self, spanner_database: Callable[[str], str]) -> Callable[[], lro.SpannerStore]:
        return maker(spanner_database("bytes"))

    @pytest.mark.slow
    @pytest.mark.not_on_emulator("a commit of a thousand rows takes it a quarter of a minute, and it has no limits")
    def test_a_thousand_rows_in_one_batch(self, store: lro.SpannerStore) -> None:
        super().test_a_thousand_rows_in_one_batch(store)

    @pytest.mark.slow
    @pytest.mark.not_on_emulator("every one of the hundreds of statements scans all rows 48 times there")
    def test_every_condition_holds_with_every_other(self, store: lro.SpannerStore) -> None:
        super().test_every_condition_holds_with_every_other(store)


@pytest.mark.not_on_emulator("it injects no faults")
@pytest.mark.slow
@pytest.mark.parametrize("variant", ["proto", "bytes"])
class TestWithFaults(WriteContract):
    """One call in twenty fails: before or after it was carried out, aborted, or with the loss of its session."""

    @pytest.fixture
    def make_store(self, variant: str, request: pytest.FixtureRequest) -> Iterator[Callable[[], lro.SpannerStore]]:
        with FakeSpanner(variant=variant) as fake:
            fake.idle_limit = 0.3  # a begin whose answer is lost, from the third attempt on, holds locks so long
            fake.chaos(0.05, seed=sum(request.node.name.encode()))
            yield maker(fake.url)
            failed = fake.faults_injected
        if sum(fake.rpcs.values()) > 200:
            assert failed > 0

    @pytest.mark.slow
    def test_a_thousand_rows_in_one_batch(self, store: lro.SpannerStore) -> None:
        super().test_a_thousand_rows_in_one_batch(store)
