"""What the kernel does for each connection, so that no Python has to: finding dead peers, and bounding what waits.

Accepted sockets inherit the options of the listening one (Linux), so that a connection costs no system call here.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import sys
import termios

from django.conf import settings

TCP_NOTSENT_LOWAT = getattr(socket, "TCP_NOTSENT_LOWAT", 25)  # the socket module of Python 3.11 has no name for it


def prepare_listener(listener: socket.socket) -> None:
    """Set what each connection accepted from this socket shall have."""
    if listener.family == socket.AF_UNIX:
        return
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if sys.platform == "linux":
        # What the peer's window does not take is left to the hub, which sends newer things later, not to the kernel.
        listener.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, settings.CONNECTION_KERNEL_UNSENT_BYTES)
        give_up_after(listener, settings.CONNECTION_DEAD_SECONDS)


def give_up_after(connection: socket.socket, seconds: float) -> None:
    """Let the kernel drop the connection when the peer has taken nothing of what it was sent for so long."""
    if sys.platform == "linux" and connection.family != socket.AF_UNIX:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))


def unacknowledged(connection: socket.socket) -> int:
    """Return how many bytes the kernel keeps that the peer has not acknowledged. Raises OSError."""
    answer = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, b"\0\0\0\0")
    return int(struct.unpack("i", answer)[0])
