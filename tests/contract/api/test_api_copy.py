"""Copy and sync: the record and the job that they leave."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from typing import Any

import pytest

from daemon.api.copies import copy_name
from daemon.keys import generate
from daemon.model import DatasetRow, JobState, JobType, Project, Role, Status, new_id
from daemon.store import accounts, datasets, servers
from tests.contract.api.api_world import ROOMY_BYTES, Api, make_server

FIELDS = re.findall(
    r"\w+",
    """
    id name status source_container_id project_id project_alias server_id server_name
    subserver_name server ssh_hostname color container_image ai hoody_kit dev_kit autostart ramdisk
    prespawn is_default container_image_id environment_vars volumes ssh_public_key comment
    copy_firewall_rules copy_network_rules created_at updated_at realm_ids
    status_reason exit_code disk_used_bytes last_synced_at sync_state source_snapshot
    current_job_id sync_schedule
    """,
)
SERVER_FIELDS = {"name", "country", "country_name", "city", "region", "datacenter", "is_free"}


async def test_the_container_object_and_the_job(api: Api) -> None:
    world = api.world
    source = await world.container(
        environment_vars={"A": "1"},
        command=("serve",),
        resources={"pids": 5},
        container_image="ubuntu:22.04",
        color="#3B82F6",
        comment="hello",
        flags={"ai": True, "is_default": True},
        autostart=False,
        sync_schedule="0 2 * * *",
        ssh_public_key="ssh-ed25519 X",
        ssh_key_id="ssh-ed25519 X",
        firewall_rules=({"direction": "in"},),
        network_rules=({"type": "forward"},),
    )
    body = {
        "target_project_id": world.work.id,
        "target_server_id": world.there.id,
        "name": "web-app-staging",
        "copy_firewall_rules": True,
    }
    reply = await api.post(f"/containers/{source.id}/copy", body)
    assert (reply.status, reply.body["message"]) == (201, "Container copy initiated successfully")
    data, job = reply.data, await world.the_job()
    assert set(FIELDS) <= set(data)
    assert set(data["server"]) == SERVER_FIELDS | {"specs"}
    assert set(data["server"]["specs"]) == {"cpu_cores", "ram_gb", "disk_gb", "shared_compute"}
    wanted = {
        "name": "web-app-staging",
        "subserver_name": "web-app-staging",
        "status": "copying",
        "source_container_id": source.id,
        "project_id": world.work.id,
        "project_alias": "work",
        "server_id": world.there.id,
        "server_name": "there",
        "ssh_hostname": f"{world.work.id}-{data['id']}-ssh.there.containers.example",
        "color": "#3B82F6",
        "comment": "hello",
        "container_image": "ubuntu:22.04",
        "environment_vars": {"A": "1"},
        "autostart": False,
        "ai": True,
        "is_default": False,
        "ssh_public_key": None,
        "sync_schedule": None,
        "copy_firewall_rules": True,
        "copy_network_rules": False,
        "volumes": {},
        "realm_ids": [],
        "sync_state": "behind",
        "current_job_id": job.id,
    }
    assert {key: data[key] for key in wanted} == wanted
    assert reply.headers["Location"] == f"/api/v1/jobs/{job.id}"
    assert (job.type, job.state, job.container_id) == (JobType.COPY, JobState.QUEUED, data["id"])
    assert (job.server_id, job.source_container_id) == (world.there.id, source.id)
    assert job.params == {"strategy": "auto"}
    assert world.news.count == 1
    stored = await world.stored(data["id"])
    assert stored is not None
    assert stored.firewall_rules == source.firewall_rules
    assert stored.network_rules == ()
    assert (stored.command, stored.resources) == (("serve",), {"pids": 5})
    assert await world.stored(source.id) == source


async def test_names_made_up(api: Api) -> None:
    source = await api.world.container()
    body = {"target_project_id": api.world.home.id}
    names = [(await api.post(f"/containers/{source.id}/copy", body)).data["name"] for _ in "123"]
    assert names == ["web-copy", "web-copy-2", "web-copy-3"]


def test_a_made_up_name_fits() -> None:
    long = "a" * 100
    first = copy_name(long, set())
    second = copy_name(long, {first})
    assert first == "a" * 95 + "-copy"
    assert second == "a" * 93 + "-copy-2"


async def test_a_given_key(api: Api) -> None:
    source, pair = await api.world.container(), generate("laptop")
    body = {"target_project_id": api.world.home.id, "ssh_public_key": f"{pair.public_text}\n"}
    data = (await api.post(f"/containers/{source.id}/copy", body)).data
    assert data["ssh_public_key"] == pair.public_text
    stored = await api.world.stored(data["id"])
    assert stored is not None
    assert stored.ssh_key_id == pair.key_id


async def test_one_name_for_two_at_once(api: Api) -> None:
    source = await api.world.container()
    body = {"target_project_id": api.world.home.id, "name": "same"}
    asked = [api.post(f"/containers/{source.id}/copy", body) for _ in range(6)]
    replies = await asyncio.gather(*asked)
    assert sorted(reply.status for reply in replies) == [201] + [409] * 5
    codes = {reply.body.get("code") for reply in replies} - {None}
    assert codes == {"CONTAINER_NAME_IN_USE"}
    assert len(await api.world.all_jobs()) == 1


async def test_one_key_for_two_at_once(api: Api) -> None:
    source, pair = await api.world.container(), generate("")
    body = {"target_project_id": api.world.home.id, "ssh_public_key": pair.public_text}
    asked = [api.post(f"/containers/{source.id}/copy", body) for _ in range(4)]
    statuses = sorted(reply.status for reply in await asyncio.gather(*asked))
    assert statuses == [201] + [409] * 3


async def test_the_last_places(api: Api) -> None:
    source = await api.world.container()
    async with api.world.db.write() as tx:
        await servers.put(tx, replace(api.world.there, max_containers=3))
    body = {"target_project_id": api.world.home.id, "target_server_id": api.world.there.id}
    asked = [api.post(f"/containers/{source.id}/copy", body) for _ in range(8)]
    replies = await asyncio.gather(*asked)
    assert sorted(reply.status for reply in replies) == [201] * 3 + [400] * 5
    assert len(await api.world.all_containers()) == 4


async def test_a_project_of_another_owner(api: Api) -> None:
    source = await api.world.container()
    body = {"target_project_id": api.world.bobs.id}
    path = f"/containers/{source.id}/copy"
    assert (await api.post(path, body)).refusal == (404, "RESOURCE_NOT_FOUND")
    # An admin sees it, but the copy would change hands.
    assert (await api.post(path, body, token=api.world.admin)).refusal[0] == 404


@pytest.mark.parametrize("extra", [{"target_server_id": new_id()}, {"source_snapshot": "snap-1"}])
async def test_names_of_nothing(extra: dict[str, Any], api: Api) -> None:
    source = await api.world.container()
    body = {"target_project_id": api.world.home.id} | extra
    reply = await api.post(f"/containers/{source.id}/copy", body)
    assert reply.refusal == (404, "RESOURCE_NOT_FOUND")
    assert list(reply.body["details"]) == list(extra)


STRATEGIES = [
    # source's backend, target's, strategy, status
    ("dir", "dir", "auto", 201),
    ("dir", "dir", "full", 201),
    ("dir", "dir", "content-diff", 201),
    ("zfs", "zfs", "auto", 201),
    ("zfs", "zfs", "full", 201),
    ("zfs", "zfs", "content-diff", 400),
    ("zfs", "dir", "auto", 400),
    ("dir", "zfs", "full", 400),
    ("dir", "dir", "fast", 400),
]


@pytest.mark.parametrize(("source_kind", "target_kind", "strategy", "status"), STRATEGIES)
async def test_strategy(
    source_kind: str, target_kind: str, strategy: str, status: int, api: Api
) -> None:
    source_server, target_server = make_server("one", source_kind), make_server("two", target_kind)
    async with api.world.db.write() as tx:
        await servers.put(tx, source_server)
        await servers.put(tx, target_server)
    source = await api.world.container(server_id=source_server.id)
    body = {"target_project_id": api.world.home.id, "target_server_id": target_server.id}
    path = f"/containers/{source.id}/copy?strategy={strategy}"
    reply = await api.post(path, body)
    assert reply.status == status
    copied = await api.world.copy_of(source, "old", server_id=target_server.id)
    again = await api.post(f"/containers/{copied.id}/sync?strategy={strategy}")
    if status == 201:
        assert again.status == 200
        assert {job.params["strategy"] for job in await api.world.all_jobs()} == {strategy}
    else:
        assert reply.refusal == again.refusal == (400, "VALIDATION_ERROR")
        assert list(reply.body["details"]) == ["strategy"]


async def test_space(api: Api) -> None:
    """What the target lacks counts; a mirror there, or the source itself, makes it little."""
    world = api.world
    source = await world.container(referenced_bytes=ROOMY_BYTES + 1)
    assert source.generation_id is not None
    path = f"/containers/{source.id}/copy"
    body = {"target_project_id": world.home.id, "target_server_id": world.there.id}
    assert (await api.post(path, body)).refusal == (507, "INSUFFICIENT_STORAGE")
    mirror = DatasetRow(new_id(), world.there.id, Role.MIRROR, source.generation_id, "mirrors/m")
    async with world.db.write() as tx:
        await datasets.insert(tx, mirror)
    assert (await api.post(path, body)).status == 201
    assert (await api.post(path, {"target_project_id": world.home.id})).status == 201


async def test_too_little_space_for_anything(api: Api) -> None:
    full = make_server("full", available_bytes=(256 << 20) - 1)
    fresh = make_server("fresh", available_bytes=0, last_heartbeat_at=None)
    async with api.world.db.write() as tx:
        await servers.put(tx, full)
        await servers.put(tx, fresh)
    source = await api.world.container()
    path, body = f"/containers/{source.id}/copy", {"target_project_id": api.world.home.id}
    assert (await api.post(path, body | {"target_server_id": full.id})).status == 507
    # A server that never had a heartbeat cannot be judged.
    assert (await api.post(path, body | {"target_server_id": fresh.id})).status == 201


@pytest.mark.parametrize("was", [Status.RUNNING, Status.STOPPED])
async def test_sync(was: Status, api: Api) -> None:
    source = await api.world.container()
    copied = await api.world.copy_of(source, status=was)
    reply = await api.post(f"/containers/{copied.id}/sync")
    assert (reply.status, reply.body["message"]) == (200, "Container sync initiated successfully")
    assert reply.data == {
        "container_id": copied.id,
        "source_container_id": source.id,
        "status": "copying",
    }
    job = await api.world.the_job()
    assert reply.headers["Location"] == f"/api/v1/jobs/{job.id}"
    assert (job.type, job.source_container_id) == (JobType.SYNC, source.id)
    assert job.params == {"strategy": "auto", "was": was.value}
    stored = await api.world.stored(copied.id)
    assert stored == replace(copied, status=Status.COPYING)


async def test_sync_of_a_failed_first_copy_copies_again(api: Api) -> None:
    source = await api.world.container()
    failed = await api.world.copy_of(
        source, status=Status.ERROR, generation_id=None, status_reason="the peer was down"
    )
    assert (await api.post(f"/containers/{failed.id}/sync")).status == 200
    job = await api.world.the_job()
    assert (job.type, job.params) == (JobType.COPY, {"strategy": "auto"})
    stored = await api.world.stored(failed.id)
    assert stored == replace(failed, status=Status.COPYING, status_reason=None)


async def test_sync_from_a_source_that_the_caller_may_not_see(api: Api) -> None:
    world = api.world
    hidden = Project(new_id(), world.bob.id, "hidden", "hidden")
    async with world.db.write() as tx:
        await accounts.put_project(tx, hidden)
    source = await world.container(owner_id=world.bob.id, project_id=hidden.id)
    copied = await world.copy_of(source)
    reply = await api.post(f"/containers/{copied.id}/sync")
    assert reply.refusal == (404, "SOURCE_CONTAINER_NOT_FOUND")
