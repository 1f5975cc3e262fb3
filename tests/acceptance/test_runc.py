"""Containers with a process: that it runs, and that nobody is told otherwise than it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from daemon.runtime import resolver
from tests.acceptance import boxes
from tests.acceptance.api import Api
from tests.acceptance.cluster import Cluster, Daemon


@pytest.fixture(scope="module")
def cluster(running: Cluster) -> Cluster:
    return running


@pytest.fixture
def here(cluster: Cluster) -> Daemon:
    return cluster.daemons[0]


@pytest.fixture
def tree(cluster: Cluster, request: pytest.FixtureRequest) -> str:
    """A tree with a busybox in it."""
    return boxes.make(cluster.tree(request.node.originalname))


def hoodyd(
    daemon: Daemon, verb: str, *arguments: str, stdin: int = subprocess.DEVNULL
) -> subprocess.CompletedProcess[str]:
    """`hoodyd VERB --config … ARGUMENTS`."""
    argv = [sys.executable, "-m", "daemon", verb, "--config", str(daemon.config_path), *arguments]
    return subprocess.run(
        argv, stdin=stdin, capture_output=True, text=True, timeout=60, check=False
    )


async def test_a_container_has_a_world_of_its_own(here: Daemon, api: Api, tree: str) -> None:
    script = "echo $GREETING; hostname; echo $$; cat /proc/1/comm; echo error >&2; exec sleep 9999"
    Path(tree, "bin", "hostname").symlink_to("busybox")
    web = await api.create(
        tree, name="web", command=boxes.shell(script), environment_vars={"GREETING": "good day"}
    )
    assert (await api.container(web))["status"] == "running"

    lines = ["good day", "web", "1", "busybox", "error"]
    logged = lambda: hoodyd(here, "logs", web)  # noqa: E731 - said twice

    async def all_said() -> bool:
        return logged().stdout.split("\n")[:-1] == lines

    await boxes.until(all_said)
    assert hoodyd(here, "logs", web, "--tail", "2").stdout == "busybox\nerror\n"

    inside = hoodyd(here, "exec", web, "--", "/bin/ls", "/proc")
    processes = {name for name in inside.stdout.split() if name.isdigit()}
    assert "1" in processes
    assert len(processes) == 2  # and the ls itself
    assert hoodyd(here, "exec", web, "--", "/bin/sh", "-c", "exit 7").returncode == 7
    for kind in ("pid", "mnt", "ipc", "uts", "net", "cgroup"):
        theirs = os.readlink(f"/proc/{boxes.pid_of(here, web)}/ns/{kind}")
        assert theirs != os.readlink(f"/proc/self/ns/{kind}")
    assert os.getpriority(os.PRIO_PROCESS, boxes.pid_of(here, web)) == 0  # a worker yields, it not


async def test_it_asks_for_names_whom_its_server_asks_or_whom_it_says_itself(
    here: Daemon, api: Api, tree: str
) -> None:
    file = Path(tree, "etc", "resolv.conf")
    for own in (None, "", "nameserver 192.0.2.1\n"):
        if own is not None:
            file.write_text(own)
        web = await api.create(tree, command=boxes.SLEEP)
        said = hoodyd(here, "exec", web, "--", "/bin/cat", "/etc/resolv.conf").stdout
        assert said == (own or resolver.of_server() or "")
        live = Path(await api.rootfs(web), "etc", "resolv.conf")
        assert live.read_text() == (own or "")  # it is no part of the tree


async def test_a_command_has_the_terminal_that_it_is_given(
    here: Daemon, api: Api, tree: str
) -> None:
    web = await api.create(tree, command=boxes.SLEEP)
    asks = ["exec", web, "--", boxes.BUSYBOX, "test", "-t", "0"]
    assert hoodyd(here, *asks).returncode == 1
    ours, theirs = os.openpty()
    try:
        assert hoodyd(here, *asks, stdin=theirs).returncode == 0
    finally:
        os.close(ours)
        os.close(theirs)


async def test_it_is_told_to_end_before_it_is_killed(here: Daemon, api: Api, tree: str) -> None:
    container = await api.create(tree, command=boxes.shell(boxes.COUNT))
    await boxes.counts_beyond(api, container, 3)
    await api.power(container, "stop")
    shown = await api.container(container)
    assert (shown["status"], shown["exit_code"]) == ("stopped", 5)
    reached = await boxes.count_of(api, container)

    here.stop()
    here.start()
    assert (await api.container(container))["status"] == "stopped"  # its user wants it so
    refused = hoodyd(here, "exec", container, "--", "/bin/sh")
    assert refused.returncode == 2
    assert "does not run here" in refused.stderr

    await api.power(container, "start")
    shown = await api.container(container)
    assert (shown["status"], shown["exit_code"]) == ("running", None)
    await boxes.counts_beyond(api, container, reached)

    before = boxes.pid_of(here, container)
    await api.power(container, "restart")
    assert boxes.pid_of(here, container) != before
    said = hoodyd(here, "logs", container).stdout
    assert said.count("told to end") == 2
    assert f"begins at {reached}\n" in said


async def test_what_dies_is_stopped(here: Daemon, api: Api, tree: str) -> None:
    container = await api.create(tree, command=boxes.SLEEP)
    boxes.kill(here, container)
    shown = await boxes.stopped(api, container)
    assert (shown["exit_code"], shown["status_reason"]) == (137, None)

    await api.power(container, "start")
    assert (await api.container(container))["exit_code"] is None
    (monitor,) = boxes.monitors(container)
    process = boxes.pid_of(here, container)
    monitor.kill()
    shown = await boxes.stopped(api, container)
    assert shown["exit_code"] == 137
    assert "monitor" in shown["status_reason"]
    assert not boxes.lives(process)
    assert not boxes.cgroups(container)

    ends = await api.create(tree, command=boxes.shell("exit 3"))
    assert (await boxes.stopped(api, ends))["exit_code"] == 3


async def test_a_daemon_that_is_away(here: Daemon, api: Api, tree: str) -> None:
    """It stops nothing, and learns what has happened meanwhile."""
    lives = await api.create(tree, command=boxes.shell(boxes.COUNT))
    dies = await api.create(tree, command=boxes.SLEEP)
    process = boxes.pid_of(here, lives)
    here.kill()
    boxes.kill(here, dies)
    here.start()
    shown = await api.container(dies)
    assert (shown["status"], shown["exit_code"]) == ("stopped", 137)
    assert (await api.container(lives))["status"] == "running"
    assert boxes.pid_of(here, lives) == process
    await boxes.counts_beyond(api, lives, await boxes.count_of(api, lives))
    assert not await api.jobs(dies, "start")


async def test_after_a_boot(here: Daemon, api: Api, tree: str) -> None:
    """What ran then starts again, unless its user wants it otherwise. That the machine was started
    anew is played: the processes are gone, and the run is of another boot."""
    starts = await api.create(tree, command=boxes.SLEEP)
    stays = await api.create(tree, command=boxes.SLEEP)
    await api.call("PATCH", f"/containers/{stays}", autostart=False)
    here.kill()
    for container in (starts, stays):
        (monitor,) = boxes.monitors(container)
        monitor.kill()
        monitor.wait(boxes.PATIENCE_SECONDS)
        boxes.kill(here, container)
        run = boxes.runtime_folder(here, container) / "run.json"
        run.write_text(json.dumps({**json.loads(run.read_text()), "boot_id": "another"}))
    here.start()
    shown = await api.container(stays)
    assert (shown["status"], shown["status_reason"]) == ("stopped", "the server was started anew")

    (job,) = await api.jobs(starts, "start")
    await api.done(job["id"])
    assert (await api.container(starts))["status"] == "running"
    assert len(boxes.monitors(starts)) == 1
    assert not await api.jobs(stays, "start")


async def test_limits_hold(here: Daemon, api: Api, tree: str) -> None:
    hungry = [boxes.BUSYBOX, "dd", "if=/dev/zero", "of=/dev/null", "bs=96M", "count=1"]
    greedy = await api.create(tree, command=hungry, resources={"memory_bytes": 32 << 20})
    assert (await boxes.stopped(api, greedy))["exit_code"] == 137

    # The fifth process is one too many: the shell and three that sleep are four.
    script = "sleep 999 & sleep 999 & sleep 999 & sleep 999 & wait"
    fertile = await api.create(tree, command=boxes.shell(script), resources={"pids": 4})
    assert (await boxes.stopped(api, fertile))["exit_code"] == 2
    assert "can't fork" in hoodyd(here, "logs", fertile).stdout

    lazy = await api.create(tree, command=boxes.SLEEP, resources={"cpu_cores": 0.5})
    for cgroup in boxes.cgroups(lazy):
        for name, held in (("cpu.max", "50000 100000"), ("cpu.cfs_quota_us", "50000")):
            if (cgroup / name).exists():
                assert (cgroup / name).read_text().strip() == held
                return
    pytest.fail("nothing limits its cores")


async def test_the_log_is_bounded(here: Daemon, api: Api, tree: str) -> None:
    script = (
        "n=0; while [ $n -lt 40000 ]; do n=$((n+1)); echo line $n, and so on and on and on; done"
    )
    container = await api.create(tree, command=boxes.shell(script))
    await boxes.stopped(api, container)
    folder = boxes.runtime_folder(here, container)
    assert sum(file.stat().st_size for file in folder.glob("log*")) <= 2 << 20
    assert hoodyd(here, "logs", container, "--tail", "1").stdout.startswith("line 40000,")


async def test_a_sync_restarts_its_copy(cluster: Cluster, api: Api, tree: str) -> None:
    source = await api.create(tree, command=boxes.shell(boxes.COUNT))
    there = cluster.daemons[1]
    copy, _ = await api.copy(source, there.server_id)
    assert boxes.pid_of(there, copy)
    await boxes.counts_beyond(api, source, 50)
    before, process = await boxes.count_of(api, source), boxes.pid_of(there, copy)
    job = await api.sync(copy)
    assert job["result"]["downtime_seconds"] > 0
    assert await boxes.count_of(api, source) > before  # it counted all the while
    await boxes.counts_beyond(api, copy, before)
    assert boxes.pid_of(there, copy) != process
    began = hoodyd(there, "logs", copy).stdout.rsplit("begins at ", 1)[1].split()[0]
    assert int(began) >= before
    assert not boxes.lives(process)

    await api.power(copy, "stop")
    await boxes.counts_beyond(api, source, await boxes.count_of(api, source))
    await api.sync(copy)
    assert (await api.container(copy))["status"] == "stopped"
    assert not boxes.monitors(copy)


async def test_what_does_not_start_is_switched_back(cluster: Cluster, api: Api, tree: str) -> None:
    """By the job, which fails: the copy runs on with what it had, and what it has written since."""
    source = await api.create(tree, command=boxes.shell(boxes.COUNT))
    copy, _ = await api.copy(source, cluster.daemons[1].server_id)
    busybox = Path(await api.rootfs(source), "bin", "busybox")
    busybox.rename(busybox.with_name("away"))
    Path(await api.rootfs(copy), "mine").write_text("mine")
    before = await api.container(copy)

    sync = await api.start_sync(copy)
    job = await api.wait(sync.job_id)
    assert job["state"] == "failed"
    assert job["error"]["code"] == "START_FAILED"
    assert "busybox" in job["error"]["message"]
    after = await api.container(copy)
    for name in ("status", "last_synced_at", "updated_at"):
        assert after[name] == before[name]
    assert Path(await api.rootfs(copy), "mine").read_text() == "mine"
    await boxes.counts_beyond(api, copy, await boxes.count_of(api, copy))

    busybox.with_name("away").rename(busybox)
    await api.sync(copy)
    assert (await api.container(copy))["status"] == "running"
    assert not Path(await api.rootfs(copy), "mine").exists()


async def test_a_first_start_that_fails(api: Api, tree: str) -> None:
    created = await api.call(
        "POST",
        "/containers",
        project_id=api.project_id,
        source_path=tree,
        command=["/bin/nothing"],
    )
    shown = await boxes.stopped(api, created["id"])
    assert shown["status_reason"].startswith("START_FAILED")
    assert "/bin/nothing" in shown["status_reason"]
    (job,) = await api.jobs(created["id"], "create")
    assert (await api.wait(job["id"]))["error"]["code"] == "START_FAILED"


async def test_a_delete_leaves_nothing(here: Daemon, api: Api, tree: str) -> None:
    container = await api.create(tree, command=boxes.shell(boxes.COUNT))
    process, rootfs = boxes.pid_of(here, container), await api.rootfs(container)
    assert boxes.cgroups(container)
    await api.delete(container)
    assert not boxes.lives(process)
    assert not boxes.monitors(container)
    assert not boxes.cgroups(container)
    assert not boxes.runtime_folder(here, container).exists()
    assert not (here.state_dir / "runtime" / "ended" / container).exists()

    async def unmounted() -> bool:
        return not os.path.exists(rootfs)

    await boxes.until(unmounted)


async def test_without_a_command_nothing_runs(here: Daemon, api: Api, tree: str) -> None:
    container = await api.create(tree)
    here.kill()
    here.start()
    assert (await api.container(container))["status"] == "running"
    assert not boxes.monitors(container)
    await api.power(container, "stop")
    await api.power(container, "start")
    assert (await api.container(container))["status"] == "running"
