"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import sqlite3
import time
from pathlib import Path
from typing import Any

import lro_aio
from benchmarks.model import Plan


def described(plan: Plan) -> dict[str, Any]:
    """The first line of a run."""
    return {
        "kind": "run",
        "time": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "lro-aio": lro_aio.__version__,
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "platform": platform.platform(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory GB": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "load before": round(os.getloadavg()[0], 2),
        "quick": plan.quick,
        "rounds": plan.rounds,
    }


def processor() -> str:
    """Its name, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
