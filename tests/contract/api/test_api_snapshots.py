"""Snapshots: what the answers hold, and which jobs they leave."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web
from aiohttp.typedefs import Handler

from daemon.api.app import make_app
from daemon.model import Container, JobType, Status, now, snapshot_params
from daemon.states import Move
from daemon.store import jobs, servers
from tests.contract.api.api_world import V1, Api
from tests.contract.api.played_engine import playing
from transfer.model import Capacity

PAGE = {"name", "alias", "created_at", "last_used_at", "expires_at", "stateful", "size"}
ADDED = {"guid", "inherited", "unique_bytes", "inconsistent_files"}
HANG_SECONDS = 90
AT = datetime(2025, 1, 15, 10, 30, tzinfo=UTC)


def far() -> datetime:
    """Later than this test ends."""
    return now() + timedelta(hours=1)


def of(container: Container) -> dict[str, str]:
    """What every answer but restore's begins with."""
    return {"container_id": container.id, "project_id": container.project_id}


def base(container: Container) -> str:
    return f"/containers/{container.id}/snapshots"


async def test_list(api: Api) -> None:
    container, other = await api.world.container(), await api.world.container("other")
    assert (await api.get(base(container))).data == of(container) | {"snapshots": []}
    old = await api.world.snapshot(container, "snap-20250110-080000", created_at=AT)
    new = await api.world.snapshot(
        container,
        "snap-20250110-080000-2",
        alias="backup-2025-01-15",
        created_at=AT,
        last_used_at=AT + timedelta(hours=4),
        expires_at=AT + timedelta(days=31),
        inherited=True,
        referenced_bytes=2147483648,
        unique_bytes=4096,
        inconsistent_files=3,
    )
    await api.world.snapshot(container, "snap-gone", inherited=True, dropped=True)
    await api.world.snapshot(other)
    reply = await api.get(base(container))
    assert (reply.status, reply.body["message"]) == (200, "Snapshots retrieved successfully")
    assert set(reply.data) == {"container_id", "project_id", "snapshots"}
    first, second = reply.data["snapshots"]
    assert first == {
        "name": new.name,
        "alias": "backup-2025-01-15",
        "created_at": "2025-01-15T10:30:00.000Z",
        "last_used_at": "2025-01-15T14:30:00.000Z",
        "expires_at": "2025-02-15T10:30:00.000Z",
        "stateful": False,
        "size": 2147483648,
        "guid": new.guid,
        "inherited": True,
        "unique_bytes": 4096,
        "inconsistent_files": 3,
    }
    assert set(second) == PAGE | ADDED
    assert (second["name"], second["alias"], second["expires_at"]) == (old.name, None, None)


async def test_pages_only_when_asked_for(api: Api) -> None:
    container = await api.world.container()
    names = [f"snap-{number:02}" for number in range(25)]
    for name in names:
        await api.world.snapshot(container, name)
    newest_first = names[::-1]
    asked: dict[str, tuple[list[str], tuple[int, int, int] | None]] = {
        "": (newest_first, None),
        "?page=1": (newest_first[:20], (1, 20, 2)),
        "?page=2": (newest_first[20:], (2, 20, 2)),
        "?limit=10": (newest_first[:10], (1, 10, 3)),
        "?limit=10&page=3": (newest_first[20:], (3, 10, 3)),
        "?page=9": ([], (9, 20, 2)),
    }
    for query, (wanted, page) in asked.items():
        data = (await api.get(base(container) + query)).data
        assert [one["name"] for one in data["snapshots"]] == wanted, query
        assert {key: data[key] for key in of(container)} == of(container)
        if page is None:
            assert "pagination" not in data
        else:
            keys = ("page", "limit", "totalPages")
            wanted_page = {"total": 25, **dict(zip(keys, page, strict=True))}
            assert data["pagination"] == wanted_page


@pytest.mark.parametrize("query", ["page=0", "limit=0", "limit=101", "page=x", "sort=name"])
async def test_bad_pages(query: str, api: Api) -> None:
    container = await api.world.container()
    reply = await api.get(f"{base(container)}?{query}")
    assert reply.refusal == (400, "VALIDATION_ERROR")


