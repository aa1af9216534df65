"""What Google's emulator asks for and the service does not. Learned from its refusals, so only the emulator gets it."""

from __future__ import annotations

from google.api_core.exceptions import FailedPrecondition, GoogleAPICallError, InvalidArgument

__all__ = ["HINT", "is_emulators"]

HINT = "@{spanner_emulator.disable_query_null_filtered_index_check=true} "
"""Goes before a statement that names a null-filtered index. The service sees in the conditions that the statement wants
no NULL; the emulator checks only the declared columns."""

_IN_A_QUERY = "spanner_emulator.disable_query_null_filtered_index_check"
_IN_AN_UPDATE = "Implicit use of primary key default value"
"""It wants a value for every column with a default, in a table whose key is generated."""


def is_emulators(exc: GoogleAPICallError) -> bool:
    """Whether only the emulator refuses a call with this error."""
    message = str(exc.message)
    return (isinstance(exc, InvalidArgument) and _IN_A_QUERY in message) or (
        isinstance(exc, FailedPrecondition) and _IN_AN_UPDATE in message
    )
