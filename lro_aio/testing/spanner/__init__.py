"""A Spanner for tests: an in-process gRPC server on loopback. Needs the extra ``spanner``."""

from lro_aio._missing import needs

try:
    from lro_aio.testing.spanner.fake import FakeSpanner
    from lro_aio.testing.spanner.gate import Call
    from lro_aio.testing.spanner.problems import SpannerError
except ModuleNotFoundError as exc:
    raise needs("testing.FakeSpanner", "spanner") from exc

__all__ = ["Call", "FakeSpanner", "SpannerError"]
