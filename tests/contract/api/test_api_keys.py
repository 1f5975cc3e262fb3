"""Keys of containers: one key for one container whoever writes it and however, and a private key
that is given out once."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from daemon.keys import KeyPair, generate, seal
from daemon.model import Container, Status
from daemon.store import containers
from tests.contract.api.api_world import SEALING_KEY, Api, Reply

PAIR = generate("laptop")
TAKEN = (409, "SSH_PUBLIC_KEY_IN_USE")
VERBS = ("create", "copy", "patch")


@pytest.fixture
async def mine(api: Api) -> Container:
    """A container without a key."""
    return await api.world.container("mine")


async def give(api: Api, verb: str, container: Container, key: object) -> Reply:
    """Gives a key by one of the three verbs that take one."""
    if verb == "patch":
        return await api.patch(f"/containers/{container.id}", {"ssh_public_key": key})
    if verb == "copy":
        body = {"target_project_id": api.world.home.id, "ssh_public_key": key}
        return await api.post(f"/containers/{container.id}/copy", body)
    body = {"project_id": api.world.home.id, "ssh_public_key": key}
    body["source_path"] = api.world.import_roots[0]
    return await api.post("/containers", body, token=api.world.admin)


def public(kind: str, **options: Any) -> str:
    return asyncssh.generate_private_key(kind, None, **options).export_public_key().decode().strip()


GOOD = {
    "ed25519": lambda: public("ssh-ed25519"),
    "p256": lambda: public("ecdsa-sha2-nistp256"),
    "p384": lambda: public("ecdsa-sha2-nistp384"),
    "p521": lambda: public("ecdsa-sha2-nistp521"),
    "rsa-3072": lambda: public("ssh-rsa", key_size=3072),
}
BAD = {
    "": "no ed25519, ecdsa or rsa public key",
    "hello": "no ed25519, ecdsa or rsa public key",
    public("ssh-rsa", key_size=2048): "3072 bits or more, this one has 2048",
    public("ssh-rsa", key_size=3064): "3072 bits or more, this one has 3064",
    public("ssh-dss"): "ssh-dss is no",
    PAIR.key_id[:-8]: "ssh-ed25519 key",
    PAIR.private_text: "one line",
    f"{PAIR.public_text}\n{PAIR.public_text}": "one line",
    f"{PAIR.public_text} \x07": "one line",
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("kind", GOOD)
async def test_good_kinds(kind: str, verb: str, api: Api, mine: Container) -> None:
    text = GOOD[kind]()
    reply = await give(api, verb, mine, f" {text}\r\n")
    assert reply.data["ssh_public_key"] == text


@pytest.mark.parametrize("verb", VERBS)
async def test_bad_keys_say_why(verb: str, api: Api, mine: Container) -> None:
    for text, reason in BAD.items():
        reply = await give(api, verb, mine, text)
        assert reply.refusal == (400, "VALIDATION_ERROR")
        assert list(reply.body["details"]) == ["ssh_public_key"]
        assert reason in reply.body["details"]["ssh_public_key"]
        assert PAIR.private_text.splitlines()[1] not in str(reply.body)
    others: list[object] = [7, True, ["a"], {}]
    for other in others:
        assert (await give(api, verb, mine, other)).refusal == (400, "VALIDATION_ERROR")
    assert await api.world.all_containers() == [mine]
    assert await api.world.all_jobs() == []


@pytest.mark.parametrize(
    "written",
    [
        PAIR.key_id,
        f"{PAIR.key_id} another comment",
        f'from="10.0.0.0/8",no-pty {PAIR.key_id} x',
        PAIR.key_id.replace(" ", "   \t"),
        f"{PAIR.key_id}\n",
        f"\t{PAIR.public_text}\r\n",
    ],
    ids=["bare", "comment", "options", "spaces", "line end", "around"],
)
@pytest.mark.parametrize("verb", VERBS)
async def test_one_key_however_it_is_written(
    verb: str, written: str, api: Api, mine: Container
) -> None:
    """Another user's container has it: that counts, and is not told."""
    theirs = await api.world.container(
        "theirs",
        project_id=api.world.bobs.id,
        owner_id=api.world.bob.id,
        ssh_public_key=PAIR.public_text,
        ssh_key_id=PAIR.key_id,
    )
    reply = await give(api, verb, mine, written)
    assert reply.refusal == TAKEN
    assert theirs.id not in str(reply.body)
    assert len(await api.world.all_containers()) == 2
    assert await api.world.all_jobs() == []
    assert await api.world.stored(mine.id) == mine


