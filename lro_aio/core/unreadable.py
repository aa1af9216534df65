"""A row that is there and cannot be decoded, in the place of its record: only whoever asks for it gets the error."""

from __future__ import annotations

from dataclasses import dataclass

from google.longrunning import operations_proto_pb2 as operations_pb2

from lro_aio.core.errors import StoreDataError
from lro_aio.core.record import Record, State
from lro_aio.core.status import to_status

__all__ = ["UnreadableRecord"]


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadableRecord(Record):
    """What a read returns for such a row, so that the other rows of the same read reach their readers.

    To the engine it looks like a row that another program drives: nothing is known of its state, and nobody here acts
    on it.
    """

    problem: str
    """Why it cannot be decoded."""

    @classmethod
    def of(cls, error: StoreDataError) -> UnreadableRecord:
        """The record for a row whose decoding raised this error."""
        return cls(
            name=error.name, uid="", state=State.RUNNING, create_time=0.0, update_time=0.0, problem=error.problem
        )

    def check_visible(self, now: float) -> Record:  # noqa: ARG002 - it is refused at any time
        """Refuse to be read.

        Raises:
            StoreDataError: Always.
        """
        raise StoreDataError(self.name, self.problem)

    def to_operation(self) -> operations_pb2.Operation:
        """The public message for those who asked for several: done, with DATA_LOSS."""
        return operations_pb2.Operation(
            name=self.name, done=True, error=to_status(StoreDataError(self.name, self.problem))
        )
