"""What one server decides or notices is so on the other: users let in and out, writes noticed, a
private key given out once. On real daemons; what touches storage, on both backends."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from click.testing import CliRunner

from daemon import cli
from tests.acceptance.api import Api, Json, refuses
from tests.acceptance.cluster import Cluster, Daemon, MakeCluster

LOOK_SECONDS = 0.2  # instead of the 60 between two looks
HANG_SECONDS = 90
ON_DIR = pytest.mark.parametrize("backend", ["dir"], indirect=True, scope="module")


@pytest.fixture(scope="module")
def cluster(make_cluster: MakeCluster) -> Cluster:
    """Two servers that look at what was written as often as they are asked."""
    return make_cluster(2, settings={"timing": {"sweep_seconds": LOOK_SECONDS}})


@pytest.fixture
async def other(cluster: Cluster) -> AsyncIterator[Api]:
    """The other server's API."""
    async with cluster.api(1) as api:
        yield api


@pytest.fixture
async def source(cluster: Cluster, api: Api, request: pytest.FixtureRequest) -> str:
    """A container on server a."""
    tree = Path(cluster.tree(request.node.originalname))
    (tree / "root").mkdir(parents=True)
    (tree / "file").write_text("first")
    return await api.create(str(tree))


@ON_DIR
async def test_a_daemon_logs_once_that_it_is_ready(cluster: Cluster) -> None:
    async with asyncio.timeout(HANG_SECONDS):
        for daemon in cluster.daemons:
            while (said := daemon.log_tail().count('"event": "ready"')) == 0:
                await asyncio.sleep(LOOK_SECONDS)
            assert said == 1


# --- users ---------------------------------------------------------------------------------------


async def answers(cluster: Cluster, token: str) -> set[tuple[int, str]]:
    """What a GET with the token is answered by all servers: status and code."""
    headers = {"Authorization": f"Bearer {token}"}
    found = set()
    async with aiohttp.ClientSession(headers=headers) as session:
        for daemon in cluster.daemons:
            async with session.get(f"{daemon.url}/api/v1/containers") as answer:
                found.add((answer.status, (await answer.json()).get("code", "")))
    return found


async def hoodyd(daemon: Daemon, *arguments: str) -> str:
    """What `hoodyd ARGUMENTS` prints. It runs in this process: in the seconds that one of its own
    takes, a server could forget what it must not remember either."""
    argv = [*arguments, "--config", str(daemon.config_path)]
    ran = await asyncio.to_thread(CliRunner().invoke, cli.hoodyd, argv, catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    return ran.output.strip()


@ON_DIR
async def test_bans_and_revocations_hold_on_every_server_at_once(cluster: Cluster) -> None:
    """The commands run on the first server's machine; no daemon is told."""
    user_id, (here, there) = secrets.token_hex(12), cluster.daemons
    token = await hoodyd(here, "token", "--user", user_id)
    assert await answers(cluster, token) == {(200, "")}
    await hoodyd(here, "user", "ban", user_id)
    assert await answers(cluster, token) == {(403, "ACCOUNT_BANNED")}
    await hoodyd(here, "user", "unban", user_id)
    assert await answers(cluster, token) == {(200, "")}
    await hoodyd(here, "user", "revoke", user_id)
    assert await answers(cluster, token) == {(401, "INVALID_TOKEN")}
    fresh = await hoodyd(there, "token", "--user", user_id)
    assert await answers(cluster, fresh) == {(200, "")}
    assert await answers(cluster, token) == {(401, "INVALID_TOKEN")}


# --- freshness -----------------------------------------------------------------------------------


async def shown(api: Api, container_id: str) -> Json:
    """The container after a look that began after this was called."""
    await asyncio.sleep(LOOK_SECONDS)
    return await api.container(container_id)


async def test_a_write_is_noticed_through_any_server(
    cluster: Cluster, api: Api, other: Api, source: str
) -> None:
    copied, _ = await api.copy(source, cluster.daemons[1].server_id)
    quiet = await shown(other, source)
    assert (await shown(other, source))["updated_at"] == quiet["updated_at"]
    assert (await shown(api, copied))["sync_state"] == "current"

    (Path(await api.rootfs(source)) / "file").write_text("second")
    await asyncio.sleep(LOOK_SECONDS)
    (listed,) = (await other.call("GET", f"/containers?source_container_id={source}"))["containers"]
    assert (listed["id"], listed["sync_state"]) == (copied, "behind")
    assert (await shown(other, copied))["sync_state"] == "behind"
    written = await shown(other, source)
    assert written["updated_at"] > quiet["updated_at"]
    assert written["updated_at"] > (await api.container(copied))["updated_at"]

    await other.sync(copied)
    synced = await shown(api, copied)
    assert synced["sync_state"] == "current"
    assert synced["updated_at"] == synced["last_synced_at"] >= written["updated_at"]
    (Path(await api.rootfs(copied)) / "file").write_text("local")
    assert (await shown(api, copied))["updated_at"] == synced["updated_at"]

    cluster.daemons[0].command("doctor")
    await api.delete(source)
    assert (await api.container(copied))["sync_state"] == "orphaned"


# --- the private key -----------------------------------------------------------------------------


@ON_DIR
async def test_a_private_key_is_given_out_once_and_told_to_nobody_else(
    cluster: Cluster, api: Api, other: Api, source: str
) -> None:
    copied, _ = await api.copy(source, cluster.daemons[1].server_id)
    assert (await api.container(copied))["ssh_public_key"].startswith("ssh-ed25519 ")
    path = f"/containers/{copied}/ssh-private-key"
    asked = [one.call("GET", path) for one in (api, other) * 3]
    replies = await asyncio.gather(*asked, return_exceptions=True)
    (given,) = [reply for reply in replies if isinstance(reply, dict)]
    assert Counter(getattr(reply, "status", 200) for reply in replies) == {200: 1, 410: 5}
    with refuses(410, "KEY_ALREADY_RETRIEVED"):
        await other.call("GET", path)

    secret_lines = str(given["ssh_private_key"]).splitlines()[1:-1]
    assert secret_lines
    kept = [*cluster.directory.glob("*.log"), *cluster.directory.glob("catalogue.db*")]
    assert len(kept) >= 3
    for file in kept:
        content = file.read_bytes()
        assert not any(line.encode() in content for line in secret_lines), file.name
