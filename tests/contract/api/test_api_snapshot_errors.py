"""The snapshots page, refusal by refusal: every endpoint with every status that it has there, the
codes of API.md, and that nothing is written."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from api_world import KEYS, V1, Api, Reply, make_server
from played_engine import PlayedEngine, playing

from daemon.auth import Scope, issue
from daemon.model import Container, JobType, Status, new_id, now
from daemon.states import Move
from daemon.store import accounts, servers
from transfer.model import Capacity

NAME = "snap-20250115-103000"


@dataclass(frozen=True)
class Endpoint:
    """A row of the page. `body` is one that works; `kind` the job's, where it is one."""

    method: str
    end: str = ""
    body: dict[str, Any] | None = None
    kind: JobType | None = None

    def path(self, container_id: str, name: str = NAME) -> str:
        return f"/containers/{container_id}/snapshots{self.end.replace('NAME', name)}"


ENDPOINTS = {
    "list": Endpoint("GET"),
    "create": Endpoint("POST", kind=JobType.SNAPSHOT),
    "restore": Endpoint("PATCH", "/NAME", kind=JobType.RESTORE),
    "alias": Endpoint("PATCH", "/NAME/alias", {"alias": "baseline"}),
    "delete": Endpoint("DELETE", "/NAME", kind=JobType.SNAPSHOT_DELETE),
}
NAMED = [name for name, endpoint in ENDPOINTS.items() if "NAME" in endpoint.end]
WRITING = [name for name in ENDPOINTS if name != "list"]
JOBS = [name for name, endpoint in ENDPOINTS.items() if endpoint.kind]

Case = Callable[["Asked"], Awaitable[Reply]]


@dataclass
class Asked:
    """One endpoint, of a container that lists the snapshot NAME."""

    api: Api
    endpoint: Endpoint
    container: Container

    async def __call__(
        self,
        *,
        token: str | None = "alice",
        container_id: str | None = None,
        name: str = NAME,
        **more: Any,
    ) -> Reply:
        path = self.endpoint.path(container_id or self.container.id, name)
        body = more.pop("body", self.endpoint.body)
        return await self.api.ask(self.endpoint.method, path, body, token=token, **more)


async def _no_token(ask: Asked) -> Reply:
    return await ask(token=None)


async def _bad_token(ask: Asked) -> Reply:
    return await ask(token="no.such.token")


async def _old_token(ask: Asked) -> Reply:
    alice = ask.api.world.alice.id
    return await ask(token=issue(KEYS, alice, list(Scope), ttl_seconds=-31, at=now()))


async def _other_scopes(ask: Asked) -> Reply:
    wanted = Scope.READ if ask.endpoint.method == "GET" else Scope.SNAPSHOTS
    others = [scope for scope in Scope if scope not in (wanted, Scope.ADMIN)]
    return await ask(token=ask.api.world.token(scopes=others))


async def _banned(ask: Asked) -> Reply:
    async with ask.api.world.db.write() as tx:
        await accounts.set_banned(tx, ask.api.world.alice.id, True)
    return await ask()


async def _bad_id(ask: Asked) -> Reply:
    return await ask(container_id=ask.container.id.upper())


async def _unknown_query(ask: Asked) -> Reply:
    return await ask(params={"verbose": "1"})


async def _no_container(ask: Asked) -> Reply:
    return await ask(container_id=new_id())


async def _somebody_elses(ask: Asked) -> Reply:
    return await ask(token=ask.api.world.token(ask.api.world.bob))


async def _no_catalogue(ask: Asked) -> Reply:
    async with ask.api.world.db.write() as tx:
        await tx.exec_driver_sql("ALTER TABLE user_snapshots RENAME TO gone")
    try:
        return await ask()
    finally:
        async with ask.api.world.db.write() as tx:
            await tx.exec_driver_sql("ALTER TABLE gone RENAME TO user_snapshots")


async def _unknown_field(ask: Asked) -> Reply:
    return await ask(body={"bogus": 1})


async def _bad_name(ask: Asked) -> Reply:
    return await ask(name="n" * 101)


async def _no_snapshot(ask: Asked) -> Reply:
    return await ask(name="snap-20250115-103001")


