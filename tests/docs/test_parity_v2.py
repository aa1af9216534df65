"""``docs/parity-v2.md`` names what a service writes down of the Go package's second version, and forms that exist."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from .parity_rows import resolve, rows, spans

PAGE = Path(__file__).resolve().parents[2] / "docs" / "parity-v2.md"
ROWS = list(rows(PAGE.read_text(encoding="utf-8")))

GO_NAMES = [
    "New", "NewFromEnv", "Config.Neuron", "Config.Project", "Config.SpannerProject", "Config.SpannerInstance",
    "Config.SpannerDatabase", "Config.DatabaseRole", "Config.CloudTasksProject", "Config.CloudTasksLocation",
    "Config.CloudTasksQueue", "Config.CloudTasksServiceAccount", "Config.Host", "WithHost",
    "Client.Close", "Client.AddResumableHandler", "Client.AddResumableHandlers", "ResumableHandler", "ResumeHandler",
    "Client.RegisterHTTPHandlers", "Client.RegisterHTTPHandlersAtPrefix", "Client.NewOperation",
    "Client.GetOperation", "Client.GetOperationPb", "Client.OperationsServer", "NewOperationsServer",
    "OperationsServer", "OperationsServer.GetOperation", "OperationsServer.WaitOperation", "WithDefaultWaitTimeout",
    "WithWaitPolling", "Operation.OperationPb", "Operation.Ctx", "Operation.ResumeViaTasks",
    "Operation.SetPrivateState", "Operation.DecodePrivateState", "Operation.SavePrivateState", "Operation.Save",
    "Operation.ResumePoint", "Operation.SetResumePoint", "Operation.SaveResumePoint", "Operation.SetMetadata",
    "Operation.SaveMetadata", "UnmarshalMetadata", "MustUnmarshalMetadata", "Operation.Complete", "Operation.Fail",
    "OperationRow", "key", "Operation", "State", "ResumePoint", "Method", "UpdateTime",
]  # fmt: skip
FORMS = [(row["Go"], form) for row in ROWS for form in spans(row["Here"])]


def test_every_go_name_has_one_row() -> None:
    assert sorted(name for row in ROWS for name in spans(row["Go"])) == sorted(GO_NAMES)


def test_every_row_has_a_form_or_a_reason() -> None:
    for row in ROWS:
        if row["Here"] == "none":
            assert len(row["Remarks"]) > 10, row
        else:
            assert re.sub(r"`[^`]+`|, ", "", row["Here"]) == "", row


@pytest.mark.parametrize(("name", "form"), FORMS, ids=[f"{name} -> {form}" for name, form in FORMS])
def test_the_form_exists(name: str, form: str) -> None:
    """And takes the argument that the page names."""
    match = re.fullmatch(r"(lro(?:_aio)?\.[\w.]+)(?:\((\w+)=\))?", form)
    assert match is not None, name
    found = resolve(match[1])
    if match[2]:
        assert match[2] in inspect.signature(found).parameters
