"""Containers: create, list, patch, delete, power; and what hangs on one."""

from __future__ import annotations

import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from daemon.keys import generate, seal
from daemon.model import DatasetRow, JobType, Role, Status, new_id, now
from daemon.store import containers, datasets
from tests.contract.api.api_world import SEALING_KEY, Api


def imports(api: Api) -> Path:
    return Path(api.world.import_roots[0])


async def creating(api: Api, token: str | None = None, **body: Any) -> Any:
    tree = imports(api) / "tree"
    tree.mkdir(exist_ok=True)
    fields = {"project_id": api.world.home.id, "source_path": str(tree)} | body
    return await api.post("/containers", fields, token=token or api.world.admin)


async def test_create(api: Api) -> None:
    pair = generate("me")
    given = {
        "name": "web",
        "command": ["serve", "--port", "80"],
        "environment_vars": {"A": "1"},
        "ssh_public_key": pair.public_text,
        "autostart": False,
        "color": "#3B82F6",
        "comment": "mine",
        "resources": {"cpu_cores": 2, "memory_bytes": 1 << 30},
        "hoody_kit": True,
    }
    reply = await creating(api, **given)
    assert reply.status == 201
    data, job = reply.data, await api.world.the_job()
    assert {key: data[key] for key in given} == given
    assert data["status"] == "creating"
    assert data["sync_state"] is None
    assert data["current_job_id"] == job.id
    assert reply.headers["Location"] == f"/api/v1/jobs/{job.id}"
    assert (job.type, job.params) == (
        JobType.CREATE,
        {"source_path": str(imports(api) / "tree")},
    )
    stored = await api.world.stored(data["id"])
    assert stored is not None
    # The container is its project's owner's, and so is the job, whoever asked.
    assert stored.owner_id == job.user_id == api.world.alice.id
    assert stored.server_id == api.world.here.id
    assert stored.command == ("serve", "--port", "80")
    assert (await api.get(f"/containers/{stored.id}")).data["id"] == stored.id


async def test_create_with_a_made_up_name(api: Api) -> None:
    name = (await creating(api)).data["name"]
    assert re.fullmatch("container-[0-9a-f]{6}", name)


async def test_create_needs_one_origin(api: Api) -> None:
    body: dict[str, object] = {"project_id": api.world.home.id}
    assert (await api.post("/containers", body)).refusal == (400, "VALIDATION_ERROR")
    body |= {"image": "ubuntu:22.04"}
    assert (await api.post("/containers", body)).refusal == (404, "RESOURCE_NOT_FOUND")
    body |= {"source_path": "/tmp"}
    assert (await api.post("/containers", body)).refusal == (400, "VALIDATION_ERROR")


async def test_create_refusals(api: Api) -> None:
    await api.world.container("taken")
    pair = generate("")
    await api.world.container("keyed", ssh_public_key="x", ssh_key_id=pair.key_id)
    cases: list[tuple[dict[str, Any], int, str]] = [
        ({"project_id": new_id()}, 404, "RESOURCE_NOT_FOUND"),
        ({"server_id": new_id()}, 404, "RESOURCE_NOT_FOUND"),
        ({"name": "taken"}, 409, "CONTAINER_NAME_IN_USE"),
        ({"ssh_public_key": pair.public_text}, 409, "SSH_PUBLIC_KEY_IN_USE"),
        ({"command": []}, 400, "VALIDATION_ERROR"),
        ({"resources": {"cpu_cores": True}}, 400, "VALIDATION_ERROR"),
        ({"resources": {"memory_bytes": 1.5}}, 400, "VALIDATION_ERROR"),
        ({"resources": {"gpus": 1}}, 400, "VALIDATION_ERROR"),
    ]
    for body, status, code in cases:
        assert (await creating(api, **body)).refusal == (status, code), body
    assert len(await api.world.all_containers()) == 2


async def test_source_path_is_for_admins(api: Api) -> None:
    reply = await creating(api, token=api.world.token())
    assert reply.refusal == (403, "INSUFFICIENT_PERMISSIONS")


async def test_source_path_is_looked_at(api: Api, tmp_path: Path) -> None:
    roots = imports(api)
    (roots / "file").touch()
    (tmp_path / "outside").mkdir()
    (roots / "link").symlink_to(tmp_path / "outside")
    os.mkfifo(roots / "fifo")
    bad = [
        "tree",
        "",
        str(roots / "absent"),
        str(roots / "file"),
        str(roots / "fifo"),
        str(roots / "link"),
        str(roots / ".." / "outside"),
        f"{roots}-beside",
        "/",
        "/etc",
        f"{roots}/a\0b",
    ]
    for path in bad:
        reply = await creating(api, source_path=path)
        assert reply.refusal == (400, "VALIDATION_ERROR"), path
        assert list(reply.body["details"]) == ["source_path"]
    assert await api.world.all_containers() == []


