"""The store on Cloud Spanner. Needs the extra ``spanner``."""

from lro_aio._missing import needs

try:
    from lro_aio.stores.spanner.store import SpannerStore
except ModuleNotFoundError as exc:
    raise needs("SpannerStore", "spanner") from exc

__all__ = ["SpannerStore"]
