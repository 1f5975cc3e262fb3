"""No secret is in any log: the daemons' and their children's, on good and on bad ways."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from daemon import auth
from daemon.config import load
from daemon.model import now
from tests.acceptance import trees
from tests.acceptance.api import Api
from tests.acceptance.cluster import CHILDREN, Cluster, Daemon, PlainCluster
from tests.postgres import Postgres

pytestmark = pytest.mark.postgres

HANG_SECONDS = 120
POLL_SECONDS = 0.1
SECRET_CHARACTERS_MIN = 12
PASSWORD = secrets.token_hex(16)
SOON = {"timing": {"sweep_seconds": 1}}
GONE = {
    *("the catalogue is gone for now", "no heartbeat", "look failed", "collect failed"),
    *("sweep failed", "snapshots expire later"),
}
"""What a daemon and its keeper cannot do without a catalogue, as they say."""


@pytest.fixture(scope="module")
def cluster(postgres: Postgres) -> Iterator[Cluster]:
    """Two servers whose catalogue's address has a password in it."""
    postgres.create("planted")
    url = postgres.url("planted").replace("hoody@", f"hoody:{PASSWORD}@")
    with (
        tempfile.TemporaryDirectory(prefix="hoody-") as name,
        PlainCluster(Path(name), "dir", 2, database_url=url, settings=SOON) as cluster,
    ):
        yield cluster


def key_lines(text: str) -> list[str]:
    """What of a private key is secret: its lines but the first and last."""
    return [line for line in text.splitlines() if "KEY---" not in line and line]


def forms(secret: bytes) -> dict[str, str]:
    """What bytes may look like in a line."""
    text = secret.decode("latin-1")
    return {
        "text": text,
        "JSON": json.dumps(text)[1:-1],
        "repr": repr(secret)[2:-1],
        "repr in JSON": json.dumps(repr(secret)[2:-1])[1:-1],
        "hex": secret.hex(),
        "base64": base64.b64encode(secret).decode().rstrip("="),
        "base64 of addresses": base64.urlsafe_b64encode(secret).decode().rstrip("="),
    }


def planted(cluster: Cluster, token: str) -> dict[str, str]:
    """The secrets of the servers themselves, by what they are."""
    found = {"the database's password": PASSWORD, "the admin's token": token}
    config = load(str(cluster.daemons[0].config_path), {})
    secret = Path(config.auth.secret_file).read_bytes()
    sealing = Path(config.auth.sealing_key_file).read_bytes()
    for what, data in (("the token secret", secret.strip()), ("the sealing key", sealing)):
        found |= {f"{what}, {form}": text for form, text in forms(data).items()}
    for daemon in cluster.daemons:
        key = load(str(daemon.config_path), {}).peer_key_file
        lines = key_lines(Path(key).read_text())
        found |= {f"{daemon.name}'s peer key, {n}": line for n, line in enumerate(lines)}
    return found


def said(cluster: Cluster) -> str:
    return "".join(daemon.log_path.read_text(errors="replace") for daemon in cluster.daemons)


def leaks(text: str, found: dict[str, str]) -> list[str]:
    assert all(len(secret) >= SECRET_CHARACTERS_MIN for secret in found.values())
    return [what for what, secret in found.items() if secret in text]


async def ask(daemon: Daemon, token: str, method: str = "GET", **body: object) -> int:
    headers = {"Authorization": f"Bearer {token}"}
    url = f"{daemon.url}/api/v1/containers"
    async with aiohttp.request(method, url, headers=headers, json=body or None) as answer:
        return answer.status


async def bad_requests(cluster: Cluster, token: str) -> dict[str, str]:
    """Tokens that are no good, and secrets in bodies that are not taken; those secrets."""
    daemon = cluster.daemons[0]
    config = load(str(daemon.config_path), {})
    head, claims, _ = token.split(".")
    old = auth.issue(auth.load_keys(config), "0" * 24, [auth.Scope.READ], ttl_seconds=1, at=now())
    bad = {
        "a forged token": f"{head}.{claims}.{secrets.token_urlsafe(32)}",
        "a stranger's token": old,
        "no token at all": secrets.token_hex(20),
    }
    for one in bad.values():
        assert await ask(daemon, one) == 401
    typo = secrets.token_hex(20)
    assert await ask(daemon, token, "POST", pasword=typo, project_id=typo) == 400
    return bad | {"what was mistyped": typo}


async def work(cluster: Cluster, api: Api) -> dict[str, str]:
    """A life of a container with secrets of its own; those."""
    tree = cluster.tree("tree")
    trees.make(tree, files=5)
    (Path(tree) / "root" / ".ssh").mkdir(parents=True, exist_ok=True)
    variable = secrets.token_hex(20)
    content = secrets.token_hex(20)
    (Path(tree) / "secret").write_text(content)
    source = await api.create(tree, environment_vars={"API_KEY": variable})
    copy, _ = await api.copy(source, cluster.daemons[1].server_id)
    await api.sync(copy)
    data = await api.call("GET", f"/containers/{copy}/ssh-private-key")
    await api.snapshot(copy)
    await fail(cluster, api)
    for daemon in cluster.daemons:
        for verb in CHILDREN:
            for process in daemon.children(verb):
                process.kill()
        while not daemon.is_ready():
            await asyncio.sleep(POLL_SECONDS)
    await api.sync(copy)
    lines = key_lines(data["ssh_private_key"] if "ssh_private_key" in data else str(data))
    found = {f"a container's key, {number}": line for number, line in enumerate(lines)}
    return found | {"a variable": variable, "a file": content}


