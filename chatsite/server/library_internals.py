"""Every undocumented part of Twisted, autobahn and Daphne that this server relies on, and nothing else.

The classes here give those parts names of our own; the rest of chatsite.server uses these and the libraries' public
interfaces. tests/chatsite/server/test_library_internals.py checks each part on the installed releases. pyproject.toml
bounds the releases from above: a bound is raised once those tests pass on the next release.

Why there are such parts: 20,000 sockets a process. The public way costs five times the CPU for each connection, and
twice the memory, most of it for logs, timers and futures that nobody looks at (docs/decisions.md).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from typing import Any, Final

import daphne.server
from autobahn.websocket.protocol import TrafficStats, WebSocketProtocol
from autobahn.websocket.protocol import WebSocketServerProtocol as AutobahnWebSocket
from daphne.http_protocol import HTTPFactory as DaphneHTTPFactory
from daphne.http_protocol import WebRequest
from daphne.server import Server as DaphneServer
from daphne.server import reactor
from daphne.ws_protocol import WebSocketFactory as DaphneWebSocketFactory
from daphne.ws_protocol import WebSocketProtocol as DaphneWebSocket
from twisted.internet.tcp import Server as TwistedConnection
from twisted.web.http import HTTPChannel

# Methods and attributes of classes, by class. Each has to be there under this name.
METHODS: Final[dict[type, tuple[str, ...]]] = {
    TwistedConnection: (
        *("doRead", "doWrite", "writeSomeData", "startReading", "stopReading", "startWriting", "stopWriting"),
        *("connectionLost", "abortConnection", "getHost", "getPeer", "pauseProducing", "resumeProducing"),
    ),
    AutobahnWebSocket: (
        *("_connectionMade", "_dataReceived", "_connectionLost", "_invalid_payload", "consumeData", "sendCloseFrame"),
        *("failHandshake", "onConnect", "onOpen", "onMessage", "onPing", "onClose"),
    ),
    DaphneWebSocket: ("_onOpen", "handle_reply", "serverAccept", "serverReject", "serverClose", "handle_exception"),
    WebRequest: ("gotLength", "handleContentChunk", "process", "connectionLost"),
    HTTPChannel: ("dataReceived", "allContentReceived", "requestDone", "timeoutConnection", "loseConnection"),
    DaphneServer: ("run", "stop", "create_application", "kill_all_applications"),
}


class TcpConnection(TwistedConnection):
    """Twisted's connection without its strings for logs, and with names for what its write buffer holds."""

    # Twisted makes these of strings for each connection, for logs that are off.
    logstr = repstr = "connection"
    hostname = ""
    sessionno = 0
    server: Any = None
    connected = 1
    reactor = reactor
    _tempDataLen = 0

    def __init__(self, accepted: socket.socket, client: tuple[Any, ...], protocol: Any) -> None:
        self.socket = accepted
        self.fileno = accepted.fileno
        self.client = client
        self.protocol = protocol
        self._tempDataBuffer: list[bytes] = []

    @property
    def unsent(self) -> int:
        """Bytes that wait in this process for the peer to read."""
        return len(self.dataBuffer) - self.offset + self._tempDataLen

    @property
    def is_over(self) -> bool:
        """Whether `connectionLost` has run: Twisted takes the socket away then."""
        return not hasattr(self, "socket")

    def keep_rest(self, data: bytes, sent: int) -> None:
        """Send the rest of these bytes when the kernel takes more. Only while nothing is unsent.

        The bytes themselves are kept, which all members of a room share, and no copy of what is left.
        """
        self.dataBuffer = data
        self.offset = sent
        self.startWriting()

    def doWrite(self) -> Any:
        """Write on from where the kernel stopped."""
        if self._tempDataBuffer:
            return super().doWrite()
        sent: Any = self.writeSomeData(memoryview(self.dataBuffer)[self.offset :])  # type: ignore[arg-type] # it takes one
        if isinstance(sent, Exception):
            return sent
        self.offset += sent
        # With nothing left to write, Twisted's way ends the writing and tells the producer.
        return super().doWrite() if self.offset == len(self.dataBuffer) else None


class Ignored:
    """Stands in the place of a Deferred that nobody waits for."""

    called = False

    def callback(self, result: object) -> None:
        """Do nothing."""


