"""`hoodyd` as processes: init, twice and in hostile places, tokens, accounts, one-line errors."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import jwt
import pytest

from daemon.config import load
from daemon.keyfiles import read_token_secret
from daemon.model import new_id, now
from daemon.store import accounts, servers
from daemon.store.database import Database
from tests.integration.command_line import ROOT, Ran, environment, run
from tests.ports import free_port

USER_SCOPES = {"read", "containers", "snapshots", "projects", "proxy", "keys"}


@dataclass
class Place:
    """A directory with a config in it, or to be."""

    home: Path

    @property
    def config(self) -> Path:
        return self.home / "hoodyd.toml"

    async def hoodyd(self, *arguments: str, **variables: str) -> Ran:
        env = environment(self.home, **variables)
        return await run("hoodyd", *arguments, "--config", str(self.config), env=env)

    def files(self) -> dict[str, bytes]:
        """The content of every file that is a key, an id or a config."""
        found = [*self.home.glob("*"), *(self.home / "state").glob("*")]
        return {path.name: path.read_bytes() for path in found if path.is_file()}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
async def ready(place: Place) -> Place:
    (await place.hoodyd("init")).good()
    return place


def words(ran: Ran, first: str) -> list[str]:
    """The words of the line that begins with this one."""
    return next(line.split() for line in ran.out.splitlines() if line.startswith(first))


def refused(ran: Ran, *parts: str, code: int = 2) -> None:
    """Exit 2, or another code, with one line that holds these parts; nothing else but what init
    had made."""
    assert ran.code == code, ran
    assert all(line.startswith("made      ") for line in ran.out.splitlines()), ran
    assert len(ran.err.splitlines()) == 1, ran.err
    for part in parts:
        assert part in ran.err


async def test_init_makes_everything_and_says_what_to_do_next(place: Place) -> None:
    ran = (await place.hoodyd("init")).good()
    config = load(str(place.config), {})
    assert words(ran, "server")[1] == config.server.id
    assert words(ran, "project")[2] == "default"
    assert f"hoodyd run --config {place.config}" in ran.out
    assert f"--admin | hoody login --url http://{config.listen}" in ran.out
    modes = {
        path: stat.S_IMODE(os.stat(path).st_mode)
        for path in (
            config.auth.secret_file,
            config.auth.sealing_key_file,
            config.peer_key_file,
            config.server.state_dir,
        )
    }
    assert list(modes.values()) == [0o600, 0o600, 0o600, 0o700]


async def test_init_twice_changes_nothing(ready: Place) -> None:
    first = (await ready.hoodyd("init")).good()
    before = ready.files()
    second = (await ready.hoodyd("init")).good()
    after = ready.files()
    for name in ("hoodyd.toml", "jwt.secret", "sealing.key", "peer_key", "server_id"):
        assert before[name] == after[name]
    assert first.out == second.out
    assert "made" not in second.out


async def test_init_twice_at_once_makes_one_of_each(place: Place) -> None:
    runs = await asyncio.gather(*(place.hoodyd("init") for _ in range(2)))
    good = [ran for ran in runs if ran.code == 0]
    assert good, runs
    (await place.hoodyd("init")).good()
    for noun in ("user", "server"):
        header, _one = (await place.hoodyd(noun, "list")).good().out.splitlines()
        assert header.startswith("ID ")


async def test_init_makes_again_what_was_lost_and_nothing_else(ready: Place) -> None:
    before = ready.files()
    (ready.home / "state/peer_key").unlink()
    ran = (await ready.hoodyd("init")).good()
    assert words(ran, "made")[1] == str(ready.home / "state/peer_key")
    after = ready.files()
    assert after["peer_key"] != before["peer_key"]
    assert after["server_id"] == before["server_id"]


async def test_init_where_nothing_can_be_written(place: Place) -> None:
    (place.home / "file").write_text("")
    ran = await run(
        *("hoodyd", "init", "--config", str(place.home / "file/hoodyd.toml")),
        env=environment(place.home),
    )
    refused(ran, str(place.home / "file"), "cannot be")


async def test_init_on_zfs_without_the_root_dataset(place: Place) -> None:
    ran = await place.hoodyd(
        "init", HOODY_STORAGE__BACKEND="zfs", HOODY_STORAGE__ROOT="no_such_pool/hoody"
    )
    config = place.config.read_text()
    made = [line.removeprefix("made      ") for line in ran.out.splitlines()]
    assert made == [str(place.config), *(str(place.home / name) for name in ("state", "mounts"))]
    # No key is made for a server that cannot be.
    assert place.files() == {"hoodyd.toml": config.encode()}
    refused(ran, "storage.root: ", "zfs create", "set storage.backend to dir")


@pytest.mark.parametrize("verb", ["run", "migrate", "check-config", "token", "doctor"])
async def test_before_init_every_verb_says_so(place: Place, verb: str) -> None:
    refused(await place.hoodyd(verb), f"run: hoodyd init --config {place.config}")


async def test_run_after_the_keys_were_lost(ready: Place) -> None:
    (ready.home / "jwt.secret").unlink()
    refused(await ready.hoodyd("run"), "auth.secret_file: ", "run: hoodyd init --config")


@pytest.mark.parametrize("key", ["server.listen", "peer.listen", "server.metrics_listen"])
async def test_a_taken_port_is_named_by_its_key(ready: Place, key: str) -> None:
    addresses = {one: f"127.0.0.1:{free_port()}" for one in ("server.listen", "peer.listen")}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        addresses[key] = f"127.0.0.1:{taken.getsockname()[1]}"
        variables = {
            f"HOODY_{one.upper().replace('.', '__')}": address for one, address in addresses.items()
        }
        ran = await ready.hoodyd("run", **variables)
    refused(ran, f"{key}: cannot listen on {addresses[key]}")


async def test_run_without_its_database_may_be_tried_again(ready: Place) -> None:
    """As a service manager does; it is no use where the schema is another version's."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"postgresql://hoody@127.0.0.1:{nobody.getsockname()[1]}/hoody"
        ran = await ready.hoodyd("run", HOODY_DATABASE__URL=url)
    refused(ran, "database.url: no connection to PostgreSQL", code=75)
    ran = await ready.hoodyd("run", HOODY_DATABASE__URL=f"sqlite:///{ready.home}/empty.db")
    refused(ran, "run: hoodyd migrate")


