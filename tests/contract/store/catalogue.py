"""A catalogue with something in it, and short ways to put more there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Concatenate, ParamSpec, TypeVar

from daemon.model import (
    Container,
    Job,
    JobState,
    JobType,
    Project,
    Server,
    Status,
    User,
    new_id,
)
from daemon.states import Move
from daemon.store import accounts, containers, jobs, servers
from daemon.store.database import Database, Tx

T0 = datetime(2026, 1, 2, 3, 4, 5, 678000, UTC)

P = ParamSpec("P")
R = TypeVar("R")


def after(seconds: float) -> datetime:
    """A time of the test."""
    return T0 + timedelta(seconds=seconds)


def a_server(name: str) -> Server:
    return Server(new_id(), name, "10.0.0.5:8471", "ssh-ed25519 AAAA", "dir", "example.org")


class Catalogue:
    """`here` and `there` are servers, `project` is `user`'s."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.here = a_server("here")
        self.there = a_server("there")
        self.user = User(new_id(), created_at=T0)
        self.project = Project(new_id(), self.user.id, "default", "d", created_at=T0)

    async def fill(self) -> None:
        async with self.db.write() as tx:
            await servers.put(tx, self.here)
            await servers.put(tx, self.there)
            await accounts.put_user(tx, self.user)
            await accounts.put_project(tx, self.project)

    async def read(
        self, f: Callable[Concatenate[Tx, P], Awaitable[R]], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Call one function of the store in a transaction of its own."""
        async with self.db.read() as tx:
            return await f(tx, *args, **kwargs)

    async def write(
        self, f: Callable[Concatenate[Tx, P], Awaitable[R]], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Call one function of the store in a transaction of its own that writes."""
        async with self.db.write() as tx:
            return await f(tx, *args, **kwargs)

    def container(self, name: str = "web", **fields: object) -> Container:
        known: dict[str, object] = {
            "id": new_id(),
            "project_id": self.project.id,
            "owner_id": self.user.id,
            "server_id": self.here.id,
            "name": name,
            "status": Status.RUNNING,
            "created_at": T0,
            "updated_at": T0,
        }
        return Container(**(known | fields))

    async def add_container(self, name: str = "web", **fields: object) -> Container:
        made = self.container(name, **fields)
        await self.write(containers.insert, made)
        return made

    def job(self, type: JobType, container_id: str, **fields: object) -> Job:
        known: dict[str, object] = {
            "id": new_id(),
            "type": type,
            "state": JobState.QUEUED,
            "container_id": container_id,
            "server_id": self.here.id,
            "user_id": self.user.id,
            "created_at": T0,
        }
        return Job(**(known | fields))

    async def add_job(
        self, type: JobType = JobType.SYNC, container_id: str | None = None, **fields: object
    ) -> Job:
        """A queued job, by default of a container that nobody else knows."""
        return await self.write(jobs.insert, self.job(type, container_id or new_id(), **fields))

    async def claim(self, at: datetime = T0, server_id: str | None = None) -> Job | None:
        lease_until = at + timedelta(seconds=30)
        return await self.write(jobs.claim, server_id or self.here.id, at, lease_until)

    async def running_job(self, **fields: object) -> Job:
        """A job in its first attempt."""
        made = await self.add_job(**fields)
        running = await self.claim()
        assert running is not None
        assert running.id == made.id
        return running

    async def move(self, job: Job, move: Move, seconds: float = 0, **outcome: object) -> Job:
        async with self.db.write() as tx:
            return await jobs.move(tx, job, move, at=after(seconds), **outcome)
