"""`hoody proxy`, as processes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.hoody_site import Site, site_at

COLUMNS = ["ID", "ALIAS", "CONTAINER", "PROGRAM", "INDEX", "PATH", "PROJECT"]
CREATE = ("proxy", "create", "--alias", "prod", "--program", "web")


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with site_at(tmp_path) as made:
        yield made


async def test_aliases_from_the_first_to_the_last(site: Site) -> None:
    web = await site.world.container("web")
    assert (await site.hoody("proxy", "list")).good().out == "no proxy aliases\n"
    where = ("--index", "2", "--target-path", "/[app]")
    made = (await site.hoody(*CREATE, "--container-id", web.id[:8], *where)).good()
    header, line = (await site.hoody("proxy", "list")).good().out.splitlines()
    assert header.split() == [*COLUMNS, "CREATED"]
    wanted = [made.out.strip(), "prod", "web", "web", "2", "/[app]", "home"]
    assert line.split()[: len(COLUMNS)] == wanted
    taken = await site.hoody(*CREATE, "--container-id", "web")
    assert (taken.code, taken.out) == (3, "")
    assert taken.err.startswith("hoody: PROXY_ALIAS_IN_USE: ")
    assert taken.err.endswith("; run: hoody proxy list\n")
    assert (await site.hoody("proxy", "delete", "prod")).good().out == "prod: deleted\n"
    assert (await site.hoody("proxy", "list", "--json")).good().json == []


async def test_aliases_as_json_are_the_apis_data(site: Site) -> None:
    web = await site.world.container("web")
    beside = await site.world.container("beside", project_id=site.world.work.id)
    made = (await site.hoody(*CREATE, "--container-id", "web", "--json")).good().json
    assert (made["container_id"], made["index"], made["target_path"]) == (web.id, 1, "/")
    other = await site.world.alias(beside, "test")
    listed = (await site.hoody("proxy", "list", "--json")).good().json
    assert [one["alias"] for one in listed] == ["test", "prod"]
    for given, wanted in ((("--container", "web"), made["id"]), (("--project", "work"), other.id)):
        listed = (await site.hoody("proxy", "list", *given, "--json")).good().json
        assert [one["id"] for one in listed] == [wanted]
    gone = (await site.hoody("proxy", "delete", made["id"], "--json")).good().json
    assert gone == made


async def test_an_alias_is_deleted_by_what_names_one_alone(site: Site) -> None:
    web = await site.world.container("web")
    beside = await site.world.container("web", project_id=site.world.work.id)
    mine, other = await site.world.alias(web, "prod"), await site.world.alias(beside, "prod")
    ran = await site.hoody("proxy", "delete", "prod")
    assert ran.code == 2
    words = " ".join(ran.err.split())
    for alias in (mine, other):
        assert f"{alias.id} of container {alias.container_id}" in words
    assert (await site.hoody("proxy", "delete", mine.id[:16])).good().out == "prod: deleted\n"
    assert (await site.hoody("proxy", "delete", "prod")).good().out == "prod: deleted\n"
    ran = await site.hoody("proxy", "delete", "prod")
    assert ran.code == 3
    assert "none of your proxy aliases is called 'prod'; run: hoody proxy list" in ran.err
    ran = await site.hoody("proxy", "delete", other.id)
    assert ran.err.startswith("hoody: RESOURCE_NOT_FOUND: Proxy alias not found; run: hoody ")


async def test_what_is_needed_must_be_given(site: Site) -> None:
    await site.world.container("web")
    for missing in ("--container-id", "--alias", "--program"):
        given = {"--container-id": "web", "--alias": "a", "--program": "p"}
        del given[missing]
        words = [word for pair in given.items() for word in pair]
        ran = await site.hoody("proxy", "create", *words)
        assert (ran.code, missing in ran.err) == (2, True)
    ran = await site.hoody(*CREATE, "--container-id", "web", "--target-path", "app")
    assert (ran.code, "target_path must begin with /" in ran.err) == (3, True)
