"""A real API over a real catalogue, and `hoody` as a user's processes against it. There is no
engine: where a job must move, the test moves it as an engine would."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from aiohttp.test_utils import TestServer

from daemon.api.app import make_app
from daemon.model import Json, now
from daemon.states import Move
from daemon.store import jobs
from daemon.store.database import Database
from daemon.store.schema import metadata
from tests.contract.api.api_world import World, make_server
from tests.integration.command_line import Ran, environment, run

DONE: Json = {
    "strategy": "incremental",
    "bytes_logical": 3 << 20,
    "bytes_wire": 1 << 20,
    "seconds": {"plan": 0.5, "transfer": 1.5},
    "downtime_seconds": 0.25,
}
BROKEN: Json = {"code": "PEER_UNREACHABLE", "message": "no answer", "retryable": True}


@dataclass
class Site:
    """A world, its API's URL, and a user who has a home directory."""

    world: World
    url: str
    home: Path

    async def hoody(self, *arguments: str, stdin: str = "", **variables: str) -> Ran:
        """As alice, by environment."""
        given = {"HOODY_API_URL": self.url, "HOODY_TOKEN": self.world.token()} | variables
        return await run("hoody", *arguments, env=environment(self.home, **given), stdin=stdin)

    async def settle(
        self, move: Move, result: Json | None = None, error: Json | None = None
    ) -> None:
        """Waits for a queued job, takes it as an engine does, and ends it."""
        while not (await self.world.all_jobs()):
            await asyncio.sleep(0.02)
        async with self.world.db.write() as tx:
            for server in (self.world.here, self.world.there):
                until = now() + timedelta(minutes=1)
                claimed = await jobs.claim(tx, server.id, now(), until)
                left = [claimed] if claimed else await jobs.of_server_active(tx, server.id)
                for job in left:
                    await jobs.move(tx, job, move, at=now(), result=result, error=error)


@asynccontextmanager
async def site_at(home: Path) -> AsyncIterator[Site]:
    """A site whose user lives at `home`, for as long as the block lasts."""
    db = Database(f"sqlite:///{home}/catalogue.db")
    async with db.write() as tx:
        await tx.run_sync(metadata.create_all)
    # Nothing beats here, and a process may take long to start: none goes offline meanwhile.
    there, here = (
        make_server(name, last_heartbeat_at=now() + timedelta(days=1)) for name in ("there", "here")
    )
    world = World(db, here=here, there=there, import_roots=(str(home),))
    await world.fill()
    async with TestServer(make_app(world.deps)) as server:
        yield Site(world, str(server.make_url("")).rstrip("/"), home)
    await db.close()


async def with_engine(command: Awaitable[Ran], engine: Awaitable[None]) -> Ran:
    ran, _none = await asyncio.gather(command, engine)
    return ran
