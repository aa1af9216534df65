"""A token issuer on loopback: keys, certificates as Google publishes them, tokens good and bad."""

from __future__ import annotations

import base64
import datetime
import functools
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

AUDIENCE = "https://service.example"
ACCOUNT = "workflow@project.iam.gserviceaccount.com"


@functools.cache
def key(name: str) -> rsa.RSAPrivateKey:
    """One key for each name: making them takes long."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@functools.cache
def certificate(name: str) -> str:
    """The key's self-signed certificate, PEM."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    day = datetime.timedelta(days=1)
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(subject, subject, key(name).public_key(), 1, now - day, now + day)
    return builder.sign(key(name), hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def sign(name: str, text: str) -> bytes:
    return key(name).sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())


class Issuer:
    """Serves certificates at ``certs_url``. What it answers can be changed at any time."""

    def __init__(self) -> None:
        self.keys = {"key-1": certificate("key-1")}
        self.status = 200
        self.body: bytes | None = None
        """Instead of the keys."""
        self.headers = {"Cache-Control": "public, max-age=3600, must-revalidate"}
        self.fetches = 0
        self.go = threading.Event()
        """Answers wait for it."""
        self.go.set()
        self.drips = False
        """Answers byte by byte, until the issuer is closed."""
        self._closed = threading.Event()
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.fetches += 1
                issuer.go.wait(10)
                body = json.dumps(issuer.keys).encode() if issuer.body is None else issuer.body
                self.send_response(issuer.status)
                for name, value in {**issuer.headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                if not issuer.drips:
                    self.wfile.write(body)
                    return
                for index in range(len(body)):
                    self.wfile.write(body[index : index + 1])
                    self.wfile.flush()
                    if issuer._closed.wait(0.05):
                        return

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Also the ``iss`` of its tokens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def certs_url(self) -> str:
        return f"{self.url}/certs"

    def close(self) -> None:
        self.go.set()
        self._closed.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Those of a good token, changed; None leaves a claim out."""
        now = int(time.time())
        good = {
            "iss": self.url,
            "aud": AUDIENCE,
            "iat": now,
            "exp": now + 3600,
            "email": ACCOUNT,
            "email_verified": True,
            "sub": "1",
        }
        return {name: value for name, value in {**good, **changes}.items() if value is not None}

    def token(
        self,
        *,
        header: dict[str, Any] | None = None,
        key_id: str = "key-1",
        signed_by: str | None = None,
        signature: str | None = None,
        **claims: Any,
    ) -> str:
        """A token; without arguments, a good one."""
        head = {"alg": "RS256", "kid": key_id, "typ": "JWT", **(header or {})}
        head = {name: value for name, value in head.items() if value is not None}
        text = f"{encoded(json.dumps(head).encode())}.{encoded(json.dumps(self.claims(**claims)).encode())}"
        if signature is None:
            signature = encoded(sign(signed_by or key_id, text))
        return f"{text}.{signature}"


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}