async def test_source_path_of_another_server_is_its_jobs_matter(api: Api) -> None:
    there = api.world.there.id
    assert (await creating(api, source_path="/no/such", server_id=there)).status == 201
    assert (await creating(api, source_path="no/such", server_id=there)).refusal[0] == 400


async def test_list(api: Api) -> None:
    world, at = api.world, now()
    made = [
        await world.container(f"web-{n}", created_at=at + timedelta(seconds=n)) for n in range(5)
    ]
    copied = await world.copy_of(made[0], project_id=world.work.id, server_id=world.there.id)
    await world.container("bobs", owner_id=world.bob.id, project_id=world.bobs.id)

    async def ids(**params: Any) -> list[str]:
        data = (await api.get("/containers", params=params)).data["containers"]
        return [container["id"] for container in data]

    newest_first = [container.id for container in reversed(made)]
    assert await ids(project_id=world.home.id) == newest_first
    assert await ids(project_id=world.home.id, page=2, limit=2) == newest_first[2:4]
    assert await ids(page=9, limit=100) == []
    assert await ids(source_container_id=made[0].id) == [copied.id]
    assert await ids(server_id=world.there.id) == [copied.id]
    assert await ids(status="stopped") == []
    stopped = await world.container("stopped", status=Status.STOPPED, server_id=world.there.id)
    assert await ids(status="stopped") == [stopped.id]
    assert await ids(server_id=world.there.id, status="running") == [copied.id]
    reply = await api.get("/containers", params={"limit": 4})
    assert reply.data["pagination"] == {"total": 7, "page": 1, "limit": 4, "totalPages": 2}
    assert len((await api.get("/containers", token=world.admin)).data["containers"]) == 8


async def test_ties_go_by_id(api: Api) -> None:
    at = now()
    made = [await api.world.container(f"web-{n}", created_at=at) for n in range(4)]
    found = (await api.get("/containers")).data["containers"]
    assert [container["id"] for container in found] == sorted(one.id for one in made)


async def test_sync_state(api: Api) -> None:
    at = now()
    source = await api.world.container(updated_at=at)
    copies = {
        "behind": {"last_synced_at": at - timedelta(seconds=1)},
        "current": {"last_synced_at": at},
        "orphaned": {"last_synced_at": at, "source_container_id": new_id()},
    }
    for state, columns in copies.items():
        copied = await api.world.copy_of(source, state, **columns)
        assert (await api.get(f"/containers/{copied.id}")).data["sync_state"] == state


async def test_patch(api: Api) -> None:
    pair = generate("mine")
    before = await api.world.container(
        comment="old",
        sync_schedule="0 2 * * *",
        updated_at=now() - timedelta(days=1),
        ssh_private_sealed=b"sealed",
        ssh_private_fetched=True,
    )
    path = f"/containers/{before.id}"
    given = {
        "name": "renamed",
        "color": "#112233",
        "comment": "new",
        "environment_vars": {"B": "2"},
        "autostart": False,
        "ssh_public_key": pair.public_text,
        "sync_schedule": "*/15 0-6 1,15 * 7",
    }
    data = (await api.patch(path, given)).data
    assert {key: data[key] for key in given} == given
    stored = await api.world.stored(before.id)
    assert stored is not None
    assert stored.updated_at > before.updated_at
    assert (stored.ssh_key_id, stored.ssh_private_sealed) == (pair.key_id, None)
    data = (await api.patch(path, {"comment": None, "sync_schedule": None})).data
    assert (data["comment"], data["sync_schedule"]) == ("new", None)


async def test_patch_of_nothing_changes_nothing(api: Api) -> None:
    before = await api.world.container(updated_at=now() - timedelta(days=1))
    assert (await api.patch(f"/containers/{before.id}", {})).status == 200
    assert await api.world.stored(before.id) == before


async def test_patch_conflicts(api: Api) -> None:
    pair = generate("")
    await api.world.container("other", ssh_public_key="x", ssh_key_id=pair.key_id)
    before = await api.world.container()
    path = f"/containers/{before.id}"
    reply = await api.patch(path, {"name": "other"})
    assert reply.refusal == (409, "CONTAINER_NAME_IN_USE")
    reply = await api.patch(path, {"ssh_public_key": pair.public_text})
    assert reply.refusal == (409, "SSH_PUBLIC_KEY_IN_USE")
    assert await api.world.stored(before.id) == before
    assert (await api.patch(path, {"name": before.name})).status == 200


