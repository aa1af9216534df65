"""A program as the harness runs them: says when it lived, and does what it is told."""

import asyncio
import json
import time
from contextlib import asynccontextmanager

from benchmarks.programs.common import main


class Diary:
    def __init__(self, folder):
        self.path = folder.parent / "diary.jsonl"

    def note(self, **entry):
        with self.path.open("a") as file:
            file.write(json.dumps(entry) + "\n")


async def add(first, second):
    return {"sum": first + second}


async def fail():
    raise RuntimeError("on purpose")


async def hang():
    await asyncio.sleep(600)


async def chatter():
    print("a library says something on standard output")  # and it is no answer
    return {"sum": 0}


@asynccontextmanager
async def program(arguments):
    diary = Diary(arguments.folder)
    began = time.monotonic()
    yield (
        {"versions": {"fake": arguments.version}, "durability": "none"},
        {"add": add, "fail": fail, "hang": hang, "chatter": chatter},
    )
    diary.note(version=arguments.version, began=began, ended=time.monotonic())


if __name__ == "__main__":
    main(program, "version")