class BareWebSocket(DaphneWebSocket):
    """Daphne's and autobahn's WebSocket with defaults of the class in place of attributes of each connection."""

    is_open = is_closed = Ignored()
    trafficStats = TrafficStats()
    _transport_details = None
    _perMessageCompress = None
    trackTimings = False
    trackedTimings = None
    send_state = AutobahnWebSocket.SEND_STATE_GROUND
    data = b""
    send_queue: tuple[()] = ()  # only chopped frames are queued, which nobody sends
    triggered = False
    utf8validateIncoming = False  # decoding finds the same, at the end of a message
    wasMaxFramePayloadSizeExceeded = wasMaxMessagePayloadSizeExceeded = False
    closedByMe = failedByMe = droppedByMe = wasClean = False
    wasNotCleanReason = None
    wasServerConnectionDropTimeout = wasOpenHandshakeTimeout = wasCloseHandshakeTimeout = False
    wasServingFlashSocketPolicyFile = False
    localCloseCode = localCloseReason = remoteCloseCode = remoteCloseReason = None
    openHandshakeTimeoutCall = closeHandshakeTimeoutCall = None
    autoPingTimeoutCall = autoPingPending = autoPingPendingCall = autoPingPendingSent = None
    autoPingPendingSeq = 0
    inside_message = False
    current_frame = None
    websocket_version = 13
    peer = ""
    client_addr: list[Any] | None = None
    path = b""

    def __init__(self) -> None:
        """Make nothing: autobahn makes futures and lists here that nobody asks for."""

    def take_over(self, transport: Any) -> None:
        """Become the protocol of a connection whose request for a WebSocket was read, and is not answered yet."""
        self.transport = transport
        transport.protocol = self
        self.connected = 1
        self.state = self.STATE_CONNECTING

    def connectionMade(self) -> None:
        """Let autobahn read the request. It would format the peer's address for its log."""
        self.peer = "peer"
        self._connectionMade()

    def _onOpen(self) -> None:
        """Take an answered handshake. Autobahn's own asks for TLS that it would have to know of, and fails."""
        self.onOpen()

    def connectionLost(self, reason: Any = None) -> None:
        """End as autobahn does, without formatting what it would log."""
        WebSocketProtocol._connectionLost(self, reason)

    @property
    def raw_query_string(self) -> bytes:
        """The query of a request that Daphne read."""
        query: bytes = self._raw_query_string
        return query

    @property
    def is_between_frames(self) -> bool:
        """Whether autobahn has no part of a frame or of a message."""
        return not self.data and self.current_frame is None and not self.inside_message

    def feed(self, data: bytes) -> None:
        """Let autobahn read bytes: the request, or frames."""
        self._dataReceived(data)

    def refuse_payload(self, reason: str) -> None:
        """Fail the connection, as autobahn does, for a message that is no text."""
        self._invalid_payload(reason)


class BareWebSocketFactory(DaphneWebSocketFactory):
    """Autobahn's factory, which copies its options into each WebSocket, with options of the class instead."""

    protocol: type[BareWebSocket] = BareWebSocket

    def setProtocolOptions(self, **options: Any) -> None:
        """Set options for all WebSockets."""
        super().setProtocolOptions(**options)
        for name in self.protocol.CONFIG_ATTRS:
            if name not in vars(BareWebSocket):
                setattr(self.protocol, name, getattr(self, name))

    def make(self) -> Any:
        """Return a new WebSocket without a connection."""
        made = self.protocol()
        made.factory = self
        return made


class BareRequest(WebRequest):
    """Daphne's request without the forms that Twisted would read: all others wait meanwhile, a second for 2 MB."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, parsePOSTFormSubmission=False, **kwargs)

    @property
    def has_application(self) -> bool:
        """Whether the request was handed to the application."""
        return self.application_queue is not None

    @property
    def is_handed_over(self) -> bool:
        """Whether its connection became a WebSocket."""
        return self.transport is None


class BareChannel(HTTPChannel):
    """Twisted's HTTP connection, which says whether a request is being served."""

    is_serving = False  # a whole request came that is not answered yet

    def allContentReceived(self) -> None:
        """Note that a request is whole."""
        self.is_serving = True
        super().allContentReceived()

    def requestDone(self, request: Any) -> None:
        """Note that a request was answered."""
        self.is_serving = False
        super().requestDone(request)


class BareHTTPFactory(DaphneHTTPFactory):
    """Daphne's factory for our own channels and requests."""

    protocol: type[BareChannel] = BareChannel
    request: type[BareRequest] = BareRequest

    def __init__(self, server: Any, *, silent_seconds: float) -> None:
        super().__init__(server)
        self.timeOut = silent_seconds

    def buildProtocol(self, addr: Any) -> Any:
        """Make the protocol of a connection."""
        protocol = super().buildProtocol(addr)
        protocol.requestFactory = self.request  # Daphne sets its own
        return protocol


class BareServer(DaphneServer):
    """Daphne's server with factories of our own, on a socket of our own."""

    def __init__(self, application: Any, *, ready: Callable[[], None], **options: Any) -> None:
        super().__init__(application, endpoints=["adopted"], ready_callable=ready, verbosity=0, **options)
        self.endpoints: list[str] = []  # Daphne insists on one that it can name; ours is open already

    def run_with(self, http_factory: type[BareHTTPFactory], ws_factory: type[BareWebSocketFactory]) -> None:
        """Serve until `stop`. Daphne's run() builds its factories by these names, and takes no others."""
        daphne.server.HTTPFactory, daphne.server.WebSocketFactory = http_factory, ws_factory
        super().run()

    def application_of(self, protocol: Any) -> asyncio.Future[Any] | None:
        """Return the application's task of a request, None if there is none (any more)."""
        found: asyncio.Future[Any] | None = self.connections.get(protocol, {}).get("application_instance")
        return found

    def applications(self) -> Iterator[asyncio.Future[Any]]:
        """Yield the applications' tasks of the HTTP requests that are under way."""
        for details in self.connections.values():
            if (application := details.get("application_instance")) is not None:
                yield application

    def before_shutdown(self, work: Callable[[], Any]) -> None:
        """Call `work` before the reactor ends; it waits for the Deferred that this returns."""
        reactor.addSystemEventTrigger("before", "shutdown", work)
