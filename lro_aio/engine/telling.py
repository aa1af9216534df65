"""What a handler tells of its progress; a base of ``Operation``."""

from __future__ import annotations

import datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from lro_aio.core.errors import OperationDoneError
from lro_aio.core.status import utf8
from lro_aio.engine.holding import Holding
from lro_aio.engine.suspension import moment

__all__ = ["Telling"]


class Telling:
    """Progress, in the metadata."""

    _hold: Holding

    async def progress(
        self,
        fraction: float | None = None,
        message: str | None = None,
        *,
        done: int | None = None,
        total: int | None = None,
        unit: str | None = None,
        eta: datetime.datetime | float | None = None,
    ) -> None:
        """Merge ``progress`` and ``message`` into the metadata; or count, in metadata of the type ``lro.v1.Progress``.

        Written at most once a second, the last one wins; what is not yet written is, before the operation ends or
        suspends. So is what a store that is away does not take: progress is no reason to stop the work.

        Args:
            fraction: From 0 to 1.
            message: For people.
            done: How many are done, instead of a fraction. From then on the metadata is an ``lro.v1.Progress``, in
                which ``message`` is the ``text``.
            total: How many there are; 0 for unknown. Kept from one call to the next, as the others.
            unit: What is counted, in the plural: "files".
            eta: When it will be done: an aware datetime or epoch seconds.

        Raises:
            TypeError: The metadata is of another type: neither a ``google.protobuf.Struct`` nor, for counts, empty or
                an ``lro.v1.Progress``. Or a count is no whole number.
            ValueError: ``fraction`` is out of range or given beside counts, or a count is negative.
            PayloadTooLargeError: Over ``Limits.metadata``.
            OperationDoneError: It has ended.
            LeaseLostError: This object does not hold the operation, or no longer. Only where the call writes at once.
        """
        if fraction is not None and not 0 <= fraction <= 1:
            raise ValueError(f"fraction must be from 0 to 1, not {fraction!r}")
        hold = self._hold
        if hold.record.done:
            raise OperationDoneError(hold.record.name, hold.record.state)
        counts = _checked(done, total, unit, eta)
        if counts and fraction is not None:
            raise ValueError("give a fraction, or done and total")
        if counts or (fraction is None and hold.progress.counts):
            if message is not None:
                counts["text"] = utf8(message)
            packed = hold.progress.counted(counts)
        else:
            packed = hold.progress.merged(fraction, message)
        hold.host.settings.limits.check("metadata", len(packed))
        await hold.progress.put(packed)


def _checked(
    done: int | None, total: int | None, unit: str | None, eta: datetime.datetime | float | None
) -> dict[str, Any]:
    """The fields that were given."""
    told: dict[str, Any] = {}
    for name, number in (("done", done), ("total", total)):
        if number is None:
            continue
        if isinstance(number, bool) or not isinstance(number, int):
            raise TypeError(f"{name} must be a whole number, not {number!r}")
        if not 0 <= number < 2**63:
            raise ValueError(f"{name} must be 0 or more, and below 2**63, not {number!r}")
        told[name] = number
    if unit is not None:
        told["unit"] = utf8(unit)
    if eta is not None:
        told["eta"] = Timestamp()
        told["eta"].FromNanoseconds(int(moment(eta) * 1e6) * 1000)
    return told