async def test_check_config_names_the_key(ready: Place) -> None:
    assert (await ready.hoodyd("check-config")).good().out == f"{ready.config}: good\n"
    ran = await ready.hoodyd("check-config", HOODY_TRANSFER__MAX_CONCURRENT="0")
    check = f"run: hoodyd check-config --config {ready.config}"
    refused(ran, "transfer.max_concurrent: must be at least 1", "mend HOODY_TRANSFER__MAX", check)
    settings = ready.config.read_text()
    ready.config.write_text(settings.replace("[log]", "[log]\nspeed = 1"))
    refused(await ready.hoodyd("check-config"), "log.speed: ", f"edit {ready.config}", check)
    ready.config.write_text(settings)
    os.chmod(ready.home / "sealing.key", 0o644)
    refused(await ready.hoodyd("check-config"), "auth.sealing_key_file: ", "chmod 600")


async def test_a_token_is_a_token_and_nothing_else(ready: Place) -> None:
    ran = (await ready.hoodyd("token")).good()
    assert (ran.err, ran.out.count("\n"), ran.out.strip().count(".")) == ("", 1, 2)
    secret = read_token_secret(load(str(ready.config), {}))
    claims = jwt.decode(ran.out.strip(), secret, algorithms=["HS256"])
    assert set(claims) == {"sub", "iat", "exp", "jti", "scope"}
    assert set(claims["scope"].split()) == USER_SCOPES
    assert 86_300 < claims["exp"] - now().timestamp() <= 86_400
    assert claims["sub"] in (await ready.hoodyd("user", "list")).good().out


async def test_a_tokens_user_scopes_and_lifetime(ready: Place) -> None:
    secret = read_token_secret(load(str(ready.config), {}))
    user = new_id()
    arguments = ("--user", user, "--scope", "read", "--admin", "--ttl", "60")
    ran = (await ready.hoodyd("token", *arguments)).good()
    claims = jwt.decode(ran.out.strip(), secret, algorithms=["HS256"])
    assert (claims["sub"], set(claims["scope"].split())) == (user, {"read", "admin"})
    assert claims["exp"] - now().timestamp() <= 60
    assert user in (await ready.hoodyd("user", "list")).good().out


