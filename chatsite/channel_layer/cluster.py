"""A Redis Cluster with sharded pub/sub: each channel lives on the node that has its slot, and moves with it.

redis-py's asynchronous cluster client (up to 7) has no pub/sub; its connections, TLS and slot arithmetic are used.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import replace

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from chatsite.channel_layer.addresses import Address
from chatsite.channel_layer.node import Links, Node
from chatsite.channel_layer.publisher import Publication
from chatsite.channel_layer.slots import HostPort, Slots, ask_any
from rooms import faults
from rooms.faults import REDIS_AWAY

logger = logging.getLogger(__name__)

REFRESH_SECONDS = 10.0  # the slots are asked for this often anyway: a node cut off from the others says nothing
REFRESH_MIN_SECONDS = 0.25


class Cluster:
    """A shards.Broker on a cluster. The slots are read when they are first needed and after any trouble."""

    def __init__(self, seeds: Sequence[Address], links: Links) -> None:
        self._seeds = seeds
        self._links = replace(links, sharded=True, on_trouble=self._suspect)
        self._slots = Slots()
        self._nodes: dict[HostPort, Node] = {}
        self._placed: dict[str, Node | None] = {}  # every channel that is wanted, and where it was asked for
        self._reading = asyncio.Lock()
        self._read_at = float("-inf")
        self._suspicion = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closed_reconnects = 0

    @property
    def reconnects(self) -> int:
        return self._closed_reconnects + sum(node.subscriber.reconnects for node in self._nodes.values())

    def lane(self, channel: str) -> Hashable:
        """See Broker. All channels are in one lane until the slots are known."""
        place = self._slots.place_of(channel)
        return place and f"{place[0]}:{place[1]}"

    # --- Publishing --------------------------------------------------------------------------------------

    async def publish(self, messages: Sequence[Publication]) -> None:
        """See Broker. Messages whose slot has moved are sent again, once, to the node that has it now.

        Each reading of the slots takes no longer than one round trip may.
        """
        await self._start()
        moved = await self._publish(messages)
        if moved:
            await self._read_slots()
            if await self._publish(moved):
                raise RedisConnectionError("the slots are on the move")

    async def _publish(self, messages: Sequence[Publication]) -> list[Publication]:
        """Publish and return the messages that nodes refused. Raises when a node cannot be reached."""
        by_node: dict[Node, list[Publication]] = defaultdict(list)
        refused: list[Publication] = []
        for message in messages:
            node = self._node_of(message[0])
            (refused if node is None else by_node[node]).append(message)
        batches = list(by_node.items())
        sending = [node.publisher.publish(batch) for node, batch in batches]
        failure: BaseException | None = None
        for (_, batch), answer in zip(batches, await asyncio.gather(*sending, return_exceptions=True), strict=True):
            if isinstance(answer, BaseException):
                failure = answer
                self._suspect()
            else:
                refused += _refused(batch, answer)
        if failure is not None:
            raise failure
        return refused

    # --- Subscribing -------------------------------------------------------------------------------------

    async def subscribe(self, channel: str) -> None:
        """See Broker. When the slot moves during the wait, the wait goes on at the node that has it now.

        Raises redis.ConnectionError when the channel is left meanwhile.
        """
        self._placed.setdefault(channel, None)
        while True:
            await self._start()
            if channel not in self._placed:
                raise RedisConnectionError("the subscription was given up")
            node = self._placed[channel] or self._node_of(channel)
            if node is None:
                raise RedisConnectionError("no node has the slot")
            self._placed[channel] = node
            try:
                await node.subscriber.subscribe(channel)
            except RedisConnectionError:
                if self._placed.get(channel, node) is node:
                    raise
            else:
                if channel in self._placed:
                    return

    async def leave(self, channel: str) -> None:
        """See Broker."""
        node = self._placed.pop(channel, None)
        if node is not None:
            await node.subscriber.leave([channel])

    async def close(self) -> None:
        """See Broker."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        self._placed.clear()
        self._slots = Slots()
        await self._close_nodes(list(self._nodes))

    # --- Slots -------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        """Read the slots, and follow their moves from now on. Raises redis.ConnectionError when no node answers."""
        if self._task is None:
            self._task = asyncio.create_task(self._follow_slots(), name="redis cluster slots")
        if not self._slots.places():
            await self._read_slots()

    def _suspect(self) -> None:
        """Note that the slots may have moved."""
        self._suspicion.set()

    def _node_of(self, channel: str) -> Node | None:
        place = self._slots.place_of(channel)
        if place is None:
            return None
        if place not in self._nodes:
            self._nodes[place] = Node(self._seeds[0].at(*place), self._links)
        return self._nodes[place]

    async def _follow_slots(self) -> None:
        while True:
            try:
                async with asyncio.timeout(REFRESH_SECONDS):
                    await self._suspicion.wait()
            except TimeoutError:
                pass
            self._suspicion.clear()
            try:
                await self._read_slots()
                await self._move_subscriptions()
            except REDIS_AWAY as error:  # no node answers; the hubs heal from Postgres, and we try again
                logger.debug("the cluster's slots are unknown (%s)", type(error).__name__)
                self._suspect()
            except Exception:
                faults.record("redis cluster slots")
                self._suspect()
            await asyncio.sleep(REFRESH_MIN_SECONDS * random.uniform(1.0, 2.0))

    async def _read_slots(self) -> None:
        """Read the slots from a node that answers, in random order. Raises redis.ConnectionError if none does in time.

        One deadline for all nodes: however many hang, a publisher waits for one timeout.
        """
        loop = asyncio.get_running_loop()
        called_at = loop.time()
        try:
            async with asyncio.timeout(self._links.timeout), self._reading:
                if self._read_at > called_at:
                    return  # another task has read them during the wait
                began = loop.time()
                known = [node.address for node in self._nodes.values()]
                addresses = [*random.sample(known, len(known)), *self._seeds]
                self._slots = await ask_any(addresses, timeout=self._links.timeout)
                self._read_at = began
        except (RedisConnectionError, TimeoutError):
            self._suspect()
            raise RedisConnectionError("no node of the cluster answers") from None

    async def _move_subscriptions(self) -> None:
        """Listen to each channel on the node that has its slot now, and drop nodes that have no slot."""
        leaving: dict[Node, list[str]] = defaultdict(list)
        joining: dict[Node, list[str]] = defaultdict(list)
        for channel, former in self._placed.items():
            node = self._node_of(channel) or former
            if node is not None:
                joining[node].append(channel)
                if former is not None and former is not node:
                    leaving[former].append(channel)
                self._placed[channel] = node
        # Join first: a message that both nodes deliver is dropped as a double, one that neither delivers is a hole.
        for node, channels in joining.items():
            await node.subscriber.want([channel for channel in channels if self._placed.get(channel) is node])
        for node, channels in leaving.items():
            await node.subscriber.leave(channels)
        places = self._slots.places()
        # A node whose slot no other node has is kept: its channels have no other place yet.
        idle = [place for place, node in self._nodes.items() if place not in places and node not in joining]
        await self._close_nodes(idle)

    async def _close_nodes(self, places: Sequence[HostPort]) -> None:
        for place in places:
            node = self._nodes.pop(place)
            self._closed_reconnects += node.subscriber.reconnects
            await node.close()


def _refused(batch: Sequence[Publication], answers: Sequence[ResponseError | None]) -> list[Publication]:
    return [message for message, answer in zip(batch, answers, strict=True) if answer is not None]
