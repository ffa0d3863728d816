"""What was sealed, signed or issued by any version before stays readable: moving a module must not change its keys."""

from __future__ import annotations

from pytest_django import Settings

from integrations.access import opaque_tokens
from integrations.secrets.sealing import unseal
from integrations.wire import callback_tokens

SECRET_KEY = "a key of 2026"
STORED = b"gAAAAABrCERHDH1lIy5cT-Kf3YuLDShiVtBS_m0GDeFOO6OFRYRlE62xllzMXNS5JqnNbIpaHoyiL6x-n0aWlUOGojeGNc6K9A=="


def test_a_secret_that_an_earlier_version_stored_is_opened(settings: Settings) -> None:
    settings.SECRET_KEY = SECRET_KEY
    assert unseal(STORED) == "whsec_stored"


def test_tokens_are_derived_by_the_same_keys_as_in_every_earlier_version() -> None:
    assert callback_tokens.derive_key(SECRET_KEY).hex() == (
        "6d01ae303de01fea47c715468d3d9da95884b8c1f236225354a3e5860e41d19a"
    )
    assert opaque_tokens._derive("secret").hex() == "ee27579f3b9713ed648bb9d604128a36af4e99c1123399829f7747404dc07016"