async def fail(cluster: Cluster, api: Api) -> None:
    """A job that fails: only its own server knows that the directory is not there."""
    fields = {"server_id": cluster.daemons[1].server_id, "project_id": api.project_id}
    data = await api.call("POST", "/containers", source_path=cluster.tree("none"), **fields)
    (job,) = await api.jobs(data["id"], "create")
    assert (await api.wait(job["id"]))["state"] == "failed"


def errors(text: str) -> set[str]:
    """What whole lines of a log say at that level."""
    lines = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    return {line["event"] for line in lines if line["level"] == "error"}


async def without_a_catalogue(cluster: Cluster, postgres: Postgres) -> None:
    """The database goes while the daemons run, and comes back; all who miss it say so, as an
    error."""
    before = {daemon: len(daemon.log_path.read_text()) for daemon in cluster.daemons}
    postgres.stop(immediately=True)
    try:
        async with asyncio.timeout(HANG_SECONDS):
            for daemon in cluster.daemons:
                while not errors(daemon.log_path.read_text()[before[daemon] :]) >= GONE:
                    with contextlib.suppress(aiohttp.ClientError):
                        await ask(daemon, "none")
                    await asyncio.sleep(POLL_SECONDS)
    finally:
        postgres.start()
    async with asyncio.timeout(HANG_SECONDS):
        for daemon in cluster.daemons:
            while not daemon.is_ready():
                await asyncio.sleep(POLL_SECONDS)


def refused_starts(cluster: Cluster, directory: Path) -> str:
    """What commands say that cannot reach the database, or are given a bad address of it."""
    text = cluster.daemons[0].config_path.read_text()
    heard = ""
    good = load(str(cluster.daemons[0].config_path), {}).database.url
    urls = (
        f"postgresql://hoody:{PASSWORD}@127.0.0.1:1/none",
        f"postgresql://hoody:{PASSWORD}@/none?host={directory}",
        f"postgresql://hoody:{PASSWORD}@/none?host={directory}&sslmode=odd",
        f"postgresql://hoody:{PASSWORD}@db.example/none",
        f"mysql://hoody:{PASSWORD}@127.0.0.1/none",
    )
    for url in urls:
        config = directory / "bad.toml"
        config.write_text(text.replace(good, url))
        for verb in ("check-config", "run", "migrate", "doctor"):
            done = subprocess.run(
                [sys.executable, "-m", "daemon", verb, "--config", str(config)],
                capture_output=True,
                text=True,
                timeout=HANG_SECONDS,
                check=False,
            )
            assert done.returncode or verb == "check-config", (url, verb)
            heard += done.stdout + done.stderr
    return heard


async def test_no_log_has_a_secret_in_it(
    cluster: Cluster, api: Api, postgres: Postgres, tmp_path: Path
) -> None:
    token = cluster.daemons[0].admin_token()
    found = planted(cluster, token)
    found |= await bad_requests(cluster, token)
    found |= await work(cluster, api)
    await without_a_catalogue(cluster, postgres)
    assert leaks(refused_starts(cluster, tmp_path), found) == []
    text = said(cluster)
    assert leaks(text, found) == []
    assert leaks(text, {"what is no secret": cluster.daemons[0].server_id}) != []
    check_lines(cluster)


def check_lines(cluster: Cluster) -> None:
    """Every line is JSON, and has the ids of what it is about."""
    asked: set[str] = set()
    begun: set[str] = set()
    told: set[tuple[str, str]] = set()
    for daemon in cluster.daemons:
        lines = [json.loads(line) for line in daemon.log_path.read_text().splitlines()]
        for line in lines:
            assert {"event", "level", "timestamp", "logger", "server_id"} <= line.keys(), line
            assert line["server_id"] == daemon.server_id
            if line["event"].startswith("job "):
                assert {"job_id", "container_id"} <= line.keys(), line
            if line["event"] == "answered":
                assert {"request_id", "method", "path", "status"} <= line.keys(), line
        events = {(line["event"], line["level"]) for line in lines}
        told |= events
        assert {("ready", "info"), ("child ended; starting it anew", "warning")} <= events
        asked |= {
            line["job_id"] for line in lines if line["event"] == "answered" and "job_id" in line
        }
        begun |= {line["job_id"] for line in lines if line["event"] == "job begins"}
    assert {("job succeeded", "info"), ("job ended", "warning")} <= told  # that which failed
    assert begun
    assert begun <= asked  # so each job is found by its request, on whichever server
