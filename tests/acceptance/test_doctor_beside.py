"""`hoodyd doctor` as an operator runs it, beside a daemon and without: every fault that a daemon
at work leaves alone, all at once."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from daemon.config import load
from daemon.model import DatasetRow, Role, hold_tag, mirror_path, new_id
from daemon.store import datasets
from daemon.store.database import Database
from tests.acceptance import trees
from tests.acceptance.api import Api
from tests.acceptance.cluster import Cluster, Daemon, MakeCluster
from transfer.storage import open_storage
from transfer.storage.base import Storage

COMMAND_SECONDS = 60
MENDED = {"DATASET_UNKNOWN", "GENERATION_UNMOUNTED", "PROCESS_MISSING", "KEY_FILE_OPEN"}
DECLINED = {"DATASET_MISSING", "DATASET_FOREIGN", "SNAPSHOT_MISSING", "HOLD_UNKNOWN"}
DECLINED |= {"SECRET_DIFFERS"}

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def cluster(make_cluster: MakeCluster) -> Cluster:
    """One server is enough."""
    return make_cluster(1)


async def says(daemon: Daemon, *options: str) -> tuple[int, dict[str, bool | None]]:
    """The exit code, and by the code of each finding whether it was repaired."""
    argv = [sys.executable, "-m", "daemon", "doctor", "--json", *options]
    done = await asyncio.to_thread(
        subprocess.run,
        [*argv, "--config", str(daemon.config_path)],
        capture_output=True,
        timeout=COMMAND_SECONDS,
        check=False,
    )
    findings = json.loads(done.stdout)
    found = {finding["code"]: finding["repaired"] for finding in findings}
    assert len(found) == len(findings), findings
    return done.returncode, found


async def path_of(api: Api, daemon: Daemon, container_id: str) -> str:
    """The dataset of a container's live generation."""
    current = Path(load(str(daemon.config_path), {}).storage.mount_root, container_id, "current")
    return f"containers/{container_id}/{current.readlink()}"


async def plant_in_storage(cluster: Cluster, api: Api, storage: Storage) -> None:
    """A dataset without a row, one that is foreign, a lost snapshot, a hold, a lost mount and a
    lost `current`."""
    daemon = cluster.daemons[0]
    one, two = [await api.create(cluster.tree("tree"), name=name) for name in ("one", "two")]
    lost = await api.snapshot(one)
    Path(await api.rootfs(one), "srv", "later").write_text("later")
    held = await api.snapshot(one)
    path = await path_of(api, daemon, one)
    await storage.destroy_snapshot(path, lost["guid"])
    await storage.hold([held["guid"]], hold_tag(new_id()))
    await storage.take_in(
        cluster.tree("tree"), mirror_path(new_id()), f"h-{new_id()}", lambda _: None
    )
    await storage.unmount(path)
    mount_root = load(str(daemon.config_path), {}).storage.mount_root
    Path(mount_root, two, "current").unlink()
    if cluster.zfs:
        argv = ["zfs", "create", f"{daemon.storage_root}/backup"]
        await asyncio.to_thread(subprocess.run, argv, check=True, timeout=COMMAND_SECONDS)
    else:
        Path(daemon.storage_root, "backup").mkdir()


async def plant_beside(daemon: Daemon) -> None:
    """A row without a dataset, a file that others may read, another secret."""
    config = load(str(daemon.config_path), {})
    mirror_id = new_id()
    path = mirror_path(mirror_id)
    row = DatasetRow(mirror_id, config.server.id, Role.MIRROR, mirror_id, path, ready=True)
    database = Database(config.database.url)
    async with database.write() as tx:
        await datasets.insert(tx, row)
    await database.close()
    Path(config.auth.sealing_key_file).chmod(0o644)
    Path(config.auth.secret_file).write_text("another secret of thirty-two bytes or more")


async def test_doctor_beside_a_daemon_and_without(cluster: Cluster) -> None:
    (daemon,) = cluster.daemons
    settings = load(str(daemon.config_path), {}).storage
    storage = await open_storage(
        settings.backend, settings.root, settings.mount_root, str(daemon.state_dir)
    )
    trees.make(cluster.tree("tree"), files=5, big_bytes=10_000, sparse_bytes=1 << 20)
    assert await says(daemon) == (0, {})
    async with cluster.api() as api:
        await plant_in_storage(cluster, api, storage)
    await plant_beside(daemon)
    found = dict.fromkeys(MENDED | DECLINED)
    assert await says(daemon) == (1, found)
    await asyncio.to_thread(daemon.stop)
    assert await says(daemon) == (1, found)
    repaired = {code: code in MENDED for code in found}
    assert await says(daemon, "--repair") == (1, repaired)
    assert await says(daemon) == (1, dict.fromkeys(DECLINED))
