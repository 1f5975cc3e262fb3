"""A container keeps its address; two never have one."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from daemon.errors import JobError
from daemon.network.addresses import Addresses

SMALL = IPv4Network("10.88.0.0/29")  # .1 is the bridge's, .2 to .6 are for containers


def at(path: Path, network: IPv4Network = SMALL) -> Addresses:
    return Addresses(str(path / "addresses.json"), network)


def never(_container_id: str) -> bool:
    return False


def always(_container_id: str) -> bool:
    return True


def test_each_has_one_of_its_own_and_keeps_it(tmp_path: Path) -> None:
    chosen = [at(tmp_path).choose(name, never) for name in "abcde"]
    assert chosen == [IPv4Address(f"10.88.0.{last}") for last in range(2, 7)]
    assert [at(tmp_path).choose(name, always) for name in "abcde"] == chosen
    assert [at(tmp_path).of(name) for name in "abcde"] == chosen
    assert at(tmp_path).of("f") is None


def test_the_one_that_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    chosen = {name: at(tmp_path).choose(name, never) for name in "abcde"}
    at(tmp_path).choose("a", never)
    in_use = {"b", "a"}
    assert at(tmp_path).choose("f", in_use.__contains__) == chosen["c"]
    assert at(tmp_path).of("c") is None
    assert at(tmp_path).choose("c", in_use.__contains__) == chosen["d"]


def test_what_is_in_use_is_not_taken_away(tmp_path: Path) -> None:
    for name in "abcde":
        at(tmp_path).choose(name, never)
    with pytest.raises(JobError, match=r"10\.88\.0\.0/29 has no address left") as raised:
        at(tmp_path).choose("f", always)
    assert raised.value.code == "START_FAILED"
    assert at(tmp_path).of("f") is None


@pytest.mark.parametrize(("network", "room"), [("10.1.0.0/30", 1), ("10.0.0.0/8", 300)])
def test_networks_of_other_sizes(network: str, room: int, tmp_path: Path) -> None:
    addresses = at(tmp_path, IPv4Network(network))
    chosen = [addresses.choose(str(number), always) for number in range(room)]
    assert chosen[0] == IPv4Network(network)[2]
    assert len(set(chosen)) == room


def test_another_network_means_other_addresses(tmp_path: Path) -> None:
    at(tmp_path).choose("a", never)
    other = at(tmp_path, IPv4Network("10.89.0.0/24"))
    assert other.of("a") is None
    assert other.choose("b", never) == other.choose("b", never) == IPv4Address("10.89.0.2")
    assert other.choose("a", never) == IPv4Address("10.89.0.3")


def test_a_draft_that_was_left_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / "addresses.json.new").write_text('{"a": ')
    chosen = at(tmp_path).choose("a", never)
    assert at(tmp_path).of("a") == chosen
    assert [path.name for path in tmp_path.iterdir()] == ["addresses.json"]
