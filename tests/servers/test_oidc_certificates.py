"""The certificates of an issuer: fetched once, kept for as long as they say, and off the event loop."""

from __future__ import annotations

import asyncio
import threading

import pytest

from lro_aio.servers._certificates import Certificates, CertificatesUnavailableError, Fetched, lifetime


class Loader:
    """Certificates by hand, on a clock by hand."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.keys = {"a": "pem-a"}
        self.lifetime = 3600.0
        self.problem: Exception | None = None
        self.calls = 0
        self.hold: threading.Event | None = None
        self.certificates = Certificates(self, timeout=5, interval=5, now=lambda: self.now)

    def __call__(self) -> Fetched:
        self.calls += 1
        if self.hold is not None:
            self.hold.wait(5)
        if self.problem is not None:
            raise self.problem
        return Fetched(dict(self.keys), self.lifetime)


@pytest.mark.asyncio
class TestCache:
    async def test_certificates_are_fetched_again_when_they_are_old(self) -> None:
        loader = Loader()
        find = loader.certificates.find
        assert await find("a") == "pem-a"
        loader.now += 3599
        loader.keys = {"a": "pem-b"}
        assert await find("a") == "pem-a"
        loader.now += 1
        assert await find("a") == "pem-b"
        assert loader.calls == 2

    async def test_withdrawn_key_is_good_no_longer_than_the_issuer_said(self) -> None:
        loader = Loader()
        await loader.certificates.find("a")
        loader.now += 3600
        loader.keys = {"b": "pem-b"}
        assert await loader.certificates.find("a") is None
        loader.now += 3600
        loader.problem = OSError("down")
        with pytest.raises(CertificatesUnavailableError):
            await loader.certificates.find("b")

    async def test_unknown_key_is_looked_for_but_not_more_often_than_in_five_seconds(self) -> None:
        loader = Loader()
        find = loader.certificates.find
        await find("a")
        loader.keys = {"a": "pem-a", "new": "pem-new"}
        assert await find("new") is None  # published a moment ago: it comes again
        assert loader.calls == 1
        loader.now += 5
        assert await find("new") == "pem-new"
        for number in range(100):
            assert await find(f"forged-{number}") is None
        assert loader.calls == 2

    async def test_issuer_that_is_down_is_not_asked_by_every_caller(self) -> None:
        loader = Loader()
        loader.problem = OSError("down")
        for _ in range(20):
            with pytest.raises(CertificatesUnavailableError) as refused:
                await loader.certificates.find("a")
            assert 1 <= refused.value.retry_after <= 5
        assert loader.calls == 1
        loader.now += 5
        loader.problem = None
        assert await loader.certificates.find("a") == "pem-a"

    async def test_known_keys_are_good_while_the_issuer_is_down(self) -> None:
        loader = Loader()
        await loader.certificates.find("a")
        loader.now += 60
        loader.problem = OSError("down")
        with pytest.raises(CertificatesUnavailableError):  # it may be a new one
            await loader.certificates.find("new")
        assert await loader.certificates.find("a") == "pem-a"

    async def test_another_event_loop_can_go_on(self) -> None:
        loader = Loader()

        def elsewhere() -> str | None:
            return asyncio.run(loader.certificates.find("a"))

        assert await asyncio.to_thread(elsewhere) == "pem-a"
        loader.now += 3600
        assert await loader.certificates.find("a") == "pem-a"

    async def test_fetch_of_an_event_loop_that_stands_still_holds_nobody(self) -> None:
        loader = Loader()
        loader.hold = threading.Event()
        loop = asyncio.new_event_loop()
        asking = loop.create_task(loader.certificates.find("a"))
        try:
            await asyncio.to_thread(loop.run_until_complete, asyncio.wait([asking], timeout=0.05))
            loader.hold.set()
            loader.now += 5
            async with asyncio.timeout(5):
                assert await loader.certificates.find("a") == "pem-a"
            assert await asyncio.to_thread(loop.run_until_complete, asking) == "pem-a"
        finally:
            await asyncio.to_thread(loop.run_until_complete, loop.shutdown_default_executor())
            loop.close()

    @pytest.mark.parametrize(
        ("headers", "expected"),
        [
            ({}, 300),
            ({"Cache-Control": "no-store"}, 300),
            ({"Cache-Control": "public, max-age=20000, must-revalidate"}, 20000),
            ({"Cache-Control": "MAX-AGE=20000", "Age": "5000"}, 15000),
            ({"Cache-Control": "max-age=20000", "Age": "soon"}, 20000),
            ({"Cache-Control": "max-age=0"}, 60),
            ({"Cache-Control": "max-age=100", "Age": "90"}, 60),
            ({"Cache-Control": "max-age=31536000"}, 86400),
            ({"Cache-Control": "s-maxage=100, x-max-age=9000"}, 300),
            ({"Cache-Control": "max-age=-5"}, 300),
        ],
    )
    async def test_lifetime_is_what_the_issuer_says_within_limits(
        self, headers: dict[str, str], expected: float
    ) -> None:
        assert lifetime(headers) == expected
