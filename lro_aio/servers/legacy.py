"""The Go package's way to resume: the method that made an operation is called again, with a header that names it.

The weaker way. A resume token is good for one wait and one run; a header with a name is good for ever, so a call that
comes late, early or twice cannot be told from the right one: a late one may end the operation's *next* wait. Where the
scheduler is yours to choose, use the resume endpoints.

====================  ===============================================================================================
the Go package        here
====================  ===============================================================================================
WithResumeMethod      ``resume_method``: whose operations the method makes and takes. A registered handler's name
WithCallbackFn        the handler of that name: goes on where no call comes (local development), or where a call died
WithResumeHost        the ``resume_host`` of the scheduler
WithExistingOperation ``client.operation(name)``: a visitor's
====================  ===============================================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lro_aio
from lro_aio.client import Client
from lro_aio.engine.operation import Operation
from lro_aio.servers.verifying import Verifier, check_verifier, verified

__all__ = ["operation_of_call"]


async def operation_of_call(
    client: Client, headers: Mapping[str, str], resume_method: str | None, verifier: Verifier | None
) -> Operation[Any]:
    """What ``operation_from_context`` and ``operation_from_request`` do; see there.

    Args:
        client: Open.
        headers: Or metadata, with lower-case names.
        resume_method: Of the method that was called.
        verifier: None: nobody is let in.
    """
    if verifier is not None:
        check_verifier(verifier)
    elif resume_method is not None:
        raise ValueError(
            "resume_method needs a verifier: the name of an operation is no secret, so a call that resumes one must"
            " prove who sends it"
        )
    sent = headers.get(lro_aio.OPERATION_ID_HEADER, "")
    if not sent:
        return await (client.create() if resume_method is None else client.server_host.start_by_hand(resume_method))
    name = sent if "/" in sent else f"operations/{sent}"
    if verifier is None:
        return await client.operation(name)
    await verified(verifier, headers)
    return await client.server_host.claim_suspended(name, handler=resume_method or "")
