"""Signatures, against the official library of the scheme."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from integrations.wire.signing import BadSignature, draw_secret, sign, verify

NOW = 1_790_000_000
BODY = '{"messages":[{"data":"grüße"}]}'.encode()


def test_the_official_library_verifies_our_calls() -> None:
    secret = draw_secret()
    headers = sign([secret], webhook_id="msg_1", timestamp=int(time.time()), body=BODY)

    assert Webhook(secret).verify(BODY, headers) == {"messages": [{"data": "grüße"}]}


def test_we_verify_the_calls_of_the_official_library() -> None:
    secret = draw_secret()
    signature = Webhook(secret).sign("msg_1", datetime.fromtimestamp(NOW, UTC), BODY.decode())

    verify(
        [secret],
        {"webhook-id": "msg_1", "webhook-timestamp": str(NOW), "webhook-signature": signature},
        BODY,
        now=NOW,
    )


def test_the_example_of_the_specification_has_its_published_signature() -> None:
    headers = sign(
        ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
        webhook_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp=1614265330,
        body=b'{"test": 2432232314}',
    )

    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_official_library_refuses_a_changed_byte_an_old_timestamp_and_the_wrong_secret() -> None:
    secret, now = draw_secret(), int(time.time())
    fresh = sign([secret], webhook_id="msg_1", timestamp=now, body=BODY)
    old = sign([secret], webhook_id="msg_1", timestamp=now - 301, body=BODY)

    for key, headers, body in (
        (secret, fresh, BODY + b" "),
        (secret, old, BODY),
        (draw_secret(), fresh, BODY),
    ):
        with pytest.raises(WebhookVerificationError):
            Webhook(key).verify(body, headers)


def test_during_a_rotation_both_the_old_and_the_new_secret_verify() -> None:
    old, new = draw_secret(), draw_secret()
    headers = sign([new, old], webhook_id="msg_1", timestamp=int(time.time()), body=BODY)

    assert len(headers["webhook-signature"].split()) == 2
    for secret in (old, new):
        Webhook(secret).verify(BODY, headers)
        verify([secret], headers, BODY, now=time.time())


@pytest.mark.parametrize("age", [-301, 301])
def test_a_call_from_another_time_is_refused(age: int) -> None:
    secret = draw_secret()
    headers = sign([secret], webhook_id="msg_1", timestamp=NOW - age, body=BODY)

    with pytest.raises(BadSignature):
        verify([secret], headers, BODY, now=NOW)


def test_an_id_with_a_dot_is_never_signed() -> None:
    with pytest.raises(ValueError, match="dot"):
        sign([draw_secret()], webhook_id="a.b", timestamp=NOW, body=BODY)


@given(
    st.dictionaries(st.sampled_from(["webhook-id", "webhook-timestamp", "webhook-signature"]), st.text()), st.binary()
)
def test_noise_is_refused_and_never_breaks_the_verifier(headers: dict[str, str], body: bytes) -> None:
    with pytest.raises(BadSignature):
        verify(["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"], headers, body, now=NOW)
