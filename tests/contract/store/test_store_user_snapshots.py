"""User snapshots: what a container lists, who may take which name, what expires and is needed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from daemon.errors import CatalogueError, Conflict
from daemon.model import JobType, UserSnapshot, new_id
from daemon.states import Move
from daemon.store import containers, servers, user_snapshots
from tests.contract.store.catalogue import T0, Catalogue, after


def entry(container_id: str, name: str, **fields: object) -> UserSnapshot:
    known: dict[str, object] = {
        "container_id": container_id,
        "id": new_id(),
        "name": name,
        "guid": name,
        "sequence": 1,
        "created_at": T0,
    }
    return UserSnapshot(**(known | fields))


async def listed(catalogue: Catalogue, container_id: str) -> list[str]:
    return [one.name for one in await catalogue.read(user_snapshots.listed, container_id)]


async def add(catalogue: Catalogue, container_id: str, name: str, **fields: object) -> UserSnapshot:
    made = entry(container_id, name, **fields)
    await catalogue.write(user_snapshots.insert, made)
    return made


# --- lists ---------------------------------------------------------------------------------------


async def test_every_field_of_an_entry_comes_back(catalogue: Catalogue) -> None:
    web = (await catalogue.add_container()).id
    full = await add(
        catalogue,
        web,
        "snap-20260102-030405",
        guid=str(2**64 - 1),
        sequence=1 << 40,
        alias="ß \N{SNOWMAN} '\"\\ ",
        last_used_at=after(1),
        expires_at=after(0.001),
        inherited=True,
        referenced_bytes=1 << 60,
        unique_bytes=1 << 50,
        inconsistent_files=3,
    )
    bare = await add(catalogue, web, "bare")
    assert await catalogue.read(user_snapshots.get, web, full.id) == full
    assert await catalogue.read(user_snapshots.get, web, bare.id) == bare
    assert await catalogue.read(user_snapshots.get, new_id(), full.id) is None


async def test_a_list_is_one_containers_and_newest_first(catalogue: Catalogue) -> None:
    """The order is that of their making, whatever the clock said, and whatever the name says."""
    web, db = [(await catalogue.add_container(name)).id for name in ("web", "db")]
    away = (await catalogue.add_container("away", server_id=catalogue.there.id)).id
    second = await add(catalogue, web, "b", sequence=2, created_at=after(9))
    await add(catalogue, web, "c", sequence=3, created_at=after(5))
    await add(catalogue, web, "a", sequence=1, created_at=after(7))
    await add(catalogue, db, "d", id=second.id, sequence=4)
    await add(catalogue, away, "e", id=second.id)
    assert await listed(catalogue, web) == ["c", "b", "a"]
    assert await listed(catalogue, db) == ["d"]
    everything = await catalogue.read(user_snapshots.of_server, catalogue.here.id)
    assert [one.name for one in everything] == ["d", "c", "b", "a"]


async def test_a_list_goes_with_its_container_and_with_its_server(catalogue: Catalogue) -> None:
    """A list that nobody has would keep snapshots on other servers for ever."""
    web, db = [(await catalogue.add_container(name)).id for name in ("web", "db")]
    away = (await catalogue.add_container("away", server_id=catalogue.there.id)).id
    for container_id in (web, db, away):
        await add(catalogue, container_id, "a")
    await catalogue.write(containers.delete, web)
    await catalogue.write(servers.remove, catalogue.there.id)
    assert await catalogue.read(user_snapshots.had, web) == set()
    assert await catalogue.read(user_snapshots.had, away) == set()
    assert await listed(catalogue, db) == ["a"]
    with pytest.raises(CatalogueError):
        await add(catalogue, web, "b")


async def test_a_snapshot_is_listed_once(catalogue: Catalogue) -> None:
    web = (await catalogue.add_container()).id
    first = await add(catalogue, web, "a")
    with pytest.raises(CatalogueError) as caught:
        await catalogue.write(user_snapshots.insert, replace(first, name="b"))
    assert not isinstance(caught.value, Conflict)


# --- names ---------------------------------------------------------------------------------------


async def test_a_name_is_taken_once_in_a_list(catalogue: Catalogue) -> None:
    web, db = [(await catalogue.add_container(name)).id for name in ("web", "db")]
    first = await add(catalogue, web, "a", inherited=True)
    other = await add(catalogue, web, "b")
    await add(catalogue, db, "a")
    with pytest.raises(Conflict) as caught:
        await add(catalogue, web, "a")
    assert caught.value.rule == "snapshot_name"
    with pytest.raises(Conflict):
        await catalogue.write(user_snapshots.change, web, other.id, name="a")
    assert await catalogue.read(user_snapshots.names, web) == {"a", "b"}
    await catalogue.write(user_snapshots.drop, first)
    assert await catalogue.read(user_snapshots.names, web) == {"b"}
    again = await add(catalogue, web, "a", inherited=True)
    await catalogue.write(user_snapshots.drop, again)
    assert await listed(catalogue, web) == ["b"]


async def test_a_reference_is_a_name_or_else_an_alias(catalogue: Catalogue) -> None:
    web = (await catalogue.add_container()).id
    old = await add(catalogue, web, "a", alias="nightly", sequence=1)
    new = await add(catalogue, web, "b", alias="nightly", sequence=2)
    misleading = await add(catalogue, web, "c", alias="a", sequence=3)

    async def called(reference: str, container_id: str = web) -> list[UserSnapshot]:
        return await catalogue.read(user_snapshots.called, container_id, reference)

    assert await called("a") == [old]
    assert await called("nightly") == [new, old]
    assert await called("Nightly") == await called("") == await called("a", new_id()) == []
    await catalogue.write(user_snapshots.drop, old)
    assert await called("a") == [misleading]
    assert await called("nightly") == [new]


# --- changed and dropped -------------------------------------------------------------------------


async def test_a_change_is_of_one_entry_that_is_listed(catalogue: Catalogue) -> None:
    web, db = [(await catalogue.add_container(name)).id for name in ("web", "db")]
    mine = await add(catalogue, web, "a", inherited=True, alias="x")
    theirs = await add(catalogue, db, "a", id=mine.id)
    assert await catalogue.write(
        user_snapshots.change, web, mine.id, alias=None, last_used_at=after(2), unique_bytes=7
    )
    changed = replace(mine, alias=None, last_used_at=after(2), unique_bytes=7)
    assert await catalogue.read(user_snapshots.get, web, mine.id) == changed
    assert await catalogue.read(user_snapshots.get, db, mine.id) == theirs
    await catalogue.write(user_snapshots.drop, changed)
    assert not await catalogue.write(user_snapshots.change, web, mine.id, alias="y")
    assert not await catalogue.write(user_snapshots.change, web, new_id(), alias="y")


@pytest.mark.parametrize("inherited", [False, True])
async def test_what_is_dropped_is_gone_and_remembered_where_a_sync_could_bring_it(
    catalogue: Catalogue, inherited: bool
) -> None:
    web, db = [(await catalogue.add_container(name)).id for name in ("web", "db")]
    gone = await add(catalogue, web, "a", inherited=inherited, expires_at=T0)
    kept = await add(catalogue, web, "b")
    theirs = await add(catalogue, db, "a", id=gone.id, inherited=inherited)
    for _ in range(2):
        await catalogue.write(user_snapshots.drop, gone)
        assert await listed(catalogue, web) == ["b"]
        assert await catalogue.read(user_snapshots.get, web, gone.id) is None
        remembered = {kept.id, gone.id} if inherited else {kept.id}
        assert await catalogue.read(user_snapshots.had, web) == remembered
    assert await catalogue.read(user_snapshots.of_server, catalogue.here.id) == sorted(
        [kept, theirs], key=lambda one: one.id
    )
    assert await catalogue.read(user_snapshots.expired, catalogue.here.id, after(9)) == []


async def test_what_was_dropped_is_forgotten_when_nobody_could_bring_it_back(
    catalogue: Catalogue,
) -> None:
    web, db = [(await catalogue.add_container(name)).id for name in ("web", "db")]
    one, two, three = [await add(catalogue, web, name, inherited=True) for name in "abc"]
    theirs = await add(catalogue, db, "a", id=one.id, inherited=True)
    for dropped in (one, two, theirs):
        await catalogue.write(user_snapshots.drop, dropped)
    await catalogue.write(user_snapshots.forget_dropped, web, {two.id, new_id()})
    assert await catalogue.read(user_snapshots.had, web) == {two.id, three.id}
    await catalogue.write(user_snapshots.forget_dropped, web, [])
    assert await catalogue.read(user_snapshots.had, web) == {three.id}
    assert await catalogue.read(user_snapshots.had, db) == {one.id}


# --- what expires --------------------------------------------------------------------------------


async def test_what_is_over_and_what_is_next(catalogue: Catalogue) -> None:
    here = catalogue.here.id
    web, db = [(await catalogue.add_container(name)).id for name in ("web", "db")]
    away = (await catalogue.add_container("away", server_id=catalogue.there.id)).id
    await add(catalogue, web, "endless")
    first = await add(catalogue, web, "first", expires_at=after(1), sequence=1)
    second = await add(catalogue, db, "second", expires_at=after(2), sequence=2, inherited=True)
    await add(catalogue, away, "elsewhere", expires_at=after(1.5))

    async def over(seconds: float) -> list[UserSnapshot]:
        return await catalogue.read(user_snapshots.expired, here, after(seconds))

    async def soonest(seconds: float) -> object:
        return await catalogue.read(user_snapshots.next_expiry, here, after(seconds))

    assert [await over(seconds) for seconds in (0.999, 1, 2)] == [[], [first], [second, first]]
    assert [await soonest(seconds) for seconds in (0, 0.999, 1, 1.999, 2)] == [
        after(1),
        after(1),
        after(2),
        after(2),
        None,
    ]
    await catalogue.write(user_snapshots.drop, second)
    assert await soonest(1) is None
    assert await catalogue.read(user_snapshots.next_expiry, new_id(), T0) is None


@pytest.mark.parametrize("end", [Move.SUCCEED, Move.FAIL, Move.CANCEL])
async def test_what_a_job_reads_is_over_when_that_has_ended(
    catalogue: Catalogue, end: Move
) -> None:
    """The job may be any container's, on any server; it names the snapshot by its id."""
    web, db = [(await catalogue.add_container(name)).id for name in ("web", "db")]
    read = await add(catalogue, web, "a", expires_at=T0, sequence=2)
    other = await add(catalogue, db, "b", expires_at=T0, sequence=1)
    there = catalogue.there.id
    await catalogue.add_job(JobType.COPY, server_id=there, params={"snapshot": read.id})
    await catalogue.add_job(params={"snapshot": None})
    over = [await catalogue.read(user_snapshots.expired, catalogue.here.id, T0)]
    job = await catalogue.claim(server_id=there)
    assert job is not None
    over.append(await catalogue.read(user_snapshots.expired, catalogue.here.id, T0))
    await catalogue.move(job, end)
    over.append(await catalogue.read(user_snapshots.expired, catalogue.here.id, T0))
    assert over == [[other], [other], [read, other]]