async def test_create(api: Api) -> None:
    container = await api.world.container()
    async with playing(api.world) as engine:
        body = {"alias": "pre-deployment-backup", "expiry": 30}
        reply = await api.post(base(container), body)
    assert (reply.status, reply.body["message"]) == (200, "Snapshot created successfully")
    (made,), (job,) = await api.world.listed(container), engine.done
    shown = reply.data["snapshot"]
    assert reply.data == of(container) | {"snapshot": shown}
    assert set(shown) == PAGE | ADDED
    assert (shown["name"], shown["alias"]) == (made.name, "pre-deployment-backup")
    assert (shown["last_used_at"], shown["inherited"]) == (None, False)
    created, expires = (datetime.fromisoformat(shown[at]) for at in ("created_at", "expires_at"))
    assert expires - created == timedelta(days=30)
    assert reply.headers["Location"] == f"{V1}/jobs/{job.id}"
    assert (job.type, job.container_id, job.server_id) == (
        JobType.SNAPSHOT,
        container.id,
        container.server_id,
    )
    assert job.params == {"snapshot": made.id, "alias": "pre-deployment-backup", "expiry_days": 30}
    assert await api.world.stored(container.id) == container
    found = (await api.get("/jobs?type=snapshot")).data["jobs"]
    assert [one["id"] for one in found] == [job.id]


@pytest.mark.parametrize("body", [None, {}, {"alias": None, "expiry": None}])
async def test_create_without_anything(body: Any, api: Api) -> None:
    container = await api.world.container()
    async with playing(api.world) as engine:
        shown = (await api.post(base(container), body)).data["snapshot"]
    assert (shown["alias"], shown["expires_at"]) == (None, None)
    params = engine.done[0].params
    assert (params["alias"], params["expiry_days"]) == (None, None)


@pytest.mark.parametrize("days", [36500, 1, 0.5, 1e-9])
async def test_good_expiry(days: float, api: Api) -> None:
    container = await api.world.container()
    async with playing(api.world) as engine:
        assert (await api.post(base(container), {"expiry": days})).status == 200
    assert engine.done[0].params["expiry_days"] == days


BAD_EXPIRY = ["0", "-1", "-0.0", "36500.01", "36501", "1e400", "9" * 400, "NaN", "Infinity"]
BAD_EXPIRY += ['"30"', "true", "[]", "{}"]


@pytest.mark.parametrize("text", BAD_EXPIRY, ids=lambda text: text[:20])
async def test_bad_expiry(text: str, api: Api) -> None:
    container = await api.world.container()
    content = f'{{"expiry": {text}}}'.encode()
    headers = {"Content-Type": "application/json"}
    reply = await api.post(base(container), data=content, headers=headers)
    assert reply.refusal == (400, "VALIDATION_ERROR")
    assert await api.world.all_jobs() == []


@pytest.mark.parametrize("was", [Status.RUNNING, Status.STOPPED])
@pytest.mark.parametrize("by", ["name", "alias"])
async def test_restore(was: Status, by: str, api: Api) -> None:
    container = await api.world.container(status=was)
    made = await api.world.snapshot(container, alias="good")
    await api.world.snapshot(container, "snap-newer")
    asking = asyncio.create_task(api.patch(f"{base(container)}/{getattr(made, by)}"))
    while not await api.world.all_jobs():
        await asyncio.sleep(0)
    assert await api.world.stored(container.id) == replace(container, status=Status.RESTORING)
    async with playing(api.world):
        reply = await asking
    message = "Container restored from snapshot successfully"
    assert (reply.status, reply.body["message"]) == (200, message)
    shown = reply.data.pop("snapshot")
    assert reply.data == {"success": True, "message": message}
    assert (set(shown), shown["name"]) == (PAGE | ADDED, made.name)
    assert shown["last_used_at"] is not None
    job = await api.world.the_job()
    assert (job.type, job.source_container_id) == (JobType.RESTORE, None)
    assert job.params == {**snapshot_params(made), "was": was.value}
    assert reply.headers["Location"] == f"{V1}/jobs/{job.id}"
    assert await api.world.stored(container.id) == container


