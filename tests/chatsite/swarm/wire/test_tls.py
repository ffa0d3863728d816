from __future__ import annotations

import datetime
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.chatsite.swarm.faulty_server import FaultyServer
from tests.chatsite.swarm.test_plan import plan
from tests.chatsite.swarm.test_swarm import run


async def test_a_server_behind_tls_is_measured_and_checked_like_any_other(tmp_path: Path) -> None:
    async with FaultyServer.running("drop", ssl=server_context(tmp_path)) as url:
        report = await run(plan(url=url, slow_readers=1, size=20_000, settle_seconds=2))
    assert (report.attached, report.acknowledged, report.lost) == (6, 50, 1)


def server_context(folder: Path) -> ssl.SSLContext:
    """Return a server's context with a certificate of its own signing."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / "server.pem"
    path.write_bytes(secret + certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context
