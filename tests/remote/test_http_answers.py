"""What answers that are no good stand for, when to ask again, and where requests may go."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lro_aio.core.codes import HTTP_STATUS, Code
from lro_aio.core.errors import OperationNotFoundError, RemoteCallError, RemoteProtocolError
from lro_aio.core.status import retry_delay
from lro_aio.remote import retry_after
from lro_aio.remote.addresses import Addresses
from lro_aio.remote.answers import CODES, EXCEPTIONS, call_failed, check, check_done, refused
from lro_aio.remote.azure_errors import code_of, status_of_error
from lro_aio.remote.transport import NotTheServiceError


def problem(status: int, body: Any = None, **headers: str) -> RemoteCallError:
    content = {"content": body} if isinstance(body, bytes | None) else {"json": body}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return refused(httpx.Response(status, headers=named, **content), "operations/a")


def packed(message: Any) -> any_pb2.Any:
    made = any_pb2.Any()
    made.Pack(message)
    return made


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("\ud800"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(max_size=3)
            | st.sampled_from(["error", "code", "message", "status", "details", "innererror", "@type", "value"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


class TestCodes:
    def test_table_is_the_inverse_of_the_servers_where_that_has_one_answer(self) -> None:
        for http in set(HTTP_STATUS.values()) - {200}:
            codes = [code for code, number in HTTP_STATUS.items() if number == http]
            assert CODES[http] in codes
            if len(codes) == 1:
                assert [CODES[http]] == codes

    @pytest.mark.parametrize("status", [*range(300, 430), 499, *range(500, 530), 599])
    def test_only_what_may_pass_is_transient(self, status: int) -> None:
        passes = status in (408, 425, 429) or (status >= 500 and status != 501)
        assert problem(status).transient is passes

    @pytest.mark.parametrize("status", [404, 410])
    def test_missing_operation_is_its_own_error(self, status: int) -> None:
        with pytest.raises(OperationNotFoundError):
            check(httpx.Response(status), "operations/a")

    @pytest.mark.parametrize("status", [200, 201, 202, 204])
    def test_success_is_no_error(self, status: int) -> None:
        check(httpx.Response(status), "operations/a")

    @pytest.mark.parametrize(
        ("status", "body", "code", "message"),
        [
            (409, {"error": {"code": 409, "message": "m", "status": "ALREADY_EXISTS"}}, Code.ALREADY_EXISTS, "m"),
            (400, {"error": {"code": 400, "message": "m", "status": "OUT_OF_RANGE"}}, Code.OUT_OF_RANGE, "m"),
            (400, {"error": {"code": 400, "message": "m", "status": "NEW_STATUS"}}, Code.INVALID_ARGUMENT, "m"),
            (500, {"error": {"code": 500, "message": "m", "status": "OK"}}, Code.INTERNAL, "m"),
            (500, {"code": 15, "message": "m", "details": []}, Code.DATA_LOSS, "m"),
            (403, {"error": {"code": "QuotaExceeded", "message": "m"}}, Code.RESOURCE_EXHAUSTED, "m"),
            (403, {"error": {"code": "AcmeSaysNo", "message": "m"}}, Code.PERMISSION_DENIED, "m"),
            (409, {"error": "invalid_grant"}, Code.ABORTED, "Conflict; application/json: "),
            (418, b"", Code.UNKNOWN, "I'm a teapot; an empty body"),
            (522, b"", Code.UNAVAILABLE, "; an empty body"),
            (503, b"<html>" + b"x" * 10_000, Code.UNAVAILABLE, "Service Unavailable; nothing: '<html>xxx"),
            (500, {"error": {"code": 500, "message": "a\n  b" + "x" * 9_000}}, Code.INTERNAL, "a bxxx"),
        ],
    )
    def test_code_is_the_bodys_and_else_that_of_the_status(
        self, status: int, body: Any, code: Code, message: str
    ) -> None:
        found = problem(status, body)
        assert (found.code, found.http_status) == (code, status)
        assert found.problem.startswith(message)
        assert len(found.problem) <= 1000

    def test_code_in_azures_header_counts_where_there_is_no_body(self) -> None:
        found = problem(400, x_ms_error_code="ResourceAlreadyExists")
        assert found.code is Code.ALREADY_EXISTS
        assert found.details == (error_details_pb2.ErrorInfo(reason="ResourceAlreadyExists", domain="azure"),)

    def test_details_are_kept(self) -> None:
        info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "R", "domain": "d"}
        found = problem(400, {"error": {"code": 400, "message": "m", "status": "INVALID_ARGUMENT", "details": [info]}})
        assert found.details == (error_details_pb2.ErrorInfo(reason="R", domain="d"),)

    @pytest.mark.slow
    @settings(deadline=None)
    @given(json_values, st.integers(300, 599))
    def test_any_json_becomes_an_error(self, body: Any, status: int) -> None:
        response = httpx.Response(status, content=json.dumps(body).encode())
        assert isinstance(refused(response, "operations/a"), RemoteCallError)

    @settings(deadline=None)
    @given(st.binary(), st.integers(300, 599))
    def test_any_bytes_become_an_error(self, body: bytes, status: int) -> None:
        assert problem(status, body).http_status == status


class TestExceptions:
    def test_every_exception_of_a_transport_has_its_line(self) -> None:
        """Fails when httpx grows a kind that nobody has thought about."""
        kinds = [httpx.RequestError]
        for kind in kinds:
            kinds += kind.__subclasses__()
        abstract = {httpx.RequestError, httpx.TransportError, httpx.ProtocolError}
        own = [kind for kind in kinds if kind.__module__.startswith("httpx") and kind not in abstract]
        assert len(own) >= 14
        for kind in own:
            assert any(base in EXCEPTIONS for base in kind.__mro__), kind

    @pytest.mark.parametrize(
        ("exc", "code", "transient"),
        [
            (httpx.ReadTimeout("slow"), Code.DEADLINE_EXCEEDED, True),
            (httpx.PoolTimeout("full"), Code.DEADLINE_EXCEEDED, True),
            (httpx.ConnectError("refused"), Code.UNAVAILABLE, True),
            (httpx.RemoteProtocolError("cut"), Code.UNAVAILABLE, True),
            (httpx.LocalProtocolError("header"), Code.INTERNAL, False),
            (httpx.TooManyRedirects("loop"), Code.INTERNAL, False),
            (httpx.TransportError("of a newer release"), Code.UNAVAILABLE, True),
        ],
    )
    def test_request_without_an_answer_says_whether_a_repeat_has_a_chance(
        self, exc: httpx.RequestError, code: Code, transient: bool
    ) -> None:
        found = call_failed(exc, "operations/a")
        assert (found.code, found.transient, found.http_status) == (code, transient, None)
        assert type(exc).__name__ in found.problem


class TestRetryAfter:
    @pytest.mark.parametrize(
        ("text", "seconds"),
        [("0", 0.0), ("7", 7.0), (" 2.5 ", 2.5), ("-1", None), ("", None), ("soon", None), ("nan", None), ("1e3", None),
         ("inf", None), ("9" * 400, None), ("٣", None), ("Tue, 99 Foo 2026 00:00:00 GMT", None)],
    )  # fmt: skip
    def test_seconds_are_whole_or_fractional_and_the_rest_is_nothing(self, text: str, seconds: float | None) -> None:
        assert retry_after.of_headers({"retry-after": text}) == seconds

    def test_date_is_relative_to_that_of_the_answer(self) -> None:
        now = datetime(2020, 2, 29, 12, tzinfo=UTC)
        headers = {"date": format_datetime(now, usegmt=True)}
        for seconds in (0, 90, -90):
            headers["retry-after"] = format_datetime(now + timedelta(seconds=seconds), usegmt=True)
            assert retry_after.of_headers(headers) == max(0, seconds)

    def test_date_of_an_answer_without_one_is_relative_to_our_clock(self) -> None:
        then = format_datetime(datetime.fromtimestamp(time.time() + 100, UTC), usegmt=True)
        found = retry_after.of_headers({"retry-after": then})
        assert found is not None
        assert 95 < found <= 100

    @pytest.mark.parametrize("name", ["retry-after-ms", "x-ms-retry-after-ms"])
    def test_milliseconds_win(self, name: str) -> None:
        assert retry_after.of_headers({"retry-after": "2", name: "1500"}) == 1.5
        assert retry_after.of_headers({"retry-after": "2", name: "soon"}) == 2.0

    @pytest.mark.slow
    @settings(deadline=None)
    @given(st.text() | st.from_regex(r"\A[A-Z][a-z]{2}, \d+ [A-Z][a-z]{2} \d+ [\d:]+ \S*\Z"), st.text())
    @example("Mon, 01 Jan 0001 00:00:00 +2359", "")
    @example("Mon, 01 Jan 99999 00:00:00 GMT", "")
    def test_any_text_is_a_time_from_now_or_nothing(self, text: str, date: str) -> None:
        found = retry_after.of_headers({"retry-after": text, "date": date})
        assert found is None or found >= 0

    def test_answer_says_it_by_header_or_by_retry_info(self) -> None:
        info = error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=3, nanos=500_000_000))
        detail = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "3.5s"}
        error = {"error": {"code": 503, "message": "m", "status": "UNAVAILABLE", "details": [detail]}}
        assert retry_delay([any_pb2.Any(), packed(info)]) == 3.5
        assert retry_delay([any_pb2.Any(type_url="x/google.rpc.RetryInfo", value=b"\xff")]) is None
        assert problem(503, error).retry_after == 3.5
        assert problem(503, error, retry_after="9").retry_after == 9.0
        assert problem(503).retry_after is None


class TestAzureErrors:
    @pytest.mark.parametrize("code", [code for code in Code if code is not Code.OK])
    def test_names_of_codes_are_known_however_they_are_spelt(self, code: Code) -> None:
        pascal = code.name.replace("_", " ").title().replace(" ", "")
        for word in (code.name, pascal, pascal.lower(), code.name.lower().replace("_", "-")):
            assert code_of(word) is code

    @pytest.mark.parametrize("word", ["", "OK", "AcmeQuotaBlown", None, 5, ["NotFound"]])
    def test_other_words_are_unknown(self, word: Any) -> None:
        assert code_of(word) is Code.UNKNOWN

    def test_what_a_service_says_besides_is_kept(self) -> None:
        status = status_of_error(
            {
                "code": "InvalidVault",
                "message": "no such vault",
                "target": "vault",
                "details": [{"code": "NotThere", "message": "look elsewhere"}],
                "innererror": {"code": "VaultTypo"},
            }
        )
        assert (status.code, status.message) == (Code.UNKNOWN, "no such vault")
        info = error_details_pb2.ErrorInfo()
        assert status.details[0].Unpack(info)
        assert info == error_details_pb2.ErrorInfo(reason="InvalidVault", domain="azure")
        assert b"look elsewhere" in status.details[1].value
        assert b"VaultTypo" in status.details[1].value

    def test_code_of_the_inner_error_counts_where_the_outer_one_is_unknown(self) -> None:
        assert status_of_error({"code": "Acme", "innererror": {"code": "Conflict"}}).code == Code.ABORTED


class TestAddresses:
    addresses = Addresses("https://good.example.com/jobs", ["http://status.example.com:8080"])

    @pytest.mark.parametrize(
        ("text", "url"),
        [
            ("/a?b=1#c", "https://good.example.com/a?b=1"),
            ("https://GOOD.example.com:443/a", "https://good.example.com/a"),
            ("http://status.example.com:8080/a", "http://status.example.com:8080/a"),
            ("../a", "https://good.example.com/a"),
            ("https://good.example.com", "https://good.example.com/"),
            ("https://good.example.com?b=1", "https://good.example.com/?b=1"),
        ],
    )
    def test_allowed_origins_are_resolved(self, text: str, url: str) -> None:
        assert str(self.addresses.resolve(text)) == url

    @pytest.mark.parametrize(
        "text",
        [
            "http://good.example.com/a", "https://good.example.com:8443/a", "https://status.example.com:8080/a",
            "//evil.example.com/a", "https://good.example.com.evil.com/", "https://evil.com\\@good.example.com/",
            "https://good.example.com@evil.com/", "https://me:x@good.example.com/a", "file:///etc/passwd", "ftp://h/",
            "javascript:alert(1)", "http:/a", "https://good.example.com:x/", "/a\x00", "https://xn--/", "http://[",
        ],
    )  # fmt: skip
    def test_everything_else_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError):
            self.addresses.resolve(text)

    @settings(deadline=None)
    @given(st.lists(st.sampled_from(["/", "a", "B-1", ".", "..", "?", "&x=", ":", ";", "%2F", "~", "_"])).map("".join))
    def test_a_path_means_what_it_means_to_the_http_client(self, text: str) -> None:
        text = text.lstrip("/")
        joined = httpx.URL("https://good.example.com/jobs").join(f"/{text}")
        assert self.addresses.resolve(f"/{text}").raw_path == joined.raw_path
        assert self.addresses.resolve(f"https://good.example.com/{text}").raw_path == joined.raw_path

    def test_a_url_is_made_once_for_all_polls_of_ten_thousand_handles(self) -> None:
        base = httpx.URL("https://good.example.com/jobs/start")
        full = [f"https://good.example.com/jobs/operations/{number}" for number in range(10_000)]
        made = [self.addresses.resolve(text, base) for text in full]
        assert all(self.addresses.resolve(self.addresses.short(url)) is url for url in made)

    @settings(deadline=None)
    @given(
        st.text(max_size=30)
        | st.lists(
            st.sampled_from(["https://", "http://", "//", "/", "\\", "@", ":", "#", "?", "good.example.com", "evil.com",
                             "443", "%2F", "..", "\t", "[::1]", "a", "ü", "%"]),
            max_size=8,
        ).map("".join)
    )  # fmt: skip
    def test_no_text_leads_elsewhere_and_the_short_form_means_the_same(self, text: str) -> None:
        try:
            url = self.addresses.resolve(text)
        except ValueError:
            return
        assert (url.scheme, url.host, url.port) in {
            ("https", "good.example.com", None), ("http", "status.example.com", 8080),
        }  # fmt: skip
        assert not url.userinfo
        short = self.addresses.short(url)
        assert self.addresses.resolve(short) == url
        assert short.isascii()
        assert short.isprintable()
        assert " " not in short

    def test_path_that_looks_like_a_host_stays_whole(self) -> None:
        url = self.addresses.resolve("https://good.example.com//evil.com/a")
        assert self.addresses.short(url) == "https://good.example.com//evil.com/a"


class TestPages:
    """What a proxy or a web site answers in place of the service."""

    @pytest.mark.parametrize(
        ("response", "own"),
        [
            (httpx.Response(404), True),
            (httpx.Response(404, json={"error": {"code": 404}}), True),
            (httpx.Response(404, json={"detail": "no such operation"}), True),
            (httpx.Response(404, headers={"x-ms-error-code": "NotFound"}, content=b"<Error/>"), True),
            (httpx.Response(404, json={"message": "no Route matched with those values"}), False),
            (httpx.Response(404, html="<html>404</html>"), False),
            (httpx.Response(404, text="404 page not found"), False),
            (httpx.Response(404, json=[]), False),
            (httpx.Response(302, headers={"location": "https://login.example.com/"}), False),
            (httpx.Response(405, html="<html>405</html>"), False),
            (httpx.Response(501, html="<html>501</html>"), False),
            (httpx.Response(405), True),
        ],
    )
    def test_refusal_of_somebody_else_is_told_from_the_service_s(self, response: httpx.Response, own: bool) -> None:
        found = refused(response, "operations/a")
        assert isinstance(found, NotTheServiceError) is not own
        assert found.http_status == response.status_code

    @pytest.mark.parametrize("status", [401, 403, 407, 408, 425, 429, 500, 502, 503, 504])
    def test_these_a_proxy_may_say_for_the_service(self, status: int) -> None:
        assert type(refused(httpx.Response(status, html="<html>"), "operations/a")) is RemoteCallError

    def test_redirect_says_where_to(self) -> None:
        found = refused(httpx.Response(302, headers={"location": "https://login.example.com/"}), "operations/a")
        assert "to 'https://login.example.com/'" in found.problem
        assert not found.transient

    @pytest.mark.parametrize(
        "response",
        [httpx.Response(200), httpx.Response(204), httpx.Response(200, json={}), httpx.Response(202, json={"a": 1})],
    )
    def test_done_is_empty_or_json(self, response: httpx.Response) -> None:
        check_done(response, "operations/a")

    @pytest.mark.parametrize("response", [httpx.Response(200, html="<html>"), httpx.Response(200, text="It works!")])
    def test_page_in_place_of_done_makes_no_sense(self, response: httpx.Response) -> None:
        with pytest.raises(RemoteProtocolError, match="not JSON, but text/"):
            check_done(response, "operations/a")
