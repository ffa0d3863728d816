from __future__ import annotations

from chatsite.swarm.server.counters import grown, parse


def test_counters_of_gateways_are_added_up_and_a_new_gateway_began_with_nothing() -> None:
    before = parse('# HELP x\nchat_healed_total{gateway="a"} 5.0\nchat_catch_up_reads_total{gateway="a"} 1.0\n')
    after = before | parse('chat_healed_total{gateway="b"} 2.0\nchat_members{gateway="b"} 9.0\n')
    assert grown(before, after) == {"chat_catch_up_reads": 0, "chat_healed": 2}
    assert grown(before, {}) is None
