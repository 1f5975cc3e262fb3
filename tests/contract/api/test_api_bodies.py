"""Bodies and queries are read to the letter; nothing is guessed."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any

import pytest
from api_world import V1, Api

from daemon.model import new_id

BAD_BODIES = [
    (b"[]", "body"),
    (b'"text"', "body"),
    (b"null", "body"),
    (b"{", "body"),
    (b'{"name": "a"} x', "body"),
    (b'{"name": NaN}', "body"),
    (b'{"name": Infinity}', "body"),
    (b'{"name": -Infinity}', "body"),
    (b"\xff\xfe{}", "body"),
    (b'{"name": "\xff"}', "body"),
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
    (b'{"comment": "\\ud800"}', "body"),
    (b'{"color": "red"}', "color"),
    (b'{"sync_schedule": "every day"}', "sync_schedule"),
    (b'{"sync_schedule": "60 * * * *"}', "sync_schedule"),
    (b'{"sync_schedule": "*/0 * * * *"}', "sync_schedule"),
    (b'{"ssh_public_key": "ssh-dss AAAA"}', "ssh_public_key"),
    (b'{"ssh_public_key": ""}', "ssh_public_key"),
    (b'{"ssh_public_key": 7}', "ssh_public_key"),
    (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "body"),
    (b'{"autostart": ' + b"9" * 5000 + b"}", "body"),
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


MEDIA_TYPES = {
    "application/json": 200,
    "application/json; charset=utf-8": 200,
    "APPLICATION/JSON": 200,
    "application/merge-patch+json": 200,
    "application/x-www-form-urlencoded": 200,
    "text/plain": 415,
    "application/xml": 415,
    "multipart/form-data": 415,
    "nonsense": 415,
}


@pytest.mark.parametrize(("media_type", "wanted"), MEDIA_TYPES.items())
async def test_media_types(media_type: str, wanted: int, api: Api) -> None:
    content = b'{"comment": "after"}'
    status, body = await _patch_raw(api, content, **{"Content-Type": media_type})
    assert status == wanted
    assert wanted == 200 or body["code"] == "UNSUPPORTED_MEDIA_TYPE"


async def test_no_media_type(api: Api) -> None:
    container = await api.world.container()
    headers = {"Authorization": f"Bearer {api.world.token()}"}
    async with api.client.patch(
        f"{V1}/containers/{container.id}",
        data=b'{"comment": "after"}',
        headers=headers,
        skip_auto_headers=["Content-Type"],
    ) as answer:
        assert answer.status == 200


async def test_a_body_too_large(api: Api) -> None:
    content = b'{"comment": "' + b"x" * (1 << 20) + b'"}'
    status, body = await _patch_raw(api, content)
    assert (status, body["code"]) == (413, "PAYLOAD_TOO_LARGE")


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
    ("/containers", {"bogus": "1"}),
    ("/containers", {"page": "0"}),
    ("/containers", {"page": "-1"}),
    ("/containers", {"page": "1.0"}),
    ("/containers", {"page": " 1"}),
    ("/containers", {"page": "\u0661"}),
    ("/containers", {"page": ""}),
    ("/containers", {"limit": "0"}),
    ("/containers", {"limit": "101"}),
    ("/containers", {"limit": "9" * 5000}),
    ("/containers", {"status": "sleeping"}),
    ("/jobs", {"state": "done"}),
    ("/jobs", {"type": "dance"}),
    ("/projects", {"status": "running"}),
    ("/servers", {"limit": "all"}),
    ("/containers", [("page", "1"), ("page", "2")]),
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
