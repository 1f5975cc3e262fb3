"""What lies in the storages: datasets, snapshots, bases, holds, leases, and what waits to go."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from daemon.errors import CatalogueError, Conflict
from daemon.model import Base, DatasetRow, Job, Role, SnapshotRow, new_id
from daemon.states import Move
from daemon.store import bases, datasets, holdings, leases, snapshots, unneeded
from tests.contract.store.catalogue import T0, Catalogue, after


def dataset(server_id: str, **fields: object) -> DatasetRow:
    id = new_id()
    known: dict[str, object] = {
        "id": id,
        "server_id": server_id,
        "role": Role.MIRROR,
        "generation_id": new_id(),
        "path": f"mirrors/{id}",
        "created_at": T0,
    }
    return DatasetRow(**(known | fields))


def snapshot(server_id: str, **fields: object) -> SnapshotRow:
    known: dict[str, object] = {
        "id": new_id(),
        "server_id": server_id,
        "generation_id": "g" * 24,
        "container_id": "c" * 24,
        "job_id": "f" * 24,
        "sequence": 0,
    }
    return SnapshotRow(**(known | fields))


# --- datasets ------------------------------------------------------------------------------------


async def test_datasets_are_found_by_what_they_are(catalogue: Catalogue) -> None:
    here, there = catalogue.here.id, catalogue.there.id
    generation = dataset(here, role=Role.GENERATION, container_id="c" * 24, job_id="f" * 24)
    mirror = dataset(here, generation_id=generation.generation_id, created_at=after(1))
    remote = dataset(there, generation_id=generation.generation_id, path=mirror.path)
    for row in (mirror, generation, remote):
        await catalogue.write(datasets.insert, row)
    assert await catalogue.read(datasets.get, generation.id) == generation
    assert await catalogue.read(datasets.by_path, here, mirror.path) == mirror
    assert await catalogue.read(datasets.by_path, there, mirror.path) == remote
    assert await catalogue.read(datasets.by_path, here, "mirrors/none") is None
    assert await catalogue.read(datasets.on_server, here) == [generation, mirror]
    same = generation.generation_id
    assert await catalogue.read(datasets.of_generation, here, same) == [generation, mirror]
    assert await catalogue.read(datasets.of_generation, there, same) == [remote]
    assert await catalogue.read(datasets.of_container, "c" * 24) == [generation]


async def test_a_dataset_changes_and_goes(catalogue: Catalogue) -> None:
    row = dataset(catalogue.here.id)
    await catalogue.write(datasets.insert, row)
    assert await catalogue.write(datasets.change, row.id, ready=True, settled_guid="18")
    assert await catalogue.read(datasets.get, row.id) == replace(row, ready=True, settled_guid="18")
    for _ in range(2):
        await catalogue.write(datasets.delete, row.id)
    assert not await catalogue.write(datasets.change, row.id, ready=False)


async def test_a_path_is_used_once_on_a_server(catalogue: Catalogue) -> None:
    row = dataset(catalogue.here.id)
    await catalogue.write(datasets.insert, row)
    with pytest.raises(Conflict) as caught:
        await catalogue.write(datasets.insert, replace(row, id=new_id()))
    assert caught.value.rule == "dataset_path"


# --- strata --------------------------------------------------------------------------------------


async def test_a_dataset_is_found_by_every_generation_that_it_has_snapshots_of(
    catalogue: Catalogue,
) -> None:
    here, there = catalogue.here.id, catalogue.there.id
    grown = dataset(here, generation_id="own")
    mirror, remote = dataset(here, generation_id="below", created_at=after(1)), dataset(there)
    for row in (grown, mirror, remote):
        await catalogue.write(datasets.insert, row)
    assert await catalogue.read(datasets.generations, grown) == {"own"}
    for added in (["below", "own"], ["below", "below"], [], ["deeper"]):
        await catalogue.write(datasets.add_strata, grown, added)
    await catalogue.write(datasets.add_strata, remote, ["below"])
    assert await catalogue.read(datasets.generations, grown) == {"own", "below", "deeper"}

    async def found(generation_id: str, server_id: str = here) -> list[DatasetRow]:
        return await catalogue.read(datasets.of_generation, server_id, generation_id)

    assert await found("own") == [grown]
    assert await found("below") == [grown, mirror]
    assert await found("below", there) == [remote]
    assert await found("deeper") == [grown]
    assert await found("none") == []


async def test_strata_go_with_their_dataset(catalogue: Catalogue) -> None:
    row, kept = dataset(catalogue.here.id), dataset(catalogue.here.id)
    for made in (row, kept):
        await catalogue.write(datasets.insert, made)
        await catalogue.write(datasets.add_strata, made, ["below"])
    await catalogue.write(datasets.delete, row.id)
    assert await catalogue.read(datasets.generations, row) == {row.generation_id}
    assert await catalogue.read(datasets.generations, kept) == {kept.generation_id, "below"}
    with pytest.raises(CatalogueError):
        await catalogue.write(datasets.add_strata, row, ["below"])


# --- snapshots -----------------------------------------------------------------------------------


async def test_an_anchor_is_usable_for_jobs_that_were_made_before_it(catalogue: Catalogue) -> None:
    before = await catalogue.add_job()
    row = await catalogue.write(snapshots.insert, snapshot(catalogue.here.id))
    behind = await catalogue.add_job()
    assert before.sequence < row.sequence < behind.sequence

    async def usable(job: Job, container: str = "c", generation: str = "g") -> SnapshotRow | None:
        return await catalogue.read(
            snapshots.usable_anchor, container * 24, generation * 24, job.sequence
        )

    assert await usable(before) is None
    assert await catalogue.write(snapshots.taken, row.id, str(2**64 - 1), T0)
    taken = replace(row, guid=str(2**64 - 1), taken_at=T0)
    assert await usable(before) == taken
    assert await usable(behind) is None
    assert await usable(before, generation="h") is None
    assert await usable(before, container="d") is None
    newer = await catalogue.write(snapshots.insert, snapshot(catalogue.here.id))
    assert await usable(before) == taken
    await catalogue.write(snapshots.taken, newer.id, "7", after(1))
    assert await usable(before) == replace(newer, guid="7", taken_at=after(1))


async def test_snapshots_are_listed_oldest_first_and_go(catalogue: Catalogue) -> None:
    made = [
        await catalogue.write(snapshots.insert, snapshot(server_id, job_id=job))
        for server_id, job in [
            (catalogue.here.id, "1" * 24),
            (catalogue.there.id, "1" * 24),
            (catalogue.here.id, "2" * 24),
        ]
    ]
    assert await catalogue.read(snapshots.on_server, catalogue.here.id) == [made[0], made[2]]
    assert await catalogue.read(snapshots.get, made[1].id) == made[1]
    for _ in range(2):
        await catalogue.write(snapshots.delete, made[1].id)
    assert await catalogue.read(snapshots.get, made[1].id) is None
    assert not await catalogue.write(snapshots.taken, made[1].id, "1", T0)


# --- bases and holds -----------------------------------------------------------------------------


async def test_bases_are_replaced_by_source_and_pair(catalogue: Catalogue) -> None:
    here, there = catalogue.here.id, catalogue.there.id
    one, other = "1" * 24, "2" * 24
    old = [Base(one, "g", here, there, "1"), Base(one, "g", there, here, "1")]
    untouched = Base(other, "g", here, there, "9")
    await catalogue.write(bases.replace, one, here, there, old)
    await catalogue.write(bases.replace, other, here, there, [untouched])
    new = [Base(one, "h", here, there, "2"), Base(one, "h", there, here, "2")]
    for _ in range(2):
        await catalogue.write(bases.replace, one, there, here, new)
    held = await catalogue.read(bases.held_by, here)
    assert sorted(held, key=lambda base: base.guid) == [new[0], untouched]
    assert await catalogue.read(bases.held_by, there) == [new[1]]
    await catalogue.write(bases.drop, one, here, there)
    assert await catalogue.read(bases.held_by, here) == [untouched]
    assert await catalogue.read(bases.held_by, there) == []
    await catalogue.write(bases.drop_source, other)
    assert await catalogue.read(bases.held_by, here) == []


async def test_holdings_are_noted_once_and_dropped(catalogue: Catalogue) -> None:
    here, there = catalogue.here.id, catalogue.there.id
    for job_id, server_id in [("b", here), ("a", here), ("a", here), ("a", there)]:
        await catalogue.write(holdings.add, job_id, server_id)
    assert await catalogue.read(holdings.of_server, here) == ["a", "b"]
    assert sorted(await catalogue.read(holdings.servers_of, "a")) == sorted([here, there])
    for _ in range(2):
        await catalogue.write(holdings.drop, "a", here)
    assert await catalogue.read(holdings.of_server, here) == ["b"]
    assert await catalogue.read(holdings.of_server, there) == ["a"]


# --- leases --------------------------------------------------------------------------------------


async def test_a_lease_is_one_jobs_until_it_gives_it_back(catalogue: Catalogue) -> None:
    here = catalogue.here.id
    one, other = await catalogue.running_job(), await catalogue.running_job()
    for _ in range(2):
        assert await catalogue.write(leases.take, here, "g", one)
    assert not await catalogue.write(leases.take, here, "g", other)
    assert await catalogue.write(leases.take, here, "h", other)
    assert await catalogue.write(leases.take, catalogue.there.id, "g", other)
    await catalogue.write(leases.drop, here, "g", other)
    assert not await catalogue.write(leases.take, here, "g", other)
    assert await catalogue.read(leases.on_server, here) == {"g", "h"}
    await catalogue.write(leases.drop, here, "g", one)
    assert await catalogue.read(leases.on_server, here) == {"h"}
    assert await catalogue.write(leases.take, here, "g", other)


@pytest.mark.parametrize("end", [Move.SUCCEED, Move.FAIL, Move.CANCEL, Move.REQUEUE])
async def test_the_lease_of_a_job_that_has_ended_is_taken_over(
    catalogue: Catalogue, end: Move
) -> None:
    here = catalogue.here.id
    one, other = await catalogue.running_job(), await catalogue.running_job()
    await catalogue.write(leases.take, here, "g", one)
    await catalogue.move(one, end)
    assert await catalogue.read(leases.on_server, here) == frozenset()
    assert await catalogue.write(leases.take, here, "g", other)
    assert await catalogue.read(leases.on_server, here) == {"g"}


async def test_an_old_attempts_lease_is_worth_nothing_and_gets_none_back(
    catalogue: Catalogue,
) -> None:
    here = catalogue.here.id
    old = await catalogue.running_job()
    await catalogue.write(leases.take, here, "g", old)
    await catalogue.move(old, Move.REQUEUE)
    new = await catalogue.claim()
    assert new is not None
    assert await catalogue.read(leases.on_server, here) == frozenset()
    assert await catalogue.write(leases.take, here, "g", new)
    assert not await catalogue.write(leases.take, here, "g", old)
    await catalogue.write(leases.drop, here, "g", old)
    assert await catalogue.read(leases.on_server, here) == {"g"}


async def test_one_of_eight_takes_a_lease(catalogue: Catalogue) -> None:
    running = [await catalogue.running_job() for _ in range(8)]
    taken = await asyncio.gather(
        *(catalogue.write(leases.take, catalogue.here.id, "g", job) for job in running)
    )
    assert sum(taken) == 1


# --- what waits to go ----------------------------------------------------------------------------


async def test_the_time_that_a_thing_is_unneeded_begins_anew(catalogue: Catalogue) -> None:
    here, there = catalogue.here.id, catalogue.there.id

    async def seen(things: set[str], seconds: float, server_id: str = here) -> dict[str, object]:
        return dict(await catalogue.write(unneeded.seen, server_id, things, after(seconds)))

    assert await seen({"a", "b"}, 0) == {"a": T0, "b": T0}
    assert await seen({"a"}, 0, there) == {"a": T0}
    assert await seen({"a", "c"}, 1) == {"a": T0, "c": after(1)}
    assert await seen({"a", "b"}, 2) == {"a": T0, "b": after(2)}
    assert await seen(set(), 3) == {}
    assert await seen({"a"}, 4) == {"a": after(4)}
    assert await seen({"a"}, 4, there) == {"a": T0}
