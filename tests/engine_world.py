"""Servers on one real catalogue, each with a real storage, and jobs run by their actions.

Between the servers stands no ssh here: what a job pulls comes straight from the other storage.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from daemon import doctor, worker
from daemon.actions import ACTIONS
from daemon.actions.collect import Collector, Rules
from daemon.actions.context import Context, Peer
from daemon.config import Config, DatabaseSection, ServerSection, StorageSection
from daemon.model import (
    Container,
    Job,
    JobState,
    JobType,
    Json,
    Project,
    Server,
    Status,
    User,
    UserSnapshot,
    generation_path,
    new_id,
    now,
    snapshot_params,
)
from daemon.states import Move
from daemon.store import accounts, containers, datasets, jobs, servers, user_snapshots
from daemon.store.database import Database
from transfer.model import Forest, Step
from transfer.peer.traffic import Traffic
from transfer.retain import Deed
from transfer.storage import open_storage
from transfer.storage.base import Storage

SEALING_KEY = b"s" * 32
AT_ONCE = Rules(grace=timedelta(0), base_ttl=timedelta(days=30))
ROUNDS_MAX = 30


class Link:
    """The other server's storage, as a job's source."""

    def __init__(self, storage: Storage) -> None:
        self.traffic = Traffic()
        self._storage = storage

    def begins(self, step: Step) -> None:
        """Nothing is counted here."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)


@dataclass
class Place:
    """A server, its storage, and what its daemon is configured with."""

    server: Server
    storage: Storage
    config: Config

    @property
    def id(self) -> str:
        return self.server.id


