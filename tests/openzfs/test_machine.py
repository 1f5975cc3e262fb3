"""What a test may do to a machine: take it back in time, cut its power, use its link."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from tests.openzfs.conftest import Nodes
from tests.openzfs.machine import Machine

SECONDS = 120.0


def shell(machine: Machine, text: str) -> list[str]:
    """The words that a shell command prints."""
    return machine.run("sh", "-ec", text, seconds=SECONDS).split()


@pytest.fixture
def pool(nodes: Nodes) -> Iterator[Machine]:
    """The second machine with a pool on its first blank disk."""
    shell(nodes[1], "zpool create -f kept /dev/vdb")
    yield nodes[1]
    shell(nodes[1], "zpool destroy kept")


def test_they_reach_each_other_and_nothing_else(nodes: Nodes) -> None:
    one, _ = nodes
    assert shell(one, "hostname; ssh node2 hostname") == ["node1", "node2"]
    with pytest.raises(subprocess.CalledProcessError):
        shell(one, "ssh -o ConnectTimeout=5 10.0.2.2 true")


def test_a_stream_goes_over_the_link(nodes: Nodes, pool: Machine) -> None:
    one, two = nodes
    shell(one, "zpool create -f sent /dev/vdb; echo text > /sent/file; zfs snapshot sent@1")
    try:
        shell(one, "zfs send sent@1 | ssh node2 zfs receive kept/copy")
    finally:
        shell(one, "zpool destroy sent")
    assert shell(two, "cat /kept/copy/file") == ["text"]


def test_a_reset_takes_disks_and_memory_back(pool: Machine) -> None:
    shell(pool, "zfs create kept/before; echo before > /run/mark")
    pool.save()
    shell(pool, "zfs destroy kept/before; zfs create kept/after; echo after > /run/mark")
    pool.reset()
    assert shell(pool, "cat /run/mark; zfs list -H -o name -d 1 kept") == [
        *("before", "kept", "kept/before")
    ]


def test_a_power_cut_loses_what_was_not_on_the_disk(pool: Machine) -> None:
    shell(pool, "echo 1 > /kept/file; zpool sync kept; echo 1 > /run/mark")
    pool.crash()
    pool.boot()
    shell(pool, "zpool import -f kept")
    assert shell(pool, "cat /kept/file; ls /run/mark || echo gone") == ["1", "gone"]
