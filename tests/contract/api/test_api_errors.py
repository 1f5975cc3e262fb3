"""Every row of the error tables of the copy and sync pages, and that nothing is written."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from api_world import KEYS, ROOMY_BYTES, Api, Reply

from daemon.auth import Scope, issue
from daemon.keys import generate
from daemon.model import Status, new_id, now
from daemon.store import accounts, servers

Case = Callable[[Api], Awaitable[Reply]]
CASES: dict[tuple[str, int, str], Case] = {}


def row(endpoint: str, status: int, code: str) -> Callable[[Case], Case]:
    def add(case: Case) -> Case:
        CASES[endpoint, status, code] = case
        return case

    return add


async def copying(api: Api, token: str | None = "alice", **body: object) -> Reply:
    source = await api.world.container()
    fields = {"target_project_id": api.world.home.id} | body
    return await api.post(f"/containers/{source.id}/copy", fields, token=token)


async def syncing(api: Api, token: str | None = "alice", **columns: object) -> Reply:
    source = await api.world.container()
    copied = await api.world.copy_of(source, **columns)
    return await api.post(f"/containers/{copied.id}/sync", token=token)


for endpoint, asked in (("copy", copying), ("sync", syncing)):

    @row(endpoint, 401, "MISSING_TOKEN")
    async def _missing(api: Api, asked: Case = asked) -> Reply:
        return await asked(api, token=None)

    @row(endpoint, 401, "INVALID_TOKEN")
    async def _invalid(api: Api, asked: Case = asked) -> Reply:
        return await asked(api, token="no.such.token")

    @row(endpoint, 401, "TOKEN_EXPIRED")
    async def _expired(api: Api, asked: Case = asked) -> Reply:
        alice = api.world.alice.id
        return await asked(api, token=issue(KEYS, alice, list(Scope), ttl_seconds=-31, at=now()))

    @row(endpoint, 403, "INSUFFICIENT_PERMISSIONS")
    async def _scope(api: Api, asked: Case = asked) -> Reply:
        return await asked(api, token=api.world.token(scopes=[Scope.READ]))

    @row(endpoint, 403, "ACCOUNT_BANNED")
    async def _banned(api: Api, asked: Case = asked) -> Reply:
        async with api.world.db.write() as tx:
            await accounts.set_banned(tx, api.world.alice.id, True)
        return await asked(api)

    @row(endpoint, 400, "INVALID_ID_FORMAT")
    async def _id(api: Api, endpoint: str = endpoint) -> Reply:
        return await api.post(f"/containers/{'A' * 24}/{endpoint}", {})


@row("copy", 400, "VALIDATION_ERROR")
async def _(api: Api) -> Reply:
    return await copying(api, copy_firewall_rules="yes")


@row("copy", 400, "INVALID_CONTAINER_NAME")
async def _(api: Api) -> Reply:
    return await copying(api, name="no spaces")


@row("copy", 400, "SERVER_CONTAINER_LIMIT")
async def _(api: Api) -> Reply:
    async with api.world.db.write() as tx:
        await servers.put(tx, replace(api.world.here, max_containers=1))
    return await copying(api)


@row("copy", 404, "SOURCE_CONTAINER_NOT_FOUND")
async def _(api: Api) -> Reply:
    body = {"target_project_id": api.world.home.id}
    return await api.post(f"/containers/{new_id()}/copy", body)


@row("copy", 404, "RESOURCE_NOT_FOUND")
async def _(api: Api) -> Reply:
    return await copying(api, target_project_id=new_id())


@row("copy", 409, "CONTAINER_NAME_IN_USE")
async def _(api: Api) -> Reply:
    return await copying(api, name="web")


@row("copy", 409, "SSH_PUBLIC_KEY_IN_USE")
async def _(api: Api) -> Reply:
    pair = generate("first")
    await api.world.container("other", ssh_public_key=pair.public_text, ssh_key_id=pair.key_id)
    return await copying(api, ssh_public_key=f"  {pair.key_id}   another comment\r\n")


@row("copy", 409, "OPERATION_STATE_CONFLICT")
async def _(api: Api) -> Reply:
    source = await api.world.container(status=Status.CREATING, generation_id=None)
    body = {"target_project_id": api.world.home.id}
    return await api.post(f"/containers/{source.id}/copy", body)


@row("copy", 507, "INSUFFICIENT_STORAGE")
async def _(api: Api) -> Reply:
    source = await api.world.container(referenced_bytes=ROOMY_BYTES + 1)
    body = {"target_project_id": api.world.home.id, "target_server_id": api.world.there.id}
    return await api.post(f"/containers/{source.id}/copy", body)


@row("sync", 400, "SERVER_CONTAINER_LIMIT")
async def _(api: Api) -> Reply:
    async with api.world.db.write() as tx:
        await servers.put(tx, replace(api.world.here, max_containers=1))
    return await syncing(api, status=Status.ERROR, generation_id=None)


@row("sync", 404, "CONTAINER_NOT_FOUND")
async def _(api: Api) -> Reply:
    return await api.post(f"/containers/{new_id()}/sync")


@row("sync", 404, "SOURCE_CONTAINER_NOT_FOUND")
async def _(api: Api) -> Reply:
    return await syncing(api, source_container_id=new_id())


@row("sync", 409, "CONTAINER_NOT_COPIED")
async def _(api: Api) -> Reply:
    return await syncing(api, source_container_id=None)


@row("sync", 409, "OPERATION_STATE_CONFLICT")
async def _(api: Api) -> Reply:
    return await syncing(api, status=Status.COPYING)


@pytest.mark.parametrize(("endpoint", "status", "code"), sorted(CASES), ids=str)
async def test_row(endpoint: str, status: int, code: str, api: Api) -> None:
    reply = await CASES[endpoint, status, code](api)
    assert reply.refusal == (status, code)
    assert set(reply.body) <= {"statusCode", "error", "message", "code", "details"}
    assert reply.body["error"] and reply.body["message"]
    if status == 401:
        assert reply.headers["WWW-Authenticate"] == "Bearer"
    assert await api.world.all_jobs() == []
    assert api.world.news.count == 0
    unfinished = {Status.COPYING, Status.CREATING}
    for container in await api.world.all_containers():
        assert container.status not in unfinished or code == "OPERATION_STATE_CONFLICT"


PAGE_MESSAGES = {
    ("copy", 400, "INVALID_CONTAINER_NAME"): "Invalid container name",
    ("copy", 401, "MISSING_TOKEN"): "Authentication token required",
    ("copy", 403, "INSUFFICIENT_PERMISSIONS"): "Insufficient permissions",
    ("copy", 404, "SOURCE_CONTAINER_NOT_FOUND"): "Source container not found",
    ("copy", 409, "CONTAINER_NAME_IN_USE"): "Container name already in use within the project",
    ("sync", 400, "INVALID_ID_FORMAT"): "Invalid ID format",
    ("sync", 404, "CONTAINER_NOT_FOUND"): "Container not found",
    ("sync", 409, "CONTAINER_NOT_COPIED"): (
        "Container was not created from a copy, sync is not possible."
    ),
}


@pytest.mark.parametrize("wanted", sorted(PAGE_MESSAGES), ids=str)
async def test_the_pages_messages(wanted: tuple[str, int, str], api: Api) -> None:
    assert (await CASES[wanted](api)).body["message"] == PAGE_MESSAGES[wanted]


ORDER = [
    # what is wrong, from the first check to the last; each step mends one thing
    ({"token": "x"}, 401, "INVALID_TOKEN"),
    ({"token": "read"}, 403, "INSUFFICIENT_PERMISSIONS"),
    ({"path_id": "zzz"}, 400, "INVALID_ID_FORMAT"),
    ({"body": {"bogus": 1}}, 400, "VALIDATION_ERROR"),
    ({"path_id": new_id()}, 404, "SOURCE_CONTAINER_NOT_FOUND"),
    ({"body": {"target_project_id": new_id()}}, 404, "RESOURCE_NOT_FOUND"),
    ({"status": Status.CREATING}, 409, "OPERATION_STATE_CONFLICT"),
    ({"name": "web"}, 409, "CONTAINER_NAME_IN_USE"),
    ({"key": True}, 409, "SSH_PUBLIC_KEY_IN_USE"),
    ({"max_containers": 1}, 400, "SERVER_CONTAINER_LIMIT"),
    ({"available_bytes": 1}, 507, "INSUFFICIENT_STORAGE"),
]


@pytest.mark.parametrize("first", range(len(ORDER)), ids=lambda at: ORDER[at][2])
async def test_the_order_of_checks(first: int, api: Api) -> None:
    """Everything from `first` on is wrong; the answer is `first`'s."""
    wrong: dict[str, Any] = {}
    for change, _, _ in reversed(ORDER[first:]):
        wrong |= change
    world, pair = api.world, generate("used")
    key = {"ssh_public_key": pair.public_text, "ssh_key_id": pair.key_id}
    await world.container("holder", **key)
    columns = {"status": Status.CREATING, "generation_id": None} if "status" in wrong else {}
    source = await world.container(**columns)
    limits = {name: wrong[name] for name in ("max_containers", "available_bytes") if name in wrong}
    async with world.db.write() as tx:
        await servers.remove(tx, world.pool.id)
        await servers.put(tx, replace(world.pool, backend="dir", **limits))
    if "max_containers" in wrong:
        await world.container("full", server_id=world.pool.id)
    body: dict[str, object] = {
        "target_project_id": world.home.id,
        "target_server_id": world.pool.id,
        "ssh_public_key": pair.public_text if "key" in wrong else None,
        "name": wrong.get("name", "fresh"),
    }
    body |= wrong.get("body", {})
    tokens = {"x": "x", "read": world.token(scopes=[Scope.READ]), "alice": world.token()}
    path_id = wrong.get("path_id", source.id)
    token = tokens[str(wrong.get("token", "alice"))]
    reply = await api.post(f"/containers/{path_id}/copy", body, token=token)
    assert reply.refusal == ORDER[first][1:]


