"""The last places of a server, asked for through two servers' APIs at once: on SQLite and on
PostgreSQL. And the room for what is to come."""

from __future__ import annotations

import asyncio
import itertools
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from sqlalchemy import func, select

from daemon.actions import ACTIONS
from daemon.api.app import make_app
from daemon.model import Container, DatasetRow, Job, JobType, Role, Server, Status, new_id, now
from daemon.states import Move
from daemon.store import datasets, jobs, schema, servers
from daemon.store.database import Database
from daemon.store.migrate import migrate
from tests.contract.api.api_world import ROOMY_BYTES, Api, Reply, World, make_server
from tests.postgres import Postgres, serving

ASKED, PLACES = 64, 10
LEAST_BYTES = 256 << 20
PATIENCE_SECONDS = 120


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """A running server."""
    with serving() as server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path, empty_catalogue: Path) -> str:
    """A catalogue's address."""
    if request.param == "sqlite":
        shutil.copy(empty_catalogue, tmp_path / "shared.db")
        return f"sqlite:///{tmp_path}/shared.db"
    server: Postgres = request.getfixturevalue("postgres")
    server.create("capacity")
    request.addfinalizer(lambda: server.drop("capacity"))
    return server.url("capacity")


@dataclass
class Pair:
    """The APIs of two servers with connections of their own to one catalogue; `target` has
    PLACES left."""

    world: World
    apis: tuple[Api, Api]
    source: Container
    target: Server

    async def copies(self, count: int, **body: Any) -> list[Reply]:
        """Asks for so many at once, through either in turn."""
        path = f"/containers/{self.source.id}/copy"
        body = {
            "target_project_id": self.world.home.id,
            "target_server_id": self.target.id,
        } | body
        turns = itertools.islice(itertools.cycle(self.apis), count)
        return list(await asyncio.gather(*(api.post(path, body) for api in turns)))


@pytest.fixture
async def pair(url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pair]:
    # A crowd waits its turn here, however slow the machine: else some are answered 503.
    monkeypatch.setattr("daemon.store.database.WAIT_SECONDS", PATIENCE_SECONDS)
    async with AsyncExitStack() as stack:
        databases = [Database(url), Database(url)]
        for db in databases:
            stack.push_async_callback(db.close)
        await migrate(databases[0])
        world = World(databases[0])
        await world.fill()
        target = replace(world.there, max_containers=PLACES + 2)
        async with world.db.write() as tx:
            await servers.put(tx, target)
        for name in ("old", "older"):
            await world.container(name, server_id=target.id)
        apis = []
        for db, server in zip(databases, (world.here, world.there), strict=True):
            app = make_app(replace(world.deps, db=db, server_id=server.id))
            client = await stack.enter_async_context(TestClient(TestServer(app)))
            apis.append(Api(world, client))
        yield Pair(world, (apis[0], apis[1]), await world.container("web"), target)


async def rows(db: Database) -> dict[str, int]:
    """How many rows each table has."""
    async with db.read() as tx:
        return {
            name: (await tx.execute(select(func.count()).select_from(table))).scalar_one()
            for name, table in schema.metadata.tables.items()
        }


async def fail(world: World, container_id: str) -> None:
    """The container's first copy fails."""
    (job,) = [one for one in await world.all_jobs() if one.container_id == container_id]
    async with world.db.write() as tx:
        claimed = await claim(tx, job)
        await ACTIONS[JobType.COPY].abandon(tx, claimed, "FAULT: it failed")
        await jobs.move(tx, claimed, Move.FAIL, at=now(), error={"code": "FAULT"})


async def claim(tx: Any, job: Job) -> Job:
    at = now()
    while (found := await jobs.claim(tx, job.server_id, at, at)) is not None:
        if found.id == job.id:
            return found
    raise AssertionError("nobody could claim the job")


async def test_64_at_once_for_the_last_10_places(pair: Pair) -> None:
    replies = await pair.copies(ASKED)
    statuses = Counter(reply.status for reply in replies)
    assert statuses == {201: PLACES, 400: ASKED - PLACES}
    refusals = {reply.refusal for reply in replies if reply.status != 201}
    assert refusals == {(400, "SERVER_CONTAINER_LIMIT")}
    made = {reply.data["id"] for reply in replies if reply.status == 201}
    stored = [one for one in await pair.world.all_containers() if one.source_container_id]
    assert {one.id for one in stored} == made
    assert {job.container_id for job in await pair.world.all_jobs()} == made
    names = {"web-copy", *(f"web-copy-{number}" for number in range(2, PLACES + 1))}
    assert {one.name for one in stored} == names
    # What was refused has left nothing, no event either.
    before = await rows(pair.world.db)
    (reply,) = await pair.copies(1)
    assert reply.refusal == (400, "SERVER_CONTAINER_LIMIT")
    assert list(reply.body["details"]) == ["server_id"]
    assert await rows(pair.world.db) == before


