"""Rotating a rule's secret loses no call: for a while each is signed by both."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks import Webhook

from integrations.models import IntegrationRule
from integrations.rules import rules
from integrations.secrets.sealing import seal, unseal
from integrations.secrets.signing_secrets import signing_secrets
from integrations.wire import signing
from rooms.errors import ChatError
from tests.integrations.world import add_rule

NOW = datetime.now(UTC)
FORMER, CURRENT = signing.draw_secret(), signing.draw_secret()


def rotated(until: datetime | None) -> IntegrationRule:
    former = None if until is None else seal(FORMER)
    return IntegrationRule(sealed_secret=seal(CURRENT), sealed_former_secret=former, former_secret_until=until)


def test_a_rule_that_was_never_rotated_has_one_secret() -> None:
    assert signing_secrets(rotated(None), NOW) == [CURRENT]


def test_the_former_secret_signs_beside_the_current_one_until_its_moment() -> None:
    rule = rotated(NOW + timedelta(hours=1))
    assert signing_secrets(rule, NOW) == [CURRENT, FORMER]
    assert signing_secrets(rule, NOW + timedelta(minutes=59, seconds=59)) == [CURRENT, FORMER]
    assert signing_secrets(rule, NOW + timedelta(hours=1)) == [CURRENT]


def test_a_receiver_with_either_secret_accepts_a_call_during_the_rotation() -> None:
    moment = datetime.now(UTC)  # the library looks at the clock: one of the test's own would be old by now
    secrets = signing_secrets(rotated(moment + timedelta(hours=1)), moment)
    headers = signing.sign(secrets, webhook_id="msg_1", timestamp=int(moment.timestamp()), body=b"{}")
    for secret in (FORMER, CURRENT):
        Webhook(secret).verify(b"{}", headers)


@pytest.mark.django_db
def test_a_rotation_keeps_the_former_secret_for_the_overlap_and_no_second_one_cuts_it_short() -> None:
    rule = add_rule("https://example.com/hook")
    first = unseal(rule.sealed_secret)
    second = rules.rotate_secret(rule.name, now=NOW, overlap=timedelta(hours=1))
    rule.refresh_from_db()
    assert signing_secrets(rule, NOW) == [second, first]

    with pytest.raises(ChatError) as refused:
        rules.rotate_secret(rule.name, now=NOW + timedelta(minutes=59))
    assert refused.value.status == 409
    third = rules.rotate_secret(rule.name, now=NOW + timedelta(minutes=59), overlap=timedelta(0))
    rule.refresh_from_db()
    assert signing_secrets(rule, NOW + timedelta(minutes=59)) == [third]
