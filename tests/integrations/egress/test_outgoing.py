"""The one door to the outside, against a real endpoint that misbehaves."""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
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

from integrations.egress.addresses import AllowList, RefusedAddress
from integrations.egress.answers import Answer, CallFailed, explain, in_words
from integrations.egress.outgoing import Outgoing, Resolve, _parse
from tests.integrations.receiver import Receiver, running_receiver
from tests.patience import PATIENCE


@asynccontextmanager
async def door(*allowed: str, resolve: Resolve | None = None, most: int = 10) -> AsyncIterator[Outgoing]:
    outgoing = Outgoing(allowed=AllowList.parse(allowed), max_connections=most, resolve=resolve)
    try:
        yield outgoing
    finally:
        await outgoing.close()


async def call(receiver: Receiver, *, timeout: float = PATIENCE, url: str = "") -> Answer:
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
    "host",
    [
        *("127.0.0.1", "localhost", "0x7f000001", "2130706433", "127.1", "0177.0.0.1", "[::ffff:127.0.0.1]", "0"),
        *("[::1]", "0.0.0.0", "127.0.0.1.", "LOCALHOST", "[::]", "0x7f.1", "017700000001", "127.0.0.01"),
    ],
)
async def test_a_private_target_is_refused_before_any_byte_is_sent(host: str) -> None:
    async with running_receiver() as receiver, door() as outgoing:
        with pytest.raises(CallFailed, match=r"not a public address|cannot be used") as caught:
            await outgoing.post(f"http://{host}:{receiver.port}/", body=b"", headers={}, timeout=PATIENCE)

    assert caught.value.is_final
    assert receiver.connections == 0


@pytest.mark.parametrize("host", ["10.0.0.1", "169.254.169.254", "192.168.1.1", "[fd00:ec2::254]", "[fe80::1%25lo]"])
async def test_networks_of_one_s_own_and_metadata_services_are_refused(host: str) -> None:
    opened: list[str] = []
    async with door() as outgoing:
        outgoing._guard.make_socket = lambda info: opened.append(info[4][0])  # type: ignore[assignment,func-returns-value]
        for scheme in ("http", "https"):
            with pytest.raises(CallFailed, match="not a public address") as caught:
                await outgoing.post(f"{scheme}://{host}/latest/meta-data/", body=b"", headers={}, timeout=PATIENCE)

    assert caught.value.is_final
    assert opened == []


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:10.0.0.1"])
@pytest.mark.parametrize("beside", [[], ["8.8.8.8"]])
async def test_a_name_that_resolves_to_a_private_address_is_refused(address: str, beside: list[str]) -> None:
    async def inside(host: str, port: int) -> list[str]:
        return [*beside, address]

    async with running_receiver() as receiver, door(resolve=inside) as outgoing:
        with pytest.raises(
            CallFailed, match=f"lambda.example is at {address}, which is not a public address"
        ) as caught:
            await outgoing.post(f"http://lambda.example:{receiver.port}/", body=b"", headers={}, timeout=PATIENCE)

    assert caught.value.is_final
    assert receiver.connections == 0


async def test_no_connection_goes_to_an_address_that_was_not_judged_for_this_call() -> None:
    async with running_receiver() as receiver, door("127.0.0.0/8") as outgoing:
        outgoing._guard.begin(_parse(receiver.url))
        with pytest.raises(RefusedAddress, match=r"127\.0\.0\.2 was not judged"):
            outgoing._guard.make_socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.2", receiver.port)))


async def test_a_name_that_answers_differently_at_the_second_time_gets_nowhere() -> None:
    """DNS rebinding: public when it is checked, private when it is connected to. Here it is asked once."""
    answers = iter([["127.0.0.1"], ["8.8.8.8"], ["127.0.0.1"]])
    asked: list[str] = []

    async def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return next(answers)

    async with running_receiver() as receiver, door(resolve=rebinding) as outgoing:
        with pytest.raises(CallFailed, match="not a public address"):
            await outgoing.post(f"http://rebind.example:{receiver.port}/", body=b"", headers={}, timeout=PATIENCE)

    assert asked == ["rebind.example"]
    assert receiver.connections == 0


