"""REDIS_URL: what it may name."""

from __future__ import annotations

import pytest
from django.core.exceptions import ImproperlyConfigured

from chatsite.channel_layer.addresses import parse


def test_one_server() -> None:
    servers = parse("redis://user:p%40ss@redis.example:6380/3")

    assert [str(address) for address in servers.addresses] == ["redis.example:6380"]
    assert dict(servers.addresses[0].options) == {
        "username": "user",
        "password": "p@ss",
        "host": "redis.example",
        "port": 6380,
        "db": 3,
    }
    assert not servers.is_cluster


def test_several_servers_share_the_rooms() -> None:
    servers = parse("redis://a, rediss://b:7000 ,unix:///run/redis.sock")

    assert [str(address) for address in servers.addresses] == ["a:6379", "b:7000", "/run/redis.sock"]
    assert not servers.is_cluster


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_a_cluster_is_named_by_some_of_its_nodes_with_one_user_for_all(scheme: str) -> None:
    servers = parse(f"{scheme}+cluster://user:secret@a:7000,b:7001,c?ssl_check_hostname=false")

    assert servers.is_cluster
    assert [str(address) for address in servers.addresses] == ["a:7000", "b:7001", "c:6379"]
    for address in servers.addresses:
        assert (address.options["username"], address.options["password"]) == ("user", "secret")
        assert address.options["ssl_check_hostname"] is False
        assert ("connection_class" in address.options) == (scheme == "rediss")


@pytest.mark.parametrize(
    "text", ["", "http://a", "redis+cluster://a:7000/1", "redis://a:port", "redis+cluster://a,b:x"]
)
def test_nonsense_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ImproperlyConfigured) as refusal:
        parse(text)

    assert not text or text not in str(refusal.value)
