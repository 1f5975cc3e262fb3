"""What nft is told of a rule, and what things are called."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest

from daemon.model import Json, new_id
from daemon.network import ground, ruleset
from daemon.network.forwards import noted
from daemon.network.ground import Ground, Seat

SEAT = Seat("a" * 24, IPv4Address("10.88.0.2"))
ANY: Json = {"ports": None, "cidr": None, "comment": None}


def said(chain: str, *rules: Json) -> list[str]:
    """What a chain of the container's table says after the answers that pass."""
    text = ruleset.container_text(SEAT, rules, ())
    lines = text.split(f"chain {chain} {{\n")[1].split("}\n")[0].splitlines()
    assert lines[:2] == ["ct direction reply return", "ct state related return"]
    return lines[2:]


@pytest.mark.parametrize(
    ("rule", "line"),
    [
        ({"protocol": "any"}, "drop"),
        ({"protocol": "any", "action": "allow"}, "return"),
        ({"protocol": "icmp"}, "meta l4proto icmp drop"),
        ({"protocol": "tcp"}, "meta l4proto tcp drop"),
        ({"protocol": "tcp", "ports": "22"}, "tcp dport 22 drop"),
        ({"protocol": "udp", "ports": "8000-8100"}, "udp dport 8000-8100 drop"),
        ({"protocol": "udp", "ports": "80-80"}, "udp dport 80 drop"),
        ({"protocol": "any", "ports": "22"}, "meta l4proto { tcp, udp } th dport 22 drop"),
        ({"protocol": "any", "cidr": "10.0.0.0/8"}, "ip saddr 10.0.0.0/8 drop"),
        ({"protocol": "any", "cidr": "0.0.0.0/0"}, "ip saddr 0.0.0.0/0 drop"),
        ({"protocol": "any", "cidr": "10.0.0.7"}, "ip saddr 10.0.0.7/32 drop"),
        ({"protocol": "any", "direction": "out", "cidr": "10.0.0.0/8"}, "ip daddr 10.0.0.0/8 drop"),
        ({"protocol": "any", "cidr": "2001:db8::/32"}, None),
    ],
)
def test_a_rule_is_one_line(rule: Json, line: str | None) -> None:
    whole = {"direction": "in", "action": "deny", **ANY, **rule}
    side = str(whole["direction"])
    assert said(side, whole) == ([line] if line else [])
    assert said("out" if side == "in" else "in", whole) == []


def test_rules_keep_their_order_and_a_comment_stays_outside() -> None:
    comment = '"; flush ruleset; "'
    rules = [
        {**ANY, "direction": "in", "action": "deny", "protocol": "tcp", "ports": str(port)}
        | {"comment": comment}
        for port in (3, 1, 2)
    ]
    assert said("in", *rules) == [f"tcp dport {port} drop" for port in (3, 1, 2)]
    assert comment not in ruleset.container_text(SEAT, rules, ())


def test_forwards_are_noted_beside_their_rules() -> None:
    rule = {"type": "forward", "protocol": "tcp", "host_port": 8080, "container_port": 80}
    wanted = ruleset.forwards([rule])
    assert [one.taken for one in wanted] == ["tcp/8080"]
    text = ruleset.container_text(SEAT, (), wanted)
    assert text.count('tcp dport 8080 dnat to 10.88.0.2:80 comment "tcp/8080"') == 2


def test_notes_are_told_apart_by_their_tables() -> None:
    listed = [
        {"metainfo": {"version": "1.0.6"}},
        {"table": {"name": "hoody_a"}},
        {"rule": {"table": "hoody_a", "comment": "tcp/1"}},
        {"rule": {"table": "hoody_b", "comment": "tcp/2"}},
        {"rule": {"table": "hoody_b"}},
        {"rule": {"table": "filter", "comment": "tcp/3"}},
    ]
    assert noted(listed, "hoody_a") == ({"tcp/1"}, {"tcp/2"})


def test_names_are_derived_fit_and_differ() -> None:
    ids = [new_id() for _ in range(50)] + ["0" * 24, "0" * 23 + "1", "1" + "0" * 23]
    here = [Ground(one, IPv4Network("10.88.0.0/16")) for one in ids]
    interfaces = {ground.port(one) for one in ids} | {one.bridge for one in here}
    assert len(interfaces) == 2 * len(ids)
    assert max(map(len, interfaces)) <= 15
    macs = {Seat(one, SEAT.address).mac for one in ids}
    assert len(macs) == len(ids)
    assert all(len(one) == 17 and one.startswith("02:") for one in macs)
    assert here[0] == Ground(ids[0], IPv4Network("10.88.0.0/16"))
    assert str(here[0].gateway) == "10.88.0.1"
    assert not {ground.table(one) for one in ids} & {one.table for one in here}
