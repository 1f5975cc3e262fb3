"""What fields may hold. How JSON and pages are read: test_contract_json.py, test_api_pages.py."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any

import pytest

from daemon.model import new_id
from tests.contract.api.api_world import V1, Api

LIMIT_BYTES = 1500  # not the default

BAD_BODIES = [
    (b'{"name": "abc", "name": "abd"}', "name"),
    (b'{"environment_vars": {"A": "1", "A": "2"}}', "A"),
    (b'{"color": "#000000", "bogus": null}', "bogus"),
    (b'{"bogus": 1}', "bogus"),
    (b'{"name": 5}', "name"),
    (b'{"autostart": "yes"}', "autostart"),
    (b'{"autostart": 1}', "autostart"),
    (b'{"environment_vars": []}', "environment_vars"),
    (b'{"environment_vars": {"A": 1}}', "environment_vars.A"),
    (b'{"environment_vars": {"A": null}}', "environment_vars.A"),
    (b'{"environment_vars": {"1A": "x"}}', "environment_vars.1A"),
    (b'{"comment": "a\\u0000b"}', "comment"),
    (b'{"color": "red"}', "color"),
    (b'{"sync_schedule": "every day"}', "sync_schedule"),
    (b'{"sync_schedule": "60 * * * *"}', "sync_schedule"),
    (b'{"sync_schedule": "*/0 * * * *"}', "sync_schedule"),
    (b'{"ssh_public_key": "ssh-dss AAAA"}', "ssh_public_key"),
    (b'{"ssh_public_key": ""}', "ssh_public_key"),
    (b'{"ssh_public_key": 7}', "ssh_public_key"),
]


async def _patch_raw(api: Api, content: bytes, **headers: str) -> Any:
    container = await api.world.container(f"c-{new_id()}", comment="before")
    headers = {"Content-Type": "application/json"} | headers
    headers["Authorization"] = f"Bearer {api.world.token()}"
    url = f"{V1}/containers/{container.id}"
    async with api.client.patch(url, data=BytesIO(content), headers=headers) as answer:
        stored = await api.world.stored(container.id)
        assert answer.status == 200 or stored == container
        return answer.status, await answer.json()


@pytest.mark.parametrize(("content", "field"), BAD_BODIES, ids=lambda case: str(case)[:40])
async def test_bad_body(content: bytes, field: str, api: Api) -> None:
    status, body = await _patch_raw(api, content)
    assert (status, body["code"]) == (400, "VALIDATION_ERROR")
    assert list(body["details"]) == [field]
    assert body["details"][field]


@pytest.mark.parametrize("world", [{"body_bytes": LIMIT_BYTES}], indirect=True)
async def test_a_body_is_as_large_as_the_config_lets_it_be(api: Api) -> None:
    for size_bytes, answer in ((LIMIT_BYTES, 200), (LIMIT_BYTES + 1, 413)):
        status, _ = await _patch_raw(api, b'{"comment": "after"}'.ljust(size_bytes))
        assert status == answer


@pytest.mark.parametrize("name", ["", "ab", "a" * 101, "a b c", "ünï", "abc\n", "a/b", "a.b"])
async def test_bad_name(name: str, api: Api) -> None:
    status, body = await _patch_raw(api, json.dumps({"name": name}).encode())
    assert (status, body["code"]) == (400, "INVALID_CONTAINER_NAME")
    assert list(body["details"]) == ["name"]


@pytest.mark.parametrize("bad", ["", "x", "A" * 24, "0" * 23, "0" * 25, "0" * 23 + "\n", "g" * 24])
async def test_bad_ids(bad: str, api: Api) -> None:
    source = await api.world.container()
    reply = await api.post(f"/containers/{source.id}/copy", {"target_project_id": bad})
    assert reply.refusal == (400, "INVALID_ID_FORMAT")
    reply = await api.get("/containers", params={"project_id": bad})
    assert reply.refusal == (400, "INVALID_ID_FORMAT")


async def test_no_body_is_an_empty_object(api: Api) -> None:
    container = await api.world.container()
    assert (await api.post(f"/containers/{container.id}/stop")).status == 200
    reply = await api.post("/projects")
    assert reply.refusal == (400, "VALIDATION_ERROR")
    assert reply.body["details"] == {"name": "is required"}


async def test_a_body_where_none_belongs(api: Api) -> None:
    source = await api.world.container()
    copied = await api.world.copy_of(source)
    path = f"/containers/{copied.id}/sync"
    assert (await api.post(path, {"force": True})).refusal == (400, "VALIDATION_ERROR")
    assert (await api.post(path, {})).status == 200


async def test_null_is_absent(api: Api) -> None:
    source = await api.world.container()
    body = {"target_project_id": api.world.home.id}
    body |= dict.fromkeys(
        ("target_server_id", "name", "ssh_public_key", "source_snapshot", "copy_firewall_rules")
    )
    assert (await api.post(f"/containers/{source.id}/copy", body)).status == 201
    reply = await api.post(f"/containers/{source.id}/copy", {"target_project_id": None})
    assert reply.body["details"] == {"target_project_id": "is required"}


BAD_QUERIES = [
    ("/containers", {"limit": "9" * 5000}),
    ("/containers", {"status": "sleeping"}),
    ("/jobs", {"state": "done"}),
    ("/jobs", {"type": "dance"}),
    ("/projects", {"status": "running"}),
    ("/servers", {"limit": "all"}),
]


@pytest.mark.parametrize(("path", "params"), BAD_QUERIES, ids=lambda case: str(case)[:40])
async def test_bad_query(path: str, params: Any, api: Api) -> None:
    reply = await api.get(path, params=params)
    assert reply.refusal == (400, "VALIDATION_ERROR")
    assert reply.body["details"]


async def test_a_query_where_none_belongs(api: Api) -> None:
    container = await api.world.container()
    for path in (f"/containers/{container.id}?verbose=1", f"/projects/{api.world.home.id}?x="):
        assert (await api.get(path)).refusal == (400, "VALIDATION_ERROR")
