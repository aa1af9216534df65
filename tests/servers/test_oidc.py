"""``OidcVerifier``: who is let in, who is not and why, and what the issuer has to bear."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, get_args

import anyio.to_thread
import httpx
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import lro_aio as lro
from lro_aio.servers._certificates import CertificatesUnavailableError
from lro_aio.servers.oidc import OidcVerifier
from lro_aio.servers.resume import ResumeApp, UnauthenticatedError
from lro_aio.testing.oidc import Flaw, LocalIssuer

from ..waiting import PATIENCE, reached, until
from .issuer import ACCOUNT, AUDIENCE, Issuer, bearer, certificate, encoded, key

REMOVED = "SIGNATURE_REMOVED_BY_GOOGLE"


@pytest.fixture(scope="module")
def shared_issuer() -> Iterator[Issuer]:
    made = Issuer()
    yield made
    made.close()


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    made = Issuer()
    yield made
    made.close()


def make(issuer: Issuer, **options: Any) -> OidcVerifier:
    defaults: dict[str, Any] = {
        "audience": AUDIENCE,
        "service_accounts": [ACCOUNT],
        "issuer": issuer.url,
        "certs_url": issuer.certs_url,
        "clock_skew": 0,
    }
    return OidcVerifier(**{**defaults, **options})


@pytest.mark.asyncio
class TestGood:
    async def test_token_of_a_listed_account_names_it(self, issuer: Issuer) -> None:
        assert await make(issuer)(bearer(issuer.token())) == ACCOUNT

    async def test_scheme_is_spelled_in_any_case(self, issuer: Issuer) -> None:
        assert await make(issuer)({"authorization": f"bearer  {issuer.token()}"}) == ACCOUNT

    async def test_there_may_be_several_audiences_and_accounts(self, issuer: Issuer) -> None:
        verifier = make(issuer, audience=["https://a", AUDIENCE], service_accounts={"other@a.b", ACCOUNT})
        assert await verifier(bearer(issuer.token())) == ACCOUNT
        assert await verifier(bearer(issuer.token(aud="https://a", email="other@a.b"))) == "other@a.b"

    async def test_clocks_may_differ_a_little(self, issuer: Issuer) -> None:
        now = time.time()
        for times in ({"exp": now - 5}, {"iat": now + 5, "exp": now + 3600}):
            token = issuer.token(**times)
            assert await make(issuer, clock_skew=60)(bearer(token)) == ACCOUNT
            with pytest.raises(UnauthenticatedError):
                await make(issuer, clock_skew=1)(bearer(token))


def hmac_with_the_public_key(issuer: Issuer) -> str:
    """The classic: the certificate, which everybody has, as the secret of a symmetric algorithm."""
    unsigned = issuer.token(header={"alg": "HS256"}, signature="").rstrip(".")
    digest = hmac.new(certificate("key-1").encode(), unsigned.encode(), hashlib.sha256).digest()
    return f"{unsigned}.{encoded(digest)}"


def elliptic(issuer: Issuer) -> str:
    unsigned = issuer.token(header={"alg": "ES256"}, signature="").rstrip(".")
    made = ec.generate_private_key(ec.SECP256R1()).sign(unsigned.encode(), ec.ECDSA(hashes.SHA256()))
    return f"{unsigned}.{encoded(made)}"


def sha512(issuer: Issuer) -> str:
    """A good signature of another algorithm of the family, under its own name."""
    unsigned = issuer.token(header={"alg": "RS512"}, signature="").rstrip(".")
    return f"{unsigned}.{encoded(key('key-1').sign(unsigned.encode(), padding.PKCS1v15(), hashes.SHA512()))}"


def other_claims_under_a_good_signature(issuer: Issuer) -> str:
    header, _, signature = issuer.token(email="thief@a.b").split(".")
    _, claims, _ = issuer.token().split(".")
    return f"{header}.{claims}.{signature}"


def second_spelling(issuer: Issuer) -> str:
    """The same bytes, with the bits set that base64 leaves unused."""
    token = issuer.token()
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return token[:-1] + alphabet[alphabet.index(token[-1]) ^ 1]


Bad = Callable[[Issuer], str]

NOT_GOOD: dict[str, Bad] = {
    "unsigned": lambda i: i.token(header={"alg": "none"}, signature=""),
    "unsigned, in capitals": lambda i: i.token(header={"alg": "NONE"}, signature=""),
    "unsigned, with a good signature": lambda i: i.token(header={"alg": "none"}),
    "no signature": lambda i: i.token(signature=""),
    "signature removed": lambda i: i.token(signature=REMOVED),
    "no algorithm": lambda i: i.token(header={"alg": None}),
    "algorithm is a list": lambda i: i.token(header={"alg": ["RS256"]}),
    "symmetric": hmac_with_the_public_key,
    "elliptic": elliptic,
    "sha512": sha512,
    "signed by somebody else": lambda i: i.token(signed_by="thief"),
    "key unknown": lambda i: i.token(key_id="thief"),
    "no key": lambda i: i.token(header={"kid": None}, signed_by="key-1"),
    "key is empty": lambda i: i.token(header={"kid": ""}, signed_by="key-1"),
    "key is a list": lambda i: i.token(header={"kid": ["key-1"]}, signed_by="key-1"),
    "brings its own key": lambda i: i.token(header={"jwk": {"kty": "RSA"}, "x5u": i.url}, signed_by="thief"),
    "critical extension": lambda i: i.token(header={"crit": ["exp"]}),
    "other claims": other_claims_under_a_good_signature,
    "spelled differently": second_spelling,
    "expired": lambda i: i.token(iat=time.time() - 7200, exp=time.time() - 1),
    "issued in the future": lambda i: i.token(iat=time.time() + 60),
    "not valid yet": lambda i: i.token(nbf=time.time() + 60),
    "no expiry": lambda i: i.token(exp=None),
    "no time of issue": lambda i: i.token(iat=None),
    "expiry is a text": lambda i: i.token(exp="9999999999"),
    "expiry is true": lambda i: i.token(exp=True),
    "expiry is not a number": lambda i: i.token(exp=float("nan")),
    "expiry is infinite": lambda i: i.token(exp=float("inf")),
    "expiry is huge": lambda i: i.token(exp=10**400),
    "issue is not a number": lambda i: i.token(iat=float("nan")),
    "issue is long ago": lambda i: i.token(iat=float("-inf")),
    "another audience": lambda i: i.token(aud="https://other.example"),
    "audience with a slash": lambda i: i.token(aud=f"{AUDIENCE}/"),
    "several audiences": lambda i: i.token(aud=[AUDIENCE]),
    "no audience": lambda i: i.token(aud=None),
    "another issuer": lambda i: i.token(iss="https://accounts.google.com"),
    "no issuer": lambda i: i.token(iss=None),
    "two parts": lambda i: i.token().rpartition(".")[0],
    "four parts": lambda i: f"{i.token()}.x",
    "empty parts": lambda _: "..",
    "header is a list": lambda i: f"{encoded(b'[]')}.{i.token().partition('.')[2]}",
    "header is deep": lambda i: f"{encoded(b'[' * 3000)}.{i.token().partition('.')[2]}",
    "claims are no JSON": lambda i: ".".join([i.token().split(".")[0], encoded(b"\xff"), i.token().split(".")[2]]),
    "padded": lambda i: i.token() + "==",
    "huge": lambda i: i.token(sub="x" * 10_000),
    "line break": lambda i: i.token() + "\n",
    "two tokens": lambda i: f"{i.token()}, Bearer {i.token()}",
}

NOT_ENOUGH: dict[str, Bad] = {
    "another account": lambda i: i.token(email="other@project.iam.gserviceaccount.com"),
    "no address": lambda i: i.token(email=None),
    "address is a list": lambda i: i.token(email=[ACCOUNT]),
    "address with a blank": lambda i: i.token(email=f"{ACCOUNT} "),
    "address in capitals": lambda i: i.token(email=ACCOUNT.upper()),
    "address not verified": lambda i: i.token(email_verified=False),
    "address perhaps verified": lambda i: i.token(email_verified=None),
    "address verified in words": lambda i: i.token(email_verified="true"),
    "address verified by a number": lambda i: i.token(email_verified=1),
}


@pytest.mark.asyncio
class TestBad:
    @pytest.mark.parametrize("bad", NOT_GOOD.values(), ids=NOT_GOOD)
    async def test_token_that_is_not_good_is_refused(self, shared_issuer: Issuer, bad: Bad) -> None:
        verifier = make(shared_issuer)
        with pytest.raises(UnauthenticatedError):
            await verifier(bearer(bad(shared_issuer)))
        assert await verifier(bearer(shared_issuer.token())) == ACCOUNT  # nothing else is wrong here

    @pytest.mark.parametrize("bad", NOT_ENOUGH.values(), ids=NOT_ENOUGH)
    async def test_good_token_of_nobody_in_the_list_is_refused_differently(
        self, shared_issuer: Issuer, bad: Bad
    ) -> None:
        with pytest.raises(PermissionError) as refused:
            await make(shared_issuer)(bearer(bad(shared_issuer)))
        assert not isinstance(refused.value, UnauthenticatedError)

    @pytest.mark.parametrize("scheme", ["", "Basic ", "Bearer", "Bearer\t", "Token ", "BearerX "])
    async def test_other_schemes_are_refused(self, shared_issuer: Issuer, scheme: str) -> None:
        with pytest.raises(UnauthenticatedError):
            await make(shared_issuer)({"authorization": f"{scheme}{shared_issuer.token()}"})

    @pytest.mark.parametrize("headers", [{}, {"authorization": ""}, {"x-serverless-authorization": "Bearer x"}])
    async def test_no_token_is_refused(self, shared_issuer: Issuer, headers: dict[str, str]) -> None:
        with pytest.raises(UnauthenticatedError):
            await make(shared_issuer)(headers)

    async def test_token_for_somebody_else_costs_the_issuer_nothing(self, issuer: Issuer) -> None:
        verifier = make(issuer)
        for token in (issuer.token(aud="https://other.example"), issuer.token(exp=time.time() - 1)):
            with pytest.raises(UnauthenticatedError):
                await verifier(bearer(token))
        assert issuer.fetches == 0


@pytest.mark.asyncio
class TestCloudRun:
    """Cloud Run's own access control checks the signature, and takes it away."""

    async def test_removed_signature_is_good_where_the_service_says_so(self, issuer: Issuer) -> None:
        verifier = make(issuer, cloud_run_iam=True)
        assert await verifier(bearer(issuer.token(signature=REMOVED))) == ACCOUNT
        assert issuer.fetches == 0

    @pytest.mark.parametrize(
        "name", [name for name in (*NOT_GOOD, *NOT_ENOUGH) if name not in ("signature removed", "line break")]
    )
    async def test_everything_else_is_as_bad_as_ever(self, shared_issuer: Issuer, name: str) -> None:
        verifier = make(shared_issuer, cloud_run_iam=True)
        token = {**NOT_GOOD, **NOT_ENOUGH}[name](shared_issuer)
        with pytest.raises(PermissionError):
            await verifier(bearer(token))

    @pytest.mark.parametrize(
        "claims",
        [{"aud": "https://other.example"}, {"exp": 1}, {"iss": "x"}, {"email": "a@b.c"}, {"email_verified": False}],
    )
    async def test_claims_are_checked_without_a_signature_too(
        self, shared_issuer: Issuer, claims: dict[str, Any]
    ) -> None:
        with pytest.raises(PermissionError):
            await make(shared_issuer, cloud_run_iam=True)(bearer(shared_issuer.token(signature=REMOVED, **claims)))

    @pytest.mark.parametrize("header", [{"alg": "none"}, {"alg": "HS256"}, {"kid": None}, {"crit": ["exp"]}])
    async def test_header_is_checked_without_a_signature_too(
        self, shared_issuer: Issuer, header: dict[str, Any]
    ) -> None:
        with pytest.raises(UnauthenticatedError):
            await make(shared_issuer, cloud_run_iam=True)(bearer(shared_issuer.token(signature=REMOVED, header=header)))

    async def test_log_says_what_to_do(self, issuer: Issuer, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level("INFO", "lro_aio"), pytest.raises(UnauthenticatedError):
            await make(issuer)(bearer(issuer.token(signature=REMOVED)))
        assert "cloud_run_iam=True" in caplog.text


class TestMutations:
    @pytest.fixture
    def verify(self, shared_issuer: Issuer) -> Iterator[Callable[[str], str]]:
        verifier = make(shared_issuer)
        with asyncio.Runner() as runner:
            yield lambda token: runner.run(verifier(bearer(token)))

    @pytest.mark.slow
    @settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
    @given(data=st.data())
    def test_good_token_with_anything_changed_is_refused(
        self, verify: Callable[[str], str], shared_issuer: Issuer, data: st.DataObject
    ) -> None:
        good = shared_issuer.token()
        start = data.draw(st.integers(0, len(good)))
        end = data.draw(st.integers(start, min(len(good), start + 3)))
        put = data.draw(st.text("AQgw-_.=+/ ,\néZ09", max_size=3) | st.text(max_size=2))
        changed = good[:start] + put + good[end:]
        assume(changed.strip(" ") != good)  # the header's own blanks
        with pytest.raises(PermissionError):
            verify(changed)

    @pytest.mark.slow
    @settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
    @given(
        name=st.sampled_from(["iss", "aud", "exp", "iat", "email", "email_verified"]),
        value=st.none()
        | st.booleans()
        | st.integers(-(10**12), 10**3)
        | st.floats(max_value=1e3)
        | st.text(max_size=8)
        | st.lists(st.sampled_from([AUDIENCE, ACCOUNT]), max_size=2)
        | st.dictionaries(st.text(max_size=2), st.none(), max_size=1),
    )
    def test_signed_claim_of_any_other_value_is_refused(
        self, verify: Callable[[str], str], shared_issuer: Issuer, name: str, value: Any
    ) -> None:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        assume(not (name == "iat" and number and value == value))  # long ago is no harm
        assume(not (name == "email_verified" and value is True))
        with pytest.raises(PermissionError):
            verify(shared_issuer.token(**{name: value}))


@pytest.mark.asyncio
class TestIssuer:
    async def test_certificates_are_fetched_once(self, issuer: Issuer) -> None:
        verifier = make(issuer)
        await asyncio.gather(*(verifier(bearer(issuer.token())) for _ in range(50)))
        await verifier(bearer(issuer.token()))
        assert issuer.fetches == 1

    async def test_forged_key_ids_do_not_become_requests(self, issuer: Issuer) -> None:
        verifier = make(issuer)

        async def forged(number: int) -> None:
            with pytest.raises(UnauthenticatedError):
                await verifier(bearer(issuer.token(key_id=f"key-{number}", signed_by="thief")))

        await verifier(bearer(issuer.token()))
        await asyncio.gather(*(forged(number) for number in range(10, 60)))
        assert issuer.fetches == 1

    async def test_work_is_done_off_the_event_loop(self, issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
        from lro_aio.servers import oidc

        threads: list[int] = []
        decode = oidc.jwt.decode

        def watched(*args: Any, **options: Any) -> Any:
            threads.append(threading.get_ident())
            return decode(*args, **options)

        monkeypatch.setattr(oidc.jwt, "decode", watched)
        await make(issuer)(bearer(issuer.token()))
        assert threads
        assert threading.get_ident() not in threads

    async def test_threads_of_the_application_and_its_own_do_not_wait_for_each_other(self, issuer: Issuer) -> None:
        """One thread of the loop's executor, and one of anyio's: each of them hangs, or none is left for the test."""
        free = threading.Event()
        verifier = make(issuer)
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))  # the loop ends it with itself
        anyio.to_thread.current_default_thread_limiter().total_tokens = 1
        busy = [asyncio.create_task(run(free.wait)) for run in (asyncio.to_thread, anyio.to_thread.run_sync)]
        try:
            async with asyncio.timeout(PATIENCE):
                assert await verifier(bearer(issuer.token())) == ACCOUNT
                free.set()
                await asyncio.gather(*busy)
                issuer.go.clear()
                asking = asyncio.create_task(make(issuer)(bearer(issuer.token())))
                await until(lambda: issuer.fetches >= 2)
                assert await asyncio.to_thread(lambda: "done") == "done"
                assert await anyio.to_thread.run_sync(lambda: "done") == "done"
                assert not asking.done()
                issuer.go.set()
                assert await asking == ACCOUNT
        finally:
            free.set()
            issuer.go.set()

    @pytest.mark.parametrize("status", [404, 429, 500, 503, 302])
    async def test_issuer_that_answers_errors_is_503_not_401(self, issuer: Issuer, status: int) -> None:
        issuer.status = status
        issuer.headers["Location"] = issuer.certs_url
        with pytest.raises(CertificatesUnavailableError) as refused:
            await make(issuer)(bearer(issuer.token()))
        assert refused.value.code == lro.Code.UNAVAILABLE
        assert refused.value.retry_after
        assert issuer.fetches == 1

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"[]",
            b"{}",
            b"<html>",
            b'{"key-1": "not PEM"}',
            b'{"key-1": 7}',
            b'{"keys": [{"kid": "key-1", "kty": "RSA"}]}',
        ],
    )
    async def test_answer_without_certificates_is_503(self, issuer: Issuer, body: bytes) -> None:
        issuer.body = body
        with pytest.raises(CertificatesUnavailableError):
            await make(issuer)(bearer(issuer.token()))

    async def test_one_bad_certificate_does_not_hide_the_others(self, issuer: Issuer) -> None:
        issuer.keys = {"broken": "-----BEGIN CERTIFICATE-----", **issuer.keys}
        assert await make(issuer)(bearer(issuer.token())) == ACCOUNT

    async def test_issuer_that_hangs_up_is_503(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = f"http://127.0.0.1:{taken.getsockname()[1]}/certs"
        issuer = Issuer()
        try:
            with pytest.raises(CertificatesUnavailableError):
                await make(issuer, certs_url=address)(bearer(issuer.token()))
        finally:
            await asyncio.to_thread(issuer.close)

    async def test_issuer_that_hangs_is_503_in_time(self, issuer: Issuer) -> None:
        issuer.go.clear()
        verifier = make(issuer, timeout=0.2)
        async with asyncio.timeout(PATIENCE):
            results = await asyncio.gather(
                *(verifier(bearer(issuer.token())) for _ in range(20)), return_exceptions=True
            )
        assert {type(result) for result in results} == {CertificatesUnavailableError}
        assert issuer.fetches == 1
        issuer.go.set()

    async def test_issuer_that_answers_for_ever_is_503_in_time(self, issuer: Issuer) -> None:
        issuer.drips = True
        with pytest.raises(CertificatesUnavailableError):
            async with asyncio.timeout(PATIENCE):
                await make(issuer, timeout=0.3)(bearer(issuer.token()))
        await asyncio.to_thread(issuer.close)  # or the thread that reads would go on

    async def test_caller_that_goes_away_does_not_stop_the_others(self, issuer: Issuer) -> None:
        issuer.go.clear()
        verifier = make(issuer)
        first, second = (asyncio.create_task(verifier(bearer(issuer.token()))) for _ in range(2))
        await until(lambda: issuer.fetches)
        first.cancel()
        issuer.go.set()
        assert await second == ACCOUNT
        with pytest.raises(asyncio.CancelledError):
            await first


class TestArguments:
    @pytest.mark.parametrize(
        "options",
        [
            {"service_accounts": []},
            {"service_accounts": [""]},
            {"service_accounts": [None]},
            {"audience": ""},
            {"audience": []},
            {"issuer": ""},
            {"clock_skew": 301},
            {"clock_skew": -1},
            {"timeout": 0},
            {"refetch_interval": 0},
        ],
    )
    def test_verifier_that_would_let_in_nobody_or_anybody_is_not_made(self, options: dict[str, Any]) -> None:
        with pytest.raises(ValueError):
            OidcVerifier(**{"audience": AUDIENCE, "service_accounts": [ACCOUNT], **options})

    def test_one_text_is_no_list_of_accounts(self) -> None:
        with pytest.raises(TypeError, match="list of e-mail addresses"):
            OidcVerifier(audience=AUDIENCE, service_accounts=ACCOUNT)

    @pytest.mark.parametrize("missing", ["audience", "service_accounts"])
    def test_there_are_no_defaults_that_accept_anybody(self, missing: str) -> None:
        options = {"audience": AUDIENCE, "service_accounts": [ACCOUNT]}
        del options[missing]
        with pytest.raises(TypeError):
            OidcVerifier(**options)  # type: ignore[arg-type]

    def test_google_is_the_default_issuer(self) -> None:
        from lro_aio.servers import oidc

        assert (oidc.GOOGLE_ISSUER, oidc.GOOGLE_CERTS) == (
            "https://accounts.google.com",
            "https://www.googleapis.com/oauth2/v1/certs",
        )

    @pytest.mark.slow
    @pytest.mark.parametrize("package", ["google.auth", "requests"])
    def test_missing_package_names_the_install_command(self, package: str) -> None:
        code = (
            f"import sys; sys.modules[{package!r}] = None\n"
            "import lro_aio.servers.resume\n"
            "try:\n    from lro_aio.servers.resume import OidcVerifier\n"
            "except ImportError as exc:\n    print(exc)\n"
        )
        done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=30)
        assert "pip install 'lro-aio[workflows]'" in done.stdout, done.stderr