class World:
    """`places` are servers, `here` and `there` the first two; `project` is `user`'s; `tree` is
    under the import root."""

    def __init__(self, db: Database, url: str, tmp_path: Path) -> None:
        self.db = db
        self.user = User(new_id())
        self.project = Project(new_id(), self.user.id, "default", "default")
        self.imports = tmp_path / "imports"
        self.tree = self.imports / "tree"
        self.places: list[Place] = []
        self._url = url
        self._tmp_path = tmp_path

    @property
    def here(self) -> Place:
        return self.places[0]

    @property
    def there(self) -> Place:
        return self.places[1]

    async def fill(
        self, names: Sequence[str] = ("here", "there"), zfs_roots: Mapping[str, str] | None = None
    ) -> None:
        """Makes the servers: on zfs those that have a root there, else on dir."""
        (self.tree / "etc").mkdir(parents=True)
        (self.tree / "file").write_text("first")
        (self.tree / "root").mkdir()
        for name in names:
            self.places.append(await self._place(name, (zfs_roots or {}).get(name)))
        async with self.db.write() as tx:
            await accounts.put_user(tx, self.user)
            await accounts.put_project(tx, self.project)
            for place in self.places:
                await servers.put(tx, place.server)

    async def _place(self, name: str, zfs_root: str | None) -> Place:
        at = self._tmp_path / name
        for folder in ("root", "mount", "state"):
            (at / folder).mkdir(parents=True)
        backend: Literal["zfs", "dir"] = "zfs" if zfs_root else "dir"
        root, mount_root, state = zfs_root or str(at / "root"), str(at / "mount"), str(at / "state")
        address, key = f"{name}:8471", "ssh-ed25519 AAAA"
        server = Server(new_id(), name, address, key, backend, "d", last_heartbeat_at=now())
        config = Config(
            server=ServerSection(id=server.id, state_dir=state),
            storage=StorageSection(
                backend=backend, root=root, mount_root=mount_root, import_roots=(str(self.imports),)
            ),
            database=DatabaseSection(url=self._url),
        )
        return Place(server, await open_storage(backend, root, mount_root, state), config)

    def place(self, server_id: str) -> Place:
        return next(place for place in self.places if place.id == server_id)

    # Jobs

    def context(
        self,
        job: Job,
        db: Database | None = None,
        storage: Any = None,
        reach: Callable[[Storage], Any] = lambda storage: storage,
    ) -> Context:
        """What the job's action is given; with another catalogue or storage where told, and with
        what `reach` makes of another server's storage."""
        place = self.place(job.server_id)

        @asynccontextmanager
        async def connect(server: Server, _job_id: str) -> AsyncIterator[Peer]:
            yield Link(reach(self.place(server.id).storage))

        means = worker.Means(
            place.config, db or self.db, storage or place.storage, connect, SEALING_KEY
        )
        return worker.context(means, job)

    async def add(self, name: str, place: Place | None = None, **columns: Any) -> Container:
        made = Container(
            id=new_id(),
            project_id=self.project.id,
            owner_id=self.user.id,
            server_id=(place or self.here).id,
            name=name,
            status=Status.CREATING,
        )
        made = replace(made, **columns)
        async with self.db.write() as tx:
            await containers.insert(tx, made)
        return made

    async def queue(self, type: JobType, container: Container, **columns: Any) -> Job:
        job = Job(
            id=new_id(),
            type=type,
            state=JobState.QUEUED,
            container_id=container.id,
            server_id=container.server_id,
            user_id=self.user.id,
            source_container_id=container.source_container_id,
        )
        async with self.db.write() as tx:
            return await jobs.insert(tx, replace(job, **columns))

    async def claim(self, job: Job) -> Job:
        """The job's next attempt; other queued jobs of its server stay where they are."""
        async with self.db.write() as tx:
            current = await jobs.get(tx, job.id)
            assert current is not None
            lease_until = now() + timedelta(minutes=1)
            return await jobs._moved(
                tx,
                current,
                Move.CLAIM,
                now(),
                attempt=current.attempt + 1,
                lease_until=lease_until,
                started_at=now(),
            )

    async def running(self, type: JobType, container: Container, **columns: Any) -> Job:
        return await self.claim(await self.queue(type, container, **columns))

    async def end(self, job: Job, move: Move = Move.SUCCEED, **outcome: Any) -> Job:
        async with self.db.write() as tx:
            current = await jobs.get(tx, job.id)
            assert current is not None
            if move in (Move.FAIL, Move.CANCEL):
                await ACTIONS[job.type].abandon(tx, current, "FAULT: it failed")
            return await jobs.move(tx, current, move, at=now(), **outcome)

    async def carry_out(self, job: Job) -> Json | None:
        """One attempt at a queued job, to its good end."""
        claimed = await self.claim(job)
        result = await ACTIONS[job.type].run(self.context(claimed))
        await self.end(claimed, result=result)
        return result

    # Containers

    async def create(self, name: str = "web", place: Place | None = None) -> Container:
        """A running container made of `tree`."""
        made = await self.add(name, place)
        params = {"source_path": str(self.tree)}
        await self.carry_out(await self.queue(JobType.CREATE, made, params=params))
        return await self.get(made.id)

    async def begin_copy(
        self,
        source: Container,
        place: Place | None = None,
        name: str = "copy",
        snapshot: UserSnapshot | None = None,
        **columns: Any,
    ) -> tuple[Container, Job]:
        """A copy's record and its queued job; of a snapshot, or of what is live."""
        given = {"source_container_id": source.id, "status": Status.COPYING} | columns
        params: Json = {}
        if snapshot is not None:
            given["source_snapshot"] = snapshot.name
            params = snapshot_params(snapshot)
        made = await self.add(name, place or self.there, **given)
        return made, await self.queue(JobType.COPY, made, params=params)

    async def copy(
        self,
        source: Container,
        place: Place | None = None,
        name: str = "copy",
        snapshot: UserSnapshot | None = None,
    ) -> Container:
        made, job = await self.begin_copy(source, place, name, snapshot)
        await self.carry_out(job)
        return await self.get(made.id)

    async def begin_sync(self, container: Container, **params: str) -> Job:
        current = await self.get(container.id)
        await self.change(container, status=Status.COPYING)
        given = {"was": current.status.value} | params
        return await self.queue(JobType.SYNC, container, params=given)

    async def sync(self, container: Container, **params: str) -> Json:
        result = await self.carry_out(await self.begin_sync(container, **params))
        assert result is not None
        return result

    async def switch(self, copy: Container, text: str) -> str:
        """Syncs a new state in; the path of the generation that was live until now."""
        before = self.path(await self.get(copy.id))
        source = await self.get(copy.source_container_id or "")
        (await self.live(source) / "file").write_text(text)
        await self.sync(copy)
        return before

    async def begin_remove(self, container: Container) -> Job:
        was = (await self.get(container.id)).status.value
        await self.change(container, status=Status.DELETING)
        return await self.queue(JobType.DELETE, container, params={"was": was})

    async def remove(self, container: Container) -> None:
        await self.carry_out(await self.begin_remove(container))

    async def find(self, container_id: str) -> Container | None:
        async with self.db.read() as tx:
            return await containers.get(tx, container_id)

    async def get(self, container_id: str) -> Container:
        found = await self.find(container_id)
        assert found is not None
        return found

    async def job(self, job_id: str) -> Job:
        async with self.db.read() as tx:
            found = await jobs.get(tx, job_id)
        assert found is not None
        return found

    async def change(self, container: Container, **columns: Any) -> None:
        async with self.db.write() as tx:
            await containers.change(tx, container.id, **columns)

    def path(self, container: Container) -> str:
        assert container.generation_id is not None
        return generation_path(container.id, container.generation_id)

    async def live(self, container: Container) -> Path:
        """The container's live tree."""
        current = await self.get(container.id)
        return Path(self.place(current.server_id).storage.rootfs(self.path(current)))

    # Snapshots

    async def begin_snapshot(self, container: Container, **params: object) -> Job:
        return await self.queue(JobType.SNAPSHOT, container, params={"snapshot": new_id()} | params)

    async def snapshot(self, container: Container, **params: object) -> UserSnapshot:
        """A user snapshot of what is live."""
        job = await self.begin_snapshot(container, **params)
        await self.carry_out(job)
        return await self.entry(container, str(job.params["snapshot"]))

    async def begin_restore(self, container: Container, snapshot: UserSnapshot) -> Job:
        was = (await self.get(container.id)).status.value
        await self.change(container, status=Status.RESTORING)
        params = snapshot_params(snapshot) | {"was": was}
        return await self.queue(JobType.RESTORE, container, params=params)

    async def restore(self, container: Container, snapshot: UserSnapshot) -> Json:
        result = await self.carry_out(await self.begin_restore(container, snapshot))
        assert result is not None
        return result

    async def begin_delete_snapshot(self, snapshot: UserSnapshot) -> Job:
        container = await self.get(snapshot.container_id)
        params = {"snapshot": snapshot.id}
        return await self.queue(JobType.SNAPSHOT_DELETE, container, params=params)

    async def delete_snapshot(self, snapshot: UserSnapshot) -> None:
        await self.carry_out(await self.begin_delete_snapshot(snapshot))

    async def begin_expire(self, container: Container) -> Job:
        return await self.queue(JobType.EXPIRE, container)

    async def expire(self, container: Container) -> Json | None:
        return await self.carry_out(await self.begin_expire(container))

    async def listed(self, container: Container) -> list[UserSnapshot]:
        """What the container lists, newest first."""
        async with self.db.read() as tx:
            return await user_snapshots.listed(tx, container.id)

    async def entry(self, container: Container, snapshot_id: str) -> UserSnapshot:
        async with self.db.read() as tx:
            found = await user_snapshots.get(tx, container.id, snapshot_id)
        assert found is not None
        return found

    # Storage

    async def findings(self, place: Place) -> list[doctor.Finding]:
        """What doctor sees in one look: nothing else is at work here that a second look, as
        `hoodyd doctor` takes it, would have to leave out."""
        return await doctor._findings(self.db, place.storage, place.config)

    async def forest(self, place: Place) -> Forest:
        return await place.storage.forest()

    async def paths(self, place: Place) -> list[str]:
        """The datasets of a server that the catalogue knows."""
        async with self.db.read() as tx:
            return sorted(row.path for row in await datasets.on_server(tx, place.id))

    def collector(self, place: Place, rules: Rules = AT_ONCE, storage: Any = None) -> Collector:
        lock_dir = place.config.server.state_dir
        return Collector(self.db, storage or place.storage, place.id, rules, lock_dir)

    async def settle(self, place: Place) -> list[Deed]:
        """Collects until nothing is left to do; returns all that was done."""
        done: list[Deed] = []
        for _ in range(ROUNDS_MAX):
            round_done = await self.collector(place).run(now())
            if not round_done:
                return done
            done += round_done
        raise AssertionError("collect does not come to an end")
