"""The same service over HTTP.  Usage: uvicorn app:app"""

from fastapi import FastAPI, Response
from pydantic import BaseModel, Field
from reports import ReportState, handlers

import lro_aio as lro
from lro_aio.servers.fastapi import install_error_handlers, lifespan, operation_response, operations_router

client = lro.Client("sqlite:///reports.db", handlers=[handlers], lease=lro.LeasePolicy(duration=2))
app = FastAPI(title="Reports", lifespan=lifespan(client))  # opens the client at the start, drains it at the end
install_error_handlers(app)


class NewReport(BaseModel):
    title: str = Field(min_length=1)
    pages: int = Field(3, ge=1, le=100)
    request_id: str = ""


@app.post("/v1/reports")
async def create_report(report: NewReport) -> Response:
    op = await client.start(
        "create-report", ReportState(title=report.title, pages=report.pages), request_id=report.request_id
    )
    return operation_response(op)


app.include_router(operations_router(client))  # after the application's own routes below /v1
