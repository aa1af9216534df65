"""The error for a name whose packages are not installed."""

from __future__ import annotations

__all__ = ["needs"]


def needs(name: str, extra: str) -> ImportError:
    """The error to raise where the name is used.

    Args:
        name: The name as users write it, without the package.
        extra: The extra that installs the missing packages.
    """
    return ImportError(f"lro_aio.{name} needs an extra that is not installed: pip install 'lro-aio[{extra}]'")
