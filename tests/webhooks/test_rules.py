"""Which webhooks a service takes: only those that it names, and never one that leads inside."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

import lro_aio as lro
from lro_aio.core.names import MalformedIdError
from lro_aio.servers.errors import status_of
from lro_aio.webhooks.rules import target_of

from ..receiver import OTHER_SECRET, SECRET

INSIDE = [
    *("127.0.0.1", "127.8.8.8", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254"),
    *("0.0.0.0", "0.1.2.3", "100.64.0.1", "100.127.255.255", "192.0.0.1", "192.0.2.1", "198.18.0.1", "198.51.100.1"),
    *("203.0.113.9", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "192.88.99.1"),
    *("::", "::1", "::127.0.0.1", "fe80::1", "fec0::1", "fc00::1", "fd00::1", "ff02::1", "100::1", "2001:db8::1"),
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b::a00:1", "64:ff9b:1::1", "2002:7f00:1::"),
    *("2002:a00:1::1", "2001:0:7f00:1::", "::ffff:0:127.0.0.1", "3fff::1", "5f00::1", "4000::1"),
]
OUTSIDE = ["8.8.8.8", "1.1.1.1", "100.63.255.255", "100.128.0.0", "172.32.0.1", "2606:4700::1111", "::ffff:8.8.8.8",
           "64:ff9b::8.8.8.8", "2002:808:808::1"]  # fmt: skip


def rules(**options: Any) -> lro.Webhooks:
    return lro.Webhooks(**{"secrets": SECRET, "any_origin": True, **options})


def refused(found: lro.Webhooks, url: str) -> str:
    """Why a URL is refused; "" where it is not."""
    try:
        found.check(lro.Webhook(url))
    except MalformedIdError as exc:
        return str(exc)
    return ""


@pytest.mark.parametrize("address", INSIDE)
def test_what_is_not_public_is_refused_by_its_address(address: str) -> None:
    assert rules().refused(ip_address(address)) == "is not public"
    host = f"[{address}]" if ":" in address else address
    assert "is not public" in refused(rules(), f"https://{host}/x")
    assert rules(allow_private=True).refused(ip_address(address)) == ""


@pytest.mark.parametrize("address", OUTSIDE)
def test_what_is_public_is_allowed(address: str) -> None:
    assert rules().refused(ip_address(address)) == ""


def test_a_network_that_is_allowed_is_no_reason_to_allow_another() -> None:
    found = rules(allow_private=["10.1.0.0/16", "fd00:1::/32"])
    allowed = ["10.1.2.3", "::ffff:10.1.2.3", "fd00:1::5", "8.8.8.8"]
    assert [found.refused(ip_address(one)) for one in allowed] == [""] * 4
    assert all(found.refused(ip_address(one)) for one in ("10.2.0.1", "127.0.0.1", "fd00:2::5", "::ffff:10.2.0.1"))


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://a.example/", "must begin with https://"),
        ("ftp://a.example/", "not ftp://"),
        ("file:///etc/passwd", "absolute URL"),
        ("gopher://a.example/", "not gopher://"),
        ("//a.example/", "absolute URL"),
        ("a.example", "absolute URL"),
        ("", "absolute URL"),
        ("https://", "absolute URL"),
        ("https:///x", "absolute URL"),
        ("https://user:pass@a.example/", "no user and no password"),
        ("https://user@a.example/", "no user and no password"),
        ("https://a.example@127.0.0.1/", "no user and no password"),
        ("https://a.example/#part", "no fragment"),
        ("https://a.example#@b.example/", "no fragment"),
        ("https://a.example\\@b.example/", "no user and no password"),
        ("https://a.example\\.b.example/", "absolute URL"),
        ("https://a.example/a b", "absolute URL"),
        ("https://a.example/\r\nX: y", "absolute URL"),
        ("https://a.example/\tx", "absolute URL"),
        ("https://ex\u00e4mple.com/", "absolute URL"),
        ("https://a.example:0/", "a port that there can be"),
        ("https://a.example:99999/", "a port that there can be"),
        ("https://a.example:port/", "absolute URL"),
        ("https://2130706433/", "a host"),
        ("https://0x7f000001/", "a host"),
        ("https://0x7f.1/", "a host"),
        ("https://127.1/", "a host"),
        ("https://0177.0.0.1/", "a host"),
        ("https://[::g]/", "absolute URL"),
        ("https://[:::]/", "a host"),
        ("https://localhost/", "is not public"),
        ("https://a.localhost:8443/", "is not public"),
        ("https://LOCALHOST./", "is not public"),
        ("https://./", "a host"),
        ("https://a.example/" + "x" * 2000, "at most 2000"),
    ],
)
def test_a_url_of_another_form_is_refused(url: str, problem: str) -> None:
    told = refused(rules(), url)
    assert told.startswith("webhook.url must"), told
    assert problem in told


def test_a_refusal_is_invalid_argument_and_names_the_field() -> None:
    with pytest.raises(MalformedIdError) as caught:
        rules().check(lro.Webhook("https://127.0.0.1/"))
    status = status_of(caught.value)
    assert (status.code, status.message.split()[0]) == (lro.Code.INVALID_ARGUMENT, "webhook.url")


def test_only_origins_that_are_named_are_taken() -> None:
    found = rules(any_origin=False, origins=["https://A.example", "https://b.example:8443/"])
    assert not refused(found, "https://a.example/x?y=1")
    assert not refused(found, "https://a.example:443")
    assert not refused(found, "https://b.example:8443/")
    for url in ("https://a.example:444/", "https://b.example/", "https://a.example.evil.example/", "https://c.example"):
        assert "an origin that this service allows" in refused(found, url)
    assert refused(rules(any_origin=False), "https://a.example/")


def test_plain_http_is_taken_where_it_is_allowed_or_named() -> None:
    assert not refused(rules(allow_http=True), "http://a.example/")
    assert not refused(rules(origins=["http://a.example"]), "http://a.example/")
    assert refused(rules(origins=["http://a.example"]), "http://b.example/")


def test_the_service_itself_is_refused() -> None:
    found = rules(own=["https://api.example.com"]).of_service("https://service.run.app/lro")
    for url in ("https://api.example.com/v1/x", "https://API.example.com:443/", "https://service.run.app/lro/resume"):
        assert "this service itself" in refused(found, url)


def test_each_receiver_may_have_a_secret_of_its_own() -> None:
    found = rules(secrets={"https://a.example": SECRET, "https://b.example": [OTHER_SECRET, SECRET]})
    one, other = (found.keys(target_of(f"https://{host}.example/x")) for host in "ab")
    assert (len(one), len(other)) == (1, 2)
    assert one[0] == other[1]
    assert "there is a secret" in refused(found, "https://c.example/")


@pytest.mark.parametrize(
    "options",
    [
        {"secrets": []},
        {"secrets": {}},
        {"secrets": None},
        {"origins": "https://a.example"},
        {"origins": ["a.example"]},
        {"origins": ["https://a.example/path"]},
        {"own": ["nothing"]},
        {"receivers": lro.Webhook("https://a.example")},
        {"receivers": [lro.Webhook("http://a.example")]},
        {"receivers": [lro.Webhook("https://127.0.0.1")]},
        {"allow_private": "10.0.0.0/8"},
        {"allow_private": ["10.0.0.0/33"]},
        {"timeout": 0},
        {"per_host": 0},
    ],
)
def test_rules_that_make_no_sense_are_refused_when_they_are_made(options: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        rules(**options)


@pytest.mark.parametrize("events", ["failed", ["done"], [], [1]])
def test_a_webhook_says_which_events_there_are(events: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=r"Webhook\.events"):
        lro.Webhook("https://a.example", events=events)


def test_a_client_knows_the_address_of_its_resume_endpoints() -> None:
    scheduler = lro.CloudTasksScheduler(
        project="p", location="l", queue="q", resume_host="https://service.run.app", service_account="a@b.example"
    )
    client = lro.Client("sqlite://", scheduler=scheduler, webhooks=rules())
    with pytest.raises(MalformedIdError, match="this service itself"):
        client._settings.webhooks.check(lro.Webhook("https://service.run.app/lro/resume"))  # type: ignore[union-attr]
