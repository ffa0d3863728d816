"""One message walks through few files: from the frame of its author to the frames of the members, and to the ACK."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from integrations.access import keys
from rooms.access.capabilities import Capability
from rooms.connection.consumer import ChatConsumer
from rooms.log.content import Content, Draft
from rooms.log.entries import Entry
from rooms.log.outcomes import Outcome
from rooms.log.rows import Row
from rooms.protocol.wire import Action, Message, ProtocolMessage, PublishResult
from tests.patience import PATIENCE

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]

ROOT = Path(__file__).resolve().parents[2]
TEXT = "a text that nothing else holds"
SHAPES = (ProtocolMessage, Message, Content, Draft, Row, Entry, Outcome, PublishResult)
MAX_FILES = 25


class Walk:
    """Notes the files of rooms/ that have a function which is handed the message, in whatever shape."""

    def __init__(self) -> None:
        self.files: set[str] = set()

    def profile(self, frame: FrameType, event: str, argument: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(f"{ROOT}/rooms/"):
            names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
            if any(holds(frame.f_locals.get(name)) for name in names):
                self.files.add(code.co_filename.removeprefix(f"{ROOT}/"))

    @contextmanager
    def followed(self) -> Any:
        """Follow calls in the loop's thread, and in threads that start meanwhile."""
        threading.setprofile(self.profile)
        sys.setprofile(self.profile)
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)  # type: ignore[arg-type]


def holds(value: Any, depth: int = 0) -> bool:
    """Return whether a value is the message, a sequence that begins with it, or a mapping to it."""
    if isinstance(value, SHAPES):
        return True
    if isinstance(value, str | bytes):
        return TEXT in (value if isinstance(value, str) else value.decode(errors="replace"))
    if depth < 2 and isinstance(value, dict):
        return any(holds(inner, depth + 1) for inner in value.values())
    if depth < 2 and isinstance(value, list | tuple) and value:
        return holds(value[0], depth + 1)
    return False


class Client:
    """A client on an ASGI connection of its own."""

    def __init__(self) -> None:
        self.inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.outbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def say(self, **message: Any) -> None:
        await self.inbox.put({"type": "websocket.receive", "text": json.dumps(message)})

    async def hear(self, *actions: Action) -> None:
        """Wait until a protocol message of each of these actions has come."""
        missing = set(actions)
        while missing:
            event = await asyncio.wait_for(self.outbox.get(), PATIENCE)
            if event["type"] == "websocket.send":
                missing.discard(Action(json.loads(event["text"])["action"]))


@asynccontextmanager
async def connected() -> AsyncIterator[Client]:
    client = Client()
    key = await sync_to_async(keys.create)(Capability.parse({"*": ["*"]}))
    scope = {"type": "websocket", "path": "/", "query_string": f"key={key.text}&clientId=alice".encode()}
    serving = asyncio.create_task(ChatConsumer()(scope, client.inbox.get, client.outbox.put))
    await client.inbox.put({"type": "websocket.connect"})
    await client.hear(Action.CONNECTED)
    yield client
    await client.inbox.put({"type": "websocket.disconnect"})
    await serving


async def test_one_message_walks_through_at_most_25_files() -> None:
    walk = Walk()
    async with connected() as client:
        await client.say(action=Action.ATTACH, channel="lobby")
        await client.hear(Action.ATTACHED)
        with walk.followed():
            # The first publish of a process starts the thread that accepts.
            await client.say(
                action=Action.MESSAGE, channel="lobby", msgSerial=0, messages=[{"name": "m", "data": TEXT}]
            )
            await client.hear(Action.MESSAGE, Action.ACK)
    assert {"rooms/connection/consumer.py", "rooms/publishing/accept.py", "rooms/fanout/hub.py"} <= walk.files
    assert len(walk.files) <= MAX_FILES, sorted(walk.files)
