"""Names and aliases: what can be one, and which snapshot is meant, in a path and in a copy."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import pytest

from daemon.model import Container, JobType, Status, UserSnapshot
from tests.contract.api.api_world import V1, Api
from tests.contract.api.played_engine import playing

AT = datetime(2025, 1, 15, 10, 30, tzinfo=UTC)


def base(container: Container) -> str:
    """The path of a container's list."""
    return f"/containers/{container.id}/snapshots"


GOOD_ALIASES = ["a", "x" * 100, "pre deploy", "v1.2 {rc}", "größe 50%", "👩‍💻", "a?b#c&d=e+f"]
GOOD_ALIASES += ["%2F", "Snap-1", "snap", "\u00a0", "..."]
BAD_ALIASES: list[Any] = ["", "x" * 101, "a/b", "a\nb", "\u0000", "\x7f", "\x85", "snap-", "snap-x"]
BAD_ALIASES += [5, True, ["a"], {"a": 1}]


@pytest.mark.parametrize("alias", GOOD_ALIASES)
async def test_good_alias(alias: str, api: Api) -> None:
    """It is kept as it is, and can be said in a path."""
    container = await api.world.container()
    made = await api.world.snapshot(container)
    reply = await api.patch(f"{base(container)}/{made.name}/alias", {"alias": alias})
    assert reply.data["snapshot"]["alias"] == alias
    path = f"{base(container)}/{quote(alias, safe='')}"
    assert (await api.patch(f"{path}/alias", {"alias": alias})).status == 200
    async with playing(api.world):
        assert (await api.post(base(container), {"alias": alias})).status == 200
        reply = await api.patch(path)
    assert reply.data["snapshot"]["alias"] == alias


@pytest.mark.parametrize("alias", BAD_ALIASES, ids=lambda alias: repr(alias)[:20])
async def test_bad_alias(alias: Any, api: Api) -> None:
    container = await api.world.container()
    made = await api.world.snapshot(container)
    for method, path in (("POST", ""), ("PATCH", f"/{made.name}/alias")):
        reply = await api.ask(method, base(container) + path, {"alias": alias})
        assert reply.refusal == (400, "VALIDATION_ERROR")
        assert next(iter(reply.body["details"])).startswith("alias")
    assert await api.world.listed(container) == [made]


async def test_alias_set_changed_and_removed(api: Api) -> None:
    container = await api.world.container()
    made = await api.world.snapshot(container, alias="before", last_used_at=AT)
    other = await api.world.snapshot(container, "snap-other")
    path = f"{base(container)}/{made.name}/alias"
    for alias in ("production-baseline", "production-baseline", None, None):
        reply = await api.patch(path, {"alias": alias})
        assert (reply.status, reply.body["message"]) == (
            200,
            "Snapshot alias updated successfully",
        )
        shown = reply.data["snapshot"]
        of = {"container_id": container.id, "project_id": container.project_id}
        assert reply.data == of | {"snapshot": shown}
        assert (shown["name"], shown["alias"]) == (made.name, alias)
        assert shown["last_used_at"] == "2025-01-15T10:30:00.000Z"
        stored = {one.name: one.alias for one in await api.world.listed(container)}
        assert stored == {made.name: alias, other.name: None}
    assert await api.world.all_jobs() == []


@pytest.mark.parametrize("body", [None, {}, {"aliases": "x"}])
async def test_an_alias_is_said(body: Any, api: Api) -> None:
    container = await api.world.container()
    made = await api.world.snapshot(container, alias="kept")
    reply = await api.patch(f"{base(container)}/{made.name}/alias", body)
    assert reply.refusal == (400, "VALIDATION_ERROR")
    assert reply.body["details"]["alias"] == "is required"
    assert await api.world.listed(container) == [made]


async def _three(api: Api, container: Container) -> list[UserSnapshot]:
    """Two have the alias `daily`; the newest of the three has another."""
    first = await api.world.snapshot(container, "snap-1", alias="daily")
    second = await api.world.snapshot(container, "snap-2", alias="daily")
    third = await api.world.snapshot(container, "snap-3", alias="weekly")
    return [first, second, third]


async def test_of_two_with_one_alias_the_newest_is_meant(api: Api) -> None:
    container = await api.world.container()
    first, second, _third = await _three(api, container)
    async with playing(api.world):
        restored = (await api.patch(f"{base(container)}/daily")).data["snapshot"]
        assert restored["name"] == second.name
        reply = await api.patch(f"{base(container)}/daily/alias", {"alias": "kept"})
        assert reply.data["snapshot"]["name"] == second.name
        reply = await api.delete(f"{base(container)}/daily")
        assert reply.data["snapshot_name"] == first.name


async def test_delete_does_not_guess(api: Api) -> None:
    container, other = await api.world.container(), await api.world.container("other")
    three = await _three(api, container)
    await api.world.snapshot(other, "snap-9", alias="weekly")
    reply = await api.delete(f"{base(container)}/daily")
    assert reply.refusal == (409, "SNAPSHOT_ALIAS_AMBIGUOUS")
    assert reply.body["details"]["snapshots"] == ["snap-2", "snap-1"]
    assert await api.world.listed(container) == three[::-1]
    assert await api.world.all_jobs() == []
    async with playing(api.world):
        for said in ("snap-1", "weekly", "daily"):
            assert (await api.delete(f"{base(container)}/{said}")).status == 200
    assert await api.world.listed(container) == []


