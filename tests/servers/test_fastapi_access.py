"""Who may do what over HTTP: the hook ``authorize``, and pages of other sites."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import HTTPException

import lro_aio as lro

from .test_fastapi import HttpTo, app_of, problem

pytestmark = pytest.mark.asyncio


class TestAuthorize:
    async def test_every_verb_is_asked_for(self, client: lro.Client, http_to: HttpTo) -> None:
        asked: list[tuple[str, str]] = []

        async def authorize(request: Any, verb: str, name: str) -> bool:
            assert request.headers["x-user"] == "ada"
            asked.append((verb, name))
            return True

        op = await client.create()
        async with http_to(app_of(client, authorize=authorize), headers={"x-user": "ada"}) as http:
            await http.get(f"/v1/{op.name}")
            await http.get("/v1/operations")
            await http.get("/v1/projects/p/operations")
            await http.post(f"/v1/{op.name}:wait", json={"timeout": "0s"})
            await http.post("/google.longrunning.Operations/GetOperation", json={"name": op.name})
            await http.post(f"/v1/{op.name}:cancel")
            await http.post(f"/v1/{op.name}:send", json={"topic": "t"})
            for verb in ("pause", "unpause", "rerun"):
                await http.post(f"/v1/{op.name}:{verb}")
            await op.done()
            await http.get(f"/v1/{op.name}:watch")
            await http.delete(f"/v1/{op.name}")
        assert asked == [
            ("get", op.name),
            ("list", "operations"),
            ("list", "projects/p/operations"),
            ("wait", op.name),
            ("get", op.name),
            ("cancel", op.name),
            ("send", op.name),
            ("pause", op.name),
            ("unpause", op.name),
            ("rerun", op.name),
            ("wait", op.name),
            ("delete", op.name),
        ]

    @pytest.mark.parametrize(
        ("path", "spelling"), [("-", "-"), ("%2D", "-"), ("tenants/a", "tenants/a/operations"), ("%2e", "./operations")]
    )
    async def test_a_list_is_asked_for_in_one_spelling(
        self, client: lro.Client, http_to: HttpTo, path: str, spelling: str
    ) -> None:
        asked: list[str] = []

        def authorize(request: Any, verb: str, name: str) -> bool:
            asked.append(name)
            return False

        async with http_to(app_of(client, authorize=authorize)) as http:
            assert (await http.get(f"/v1/{path}/operations")).status_code == 403
        assert asked == [spelling]

    @pytest.mark.parametrize("raises", [False, True])
    async def test_refusal_comes_before_validation_and_existence(
        self, client: lro.Client, http_to: HttpTo, raises: bool
    ) -> None:
        def authorize(request: Any, verb: str, name: str) -> bool:
            if raises:
                raise PermissionError
            return False

        op = await client.create()
        async with http_to(app_of(client, authorize=authorize)) as http:
            answers = [
                await http.get(f"/v1/{op.name}"),
                await http.get("/v1/operations/none"),
                await http.get("/v1/operations//"),
                await http.get("/v1/operations?pageSize=x"),
                await http.post(f"/v1/{op.name}:wait", content=b"{"),
                await http.post(f"/v1/{op.name}:cancel"),
                await http.delete(f"/v1/{op.name}"),
                await http.get(f"/v1/{op.name}:watch"),
                await http.post("/google.longrunning.Operations/GetOperation", json={"name": op.name}),
            ]
        for answer in answers:
            assert problem(answer) == (403, "PERMISSION_DENIED", "PERMISSION_DENIED")
            assert "permission denied, or it might not exist" in answer.json()["error"]["message"]
        assert not (await client.get_operation(op.name)).done

    async def test_http_exception_of_the_hook_is_fastapis(self, client: lro.Client, http_to: HttpTo) -> None:
        def authorize(request: Any, verb: str, name: str) -> bool:
            raise HTTPException(401, "who are you?")

        async with http_to(app_of(client, authorize=authorize)) as http:
            answer = await http.get("/v1/operations/a")
        assert (answer.status_code, answer.json()) == (401, {"detail": "who are you?"})


class TestOtherSites:
    """What a page of another site can make a browser send, with its cookies and without a preflight."""

    @pytest.mark.parametrize("style", ["google", "azure"])
    @pytest.mark.parametrize(
        "kind", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain;charset=UTF-8"]
    )
    async def test_a_form_is_refused(self, client: lro.Client, http_to: HttpTo, style: Any, kind: str) -> None:
        op = await client.start("held")
        async with http_to(app_of(client, style=style)) as http:
            answer = await http.post(f"/v1/{op.name}:cancel", content=b"", headers={"content-type": kind})
        assert answer.status_code == 415
        assert not (await client.server_host.record(op.name)).cancel_requested

    @pytest.mark.parametrize(
        "headers",
        [
            {"sec-fetch-site": "cross-site"},
            {"sec-fetch-site": "same-site"},
            {"origin": "https://evil.example"},
            {"origin": "null"},
        ],
    )
    async def test_no_body_from_another_site_is_refused(
        self, client: lro.Client, http_to: HttpTo, headers: dict[str, str]
    ) -> None:
        op = await client.start("held")
        async with http_to(app_of(client)) as http:
            answer = await http.post(f"/v1/{op.name}:cancel", headers=headers)
            assert problem(answer) == (403, "PERMISSION_DENIED", "OTHER_SITE")
            assert not (await client.server_host.record(op.name)).cancel_requested
            asked_for = await http.post(f"/v1/{op.name}:cancel", headers=headers, json={})
            assert asked_for.status_code == 200, "a browser asks first, and the application's CORS settings answer"

    @pytest.mark.parametrize(
        "headers",
        [{}, {"sec-fetch-site": "same-origin"}, {"sec-fetch-site": "none"}, {"origin": "http://test"}],
    )
    async def test_no_body_is_fine_otherwise(
        self, client: lro.Client, http_to: HttpTo, headers: dict[str, str]
    ) -> None:
        op = await client.start("held")
        async with http_to(app_of(client)) as http:
            assert (await http.post(f"/v1/{op.name}:cancel", headers=headers)).status_code == 200
