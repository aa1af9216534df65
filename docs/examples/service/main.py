"""Reminders over HTTP: an operation sleeps for as long as you say, and then ends.

At your desk, on SQLite, at http://127.0.0.1:8080:  python main.py

On Cloud Run the same code is on Spanner, and Cloud Workflows wakes it. The variables come from infra/terraform.
"""

import logging
import os
from dataclasses import dataclass

import uvicorn
from fastapi import FastAPI, Response
from google.protobuf import wrappers_pb2
from pydantic import BaseModel, Field

import lro_aio as lro
from lro_aio.servers.fastapi import (
    install_error_handlers,
    lifespan,
    operation_response,
    operations_router,
    resume_router,
)

RESUME_HOST = os.environ.get("LRO_RESUME_HOST", "")  # this service's own URL; "" at a desk

handlers = lro.Handlers()


@dataclass
class Reminder:
    text: str = ""
    after: float = 0.0


@handlers.handler("remind", state=Reminder, resume_points=("say",))
async def remind(op: lro.Operation[Reminder]):
    if op.resume_point == "":
        await op.progress(0.0, "sleeping")
        return op.suspend(resume_at="say", sleep=op.state.after)  # a month of it holds no process
    return wrappers_pb2.StringValue(value=op.state.text)


def make_client() -> lro.Client:
    if not RESUME_HOST:
        return lro.Client("sqlite:///reminders.db", handlers=[handlers])
    return lro.Client.from_env(
        resume_host=RESUME_HOST, workflow=os.environ["LRO_WORKFLOW"], table="Operations", handlers=[handlers]
    )


client = make_client()
app = FastAPI(title="Reminders", lifespan=lifespan(client))
install_error_handlers(app)


class NewReminder(BaseModel):
    text: str = Field(min_length=1, max_length=1000)
    after: float = Field(ge=0, description="seconds")
    request_id: str = ""


@app.post("/v1/reminders")
async def create_reminder(reminder: NewReminder) -> Response:
    op = await client.start("remind", Reminder(reminder.text, reminder.after), request_id=reminder.request_id)
    return operation_response(op)


if RESUME_HOST:
    from lro_aio.servers.resume import OidcVerifier

    verifier = OidcVerifier(
        audience=RESUME_HOST,
        service_accounts=os.environ["LRO_CALLERS"].split(","),
        cloud_run_iam=os.environ["LRO_CLOUD_RUN_IAM"] == "true",  # not for a service that everybody may call
    )
    app.include_router(resume_router(client, verifier))
app.include_router(operations_router(client))  # after the application's own routes below /v1


class Server(uvicorn.Server):
    """On SIGTERM, hands the work over while it still answers. Cloud Run gives ten seconds: 7 to drain, 2 to close."""

    async def shutdown(self, sockets=None):
        await client.drain()
        await super().shutdown(sockets)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    host = "0.0.0.0" if RESUME_HOST else "127.0.0.1"
    port = int(os.environ.get("PORT", "8080"))
    Server(uvicorn.Config(app, host=host, port=port, timeout_graceful_shutdown=2)).run()
