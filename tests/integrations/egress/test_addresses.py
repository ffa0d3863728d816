"""Where webhooks may go, judged by the resolved address."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.egress.addresses import AllowList, RefusedAddress, check, is_public, resolve

REFUSED = """
0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.127.255.255 127.0.0.1 127.255.255.254 169.254.169.254
169.254.170.2 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.170 192.0.2.1 192.88.99.1 192.168.0.1 198.18.0.1
198.19.255.255 198.51.100.7 203.0.113.9 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255
:: ::1 ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:8.8.8.8 ::ffff:0:127.0.0.1 64:ff9b::7f00:1 64:ff9b:1::1
100::1 2001::1 2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:2::1 2001:10::1 2001:20::1 2001:db8::1 2002:7f00:1::
2002:a00:1::1 3fff::1 5f00::1 fc00::1 fd00:ec2::254 fe80::1 febf::1 fec0::1 ff02::1 ff0e::1
"""
PUBLIC = """
1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.1 169.253.255.255
172.15.255.255 172.32.0.0 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 223.255.255.255
2001:200::1 2001:4860:4860::8888 2600:1f18::1 2a00:1450:4001:80b::200e 2606:4700:4700::1111
"""


@pytest.mark.parametrize("address", REFUSED.split())
def test_an_address_that_leads_inside_or_nowhere_is_refused(address: str) -> None:
    assert not is_public(ip_address(address))
    with pytest.raises(RefusedAddress, match="not a public address"):
        check("example.org", 443, [address], AllowList())


@pytest.mark.parametrize("address", PUBLIC.split())
def test_a_public_address_may_be_called(address: str) -> None:
    assert check("example.org", 443, [address], AllowList()) == [address]


@given(st.ip_addresses() | st.ip_addresses(network="2000::/3"))
def test_no_address_that_python_knows_to_be_private_is_taken_for_public(address: IPv4Address | IPv6Address) -> None:
    if is_public(address):
        assert address.is_global
        assert not address.is_multicast
        assert not (isinstance(address, IPv6Address) and (address.ipv4_mapped or address.sixtofour or address.teredo))


@pytest.mark.parametrize("spelling", ["2130706433", "0x7f000001", "0177.0.0.1", "127.1", "localhost", "0"])
def test_other_spellings_of_loopback_are_refused_once_resolved(spelling: str) -> None:
    with pytest.raises(RefusedAddress):
        check(spelling, 80, resolve(spelling, 80), AllowList())


def test_one_private_address_among_public_ones_is_enough_to_refuse() -> None:
    with pytest.raises(RefusedAddress):
        check("example.org", 443, ["8.8.8.8", "10.0.0.1"], AllowList())


def test_a_link_local_address_with_a_zone_is_refused() -> None:
    with pytest.raises(RefusedAddress):
        check("example.org", 443, ["fe80::1%lo"], AllowList())


def test_a_name_without_addresses_is_refused() -> None:
    with pytest.raises(RefusedAddress, match="no address"):
        check("example.org", 443, [], AllowList())


def test_the_operator_allows_single_endpoints_and_whole_networks() -> None:
    allowed = AllowList.parse(["127.0.0.1:9001", "lambda.internal:80", "[::1]:9001", "10.1.0.0/16"])

    assert check("localhost", 9001, ["127.0.0.1"], allowed)
    assert check("LAMBDA.internal.", 80, ["192.168.7.7"], allowed)
    assert check("anything", 5, ["10.1.2.3"], allowed)
    assert check("[::1]", 9001, ["::1"], allowed)
    for host, port, address in (("localhost", 9002, "127.0.0.1"), ("other", 80, "192.168.7.7"), ("x", 5, "10.2.0.1")):
        with pytest.raises(RefusedAddress):
            check(host, port, [address], allowed)


@pytest.mark.parametrize("entry", ["nonsense", "host:", ":80", "host:99999", "10.0.0.0/99"])
def test_an_allow_list_that_cannot_be_read_says_which_entry(entry: str) -> None:
    with pytest.raises(ValueError, match="WEBHOOK_ALLOW_PRIVATE"):
        AllowList.parse([entry])
