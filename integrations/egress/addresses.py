"""Checks whether webhooks may reach a network address. Pure, except for `resolve`.

Always the resolved address is checked, never a text: `0x7f000001`, `127.1` and any name may all mean 127.0.0.1. The
lists are written out because ipaddress.is_global accepts NAT64, 6to4, IPv4-compatible and multicast addresses, which
can lead back into the own network.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

REFUSED_IPV4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # shared by carriers
        "127.0.0.0/8",  # loopback
        "169.254.0.0/16",  # link-local, metadata services of clouds
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
)
# Mapped, compatible, NAT64, unique-local, link-local, site-local and multicast addresses are outside of it.
GLOBAL_IPV6 = IPv6Network("2000::/3")
REFUSED_IPV6 = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # protocol assignments: Teredo, ORCHID, benchmarks
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: an IPv4 address inside
        "3fff::/20",  # documentation
    )
)


class RefusedAddress(Exception):
    """A webhook must not go to this address; the text names it and says why."""


@dataclass(frozen=True, kw_only=True)
class AllowList:
    """The private targets that the operator allows: networks, and single host:port pairs."""

    networks: tuple[Network, ...] = ()
    endpoints: frozenset[tuple[str, int]] = frozenset()

    @classmethod
    def parse(cls, entries: Iterable[str]) -> AllowList:
        """Parse the values of WEBHOOK_ALLOW_PRIVATE. Raises ValueError that quotes the wrong entry."""
        networks: list[Network] = []
        endpoints: set[tuple[str, int]] = set()
        for entry in entries:
            try:
                networks.append(ip_network(entry, strict=False))
                continue
            except ValueError:
                pass
            host, colon, port = entry.rpartition(":")
            if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
                raise ValueError(f"WEBHOOK_ALLOW_PRIVATE: {entry!r} is neither host:port nor a network (10.0.0.0/8).")
            endpoints.add((_host(host), int(port)))
        return cls(networks=tuple(networks), endpoints=frozenset(endpoints))

    def allows(self, host: str, address: Address, port: int) -> bool:
        """Return whether a target is listed, by the name in its URL or by its address."""
        if (_host(host), port) in self.endpoints or (str(address), port) in self.endpoints:
            return True
        return any(address.version == network.version and address in network for network in self.networks)


def is_public(address: Address) -> bool:
    """Return whether an address is on the public internet, and cannot lead elsewhere."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in REFUSED_IPV4)
    return address in GLOBAL_IPV6 and not any(address in network for network in REFUSED_IPV6)


def check(host: str, port: int, addresses: Sequence[str], allowed: AllowList) -> list[str]:
    """Return the addresses if all may be called. Raises RefusedAddress if any may not."""
    if not addresses:
        raise RefusedAddress(f"The name {host} has no address.")
    for text in addresses:
        # A zone (fe80::1%eth0) is only found on addresses that are refused anyway.
        address = ip_address(text.partition("%")[0])
        if not is_public(address) and not allowed.allows(host, address, port):
            what = f"{host} is not" if host == text else f"{host} is at {text}, which is not"
            entry = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            raise RefusedAddress(
                f"{what} a public address. To allow it, start the server with {entry} or its network in "
                "WEBHOOK_ALLOW_PRIVATE."
            )
    return list(addresses)


def resolve(host: str, port: int) -> list[str]:
    """Resolve a host name by the system, without duplicates. Blocks. Raises OSError or UnicodeError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _host(text: str) -> str:
    return text.strip("[]").rstrip(".").lower()
