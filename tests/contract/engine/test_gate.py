"""What another server may have of this one: exactly what a running job of its own reads."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from daemon.exporter import CatalogueGate
from daemon.model import Container, Job, JobType, SnapshotRow, Status, hold_tag, new_id, now
from daemon.states import Move
from daemon.store import containers, datasets, jobs, rows, schema, snapshots
from daemon.store.database import Database
from tests.engine_world import World
from transfer.errors import PeerRefused, PeerUnreachable, SnapshotMissing
from transfer.model import Forest, Landing, Snapshot, Step, StepKind
from transfer.peer.messages import (
    AskUnchanged,
    GetLineage,
    GetSize,
    GetTraits,
    GetTreeRoot,
    Hold,
    PeerRequest,
    Release,
    Send,
    TakeSnapshot,
    TreeChunkLists,
    TreeChunks,
    TreeNodes,
)
from transfer.peer.refusals import LINES_MAX


@dataclass
class Door:
    """A gate on `here`, a running copy of `source` on `there`, and what it is about."""

    world: World
    gate: CatalogueGate
    source: Container
    job: Job
    own: Snapshot
    stranger: Container
    foreign: Snapshot

    @property
    def path(self) -> str:
        return self.world.path(self.source)

    async def ask(self, request: PeerRequest, peer_id: str | None = None) -> None:
        await self.gate.authorize(peer_id or self.world.there.id, request)

    async def refused(self, request: PeerRequest, peer_id: str | None = None) -> None:
        with pytest.raises(PeerRefused):
            await self.ask(request, peer_id)

    async def lineage(self) -> Forest:
        """What the source's live generation stands on."""
        storage = self.world.here.storage
        dataset = (await storage.inspect([self.path])).datasets[self.path]
        return await storage.lineage([self.own.guid, dataset.origin or ""])

    def requests(self, guid: str, path: str, job_id: str = "") -> list[PeerRequest]:
        """Every kind of request, about this snapshot and dataset."""
        job = job_id or self.job.id
        step = Step(StepKind.FULL, path, guid, "h-1", None, Landing.NEW)
        return [
            GetLineage(job, (guid,)),
            TakeSnapshot(job, path, f"h-{new_id()}"),
            AskUnchanged(job, path, f"h-{new_id()}", f"h-{new_id()}"),
            Hold(job, (guid,)),
            GetSize(job, step),
            GetTreeRoot(job, guid),
            Send(job, "auto", 0, step),
            TreeNodes(job, "auto", 0, guid, False, ()),
            TreeChunkLists(job, "auto", 0, guid, False, ()),
            TreeChunks(job, "auto", 0, guid, False, ()),
        ]


@pytest.fixture
async def door(world: World) -> Door:
    source, stranger = await world.create(), await world.create("stranger")
    _, job = await world.begin_copy(source)
    running = await world.claim(job)
    storage = world.here.storage
    own, foreign = [
        await storage.snapshot(world.path(one), f"h-{new_id()}", hold_tag(job.id))
        for one in (source, stranger)
    ]
    async with world.db.write() as tx:  # the catalogue has it, but of another container
        where = (world.here.id, stranger.generation_id or "", stranger.id, running.id)
        await snapshots.insert(tx, SnapshotRow(new_id(), *where, 0, foreign.guid, now()))
    gate = CatalogueGate(world.db, storage, world.here.id)
    return Door(world, gate, source, running, own, stranger, foreign)


async def test_a_running_job_may_have_what_its_source_stands_on(door: Door) -> None:
    lineage = await door.lineage()
    assert len(lineage.datasets) == 2
    for path, dataset in lineage.datasets.items():
        for snapshot in dataset.snapshots:
            for request in door.requests(snapshot.guid, path):
                if not isinstance(request, TakeSnapshot | AskUnchanged) or path == door.path:
                    await door.ask(request)
    await door.ask(GetTraits(door.job.id))


@pytest.mark.parametrize("state", ["unknown", "queued", "ended", "late", "another server's"])
async def test_a_job_that_does_not_run_there_may_have_nothing(door: Door, state: str) -> None:
    job_id = door.job.id
    async with door.world.db.write() as tx:
        if state == "unknown":
            job_id = new_id()
        elif state == "queued":
            await jobs.move(tx, door.job, Move.REQUEUE, at=now())
        elif state == "ended":
            await jobs.move(tx, door.job, Move.SUCCEED, at=now())
        elif state == "late":
            ago = now() - timedelta(milliseconds=1)
            assert await jobs.renew(tx, door.world.there.id, [job_id], ago)
        if state in ("queued", "ended"):  # not for want of a lease alone
            soon = now() + timedelta(hours=1)
            await rows.change(tx, schema.jobs, job_id, {"lease_until": soon})
    peer_id = new_id() if state == "another server's" else None
    for request in [
        *door.requests(door.own.guid, door.path, job_id),
        GetTraits(job_id),
        Release(job_id, (door.own.guid,)),
    ]:
        await door.refused(request, peer_id)


@pytest.mark.parametrize("type", [t for t in JobType if t not in (JobType.COPY, JobType.SYNC)])
async def test_only_copies_and_syncs_read_from_others(door: Door, type: JobType) -> None:
    other = await door.world.add("other", door.world.there)
    job = await door.world.running(type, other, source_container_id=door.source.id)
    for request in door.requests(door.own.guid, door.path, job.id):
        await door.refused(request)