async def test_a_key_of_ones_own_may_be_written_anew(api: Api, mine: Container) -> None:
    for text in (PAIR.public_text, f"{PAIR.key_id} renamed", f"{PAIR.key_id} renamed"):
        reply = await give(api, "patch", mine, text)
        assert reply.data["ssh_public_key"] == text


async def test_a_key_that_was_given_up_is_free(api: Api, mine: Container) -> None:
    await give(api, "patch", mine, PAIR.public_text)
    assert (await give(api, "copy", mine, PAIR.public_text)).refusal == TAKEN
    await give(api, "patch", mine, generate("").public_text)
    assert (await give(api, "copy", mine, PAIR.public_text)).status == 201


async def test_one_key_for_all_three_verbs_at_once(api: Api, mine: Container) -> None:
    replies = await asyncio.gather(
        *(give(api, verb, mine, f"{PAIR.key_id} {verb}") for verb in VERBS * 3)
    )
    # The record that has it may be patched with it again.
    won = [reply for reply in replies if reply.status != 409]
    assert {reply.data["id"] for reply in won} == {won[0].data["id"]}
    assert {reply.refusal for reply in replies if reply.status == 409} == {TAKEN}


# --- the private key -----------------------------------------------------------------------------


async def generated(api: Api, pair: KeyPair, **columns: Any) -> Container:
    """A container with a key that was made for it."""
    return await api.world.container(
        "generated",
        ssh_public_key=pair.public_text,
        ssh_key_id=pair.key_id,
        ssh_private_sealed=seal(SEALING_KEY, pair.private_text),
        **columns,
    )


async def test_of_many_fetches_at_once_one_gets_it(api: Api) -> None:
    pair = generate("made")
    container = await generated(api, pair)
    path = f"/containers/{container.id}/ssh-private-key"
    replies = await asyncio.gather(*(api.get(path) for _ in range(8)))
    assert Counter(reply.status for reply in replies) == {200: 1, 410: 7}
    (won,) = [reply for reply in replies if reply.status == 200]
    assert won.data == {"container_id": container.id, "ssh_private_key": pair.private_text}
    assert won.headers["Cache-Control"] == "no-store"


async def test_it_is_nowhere_in_the_catalogues_files(api: Api, tmp_path: Path) -> None:
    pair = generate("made")
    container = await generated(api, pair)
    sealed = container.ssh_private_sealed
    assert sealed is not None
    secret_lines = [line.encode() for line in pair.private_text.splitlines()[1:-1]]

    def stored() -> bytes:
        return b"".join(path.read_bytes() for path in tmp_path.glob("catalogue.db*"))

    assert sealed in stored()
    for _ in range(2):
        assert not any(line in stored() for line in secret_lines)
        await api.get(f"/containers/{container.id}/ssh-private-key")


async def test_it_is_for_its_owner_with_the_scope(api: Api) -> None:
    pair = generate("made")
    container = await generated(api, pair, status=Status.STOPPED)
    path = f"/containers/{container.id}/ssh-private-key"
    read_only = api.world.token(scopes=["read", "containers", "snapshots"])
    assert (await api.get(path, token=read_only)).refusal[0] == 403
    bobs = api.world.token(api.world.bob)
    assert (await api.get(path, token=bobs)).refusal == (404, "CONTAINER_NOT_FOUND")
    for shown in (f"/containers/{container.id}", "/containers", "/jobs"):
        assert pair.private_text.splitlines()[1] not in str((await api.get(shown)).body)
    assert (await api.get(path)).status == 200


async def test_a_key_of_the_users_own_ends_it(api: Api) -> None:
    container = await generated(api, generate("made"))
    await give(api, "patch", container, PAIR.public_text)
    reply = await api.get(f"/containers/{container.id}/ssh-private-key")
    assert reply.refusal == (404, "RESOURCE_NOT_FOUND")
    stored = await api.world.stored(container.id)
    assert stored is not None
    assert stored.ssh_private_sealed is None


async def test_a_damaged_one_is_not_lost(api: Api) -> None:
    """Sealed with another key: nobody gets it, and nothing is erased."""
    container = await generated(api, generate("made"))
    async with api.world.db.write() as tx:
        await containers.change(tx, container.id, ssh_private_sealed=seal(b"o" * 32, "x"))
    reply = await api.get(f"/containers/{container.id}/ssh-private-key")
    assert reply.refusal == (500, "INTERNAL_ERROR")
    stored = await api.world.stored(container.id)
    assert stored is not None
    assert not stored.ssh_private_fetched
