"""GET /metrics: this gateway's gauges and counters, in the format that Prometheus scrapes.

Each gateway counts for itself; the label `gateway` tells them apart where several share one port. What is told of rules
and workers is the same from all of them. Only METRICS_ALLOW (this machine) and signed-in staff may read it.
"""

from __future__ import annotations

import ipaddress

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseForbidden
from prometheus_client import CollectorRegistry, generate_latest

from chatsite.metrics import rules
from chatsite.metrics.gateway import GatewayCollector
from rooms.gateway import gateway

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


async def metrics(request: HttpRequest) -> HttpResponse:
    """Answer with the figures of the gateway that took the request."""
    if not is_allowed(request) and not (await request.auser()).is_staff:
        return HttpResponseForbidden("Metrics are for METRICS_ALLOW and for staff.")
    registry = CollectorRegistry(auto_describe=False)
    registry.register(GatewayCollector(gateway.current()))
    if (reading := await rules.read()) is not None:
        registry.register(rules.RuleCollector(reading))
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE)


def is_allowed(request: HttpRequest) -> bool:
    """Return whether the peer may read the metrics without signing in. A request through a proxy is not the proxy's."""
    if "HTTP_X_FORWARDED_FOR" in request.META or "HTTP_FORWARDED" in request.META:
        return False
    try:
        address = ipaddress.ip_address(request.META.get("REMOTE_ADDR", ""))
    except ValueError:
        return False
    return any(address in ipaddress.ip_network(network, strict=False) for network in settings.METRICS_ALLOW)
