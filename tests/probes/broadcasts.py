"""What a broadcast costs a Valkey, by how many gateways hear it, and the process that publishes or hears it."""

from __future__ import annotations

import asyncio
import multiprocessing
import selectors
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chatsite.channel_layer.layer import BroadcastLayer
from rooms.log.entries import Entry, pack, unpack
from rooms.protocol.wire import Message
from tests.chatsite.channel_layer.servers import Server, running

SUBSCRIBERS = (1, 10, 50, 100, 200)
PUBLISHES = 2000
BROADCASTS = 20_000
BATCH = 300


def cpu_of(pid: int) -> float:
    """Return the CPU seconds that a process' first thread has used, to the nanosecond (psutil counts in 10 ms)."""
    return int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[0]) / 1e9


def one_message(serial: int) -> Entry:
    """Return a message of 200 bytes as a broadcast carries it."""
    wire = Message(id=f"{serial:020}:0", name="chat", data="x" * 200, client_id="somebody", timestamp=1_700_000_000_000)
    return Entry(room_id=1, room="lobby", serial=serial, pk=serial, wire=wire, size=400)


@contextmanager
def valkey() -> Iterator[Server]:
    """Run a Valkey for a measurement."""
    with tempfile.TemporaryDirectory(prefix="chatsite-probe-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with running(folder, 1) as [server]:
            yield server


def valkey_us_per_publish() -> dict[int, float]:
    """Return CPU microseconds of the server for one PUBLISH of one message, by the number of subscribers."""
    found = {}
    with valkey() as server:
        assert server.process is not None
        payload = pack([one_message(1)])
        command = b"*3\r\n$7\r\nPUBLISH\r\n$4\r\nroom\r\n$%d\r\n%b\r\n" % (len(payload), payload)
        for count in SUBSCRIBERS:
            with listeners(server.port, count), socket.create_connection(("127.0.0.1", server.port)) as publisher:
                began = cpu_of(server.process.pid)
                # One at a time, as a quiet room's messages come: batches cost the server less.
                for _ in range(PUBLISHES):
                    publisher.sendall(command)
                    publisher.recv(64)
                found[count] = (cpu_of(server.process.pid) - began) / PUBLISHES * 1e6
    return found


@contextmanager
def listeners(port: int, count: int) -> Iterator[None]:
    """Hold connections that are subscribed and read everything."""
    selector = selectors.DefaultSelector()
    for _ in range(count):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.sendall(b"SUBSCRIBE room\r\n")
        connection.recv(256)
        selector.register(connection, selectors.EVENT_READ)
    stopping = threading.Event()

    def read() -> None:
        while not stopping.is_set():
            for key, _ in selector.select(0.1):
                key.fileobj.recv(65536)  # type: ignore[union-attr]

    thread = threading.Thread(target=read)
    thread.start()
    yield
    stopping.set()
    thread.join()
    for key in list(selector.get_map().values()):
        key.fileobj.close()  # type: ignore[union-attr]


def layer_us() -> dict[str, float]:
    """Return CPU microseconds to publish one broadcast, and to hear and read one: alone, and among many."""
    with valkey() as server:
        context = multiprocessing.get_context("spawn")
        ready, results = context.Event(), context.Queue()
        hearing = context.Process(target=hear, args=(server.url, ready, results))
        hearing.start()
        ready.wait(30)
        publishing = asyncio.run(publish(server.url))
        heard = results.get(timeout=60)
        hearing.join(10)
    return publishing | heard


async def publish(url: str) -> dict[str, float]:
    """Publish one at a time and in batches over many rooms; return CPU microseconds for each."""
    layer = make_layer(url)
    message = {"type": "room.published", "entries": pack([one_message(1)])}
    await layer.group_send("warm", message)
    began = time.process_time()
    for _ in range(PUBLISHES):
        await layer.group_send("room.1", message)
    alone = (time.process_time() - began) / PUBLISHES * 1e6
    batch = [("room.1", message)] * BATCH
    began = time.process_time()
    for _ in range(BROADCASTS // BATCH):
        await layer.send_many(groups=batch, channels=())
    in_batch = (time.process_time() - began) / (BROADCASTS // BATCH * BATCH) * 1e6
    await layer.flush()
    return {"publish alone": alone, "publish in a batch": in_batch}


def hear(url: str, ready: threading.Event, results: multiprocessing.Queue[dict[str, float]]) -> None:
    """Hear what publish() sends one at a time, in a process of its own."""

    async def listen() -> dict[str, float]:
        layer = make_layer(url)
        channel = await layer.new_channel("probe.")
        await layer.group_add("room.1", channel)
        ready.set()
        unpack((await layer.receive(channel))["entries"])
        began = time.process_time()
        for _ in range(PUBLISHES - 1):
            unpack((await layer.receive(channel))["entries"])
        alone = time.process_time() - began
        began, count = time.process_time(), BROADCASTS // BATCH * BATCH
        for _ in range(count):
            unpack((await layer.receive(channel))["entries"])
        in_batch = time.process_time() - began
        await layer.flush()
        return {"hear alone": alone / (PUBLISHES - 1) * 1e6, "hear in a batch": in_batch / count * 1e6}

    results.put(asyncio.run(listen()))


def make_layer(url: str) -> BroadcastLayer:
    """Return a layer of its own."""
    return BroadcastLayer(url=url, timeout=5.0, inbox_bytes=16_777_216, prefix="chat")
