"""The one door to the outside, against a real endpoint that misbehaves."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from integrations.addresses import AllowList
from integrations.answers import Answer, CallFailed
from integrations.outgoing import ANSWER_MAX_BYTES, Outgoing, Resolve
from tests.integrations.receiver import Receiver, running_receiver


@asynccontextmanager
async def door(*allowed: str, resolve: Resolve | None = None) -> AsyncIterator[Outgoing]:
    outgoing = Outgoing(allowed=AllowList.parse(allowed), max_connections=10, resolve=resolve)
    try:
        yield outgoing
    finally:
        await outgoing.close()


async def call(receiver: Receiver, *, timeout: float = 5.0, url: str = "") -> Answer:
    async with door(f"127.0.0.1:{receiver.port}") as outgoing:
        return await outgoing.post(url or receiver.url, body=b"{}", headers={"x-a": "b"}, timeout=timeout)


async def test_an_answer_comes_back_with_status_body_and_retry_after() -> None:
    async with running_receiver() as receiver:
        receiver.behaviour = lambda request: (503, "busy", {"retry-after": "7"})
        answer = await call(receiver)

    assert answer == Answer(status=503, body=b"busy", retry_after="7")
    assert receiver.requests[0].headers["x-a"] == "b"
    assert receiver.requests[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "0x7f000001", "2130706433", "127.1", "0177.0.0.1", "[::ffff:127.0.0.1]", "0"]
)
async def test_a_private_target_is_refused_before_any_byte_is_sent(host: str) -> None:
    async with running_receiver() as receiver, door() as outgoing:
        with pytest.raises(CallFailed, match=r"not a public address|cannot be used") as caught:
            await outgoing.post(f"http://{host}:{receiver.port}/", body=b"", headers={}, timeout=5)

    assert caught.value.is_final
    assert receiver.connections == 0


async def test_a_name_that_answers_differently_at_the_second_time_gets_nowhere() -> None:
    """DNS rebinding: public when it is checked, private when it is connected to. Here it is asked once."""
    answers = iter([["127.0.0.1"], ["8.8.8.8"], ["127.0.0.1"]])
    asked: list[str] = []

    async def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return next(answers)

    async with running_receiver() as receiver, door(resolve=rebinding) as outgoing:
        with pytest.raises(CallFailed, match="not a public address"):
            await outgoing.post(f"http://rebind.example:{receiver.port}/", body=b"", headers={}, timeout=5)

    assert asked == ["rebind.example"]
    assert receiver.connections == 0


async def test_the_connection_goes_to_the_address_that_was_judged_under_the_name_of_the_url() -> None:
    async def internal(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    async with running_receiver() as receiver, door("lambda.example:" + str(receiver.port), resolve=internal) as out:
        await out.post(f"http://lambda.example:{receiver.port}/", body=b"", headers={}, timeout=5)

    assert receiver.requests[0].headers["host"] == f"lambda.example:{receiver.port}"


async def test_a_redirect_to_the_metadata_service_is_an_answer_and_not_followed() -> None:
    async with running_receiver() as receiver:
        receiver.behaviour = lambda request: (302, "", {"location": "http://169.254.169.254/latest/meta-data/"})
        answer = await call(receiver)

    assert answer.status == 302
    assert len(receiver.requests) == 1


async def test_an_answer_of_ten_megabytes_is_cut_off_early() -> None:
    sent = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10485760\r\n\r\n")
        try:
            while sent < 10 * 2**20:
                writer.write(b"x" * 65536)
                await writer.drain()
                sent += 65536
        except ConnectionError:
            pass
        writer.close()

    server = await asyncio.start_server(flood, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, door(f"127.0.0.1:{port}") as outgoing:
        with pytest.raises(CallFailed, match=f"larger than {ANSWER_MAX_BYTES}"):
            await outgoing.post(f"http://127.0.0.1:{port}/", body=b"", headers={}, timeout=5)

    assert sent < 8 * 2**20


async def test_a_slow_drip_ends_at_the_time_limit_of_the_whole_call() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
        try:
            for _ in range(1000):
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.05)
        except ConnectionError:
            pass
        writer.close()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, door(f"127.0.0.1:{port}") as outgoing:
        began = time.monotonic()
        with pytest.raises(CallFailed, match="No answer within"):
            await outgoing.post(f"http://127.0.0.1:{port}/", body=b"", headers={}, timeout=0.4)

    assert time.monotonic() - began < 1.0


async def test_calls_that_follow_each_other_share_a_connection() -> None:
    async with running_receiver() as receiver, door("127.0.0.0/8") as outgoing:
        for _ in range(5):
            await outgoing.post(receiver.url, body=b"{}", headers={}, timeout=5)
        assert receiver.connections == 1
        await asyncio.gather(*[outgoing.post(receiver.url, body=b"{}", headers={}, timeout=5) for _ in range(5)])

    assert len(receiver.requests) == 10
    assert receiver.connections <= 5


async def test_a_connection_that_the_endpoint_closed_meanwhile_is_not_used_again() -> None:
    async with running_receiver() as receiver, door("127.0.0.0/8") as outgoing:
        receiver.behaviour = lambda request: (200, "", {"connection": "close"})
        for _ in range(3):
            await outgoing.post(receiver.url, body=b"{}", headers={}, timeout=5)

    assert receiver.connections == 3


async def test_a_name_server_that_never_answers_ends_at_the_time_limit() -> None:
    async def silent(host: str, port: int) -> list[str]:
        await asyncio.sleep(3600)
        return []

    async with door(resolve=silent) as outgoing:
        with pytest.raises(CallFailed, match="No answer within"):
            await outgoing.post("https://silent.example/", body=b"", headers={}, timeout=0.2)


@pytest.mark.parametrize("reply", [b"", b"no http at all\r\n\r\n", b"HTTP/1.1 999999 X\r\n\r\n"])
async def test_an_endpoint_that_breaks_off_or_speaks_something_else_is_a_failed_call(reply: bytes) -> None:
    async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        writer.close()

    server = await asyncio.start_server(break_off, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, door(f"127.0.0.1:{port}") as outgoing:
        with pytest.raises(CallFailed) as caught:
            await outgoing.post(f"http://127.0.0.1:{port}/", body=b"", headers={}, timeout=5)

    assert not caught.value.is_final


async def test_a_port_where_nobody_listens_and_a_name_that_nobody_has_are_failed_calls() -> None:
    async with running_receiver() as receiver:
        gone = receiver.port
    async with door(f"127.0.0.1:{gone}") as outgoing:
        for url in (f"http://127.0.0.1:{gone}/", "http://no-such-name.invalid/"):
            with pytest.raises(CallFailed, match="No connection"):
                await outgoing.post(url, body=b"", headers={}, timeout=5)


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    async with running_receiver() as receiver:
        answer = await call(receiver)

    assert answer.status == 200


async def test_an_endpoint_with_a_certificate_of_its_own_making_gets_nothing(tmp_path: Path) -> None:
    read: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        read.append(await reader.read(100))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=self_signed(tmp_path))
    port = server.sockets[0].getsockname()[1]
    async with server, door(f"127.0.0.1:{port}") as outgoing:
        with pytest.raises(CallFailed, match="TLS: self-signed certificate"):
            await outgoing.post(f"https://127.0.0.1:{port}/", body=b"", headers={}, timeout=5)

    assert not any(read)


def self_signed(folder: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "server.pem"
    pem.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + certificate.public_bytes(Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context
