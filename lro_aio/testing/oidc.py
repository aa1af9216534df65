"""A token issuer on loopback, in place of Google's for a service that Workflows or Cloud Tasks calls.

Needs ``cryptography``, which google-auth installs.
"""

from __future__ import annotations

import asyncio
import base64
import datetime
import json
import threading
import time
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal, Self, get_args

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

__all__ = ["Flaw", "LocalIssuer"]

Flaw = Literal[
    "expired", "early", "audience", "email", "unverified", "issuer", "unsigned", "unknown_key", "tampered", "garbage"
]
"""What can be wrong with a token: past its time, before its time, for another audience, of another account, of an
address that is not verified, of another issuer, with ``alg: none``, signed by a key that is not published, changed
after it was signed, or no token at all."""

LIFETIME = 3600


class LocalIssuer:
    """Issues OIDC identity tokens as Google does for a service account, and publishes the certificates.

    Use it in ``with`` or ``async with``; a thread of its own answers ``certs_url``. Its times are the machine's, not a
    test clock's, since verifiers use the machine's.

    Args:
        email: The account that it issues tokens for.
        issuer: The claim ``iss``. None takes the address that it listens on.
    """

    def __init__(
        self, *, email: str = "workflow@test-project.iam.gserviceaccount.com", issuer: str | None = None
    ) -> None:
        self.email = email
        self.fetches = 0
        """How often the certificates were fetched."""
        self.available = True
        """Whether the certificates can be fetched. False answers 503."""
        self._issuer = issuer
        self._generation = 0
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The URL at which it listens.

        Raises:
            RuntimeError: It does not listen yet.
        """
        if self._server is None:
            raise RuntimeError("the issuer does not listen yet: use it in `with LocalIssuer() as issuer:`")
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def issuer(self) -> str:
        """The claim ``iss`` of its tokens."""
        return self._issuer or self.url

    @property
    def certs_url(self) -> str:
        """The URL of its certificates: ``{"key id": "PEM"}``, as at Google's ``oauth2/v1/certs``."""
        return f"{self.url}/certs"

    @property
    def key_id(self) -> str:
        """The id of the key that signs now."""
        return f"key-{self._generation}"

    def rotate(self) -> None:
        """Sign with another key from now on; the old certificate is no longer published."""
        self._generation += 1
        _key(self.key_id)

    def token(self, audience: str, flaw: Flaw | None = None) -> str:
        """An identity token.

        Args:
            audience: The claim ``aud``.
            flaw: What is wrong with it. None: nothing, and it is valid for an hour.

        Raises:
            ValueError: There is no such flaw.
        """
        if flaw is not None and flaw not in get_args(Flaw):
            raise ValueError(f"there is no flaw {flaw!r}; the flaws are {', '.join(get_args(Flaw))}")
        if flaw == "garbage":
            return "not-a-token"
        header = {"alg": "none" if flaw == "unsigned" else "RS256", "kid": self.key_id, "typ": "JWT"}
        claims = self._claims(audience, flaw)
        signed = f"{_encoded(header)}.{_encoded(claims)}"
        if flaw == "unsigned":
            return f"{signed}."
        key = _key("another" if flaw == "unknown_key" else self.key_id)
        signature = _base64(key.sign(signed.encode(), padding.PKCS1v15(), SHA256()))
        if flaw == "tampered":
            signed = f"{_encoded(header)}.{_encoded({**claims, 'sub': 'somebody-else'})}"
        return f"{signed}.{signature}"

    def _claims(self, audience: str, flaw: Flaw | None) -> dict[str, Any]:
        begins = int(time.time()) + {"expired": -2 * LIFETIME, "early": LIFETIME}.get(flaw or "", 0)
        return {
            "iss": "https://issuer.invalid" if flaw == "issuer" else self.issuer,
            "aud": "https://another.invalid" if flaw == "audience" else audience,
            "azp": "100000000000000000001",
            "sub": "100000000000000000001",
            "email": "stranger@another-project.iam.gserviceaccount.com" if flaw == "email" else self.email,
            "email_verified": flaw != "unverified",
            "iat": begins,
            "exp": begins + LIFETIME,
        }

    def __enter__(self) -> Self:
        owner = self
        _key(self.key_id)  # here and not for the first token: those are made on event loops

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner._answer(self)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, name="local-issuer", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, exc, trace)

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        known = request.path == "/certs"
        self.fetches += known
        status = 404 if not known else 200 if self.available else 503
        body = json.dumps({self.key_id: _certificate(self.key_id)} if status == 200 else {}).encode()
        request.send_response(status)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(body)))
        request.send_header("Cache-Control", "public, max-age=3600")
        request.end_headers()
        request.wfile.write(body)


def _encoded(part: dict[str, Any]) -> str:
    return _base64(json.dumps(part, separators=(",", ":")).encode())


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@lru_cache(maxsize=16)
def _key(name: str) -> rsa.RSAPrivateKey:  # noqa: ARG001 (one key for each name, made once: it takes a while)
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@lru_cache(maxsize=16)
def _certificate(name: str) -> str:
    key = _key(name)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "local-issuer")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=365))
        .sign(key, SHA256())
    )
    return made.public_bytes(Encoding.PEM).decode()