async def test_a_failed_first_copy_holds_no_place(pair: Pair) -> None:
    replies = await pair.copies(PLACES)
    assert {reply.status for reply in replies} == {201}
    failed_id = str(replies[0].data["id"])
    await fail(pair.world, failed_id)
    failed = await pair.world.stored(failed_id)
    assert failed is not None
    assert (failed.status, failed.generation_id) == (Status.ERROR, None)
    assert sorted(reply.status for reply in await pair.copies(4)) == [201, 400, 400, 400]
    # Its place is another's now, so there is none when it is tried again.
    reply = await pair.apis[1].post(f"/containers/{failed_id}/sync")
    assert reply.refusal == (400, "SERVER_CONTAINER_LIMIT")
    assert await pair.world.stored(failed_id) == failed


async def test_the_last_place_is_not_for_a_retry_and_a_copy(pair: Pair) -> None:
    replies = await pair.copies(PLACES)
    failed_id = str(replies[0].data["id"])
    await fail(pair.world, failed_id)
    retry = pair.apis[0].post(f"/containers/{failed_id}/sync")
    synced, copied = await asyncio.gather(retry, pair.copies(1))
    assert {synced.status, copied[0].status} in ({200, 400}, {400, 201})


async def test_names_and_keys_are_refused_before_places(pair: Pair) -> None:
    await pair.copies(PLACES)
    (reply,) = await pair.copies(1, name="old")
    assert reply.refusal == (409, "CONTAINER_NAME_IN_USE")
    (reply,) = await pair.copies(1, name="fresh")
    assert reply.refusal == (400, "SERVER_CONTAINER_LIMIT")


async def test_16_at_once_with_one_key_take_one_place(pair: Pair) -> None:
    """Two databases' connections, so that nothing but the catalogue keeps them apart."""
    path, key = f"/containers/{pair.source.id}/copy", {"Idempotency-Key": "order-66"}
    body = {"target_project_id": pair.world.home.id, "target_server_id": pair.target.id}
    asked = (api.post(path, body, headers=key) for api in pair.apis * 8)
    first, *others = await asyncio.gather(*asked)
    assert all(reply.body == first.body for reply in others)
    assert first.status == 201
    replays = ["Idempotency-Replayed" in reply.headers for reply in (first, *others)]
    assert replays.count(False) == 1
    assert [job.container_id for job in await pair.world.all_jobs()] == [first.data["id"]]


# --- 507 -----------------------------------------------------------------------------------------


async def free(world: World, available_bytes: int) -> Server:
    """A server whose last heartbeat said so."""
    made = make_server("tight", available_bytes=available_bytes)
    async with world.db.write() as tx:
        await servers.put(tx, made)
    return made


async def mirror(world: World, server: Server, source: Container) -> None:
    """Something of the source on a server."""
    assert source.generation_id is not None
    row = DatasetRow(new_id(), server.id, Role.MIRROR, source.generation_id, "mirrors/m")
    async with world.db.write() as tx:
        await datasets.insert(tx, row)


@pytest.mark.parametrize(
    ("available_bytes", "referenced_bytes", "has_some", "status"),
    [
        (LEAST_BYTES, 0, False, 201),
        (LEAST_BYTES - 1, 0, False, 507),
        (LEAST_BYTES - 1, 0, True, 507),
        (LEAST_BYTES + 7, LEAST_BYTES + 7, False, 201),
        (LEAST_BYTES + 7, LEAST_BYTES + 8, False, 507),
        (LEAST_BYTES + 7, LEAST_BYTES + 8, True, 201),
    ],
)
async def test_room_for_a_first_copy(
    available_bytes: int, referenced_bytes: int, has_some: bool, status: int, api: Api
) -> None:
    """Of a copy that is asked for, and of one that failed and is tried again."""
    source = await api.world.container(referenced_bytes=referenced_bytes)
    tight = await free(api.world, available_bytes)
    if has_some:
        await mirror(api.world, tight, source)
    failed = await api.world.copy_of(
        source, "failed", server_id=tight.id, status=Status.ERROR, generation_id=None
    )
    before = await rows(api.world.db)
    body = {"target_project_id": api.world.home.id, "target_server_id": tight.id}
    again = await api.post(f"/containers/{failed.id}/sync")
    reply = await api.post(f"/containers/{source.id}/copy", body)
    assert (reply.status, again.status) == (status, 200 if status == 201 else 507)
    if status == 507:
        assert reply.refusal == again.refusal == (507, "INSUFFICIENT_STORAGE")
        assert reply.body["details"] == {"available_bytes": available_bytes}
        assert await rows(api.world.db) == before
        assert await api.world.stored(failed.id) == failed


@pytest.mark.parametrize(("available_bytes", "ok"), [(LEAST_BYTES, True), (LEAST_BYTES - 1, False)])
async def test_room_for_what_is_there_already(available_bytes: int, ok: bool, api: Api) -> None:
    """A sync, and what is made of a directory whose size nobody knows yet."""
    source = await api.world.container(referenced_bytes=ROOMY_BYTES)
    tight = await free(api.world, available_bytes)
    copied = await api.world.copy_of(source, server_id=tight.id)
    body = {
        "project_id": api.world.home.id,
        "server_id": tight.id,
        "source_path": api.world.import_roots[0],
    }
    created = await api.post("/containers", body, token=api.world.admin)
    synced = await api.post(f"/containers/{copied.id}/sync")
    assert (created.status, synced.status) == ((201, 200) if ok else (507, 507))
    stored = await api.world.stored(copied.id)
    assert stored is not None
    assert stored.status is (Status.COPYING if ok else copied.status)
