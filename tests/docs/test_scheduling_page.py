"""``docs/scheduling.md`` speaks the truth: its tables are those of the workflow, of the endpoints and of the code."""

from __future__ import annotations

import inspect
import re
import xml.etree.ElementTree as ET
from importlib import resources
from pathlib import Path

import pytest

import lro_aio as lro
from lro_aio import client
from lro_aio.schedulers import _remote, cloud_tasks, workflows
from lro_aio.servers import resume

DOCS = Path(__file__).resolve().parents[2] / "docs"
TEXT = (DOCS / "scheduling.md").read_text(encoding="utf-8")
WORKFLOW = resources.files("lro_aio.schedulers").joinpath("workflow.yaml").read_text(encoding="utf-8")


def table(*header: str) -> list[list[str]]:
    """The rows of the table whose header begins so."""
    (found,) = (
        match[0]
        for match in re.finditer(r"(?:^\|.*\n)+", TEXT, re.MULTILINE)
        if cells(match[0].splitlines()[0])[: len(header)] == list(header)
    )
    return [cells(line) for line in found.splitlines()[2:]]


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("|")[1:-1]]


def test_the_argument_is_the_one_that_the_workflow_reads() -> None:
    read = set(re.findall(r'args\.(\w+)|map\.get\(args, "(\w+)"\)', WORKFLOW))
    members = {first or second for first, second in read}
    assert {row[0].strip("`") for row in table("Member", "Meaning", "Default")} == members


@pytest.mark.parametrize("member", ["pollInterval", "maxPollInterval", "pollStyle"])
def test_the_defaults_are_those_of_the_workflow(member: str) -> None:
    found = re.search(rf'map\.get\(args, "{member}"\), "?(\w+)"?\)', WORKFLOW)
    assert found is not None
    (default,) = (row[2] for row in table("Member", "Meaning", "Default") if row[0] == f"`{member}`")
    assert default.strip('"') == found[1]


def test_the_reasons_are_those_that_the_endpoint_takes_and_the_workflow_gives() -> None:
    rows = table("Reason", "Meaning")
    assert {row[0].strip("`") for row in rows} == set(resume.REASONS)
    assert set(re.findall(r"^ +reason: ([A-Z_]+)$", WORKFLOW, re.MULTILINE)) == set(resume.REASONS)
    for said, _, seen in rows:
        meant = resume.REASONS[said.strip("`")]
        assert seen.startswith(f"`{meant.value}`" if meant is not None else "never seen")


def test_the_variables_are_those_that_are_read() -> None:
    rows = [[cell.strip("`") for cell in row] for row in table("Variable", "Argument")]
    source = inspect.getsource(lro.Client.from_env)
    read = dict(re.findall(r'"(\w+)": \(\w+, "(ALIS_\w+)"\)', source))
    assert {argument: variable for variable, argument, _ in rows if variable != "none"} == read
    options = {"options"}
    assert {argument for _, argument, _ in rows} == set(inspect.signature(lro.Client.from_env).parameters) - options


def test_the_limits_are_those_of_the_code() -> None:
    assert f"{resume.MAX_PENDING} names and {resume.MAX_PENDING_BYTES // 1024} KB of them" in TEXT
    assert f"| {workflows.MAX_NAMES // 1024} KB, as JSON" in TEXT
    assert resume.MAX_BODY == 1024 * 1024
    assert f"for {cloud_tasks.LONGEST / 86400:.0f} days at most" in TEXT
    assert f"{cloud_tasks.MAX_DISPATCH:,.0f} s" in TEXT
    assert f"{_remote.HORIZON / 3600:.0f} hours later" in TEXT
    longest = _remote.LONG_CAP / _remote.SHORT_CAP
    assert f"is {_remote.LONG_CAP:,.0f} s from {longest:.0f} days on" in TEXT
    assert f"It is {_remote.SHORT_CAP:.0f} s for waits of a day or less" in TEXT
    assert f"`poll_interval` ({inspect.signature(lro.Operation.suspend).parameters['poll_interval'].default} s)" in TEXT


def test_the_retries_of_the_workflow_are_those_of_the_page() -> None:
    assert re.search(r"max_retries: 20\s+backoff:\s+initial_delay: 1\s+max_delay: 600\s+multiplier: 2", WORKFLOW)
    assert "up to 20 times, after 1, 2, 4, ... 600 s" in TEXT
    assert "failures > 12" in WORKFLOW
    assert "thirteen in a row" in TEXT


def test_the_warning_about_cloud_run_is_the_one_that_is_logged() -> None:
    shown = re.search(r"(?:^    this runs on Cloud Run.*\n)(?:^    .*\n)+", TEXT, re.MULTILINE)
    assert shown is not None
    logged = "".join(re.findall(r'^ +"([^"\n]+)",?$', inspect.getsource(client.Client.__aenter__), re.MULTILINE))
    assert " ".join(shown[0].split()) == logged


def test_the_costs_are_those_of_the_page_that_works_them_out() -> None:
    found = re.search(r"^30 days +([\d.]+) +([\d.]+) ", (DOCS / "deploy.md").read_text("utf-8"), re.MULTILINE)
    assert found is not None
    assert f"about {float(found[1]):.0f} dollars of steps | about {float(found[2]):.0f} dollars of calls" in TEXT


def test_the_picture_is_a_drawing_that_needs_nothing_else() -> None:
    """It is XML, has a size and a title, and loads nothing."""
    root = ET.parse(DOCS / "scheduling.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert {"viewBox", "width", "height"} <= set(root.keys())
    assert root.findtext("{http://www.w3.org/2000/svg}title")
    used = {element.tag.partition("}")[2] for element in root.iter()}
    assert used <= {"svg", "title", "rect", "path", "circle", "text"}
    assert "(scheduling.svg)" in TEXT
