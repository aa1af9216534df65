"""Questions of a tool to whoever called it: a durable wait for a message, with words and a form."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from mcp.server.elicitation import render_elicitation_schema
from pydantic import BaseModel

from lro_aio.core.journal import Entry, Kind, parts_of
from lro_aio.core.kept import decode_value
from lro_aio.core.policies import Duration
from lro_aio.core.record import Record, State
from lro_aio.engine.operation import Operation

__all__ = ["Question", "ask", "open_questions"]

F = TypeVar("F", bound=BaseModel)

ASK = "ask "
"""What the names of the steps that keep questions begin with."""
NO_FORM: dict[str, Any] = {"type": "object", "properties": {}}


async def ask(
    op: Operation[Any, Any], topic: str, message: str, form: type[F], *, timeout: Duration | None = None
) -> F | None:
    """Ask the caller of the tool, and wait for the answer, which may take days and holds no process.

    The task is ``input_required`` meanwhile. The answer is a message to the operation: ``client.send(name, topic,
    {...})`` answers as well as the caller does, and None as a payload declines.

    Args:
        op: The tool's operation.
        topic: Names the question: each of an operation has a name of its own.
        message: The question, for a person.
        form: What the answer looks like: a pydantic model with fields that are text, numbers, booleans or choices.
        timeout: Seconds or a timedelta; None waits for as long as it takes.

    Returns:
        The answer; None where the caller has declined.

    Raises:
        WaitDeadlineExceededError: None came in time.
        StateCodecError: What came is not the form's. It names the field.
        TypeError: The form has a field that the protocol has no input for.
        ValueError: The topic is malformed, or was asked before in this run.
    """
    question = {"message": message, "schema": render_elicitation_schema(form)}

    async def asked() -> dict[str, Any]:
        return question

    await op.step(f"{ASK}{topic}", asked)
    answer: F | None = await op.receive(topic, cast("Any", form | None), timeout=timeout)
    return answer


@dataclass(frozen=True, slots=True)
class Question:
    """One that has no answer yet."""

    topic: str
    message: str
    schema: dict[str, Any]

    @property
    def request(self) -> dict[str, Any]:
        """As the client is asked."""
        params = {"mode": "form", "message": self.message, "requestedSchema": self.schema}
        return {"method": "elicitation/create", "params": params}


def open_questions(record: Record, journal: Sequence[Entry]) -> dict[str, Question]:
    """What an operation waits for, by keys of which none ever stands for two questions.

    Those of ``ask``, and the topics of ``op.receive`` and ``op.suspend(messages=)`` once the operation is suspended.
    """
    if record.done or record.cancel_requested:
        return {}
    over = Counter(_topics_over(journal))
    asked = {question.topic: question for question in _asked(journal)}
    waiting = {topic: question for topic, question in asked.items() if not over[topic]}
    wait = record.wait
    if record.state is State.SUSPENDED and wait is not None and wait.news is None:
        for topic in wait.topics:
            waiting.setdefault(topic, Question(topic, f"The tool waits for {topic!r}.", NO_FORM))
    return {f"{topic}.{over[topic] + 1}": question for topic, question in waiting.items()}


def _asked(journal: Sequence[Entry]) -> Iterator[Question]:
    for entry in journal:
        name, _ = parts_of(entry.key)
        if entry.kind == Kind.STEP and name.startswith(ASK):
            told = decode_value(entry.payload, entry.codec)
            yield Question(name.removeprefix(ASK), told["message"], told["schema"])


def _topics_over(journal: Sequence[Entry]) -> Iterator[str]:
    """The topic of each message, and of each wait that timed out."""
    for entry in journal:
        name, _ = parts_of(entry.key)
        if entry.kind == Kind.MESSAGE:
            yield name
        elif entry.kind == Kind.TIMEOUT and name.startswith("receive "):
            yield name.removeprefix("receive ")
