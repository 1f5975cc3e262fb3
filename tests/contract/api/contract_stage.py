"""The stage on which the contract is played: one catalogue and one API with one of everything
that an endpoint may be asked about, and for each endpoint a request that works."""

from __future__ import annotations

import copy
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, replace
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

from aiohttp.test_utils import TestClient, TestServer

from daemon.api.app import make_app
from daemon.config import LimitsSection
from daemon.keys import generate, seal
from daemon.model import Container, Job, JobType, ProxyAlias, Server, Status, User, new_id, now
from daemon.model_images import Image
from daemon.store import accounts, servers
from tests.contract.api.api_world import ROOMY_BYTES, SEALING_KEY, Api, Reply, World, make_server
from tests.contract.images import shelf
from transfer.model import Capacity

NAME = "snap-20250115-103000"


@dataclass(frozen=True)
class Stage:
    """`web` is running and has a generated key, `copied` is its stopped copy; both list the
    snapshot NAME. `alias` leads to `web`. `job` is queued, for `busy`. `full` takes no
    container, `tight` has no space, `away` is offline. `mallory` is banned. Of the images, `hidden`
    is alice's own, not public, and has an icon; she has the money for `paid`."""

    world: World
    api: Api
    path: Path
    web: Container
    copied: Container
    alias: ProxyAlias
    busy: Container
    job: Job
    full: Server
    tight: Server
    away: Server
    mallory: User
    images: dict[str, Image]

    @classmethod
    async def of(cls, world: World, api: Api, path: Path) -> Stage:
        """Sets the stage in a world whose catalogue is the file `path`."""
        full = make_server("full", max_containers=0)
        tight = make_server("tight", available_bytes=1)
        away = make_server("away", last_heartbeat_at=now() - timedelta(minutes=1))
        mallory, later = User(id=new_id(), banned=True), now() + timedelta(hours=1)
        async with world.db.write() as tx:
            await accounts.put_user(tx, mallory)
            for server in (full, tight, away):
                await servers.put(tx, server)
            for server in (world.here, world.there, world.pool):
                # The stage stands for longer than a server may be silent.
                await servers.beat(tx, server.id, Capacity(ROOMY_BYTES, 0, ROOMY_BYTES), later)
        pair = generate("")
        web = await world.container(
            ssh_public_key=pair.public_text,
            ssh_key_id=pair.key_id,
            ssh_private_sealed=seal(SEALING_KEY, pair.private_text),
        )
        copied = await world.copy_of(web, status=Status.STOPPED)
        for container in (web, copied):
            await world.snapshot(container, NAME)
        alias = await world.alias(web, "shop")
        busy = await world.container("busy")
        job = await world.job(busy, JobType.RESTART, not_before=later)
        images = {
            "hidden": await shelf.put(world, public=False, icon=shelf.PNG),
            "free": await shelf.put(world),
            "paid": await shelf.put(world, price_cents=599),
        }
        await shelf.give(world, world.alice, images["hidden"])
        await shelf.credit(world, world.alice, 5000)
        places = (full, tight, away)
        return cls(world, api, path, web, copied, alias, busy, job, *places, mallory, images)

    async def container(self, **columns: Any) -> Container:
        """One more, of its own name, which lists the snapshot NAME."""
        made = await self.world.container(f"c-{new_id()}", **columns)
        await self.world.snapshot(made, NAME)
        return made

    async def first_copy(self, **columns: Any) -> Container:
        """A first copy of `web` that failed."""
        failed = {"status": Status.ERROR, "generation_id": None}
        return await self.container(source_container_id=self.web.id, **failed, **columns)

    async def heavy(self) -> Container:
        """A container that no server has space for."""
        return await self.container(referenced_bytes=ROOMY_BYTES + 1)

    def request(self, endpoint: str) -> tuple[str, str, Any]:
        """Method, path and body that work. Creating takes an admin."""
        method, path = endpoint.split()
        path = path.replace("{id}", self._id(path)).replace("{name}", NAME)
        home, root = self.world.home.id, self.world.import_roots[0]
        bodies: dict[str, Any] = {
            "POST /containers": {"project_id": home, "source_path": root},
            "PATCH /containers/{id}": {"comment": "changed"},
            "POST /containers/{id}/copy": {"target_project_id": home},
            "POST /containers/{id}/snapshots": {"alias": "baseline", "expiry": 30},
            "PATCH /containers/{id}/snapshots/{name}/alias": {"alias": "baseline"},
            "PUT /containers/{id}/firewall-rules": {"rules": []},
            "PUT /containers/{id}/network-rules": {"rules": []},
            "POST /projects": {"name": "shop"},
            "POST /proxy/aliases": {"container_id": self.web.id, "alias": "www", "program": "web"},
            "POST /images/rate/{id}": {"rating": 4.5},
        }
        return method, path, bodies.get(endpoint)

    def _id(self, path: str) -> str:
        if path.startswith("/containers"):
            return self.copied.id if path.endswith(("/sync", "/start")) else self.web.id
        if path.startswith("/images"):
            name = {"import": "free", "purchase": "paid"}.get(path.split("/")[2], "hidden")
            return self.images[name].id
        ids = {"projects": self.world.home.id, "servers": self.world.here.id, "jobs": self.job.id}
        ids["proxy"] = self.alias.id
        return ids.get(path.split("/")[1], "")

    async def ask(self, endpoint: str, **changed: Any) -> Reply:
        """The answer to a request that would work but for what is changed: its `id`, `name`,
        `body` (some of its fields), `data` (as JSON) or what `Api.ask` takes. Nothing is
        written."""
        method, path, body = self.request(endpoint)
        if "id" in changed:
            path = path.replace(self._id(path), changed.pop("id"))
        path = path.replace(NAME, quote(changed.pop("name", NAME), safe=""))
        if "body" in changed:
            body = (body or {}) | changed.pop("body")
        if "data" in changed:
            body = None
            changed["headers"] = {"Content-Type": "application/json"} | changed.get("headers", {})
            if isinstance(changed["data"], bytes):
                changed["data"] = BytesIO(changed["data"])
        before = self.written()
        reply = await self.api.ask(method, path, body, **changed)
        assert self.written() == before
        return reply

    def written(self) -> tuple[list[str], int]:
        """All that the catalogue holds, and how often the engine was woken."""
        with closing(sqlite3.connect(self.path)) as connection:
            return list(connection.iterdump()), self.world.news.count

    @asynccontextmanager
    async def limited(self, **limits: int) -> AsyncIterator[Stage]:
        """The same catalogue behind another API, which has these limits."""
        world = copy.copy(self.world)
        world.limits = LimitsSection(**limits)
        async with TestClient(TestServer(make_app(world.deps))) as client:
            yield replace(self, api=Api(world, client))