@pytest.mark.parametrize(
    "arguments",
    [
        ("--user", "me"),
        ("--user", "507F1F77BCF86CD799439044"),
        ("--ttl", "0"),
        ("--ttl", "2678401"),
        ("--scope", "everything"),
    ],
)
async def test_a_token_that_may_not_be(ready: Place, arguments: tuple[str, str]) -> None:
    ran = await ready.hoodyd("token", *arguments)
    assert (ran.code, ran.out) == (2, "")


async def test_users_are_banned_let_in_and_revoked(ready: Place) -> None:
    user = (await ready.hoodyd("user", "list")).good().out.splitlines()[1].split()[0]
    for _ in range(2):
        (await ready.hoodyd("user", "ban", user)).good()
        assert "banned" in (await ready.hoodyd("user", "list")).out
    (await ready.hoodyd("user", "unban", user)).good()
    assert "active" in (await ready.hoodyd("user", "list")).out
    (await ready.hoodyd("user", "revoke", user)).good()
    database = Database(load(str(ready.config), {}).database.url)
    async with database.read() as tx:
        known = await accounts.get_user(tx, user)
    await database.close()
    assert known is not None
    assert known.revoked_at is not None
    for verb in ("ban", "unban", "revoke"):
        refused(await ready.hoodyd("user", verb, new_id()), "run: hoodyd user list --config")


async def test_a_second_server_needs_the_same_secrets_and_another_name(ready: Place) -> None:
    other = {"HOODY_SERVER__STATE_DIR": str(ready.home / "b"), "HOODY_SERVER__NAME": "b"}
    first = load(str(ready.config), {})
    refused(
        await ready.hoodyd("init", **{**other, "HOODY_SERVER__NAME": first.server.name}),
        f"server.name: {first.server.name} is the name of server {first.server.id} already",
    )
    for key, file in (("SECRET_FILE", "jwt2.secret"), ("SEALING_KEY_FILE", "sealing2.key")):
        strange = {f"HOODY_AUTH__{key}": str(ready.home / file)}
        ran = await ready.hoodyd("init", **other, **strange)
        refused(ran, f"auth.{key.lower()}: copy ", f"from server {first.server.name}")
    both = {"SECRET_FILE": "jwt3.secret", "SEALING_KEY_FILE": "sealing3.key"}
    strange = {f"HOODY_AUTH__{key}": str(ready.home / file) for key, file in both.items()}
    refused(await ready.hoodyd("init", **other, **strange), *strange.values())
    (await ready.hoodyd("init", **other)).good()
    assert len((await ready.hoodyd("server", "list")).good().out.splitlines()) == 3


async def test_readmes_second_server_on_one_machine(ready: Place) -> None:
    readme = (ROOT / "README.md").read_text()
    section = readme.partition("\n## Two servers on one machine\n")[2].partition("\n## ")[0]
    script = section.partition("```sh\n")[2].partition("hoodyd init")[0]
    await asyncio.to_thread(subprocess.run, ["sh", "-ec", script], cwd=ready.home, check=True)
    first, second = load(str(ready.config), {}), load(str(ready.home / "second/hoodyd.toml"), {})
    assert (second.database, second.auth) == (first.database, first.auth)
    apart = {"name", "listen", "state_dir"}
    assert all(getattr(second.server, key) != getattr(first.server, key) for key in apart)
    assert second.peer.listen != first.peer.listen
    assert second.storage.root != first.storage.root
    assert second.storage.mount_root != first.storage.mount_root
    env = environment(ready.home)
    (
        await run("hoodyd", "init", "--config", str(ready.home / "second/hoodyd.toml"), env=env)
    ).good()


async def test_a_server_is_removed_only_when_it_is_lost(ready: Place) -> None:
    config = load(str(ready.config), {})
    server_id = config.server.id
    database = Database(config.database.url)
    async with database.write() as tx:
        mine = await servers.get(tx, server_id)
        assert mine is not None
        await servers.put(tx, replace(mine, id=new_id(), name="other"))
        lost = next((one for one in await servers.every(tx) if one.name == "other"), mine)
    await database.close()
    (await ready.hoodyd("server", "remove", "other")).good()
    listed = (await ready.hoodyd("server", "list")).good().out
    assert (server_id in listed, lost.id in listed) == (True, False)
    for name in ("other", lost.id):
        refused(await ready.hoodyd("server", "remove", name), "run: hoodyd server list --config")
