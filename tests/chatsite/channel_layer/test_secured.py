"""Servers behind TLS, a user and a database number, as an operator's REDIS_URL names them."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from redis.exceptions import RedisError

from tests.chatsite.channel_layer.conftest import Listener, MakeLayer
from tests.chatsite.channel_layer.servers import running

ACL = ("--user", "alice", "on", ">p@ss", "~*", "&*", "+@all", "--user", "default", "off")


@pytest.fixture
def certificate(folder: Path) -> Path:
    """A certificate of 127.0.0.1 and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "redis of a test")])
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


@pytest.fixture
async def tls_port(folder: Path, certificate: Path) -> AsyncIterator[int]:
    """The port of a server with one user, behind TLS: the Valkey of the wheel speaks none by itself."""
    with running(folder / "secured", 1, ACL) as [server]:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", server.port)
            await asyncio.gather(copy(reader, inner_writer), copy(inner_reader, writer))

        front = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
        yield front.sockets[0].getsockname()[1]
        front.close()


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


async def test_tls_user_password_and_database(tls_port: int, certificate: Path, make_layer: MakeLayer) -> None:
    url = f"rediss://alice:p%40ss@127.0.0.1:{tls_port}/2?ssl_ca_certs={certificate}"
    sender, receiver = make_layer(url), make_layer(url)
    listener = await Listener.on(receiver, "room.1")
    await sender.group_send("room.1", {"number": 1})

    assert await listener.hears(1) == [1]
    await sender.flush()
    await receiver.flush()


async def test_a_wrong_password_or_certificate_is_refused(
    tls_port: int, certificate: Path, make_layer: MakeLayer
) -> None:
    for url in (
        f"rediss://alice:wrong@127.0.0.1:{tls_port}?ssl_ca_certs={certificate}",
        f"rediss://default:p%40ss@127.0.0.1:{tls_port}?ssl_ca_certs={certificate}",
        f"rediss://alice:p%40ss@127.0.0.1:{tls_port}",
    ):
        with pytest.raises(RedisError):
            await make_layer(url).group_send("room.1", {"number": 1})
