"""Idempotency-Key: what is asked twice is done once, and answered alike.

What is refused for a key is in test_contract_rows.py; daemons that are killed, or asked at once,
in tests/fault/test_idempotency.py.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import replace
from datetime import timedelta
from io import BytesIO
from itertools import islice
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from sqlalchemy import select, update

from daemon.api.app import ROUTES, make_app
from daemon.api.routing import AnyRoute
from daemon.model import Job, KeyedRow
from daemon.states import Move
from daemon.store import accounts, containers, idempotency, rows
from daemon.store.database import Database, Tx
from daemon.store.schema import idempotency as table
from daemon.sweep import forget_old
from tests.contract.api.api_world import V1, Api, Reply, World
from tests.contract.api.contract_rows import endpoint_of
from tests.contract.api.contract_special import CREATE, SNAPSHOT
from tests.contract.api.contract_stage import Stage
from tests.contract.api.played_engine import playing

POSTS = [route for route in ROUTES if route.method == "POST"]
KEY = {"Idempotency-Key": "order-66"}


async def ask(stage: Stage, endpoint: str, **given: Any) -> Reply:
    """A request with the key, which works. Creating takes an admin."""
    method, path, body = stage.request(endpoint)
    token = stage.world.admin if endpoint == CREATE else "alice"
    return await stage.api.ask(method, path, body, **{"headers": KEY, "token": token, **given})


def said(reply: Reply) -> tuple[int, dict[str, Any], str | None]:
    return reply.status, reply.body, reply.headers.get("Location")


def is_replay(reply: Reply) -> bool:
    return bool(reply.headers.get("Idempotency-Replayed") == "true")


async def kept(world: World) -> list[KeyedRow]:
    async with world.db.read() as tx:
        return await rows.every(tx, KeyedRow, select(table))


@asynccontextmanager
async def serving(route: AnyRoute, world: World) -> AsyncIterator[None]:
    """An engine for the endpoint that waits for one; the others' jobs stay queued."""
    async with playing(world) if route.ending else nullcontext():
        yield


@pytest.fixture
async def elsewhere(world: World) -> AsyncIterator[Api]:
    """Another server on the same catalogue; as good as the same one after a restart."""
    deps = replace(world.deps, server_id=world.there.id)
    async with TestClient(TestServer(make_app(deps))) as client:
        yield Api(world, client)


@pytest.mark.parametrize("route", POSTS, ids=endpoint_of)
async def test_every_post_is_done_once(route: AnyRoute, own_stage: Stage, elsewhere: Api) -> None:
    async with serving(route, own_stage.world):
        first = await ask(own_stage, endpoint_of(route))
    assert first.status < 300
    assert not is_replay(first)
    before = own_stage.written()
    for again in (own_stage, replace(own_stage, api=elsewhere)):
        reply = await ask(again, endpoint_of(route))
        assert said(reply) == said(first)
        assert is_replay(reply)
    assert own_stage.written() == before
    assert [row.answer is not None for row in await kept(own_stage.world)] == [True]


@pytest.mark.parametrize("route", POSTS, ids=endpoint_of)
async def test_every_post_at_once_is_done_once(
    route: AnyRoute, own_stage: Stage, elsewhere: Api
) -> None:
    """Where the answer waits for a job, all but one are told so before that has ended."""
    stages = [own_stage, replace(own_stage, api=elsewhere)] * 2
    jobs_before = len(await own_stage.world.all_jobs())
    asked = [asyncio.create_task(ask(stage, endpoint_of(route))) for stage in stages]
    for ended in islice(asyncio.as_completed(asked), len(asked) - 1):
        await ended
    async with serving(route, own_stage.world):
        replies = await asyncio.gather(*asked)
    answers = [reply for reply in replies if reply.status < 300]
    others = [reply.refusal for reply in replies if reply.status >= 300]
    assert [is_replay(reply) for reply in answers].count(False) == 1
    assert all(said(reply) == said(answers[0]) for reply in answers)
    busy = (409, "IDEMPOTENCY_IN_PROGRESS")
    assert others == [busy] * (len(asked) - 1 if route.ending else 0)
    assert len(await own_stage.world.all_jobs()) - jobs_before <= 1


async def test_a_body_is_its_value_not_its_spelling(api: Api) -> None:
    async def post(content: bytes) -> tuple[int, Any]:
        token = {"Authorization": f"Bearer {api.world.token()}"}
        token["Content-Type"] = "application/json"
        data = BytesIO(content)
        async with api.client.post(f"{V1}/projects", data=data, headers=KEY | token) as answer:
            return answer.status, await answer.json()

    first = await post(b'{"name": "shop"}')
    assert first[0] == 201
    assert await post(b' { "name" : "\\u0073hop" } ') == first
    status, other = await post(b'{"name": "shop2"}')
    assert (status, other["code"]) == (422, "IDEMPOTENCY_KEY_REUSED")


