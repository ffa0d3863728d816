"""Socket options by which the kernel finds dead peers and bounds unsent bytes, so that no Python has to.

Accepted sockets inherit the options of the listening one (Linux), so that a connection costs no system call here.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import sys
import termios

CONNECTION_DEAD_SECONDS = 40.0  # a peer that acknowledges nothing for so long is dropped, by the kernel
CONNECTION_KERNEL_UNSENT_BYTES = 32_768  # TCP_NOTSENT_LOWAT: what a slow peer leaves in the kernel: half a pass

TCP_NOTSENT_LOWAT = getattr(socket, "TCP_NOTSENT_LOWAT", 25)  # the socket module of Python 3.11 has no name for it


def prepare_listener(listener: socket.socket) -> None:
    """Set on a listening socket the options that each accepted connection inherits."""
    if listener.family == socket.AF_UNIX:
        return
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if sys.platform == "linux":
        # Bytes beyond the peer's window stay with the hub, which gathers and may skip, not with the kernel.
        listener.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, CONNECTION_KERNEL_UNSENT_BYTES)
        give_up_after(listener, CONNECTION_DEAD_SECONDS)


def give_up_after(connection: socket.socket, seconds: float) -> None:
    """Let the kernel drop the connection when the peer has acknowledged nothing for so long."""
    if sys.platform == "linux" and connection.family != socket.AF_UNIX:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))


def unacknowledged(connection: socket.socket) -> int:
    """Return how many bytes the kernel keeps that the peer has not acknowledged. Raises OSError."""
    answer = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, b"\0\0\0\0")
    return int(struct.unpack("i", answer)[0])