@pytest.mark.parametrize("path", ["/nothing", "/containers/x/y/z", "/snapshots"])
async def test_unknown_paths(path: str, api: Api) -> None:
    assert (await api.get(path)).refusal == (404, "RESOURCE_NOT_FOUND")
    assert (await api.get(path, token=None)).refusal == (401, "MISSING_TOKEN")


async def test_unknown_path_outside_the_api(api: Api) -> None:
    async with api.client.get("/") as answer:
        assert answer.status == 404
        assert (await answer.json())["code"] == "RESOURCE_NOT_FOUND"


async def test_wrong_method(api: Api) -> None:
    reply = await api.put("/containers", {})
    assert reply.refusal == (405, "METHOD_NOT_ALLOWED")
    assert set(reply.headers["Allow"].split(",")) == {"GET", "POST"}


async def test_a_fault_of_ours_tells_nothing_but_its_id(
    api: Api, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("the secret reason")

    monkeypatch.setattr("daemon.store.containers.page", broken)
    reply = await api.get("/containers")
    assert reply.refusal == (500, "INTERNAL_ERROR")
    assert "secret" not in str(reply.body)
    logged = capsys.readouterr().out
    assert "the secret reason" in logged
    assert reply.headers["X-Request-Id"] in logged


async def test_no_catalogue(api: Api) -> None:
    async with api.world.db.write() as tx:
        await tx.exec_driver_sql("ALTER TABLE users RENAME TO gone")
    assert (await api.get("/containers")).refusal == (503, "SERVICE_UNAVAILABLE")