async def test_another_query_is_another_request(own_stage: Stage) -> None:
    sync = "POST /containers/{id}/sync"
    assert (await ask(own_stage, sync)).status == 200
    other = await ask(own_stage, sync, params={"strategy": "full"})
    assert other.refusal == (422, "IDEMPOTENCY_KEY_REUSED")


async def test_a_key_belongs_to_a_user_and_a_path(own_stage: Stage) -> None:
    world, api = own_stage.world, own_stage.api
    for token in (world.token(), world.token(world.bob)):
        made = await api.post("/projects", {"name": "shop"}, token=token, headers=KEY)
        assert (made.status, is_replay(made)) == (201, False)
    for path in (
        f"/containers/{own_stage.web.id}/stop",
        f"/containers/{own_stage.copied.id}/start",
    ):
        assert not is_replay(await api.post(path, headers=KEY))
    assert len(await world.all_jobs()) == 1 + 2


@pytest.mark.parametrize("key", ["!", "~" * 255, 'a,b;c="d"'])
async def test_a_key_is_any_visible_text(key: str, api: Api) -> None:
    """Two that differ at their ends are two."""
    for number, text in enumerate((key, key[:-1] + "x")):
        for is_again in (False, True):
            given = {"headers": {"Idempotency-Key": text}}
            made = await api.post("/projects", {"name": f"shop-{number}"}, **given)
            assert (made.status, is_replay(made)) == (201, is_again)


async def test_two_keys_are_none(api: Api) -> None:
    twice = [("Idempotency-Key", "one"), ("Idempotency-Key", "two")]
    headers = [*twice, ("Authorization", f"Bearer {api.world.token()}")]
    async with api.client.post(f"{V1}/projects", json={"name": "x"}, headers=headers) as answer:
        assert (answer.status, (await answer.json())["code"]) == (400, "VALIDATION_ERROR")
    assert await kept(api.world) == []


async def test_methods_but_post_take_no_key(api: Api) -> None:
    container = await api.world.container()
    for comment in ("one", "two"):
        changed = await api.patch(f"/containers/{container.id}", {"comment": comment}, headers=KEY)
        assert changed.data["comment"] == comment
    assert await kept(api.world) == []


async def test_a_key_is_free_again_after_a_day(own_stage: Stage) -> None:
    world, path = own_stage.world, f"/containers/{own_stage.web.id}/copy"
    body = {"target_project_id": world.home.id}
    first = await own_stage.api.post(path, body, headers=KEY)
    await _age(world, idempotency.KEPT - timedelta(minutes=1))
    await forget_old(world.db)
    assert is_replay(await own_stage.api.post(path, body, headers=KEY))
    await _age(world, timedelta(minutes=1))
    second = await own_stage.api.post(path, body, headers=KEY)
    assert (second.status, is_replay(second)) == (201, False)
    assert second.data["id"] != first.data["id"]
    await _age(world, idempotency.KEPT)
    await forget_old(world.db)
    assert await kept(world) == []


async def _age(world: World, by: timedelta) -> None:
    (row,) = await kept(world)
    async with world.db.write() as tx:
        await tx.execute(update(table).values(created_at=row.created_at - by))


async def test_a_refusal_is_not_kept(own_stage: Stage) -> None:
    """What was in the way may be gone at the next try."""
    world, path = own_stage.world, f"/containers/{own_stage.web.id}/copy"
    body = {"target_project_id": world.home.id, "name": own_stage.web.name}
    refused = await own_stage.api.post(path, body, headers=KEY)
    assert refused.refusal == (409, "CONTAINER_NAME_IN_USE")
    assert await kept(world) == []
    made = await own_stage.api.post(path, {**body, "name": "free"}, headers=KEY)
    assert made.status == 201