# --- what is needed ------------------------------------------------------------------------------


async def test_a_server_needs_what_its_containers_and_their_sources_list(
    catalogue: Catalogue,
) -> None:
    here, there = catalogue.here.id, catalogue.there.id
    root = (await catalogue.add_container("root", server_id=there)).id
    source = (await catalogue.add_container("source", server_id=there, source_container_id=root)).id
    copy = (await catalogue.add_container("copy", source_container_id=source)).id
    orphan = (await catalogue.add_container("orphan", source_container_id=new_id())).id
    await add(catalogue, root, "of the source's source")
    came = await add(catalogue, source, "came", guid="1")
    await add(catalogue, source, "same state", guid="1")
    await add(catalogue, source, "new", guid="2")
    gone = await add(catalogue, source, "gone", guid="3", inherited=True)
    dropped = replace(came, container_id=copy, inherited=True)
    await catalogue.write(user_snapshots.insert, dropped)
    own = await add(catalogue, copy, "own", guid="4")
    await add(catalogue, orphan, "alone", guid="5")
    for one in (gone, dropped):
        await catalogue.write(user_snapshots.drop, one)

    async def needed(server_id: str) -> set[str]:
        return await catalogue.read(user_snapshots.needed_on, server_id)

    assert await needed(here) == {"1", "2", "4", "5"}
    assert await needed(there) == {"1", "2", "of the source's source"}
    await catalogue.write(user_snapshots.drop, own)
    await catalogue.write(containers.delete, source)
    assert await needed(here) == {"5"}
    assert await needed(there) == {"of the source's source"}
    assert await needed(new_id()) == set()


async def test_a_guid_is_needed_as_long_as_one_list_has_it(catalogue: Catalogue) -> None:
    """A copy on the same server lists the same snapshots: each list keeps them by itself."""
    here = catalogue.here.id
    source = (await catalogue.add_container("source")).id
    copy = (await catalogue.add_container("copy", source_container_id=source)).id
    theirs = await add(catalogue, source, "a", guid="1")
    mine = replace(theirs, container_id=copy, inherited=True)
    await catalogue.write(user_snapshots.insert, mine)
    seen = []
    for gone in (theirs, mine):
        await catalogue.write(user_snapshots.drop, gone)
        seen.append(await catalogue.read(user_snapshots.needed_on, here))
    assert seen == [{"1"}, set()]
