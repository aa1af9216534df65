"""What the resume endpoints refuse: callers that no verifier vouches for, and requests that are malformed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

import lro_aio as lro
from lro_aio.servers.resume import ResumeApp, UnauthenticatedError

from .resuming import HttpTo, Make, reason_of, suspended

pytestmark = pytest.mark.asyncio


class TestVerifier:
    @pytest.mark.parametrize("verifier", [None, "token", 7])
    async def test_one_is_required(self, client: lro.Client, make_app: Make, verifier: Any) -> None:
        with pytest.raises(TypeError, match="no default that accepts everyone"):
            make_app(client, verifier)
        with pytest.raises(TypeError):
            ResumeApp(client)  # type: ignore[call-arg]

    async def test_sees_the_headers_in_lower_case(self, client: lro.Client, make_app: Make, http_to: HttpTo) -> None:
        seen: list[Mapping[str, str]] = []

        async def verifier(headers: Mapping[str, str]) -> str:
            seen.append(headers)
            return "scheduler"

        async with http_to(make_app(client, verifier)) as http:
            headers = [("Authorization", "Bearer a"), ("X-Twice", "1"), ("X-Twice", "2")]
            assert (await http.post("/lro/sweep", headers=headers)).status_code == 200
        assert seen[0]["authorization"] == "Bearer a"
        assert seen[0]["x-twice"] == "1, 2"

    @pytest.mark.parametrize(
        ("exc", "authorization", "status"),
        [
            (PermissionError("secret"), None, 401),
            (PermissionError("secret"), "Bearer a", 403),
            (UnauthenticatedError("secret"), "Bearer a", 401),
            (UnauthenticatedError("secret"), None, 401),
            (lro.StoreUnavailableError("keys", retry_after=3), "Bearer a", 503),
            (KeyError("secret"), "Bearer a", 500),
        ],
    )
    async def test_refusals_come_before_anything_is_read(
        self,
        client: lro.Client,
        make_app: Make,
        http_to: HttpTo,
        exc: Exception,
        authorization: str | None,
        status: int,
    ) -> None:
        async def verifier(headers: Mapping[str, str]) -> str:
            raise exc

        name, token = await suspended(client)
        headers = {"authorization": authorization} if authorization else {}
        async with http_to(make_app(client, verifier), headers=headers) as http:
            for path in ("resume", "poll", "sweep"):
                for content in (json.dumps({"operation": name, "resumeToken": token}).encode(), b"{"):
                    answer = await http.post(f"/lro/{path}", content=content)
                    assert answer.status_code == status
                    assert "secret" not in answer.text
        assert ("www-authenticate" in answer.headers) == (status == 401)
        assert (await client.server_host.record(name)).state == "SUSPENDED"

    @pytest.mark.parametrize("returned", [None, "", False, True, 7])
    async def test_one_that_names_nobody_lets_nobody_in(
        self, client: lro.Client, make_app: Make, http_to: HttpTo, returned: Any
    ) -> None:
        async def verifier(headers: Mapping[str, str]) -> Any:
            return returned

        async with http_to(make_app(client, verifier)) as http:
            assert (await http.post("/lro/sweep")).status_code == 500

    async def test_one_that_is_not_async_lets_nobody_in(
        self, client: lro.Client, make_app: Make, http_to: HttpTo
    ) -> None:
        async with http_to(make_app(client, lambda headers: "scheduler")) as http:
            assert (await http.post("/lro/sweep")).status_code == 500


class TestMalformed:
    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{",
            b"[]",
            b'"x"',
            b"\xff",
            b"[" * 100_000,
            b"{}",
            b'{"operation": "operations/a"}',
            b'{"operation": "", "resumeToken": "t"}',
            b'{"operation": 7, "resumeToken": "t"}',
            b'{"operation": "operations/a", "resumeToken": null}',
            b'{"operation": "operations/a", "resumeToken": "t", "reason": "BORED"}',
            b'{"operation": "operations/a", "resumeToken": "t", "reason": "CANCEL_REQUESTED"}',
            b'{"operation": "operations/a", "resumeToken": "t", "reason": "MESSAGE"}',
            b'{"operation": "operations/a", "resumeToken": "t", "reason": 7}',
            b'{"operation": "operations/a", "resumeToken": "t", "pending": "operations/b"}',
            b'{"operation": "operations/a", "resumeToken": "t", "pending": [7]}',
            b'{"operation": "operations/a", "resumeToken": "t", "error": {"code": 1}}',
            b'{"operation": "operations/a", "resumeToken": "t", "error": "\\ud800"}',
        ],
    )
    async def test_resume_bodies_are_400(
        self, client: lro.Client, make_app: Make, http_to: HttpTo, body: bytes
    ) -> None:
        async with http_to(make_app(client)) as http:
            answer = await http.post("/lro/resume", content=body)
        assert (answer.status_code, reason_of(answer)) == (400, "INVALID_REQUEST")

    @pytest.mark.parametrize("body", [b"{}", b'{"operation": "operations/a", "resumeToken": "t", "operations": "x"}'])
    async def test_poll_bodies_are_400(self, client: lro.Client, make_app: Make, http_to: HttpTo, body: bytes) -> None:
        async with http_to(make_app(client)) as http:
            assert (await http.post("/lro/poll", content=body)).status_code == 400

    async def test_body_over_a_mebibyte_is_413(self, client: lro.Client, make_app: Make, http_to: HttpTo) -> None:
        async with http_to(make_app(client)) as http:
            for path in ("resume", "poll", "sweep"):
                answer = await http.post(f"/lro/{path}", content=b" " * (1024 * 1024 + 1))
                assert (answer.status_code, reason_of(answer)) == (413, "BODY_TOO_LARGE")

    async def test_other_methods_are_405_and_other_paths_404(
        self, client: lro.Client, make_app: Make, http_to: HttpTo
    ) -> None:
        async with http_to(make_app(client)) as http:
            for method in ("GET", "PUT", "DELETE"):
                answer = await http.request(method, "/lro/resume")
                assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
            for path in ("/lro", "/lro/other", "/lro/resume/x", "/resume", "/x/lro/resume"):
                assert (await http.post(path)).status_code == 404
