"""Names that need an extra, or that this release does not have yet, and the sentence for each."""

from __future__ import annotations

__all__ = ["NAMES", "error", "needs"]

NAMES = {
    "RemoteOperation": "",
    "remote": "",
}
"""Public name -> the extra that brings its dependencies; "" where the base package has them."""


def error(name: str) -> ImportError:
    """What to raise where the name is used."""
    extra = NAMES[name]
    when = f"; when it is, it needs the extra: pip install 'lro-aio[{extra}]'" if extra else ""
    return ImportError(f"lro_aio.{name} is not part of this release{when}")


def needs(name: str, extra: str) -> ImportError:
    """What to raise where the name exists and the packages that it stands on are not installed."""
    return ImportError(f"lro_aio.{name} needs an extra that is not installed: pip install 'lro-aio[{extra}]'")