@pytest.mark.parametrize("inherited", [False, True])
async def test_delete(inherited: bool, api: Api) -> None:
    container = await api.world.container()
    made = await api.world.snapshot(container, alias="old", inherited=inherited)
    kept = await api.world.snapshot(container, "snap-kept")
    async with playing(api.world) as engine:
        reply = await api.delete(f"{base(container)}/old")
        assert (await api.delete(f"{base(container)}/old")).refusal[0] == 404
    assert (reply.status, reply.body["message"]) == (200, "Snapshot deleted successfully")
    assert reply.data == of(container) | {"snapshot_name": made.name}
    (job,) = engine.done
    assert (job.type, job.params) == (JobType.SNAPSHOT_DELETE, {"snapshot": made.id})
    assert reply.headers["Location"] == f"{V1}/jobs/{job.id}"
    assert await api.world.listed(container) == [kept]


async def test_delete_beside_the_job_that_reads_it(api: Api) -> None:
    container = await api.world.container()
    made = await api.world.snapshot(container)
    params = {"snapshot": made.id, "guid": made.guid, "was": "running"}
    busy = await api.world.job(container, JobType.RESTORE, params=params, not_before=far())
    async with playing(api.world) as engine:
        assert (await api.delete(f"{base(container)}/{made.name}")).status == 200
    assert [job.type for job in engine.done] == [JobType.SNAPSHOT_DELETE]
    assert busy in await api.world.all_jobs()
    assert await api.world.listed(container) == []


async def test_two_delete_one_at_once(api: Api) -> None:
    container = await api.world.container()
    made = await api.world.snapshot(container)
    async with playing(api.world):
        asked = [api.delete(f"{base(container)}/{made.name}") for _ in range(4)]
        statuses = {reply.status for reply in await asyncio.gather(*asked)}
    assert statuses <= {200, 404}
    assert 200 in statuses
    assert await api.world.listed(container) == []


async def test_a_client_that_has_gone_is_not_waited_for(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its request ends, the job goes on."""
    monkeypatch.setattr("daemon.api.waiting.WAIT_SECONDS", 10 * HANG_SECONDS)
    container, ended = await api.world.container(), asyncio.Event()

    @web.middleware
    async def note(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        finally:
            ended.set()

    app = make_app(api.world.deps)
    app.middlewares.append(note)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        _reader, writer = await asyncio.open_connection(*runner.addresses[0])
        head = f"POST {V1}{base(container)} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n"
        writer.write(f"{head}Authorization: Bearer {api.world.token()}\r\n\r\n".encode())
        while not await api.world.all_jobs():
            await asyncio.sleep(0)
        assert not ended.is_set()
        writer.close()
        async with asyncio.timeout(HANG_SECONDS):
            await ended.wait()
    finally:
        await runner.cleanup()
    job = await api.world.the_job()
    assert (job.state, job.cancel_requested) == ("queued", False)


async def test_a_snapshot_that_is_deleted_as_soon_as_it_is_there(api: Api) -> None:
    container = await api.world.container()
    asking = asyncio.create_task(api.post(base(container)))
    while not await api.world.all_jobs():
        await asyncio.sleep(0)
    async with api.world.db.write() as tx:
        job = await jobs.claim(tx, api.world.here.id, now(), far())
        assert job is not None
        await jobs.move(tx, job, Move.SUCCEED, at=now())
    reply = await asking
    assert reply.refusal == (404, "RESOURCE_NOT_FOUND")
    assert reply.headers["Location"] == f"{V1}/jobs/{job.id}"


async def test_the_list_of_a_container_on_an_offline_server(api: Api) -> None:
    """Listing and naming need only the catalogue."""
    container = await api.world.container(server_id=api.world.there.id)
    made = await api.world.snapshot(container)
    async with api.world.db.write() as tx:
        await servers.beat(tx, container.server_id, Capacity(9, 0, 9), AT)
    assert len((await api.get(base(container))).data["snapshots"]) == 1
    reply = await api.patch(f"{base(container)}/{made.name}/alias", {"alias": "x"})
    assert reply.status == 200
