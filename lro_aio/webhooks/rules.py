"""Which webhooks a service allows, how it signs them, and how it sends them."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from lro_aio.core.names import MalformedIdError
from lro_aio.core.policies import Duration, seconds, whole
from lro_aio.core.webhooks import MOST_CHARACTERS, Webhook
from lro_aio.webhooks.addresses import Address, Network, literal, networks_of, refusal
from lro_aio.webhooks.signing import keys_of

__all__ = ["Secrets", "Target", "Webhooks", "target_of"]

_FIELD = "webhook.url"
_PORTS = {"http": 80, "https": 443}
# So narrow that no two parsers can read different hosts in it.
_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]*)://(?P<host>[A-Za-z0-9._\-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<rest>[/?][A-Za-z0-9\-._~!$&'()*+,;=:@/?%\[\]|]*)?"
)
_NUMBER = re.compile(r"(.*\.)?(0x[0-9a-f]*|[0-9]+)")
"""The host is an address in a form that only some resolvers read, such as ``127.1`` or ``0x7f000001``."""
_LOCALHOST = re.compile(r"(.*\.)?localhost")

Secrets = str | Sequence[str] | Mapping[str, str | Sequence[str]]
"""One secret, several of which each signs, or either by origin."""


class Target(NamedTuple):
    """The parts of a URL."""

    scheme: str
    host: str
    """In lower case; an IPv6 address without its brackets."""
    port: int
    rest: str
    """Path and query."""

    @property
    def origin(self) -> str:
        """Scheme, host and port, in the one spelling."""
        port = "" if self.port == _PORTS.get(self.scheme) else f":{self.port}"
        return f"{self.scheme}://{self.netloc_host}{port}"

    @property
    def netloc_host(self) -> str:
        """The host as it stands in a URL."""
        return f"[{self.host}]" if ":" in self.host else self.host


def target_of(url: str) -> Target:
    """The parts of a URL that may be sent to.

    Raises:
        MalformedIdError: It is malformed, or of a scheme other than https and http, or with credentials or a fragment.
    """
    problem = ""
    if len(url) > MOST_CHARACTERS:
        problem = f"must have at most {MOST_CHARACTERS} characters"
    elif "#" in url:
        problem = "must have no fragment"
    elif "@" in url.partition("://")[2].split("/")[0].split("?")[0]:
        problem = "must hold no user and no password"
    elif (match := _URL.fullmatch(url)) is None:
        problem = "must be an absolute URL in ASCII, such as 'https://example.com/hooks'"
    elif (scheme := match["scheme"].lower()) not in _PORTS:
        problem = f"must begin with https://, not {scheme}://"
    else:
        host, port = match["host"].lower().rstrip("."), int(match["port"] or _PORTS[scheme])
        address = literal(host)
        if not host or (address is None and (":" in host or _NUMBER.fullmatch(host))) or not 0 < port < 65536:
            problem = "must name a host and a port that there can be"
        else:
            rest = match["rest"] or "/"
            plain = host if address is None else str(address)
            return Target(scheme, plain, port, rest if rest.startswith("/") else f"/{rest}")
    raise MalformedIdError(_FIELD, problem)


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhooks:
    """Whom a service tells of the ends of its operations, and on what terms: ``Client(webhooks=...)``.

    A URL that a user gives to ``start(webhook=)`` is refused unless its origin is named here. Whatever is named, no
    address is connected to that is not public, unless ``allow_private`` says so.
    """

    secrets: Secrets = field(repr=False)
    """``whsec_...``, which sign all that is sent. Several, while one is rotated: each signs. Or by origin, so that no
    receiver can sign in the name of the service for another: ``{"https://a.example": "whsec_..."}``."""
    receivers: Sequence[Webhook] = ()
    """The service's own: told of every operation that ``start`` or ``create`` makes here. Of no children."""
    origins: Sequence[str] = ()
    """Scheme, host and port of the URLs that ``start(webhook=)`` takes: "https://hooks.example.com". One with http://
    is an exception from ``allow_http``."""
    any_origin: bool = False
    """Whether ``start(webhook=)`` takes any URL."""
    allow_private: bool | Sequence[str] = False
    """Addresses that are connected to although they are not public: True for all, or networks: ["10.1.0.0/16"]."""
    allow_http: bool = False
    """Whether http:// will do, where anybody on the way can read what is sent."""
    own: Sequence[str] = ()
    """Origins of the service itself, which nobody is to make it call."""
    timeout: Duration = 10.0
    """Seconds or a timedelta for one try."""
    per_host: int = 8
    """Tries to one host at a time, in one process."""
    ssl_context: ssl.SSLContext | None = field(default=None, repr=False)
    """Whom to trust; None: the usual authorities."""
    _keys: Mapping[str, tuple[bytes, ...]] = field(default_factory=dict, init=False, repr=False, compare=False)
    """By origin; "" is any."""
    _networks: tuple[Network, ...] = field(default=(), init=False, repr=False, compare=False)
    _origins: frozenset[str] = field(default=frozenset(), init=False, repr=False, compare=False)
    _own: frozenset[str] = field(default=frozenset(), init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check all of it, so that nothing is found out when an operation ends."""
        by_origin = self.secrets if isinstance(self.secrets, Mapping) else {"": self.secrets}
        if not by_origin:
            raise ValueError("Webhooks.secrets is empty: what is sent must be signed")
        keys = {_origin("secrets", origin) if origin else "": keys_of(found) for origin, found in by_origin.items()}
        for name in ("origins", "own", "receivers"):
            if isinstance(getattr(self, name), str | Webhook):
                raise TypeError(f"Webhooks.{name} must be a sequence")
            object.__setattr__(self, name, tuple(getattr(self, name)))
        whole(self.per_host, "Webhooks.per_host")
        for name, value in (
            ("_keys", keys),
            ("_networks", networks_of(self.allow_private)),
            ("_origins", frozenset(_origin("origins", origin) for origin in self.origins)),
            ("_own", frozenset(_origin("own", origin) for origin in self.own)),
            ("timeout", seconds(self.timeout, "Webhooks.timeout", positive=True)),
        ):
            object.__setattr__(self, name, value)
        for receiver in self.receivers:
            self._checked(receiver.url)

    def check(self, webhook: Webhook) -> None:
        """Refuse a webhook that somebody gave to ``start``, and that is not allowed.

        Raises:
            ValueError: It says why. Servers answer INVALID_ARGUMENT.
        """
        self._taken(webhook.url)

    def of_service(self, url: str) -> Webhooks:
        """The same for a service that is served at this URL; "" where that is not known. For the engine."""
        if not url:
            return self
        return replace(self, own=(*self.own, target_of(url).origin))

    def keys(self, target: Target) -> tuple[bytes, ...]:
        """The keys that sign what is sent there. None where there is no secret for it. For the engine."""
        return self._keys.get(target.origin, self._keys.get("", ()))

    def refused(self, address: Address) -> str:
        """Why an address may not be connected to; "" where it may. For the engine."""
        return refusal(address, self._networks)

    def allows(self, url: str) -> Target:
        """The target of a URL that is about to be sent to, or a ``MalformedIdError``: it was stored under other rules.

        For the engine.
        """
        if any(receiver.url == url for receiver in self.receivers):
            return self._checked(url)
        return self._taken(url)

    def _taken(self, url: str) -> Target:
        """What holds for what others give."""
        target = self._checked(url)
        if not self.any_origin and target.origin not in self._origins:
            raise MalformedIdError(_FIELD, f"must be of an origin that this service allows, not {target.origin}")
        return target

    def _checked(self, url: str) -> Target:
        """What holds for the service's own receivers too."""
        target = target_of(url)
        if target.scheme == "http" and not self.allow_http and target.origin not in self._origins:
            raise MalformedIdError(_FIELD, "must begin with https://")
        if target.origin in self._own:
            raise MalformedIdError(_FIELD, "must not be of this service itself")
        address = literal("127.0.0.1" if _LOCALHOST.fullmatch(target.host) else target.host)
        if address is not None and (problem := self.refused(address)):
            raise MalformedIdError(_FIELD, f"must have another address: {target.host} {problem}")
        if not self.keys(target):
            raise MalformedIdError(_FIELD, f"must be of an origin for which there is a secret, not {target.origin}")
        return target


def _origin(name: str, url: str) -> str:
    try:
        target = target_of(url)
    except (MalformedIdError, TypeError) as exc:
        raise ValueError(f"Webhooks.{name} has {url!r}, which is no origin such as 'https://example.com'") from exc
    if target.rest != "/":
        raise ValueError(f"Webhooks.{name} has {url!r}: an origin ends behind the host and its port")
    return target.origin
