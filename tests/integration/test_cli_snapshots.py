"""`hoody snapshots`, and copies of them, as processes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from daemon.model import Json
from daemon.states import Move
from tests.contract.api.played_engine import playing
from tests.integration.hoody_site import BROKEN, Site, site_at, with_engine


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with site_at(tmp_path) as made:
        yield made


async def test_snapshots_from_the_first_to_the_last(site: Site) -> None:
    web = await site.world.container("web")
    async with playing(site.world):
        making = ("snapshots", "create", "--container", "web", "--alias", "v1 {rc}?")
        ran = (await site.hoody(*making, "--expiry", "30.5")).good()
        (made,) = await site.world.listed(web)
        assert ran.out == f"{made.name}\n"
        assert ran.err == "3 files changed as they were read\n"
        assert made.expires_at == made.created_at + timedelta(days=30.5)
        table = (await site.hoody("snapshots", "list", "web")).good().out.splitlines()
        assert table[0].split()[:4] == ["NAME", "ALIAS", "CREATED", "EXPIRES"]
        assert table[1].startswith(f"{made.name}   v1 {{rc}}?   ")
        assert "in 30 d" in table[1]
        ran = (await site.hoody("snapshots", "restore", web.id[:8], "v1 {rc}?")).good()
        assert ran.out == f"{web.id[:8]}: restored {made.name}\n"
        ran = (await site.hoody("snapshots", "alias", "web", "v1 {rc}?", "production")).good()
        assert ran.out == f"{made.name}: production\n"
        ran = (await site.hoody("snapshots", "delete", "web", "production")).good()
        assert ran.out == f"web: deleted {made.name}\n"
    assert (await site.hoody("snapshots", "list", "web")).good().out == "no snapshots\n"


async def test_snapshots_as_json_are_the_apis_data(site: Site) -> None:
    web = await site.world.container("web")
    old = await site.world.snapshot(web, alias="old")
    of = {"container_id": web.id, "project_id": web.project_id}
    async with playing(site.world):
        ran = await site.hoody("snapshots", "create", "--container", web.id, "--json")
        made = ran.good().json["snapshot"]
        assert ran.json == of | {"snapshot": made}
        listed = (await site.hoody("snapshots", "list", "web", "--json")).good().json
        assert [one["name"] for one in listed["snapshots"]] == [made["name"], old.name]
        ran = await site.hoody("snapshots", "restore", "web", "old", "--json")
        assert ran.good().json["success"] is True
        ran = await site.hoody("snapshots", "alias", "web", "old", "--remove", "--json")
        assert ran.good().json["snapshot"]["alias"] is None
        ran = await site.hoody("snapshots", "delete", "web", old.name, "--json")
        assert ran.good().json == of | {"snapshot_name": old.name}


async def test_what_is_no_snapshot(site: Site) -> None:
    web = await site.world.container("web")
    await site.world.snapshot(web)
    for verb in ("restore", "delete"):
        ran = await site.hoody("snapshots", verb, "web", "nothing")
        assert (ran.code, ran.out) == (3, "")
        assert ran.err.startswith("hoody: RESOURCE_NOT_FOUND: Snapshot not found")
        assert ran.err.endswith(f"; run: hoody snapshots list {web.id}\n")
        # In a path these would name the container.
        for name in (".", "..", ""):
            assert (await site.hoody("snapshots", verb, "web", name)).code == 2
    for arguments in ([], ["new", "--remove"]):
        ran = await site.hoody("snapshots", "alias", "web", "nothing", *arguments)
        assert ran.code == 2
    assert await site.world.all_jobs() == []


async def test_a_snapshot_that_fails_is_exit_4(site: Site) -> None:
    await site.world.container("web")
    async with playing(site.world) as engine:
        engine.move, engine.error = Move.FAIL, BROKEN
        ran = await site.hoody("snapshots", "create", "--container", "web")
    assert (ran.code, ran.out) == (4, "")
    assert ran.err.startswith("web: snapshot failed: PEER_UNREACHABLE: no answer; run: hoody ")


async def test_a_snapshot_that_outlasts_its_request_is_waited_for(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.api.waiting.WAIT_SECONDS", 0)
    await site.world.container("web")
    result: Json = {"snapshot": "snap-20260115-103000", "inconsistent_files": 0}
    making = site.hoody("snapshots", "create", "--container", "web")
    ran = (await with_engine(making, site.settle(Move.SUCCEED, result=result))).good()
    assert (ran.out, ran.err) == ("snap-20260115-103000\n", "web: snapshot done\n")


async def test_copy_takes_a_snapshot_by_name_or_alias(site: Site) -> None:
    web = await site.world.container("web")
    made = await site.world.snapshot(web, alias="good")
    for said in (made.name, "good"):
        copying = ("containers", "copy", "web", "--target-project-id", "work", "--no-wait")
        ran = await site.hoody(*copying, "--source-snapshot", said, "--json")
        assert ran.good().json["source_snapshot"] == made.name
