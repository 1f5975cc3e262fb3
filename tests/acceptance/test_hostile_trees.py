"""Identity on real daemons: a copy is itself after a copy, a sync and a restore; and a container
whose tree is full of traps leaves its servers alone.

The canary is a directory outside every container that stands for a server's own /etc.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from daemon import keys
from daemon.actions.identity import IDENTITY_PATHS
from tests import hostile
from tests.acceptance import trees
from tests.acceptance.api import Api, Json
from tests.acceptance.cluster import Cluster

HOST_KEYS = [f"etc/ssh/ssh_host_{kind}_key" for kind in ("ed25519", "ecdsa")]
CARRIED = ("name", "color", "comment", "environment_vars", "ssh_public_key", "autostart")
RULES: dict[str, Json] = {
    "firewall-rules": {
        "direction": "in",
        "action": "deny",
        "protocol": "tcp",
        "ports": "25",
        "cidr": None,
        "comment": None,
    },
    "network-rules": {
        "type": "forward",
        "protocol": "tcp",
        "host_port": 20022,
        "container_port": 22,
    },
}


def _directories(tree: Path, plant: hostile.Plant, *names: str) -> None:
    for name in names:
        plant(hostile.emptied(tree / name), tree.parent)


def _etc_and_root(plant: hostile.Plant) -> Callable[[Path], None]:
    return lambda tree: _directories(tree, plant, "etc", "root")


def _ssh_directories(plant: hostile.Plant) -> Callable[[Path], None]:
    return lambda tree: _directories(tree, plant, "etc/ssh", "root/.ssh")


def _files(tree: Path) -> None:
    plants = (hostile.same_name, hostile.fifo, hostile.same_name, hostile.hard_link, hostile.upward)
    for name, plant in zip(hostile.FILES, plants, strict=True):
        plant(hostile.emptied(tree / name), tree.parent)


TRAPS = {
    "etc-and-root-absolute": _etc_and_root(hostile.absolute),
    "etc-and-root-upward": _etc_and_root(hostile.upward),
    "etc-and-root-fifo": _etc_and_root(hostile.fifo),
    "ssh-absolute": _ssh_directories(hostile.absolute),
    "ssh-upward": _ssh_directories(hostile.upward),
    "ssh-fifo": _ssh_directories(hostile.fifo),
    "files": _files,
}


@pytest.mark.parametrize("trap", TRAPS)
async def test_traps_are_left_alone(cluster: Cluster, api: Api, trap: str) -> None:
    server = Path(cluster.tree(f"server-{trap}"))
    hostile.make_server(server)
    tree = server / "tree"
    TRAPS[trap](tree)
    before = hostile.canary(server)
    source = await api.create(str(tree))
    near, _ = await api.copy(source)
    far, _ = await api.copy(source, cluster.daemons[1].server_id)
    name = str((await api.snapshot(far))["name"])

    Path(await api.rootfs(source), "usr/more").write_text("a day later")
    for copy in (near, far):
        await api.sync(copy)
        await _is_the_source_but_for_itself(cluster, api, source, copy)
        assert (await api.container(copy))["status"] == "running"
    await api.restore(far, name)

    assert not Path(await api.rootfs(far), "usr/more").exists()
    assert hostile.canary(server) == before
    for copy in (near, far):
        assert hostile.SECRET not in _contents(Path(await api.rootfs(copy)))


async def _is_the_source_but_for_itself(cluster: Cluster, api: Api, source: str, copy: str) -> None:
    """Each name is as on the source, but for those of the identity, which are the copy's own."""
    here, there = await api.rootfs(source), Path(await api.rootfs(copy))
    granularity_ns = 1_000_000_000 if cluster.zfs else 1
    walks = [_alone(trees.walk(str(tree), granularity_ns)) for tree in (here, there)]
    assert not trees.differences(*walks)
    if (there / "etc").is_dir() and not (there / "etc").is_symlink():
        hostname = (await api.container(copy))["name"]
        assert (there / "etc/hostname").read_text() == f"{hostname}\n"
        assert (there / "etc/machine-id").read_bytes() == b""


def _alone(walk: dict[bytes, trees.Entry]) -> dict[bytes, trees.Entry]:
    """A hard link to an identity's file is cut, and so no hard link any more."""
    return {name: replace(entry, linked=()) for name, entry in walk.items()}


def _contents(tree: Path) -> set[bytes]:
    return {
        path.read_bytes() for path in tree.rglob("*") if path.is_file() and not path.is_symlink()
    }


async def test_a_copy_stays_itself(cluster: Cluster, api: Api) -> None:
    tree = Path(cluster.tree("itself"))
    trees.make(str(tree), files=20)
    (tree / "root/.ssh").mkdir(0o700)
    for path in HOST_KEYS:
        kind = path.split("_")[2]
        (tree / path).write_text(keys.generate("source", kind).private_text)
    source = await api.create(str(tree), ssh_public_key=keys.generate("source").public_text)
    before = trees.walk(await api.rootfs(source))
    copy, _ = await api.copy(source, cluster.daemons[1].server_id)
    snapshot = str((await api.snapshot(copy))["name"])
    source_keys = _host_keys(await api.rootfs(source))
    own_keys = _host_keys(await api.rootfs(copy))
    assert own_keys.keys() == source_keys.keys() == set(HOST_KEYS)
    assert not set(own_keys.values()) & set(source_keys.values())

    wanted = await _changed(api, copy)
    trees.change(await api.rootfs(source))
    await api.sync(copy)
    await _is_itself(cluster, api, copy, wanted, own_keys)
    trees.assert_equal(await api.rootfs(source), await api.rootfs(copy), zfs=cluster.zfs)
    assert _host_keys(await api.rootfs(source)) == source_keys

    await api.restore(copy, snapshot)
    await _is_itself(cluster, api, copy, wanted, own_keys)
    assert not trees.differences(before, trees.walk(await api.rootfs(copy)))


async def _changed(api: Api, copy: str) -> Json:
    """Gives the copy a name, a colour, an environment, rules and a key; what it then is."""
    await api.call(
        "PATCH",
        f"/containers/{copy}",
        name=f"own-{copy[:8]}",
        color="#123456",
        comment="its own",
        environment_vars={"WHO": "the copy"},
        ssh_public_key=keys.generate("own").public_text,
        autostart=False,
    )
    for kind, rule in RULES.items():
        await api.call("PUT", f"/containers/{copy}/{kind}", rules=[rule])
    return await _carried(api, copy)


async def _carried(api: Api, copy: str) -> Json:
    container = await api.container(copy)
    rules = {kind: await api.call("GET", f"/containers/{copy}/{kind}") for kind in RULES}
    return {field: container[field] for field in CARRIED} | rules


async def _is_itself(
    cluster: Cluster, api: Api, copy: str, wanted: Json, own_keys: dict[str, bytes]
) -> None:
    assert await _carried(api, copy) == wanted
    rootfs = Path(await api.rootfs(copy))
    assert (rootfs / "etc/hostname").read_text() == f"{wanted['name']}\n"
    assert (rootfs / "etc/machine-id").read_bytes() == b""
    assert (rootfs / "root/.ssh/authorized_keys").read_text() == f"{wanted['ssh_public_key']}\n"
    assert _host_keys(str(rootfs)) == own_keys


def _host_keys(rootfs: str) -> dict[str, bytes]:
    return {
        path: Path(rootfs, path).read_bytes()
        for path in sorted(IDENTITY_PATHS)
        if path.endswith("_key") and os.path.exists(os.path.join(rootfs, path))
    }
