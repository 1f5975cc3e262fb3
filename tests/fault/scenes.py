"""Jobs of every type, again and again, each about containers of its own: how one is asked for,
what is right after its good end, and after its cancel. What they work on is on server b."""

from __future__ import annotations

import asyncio
from pathlib import Path

from daemon.model import JobType
from tests.acceptance import trees
from tests.acceptance.api import Json, Refused, refuses
from tests.fault.scene import Scene
from tests.fault.scenes_images import CreateAs, Prespawn

EXPIRY_DAYS = 0.2 / 86_400


class Create(Scene):
    type = JobType.CREATE

    async def set_up(self) -> None:
        self._tree = await asyncio.to_thread(self.tree)
        self.about = Path(self._tree).name

    async def ask(self) -> object:
        server_id = self.cluster.daemons[1].server_id
        return await self.api.create(self._tree, server_id=server_id)

    async def assert_done(self, job: Json) -> None:
        assert (await self.api.container(job["container_id"]))["status"] == "running"
        source = await asyncio.to_thread(trees.walk, self._tree)
        if not self.cluster.zfs:
            assert not trees.differences(source, await self.walk(job["container_id"]))

    async def assert_undone(self, job: Json) -> None:
        await self.assert_in_error(job["container_id"])


class Copy(Scene):
    """The first one of a source on the server with the number `_from`."""

    type = JobType.COPY
    _from = 0

    async def set_up(self) -> None:
        """Each has a source of its own."""

    async def prepare(self) -> None:
        self.about = await self.source(self._from)

    async def ask(self) -> object:
        return await self.api.start_copy(self.about, self.cluster.daemons[1].server_id)

    async def assert_done(self, job: Json) -> None:
        await self.assert_same(self.about, job["container_id"])

    async def assert_undone(self, job: Json) -> None:
        await self.assert_in_error(job["container_id"])


class CopyNear(Copy):
    _from = 1


class Sync(Scene):
    """Of a copy whose source is on the server with the number `_from`."""

    type = JobType.SYNC
    _from = 0

    async def set_up(self) -> None:
        self._source = await self.source(self._from)
        self.about, _ = await self.api.copy(self._source, self.cluster.daemons[1].server_id)

    async def prepare(self) -> None:
        await self.write(self._source)
        self._before = await self.seen(self.about)

    async def ask(self) -> object:
        return await self.api.start_sync(self.about)

    async def assert_done(self, job: Json) -> None:
        await self.assert_same(self._source, self.about)

    async def assert_undone(self, job: Json) -> None:
        assert await self.seen(self.about) == self._before


class SyncNear(Sync):
    _from = 1


class SyncUnchanged(Sync):
    """Where nothing but a snapshot is new."""

    async def prepare(self) -> None:
        await self.api.snapshot(self._source)
        self._before = await self.seen(self.about)


class Restore(Scene):
    """Of one of two snapshots, in turn."""

    type = JobType.RESTORE

    async def set_up(self) -> None:
        await super().set_up()
        await self.write(self.about)
        await self.api.snapshot(self.about)
        self._next, self._other = await self.api.snapshots(self.about)
        self._trees = {self._next["guid"]: await self.walk(self.about)}
        await self.api.restore(self.about, self._other["name"])
        self._trees[self._other["guid"]] = await self.walk(self.about)

    async def prepare(self) -> None:
        self._before = await self.seen(self.about)

    async def ask(self) -> object:
        return await self.api.restore(self.about, self._next["name"])

    async def assert_done(self, job: Json) -> None:
        assert job["result"]["snapshot"] == self._next["name"]
        wanted = self._trees[self._next["guid"]]
        assert not trees.differences(wanted, await self.walk(self.about))
        assert len(await self.api.snapshots(self.about)) == 2
        self._next, self._other = self._other, self._next

    async def assert_undone(self, job: Json) -> None:
        assert await self.seen(self.about) == self._before


class Listing(Scene):
    """Jobs that change the list of snapshots and nothing else, by `_change` entries."""

    _change = -1

    async def prepare(self) -> None:
        self._before = await self.seen(self.about)
        self._listed = await self.api.snapshots(self.about)

    async def assert_done(self, job: Json) -> None:
        now = await self.api.snapshots(self.about)
        assert len(now) == len(self._listed) + self._change

    async def assert_undone(self, job: Json) -> None:
        assert await self.seen(self.about) == self._before


class Snapshot(Listing):
    type = JobType.SNAPSHOT
    _change = 1

    async def prepare(self) -> None:
        await self.write(self.about)
        await super().prepare()

    async def ask(self) -> object:
        return await self.api.snapshot(self.about)


class SnapshotDelete(Listing):
    type = JobType.SNAPSHOT_DELETE

    async def prepare(self) -> None:
        await self.write(self.about)
        await self.api.snapshot(self.about)
        await super().prepare()

    async def ask(self) -> object:
        return await self.api.delete_snapshot(self.about, self._listed[0]["name"])


class Expire(Listing):
    """Nobody asks for it but the time. Where it is cancelled, the next one comes by itself."""

    type = JobType.EXPIRE
    _change = 0

    async def ask(self) -> object:
        """On a busy machine the snapshot has gone again before there is an answer."""
        try:
            return await self.api.snapshot(self.about, expiry=EXPIRY_DAYS)
        except Refused as refused:
            assert refused.code == "RESOURCE_NOT_FOUND"
            return None

    async def assert_done(self, job: Json) -> None:
        assert len(job["result"]["expired"]) == 1
        await super().assert_done(job)

    async def assert_undone(self, job: Json) -> None:
        while len(await self.api.snapshots(self.about)) > len(self._listed):
            await asyncio.sleep(0.1)


class Power(Scene):
    """Where the container is in `_before`, the job leaves it in `_after`."""

    _before = "running"
    _after = "running"

    async def prepare(self) -> None:
        if (await self.api.container(self.about))["status"] != self._before:
            verb = {"running": "start", "stopped": "stop"}[self._before]
            await self.api.power(self.about, verb)

    async def ask(self) -> object:
        return await self.api.call("POST", f"/containers/{self.about}/{self.type}")

    async def assert_done(self, job: Json) -> None:
        assert (await self.api.container(self.about))["status"] == self._after

    async def assert_undone(self, job: Json) -> None:
        assert (await self.api.container(self.about))["status"] == self._before


class Start(Power):
    type = JobType.START
    _before = "stopped"


class Stop(Power):
    type = JobType.STOP
    _after = "stopped"


class Restart(Power):
    type = JobType.RESTART


class Delete(Scene):
    """Of a container that has just been made of another one."""

    type = JobType.DELETE

    async def set_up(self) -> None:
        self._source = await self.source(1)

    async def prepare(self) -> None:
        self.about, _ = await self.api.copy(self._source, self.cluster.daemons[1].server_id)
        self._before = await self.seen(self.about)

    async def ask(self) -> object:
        return await self.api.call("DELETE", f"/containers/{self.about}")

    async def assert_done(self, job: Json) -> None:
        with refuses(404, "CONTAINER_NOT_FOUND"):
            await self.api.container(self.about)

    async def assert_undone(self, job: Json) -> None:
        assert await self.seen(self.about) == self._before


SCENES: tuple[type[Scene], ...] = (
    Create,
    CreateAs,
    Copy,
    CopyNear,
    Sync,
    SyncNear,
    SyncUnchanged,
    Restore,
    Snapshot,
    SnapshotDelete,
    Expire,
    Start,
    Stop,
    Restart,
    Delete,
    Prespawn,
)
