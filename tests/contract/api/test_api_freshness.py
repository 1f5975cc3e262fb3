"""Whatever shows copies has filesystems looked at, by whoever serves them, and never for long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import cast

import pytest
from sqlalchemy import text

from daemon.api import freshness
from daemon.client import Client, Json
from daemon.commands.containers import lineage
from daemon.model import Container, LookRow, now
from daemon.store import looks, servers
from tests.contract.api.api_world import Api, World, make_server

POLL_SECONDS = 0.01


@pytest.fixture
async def source(api: Api) -> Container:
    return await api.world.container(updated_at=now() - timedelta(hours=1))


async def known(world: World, container: Container) -> LookRow:
    async with world.db.read() as tx:
        return await looks.get(tx, container.id)


async def forget(world: World, container: Container, seconds: float) -> None:
    """Makes the last look that was asked for older."""
    row = await known(world, container)
    assert row.asked_at is not None
    async with world.db.write() as tx:
        await looks.ask(tx, container.id, row.asked_at - timedelta(seconds=seconds))


@asynccontextmanager
async def keepers(world: World, finds: bool) -> AsyncIterator[list[str]]:
    """Somebody who looks wherever he is asked to; the containers that he looked at."""
    looked: list[str] = []

    async def keep() -> None:
        while True:
            async with world.db.write() as tx:
                for server in await servers.every(tx):
                    for container in await looks.asked_on(tx, server.id):
                        looked.append(container.id)
                        at = now()
                        await looks.answered(tx, container.id, at)
                        if finds:
                            await looks.written(tx, container.id, at)
            await asyncio.sleep(POLL_SECONDS)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(keep())
        yield looked
        task.cancel()


async def test_a_get_shows_what_its_look_found(
    api: Api, source: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freshness, "WAIT_SECONDS", 30)
    at = now() - timedelta(seconds=5)
    copied = await api.world.copy_of(source, last_synced_at=at)
    async with keepers(api.world, finds=True) as looked:
        assert (await api.get(f"/containers/{copied.id}")).data["sync_state"] == "behind"
        shown = (await api.get(f"/containers/{source.id}")).data["updated_at"]
    assert looked == [source.id]
    assert shown > at.isoformat()


async def in_list(api: Api, copied: Container) -> object:
    listed = (await api.get("/containers", params={"limit": 1})).data["containers"]
    assert [one["id"] for one in listed] == [copied.id]
    return listed[0]["sync_state"]


async def in_tree(api: Api, copied: Container) -> object:
    async with Client(str(api.client.make_url("")), api.world.token()) as client:
        (root,) = lineage(await client.everything("containers"), None)
    (shown,) = cast("list[Json]", root["copies"])
    assert shown["id"] == copied.id
    return shown["sync_state"]


async def in_patch(api: Api, copied: Container) -> object:
    changed = await api.patch(f"/containers/{copied.id}", {"comment": "no more than this"})
    return changed.data["sync_state"]


@pytest.mark.parametrize("shown", [in_list, in_tree, in_patch])
async def test_whatever_shows_a_copy_shows_what_a_look_found(
    shown: Callable[[Api, Container], Awaitable[object]],
    api: Api,
    source: Container,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(freshness, "WAIT_SECONDS", 30)
    copied = await api.world.copy_of(source, last_synced_at=now() - timedelta(seconds=5))
    async with keepers(api.world, finds=True) as looked:
        assert await shown(api, copied) == "behind"
    assert looked == [source.id]


async def test_a_list_has_all_that_matter_looked_at_together(
    api: Api, source: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What only another page needs is not; and a list soon after asks for nothing."""
    other = await api.world.container("other")
    middle = await api.world.copy_of(source, "middle")
    leaves = [await api.world.copy_of(one, f"of-{one.name}") for one in (other, middle)]
    everyone = (source, other, middle, *leaves)

    async def asked() -> dict[str, LookRow]:
        rows = [await known(api.world, one) for one in everyone]
        return {one.name: row for one, row in zip(everyone, rows, strict=True) if row.pending}

    for limit, pending in (
        (1, {"middle"}),
        (2, {"middle", "other"}),
        (3, {"middle", "other", source.name}),
    ):
        await api.get(f"/containers?limit={limit}")
        assert (await asked()).keys() == pending
    before = await asked()
    monkeypatch.setattr(api.world.db, "write", None)  # which is not called
    assert (await api.get("/containers")).status == 200
    assert await asked() == before


async def test_at_most_one_look_in_sweep_seconds(api: Api, source: Container) -> None:
    copied = await api.world.copy_of(source)
    async with keepers(api.world, finds=False) as looked:
        for seconds, wanted in ((0, 1), (0, 1), (30, 1), (40, 2)):
            if seconds:
                await forget(api.world, source, seconds)
            for container in (source, copied, source):
                await api.get(f"/containers/{container.id}")
            await until_answered(api.world, source)
            assert looked == [source.id] * wanted
    assert (await api.world.stored(source.id)) == source  # reading is no change


async def until_answered(world: World, container: Container) -> None:
    async with asyncio.timeout(30):
        while (await known(world, container)).pending:
            await asyncio.sleep(POLL_SECONDS)


async def test_nobody_looks_where_nothing_depends_on_it(api: Api, source: Container) -> None:
    await api.get(f"/containers/{source.id}")
    orphan = await api.world.container("orphan", source_container_id="0" * 24)
    await api.get(f"/containers/{orphan.id}")
    await api.get("/containers")
    first = await api.world.copy_of(source, generation_id=None)
    assert await known(api.world, source) == LookRow(source.id)
    await api.get(f"/containers/{first.id}")
    assert (await known(api.world, source)).pending
    assert await known(api.world, first) == LookRow(first.id)


async def test_an_offline_server_is_not_asked(api: Api) -> None:
    away = make_server("away", last_heartbeat_at=now() - timedelta(hours=1))
    async with api.world.db.write() as tx:
        await servers.put(tx, away)
    source = await api.world.container(server_id=away.id)
    copied = await api.world.copy_of(source)
    for container in (source, copied):
        assert (await api.get(f"/containers/{container.id}")).status == 200
    assert await known(api.world, source) == LookRow(source.id)


async def test_a_look_that_never_ends_is_waited_for_once(
    api: Api, source: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    await api.world.copy_of(source)
    monkeypatch.setattr(freshness, "WAIT_SECONDS", 0.3)
    assert (await api.get(f"/containers/{source.id}")).status == 200
    assert (await known(api.world, source)).pending
    await forget(api.world, source, 1)
    monkeypatch.setattr(freshness, "POLL_SECONDS", 30)  # a wait would hang the test
    assert (await api.get(f"/containers/{source.id}")).status == 200


async def test_a_catalogue_that_takes_no_writes_still_answers(api: Api, source: Container) -> None:
    await api.world.copy_of(source)
    async with api.world.db.write() as tx:
        refuse = "CREATE TRIGGER full BEFORE INSERT ON looks BEGIN SELECT RAISE(ABORT, 'full'); END"
        await tx.execute(text(refuse))
    assert (await api.get(f"/containers/{source.id}")).status == 200
    assert await known(api.world, source) == LookRow(source.id)