async def test_a_sync_is_as_good_as_a_copy(door: Door) -> None:
    copy = await door.world.add(
        "synced", door.world.there, source_container_id=door.source.id, status=Status.COPYING
    )
    job = await door.world.running(JobType.SYNC, copy)
    for request in door.requests(door.own.guid, door.path, job.id):
        await door.ask(request)


async def test_the_source_must_be_here(door: Door) -> None:
    elsewhere = CatalogueGate(door.world.db, door.world.there.storage, door.world.there.id)
    for request in door.requests(door.own.guid, door.path):
        with pytest.raises(PeerRefused, match="not here"):
            await elsewhere.authorize(door.world.there.id, request)


async def test_the_source_must_be_there_still(door: Door) -> None:
    async with door.world.db.write() as tx:
        await containers.delete(tx, door.source.id)
    for request in door.requests(door.own.guid, door.path):
        await door.refused(request)


async def test_another_containers_datasets_and_snapshots_are_refused(door: Door) -> None:
    theirs = door.world.path(door.stranger)
    for request in door.requests(door.foreign.guid, theirs):
        await door.refused(request)


@pytest.mark.parametrize("path", ["mirrors/none", "containers/none/none", "images/none"])
async def test_an_unknown_dataset_is_refused(door: Door, path: str) -> None:
    await door.refused(TakeSnapshot(door.job.id, path, f"h-{new_id()}"))


async def test_a_foreign_base_is_refused_with_an_own_snapshot(door: Door) -> None:
    step = Step(
        StepKind.INCREMENTAL, door.path, door.own.guid, "h-1", door.foreign.guid, Landing.NEW
    )
    await door.refused(Send(door.job.id, "auto", 0, step))
    await door.refused(GetSize(door.job.id, step))
    await door.refused(Hold(door.job.id, (door.own.guid, door.foreign.guid)))


async def test_a_snapshot_that_is_gone_is_missing_and_no_trespass(door: Door) -> None:
    """The puller plans afresh; it must not fail for good."""
    (await door.world.live(door.source) / "file").write_text("second")
    storage = door.world.here.storage
    gone = await storage.snapshot(door.path, f"h-{new_id()}", "test")
    await storage.release([gone.guid], "test")
    await storage.destroy_snapshot(door.path, gone.guid)
    for request in door.requests(gone.guid, door.path):
        if isinstance(request, GetLineage | GetSize):
            await door.ask(request)  # they do without it
        elif request.guids:
            with pytest.raises(SnapshotMissing):
                await door.ask(request)


async def test_only_a_generation_of_the_source_is_snapshotted(door: Door) -> None:
    """What it stands on may be read, but a mirror is touched by receive and trim alone."""
    lineage = await door.lineage()
    (mirror,) = [path for path in lineage.datasets if path.startswith("mirrors/")]
    await door.refused(TakeSnapshot(door.job.id, mirror, f"h-{new_id()}"))
    await door.refused(AskUnchanged(door.job.id, mirror, f"h-{new_id()}", f"h-{new_id()}"))


async def test_a_generation_in_the_making_is_not_the_sources_yet(door: Door) -> None:
    async with door.world.db.write() as tx:
        await datasets.change(tx, door.source.generation_id or "", ready=False)
    await door.refused(TakeSnapshot(door.job.id, door.path, f"h-{new_id()}"))


async def test_an_earlier_generation_may_be_read_until_it_is_collected(door: Door) -> None:
    """A retry whose anchor lies in it goes on."""
    world = door.world
    twin = await world.copy(door.source, world.here, "twin")
    _, job = await world.begin_copy(twin, name="reader")
    running = await world.claim(job)
    old = world.path(twin)
    anchor = await world.here.storage.snapshot(old, f"h-{new_id()}", hold_tag(job.id))
    (await world.live(door.source) / "file").write_text("second")
    await world.sync(twin)
    await door.ask(GetLineage(running.id, (anchor.guid,)))
    await door.ask(Hold(running.id, (anchor.guid,)))


async def test_what_a_generation_was_made_from_may_be_read(door: Door) -> None:
    """Also where it has no snapshot of its own, and the catalogue notes that one as another's."""
    world, storage = door.world, door.world.here.storage
    twin = await world.copy(door.source, world.here, "twin")
    _, job = await world.begin_copy(twin, name="reader")
    running = await world.claim(job)
    path = world.path(twin)
    made = (await storage.inspect([path])).datasets[path]
    for snapshot in made.snapshots:
        await storage.destroy_snapshot(path, snapshot.guid)
    assert made.origin is not None
    await door.ask(GetTreeRoot(running.id, made.origin))


async def test_letting_go_is_never_refused_to_a_running_job(door: Door) -> None:
    await door.ask(Release(door.job.id, (door.own.guid, door.foreign.guid, "12345")))


async def test_a_catalogue_that_is_gone_is_no_refusal(
    door: Door, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The peer tries again; the log is not filled with that."""
    db = Database(f"sqlite:///{tmp_path}/nowhere/catalogue.db")
    gone = CatalogueGate(db, door.world.here.storage, door.world.here.id)
    there = door.world.there.id
    for _ in range(2 * LINES_MAX):
        with pytest.raises(PeerUnreachable):
            await gone.authorize(there, GetTraits(door.job.id))
    await db.close()
    said = [line.startswith(f"{there}: is turned away for now: ") for line in caplog.messages]
    assert said == [True] * LINES_MAX + [False]


async def test_keys_are_those_of_the_catalogue(door: Door) -> None:
    assert await door.gate.key_of(door.world.there.id) == door.world.there.server.peer_key
    assert await door.gate.key_of(new_id()) is None
