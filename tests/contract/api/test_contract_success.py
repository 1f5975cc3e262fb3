"""What every endpoint answers when all is well: status, message, envelope, and where its job is."""

from __future__ import annotations

import pytest

from daemon.api.app import ROUTES
from daemon.model import JobType
from tests.contract.api.contract_rows import endpoint_of
from tests.contract.api.contract_special import CREATE, WITH_JOB
from tests.contract.api.contract_stage import Stage
from tests.contract.api.played_engine import playing

MESSAGES = {
    # As on the pages.
    "POST /containers/{id}/copy": "201 Container copy initiated successfully",
    "POST /containers/{id}/sync": "200 Container sync initiated successfully",
    "GET /containers/{id}/snapshots": "200 Snapshots retrieved successfully",
    "POST /containers/{id}/snapshots": "200 Snapshot created successfully",
    "PATCH /containers/{id}/snapshots/{name}": (
        "200 Container restored from snapshot successfully"
    ),
    "PATCH /containers/{id}/snapshots/{name}/alias": "200 Snapshot alias updated successfully",
    "DELETE /containers/{id}/snapshots/{name}": "200 Snapshot deleted successfully",
    "GET /images/public": "200 Public images retrieved successfully",
    "GET /images/public/{id}": "200 Public image details retrieved successfully",
    "GET /images/user": "200 User images retrieved successfully",
    "POST /images/import/{id}": "200 Free image imported successfully",
    "POST /images/purchase/{id}": "200 Image purchased successfully",
    "POST /images/rate/{id}": "200 Image rated successfully",
    # In the same words.
    "POST /containers": "201 Container creation initiated successfully",
    "GET /containers": "200 Containers retrieved successfully",
    "GET /containers/{id}": "200 Container retrieved successfully",
    "PATCH /containers/{id}": "200 Container updated successfully",
    "DELETE /containers/{id}": "200 Container deletion initiated successfully",
    "POST /containers/{id}/start": "200 Container start initiated successfully",
    "POST /containers/{id}/stop": "200 Container stop initiated successfully",
    "POST /containers/{id}/restart": "200 Container restart initiated successfully",
    "GET /containers/{id}/firewall-rules": "200 Firewall rules retrieved successfully",
    "PUT /containers/{id}/firewall-rules": "200 Firewall rules updated successfully",
    "GET /containers/{id}/network-rules": "200 Network rules retrieved successfully",
    "PUT /containers/{id}/network-rules": "200 Network rules updated successfully",
    "GET /containers/{id}/storage": "200 Container storage retrieved successfully",
    "GET /containers/{id}/ssh-private-key": "200 SSH private key retrieved successfully",
    "GET /projects": "200 Projects retrieved successfully",
    "POST /projects": "201 Project created successfully",
    "GET /projects/{id}": "200 Project retrieved successfully",
    "GET /proxy/aliases": "200 Proxy aliases retrieved successfully",
    "POST /proxy/aliases": "201 Proxy alias created successfully",
    "DELETE /proxy/aliases/{id}": "200 Proxy alias deleted successfully",
    "GET /servers": "200 Servers retrieved successfully",
    "GET /servers/{id}": "200 Server retrieved successfully",
    "GET /jobs": "200 Jobs retrieved successfully",
    "GET /jobs/{id}": "200 Job retrieved successfully",
    "GET /jobs/{id}/wait": "200 Job retrieved successfully",
    "POST /jobs/{id}/cancel": "200 Job cancellation requested successfully",
}
NO_JSON = {"GET /events", "GET /jobs/{id}/events", "GET /images/{id}/icon"}


def test_every_route_has_its_message() -> None:
    assert {endpoint_of(route) for route in ROUTES} == MESSAGES.keys() | NO_JSON


@pytest.mark.parametrize("endpoint", MESSAGES)
async def test_success(endpoint: str, own_stage: Stage) -> None:
    method, path, body = own_stage.request(endpoint)
    token = own_stage.world.admin if endpoint == CREATE else "alice"
    params = {"timeout": "0"} if endpoint.endswith("/wait") else {}
    async with playing(own_stage.world):
        reply = await own_stage.api.ask(method, path, body, token=token, params=params)
    status, _, message = MESSAGES[endpoint].partition(" ")
    assert (reply.status, reply.body["message"]) == (int(status), message)
    assert reply.body.keys() == {"statusCode", "message", "data"}
    assert reply.body["statusCode"] == reply.status
    assert isinstance(reply.data, dict)
    made = [job for job in await own_stage.world.all_jobs() if job.id != own_stage.job.id]
    wanted = {f"/api/v1/jobs/{job.id}" for job in made if job.type is not JobType.EXPIRE}
    assert {reply.headers[name] for name in reply.headers if name == "Location"} == wanted
    assert bool(wanted) is (endpoint in WITH_JOB)
