"""Containers that run something: a tree with a static busybox, and what a test asks of a process
that runs in one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import psutil
import pytest

from daemon.network import ground
from daemon.runtime import bundle
from tests.acceptance.api import Api, Json
from tests.acceptance.cluster import Cluster, Daemon, MakeCluster, Settings
from tests.wires import Wires

BUSYBOX = "/bin/busybox"
PATIENCE_SECONDS = 60.0
POLL_SECONDS = 0.05

# Goes on from the count that it finds. The file is replaced whole, so that nobody sees it empty.
COUNT = """
n=$(cat /count); echo "begins at $n"
trap 'echo told to end; exit 5' TERM
while :; do n=$((n+1)); echo $n > /count.new; mv /count.new /count; sleep 0.1; done
"""
SLEEP = [BUSYBOX, "sleep", "100000"]


def needs_runc(*others: str) -> None:
    """The test is skipped where a part is missing, the programs `others` among them; under CI=true
    it fails."""
    missing = [name for name in ("runc", "busybox", *others) if shutil.which(name) is None]
    if os.geteuid() == 0 and not missing:
        return
    reason = f"no {', '.join(missing)}" if missing else "runc needs root"
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def running(
    wires: Wires, make_cluster: MakeCluster, servers: int, settings: Settings
) -> Iterator[Cluster]:
    """Servers in the wires' network that run what is in their containers: what a fixture yields
    from."""
    needs_runc()
    made = make_cluster(servers, {"runtime": {"driver": "runc"}, **settings})
    yield made
    sweep(made)


def shell(script: str) -> list[str]:
    """The command of a container that runs this."""
    return [BUSYBOX, "sh", "-c", script]


def make(path: str) -> str:
    """A tree that can be run in, or what a tree lacks for that; its path."""
    for name in ("bin", "dev", "etc", "proc", "root", "sys", "tmp"):
        Path(path, name).mkdir(parents=True, exist_ok=True)
    Path(path, "count").write_text("0\n")
    shutil.copy(shutil.which("busybox") or "", Path(path, "bin"))
    for applet in ("cat", "echo", "ls", "mv", "sh", "sleep"):
        Path(path, "bin", applet).symlink_to("busybox")
    return path


def runtime_folder(daemon: Daemon, container_id: str) -> Path:
    """Where the container's run keeps its files."""
    return daemon.state_dir / "runtime" / container_id


def pid_of(daemon: Daemon, container_id: str) -> int:
    """The container's first process."""
    return int(json.loads((runtime_folder(daemon, container_id) / "run.json").read_text())["pid"])


def monitors(container_id: str) -> list[psutil.Process]:
    """The processes that have the container's id among their arguments: its monitor, runc."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if container_id in (process.info["cmdline"] or ()):
            found.append(process)
    return found


def kill(daemon: Daemon, container_id: str) -> int:
    """Kills the container's first process, -9; the pid that it had."""
    pid = pid_of(daemon, container_id)
    os.kill(pid, signal.SIGKILL)
    return pid


def lives(pid: int) -> bool:
    """Whether there is a process of that id, and not only what is left of it until its parent
    asks."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def cgroups(container_id: str) -> list[Path]:
    """The container's cgroups, one in each hierarchy of version 1."""
    top, name = Path("/sys/fs/cgroup"), bundle.cgroup_path(container_id).strip("/")
    return [path for path in (top / name, *top.glob(f"*/{name}")) if path.exists()]


async def until(what: Callable[[], Awaitable[bool]]) -> None:
    """Waits until it is so."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await what():
            await asyncio.sleep(POLL_SECONDS)


async def stopped(api: Api, container_id: str) -> Json:
    """The container once it is said to be stopped."""

    async def is_so() -> bool:
        return bool((await api.container(container_id))["status"] == "stopped")

    await until(is_so)
    return await api.container(container_id)


async def count_of(api: Api, container_id: str) -> int:
    """How far the container has counted. On zfs-fuse a file that is being replaced may be seen as
    gone."""
    found: list[int] = []

    async def is_seen() -> bool:
        with contextlib.suppress(FileNotFoundError):
            found.append(int(Path(await api.rootfs(container_id), "count").read_text()))
        return bool(found)

    await until(is_seen)
    return found[0]


async def counts_beyond(api: Api, container_id: str, count: int) -> None:
    """Returns when it has counted further."""

    async def is_so() -> bool:
        return await count_of(api, container_id) > count

    await until(is_so)


def sweep(cluster: Cluster) -> None:
    """Ends what runs still, and its network: containers outlive their daemons, as they should."""
    for daemon in cluster.daemons:
        for folder in (daemon.state_dir / "runtime").glob("*/runc"):
            container_id = folder.parent.name
            left = monitors(container_id)
            subprocess.run(
                ["runc", "--root", str(folder), "delete", "--force", container_id],
                check=False,
                capture_output=True,
                timeout=PATIENCE_SECONDS,
            )
            _, alive = psutil.wait_procs(left, PATIENCE_SECONDS)
            assert not alive, f"{alive} do not end"
            if os.path.exists(ground.namespace_path(container_id)):
                argv = ["ip", "netns", "delete", ground.namespace(container_id)]
                subprocess.run(argv, check=True, timeout=PATIENCE_SECONDS)
    listed = ["ip", "-json", "link", "show", "type", "bridge"]
    said = subprocess.run(listed, capture_output=True, check=True, timeout=PATIENCE_SECONDS).stdout
    for link in json.loads(said or "[]"):  # those of the wires, where the tests' servers are alone
        argv = ["ip", "link", "delete", "dev", link["ifname"]]
        subprocess.run(argv, check=True, timeout=PATIENCE_SECONDS)
