"""Operations as tasks of the Model Context Protocol: an agent calls a tool, and asks for its result later.

The extension ``io.modelcontextprotocol/tasks`` (2026-07-28) over the official SDK. A tool is a handler; a task is an
operation, and survives the process that serves it.
"""

from __future__ import annotations

from lro_aio._missing import needs

try:
    import mcp.server.extension as _extension
except ImportError as exc:
    raise needs("mcp", "mcp") from exc

from lro_aio.mcp.asking import ask
from lro_aio.mcp.following import Answer, FollowTasks, TaskFailedError
from lro_aio.mcp.protocol import EXTENSION
from lro_aio.mcp.serving import Caller, Tasks, by_principal
from lro_aio.mcp.tools import Tools

__all__ = ["EXTENSION", "Answer", "Caller", "FollowTasks", "TaskFailedError", "Tasks", "Tools", "ask", "by_principal"]

del _extension
