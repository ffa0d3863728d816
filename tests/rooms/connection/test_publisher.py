"""What a connection may ask to publish, and that a publish is taken whole or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from rooms.access.capabilities import Capability
from rooms.access.grants import Grant
from rooms.connection.publisher import Publisher
from rooms.errors import ChatError, Code
from rooms.log.content import Draft
from rooms.log.directory import RoomRef
from rooms.log.outcomes import Outcome, OutcomeKind
from rooms.protocol.wire import Action, Message, ProtocolMessage
from rooms.publishing import acceptor as module
from rooms.publishing.acceptor import Acceptor
from rooms.publishing.drafts import drafts_of

ROOM = RoomRef(1, "lobby", "abcdefgh")
ANYBODY = Grant(client_id="*", capability=Capability.parse({"*": ["*"]}), key_name="app.key")


def drafts(*texts: str) -> list[Draft]:
    messages = [Message(data=text) for text in texts]
    return drafts_of(messages, ROOM, ANYBODY, base_id="b", connection_id="c", origin="")


def refusal(message: Message) -> ChatError:
    with pytest.raises(ChatError) as caught:
        drafts_of([message], ROOM, ANYBODY, base_id="b", connection_id="c", origin="")
    return caught.value


@pytest.mark.parametrize("client_id", ["x" * 256, "a\0b", "", "*"])
def test_a_client_id_that_cannot_be_kept_is_refused_before_it_reaches_postgres(client_id: str) -> None:
    assert refusal(Message(client_id=client_id, data="x")).code == Code.INVALID_CLIENT_ID


@pytest.mark.parametrize("message_id", ["x" * 256, "a\0b"])
def test_a_message_id_that_cannot_be_kept_is_refused(message_id: str) -> None:
    assert refusal(Message(id=message_id, data="x")).code == Code.INVALID_MESSAGE_ID


@pytest.mark.parametrize(
    "data", [msgspec.msgpack.Ext(5, b"abc"), [msgspec.msgpack.Ext(5, b"abc")], {(1, 2): 3}, {"a": [{(1,): 2}]}]
)
def test_values_of_messagepack_that_json_has_not_are_refused(data: Any) -> None:
    frame = msgspec.msgpack.encode({"data": data})
    assert refusal(msgspec.msgpack.decode(frame, type=Message)).code == Code.INVALID_DATA


class Slow(Acceptor):
    """Accepts when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()
        self.taken: list[str] = []

    async def _accept(self, publishes: Sequence[Sequence[Draft]]) -> Sequence[list[Outcome]]:
        await self.go.wait()
        self.taken += [draft.content.text or "" for drafts in publishes for draft in drafts]
        return [[Outcome(kind=OutcomeKind.PUBLISHED, message=1, serial="s") for _ in drafts] for drafts in publishes]


async def test_a_publish_that_finds_too_little_room_is_refused_whole(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.ACCEPT_QUEUE_MESSAGES = 4
    monkeypatch.setattr("rooms.publishing.acceptor.ACCEPT_BATCH_MESSAGES", 1)
    replies: list[ProtocolMessage] = []
    acceptor = Slow()
    publisher = Publisher(acceptor, replies.append)
    publisher.publish(0, drafts("first"))
    await asyncio.sleep(0)  # it is under way, the queue is empty
    publisher.publish(1, drafts("a", "b", "c"))
    publisher.publish(2, drafts("d", "e", "f"))
    acceptor.go.set()
    await acceptor.close()
    while not publisher.is_idle:
        await asyncio.sleep(0)

    assert acceptor.taken == ["first", "a", "b", "c"]
    answers = {
        serial: reply.action
        for reply in replies
        for serial in range(reply.msg_serial or 0, (reply.msg_serial or 0) + (reply.count or 0))
    }
    assert answers == {0: Action.ACK, 1: Action.ACK, 2: Action.NACK}


async def test_large_messages_that_wait_are_bounded_by_their_bytes(settings: Any) -> None:
    settings.ACCEPT_QUEUE_BYTES = 100_000
    acceptor = Slow()
    accepted = acceptor.submit(drafts("x" * 60_000))
    with pytest.raises(ChatError) as caught:
        acceptor.submit(drafts("y" * 60_000))
    acceptor.go.set()
    await accepted

    assert caught.value.code == Code.TOO_MANY_PUBLISHES
    assert acceptor.submit(drafts("z" * 60_000))
    await acceptor.close()


async def test_a_room_that_is_gone_is_made_again_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(drafts: Sequence[Draft], **_: Any) -> list[Outcome]:
        return [
            Outcome(kind=OutcomeKind.REJECTED, message=0, error=ChatError(Code.NOT_FOUND, "The room no longer exists."))
            for _ in drafts
        ]

    monkeypatch.setattr(module, "accept", gone)
    made: list[str] = []

    async def make_again(name: str) -> RoomRef:
        made.append(name)
        return ROOM

    (outcome,) = await Acceptor(make_again=make_again).submit(drafts("a"))

    assert made == ["lobby"]
    assert outcome.kind is OutcomeKind.REJECTED