async def test_delete(api: Api) -> None:
    container = await api.world.container()
    reply = await api.delete(f"/containers/{container.id}")
    assert reply.status == 200
    assert reply.data == {"container_id": container.id, "status": "deleting"}
    job = await api.world.the_job()
    assert (job.type, job.params) == (JobType.DELETE, {"was": "running"})
    assert reply.headers["Location"] == f"/api/v1/jobs/{job.id}"
    assert (await api.get(f"/containers/{container.id}")).data["status"] == "deleting"


async def test_delete_cancels_the_job_before_it(api: Api) -> None:
    source = await api.world.container("source")
    copied = await api.world.copy_of(source, status=Status.COPYING)
    sync = await api.world.job(copied, params={"was": "stopped"})
    assert (await api.delete(f"/containers/{copied.id}")).status == 200
    jobs = {job.type: job for job in await api.world.all_jobs()}
    assert jobs[JobType.SYNC].id == sync.id
    assert jobs[JobType.SYNC].cancel_requested
    assert jobs[JobType.DELETE].params == {"was": "stopped"}


@pytest.mark.parametrize("verb", ["start", "stop", "restart"])
async def test_power(verb: str, api: Api) -> None:
    status = Status.STOPPED if verb == "start" else Status.RUNNING
    container = await api.world.container(status=status)
    reply = await api.post(f"/containers/{container.id}/{verb}")
    job = await api.world.the_job()
    assert (job.type.value, job.params) == (verb, {"was": status.value})
    assert reply.data["status"] == status
    assert reply.data["current_job_id"] == job.id
    assert reply.headers["Location"] == f"/api/v1/jobs/{job.id}"
    assert api.world.news.count == 1


async def test_storage(api: Api) -> None:
    container = await api.world.container(referenced_bytes=70, unique_bytes=7)
    assert container.generation_id is not None
    row = DatasetRow(
        container.generation_id,
        api.world.here.id,
        Role.GENERATION,
        container.generation_id,
        "containers/c/g",
        container_id=container.id,
        origin_guid="123",
        storage_name="tank/hoody/containers/c/g",
        rootfs="/srv/hoody/c/g",
    )
    async with api.world.db.write() as tx:
        await datasets.insert(tx, row)
    path = f"/containers/{container.id}/storage"
    shown = {
        "backend": "dir",
        "dataset": None,
        "rootfs": None,
        "generation": container.generation_id,
        "generations": 1,
        "referenced_bytes": 70,
        "unique_bytes": 7,
        "origin_guid": "123",
    }
    assert (await api.get(path)).data == shown
    shown |= {"dataset": "tank/hoody/containers/c/g", "rootfs": "/srv/hoody/c/g"}
    assert (await api.get(path, token=api.world.admin)).data == shown


async def test_private_key_once(api: Api) -> None:
    pair = generate("")
    container = await api.world.container(
        ssh_public_key=pair.public_text,
        ssh_key_id=pair.key_id,
        ssh_private_sealed=seal(SEALING_KEY, pair.private_text),
    )
    path = f"/containers/{container.id}/ssh-private-key"
    reply = await api.get(path)
    assert reply.data["ssh_private_key"] == pair.private_text
    assert reply.headers["Cache-Control"] == "no-store"
    stored = await api.world.stored(container.id)
    assert stored is not None
    assert (stored.ssh_private_sealed, stored.ssh_private_fetched) == (None, True)
    assert (await api.get(path)).refusal == (410, "KEY_ALREADY_RETRIEVED")


async def test_private_key_of_a_users_key_or_none_yet(api: Api) -> None:
    given = await api.world.container(ssh_public_key="x", ssh_key_id="x")
    early = await api.world.container("early")
    reply = await api.get(f"/containers/{given.id}/ssh-private-key")
    assert reply.refusal == (404, "RESOURCE_NOT_FOUND")
    reply = await api.get(f"/containers/{early.id}/ssh-private-key")
    assert reply.refusal == (409, "OPERATION_STATE_CONFLICT")


async def test_gone_is_gone(api: Api) -> None:
    container = await api.world.container()
    async with api.world.db.write() as tx:
        await containers.delete(tx, container.id)
    reply = await api.get(f"/containers/{container.id}")
    assert reply.refusal == (404, "CONTAINER_NOT_FOUND")
