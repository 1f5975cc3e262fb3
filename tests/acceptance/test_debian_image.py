"""A real Debian as an image: a container begins as it on one server, runs, is copied to another
one and runs there; what a second one is copied by is its own difference."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.acceptance import boxes
from tests.acceptance.api import Api
from tests.acceptance.cluster import Cluster, Daemon, MakeCluster
from tests.acceptance.space import doctors_are_content, forest_of
from tests.images import add_at
from tests.openzfs.debian import _SLIM, BASE, BUILD_SECONDS, _sources, do
from tests.wires import Wires

pytestmark = pytest.mark.timeout(1200)

SLEEP = ["/bin/sleep", "infinity"]
OWN_BYTES = 1 << 20
SLACK_BYTES = 512 << 10
EXEC_SECONDS = 60


@pytest.fixture(scope="session")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root filesystem of a smallest Debian, from where this machine has its packages."""
    boxes.needs_runc("mmdebstrap")
    made = tmp_path_factory.mktemp("debian")
    sources, root = made / "sources.list", made / "root"
    sources.write_text(_sources(BASE), encoding="utf-8")
    # Its mounts are its own, and gone with it.
    argv = ("unshare", "--mount", "mmdebstrap", "--mode=root", "--variant=essential", *_SLIM)
    do(*argv, "--format=directory", BASE, root, sources, seconds=BUILD_SECONDS)
    return root


@pytest.fixture(scope="module")
def cluster(debian: Path, wires: Wires, make_cluster: MakeCluster) -> Iterator[Cluster]:
    """Two servers, a and b, which run what is in their containers."""
    made = make_cluster(2, {"runtime": {"driver": "runc"}})
    yield made
    boxes.sweep(made)


@pytest.fixture
async def api(cluster: Cluster) -> AsyncIterator[Api]:
    async with cluster.api() as api:
        yield api


async def inside(daemon: Daemon, container_id: str, *command: str) -> str:
    """What a command prints in a container; it must end well."""
    argv = [sys.executable, "-m", "daemon", "exec", "--config", str(daemon.config_path)]
    argv += [container_id, "--", *command]
    done = await asyncio.to_thread(
        subprocess.run, argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=EXEC_SECONDS
    )
    assert done.returncode == 0, (done.stdout + done.stderr).decode()
    return done.stdout.decode()


async def assert_debian(daemon: Daemon, container_id: str) -> None:
    """It is one, and whole: its programs run, and find its packages."""
    assert (await inside(daemon, container_id, "cat", "/etc/debian_version")).startswith("12.")
    query = ("dpkg-query", "--show", "--showformat", "${Status}", "base-files")
    assert await inside(daemon, container_id, *query) == "install ok installed"


async def test_it_runs_here_and_there(cluster: Cluster, api: Api, debian: Path) -> None:
    a, b = cluster.daemons
    named = {"alias": "debian/12", "os": "debian", "release": "12"}
    image = await add_at(a.config_path, debian, **named)

    one = await api.create_as("debian/12", name="one", command=SLEEP)
    two = await api.create_as(image.id, name="two", command=SLEEP)
    for container in (one, two):
        await assert_debian(a, container)
        assert (await api.storage(container))["origin_guid"] == image.guid
    assert (await inside(a, two, "hostname")).strip() == "two"

    far, job = await api.copy(one, b.server_id)
    whole_bytes = job["result"]["bytes_wire"]
    assert job["result"]["bytes_logical"] > image.size_bytes / 2
    await assert_debian(b, far)

    write = f"head -c {OWN_BYTES} /dev/urandom > /srv/own; sync; sha256sum /srv/own"
    digest = await inside(a, two, "sh", "-c", write)
    far_two, job = await api.copy(two, b.server_id)
    assert OWN_BYTES <= job["result"]["bytes_wire"] <= OWN_BYTES + SLACK_BYTES
    assert job["result"]["bytes_wire"] < whole_bytes / 4
    await assert_debian(b, far_two)
    assert await inside(b, far_two, "sha256sum", "/srv/own") == digest

    three = await api.create_as("debian/12", server_id=b.server_id, name="three", command=SLEEP)
    (created,) = await api.jobs(three, "create")
    assert (created["result"]["strategy"], created["result"]["bytes_logical"]) == ("clone", 0)
    await assert_debian(b, three)
    there = await forest_of(b)
    mirror = there.find(str(image.guid))
    assert mirror is not None and mirror.dataset.startswith("mirrors/")
    assert sum(one.name == mirror.name for one in there.snapshots()) == 1
    await doctors_are_content(cluster)
