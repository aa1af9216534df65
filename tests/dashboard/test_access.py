"""Who gets in, and who may do what: decided on the server, for each request."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import httpx
import pytest
from starlette.requests import Request

import lro_aio as lro
from lro_aio.dashboard import Access, Dashboard
from lro_aio.dashboard.access import VERBS

from .conftest import SAME, Serve, everybody

pytestmark = pytest.mark.asyncio

PATHS = (
    "",
    "operations",
    "operation?name=operations/a",
    "failures",
    "queues",
    "schedules",
    "workers",
    "api/overview",
    "api/queues",
    "api/schedules",
    "events",
    "static/dashboard.js",
)


def asgi(app: Dashboard, *, address: str = "127.0.0.1", host: str = "127.0.0.1") -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, client=(address, 50000))
    return httpx.AsyncClient(transport=transport, base_url=f"http://{host}/")


async def test_without_authorize_this_machine_may_look_and_do_nothing(client: lro.Client) -> None:
    async with asgi(Dashboard(client)) as http:
        assert (await http.get("")).status_code == 200
        refused = await http.post("confirm", data={"verb": "cancel", "name": "operations/a"}, headers=SAME)
    assert refused.status_code == 403
    assert "your access does not allow you to cancel" in refused.text


@pytest.mark.parametrize(
    ("address", "host", "headers"),
    [
        ("10.0.0.8", "127.0.0.1", {}),
        ("127.0.0.1", "rebound.example", {}),
        ("127.0.0.1", "127.0.0.1", {"X-Forwarded-For": "127.0.0.1"}),
        ("127.0.0.1", "127.0.0.1", {"Forwarded": "for=10.0.0.8"}),
        ("127.0.0.1.example", "127.0.0.1", {}),
    ],
)
async def test_without_authorize_nobody_else_gets_in(
    client: lro.Client, caplog: pytest.LogCaptureFixture, address: str, host: str, headers: dict[str, str]
) -> None:
    """Neither through a proxy on this machine, nor by a name that was made to lead here."""
    async with asgi(Dashboard(client), address=address, host=host) as http:
        for path in PATHS:
            assert (await http.get(path, headers=headers)).status_code == 403
    assert {record.event for record in caplog.records} == {"dashboard_refused"}  # type: ignore[attr-defined]


async def test_this_machine_has_other_names(client: lro.Client) -> None:
    for address, host in (("::1", "[::1]:80"), ("::ffff:127.0.0.1", "localhost"), ("127.0.0.9", "LOCALHOST:8080")):
        async with asgi(Dashboard(client), address=address) as http:
            assert (await http.get("", headers={"Host": host})).status_code == 200


def raising(request: Request) -> Access:
    raise LookupError("no such session")


async def never(request: Request) -> Access:
    await asyncio.Event().wait()
    return Access.full()


@pytest.mark.parametrize(
    ("authorize", "said"),
    [
        (lambda request: None, "authorize says so"),
        (lambda request: True, "gave bool"),
        (raising, "authorize raised LookupError('no such session')"),
        (never, "did not answer within 0.01 s"),
    ],
)
async def test_what_is_no_access_is_refused_with_a_log_line(
    client: lro.Client, caplog: pytest.LogCaptureFixture, authorize: Any, said: str
) -> None:
    patience = 0.01 if authorize is never else 30
    async with asgi(Dashboard(client, authorize=authorize, authorize_timeout=patience)) as http:
        for path in PATHS:
            assert (await http.get(path)).status_code == 403
        refused = await http.get("")
    assert all(said in record.getMessage() for record in caplog.records if record.levelno == logging.WARNING)
    assert said not in refused.text
    assert "<nav" not in refused.text


async def test_a_plain_function_may_block_and_is_given_up(client: lro.Client) -> None:
    go = threading.Event()

    def slow(request: Request) -> Access:
        go.wait(30)
        return Access.full()

    async with asgi(Dashboard(client, authorize=slow, authorize_timeout=0.05)) as http:
        try:
            assert (await http.get("")).status_code == 403
        finally:
            go.set()


@pytest.mark.parametrize("sync", [True, False])
async def test_authorize_may_be_sync_or_async_and_sees_the_request(client: lro.Client, sync: bool) -> None:
    def plain(request: Request) -> Access | None:
        return Access.read_only("grace") if request.headers.get("x-key") == "secret" else None

    async def waiting(request: Request) -> Access | None:
        return plain(request)

    async with asgi(Dashboard(client, authorize=plain if sync else waiting)) as http:
        assert "grace" in (await http.get("", headers={"X-Key": "secret"})).text
        assert (await http.get("")).status_code == 403


@pytest.mark.parametrize("verb", VERBS)
async def test_each_action_needs_its_own_permission_at_both_of_its_steps(serve: Serve, verb: str) -> None:
    others = Access(**{other: other != verb for other in VERBS})  # type: ignore[arg-type]  # its booleans
    async with serve(authorize=everybody(others)) as site:
        name = await site.started("asks")
        form = {"verb": verb, "name": name, "id": "0" * 32, "topic": "approval"}
        for path in ("confirm", "act"):
            assert (await site.http.post(path, data=form, headers=SAME)).status_code == 403
        assert f'value="{verb}"' not in await site.get("operation", name=name)
        assert not (await site.json("operation", name=name))["cancelRequested"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "null"},
        {"Origin": "http://evil.example"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "SELF"},
    ],
)
async def test_a_form_of_another_site_is_refused(serve: Serve, headers: dict[str, str]) -> None:
    async with serve() as site:
        name = await site.started("asks")
        own = str(site.http.base_url).rstrip("/")
        sent = {key: own if value == "SELF" else value for key, value in headers.items()}
        for path in ("confirm", "act"):
            form = {"verb": "cancel", "name": name, "id": "0" * 32}
            assert (await site.http.post(path, data=form, headers=sent)).status_code == 403
        assert not (await site.json("operation", name=name))["cancelRequested"]


async def test_an_older_browser_says_by_its_origin_that_the_form_is_ours(serve: Serve) -> None:
    async with serve() as site:
        own = {"Origin": str(site.http.base_url).rstrip("/")}
        page = await site.http.post("confirm", data={"verb": "cancel", "name": "operations/a"}, headers=own)
        assert page.status_code == 200


async def test_nothing_is_done_by_get(serve: Serve) -> None:
    async with serve() as site:
        for path in ("act", "confirm"):
            assert (await site.http.get(path, params={"verb": "cancel", "name": "operations/a"})).status_code == 405
        refused = await site.http.put("act")
        assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD, POST")


async def test_every_answer_forbids_inline_code_frames_and_strangers(serve: Serve) -> None:
    async with serve() as site:
        name = await site.started("fails", "no")
        for path in (*PATHS[:-2], "missing", "static/dashboard.js", f"operation?name={name}"):
            answer = await site.http.get(path)
            policy = answer.headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; style-src 'self'; script-src 'self'")
            assert "unsafe" not in policy
            assert "frame-ancestors 'none'" in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
            if "html" in answer.headers["content-type"]:
                assert not any(word in answer.text for word in ("style=", "onclick", "<script>", "http-equiv"))
                assert not [link for link in answer.text.split('src="')[1:] if not link.startswith("static/")]


async def test_authorize_may_read_the_form_too(serve: Serve) -> None:
    async def authorize(request: Request) -> Access:
        return Access.full() if b"verb=cancel" in await request.body() else Access.read_only()

    async with serve(authorize=authorize) as site:
        form = {"verb": "cancel", "name": "operations/a"}
        assert "Cancel 1 operation?" in (await site.http.post("confirm", data=form, headers=SAME)).text


@pytest.mark.parametrize("host", ["[", "a'; rm -rf ~", "<b>"])
async def test_a_host_that_makes_no_sense_breaks_nothing(serve: Serve, host: str) -> None:
    async with serve() as site:
        name = await site.started("echo")
        answer = await site.http.get(f"operation?name={name}", headers={"Host": host})
        assert "<b>" not in answer.text
        assert answer.status_code in (200, 400)