async def _deleting(ask: Asked) -> Reply:
    doomed = await ask.api.world.container("doomed", status=Status.DELETING)
    await ask.api.world.snapshot(doomed, NAME)
    return await ask(container_id=doomed.id)


async def _offline(ask: Asked) -> Reply:
    async with ask.api.world.db.write() as tx:
        long_ago = now() - timedelta(seconds=16)
        await servers.beat(tx, ask.container.server_id, Capacity(9, 0, 9), long_ago)
    return await ask()


def _cases() -> dict[tuple[str, int, str, str], Case]:
    """Endpoint, status, code and what is wrong -> how it is asked."""
    every = {
        (401, "MISSING_TOKEN"): _no_token,
        (401, "INVALID_TOKEN"): _bad_token,
        (401, "TOKEN_EXPIRED"): _old_token,
        (403, "INSUFFICIENT_PERMISSIONS"): _other_scopes,
        (403, "ACCOUNT_BANNED"): _banned,
        (400, "INVALID_ID_FORMAT"): _bad_id,
        (404, "CONTAINER_NOT_FOUND"): _no_container,
        (503, "SERVICE_UNAVAILABLE"): _no_catalogue,
    }
    writing = {(400, "VALIDATION_ERROR"): _unknown_field}
    named = {(400, "VALIDATION_ERROR"): _bad_name, (404, "RESOURCE_NOT_FOUND"): _no_snapshot}
    state = {(409, "OPERATION_STATE_CONFLICT"): _deleting}
    rows = [(ENDPOINTS, every), (WRITING, writing), (NAMED, named), (WRITING, state)]
    rows += [(ENDPOINTS, {(404, "CONTAINER_NOT_FOUND"): _somebody_elses})]
    rows += [(ENDPOINTS, {(400, "VALIDATION_ERROR"): _unknown_query})]
    rows += [(JOBS, {(503, "SERVICE_UNAVAILABLE"): _offline})]
    return {
        (name, status, code, case.__name__): case
        for names, cases in rows
        for name in names
        for (status, code), case in cases.items()
    }


CASES = _cases()


@pytest.mark.parametrize("row", sorted(CASES), ids=str)
async def test_row(row: tuple[str, int, str, str], api: Api) -> None:
    name, status, code, _case = row
    container = await api.world.container()
    await api.world.snapshot(container, NAME)
    before = await api.world.listed(container)
    reply = await CASES[row](Asked(api, ENDPOINTS[name], container))
    assert reply.refusal == (status, code)
    assert set(reply.body) <= {"statusCode", "error", "message", "code", "details"}
    assert reply.body["error"] and reply.body["message"]
    assert "Location" not in reply.headers
    assert await api.world.stored(container.id) == container
    assert await api.world.listed(container) == before
    assert (await api.world.all_jobs(), api.world.news.count) == ([], 0)


MESSAGES = {
    ("list", 404, "CONTAINER_NOT_FOUND", "_no_container"): "Container not found",
    ("create", 404, "CONTAINER_NOT_FOUND", "_no_container"): "Container not found",
    ("restore", 404, "RESOURCE_NOT_FOUND", "_no_snapshot"): "Snapshot not found",
    ("delete", 400, "VALIDATION_ERROR", "_bad_name"): "Invalid snapshot name",
}


@pytest.mark.parametrize("row", sorted(MESSAGES), ids=str)
async def test_messages(row: tuple[str, int, str, str], api: Api) -> None:
    container = await api.world.container()
    reply = await CASES[row](Asked(api, ENDPOINTS[row[0]], container))
    assert reply.body["message"] == MESSAGES[row]


async def ended_by(api: Api, name: str, move: Move, error: dict[str, Any] | None = None) -> Reply:
    """The answer of an endpoint whose job ends so."""
    container = await api.world.container()
    await api.world.snapshot(container, NAME)
    async with playing(api.world) as engine:
        engine.move, engine.error = move, error
        reply = await Asked(api, ENDPOINTS[name], container)()
    _only_job(engine, reply)
    assert await api.world.stored(container.id) == container
    assert [one.name for one in await api.world.listed(container)] == [NAME]
    return reply


def _only_job(engine: PlayedEngine, reply: Reply) -> None:
    (job,) = engine.done
    assert reply.headers["Location"] == f"{V1}/jobs/{job.id}"


