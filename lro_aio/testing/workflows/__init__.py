"""A Cloud Workflows for tests: an in-process gRPC server on loopback that runs the real definition.

Needs the extras ``workflows`` and ``testing``.
"""

from lro_aio._missing import needs

try:
    from lro_aio.testing.workflows.fake import FakeWorkflows
    from lro_aio.testing.workflows.requests import Request
    from lro_aio.testing.workflows.states import FakeExecution
except ModuleNotFoundError as exc:
    raise needs("testing.FakeWorkflows", "workflows,testing") from exc

__all__ = ["FakeExecution", "FakeWorkflows", "Request"]
