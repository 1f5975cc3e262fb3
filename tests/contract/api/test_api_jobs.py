"""Jobs: seen, waited for, cancelled; and how many a user may have."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from daemon.api.jobs import WaitQuery
from daemon.model import Job, JobType, Status, new_id, now
from daemon.states import Move
from daemon.store import containers, jobs, servers
from tests.contract.api.api_world import Api, make_server


async def _run(api: Api) -> Job:
    async with api.world.db.write() as tx:
        claimed = await jobs.claim(tx, api.world.here.id, now(), now() + timedelta(seconds=30))
    assert claimed is not None
    return claimed


async def test_a_job(api: Api) -> None:
    source = await api.world.container("source")
    copied = await api.world.copy_of(source)
    made = await api.world.job(copied, JobType.COPY, source_container_id=source.id)
    running = await _run(api)
    progress = {"bytes_total": 1000, "bytes_done": 413, "rate_bytes_per_second": 100}
    async with api.world.db.write() as tx:
        await jobs.save(tx, running, step="transfer", progress=progress | {"bytes_wire": 99})
    data = (await api.get(f"/jobs/{made.id}")).data
    assert {key: data[key] for key in ("id", "type", "state", "step", "attempt")} == {
        "id": made.id,
        "type": "copy",
        "state": "running",
        "step": "transfer",
        "attempt": 1,
    }
    assert data["progress"] == {
        "percent": 41.3,
        "bytes_total": 1000,
        "bytes_done": 413,
        "bytes_wire": 99,
        "rate_bytes_per_second": 100,
        "eta_seconds": 6,
    }
    assert (data["container_id"], data["source_container_id"]) == (copied.id, source.id)
    assert data["finished_at"] is data["result"] is data["error"] is None
    assert data["started_at"].endswith("Z")


async def test_what_a_server_does_by_itself_is_for_admins(api: Api) -> None:
    web = await api.world.container("web")
    own = {"container_id": new_id(), "user_id": web.server_id}
    made = await api.world.job(web, JobType.PRESPAWN, **own)
    for path in ("/jobs", "/jobs?type=prespawn"):
        assert (await api.get(path)).data["jobs"] == []
        (seen,) = (await api.get(path, token=api.world.admin)).data["jobs"]
        assert seen["id"] == made.id
    assert (await api.get(f"/jobs/{made.id}")).refusal == (404, "RESOURCE_NOT_FOUND")
    cancel = f"/jobs/{made.id}/cancel"
    assert (await api.post(cancel)).refusal == (404, "RESOURCE_NOT_FOUND")
    assert (await api.post(cancel, token=api.world.admin)).status == 200


async def test_list(api: Api) -> None:
    first, second = await api.world.container("one"), await api.world.container("two")
    copy = await api.world.job(first, JobType.COPY)
    stop = await api.world.job(second, JobType.STOP, created_at=copy.created_at)
    asked = {
        "": {copy.id, stop.id},
        f"?container_id={first.id}": {copy.id},
        "?type=stop": {stop.id},
        "?state=running": set(),
        "?state=queued&limit=100": {copy.id, stop.id},
        f"?container_id={first.id}&type=stop": set(),
        f"?container_id={new_id()}": set(),
    }
    for query, wanted in asked.items():
        data = (await api.get(f"/jobs{query}")).data
        assert {job["id"] for job in data["jobs"]} == wanted
        assert data["pagination"]["total"] == len(wanted)
    running = await _run(api)
    data = (await api.get("/jobs?state=running")).data
    assert [job["id"] for job in data["jobs"]] == [running.id]


def test_wait_has_a_default() -> None:
    assert WaitQuery().timeout == 30


async def test_wait_until_the_end(api: Api) -> None:
    job = await api.world.job(await api.world.container(), JobType.STOP)
    waiting = asyncio.create_task(api.get(f"/jobs/{job.id}/wait?timeout=300"))
    running = await _run(api)
    async with api.world.db.write() as tx:
        await jobs.move(tx, running, Move.SUCCEED, at=now(), result={"downtime_seconds": 0})
    reply = await waiting
    assert reply.status == 200
    assert reply.data["state"] == "succeeded"
    assert reply.data["result"] == {"downtime_seconds": 0}
    assert reply.data["progress"]["percent"] == 100.0


async def test_wait_until_the_timeout(api: Api) -> None:
    job = await api.world.job(await api.world.container())
    reply = await api.get(f"/jobs/{job.id}/wait?timeout=0")
    assert (reply.status, reply.data["state"]) == (200, "queued")


@pytest.mark.parametrize("timeout", ["301", "-1", "x", "1.5", ""])
async def test_wait_within_limits(timeout: str, api: Api) -> None:
    job = await api.world.job(await api.world.container())
    reply = await api.get(f"/jobs/{job.id}/wait?timeout={timeout}")
    assert reply.refusal == (400, "VALIDATION_ERROR")


async def test_cancel(api: Api) -> None:
    job = await api.world.job(await api.world.container())
    for _ in range(2):
        reply = await api.post(f"/jobs/{job.id}/cancel")
        assert (reply.status, reply.data["cancel_requested"]) == (200, True)
    assert (await api.world.the_job()).cancel_requested
    assert api.world.news.count == 2


@pytest.mark.parametrize(
    ("kind", "during", "afterwards"),
    [
        (JobType.CREATE, Status.CREATING, Status.ERROR),
        (JobType.COPY, Status.COPYING, Status.ERROR),
        (JobType.SYNC, Status.COPYING, Status.STOPPED),
        (JobType.RESTORE, Status.RESTORING, Status.STOPPED),
        (JobType.START, Status.STOPPED, Status.STOPPED),
    ],
)
async def test_cancel_while_the_server_is_offline(
    kind: JobType, during: Status, afterwards: Status, api: Api
) -> None:
    """What waits, for its first attempt or the next, ends at once; what runs there is the
    server's own, and what waits on a server that is there is too."""
    away = make_server("away", last_heartbeat_at=now() - timedelta(minutes=1))
    async with api.world.db.write() as tx:
        await servers.put(tx, away)
    shown = []
    for server, attempt in ((away, 0), (away, 1), (api.world.there, 0)):
        made = await api.world.container(
            f"on-{server.name}-{attempt}", server_id=server.id, status=during
        )
        job = await api.world.job(made, kind, attempt=attempt, params={"was": "stopped"})
        reply = await api.post(f"/jobs/{job.id}/cancel")
        assert (reply.status, reply.data["cancel_requested"]) == (200, True)
        stored = await api.world.stored(made.id)
        assert stored is not None
        shown.append((reply.data["state"], (reply.data["error"] or {}).get("code"), stored.status))
    assert shown == [("cancelled", "CANCELLED", afterwards)] * 2 + [("queued", None, during)]

    running = await api.world.container("busy", server_id=away.id, status=during)
    job = await api.world.job(running, kind, params={"was": "stopped"})
    async with api.world.db.write() as tx:
        assert await jobs.claim(tx, away.id, now(), now() + timedelta(seconds=30))
    assert (await api.post(f"/jobs/{job.id}/cancel")).data["state"] == "running"