async def test_the_connection_goes_to_the_address_that_was_judged_under_the_name_of_the_url() -> None:
    async def internal(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    async with running_receiver() as receiver, door("lambda.example:" + str(receiver.port), resolve=internal) as out:
        await out.post(f"http://lambda.example:{receiver.port}/", body=b"", headers={}, timeout=PATIENCE)

    assert receiver.requests[0].headers["host"] == f"lambda.example:{receiver.port}"


async def test_a_redirect_to_the_metadata_service_is_an_answer_and_not_followed() -> None:
    async with running_receiver() as receiver:
        receiver.behaviour = lambda request: (302, "", {"location": "http://169.254.169.254/latest/meta-data/"})
        answer = await call(receiver)

    assert answer.status == 302
    assert len(receiver.requests) == 1
    assert explain(answer) == (
        "The endpoint answered HTTP 302, a redirect to 169.254.169.254. "
        "Redirects are not followed: give the rule the address where they end."
    )


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
        with pytest.raises(CallFailed, match="larger than 32768"):
            await outgoing.post(f"http://127.0.0.1:{port}/", body=b"", headers={}, timeout=PATIENCE)

    assert sent < 8 * 2**20


async def test_a_slow_drip_ends_at_the_time_limit_of_the_whole_call() -> None:
    drips_to_the_end: list[bool] = []

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
        try:
            for _ in range(1000):
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.05)
            drips_to_the_end.append(True)
        except ConnectionError:
            pass
        writer.close()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, door(f"127.0.0.1:{port}") as outgoing:
        with pytest.raises(CallFailed, match="No answer within"):
            await outgoing.post(f"http://127.0.0.1:{port}/", body=b"", headers={}, timeout=0.4)

    assert not drips_to_the_end


async def test_calls_that_follow_each_other_share_a_connection() -> None:
    async with running_receiver() as receiver, door("127.0.0.0/8") as outgoing:
        for _ in range(5):
            await outgoing.post(receiver.url, body=b"{}", headers={}, timeout=PATIENCE)
        assert receiver.connections == 1
        await asyncio.gather(*[outgoing.post(receiver.url, body=b"{}", headers={}, timeout=PATIENCE) for _ in range(5)])

    assert len(receiver.requests) == 10
    assert receiver.connections <= 5


async def test_a_connection_that_the_endpoint_closed_meanwhile_is_not_used_again() -> None:
    async with running_receiver() as receiver, door("127.0.0.0/8") as outgoing:
        receiver.behaviour = lambda request: (200, "", {"connection": "close"})
        for _ in range(3):
            await outgoing.post(receiver.url, body=b"{}", headers={}, timeout=PATIENCE)

    assert receiver.connections == 3


