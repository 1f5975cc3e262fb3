"""What is killed while a container starts: in the end it runs, once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance import boxes
from tests.acceptance.api import Api
from tests.acceptance.cluster import Cluster, Daemon, MakeCluster, PlainCluster
from tests.wires import Wires

# A runc that waits before it makes a container, for as long as the file is there.
HALTING = """#!/bin/sh
case "$*" in *" create "*) while [ -e "{halt}" ]; do sleep 0.05; done ;; esac
exec {runc} "$@"
"""


@pytest.fixture(scope="module")
def backend() -> str:
    """Nothing here depends on the storage."""
    return "dir"


@pytest.fixture(scope="module")
def cluster_type() -> type[Cluster]:
    """As users have them: what ends with its daemon there, the kernel sees to."""
    return PlainCluster


@pytest.fixture(scope="module")
def halt(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """While this file is there, no container is made; the daemons' runc sees to it."""
    boxes.needs_runc()
    folder = tmp_path_factory.mktemp("programs")
    wrapper, file = folder / "runc", folder / "halt"
    wrapper.write_text(HALTING.format(halt=file, runc=shutil.which("runc")))
    wrapper.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        yield file


@pytest.fixture(scope="module")
def cluster(wires: Wires, make_cluster: MakeCluster, halt: Path) -> Iterator[Cluster]:
    """One server, which runs what is in its containers."""
    made = make_cluster(1, {"runtime": {"driver": "runc"}})
    yield made
    halt.unlink(missing_ok=True)
    boxes.sweep(made)


def kill_workers(daemon: Daemon) -> None:
    """-9, all of them."""
    for worker in daemon.children("worker"):
        worker.kill()


def kill_daemon(daemon: Daemon) -> None:
    """-9, and its next start."""
    daemon.kill()
    daemon.start()


@pytest.mark.parametrize("strike", [kill_workers, kill_daemon])
async def test_it_is_started_once(
    cluster: Cluster, api: Api, halt: Path, strike: Callable[[Daemon], None]
) -> None:
    """A monitor that has begun goes on, and the next attempt finds what it has started."""
    (here,) = cluster.daemons
    tree = boxes.make(cluster.tree(strike.__name__))
    container = await api.create(tree, command=boxes.shell(boxes.COUNT))
    await boxes.counts_beyond(api, container, 2)
    await api.power(container, "stop")

    halt.touch()
    started = await api.call("POST", f"/containers/{container}/start")
    assert started["status"] == "stopped"

    async def halted() -> bool:
        return any("create" in one.info["cmdline"] for one in boxes.monitors(container))

    await boxes.until(halted)
    strike(here)
    halt.unlink()
    (job,) = await api.jobs(container, "start")
    assert (await api.done(job["id"]))["attempt"] == 2
    assert (await api.container(container))["status"] == "running"
    assert len(boxes.monitors(container)) == 1
    log = (boxes.runtime_folder(here, container) / "log").read_text()
    assert log.count("begins at") == 2  # when it was created, and now
    await boxes.counts_beyond(api, container, await boxes.count_of(api, container))


async def test_a_monitor_is_killed_as_it_starts(cluster: Cluster, api: Api, halt: Path) -> None:
    """The start fails, and says so; the next one finds what was left, and removes it."""
    (here,) = cluster.daemons
    container = await api.create(boxes.make(cluster.tree("monitor")), command=boxes.SLEEP)
    await api.power(container, "stop")
    halt.touch()
    await api.call("POST", f"/containers/{container}/start")

    async def halted() -> bool:
        return any("create" in one.info["cmdline"] for one in boxes.monitors(container))

    await boxes.until(halted)
    for process in boxes.monitors(container):
        process.kill()
    (job,) = await api.jobs(container, "start")
    assert (await api.wait(job["id"]))["error"]["code"] == "START_FAILED"
    shown = await api.container(container)
    assert (shown["status"], shown["status_reason"][:12]) == ("stopped", "START_FAILED")
    halt.unlink()
    await api.power(container, "start")
    assert (await api.container(container))["status"] == "running"
    await api.delete(container)
    assert not boxes.monitors(container)
    assert not boxes.cgroups(container)
    assert here.is_ready()
