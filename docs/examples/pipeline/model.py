"""Stands for a model that is paid by the call, takes its time, and is busy now and then.

Each call is one line of a ledger, which is on the disk before the work begins.
"""

import asyncio
import json
import os
import time

LEDGER = os.environ.get("MODEL_LEDGER", "ledger.jsonl")
SECONDS = float(os.environ.get("MODEL_SECONDS", "0.2"))


class BusyError(Exception):
    """Try again later."""


async def split(script: str) -> list[str]:
    """The scenes of a script."""
    await _paid("split", "")
    return [scene.strip() for scene in script.split(".") if scene.strip()]


async def render(scene: str, key: str) -> str:
    """The address of a clip. The first call for every other scene meets a busy model."""
    calls = await _paid("render", key)
    if calls == 1 and len(scene) % 2:
        raise BusyError("try again")
    return f"https://clips.example/{scene.lower().replace(' ', '-')}"


async def publish(clips: list[str], key: str) -> str:
    """The address of the video."""
    await _paid("publish", key)
    return f"https://videos.example/{len(clips)}-scenes-{key[:8]}"


async def _paid(call: str, key: str) -> int:
    with open(LEDGER, "a+") as ledger:
        ledger.write(json.dumps({"call": call, "key": key, "time": time.time(), "process": os.getpid()}) + "\n")
        ledger.flush()
        os.fsync(ledger.fileno())
        ledger.seek(0)
        calls = sum(key in line for line in ledger)
    await asyncio.sleep(SECONDS)
    return calls