async def test_cancel_too_late(api: Api) -> None:
    job = await api.world.job(await api.world.container(), JobType.STOP)
    running = await _run(api)
    async with api.world.db.write() as tx:
        await jobs.save(tx, running, step="switch")
    reply = await api.post(f"/jobs/{job.id}/cancel")
    assert reply.refusal == (409, "JOB_NOT_CANCELLABLE")
    async with api.world.db.write() as tx:
        await jobs.move(tx, running, Move.FAIL, at=now(), error={"code": "INTERNAL_ERROR"})
    reply = await api.post(f"/jobs/{job.id}/cancel")
    assert reply.refusal == (409, "JOB_NOT_CANCELLABLE")
    assert reply.body["details"]["state"] == "failed"


@pytest.mark.parametrize("world", [{"jobs_per_user": 2}], indirect=True)
async def test_too_many_unfinished_jobs(api: Api) -> None:
    source = await api.world.container()
    path, body = f"/containers/{source.id}/copy", {"target_project_id": api.world.home.id}
    assert [(await api.post(path, body)).status for _ in range(2)] == [201, 201]
    reply = await api.post(path, body)
    assert reply.refusal == (429, "RATE_LIMITED")
    assert int(reply.headers["Retry-After"]) > 0
    assert len(await api.world.all_containers()) == 3


async def test_the_jobs_of_a_container_that_is_gone_stay_readable(api: Api) -> None:
    container = await api.world.container()
    job = await api.world.job(container, JobType.DELETE)
    running = await _run(api)
    async with api.world.db.write() as tx:
        await containers.delete(tx, container.id)
        await jobs.move(tx, running, Move.SUCCEED, at=now(), result={})
    assert (await api.get(f"/containers/{container.id}")).status == 404
    for path in (f"/jobs/{job.id}", f"/jobs/{job.id}/wait"):
        assert (await api.get(path)).data["state"] == "succeeded"
    listed = (await api.get("/jobs", params={"container_id": container.id})).data["jobs"]
    assert [one["id"] for one in listed] == [job.id]
    bob = api.world.token(api.world.bob)
    assert (await api.get(f"/jobs/{job.id}", token=bob)).status == 404
