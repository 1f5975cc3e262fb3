"""What a job that begins with an image may have of the image's server: that image's snapshot, and
nothing else, whatever its row says."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from daemon.exporter import CatalogueGate
from daemon.model import Container, Job, JobType, hold_tag, new_id
from daemon.states import Move
from tests.contract.engine.depot import Depot
from tests.engine_world import World
from transfer.errors import PeerRefused
from transfer.model import Guid, Landing, Step, StepKind
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


@dataclass
class Door:
    """A gate on the image's server, and two of its images."""

    world: World
    gate: CatalogueGate
    depot: Depot
    other: Depot

    async def ask(self, request: PeerRequest, peer_id: str | None = None) -> None:
        await self.gate.authorize(peer_id or self.world.there.id, request)

    async def refused(self, *requests: PeerRequest, peer_id: str | None = None) -> None:
        for request in requests:
            with pytest.raises(PeerRefused):
                await self.ask(request, peer_id)

    async def job(self, type: JobType, **params: str) -> Job:
        """A running job on the other server, with these params."""
        made = await self.world.add(f"c-{new_id()}", self.world.there)
        return await self.world.running(type, made, params=params)


def reads(job: Job, guid: Guid, path: str) -> list[PeerRequest]:
    """Every kind of request that reads or holds this snapshot."""
    step = Step(StepKind.FULL, path, guid, "h-1", None, Landing.NEW)
    return [
        GetLineage(job.id, (guid,)),
        Hold(job.id, (guid,)),
        GetSize(job.id, step),
        GetTreeRoot(job.id, guid),
        Send(job.id, "auto", 0, step),
        TreeNodes(job.id, "auto", 0, guid, False, ()),
        TreeChunkLists(job.id, "auto", 0, guid, False, ()),
        TreeChunks(job.id, "auto", 0, guid, False, ()),
    ]


def takes(job: Job, path: str) -> list[PeerRequest]:
    """What would touch a dataset."""
    return [
        TakeSnapshot(job.id, path, f"h-{new_id()}"),
        AskUnchanged(job.id, path, f"h-{new_id()}", f"h-{new_id()}"),
    ]


@pytest.fixture
async def door(world: World) -> Door:
    gate = CatalogueGate(world.db, world.here.storage, world.here.id)
    return Door(world, gate, await Depot.of(world), await Depot.of(world))


begins = pytest.mark.parametrize("type", [JobType.CREATE, JobType.PRESPAWN])


@begins
async def test_it_may_have_its_image(door: Door, type: JobType) -> None:
    depot = door.depot
    job = await door.job(type, image=depot.image.id, guid=depot.guid)
    for request in reads(job, depot.guid, depot.path):
        await door.ask(request)
    await door.ask(GetTraits(job.id))
    await door.ask(Release(job.id, (depot.guid,)))
    await door.refused(*takes(job, depot.path))


@begins
async def test_it_may_have_no_other_image(door: Door, type: JobType) -> None:
    """Also where its row names another one's snapshot."""
    for named in (door.depot.guid, door.other.guid):
        job = await door.job(type, image=door.depot.image.id, guid=named)
        await door.refused(*reads(job, door.other.guid, door.other.path))
        await door.refused(*takes(job, door.other.path))


@begins
async def test_it_may_have_nothing_of_a_container(
    door: Door, source: Container, type: JobType
) -> None:
    """Neither of one that stands on the image nor of one that does not; also where its row names
    such a snapshot, or such a source."""
    standing, _ = await door.depot.create(door.world.here)
    storage = door.world.here.storage
    for container in (source, standing):
        path = door.world.path(container)
        (await door.world.live(container) / "file").write_text("secret")
        taken = await storage.snapshot(path, f"h-{new_id()}", hold_tag(new_id()))
        for image_id in (door.depot.image.id, container.id):
            job = await door.job(type, image=image_id, guid=taken.guid)
            await door.refused(*reads(job, taken.guid, path), *takes(job, path))
        made = await door.world.add(f"c-{new_id()}", door.world.there)
        columns = {"source_container_id": container.id, "params": {"guid": taken.guid}}
        job = await door.world.running(type, made, **columns)
        await door.refused(*reads(job, taken.guid, path), *takes(job, path))


@begins
async def test_it_must_run_there(door: Door, type: JobType) -> None:
    depot = door.depot
    job = await door.job(type, image=depot.image.id, guid=depot.guid)
    requests = reads(job, depot.guid, depot.path)
    await door.refused(*requests, peer_id=new_id())
    await door.world.end(job, Move.FAIL)
    await door.refused(*requests)


@begins
async def test_the_image_must_be_there_still(door: Door, type: JobType) -> None:
    depot = door.depot
    job = await door.job(type, image=depot.image.id, guid=depot.guid)
    await depot.remove()
    await door.refused(*reads(job, depot.guid, depot.path))


async def test_it_must_live_here(door: Door) -> None:
    """A mirror of it is not served: what is here may go at any time."""
    world, depot = door.world, door.depot
    await depot.create(world.there)
    elsewhere = CatalogueGate(world.db, world.there.storage, world.there.id)
    made, _ = await depot.begin(world.here)
    params = {"image": depot.image.id, "guid": depot.guid}
    job = await world.running(JobType.PRESPAWN, made, params=params)
    for request in reads(job, depot.guid, depot.path):
        with pytest.raises(PeerRefused, match="not here"):
            await elsewhere.authorize(world.here.id, request)


async def test_a_copy_may_have_no_image_but_what_it_stands_on(
    door: Door, source: Container
) -> None:
    copy, job = await door.world.begin_copy(source)
    running = await door.world.claim(job)
    await door.refused(*reads(running, door.depot.guid, door.depot.path))
    standing, _ = await door.depot.create(door.world.here)
    _, job = await door.world.begin_copy(standing, name=f"of-{copy.id}")
    running = await door.world.claim(job)
    await door.ask(GetTreeRoot(running.id, door.depot.guid))
    await door.refused(*reads(running, door.other.guid, door.other.path))