@pytest.mark.asyncio
class TestLocalIssuer:
    """The one that users' own tests have."""

    @pytest.fixture
    def local(self) -> Iterator[LocalIssuer]:
        with LocalIssuer() as made:
            made.token(AUDIENCE, "unknown_key")  # makes that key, which takes a while
            yield made

    def verifier(self, local: LocalIssuer, **options: Any) -> OidcVerifier:
        return OidcVerifier(
            audience=AUDIENCE,
            service_accounts=[local.email],
            issuer=local.issuer,
            certs_url=local.certs_url,
            **options,
        )

    async def test_its_tokens_are_good(self, local: LocalIssuer) -> None:
        assert await self.verifier(local)(bearer(local.token(AUDIENCE))) == local.email

    @pytest.mark.parametrize("flaw", get_args(Flaw))
    async def test_its_bad_tokens_are_not(self, local: LocalIssuer, flaw: Flaw) -> None:
        with pytest.raises(PermissionError) as refused:
            await self.verifier(local)(bearer(local.token(AUDIENCE, flaw)))
        assert isinstance(refused.value, UnauthenticatedError) == (flaw not in ("email", "unverified"))

    async def test_new_key_is_known_after_the_interval(self, local: LocalIssuer) -> None:
        verifier = self.verifier(local, refetch_interval=0.01)
        await verifier(bearer(local.token(AUDIENCE)))
        await asyncio.to_thread(local.rotate)
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    assert await verifier(bearer(local.token(AUDIENCE))) == local.email
                    return
                except UnauthenticatedError:
                    await asyncio.sleep(0.005)


