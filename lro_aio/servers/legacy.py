"""The Go package's way to resume: the method that created an operation is called again, with a header that names it.

This is the weaker way. A resume token is good for one wait and one run. A header with a name is good for ever, so a
call that comes late, early or twice cannot be told from the right one: a late call may end the operation's *next* wait.
Where the scheduler is yours to choose, use the resume endpoints.

====================  ===============================================================================================
the Go package        here
====================  ===============================================================================================
WithResumeMethod      ``resume_method``: the handler whose operations the method creates and resumes
WithCallbackFn        that handler: it goes on where no call comes (local development), or where a call died
WithResumeHost        the ``resume_host`` of the scheduler
WithExistingOperation ``client.operation(name)``: the operation in the hands of a visitor
====================  ===============================================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lro_aio
from lro_aio.client import Client
from lro_aio.core.tracing import CALLER, HEADER, well_formed
from lro_aio.engine.operation import Operation
from lro_aio.servers.verifying import Verifier, check_verifier, verified

__all__ = ["operation_of_call"]


async def operation_of_call(
    client: Client, headers: Mapping[str, str], resume_method: str | None, verifier: Verifier | None
) -> Operation[Any]:
    """What ``operation_from_context`` and ``operation_from_request`` do; see there.

    Args:
        client: Open.
        headers: Headers or metadata, with lower-case names.
        resume_method: Of the method that was called.
        verifier: None: no caller may resume.
    """
    if verifier is not None:
        check_verifier(verifier)
    elif resume_method is not None:
        raise ValueError(
            "resume_method needs a verifier: the name of an operation is not secret, so a call that resumes one must"
            " prove who sent it"
        )
    sent = headers.get(lro_aio.OPERATION_ID_HEADER, "")
    if not sent:
        caller = CALLER.set(well_formed(headers.get(HEADER, "")))
        try:
            return await (client.create() if resume_method is None else client.server_host.start_by_hand(resume_method))
        finally:
            CALLER.reset(caller)
    name = sent if "/" in sent else f"operations/{sent}"
    if verifier is None:
        return await client.operation(name)
    await verified(verifier, headers)
    return await client.server_host.claim_suspended(name, handler=resume_method or "")
