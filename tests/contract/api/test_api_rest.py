"""Projects, servers, rules, probes, metrics."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from daemon.api.limits import RateLimit
from daemon.model import now
from daemon.store import servers
from tests.contract.api.api_world import Api
from transfer.model import Capacity

FIREWALL_RULE = {
    "direction": "in",
    "action": "allow",
    "protocol": "tcp",
    "ports": "8000-8100",
    "cidr": "10.0.0.0/8",
    "comment": "office",
}
NETWORK_RULE = {"type": "forward", "protocol": "tcp", "host_port": 8080, "container_port": 80}


async def test_projects(api: Api) -> None:
    reply = await api.post("/projects", {"name": "My Shop (EU)"})
    assert reply.status == 201
    made = reply.data
    assert set(made) == {"id", "name", "alias", "owner_id", "created_at"}
    assert (made["alias"], made["owner_id"]) == ("my-shop-eu", api.world.alice.id)
    assert (await api.get(f"/projects/{made['id']}")).data == made
    found = (await api.get("/projects")).data
    assert found["projects"][0] == made
    assert found["pagination"]["total"] == 3
    reply = await api.post("/projects", {"name": "My Shop (EU)"})
    assert reply.refusal == (409, "PROJECT_NAME_IN_USE")
    bob = api.world.token(api.world.bob)
    assert (await api.post("/projects", {"name": "My Shop (EU)"}, token=bob)).status == 201


@pytest.mark.parametrize("name", ["", "x" * 101, "a\nb", 7, ["a"]])
async def test_bad_project_names(name: object, api: Api) -> None:
    assert (await api.post("/projects", {"name": name})).refusal == (400, "VALIDATION_ERROR")


async def test_servers(api: Api) -> None:
    world = api.world
    async with world.db.write() as tx:
        await servers.beat(tx, world.here.id, Capacity(100, 40, 60), now())
        await servers.beat(tx, world.there.id, Capacity(1, 1, 0), now() - timedelta(minutes=1))
    await world.container()
    here = (await api.get(f"/servers/{world.here.id}")).data
    assert (here["online"], here["live_containers"], here["max_containers"]) == (True, 1, 100)
    assert here["storage"] == {"total_bytes": 100, "used_bytes": 40, "available_bytes": 60}
    assert here["peer_address"] is None
    admins = (await api.get(f"/servers/{world.here.id}", token=world.admin)).data
    assert admins["peer_address"] == "here:8471"
    assert not (await api.get(f"/servers/{world.there.id}")).data["online"]
    found = (await api.get("/servers", params={"limit": 2, "page": 2})).data
    assert len(found["servers"]) == 1
    assert found["pagination"] == {"total": 3, "page": 2, "limit": 2, "totalPages": 2}
    assert (await api.get(f"/servers/{world.alice.id}")).refusal == (404, "RESOURCE_NOT_FOUND")


async def test_rules(api: Api) -> None:
    container = await api.world.container(updated_at=now() - timedelta(days=1))
    for kind, rule in (("firewall", FIREWALL_RULE), ("network", NETWORK_RULE)):
        path = f"/containers/{container.id}/{kind}-rules"
        assert (await api.get(path)).data == {"rules": []}
        for _ in range(2):
            assert (await api.put(path, {"rules": [rule]})).data == {"rules": [rule]}
        assert (await api.get(path)).data == {"rules": [rule]}
    stored = await api.world.stored(container.id)
    assert stored is not None
    assert stored.updated_at > container.updated_at


BAD_FIREWALL: list[dict[str, Any]] = [
    {"direction": "up"},
    {"action": "maybe"},
    {"protocol": "sctp"},
    {"ports": "0"},
    {"ports": "65536"},
    {"ports": "9-8"},
    {"ports": "22,23"},
    {"ports": 22},
    {"ports": "\u0662\u0662"},
    {"protocol": "icmp"},
    {"cidr": "10.0.0.0/33"},
    {"cidr": "10.0.0.1/8"},
    {"cidr": "example.com"},
    {"comment": "a\nb"},
    {"extra": 1},
]
BAD_NETWORK: list[dict[str, Any]] = [
    {"type": "mirror"},
    {"protocol": "icmp"},
    {"host_port": 0},
    {"host_port": 65536},
    {"host_port": "80"},
    {"container_port": True},
    {"container_port": 80.5},
]


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [("firewall", FIREWALL_RULE, bad) for bad in BAD_FIREWALL]
    + [("network", NETWORK_RULE, bad) for bad in BAD_NETWORK],
    ids=str,
)
async def test_bad_rules(kind: str, good: dict[str, Any], bad: dict[str, Any], api: Api) -> None:
    container = await api.world.container()
    path = f"/containers/{container.id}/{kind}-rules"
    reply = await api.put(path, {"rules": [good, good | bad]})
    assert reply.refusal == (400, "VALIDATION_ERROR")
    assert all(field.startswith("rules.1") for field in reply.body["details"])
    assert await api.world.stored(container.id) == container


async def test_too_many_rules(api: Api) -> None:
    container = await api.world.container()
    path = f"/containers/{container.id}/firewall-rules"
    assert (await api.put(path, {"rules": [FIREWALL_RULE] * 256})).status == 200
    assert (await api.put(path, {"rules": [FIREWALL_RULE] * 257})).refusal[0] == 400
    assert (await api.put(path, {})).refusal[0] == 400
    path = f"/containers/{container.id}/network-rules"
    assert (await api.put(path, {"rules": [NETWORK_RULE] * 2})).refusal[0] == 400


async def test_health(api: Api) -> None:
    async with api.client.get("/healthz") as answer:
        assert (answer.status, await answer.json()) == (200, {"status": "ok"})


async def test_ready(api: Api) -> None:
    async with api.client.get("/readyz") as answer:
        assert (answer.status, await answer.json()) == (200, {"status": "ok"})
    api.world.health["storage"] = "no answer within 5 s"
    async with api.client.get("/readyz") as answer:
        assert answer.status == 503
        failing = (await answer.json())["failing"]
        assert failing == {"storage": "no answer within 5 s"}
    async with api.world.db.write() as tx:
        await tx.exec_driver_sql("DROP TABLE alembic_version")
    async with api.client.get("/readyz") as answer:
        assert set((await answer.json())["failing"]) == {"storage", "database"}


async def test_metrics(api: Api) -> None:
    container = await api.world.container()
    await api.post(f"/containers/{container.id}/stop")
    await api.get("/containers/bad")
    await api.ask("GET", "/no/such/path")
    async with api.client.request("PROPFIND", "/no/such/path") as answer:
        assert answer.status == 404
    async with api.client.get("/metrics") as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        lines = (await answer.text()).splitlines()
    one = "/api/v1/containers/{id}"
    for line in (
        'hoody_jobs{state="queued",type="stop"} 1.0',
        f'hoody_http_requests_total{{method="POST",route="{one}/stop",status="200"}} 1.0',
        f'hoody_http_requests_total{{method="GET",route="{one}",status="400"}} 1.0',
        'hoody_http_requests_total{method="other",route="unmatched",status="404"} 1.0',
        f'hoody_http_request_duration_seconds_count{{route="{one}/stop"}} 1.0',
    ):
        assert line in lines
    assert any(line.startswith("hoody_job_queue_oldest_seconds ") for line in lines)
    assert any(line.startswith("hoody_build_info{") for line in lines)


async def test_metrics_without_a_catalogue(api: Api) -> None:
    async with api.world.db.write() as tx:
        await tx.exec_driver_sql("ALTER TABLE jobs RENAME TO gone")
    async with api.client.get("/metrics") as answer:
        assert answer.status == 200
        assert "hoody_build_info" in await answer.text()


def test_rate_limit_refills_evenly() -> None:
    limit = RateLimit(per_minute=60)
    assert [limit.take("a", 0.0) for _ in range(60)] == [0] * 60
    assert limit.take("a", 0.0) == 1
    assert limit.take("a", 0.5) == 1
    assert limit.take("a", 1.0) == 0
    assert limit.take("b", 1.0) == 0
    assert [limit.take("a", 1000.0) for _ in range(61)] == [0] * 60 + [1]


def test_rate_limit_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemon.api.limits.USERS_MAX", 4)
    limit = RateLimit(per_minute=60)
    for n in range(100):
        assert limit.take(f"user-{n}", 0.0) == 0
    assert len(limit._buckets) <= 4
