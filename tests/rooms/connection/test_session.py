"""Connection keys and message ids: nobody takes over, or speaks before, somebody else."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import Any

import pytest
from django.db import OperationalError

from rooms.access.capabilities import Capability
from rooms.access.grants import Credentials, Grant
from rooms.connection import connection_keys
from rooms.connection.opening import Opening
from rooms.connection.session import Session, require_serial
from rooms.errors import ChatError, Code
from rooms.fanout.sockets import Framing
from rooms.log.directory import RoomRef
from rooms.protocol.wire import Action, AuthDetails, Format, Message, ProtocolMessage, decode


class Nowhere:
    """A socket and a gateway, as far as a session asks on its way to CONNECTED."""

    framing = Framing.PLAIN
    acceptor = None
    server_id = "s"

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.directory = self.connections = self

    async def get(self, name: str, *_: Any) -> Any:
        raise OperationalError("the server closed the connection unexpectedly")

    def unregister(self, connection: Any) -> None:
        """Nothing holds it."""

    def reply(self, piece: bytes, *, binary: bool) -> None:
        self.sent.append(piece)

    def register(self, connection: Any) -> None:
        """Nothing holds it."""

    def recheck(self, connection: Any) -> None:
        """Nothing was revoked."""


opened: list[Any] = []


def last_reply() -> Any:
    return decode(opened[-1].sent[-1], Format.JSON)


def connect(client_id: str | None, *, resume: str | None = None) -> tuple[Session, Any]:
    here: Any = Nowhere()
    opened.append(here)
    grant = Grant(client_id=client_id, capability=Capability.parse({"*": ["*"]}), key_name="app.key")
    opening = Opening(credentials=Credentials(), format=Format.JSON, echo=True, heartbeats=False, resume=resume)
    session = Session(here, here, opening, grant, close=lambda code: None)
    session.start()
    return session, decode(here.sent[0], Format.JSON)


def test_a_connection_key_resumes_its_connection_with_the_ids_that_a_repeated_publish_needs() -> None:
    first, connected = connect("alice")
    again, resumed = connect("alice", resume=connected.connection_key)

    assert again.connection_id == first.connection_id
    assert again._base_id(7) == first._base_id(7)
    assert resumed.error is None


@pytest.mark.parametrize("thief", ["mallory", "*", None])
def test_a_connection_key_is_of_no_use_to_another_client(thief: str | None) -> None:
    victim, connected = connect("alice")
    other, refused = connect(thief, resume=connected.connection_key)

    assert other.connection_id != victim.connection_id
    assert refused.error.code == Code.INVALID_CONNECTION_KEY


@pytest.mark.parametrize("key", ["", "x", "x!y", "x.y!z", None])
def test_a_key_that_was_never_given_out_resumes_nothing(key: str | None) -> None:
    assert connection_keys.read(key, "alice") is None


def test_the_id_of_a_publish_to_come_cannot_be_told_from_what_others_see() -> None:
    session, _ = connect("alice")
    ids = {session._base_id(serial) for serial in range(100)}
    marks = {base_id.rpartition("-")[2] for base_id in ids}

    assert len(marks) == 100
    assert all(base_id.startswith(f"{session.connection_id}:") for base_id in ids)
    assert connect("alice")[0]._base_id(0).rpartition("-")[2] not in marks


@pytest.mark.parametrize("serial", [-1, 2**63, 10**400])
def test_a_msg_serial_that_nobody_counts_to_is_refused(serial: int) -> None:
    with pytest.raises(ChatError):
        require_serial(serial)


async def test_a_connection_is_not_idle_while_the_room_of_its_publish_is_looked_up() -> None:
    session, _ = connect("alice")
    asked, found = asyncio.Event(), asyncio.Event()

    async def look_up(*_: Any) -> Any:
        asked.set()
        await found.wait()
        raise OperationalError("the server closed the connection unexpectedly")

    opened[-1].get = look_up
    publishing = asyncio.create_task(session.handle(ProtocolMessage(action=Action.MESSAGE, channel="lobby")))
    await asked.wait()
    assert not session.is_idle, "a gateway that is stopped would close the connection without an answer"
    found.set()
    await publishing
    await asyncio.sleep(0)
    assert session.is_idle
    assert last_reply().action == Action.NACK


async def test_while_postgres_is_away_an_attach_gets_an_answer_after_which_clients_try_again() -> None:
    session, _ = connect("alice")
    await session.handle(ProtocolMessage(action=Action.ATTACH, channel="lobby"))

    reply = last_reply()
    assert (reply.action, reply.channel, reply.error.code) == (Action.DETACHED, "lobby", Code.UNAVAILABLE)


async def test_while_postgres_is_away_a_publish_to_an_unknown_room_is_refused_and_the_connection_goes_on() -> None:
    session, _ = connect("alice")
    publish = ProtocolMessage(action=Action.MESSAGE, channel="lobby", msg_serial=4, messages=[Message(data="x")])
    await session.handle(publish)
    await asyncio.sleep(0)  # answers of one turn of the loop go out together

    reply = last_reply()
    assert (reply.action, reply.msg_serial, reply.error.code) == (Action.NACK, 4, Code.UNAVAILABLE)


def renewal() -> ProtocolMessage:
    return ProtocolMessage(action=Action.AUTH, auth=AuthDetails(access_token="t"))


async def test_a_token_for_any_client_renews_the_connection_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    async def authenticate(credentials: Credentials) -> Grant:
        return Grant(client_id=credentials.client_id or "*", capability=Capability({}), key_name="app.key")

    monkeypatch.setattr("rooms.connection.session.authenticate", authenticate)
    session, _ = connect("alice")
    await session.handle(renewal())

    assert last_reply().action == Action.CONNECTED
    assert session.grant.client_id == "alice"


async def test_a_renewal_that_cannot_be_checked_right_now_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def authenticate(credentials: Credentials) -> Grant:
        raise ChatError(Code.UNAVAILABLE, "Keys cannot be checked right now.", status=503)

    monkeypatch.setattr("rooms.connection.session.authenticate", authenticate)
    session, _ = connect("alice")
    await session.handle(renewal())

    assert last_reply().action == Action.DISCONNECTED


async def test_a_session_that_ends_while_its_new_token_is_checked_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    checked = asyncio.Event()

    async def authenticate(credentials: Credentials) -> Grant:
        await checked.wait()
        return Grant(client_id="alice", capability=Capability({}), key_name="app.key", expires_at=time.time() + 3600)

    monkeypatch.setattr("rooms.connection.session.authenticate", authenticate)
    session, _ = connect("alice")
    renewing = asyncio.create_task(session.handle(renewal()))
    await asyncio.sleep(0)
    session.stop()
    sent = len(opened[-1].sent)
    checked.set()
    await renewing

    connection_id = session.connection_id
    del session, renewing
    gc.collect()
    held = [one for one in gc.get_objects() if isinstance(one, Session)]
    assert connection_id not in {one.connection_id for one in held}
    assert len(opened[-1].sent) == sent


async def test_a_session_that_ends_while_it_waits_for_a_room_publishes_nothing_into_it() -> None:
    session, _ = connect("alice")
    found = asyncio.Event()

    async def get(name: str) -> RoomRef:
        await found.wait()
        return RoomRef(1, name, "e")

    opened[-1].get = get
    publish = ProtocolMessage(action=Action.MESSAGE, channel="lobby", msg_serial=0, messages=[Message(data="x")])
    publishing = asyncio.create_task(session.handle(publish))
    await asyncio.sleep(0)
    session.stop()
    found.set()
    await publishing  # there is no acceptor that could take it

    assert session.is_idle
