"""What to say where the packages that a name stands on are not installed."""

from __future__ import annotations

__all__ = ["needs"]


def needs(name: str, extra: str) -> ImportError:
    """The error to raise where the name is used.

    Args:
        name: As users write it, without the package.
        extra: Brings what is missing.
    """
    return ImportError(f"lro_aio.{name} needs an extra that is not installed: pip install 'lro-aio[{extra}]'")