@pytest.mark.asyncio
class TestAnswers:
    """What the endpoints answer, over the whole way."""

    @pytest.fixture
    def http(self, client: lro.Client, issuer: Issuer, http_to: Callable[..., httpx.AsyncClient]) -> httpx.AsyncClient:
        return http_to(ResumeApp(client, make(issuer)))

    async def test_good_401_403_and_503(self, http: httpx.AsyncClient, issuer: Issuer) -> None:
        async with http:

            async def answered(headers: dict[str, str]) -> httpx.Response:
                return await http.post("/lro/sweep", headers=headers)

            assert (await answered(bearer(issuer.token()))).status_code == 200
            for headers in ({}, bearer(issuer.token(signed_by="thief")), bearer(issuer.token(signature=REMOVED))):
                answer = await answered(headers)
                assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
            answer = await answered(bearer(issuer.token(email="other@a.b")))
            assert answer.status_code == 403
            assert "other@a.b" not in answer.text

    async def test_issuer_that_is_down_is_503_with_a_time_to_come_back(
        self, http: httpx.AsyncClient, issuer: Issuer
    ) -> None:
        issuer.status = 500
        async with http:
            answer = await http.post("/lro/sweep", headers=bearer(issuer.token()))
        assert (answer.status_code, answer.json()["error"]["status"]) == (503, "UNAVAILABLE")
        assert int(answer.headers["retry-after"]) >= 1
        assert issuer.url not in answer.text

    async def test_bad_token_wakes_nothing(self, http: httpx.AsyncClient, issuer: Issuer, client: lro.Client) -> None:
        op = await client.start("sleeps")
        record = await reached(client, op.name, "SUSPENDED")
        assert record.wait is not None
        body = {"operation": op.name, "resumeToken": record.wait.token}
        async with http:
            for bad in ("unsigned", "expired", "another audience", "signed by somebody else"):
                answer = await http.post("/lro/resume", json=body, headers=bearer(NOT_GOOD[bad](issuer)))
                assert answer.status_code == 401
            assert await client.server_host.record(op.name) == record