async def test_a_wait_in_vain_is_not_kept_either(
    own_stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its job goes on: who asks again is told how it ended."""
    with monkeypatch.context() as hurried:
        hurried.setattr("daemon.api.waiting.WAIT_SECONDS", 0)
        late = await ask(own_stage, SNAPSHOT)
    assert late.refusal == (503, "SERVICE_UNAVAILABLE")
    async with playing(own_stage.world):
        ended = await own_stage.api.get(f"{late.headers['Location'].removeprefix(V1)}/wait")
        assert ended.data["state"] == "succeeded"
    again = await ask(own_stage, SNAPSHOT)
    assert (again.status, is_replay(again)) == (200, True)
    assert again.headers["Location"] == late.headers["Location"]


async def test_a_server_that_is_offline_leaves_the_key_free(own_stage: Stage) -> None:
    world = own_stage.world
    away = await own_stage.container(server_id=own_stage.away.id)
    path = f"/containers/{away.id}/snapshots"
    refused = await own_stage.api.post(path, headers=KEY)
    assert refused.refusal == (503, "SERVICE_UNAVAILABLE")
    assert await kept(world) == []
    async with world.db.write() as tx:
        await containers.change(tx, away.id, server_id=world.here.id)
    async with playing(world):
        made = await own_stage.api.post(path, headers=KEY)
    assert (made.status, is_replay(made)) == (200, False)


class CountingDatabase(Database):
    """Counts its writers."""

    writers = 0

    def write(self) -> AbstractAsyncContextManager[Tx]:
        self.writers += 1
        return super().write()


@pytest.mark.parametrize(("headers", "writers"), [({}, 1), (KEY, 2)])
async def test_an_answer_is_written_for_a_key_alone(
    own_stage: Stage, headers: dict[str, str], writers: int
) -> None:
    """One writer makes the job; who brought no key does not queue for a second turn."""
    db = CountingDatabase(f"sqlite:///{own_stage.path}")
    async with TestClient(TestServer(make_app(replace(own_stage.world.deps, db=db)))) as client:
        stage = replace(own_stage, api=Api(own_stage.world, client))
        async with playing(own_stage.world):
            made = await ask(stage, SNAPSHOT, headers=headers)
    await db.close()
    assert made.status == 200
    assert db.writers == writers


async def test_a_replay_passes_the_gate_first(own_stage: Stage) -> None:
    world = own_stage.world
    stop = "POST /containers/{id}/stop"
    assert (await ask(own_stage, stop)).status == 200
    unscoped = await ask(own_stage, stop, token=world.token(scopes=["read"]))
    assert unscoped.refusal == (403, "INSUFFICIENT_PERMISSIONS")
    async with world.db.write() as tx:
        await accounts.set_banned(tx, world.alice.id, banned=True)
    assert (await ask(own_stage, stop)).refusal == (403, "ACCOUNT_BANNED")


async def _begin_snapshot(stage: Stage) -> tuple[asyncio.Task[Reply], Job]:
    """A create that waits, and its job."""
    known = {job.id for job in await stage.world.all_jobs()}
    asked = asyncio.create_task(ask(stage, SNAPSHOT))
    async with asyncio.timeout(10):
        while not (new := [job for job in await stage.world.all_jobs() if job.id not in known]):
            await asyncio.sleep(0.01)
    return asked, new[0]


async def test_a_snapshot_in_progress_then_made_from_its_job(
    own_stage: Stage, elsewhere: Api
) -> None:
    """The first client has gone, so nobody stored an answer."""
    asked, job = await _begin_snapshot(own_stage)
    busy = await ask(replace(own_stage, api=elsewhere), SNAPSHOT)
    assert busy.refusal == (409, "IDEMPOTENCY_IN_PROGRESS")
    assert not is_replay(busy)
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    async with playing(own_stage.world):
        ended = await own_stage.api.get(f"/jobs/{job.id}/wait")
        assert ended.data["state"] == "succeeded"
    first = await ask(replace(own_stage, api=elsewhere), SNAPSHOT)
    assert first.data["snapshot"]["alias"] == "baseline"
    assert (first.status, is_replay(first)) == (200, True)
    assert first.headers["Location"] == f"{V1}/jobs/{job.id}" == busy.headers["Location"]
    assert said(await ask(own_stage, SNAPSHOT)) == said(first)


async def test_a_job_that_failed_is_answered_alike(own_stage: Stage) -> None:
    async with playing(own_stage.world) as engine:
        engine.move = Move.FAIL
        engine.error = {"code": "SERVER_LOST", "message": "so it is", "retryable": False}
        first = await ask(own_stage, SNAPSHOT)
        again = await ask(own_stage, SNAPSHOT)
        assert len(engine.done) == 1
    assert first.refusal == (500, "INTERNAL_ERROR")
    assert said(again) == said(first)
    assert (is_replay(first), is_replay(again)) == (False, True)


async def test_nothing_of_a_body_is_kept_but_its_hash(own_stage: Stage) -> None:
    """The answer is what it was; a private key is in none."""
    made = await ask(own_stage, "POST /containers/{id}/copy")
    (row,) = await kept(own_stage.world)
    assert row.answer is not None
    assert row.answer["data"] == made.data
    assert len(row.request_hash) == 64
    assert "private" not in json.dumps(row.answer).lower().replace("ssh_private_key_available", "")
