"""``lro dashboard``: for whoever has the link, and for nobody else."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

import lro_aio as lro
from lro_aio.cli.app import app

from .conftest import SAME, field


@contextmanager
def running(*options: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "lro_aio.cli", "dashboard", *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "LOGNAME": "ada"},
    )  # fmt: skip
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip(), process
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


async def make(store: str) -> str:
    async with lro.Client(store) as client:
        return (await client.create(lease=False)).name


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite:////{tmp_path / 'operations.db'}"


@pytest.mark.slow
@pytest.mark.asyncio
@pytest.mark.blocks_the_loop("it waits for the command")
async def test_the_link_opens_it_once_and_a_cookie_from_then_on(store: str) -> None:
    name = await make(store)
    with running("--store", store) as (link, process):
        base = link.partition("?")[0]
        assert base.startswith("http://127.0.0.1:")
        async with httpx.AsyncClient(base_url=base, timeout=20) as http:
            assert (await http.get("")).status_code == 403
            assert (await http.get("", params={"token": "wrong"})).status_code == 403
            opened = await http.get(link)
            assert (opened.status_code, opened.headers["location"]) == (303, "./")
            assert "HttpOnly" in opened.headers["set-cookie"]
            page = await http.get("operation", params={"name": name})
            assert "ada" in page.text
            confirm = await http.post("confirm", data={"verb": "cancel", "name": name}, headers=SAME)
            form = {"verb": "cancel", "name": name, "id": field(confirm.text, "id")}
            assert (await http.post("act", data=form, headers=SAME)).status_code == 303
        assert process.poll() is None
    assert process.returncode in (143, -15)


@pytest.mark.slow
@pytest.mark.asyncio
@pytest.mark.blocks_the_loop("it waits for the command")
async def test_read_only_changes_nothing(store: str) -> None:
    name = await make(store)
    with running("--store", store, "--read-only") as (link, _):
        async with httpx.AsyncClient(follow_redirects=True, timeout=20) as http:
            page = await http.get(link)
            assert "Overview" in page.text
            form = {"verb": "cancel", "name": name}
            refused = await http.post(f"{link.partition('?')[0]}confirm", data=form, headers=SAME)
            assert refused.status_code == 403


def test_a_store_that_does_not_exist_is_said(store: str) -> None:
    done = CliRunner().invoke(app, ["dashboard", "--store", store])
    assert (done.exit_code, "does not exist" in done.stderr, done.stdout) == (5, True, "")


def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    url = f"sqlite:////{tmp_path / 'operations.db'}"
    asyncio.run(make(url))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = CliRunner().invoke(app, ["dashboard", "--store", url, "--port", str(taken.getsockname()[1])])
    assert (done.exit_code, "cannot be used" in done.stderr, done.stdout) == (5, True, "")