async def test_a_connection_that_the_endpoint_closes_just_as_it_is_used_again_costs_no_attempt() -> None:
    served = 0

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the first request of a connection, take the second one, and leave."""
        nonlocal served
        await reader.readuntil(b"\r\n\r\n{}")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        served += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(once, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, door(f"127.0.0.1:{port}") as outgoing:
        for _ in range(3):
            answer = await outgoing.post(f"http://127.0.0.1:{port}/", body=b"{}", headers={}, timeout=PATIENCE)
            assert answer.status == 200

    assert served == 3


async def test_an_endpoint_that_leaves_without_an_answer_is_asked_once() -> None:
    async with running_receiver() as receiver:
        receiver.behaviour = lambda request: None  # type: ignore[assignment,return-value]
        with pytest.raises(CallFailed, match="closed the connection without an answer"):
            await call(receiver)

    assert len(receiver.requests) == 1


async def test_so_many_connections_are_kept_alive_and_no_more() -> None:
    async def here(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    async with running_receiver() as receiver, door("127.0.0.0/8", resolve=here, most=1) as outgoing:
        for _ in range(2):
            for name in "abcd":
                url = f"http://{name}.example:{receiver.port}/"
                await outgoing.post(url, body=b"{}", headers={}, timeout=PATIENCE)
            async with asyncio.timeout(PATIENCE):
                while outgoing._guard.open_connections > 2:
                    await asyncio.sleep(0)

    assert [request.headers.get("connection") for request in receiver.requests[:4]] == [None, None, "close", "close"]


async def test_a_name_whose_servers_hang_is_asked_about_once_and_holds_up_no_other() -> None:
    asked: list[str] = []

    async def half(host: str, port: int) -> list[str]:
        asked.append(host)
        if host == "hangs.example":
            await asyncio.sleep(3600)
        return ["127.0.0.1"]

    async with running_receiver() as receiver, door("127.0.0.0/8", resolve=half) as outgoing:
        hanging = [
            asyncio.create_task(outgoing.post("http://hangs.example/", body=b"", headers={}, timeout=0.3))
            for _ in range(30)
        ]
        await asyncio.sleep(0)
        answer = await outgoing.post(f"http://well.example:{receiver.port}/", body=b"", headers={}, timeout=PATIENCE)
        failures = await asyncio.gather(*hanging, return_exceptions=True)

    assert answer.status == 200
    assert all(isinstance(failure, CallFailed) for failure in failures)
    assert asked.count("hangs.example") == 1


async def test_a_compressed_answer_is_not_blown_up() -> None:
    bomb = gzip.compress(b"x" * 10_000_000)
    async with running_receiver() as receiver:
        receiver.behaviour = lambda request: (200, bomb, {"content-encoding": "gzip"})
        answer = await call(receiver)

    assert answer.body == bomb


async def test_what_an_endpoint_sets_as_a_cookie_is_not_sent_back() -> None:
    async with running_receiver() as receiver, door("127.0.0.0/8") as outgoing:
        receiver.behaviour = lambda request: (200, "", {"set-cookie": "a=b"})
        for _ in range(2):
            await outgoing.post(receiver.url, body=b"{}", headers={}, timeout=PATIENCE)

    assert "cookie" not in receiver.requests[1].headers


async def test_a_header_that_would_write_a_second_one_is_not_sent() -> None:
    async with running_receiver() as receiver, door("127.0.0.0/8") as outgoing:
        with pytest.raises(CallFailed, match="look at the rule's headers"):
            await outgoing.post(receiver.url, body=b"{}", headers={"x-a": "b\r\nx-c: d"}, timeout=PATIENCE)

    assert receiver.requests == []


@pytest.mark.parametrize("path", ["/", "/a%3Ab/%7e/../c?q=%24x&r=a+b", "/hook?x=%C3%BC", "/a//b;c=d"])
async def test_a_url_is_called_just_as_it_is_written(path: str) -> None:
    async with running_receiver() as receiver:
        await call(receiver, url=f"http://127.0.0.1:{receiver.port}{path}")

    assert receiver.requests[0].path == path


@pytest.mark.parametrize(
    "url", ["ftp://example.org/", "http:///", "http://[::1", "http://example.org:99999/", "example.org", "http://a\\b/"]
)
async def test_what_is_no_url_of_the_web_says_so(url: str) -> None:
    async with door() as outgoing:
        with pytest.raises(CallFailed, match="The URL cannot be used") as caught:
            await outgoing.post(url, body=b"", headers={}, timeout=PATIENCE)

    assert caught.value.is_final


async def test_a_name_server_that_never_answers_ends_at_the_time_limit() -> None:
    async def silent(host: str, port: int) -> list[str]:
        await asyncio.sleep(3600)
        return []

    async with door(resolve=silent) as outgoing:
        with pytest.raises(CallFailed, match="No answer within"):
            await outgoing.post("https://silent.example/", body=b"", headers={}, timeout=0.2)


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"no http at all\r\n\r\n",
        b"HTTP/1.1 999999 X\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx-long: " + b"a" * 100_000,
        b"HTTP/1.1 200 OK\r\n" + b"x-many: a\r\n" * 10_000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello",
    ],
)
async def test_an_endpoint_that_breaks_off_or_speaks_something_else_is_a_failed_call(reply: bytes) -> None:
    async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        writer.close()

    server = await asyncio.start_server(break_off, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, door(f"127.0.0.1:{port}") as outgoing:
        with pytest.raises(CallFailed) as caught:
            await outgoing.post(f"http://127.0.0.1:{port}/", body=b"", headers={}, timeout=PATIENCE)

    assert not caught.value.is_final


async def test_a_port_where_nobody_listens_and_a_name_that_nobody_has_are_failed_calls() -> None:
    async with running_receiver() as receiver:
        gone = receiver.port
    async with door(f"127.0.0.1:{gone}") as outgoing:
        for url in (f"http://127.0.0.1:{gone}/", "http://no-such-name.invalid/"):
            with pytest.raises(CallFailed, match="No connection"):
                await outgoing.post(url, body=b"", headers={}, timeout=PATIENCE)


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    async with running_receiver() as receiver:
        answer = await call(receiver)

    assert answer.status == 200


@pytest.mark.parametrize(("name", "is_right"), [("lambda.example", True), ("other.example", False)])
async def test_a_certificate_must_be_for_the_name_in_the_url_wherever_it_resolves_to(
    name: str, is_right: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def here(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        read.append(await reader.readuntil(b"{}"))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        await writer.drain()
        writer.close()

    read: list[bytes] = []
    served = self_signed(tmp_path)
    trusting = ssl.create_default_context(cafile=str(tmp_path / "server.pem"))
    monkeypatch.setattr("integrations.egress.outgoing.make_tls", lambda: trusting)
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=served)
    port = server.sockets[0].getsockname()[1]
    async with server, door("127.0.0.0/8", resolve=here) as outgoing:
        calling = outgoing.post(f"https://{name}:{port}/", body=b"{}", headers={}, timeout=PATIENCE)
        if is_right:
            assert (await calling).body == b"ok"
        else:
            with pytest.raises(CallFailed, match="TLS: Hostname mismatch"):
                await calling

    assert bool(read) is is_right


async def test_an_endpoint_with_a_certificate_of_its_own_making_gets_nothing(tmp_path: Path) -> None:
    read: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        read.append(await reader.read(100))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=self_signed(tmp_path))
    port = server.sockets[0].getsockname()[1]
    async with server, door(f"127.0.0.1:{port}") as outgoing:
        with pytest.raises(CallFailed, match="TLS: self-signed certificate"):
            await outgoing.post(f"https://127.0.0.1:{port}/", body=b"", headers={}, timeout=PATIENCE)

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
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1")), x509.DNSName("lambda.example")]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    pem = folder / "server.pem"
    pem.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + certificate.public_bytes(Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0999148, "0.1 seconds"),
        (0.001, "0.1 seconds"),
        (0.96, "1 second"),
        (4.8721, "4.9 seconds"),
        (900, "900 seconds"),
    ],
)
def test_a_time_limit_is_told_as_people_write_one(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
