"""The gRPC metadata that Google's own client sends beside each request, and the generated one leaves out."""

from __future__ import annotations

__all__ = ["TO_LEADER", "Header", "prefix"]

Header = tuple[str, str]

TO_LEADER: Header = ("x-goog-spanner-route-to-leader", "true")
"""Of what writes, or may: an instance of several regions sends it to the region of the leader at once, and not first to
the nearest one (https://cloud.google.com/spanner/docs/leader-aware-routing). A read outside of a read-write transaction
goes without: any replica may answer it."""


def prefix(database_path: str) -> Header:
    """Of every call: the resource by which the service routes it, and counts it."""
    return "google-cloud-resource-prefix", database_path
