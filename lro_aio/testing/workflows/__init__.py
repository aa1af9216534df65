"""A Cloud Workflows for tests: an in-process gRPC server on loopback that runs the real definition.

Needs the extra ``workflows``, and the package ``workflows-emulator``, whose engine runs the steps. That pins an old
FastAPI, which its engine does not need; so it is installed beside the rest::

    pip install --no-deps workflows-emulator==1.10.0
    pip install addict cryptography google-re2 jsonschema pyyaml requests typeguard
"""

from lro_aio._missing import needs

try:
    from lro_aio.testing.workflows.fake import FakeWorkflows
    from lro_aio.testing.workflows.requests import Request
    from lro_aio.testing.workflows.states import FakeExecution
except ModuleNotFoundError as exc:
    raise needs("testing.FakeWorkflows", "workflows") from exc

__all__ = ["FakeExecution", "FakeWorkflows", "Request"]
