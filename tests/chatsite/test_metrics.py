"""Metrics: every bound has a figure, and only this machine and staff may read them."""

from __future__ import annotations

import re
import urllib.request

from django.contrib.auth.models import AnonymousUser
from django.test import AsyncRequestFactory

from chatsite.metrics import metrics
from tests.instance import Instance


def test_a_gateway_tells_its_figures(instance: Instance) -> None:
    with urllib.request.urlopen(f"{instance.url}/metrics", timeout=5) as answer:
        text = answer.read().decode()

    assert re.search(r'^chat_connections\{gateway="[0-9a-f]{8}"\} \d', text, re.MULTILINE)
    assert re.search(r'^chat_accepted_total\{gateway="[0-9a-f]{8}"\} \d', text, re.MULTILINE)


async def stranger() -> AnonymousUser:
    return AnonymousUser()


async def test_strangers_do_not_get_them() -> None:
    request = AsyncRequestFactory().get("/metrics")
    request.META["REMOTE_ADDR"] = "203.0.113.7"
    request.auser = stranger

    assert (await metrics(request)).status_code == 403
