"""The dashboard inside of applications of other frameworks, below a prefix and behind a proxy."""

from __future__ import annotations

import re
import sys
from collections.abc import MutableMapping
from functools import partial
from html import unescape
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import httpx
import pytest

import lro_aio as lro
from lro_aio.dashboard import Access

from ..serving import served
from .conftest import SAME, Serve, Site, everybody, field

pytestmark = pytest.mark.asyncio

Scope = MutableMapping[str, Any]


PAGE = (Path(__file__).parents[2] / "docs" / "dashboard.md").read_text(encoding="utf-8")


def shown(file: str, client: lro.Client, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The application of a file of the documentation, beside a service with this client."""
    service = SimpleNamespace(client=client, authorize=everybody(Access.full("ada")))
    monkeypatch.setitem(sys.modules, "service", service)  # type: ignore[arg-type]  # it is imported like a module
    source = PAGE.partition(f"<!-- test: file={file} -->\n\n```python\n")[2].partition("```")[0]
    module = ModuleType(file)
    monkeypatch.setitem(sys.modules, file, module)
    exec(compile(source, file, "exec"), vars(module))
    return module.app


def litestar(client: lro.Client, monkeypatch: pytest.MonkeyPatch) -> Any:
    framework = pytest.importorskip("litestar", reason="Litestar is not installed: the extra dev-apps has it")
    quiet = partial(framework.Litestar, logging_config=None)  # it would set up logging for the whole process
    monkeypatch.setattr(framework, "Litestar", lambda routes, lifespan: quiet([*routes, framework.get("/")(home)]))
    return shown("films.py", client, monkeypatch)


async def home() -> str:
    return "home"


def django(client: lro.Client, monkeypatch: pytest.MonkeyPatch) -> Any:
    settings = pytest.importorskip("django.conf", reason="Django is not installed: the extra dev-apps has it").settings
    from django.http import HttpResponse
    from django.urls import path

    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "none")
    if not settings.configured:
        urls = (path("", lambda request: HttpResponse("home")),)
        settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=urls, LOGGING_CONFIG=None)
    return shown("asgi.py", client, monkeypatch)


async def tour(site: Site) -> None:
    """All pages, each link of theirs, the JSON, and an action."""
    name = await site.started("asks")
    for page in ("", "operations", "failures", "workers", f"operation?name={name}"):
        for link in set(re.findall(r'(?:href|src)="([^"#]+)"', await site.get(page))):
            answer = await site.http.get(unescape(link))
            assert answer.status_code == 200, (page, link)
    assert (await site.json("operation", name=name))["name"] == name
    page = await site.confirm(verb="cancel", name=name)
    form = {"verb": "cancel", "name": name, "id": field(page.text, "id")}
    answer = await site.http.post("act", data=form, headers=SAME)
    assert answer.status_code == 303
    after = httpx.URL(str(answer.url)).join(answer.headers["location"])
    assert (await site.http.get(after)).status_code == 200


@pytest.fixture(params=[litestar, django])
def app(request: pytest.FixtureRequest, client: lro.Client, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Outside of the event loop, which the imports of a framework would block."""
    return request.param(client, monkeypatch)


async def test_it_works_below_a_prefix(serve: Serve, app: Any) -> None:
    async with serve(app, path="/lro/") as site:
        await tour(site)
        assert (await site.http.get(str(site.http.base_url.join("/")))).text == "home"
        bare = await site.http.get(str(site.http.base_url).rstrip("/"), follow_redirects=True)
        assert (bare.status_code, bare.url.path) == (200, "/lro/")


@pytest.mark.parametrize("told", [True, False])
async def test_it_works_behind_a_proxy_that_takes_a_prefix_away(serve: Serve, app: Any, told: bool) -> None:
    """Whether or not the server is told of it, as by ``--root-path``."""

    async def proxied(scope: Scope, receive: Any, send: Any) -> None:
        path = scope["path"].removeprefix("/outside")
        root = {"root_path": "/outside"} if told else {}
        await app({**scope, "path": path, "raw_path": path.encode(), **root}, receive, send)

    async with serve(proxied, path="/outside/lro/") as site:
        await tour(site)


@pytest.fixture
def beside_django(handlers: lro.Handlers, monkeypatch: pytest.MonkeyPatch) -> tuple[lro.Client, Any]:
    alone = lro.Client("sqlite://", handlers=handlers)
    return alone, django(alone, monkeypatch)


async def test_beside_django_it_opens_the_client_with_the_server(beside_django: tuple[lro.Client, Any]) -> None:
    alone, app = beside_django
    async with served(app, lifespan="on") as url, httpx.AsyncClient(base_url=url) as http:
        assert alone.is_open
        assert (await http.get("/lro/")).status_code == 200
    assert not alone.is_open
