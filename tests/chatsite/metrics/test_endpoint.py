"""Metrics: every bound has a figure, and only this machine and staff may read them."""

from __future__ import annotations

import re
import urllib.request
from typing import Any

from django.contrib.auth.models import AnonymousUser
from django.core.handlers.asgi import ASGIRequest as AsyncRequest
from django.test import AsyncRequestFactory
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.registry import Collector

from chatsite.metrics.endpoint import is_allowed, metrics
from chatsite.metrics.gateway import GatewayCollector
from rooms import faults
from rooms.gateway import gateway
from tests.instance import Instance
from tests.patience import PATIENCE


def test_a_gateway_tells_its_figures(instance: Instance) -> None:
    with urllib.request.urlopen(f"{instance.url}/metrics", timeout=PATIENCE) as answer:
        text = answer.read().decode()

    assert re.search(r'^chat_connections\{gateway="[0-9a-f]{8}"\} \d', text, re.MULTILINE)
    assert re.search(r'^chat_accepted_total\{gateway="[0-9a-f]{8}"\} \d', text, re.MULTILINE)


async def stranger() -> AnonymousUser:
    return AnonymousUser()


def coming_from(address: str, **meta: str) -> AsyncRequest:
    request = AsyncRequestFactory().get("/metrics")
    request.META |= {"REMOTE_ADDR": address, **meta}
    request.auser = stranger
    return request


async def test_what_nothing_expected_is_told_by_place() -> None:
    try:
        raise KeyError("a fault")
    except KeyError:
        faults.record("a metrics test")

    here = gateway.current()
    try:
        text = generate_latest(registry_of(GatewayCollector(here))).decode()
    finally:
        await here.close()

    assert f'chat_unexpected_errors_total{{gateway="{here.server_id}",place="a metrics test"}} 1.0' in text


def registry_of(collector: Collector) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    return registry


async def test_strangers_do_not_get_them() -> None:
    assert (await metrics(coming_from("203.0.113.7"))).status_code == 403


async def test_strangers_behind_a_proxy_on_this_machine_do_not_get_them() -> None:
    assert (await metrics(coming_from("127.0.0.1", HTTP_X_FORWARDED_FOR="203.0.113.7"))).status_code == 403


def test_another_machine_may_be_allowed(settings: Any) -> None:
    settings.METRICS_ALLOW = ["10.1.0.0/16"]

    assert is_allowed(coming_from("10.1.2.3"))
    assert not is_allowed(coming_from("10.2.2.3"))
