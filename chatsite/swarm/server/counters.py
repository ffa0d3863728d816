"""The counters that gateways show at /metrics, as far as a swarm asks. One port may lead to any of them."""

from __future__ import annotations

import http.client
import time

from prometheus_client.parser import text_string_to_metric_families

NAMES = ("chat_catch_up_reads", "chat_healed")
ANSWER_SECONDS = 1.0
TRIES_PER_GATEWAY = 12  # connections are shared out at random: this many find each of six with 99.99 %

Counters = dict[str, dict[str, float]]  # by gateway, by name


def scrape(address: tuple[str, int], *, gateways: int, seconds: float = 2.0) -> Counters:
    """Return the counters of as many gateways as answered in time; none where /metrics is not for us."""
    found: Counters = {}
    deadline = time.monotonic() + seconds
    for _ in range(TRIES_PER_GATEWAY * gateways):
        text = fetch(address, "/metrics")
        if text is None:
            break
        found.update(parse(text))
        if len(found) >= gateways or time.monotonic() > deadline:
            break
    return found


def fetch(address: tuple[str, int], path: str) -> str | None:
    """GET a path over a connection of its own; None if the answer is anything but 200."""
    connection = http.client.HTTPConnection(*address, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        response = connection.getresponse()
        return response.read().decode("utf-8", "replace") if response.status == 200 else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def parse(text: str) -> Counters:
    """Return the counters that are looked at. Pure."""
    found: Counters = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if (name := sample.name.removesuffix("_total")) in NAMES:
                found.setdefault(sample.labels.get("gateway", ""), {})[name] = sample.value
    return found


def grown(before: Counters, after: Counters) -> dict[str, int] | None:
    """Return by how much the counters grew over all gateways; None where nothing is known. Pure.

    A gateway that was started meanwhile counted from 0; what one counted before it was killed is lost.
    """
    if not after:
        return None
    return {
        name: round(sum(now.get(name, 0.0) - before.get(gateway, {}).get(name, 0.0) for gateway, now in after.items()))
        for name in NAMES
    }