@pytest.mark.parametrize("name", JOBS)
@pytest.mark.parametrize(
    ("job_error", "status", "code"),
    [
        ("INSUFFICIENT_STORAGE", 507, "INSUFFICIENT_STORAGE"),
        ("WORKER_LOST", 500, "INTERNAL_ERROR"),
        ("SERVER_LOST", 500, "INTERNAL_ERROR"),
    ],
)
async def test_a_job_that_fails(
    name: str, job_error: str, status: int, code: str, api: Api
) -> None:
    error = {"code": job_error, "message": "so it is", "retryable": False, "evidence": {}}
    reply = await ended_by(api, name, Move.FAIL, error)
    assert reply.refusal == (status, code)
    assert reply.body["details"] == {"job_error": job_error}
    assert "so it is" in reply.body["message"]


@pytest.mark.parametrize("name", JOBS)
async def test_a_job_that_is_cancelled(name: str, api: Api) -> None:
    reply = await ended_by(api, name, Move.CANCEL)
    assert reply.refusal == (409, "JOB_CANCELLED")


@pytest.mark.parametrize("name", JOBS)
async def test_a_job_that_takes_too_long_goes_on(
    name: str, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.api.waiting.WAIT_SECONDS", 0)
    container = await api.world.container()
    await api.world.snapshot(container, NAME)
    reply = await Asked(api, ENDPOINTS[name], container)()
    assert reply.refusal == (503, "SERVICE_UNAVAILABLE")
    job = await api.world.the_job()
    assert reply.headers["Location"] == f"{V1}/jobs/{job.id}"
    assert (job.state, job.cancel_requested) == ("queued", False)


async def test_a_server_that_never_had_a_heartbeat_is_offline(api: Api) -> None:
    fresh = make_server("fresh", last_heartbeat_at=None)
    async with api.world.db.write() as tx:
        await servers.put(tx, fresh)
    container = await api.world.container(server_id=fresh.id)
    reply = await Asked(api, ENDPOINTS["create"], container)()
    assert reply.refusal == (503, "SERVICE_UNAVAILABLE")
    assert await api.world.all_jobs() == []


@pytest.mark.parametrize("name", ["create", "restore"])
async def test_one_job_at_a_time(name: str, api: Api) -> None:
    container = await api.world.container()
    await api.world.snapshot(container, NAME)
    busy = await api.world.job(container, JobType.RESTART)
    reply = await Asked(api, ENDPOINTS[name], container)()
    assert reply.refusal == (409, "OPERATION_STATE_CONFLICT")
    assert reply.body["details"] == {"status": "running"}
    assert await api.world.stored(container.id) == container
    assert await api.world.all_jobs() == [busy]


@pytest.mark.parametrize("world", [{"snapshots_per_container": 2}], indirect=True)
async def test_as_many_as_a_container_may_have(api: Api) -> None:
    container, other = await api.world.container(), await api.world.container("other")
    for listing in (container, other):
        await api.world.snapshot(listing, NAME)
    async with playing(api.world):
        path = f"/containers/{container.id}/snapshots"
        assert (await api.post(path)).status == 200
        reply = await api.post(path)
        assert reply.refusal == (400, "VALIDATION_ERROR")
        assert list(reply.body["details"]) == ["snapshots"]
        assert (await api.delete(f"{path}/{NAME}")).status == 200
        assert (await api.post(path)).status == 200


@pytest.mark.parametrize("world", [{"jobs_per_user": 1}], indirect=True)
@pytest.mark.parametrize("name", JOBS)
async def test_too_many_unfinished_jobs(name: str, api: Api) -> None:
    container = await api.world.container()
    await api.world.snapshot(container, NAME)
    await api.world.job(await api.world.container("other"))
    reply = await Asked(api, ENDPOINTS[name], container)()
    assert reply.refusal == (429, "RATE_LIMITED")
    assert await api.world.stored(container.id) == container


@pytest.mark.parametrize("token", ["admin", "alice"])
async def test_an_admin_acts_for_the_owner(token: str, api: Api) -> None:
    container = await api.world.container()
    tokens = {"admin": api.world.admin, "alice": "alice"}
    async with playing(api.world) as engine:
        ask = Asked(api, ENDPOINTS["create"], container)
        assert (await ask(token=tokens[token])).status == 200
    assert [job.user_id for job in engine.done] == [api.world.alice.id]
