"""Metrics of this gateway: its gauges and counters, read at the moment of the scrape."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from channels.layers import get_channel_layer
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from chatsite.server import figures
from integrations.access import endings
from integrations.callbacks import callback_uses
from integrations.models import CallbackResult
from rooms import faults
from rooms.gateway.gateway import Gateway

Described = dict[str, tuple[str, float]]  # by name: a description, and the value


class GatewayCollector(Collector):
    """Turns the figures of a gateway into metric families."""

    def __init__(self, source: Gateway) -> None:
        self._source = source

    def collect(self) -> Iterable[Metric]:
        """Yield one family a figure."""
        here = self._source
        gauges, counters = gateway_gauges(here), gateway_counters(here) | broadcast_counters() | callback_counters()
        for name, (kind, text, figure) in figures.of_server().items():
            (gauges if kind == "gauge" else counters)[name] = (text, figure)
        for name, (text, value) in gauges.items():
            family = GaugeMetricFamily(name, text, labels=["gateway"])
            family.add_metric([here.server_id], value)
            yield family
        for name, (text, value) in counters.items():
            counter = CounterMetricFamily(name, text, labels=["gateway"])
            counter.add_metric([here.server_id], value)
            yield counter
        errors = CounterMetricFamily(
            "chat_unexpected_errors",
            "Exceptions that nothing expected, by the task that went on",
            labels=["gateway", "place"],
        )
        for place, count in sorted(faults.counts().items()):
            errors.add_metric([here.server_id, place], count)
        yield errors


def gateway_gauges(here: Gateway) -> Described:
    """Return what a gateway holds now."""
    hubs = list(here.hubs.values())
    return {
        "chat_connections": ("WebSockets held (limit: CONNECTION_MAX_PER_GATEWAY)", len(here.connections)),
        "chat_rooms": ("Rooms with a hub in this gateway", len(hubs)),
        "chat_members": ("Connections attached to rooms, once a room", sum(hub.members for hub in hubs)),
        "chat_lagging_members": ("Members that catch up at the moment", sum(hub.lagging for hub in hubs)),
        "chat_tail_bytes": (
            "Memory of the rooms' tails (limits: ROOM_MEMORY_BYTES each, ROOMS_MEMORY_BYTES together)",
            here.memory.used,
        ),
        "chat_batch_bytes": ("Encoded frames kept (limit: BATCHES_MEMORY_BYTES)", here.batches.bytes_kept),
        "chat_passes_waiting": ("Rooms that are being written to, or wait for it", here.passes.waiting),
        "chat_accept_waiting": (
            "Messages that wait for their transaction (limit: ACCEPT_QUEUE_MESSAGES)",
            here.acceptor.waiting,
        ),
        "chat_accept_waiting_bytes": (
            "Content that waits, or is in its transaction (limit: ACCEPT_QUEUE_BYTES)",
            here.acceptor.waiting_bytes,
        ),
        "chat_accept_stuck_rooms": ("Rooms that another transaction keeps locked", len(here.acceptor.stuck)),
        "chat_accept_stuck_waiting": (
            "Messages that wait for such rooms (limit: a quarter of ACCEPT_QUEUE_MESSAGES)",
            here.acceptor.stuck.waiting,
        ),
        "chat_verdicts_waiting": ("Messages whose authors wait for a verdict", here.acceptor.pending.waiting),
        "chat_occupancy_askers": (
            "Attachments that are told (limit: OCCUPANCY_MAX_SUBSCRIBERS)",
            len(here.occupancy.subscribers),
        ),
        "chat_occupancy_unwritten": ("Rooms whose counts wait to be written", here.occupancy.counters.unwritten),
        "chat_revocations": ("Revocations in memory (limit: REVOCATIONS_MAX)", endings.of_this_loop().held),
        "chat_tasks": ("Tasks on the event loop", len(asyncio.all_tasks())),
    }


def gateway_counters(here: Gateway) -> Described:
    """Return what a gateway has done since it started."""
    hubs = list(here.hubs.values())
    subscribers = here.occupancy.subscribers
    return {
        "chat_delivered": ("Messages written to members", here.delivered + sum(hub.delivered for hub in hubs)),
        "chat_accepted": ("Messages that became durable or were refused", here.acceptor.accepted),
        "chat_accept_batches": (
            "Transactions that accepted (each at most ACCEPT_BATCH_MESSAGES)",
            here.acceptor.batches,
        ),
        "chat_accept_seconds": ("Seconds in these transactions, waits for locks included", here.acceptor.seconds),
        "chat_accept_refused": ("Publishes refused because too much waited (42910)", here.acceptor.refused),
        "chat_accept_stuck_refused": (
            "Publishes into such rooms refused after ACCEPT_RETRY_SECONDS (50003), or as too many (42910)",
            here.acceptor.stuck.refused,
        ),
        "chat_healed": ("Messages that no broadcast brought, read from Postgres", here.healer.healed),
        "chat_pass_slices": ("Turns of the loop spent on passes (each: HUB_SLICE_SECONDS)", here.passes.slices),
        "chat_starting_point_reads": (
            "Questions to Postgres about where members start to read",
            here.starting_points.questions,
        ),
        "chat_catch_up_reads": ("Reads of the log for members that were away", here.reader.reads),
        "chat_broadcasts_dropped": ("Messages not broadcast because Redis was too slow", here.announcer.dropped),
        "chat_occupancy_told": (
            "Occupancy events written (a second: OCCUPANCY_FRAMES_PER_SECOND)",
            subscribers.written,
        ),
        "chat_occupancy_missed_beats": ("Heartbeats to the other gateways that failed", here.occupancy.missed),
        "chat_rooms_made": ("Rooms that were made by attaching to them", here.directory.made),
        "chat_rooms_refused": (
            "Attaches refused because the client had made too many such rooms (90010)",
            here.directory.refused,
        ),
        "chat_rooms_swept": ("Rooms removed because nobody used them", here.swept),
        "chat_kept_alive": ("Heartbeats and pings sent", here.connections.kept_alive),
        "chat_sent_away": ("Connections sent elsewhere before a stop", here.connections.sent_away),
        "chat_connections_revoked": ("Connections ended with their key or token", here.connections.revoked),
    }


def broadcast_counters() -> Described:
    """Return the counters of this loop's channel layer, zeros if it is a layer of another kind."""
    layer = get_channel_layer()
    texts = {
        "received": "Broadcasts that arrived; only rooms with members here are subscribed to",
        "received_bytes": "Bytes of the broadcasts that arrived",
        "overflowed": "Broadcasts that came faster than they were handled (limit: BROADCAST_INBOX_BYTES)",
        "reconnects": "Connections for broadcasts that were lost and opened again",
    }
    return {f"chat_broadcasts_{name}": (text, int(getattr(layer, name, 0))) for name, text in texts.items()}


def callback_counters() -> Described:
    """Return the uses of callback tokens in this process, by result."""
    texts = {
        CallbackResult.APPLIED: "Callbacks whose verdict counted",
        CallbackResult.REPEATED: "Callbacks that were answered as before",
        CallbackResult.LATE: "Callbacks after the deadline had decided",
        CallbackResult.REFUSED: "Callbacks that were refused",
        callback_uses.UNRECORDED: "Callbacks that are only counted here (limit: CALLBACK_FORGED_PER_MINUTE)",
    }
    uses = callback_uses.counts.figures()
    return {f"chat_callbacks_{name}": (text, uses[name]) for name, text in texts.items()}
