"""Snapshots: what the endpoints that wait for a job answer when it does not end well, and as many
as there may be. The plain refusals are in test_contract_rows.py."""

from __future__ import annotations

from typing import Any

import pytest

from daemon.states import Move
from daemon.store import servers
from tests.contract.api.api_world import V1, Api, Reply, make_server
from tests.contract.api.contract_special import SNAPSHOT, WAITING
from tests.contract.api.contract_stage import NAME, Stage
from tests.contract.api.played_engine import playing

EACH = pytest.mark.parametrize("endpoint", WAITING)


async def ended_by(
    stage: Stage, endpoint: str, move: Move, error: dict[str, Any] | None = None
) -> Reply:
    """The answer of an endpoint whose job ends so."""
    method, path, body = stage.request(endpoint)
    async with playing(stage.world) as engine:
        engine.move, engine.error = move, error
        reply = await stage.api.ask(method, path, body)
    (job,) = engine.done
    assert reply.headers["Location"] == f"{V1}/jobs/{job.id}"
    assert await stage.world.stored(stage.web.id) == stage.web
    assert [one.name for one in await stage.world.listed(stage.web)] == [NAME]
    return reply


@EACH
@pytest.mark.parametrize(
    ("job_error", "status", "code"),
    [
        ("INSUFFICIENT_STORAGE", 507, "INSUFFICIENT_STORAGE"),
        ("WORKER_LOST", 500, "INTERNAL_ERROR"),
        ("SERVER_LOST", 500, "INTERNAL_ERROR"),
    ],
)
async def test_a_job_that_fails(
    endpoint: str, job_error: str, status: int, code: str, own_stage: Stage
) -> None:
    error = {"code": job_error, "message": "so it is", "retryable": False, "evidence": {}}
    reply = await ended_by(own_stage, endpoint, Move.FAIL, error)
    assert reply.refusal == (status, code)
    assert reply.body["details"] == {"job_error": job_error}
    assert "so it is" in reply.body["message"]


@EACH
async def test_a_job_that_is_cancelled(endpoint: str, own_stage: Stage) -> None:
    reply = await ended_by(own_stage, endpoint, Move.CANCEL)
    assert reply.refusal == (409, "JOB_CANCELLED")


@EACH
async def test_a_job_that_takes_too_long_goes_on(
    endpoint: str, own_stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.api.waiting.WAIT_SECONDS", 0)
    method, path, body = own_stage.request(endpoint)
    reply = await own_stage.api.ask(method, path, body)
    assert reply.refusal == (503, "SERVICE_UNAVAILABLE")
    (job,) = [job for job in await own_stage.world.all_jobs() if job.id != own_stage.job.id]
    assert reply.headers["Location"] == f"{V1}/jobs/{job.id}"
    assert (job.state, job.cancel_requested) == ("queued", False)


@EACH
async def test_a_server_that_never_had_a_heartbeat_is_offline(
    endpoint: str, own_stage: Stage
) -> None:
    fresh = make_server("fresh", last_heartbeat_at=None)
    async with own_stage.world.db.write() as tx:
        await servers.put(tx, fresh)
    container = await own_stage.container(server_id=fresh.id)
    reply = await own_stage.ask(endpoint, id=container.id)
    assert reply.refusal == (503, "SERVICE_UNAVAILABLE")


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


@pytest.mark.parametrize("is_admin", [True, False])
async def test_an_admin_acts_for_the_owner(is_admin: bool, own_stage: Stage) -> None:
    method, path, body = own_stage.request(SNAPSHOT)
    token = own_stage.world.admin if is_admin else "alice"
    async with playing(own_stage.world) as engine:
        assert (await own_stage.api.ask(method, path, body, token=token)).status == 200
    assert [job.user_id for job in engine.done] == [own_stage.world.alice.id]