async def test_snapshots_of_another_container_are_not_found(api: Api) -> None:
    container, other = await api.world.container(), await api.world.container("other")
    made = await api.world.snapshot(other, alias="theirs")
    for said in (made.name, "theirs"):
        for method, end in (("PATCH", ""), ("PATCH", "/alias"), ("DELETE", "")):
            body = {"alias": "x"} if end else None
            reply = await api.ask(method, f"{base(container)}/{said}{end}", body)
            assert reply.refusal == (404, "RESOURCE_NOT_FOUND")


@pytest.mark.parametrize("said", ["x" * 101, "a%2Fb", "a%0Ab", "%00", "%7F"])
@pytest.mark.parametrize(("method", "end"), [("PATCH", ""), ("PATCH", "/alias"), ("DELETE", "")])
async def test_what_cannot_be_a_name(method: str, end: str, said: str, api: Api) -> None:
    container = await api.world.container()
    body = {"alias": "x"} if end else None
    reply = await api.ask(method, f"{base(container)}/{said}{end}", body)
    assert reply.refusal == (400, "VALIDATION_ERROR")
    assert list(reply.body["details"]) == ["name"]


async def test_bytes_that_are_no_text_are_refused(api: Api) -> None:
    """As no client library would send them."""
    container = await api.world.container()
    url = api.client.make_url("/")
    reader, writer = await asyncio.open_connection(url.host, url.port)
    head = f"DELETE {V1}{base(container)}/".encode() + b"\xff HTTP/1.1\r\nHost: x\r\n"
    writer.write(head + f"Authorization: Bearer {api.world.token()}\r\n\r\n".encode())
    status = (await reader.readline()).split()[1]
    writer.close()
    await writer.wait_closed()
    assert status in (b"400", b"404")


async def test_names_are_said_in_a_copy(api: Api) -> None:
    """`source_snapshot` takes a name or an alias, and what the copy is of is shown by name."""
    container = await api.world.container()
    first, second, third = await _three(api, container)
    for said, meant in (("snap-1", first), ("daily", second), ("weekly", third)):
        body = {"target_project_id": api.world.work.id, "source_snapshot": said}
        reply = await api.post(f"/containers/{container.id}/copy", body)
        assert reply.status == 201
        assert reply.data["source_snapshot"] == meant.name
        made = {job.container_id: job for job in await api.world.all_jobs()}
        job = made[reply.data["id"]]
        assert (job.type, job.source_container_id) == (JobType.COPY, container.id)
        assert job.params == {"strategy": "auto", **_state(meant)}


def _state(snapshot: UserSnapshot) -> dict[str, object]:
    return {
        "snapshot": snapshot.id,
        "guid": snapshot.guid,
        "sequence": snapshot.sequence,
        "taken_at": snapshot.created_at.isoformat(),
    }


@pytest.mark.parametrize(
    ("said", "refusal"),
    [(said, (404, "RESOURCE_NOT_FOUND")) for said in ("snap-4", "x", "daily ")]
    + [(said, (400, "VALIDATION_ERROR")) for said in ("", "x" * 101, "a/b", "a\nb")],
)
async def test_a_copy_of_no_snapshot(said: str, refusal: tuple[int, str], api: Api) -> None:
    container, other = await api.world.container(), await api.world.container("other")
    await _three(api, container)
    await api.world.snapshot(other, "snap-4", alias="x")
    body = {"target_project_id": api.world.work.id, "source_snapshot": said}
    reply = await api.post(f"/containers/{container.id}/copy", body)
    assert reply.refusal == refusal
    assert list(reply.body["details"]) == ["source_snapshot"]
    assert await api.world.all_jobs() == []


async def test_a_failed_copy_of_a_snapshot_is_done_again_as_first_asked(api: Api) -> None:
    world = api.world
    source = await world.container()
    failed = {"status": Status.ERROR, "generation_id": None, "source_snapshot": "snap-1"}
    copied = await world.copy_of(source, **failed)
    reply = await api.post(f"/containers/{copied.id}/sync")
    assert reply.refusal == (404, "RESOURCE_NOT_FOUND")
    assert await world.stored(copied.id) == copied
    first, *_others = await _three(api, source)
    assert (await api.post(f"/containers/{copied.id}/sync")).status == 200
    job = await world.the_job()
    assert (job.type, job.params) == (JobType.COPY, {"strategy": "auto", **_state(first)})


async def test_a_sync_of_a_copy_of_a_snapshot_takes_the_current_state(api: Api) -> None:
    source = await api.world.container()
    copied = await api.world.copy_of(source, source_snapshot="snap-deleted-since")
    assert (await api.post(f"/containers/{copied.id}/sync")).status == 200
    assert (await api.world.the_job()).params == {"strategy": "auto", "was": "running"}
