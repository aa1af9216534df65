"""Signatures: the reference implementation accepts what is sent, and what was altered is refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook as Reference
from standardwebhooks import WebhookVerificationError

import lro_aio as lro
from lro_aio.webhooks.signing import headers_of, keys_of

from ..receiver import OTHER_SECRET, SECRET

BODY = b'{"type":"operation.succeeded"}'


def signed(*secrets: str, at: float | None = None, body: bytes = BODY) -> dict[str, str]:
    now = datetime.now(UTC).timestamp() if at is None else at
    return headers_of("msg_1", now, body, keys_of(secrets))


@pytest.mark.parametrize("secret", [SECRET, OTHER_SECRET])
def test_the_reference_accepts_either_secret_of_a_rotation(secret: str) -> None:
    assert Reference(secret).verify(BODY.decode(), signed(SECRET, OTHER_SECRET)) == json.loads(BODY)


def test_the_reference_refuses_another_secret() -> None:
    with pytest.raises(WebhookVerificationError):
        Reference(OTHER_SECRET).verify(BODY.decode(), signed(SECRET))


def test_what_the_reference_signs_is_accepted_whatever_the_case_of_the_headers() -> None:
    now = datetime.now(UTC)
    headers = {
        "Webhook-Id": "msg_1",
        "WEBHOOK-TIMESTAMP": str(int(now.timestamp())),
        "webhook-signature": Reference(SECRET).sign("msg_1", now, BODY.decode()),
    }
    assert lro.webhooks.verify(BODY, headers, SECRET) == json.loads(BODY)
    assert lro.webhooks.verify(BODY.decode(), headers, [OTHER_SECRET, SECRET]) == json.loads(BODY)


@pytest.mark.parametrize(
    ("altered", "problem"),
    [
        ({"webhook-id": "msg_2"}, "no signature"),
        ({"webhook-timestamp": "1000000001"}, "no signature"),
        ({"webhook-timestamp": "1e9"}, "malformed"),
        ({"webhook-timestamp": "1" * 30}, "malformed"),
        ({"webhook-timestamp": "-5"}, "malformed"),
        ({"webhook-signature": "v1,AAAA"}, "no signature"),
        ({"webhook-signature": "v1a,AAAA v2,é"}, "no signature"),
        ({"webhook-signature": ""}, "missing"),
        ({"webhook-id": ""}, "missing"),
    ],
)
def test_what_was_altered_is_refused(altered: dict[str, str], problem: str) -> None:
    headers = signed(SECRET, at=1e9) | altered
    with pytest.raises(lro.webhooks.SignatureError, match=problem):
        lro.webhooks.verify(BODY, headers, SECRET, now=1e9)


def test_another_body_is_refused() -> None:
    with pytest.raises(lro.webhooks.SignatureError):
        lro.webhooks.verify(BODY + b" ", signed(SECRET), SECRET)


@pytest.mark.parametrize("late", [301, -301])
def test_what_was_signed_long_ago_or_in_the_future_is_refused(late: float) -> None:
    headers = signed(SECRET, at=1e9)
    with pytest.raises(lro.webhooks.SignatureError, match="301 s from now"):
        lro.webhooks.verify(BODY, headers, SECRET, now=1e9 + late)
    assert lro.webhooks.verify(BODY, headers, SECRET, tolerance=302, now=1e9 + late)


@pytest.mark.parametrize("body", [b"not json", b"[1]", b"\xff"])
def test_what_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(lro.webhooks.SignatureError, match="JSON"):
        lro.webhooks.verify(body, signed(SECRET, body=body), SECRET)


@pytest.mark.parametrize("secret", ["", "whsec_", "secret", "whsec_short", "whsec_" + "!" * 40, SECRET[6:]])
def test_a_secret_of_a_wrong_form_is_refused_at_once_and_not_told(secret: str) -> None:
    with pytest.raises(ValueError, match="a webhook secret must be 'whsec_'") as caught:
        lro.Webhooks(secrets=secret, any_origin=True)
    assert len(secret) < 8 or secret not in str(caught.value)
    assert caught.value.__cause__ is None


def test_no_secret_is_shown() -> None:
    rules = lro.Webhooks(secrets=SECRET, any_origin=True)
    assert SECRET[6:] not in repr(rules)
    assert "_keys" not in repr(rules)
