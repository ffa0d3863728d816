"""The server of a gateway process: Daphne's, with the other modules of chatsite.server for sockets and their limits.

What it adds to daphne.server.Server:
- the ASGI scope of a WebSocket offers a rooms.fanout.sockets.Socket, under extensions, as "broadcast";
- a WebSocket costs a fifth of the time and half of the memory, because its plain cases bypass HTTP and autobahn;
- it accepts from a socket that it shares with other gateways, evenly, and never more than it may hold;
- SIGTERM sends everybody away first, a few at a time; SIGINT stops at once.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket as sockets
import sys
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Any

from django.conf import settings
from twisted.internet import defer
from twisted.python.failure import Failure

from chatsite.server import figures, kernel
from chatsite.server.board import Board
from chatsite.server.figures import Figure
from chatsite.server.handshakes import HANDSHAKES_MAX_PER_GATEWAY, Handshakes
from chatsite.server.http import HTTPFactory
from chatsite.server.incoming import Incoming
from chatsite.server.library_internals import BareServer
from chatsite.server.listener import Listener
from chatsite.server.transport import Transport
from chatsite.server.upgrade import Upgrade
from chatsite.server.websocket import WebSocket, WebSocketFactory
from rooms import faults
from rooms.gateway import gateway

logger = logging.getLogger(__name__)

HANDSHAKE_SECONDS = 10
FINISH_SECONDS = 2.0
SWITCH_SECONDS = 0.0005
REQUESTS_SECONDS = 5.0  # for closing handshakes and HTTP requests, when everybody has been sent away
SWEEP_SECONDS = 0.25
SLOW_PER_SWEEP = 250  # peers that are looked at, whether they are slow no more
APPLICATION_SECONDS = 10.0  # for a WebSocket's application to end after its connection did


class GatewayServer(BareServer):
    """Daphne's server with the parts above, on a listening socket that is handed to it.

    `board` is where gateways that share the socket tell each other how much they hold.
    """

    def __init__(self, application: Any, listening: sockets.socket, *, board: Board | None = None) -> None:
        super().__init__(
            application,
            websocket_handshake_timeout=HANDSHAKE_SECONDS,
            websocket_max_message_size=settings.FRAME_MAX_BYTES,
            websocket_max_frame_size=settings.FRAME_MAX_BYTES,
            ready=self._listen,
            server_name="",
        )
        self._listening = listening
        self._board = board
        self.request_bodies = Incoming(largest_bytes=settings.DATA_UPLOAD_MAX_MEMORY_SIZE)
        self._open: set[Transport] = set()
        self._lost = self._open.discard
        self._closed: deque[tuple[float, asyncio.Task[None]]] = deque()  # applications that should end soon
        self._applications: dict[WebSocket, asyncio.Task[None]] = {}
        self._draining: asyncio.Task[None] | None = None

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT."""
        # Modules that are loaded by now stay; collecting them anew is the largest cost of connecting. Collections can
        # be rare because a connection that ended leaves none to do (tests/chatsite/server/test_ended_connections.py).
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        # A pass gives the GIL away at each socket, and has it back before a database's thread wakes up. That thread
        # gets it only when it has waited this long, some ten times for each batch that it accepts.
        sys.setswitchinterval(SWITCH_SECONDS)
        self.run_with(HTTPFactory, WebSocketFactory)

    def _listen(self) -> None:
        kernel.prepare_listener(self._listening)
        loop = self._loop = asyncio.get_event_loop()
        self.ws_factory.loop = loop
        self.ws_factory.address = list(self._listening.getsockname()[:2])
        self.ws_factory.start = self._start_websocket
        self.ws_factory.closed = self._websocket_closed
        self.handshakes = Handshakes(self._open_websocket, self._open_http, self._is_full)
        self.listener = Listener(
            self._listening,
            loop,
            board=self._board,
            held=lambda: len(self._open),
            is_full=self._will_be_full,
            has_room=self._has_room,
            accepted=self._accepted,
        )
        loop.call_soon(self._begin)
        self.before_shutdown(self._finish)

    def _begin(self) -> None:
        """Begin to accept connections: the loop runs now."""
        gateway.current()
        self._loop.add_signal_handler(signal.SIGTERM, self._asked_to_drain)
        self.listener.start()
        sweep(self._loop, SWEEP_SECONDS, self._sweep)
        figures.register(self)

    # --- Connections -------------------------------------------------------------------------------------

    def _is_full(self) -> bool:
        return len(self._applications) >= settings.CONNECTION_MAX_PER_GATEWAY

    def _will_be_full(self) -> bool:
        return len(self._applications) + len(self.handshakes) >= settings.CONNECTION_MAX_PER_GATEWAY

    def _has_room(self, now: float) -> bool:
        most = settings.CONNECTION_MAX_PER_GATEWAY + HANDSHAKES_MAX_PER_GATEWAY
        return len(self._open) < most and self.handshakes.make_room(now)

    def _accepted(self, accepted: sockets.socket, address: tuple[Any, ...], now: float) -> None:
        handshake = self.handshakes.make(now)
        connection = Transport(accepted, address, handshake, self._lost, self._loop)
        self._open.add(connection)
        handshake.makeConnection(connection)
        connection.startReading()
        connection.read_now()  # the request is often there already

    def _open_http(self, connection: Transport, data: bytes) -> None:
        protocol = self.http_factory.buildProtocol(connection.getPeer())
        connection.protocol = protocol
        protocol.makeConnection(connection)
        protocol.dataReceived(data)

    def create_application(self, protocol: Any, scope: dict[str, Any]) -> Any:
        """Start the application of a request; its body is released when it ends, even if the peer has gone."""
        queue = super().create_application(protocol, scope)
        if (application := self.application_of(protocol)) is not None:
            application.add_done_callback(lambda _: self.request_bodies.release(protocol))
        return queue

    def _open_websocket(self, connection: Transport, upgrade: Upgrade, rest: bytes) -> None:
        self.ws_factory.make().open(connection, upgrade, rest)

    def _start_websocket(self, websocket: WebSocket, scope: dict[str, Any]) -> None:
        assert websocket.application_queue is not None
        application = self.application(scope, websocket.application_queue.receive, websocket.send)
        task = self._applications[websocket] = self._loop.create_task(application)
        task.add_done_callback(partial(self._application_ended, websocket))

    def _websocket_closed(self, websocket: WebSocket) -> None:
        task = self._applications.get(websocket)
        if task is not None:
            self._closed.append((self._loop.time() + APPLICATION_SECONDS, task))

    def _application_ended(self, websocket: WebSocket, task: asyncio.Task[None]) -> None:
        self._applications.pop(websocket, None)
        if websocket.application_queue is not None:
            websocket.application_queue.drop()
        if not task.cancelled() and (error := task.exception()) is not None:
            faults.record("WebSocket application", error)
            websocket.handle_exception(error)

    def _sweep(self, now: float) -> None:
        """Enforce the deadlines of handshakes, closed WebSockets and slow peers. Runs a few times a second."""
        self.listener.share_count(now)
        self.handshakes.drop_late(now)
        while self._closed and (self._closed[0][1].done() or self._closed[0][0] < now):
            self._closed.popleft()[1].cancel()
        for slow in list(islice(self.ws_factory.slow, SLOW_PER_SWEEP)):
            slow.end_patience()

    def figures(self) -> dict[str, Figure]:
        """See chatsite.server.figures."""
        handshakes, listener = self.handshakes, self.listener
        return {
            "chat_sockets": ("gauge", "Connections of all kinds", len(self._open)),
            "chat_handshakes": (
                "gauge",
                "Connections without a whole request yet (limit: HANDSHAKES_MAX_PER_GATEWAY)",
                len(handshakes),
            ),
            "chat_slow_sockets": ("gauge", "Peers that do not take all at once", len(self.ws_factory.slow)),
            "chat_sockets_accepted": ("counter", "Connections accepted", listener.accepted),
            "chat_sockets_refused": ("counter", "WebSockets refused with 503: the gateway is full", handshakes.refused),
            "chat_handshakes_dropped": ("counter", "Connections dropped before a whole request", handshakes.dropped),
            **figures.of_memory(self.ws_factory.receive_budget, self.ws_factory.unfinished, self.request_bodies),
        }

    # --- The end -----------------------------------------------------------------------------------------

    def _asked_to_drain(self) -> None:
        """Handle SIGTERM: drain. A second one stops at once."""
        if self._draining is None:
            self._draining = self._loop.create_task(self._drain(), name="drain")
        else:
            self.stop()

    async def _drain(self) -> None:
        """Accept no more connections, send all members away over GATEWAY_DRAIN_SECONDS, and stop when none is left."""
        logger.info("stopping: %d connections are sent away", len(self._open))
        self.listener.stop()
        try:
            await gateway.current().connections.drain(settings.GATEWAY_DRAIN_SECONDS)
            until = self._loop.time() + REQUESTS_SECONDS
            while (self._applications or self._requests_under_way()) and self._loop.time() < until:
                await asyncio.sleep(0.05)
        except Exception:  # some could not be sent away; the process is to end all the same
            faults.record("draining")
        self.stop()

    def _requests_under_way(self) -> bool:
        return any(True for _ in self.applications())

    def _finish(self) -> defer.Deferred[Any]:
        """Make accepted messages durable before the connections are dropped."""
        self.listener.stop()
        done: defer.Deferred[Any] = defer.Deferred.fromFuture(asyncio.ensure_future(_close_gateway()))
        done.addErrback(_note_left_over)
        return done

    def kill_all_applications(self) -> defer.Deferred[Any]:
        """Cancel all applications before the loop ends. Daphne's own method expects each request to have begun."""
        tasks = [task for task in (*self.applications(), *self._applications.values()) if not task.done()]
        for task in tasks:
            task.cancel()
        return defer.Deferred.fromFuture(asyncio.gather(*tasks, return_exceptions=True))


def sweep(loop: asyncio.AbstractEventLoop, seconds: float, work: Callable[[float], None]) -> None:
    """Call `work` with the loop's time, now and again after `seconds`, for as long as the loop runs."""
    try:
        work(loop.time())
    except Exception:  # one fault must not end the deadlines of everybody
        faults.record("server deadlines")
    finally:
        loop.call_later(seconds, sweep, loop, seconds, work)


async def _close_gateway() -> None:
    async with asyncio.timeout(FINISH_SECONDS):
        await gateway.current().close()


def _note_left_over(failure: Failure) -> None:
    if failure.check(TimeoutError):
        logger.warning("stopped with work left over: it took longer than %g s", FINISH_SECONDS)
    else:
        faults.record("stopping", failure.value)
