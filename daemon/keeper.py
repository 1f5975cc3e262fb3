"""The keeper: a process that mounts what is live at the start, watches over the storage, collects,
and looks at what has changed. It is one of the processes that touch mounted filesystems, so that a
filesystem that hangs never stops the daemon, which kills a keeper that is silent for too long."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import asdict
from datetime import timedelta

from daemon import lines, locks, logs
from daemon.actions import deaths, look, prespawn
from daemon.actions.collect import Collector, Rules
from daemon.actions.generations import point_current
from daemon.config import Config
from daemon.errors import CatalogueError
from daemon.model import generation_path, now
from daemon.network.keeping import keep_applied
from daemon.runtime.driver import open_network, open_runc
from daemon.runtime.runc import Runc
from daemon.store import containers
from daemon.store.database import Database
from transfer.errors import TransferError
from transfer.model import Capacity
from transfer.storage import open_storage
from transfer.storage.base import Storage

COLLECT_SECONDS = 10.0
COLLECT_SECONDS_MAX = 300.0
PAUSES_PER_LOOK = 10
SHORT_LOOK_SECONDS = 1.0
LOOK_SECONDS = 0.5
ANSWER_SECONDS = 30.0
DEATHS_SECONDS = 0.25
DEATHS_ALL_SECONDS = 5.0

log = logs.get(__name__)


def main(config: Config) -> int:
    """The process's life."""
    locks.share_children_lock(config.server.state_dir)
    asyncio.run(_keep(config))
    return 0


async def _keep(config: Config) -> None:
    db = Database(config.database.url)
    settings = config.storage
    storage = await open_storage(
        settings.backend, settings.root, settings.mount_root, config.server.state_dir
    )
    runtime = open_runc(config)
    collect_now = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        if runtime is not None:  # what has died is dead, whatever can be mounted
            await deaths.note_all(db, runtime, config.server.id)
            group.create_task(_watch(db, runtime, config.server.id))
            network = open_network(config, db)
            group.create_task(keep_applied(db, network, config.server.id))
        await mount_all(db, storage, config)
        lines.tell({"mounted": True})
        group.create_task(_listen(collect_now))
        group.create_task(_beat(storage, config.timing.heartbeat_seconds))
        group.create_task(_collect(_collector(db, storage, config), collect_now))
        group.create_task(_look(db, storage, config.server.id))
        group.create_task(_prespawn(db, storage, config))


def _collector(db: Database, storage: Storage, config: Config) -> Collector:
    rules = Rules(
        grace=timedelta(seconds=config.transfer.collect_grace_seconds),
        base_ttl=timedelta(days=config.transfer.base_ttl_days),
    )
    return Collector(db, storage, config.server.id, rules, config.server.state_dir)


async def mount_all(db: Database, storage: Storage, config: Config) -> None:
    """Mounts what the catalogue names as live; one that cannot be mounted is logged, and does
    not keep the others down. Tells the daemon after each, which ends a keeper that is silent for a
    minute: a thousand mounts take longer."""
    async with db.read() as tx:
        ours = await containers.on_server(tx, config.server.id)
    for container in ours:
        lines.tell({"mounting": container.id})
        if container.generation_id is None:
            continue
        try:
            await storage.mount(generation_path(container.id, container.generation_id))
        except TransferError as error:
            log.error("cannot mount", container_id=container.id, reason=error.message)
            continue
        await asyncio.to_thread(
            point_current,
            config.storage.mount_root,
            container.id,
            container.generation_id,
        )


async def _listen(collect_now: asyncio.Event) -> None:
    async for _order in lines.orders():
        collect_now.set()


async def _beat(storage: Storage, heartbeat_seconds: float) -> None:
    """Says how the storage is, at every heartbeat. Where it hangs it says that, and waits on for
    the same answer: what waits for a mount can at times not even be killed."""
    asked: asyncio.Task[Capacity | str] | None = None
    told: str | None = None
    while True:
        asked = asked or asyncio.create_task(_ask(storage))
        await asyncio.wait({asked}, timeout=ANSWER_SECONDS)
        found = asked.result() if asked.done() else f"no answer for {ANSWER_SECONDS:g} s"
        if isinstance(found, str):
            lines.tell({"failure": found})
            if found != told:
                log.error("the storage fails", reason=found)
            told = found
        else:
            lines.tell({"capacity": asdict(found)})
            if told is not None:
                log.info("the storage is well again")
            told = None
        if asked.done():
            asked = None
            await asyncio.sleep(heartbeat_seconds)


async def _ask(storage: Storage) -> Capacity | str:
    """The room in the storage, or what is wrong with it."""
    try:
        await storage.read_check()
        return await storage.capacity()
    except TransferError as error:
        return error.message


async def _look(db: Database, storage: Storage, server_id: str) -> None:
    """Answers those who asked whether a filesystem has changed."""
    while True:
        try:
            await look.at_all_asked(db, storage, server_id)
        except CatalogueError as error:
            log.error("look failed", reason=error.message)
            await asyncio.sleep(COLLECT_SECONDS)
        await asyncio.sleep(LOOK_SECONDS)


async def _prespawn(db: Database, storage: Storage, config: Config) -> None:
    """Has images come that are to be on every server."""
    while True:
        try:
            await prespawn.queue_missing(db, storage, config.server.id, now())
        except (TransferError, CatalogueError) as error:
            log.error("images come later", reason=error.message)
        await asyncio.sleep(config.timing.sweep_seconds)


async def _watch(db: Database, runtime: Runc, server_id: str) -> None:
    """Notices what has ended: by the records of monitors at once, and by looking at all that
    should run where there is none."""
    looked_at = time.monotonic()
    while True:
        try:
            if time.monotonic() - looked_at >= DEATHS_ALL_SECONDS:
                await deaths.note_all(db, runtime, server_id)
                looked_at = time.monotonic()
            await deaths.note(db, runtime, runtime.ended())
        except (TransferError, CatalogueError) as error:
            log.error("cannot note what has ended", reason=error.message)
            await asyncio.sleep(DEATHS_ALL_SECONDS)
        await asyncio.sleep(DEATHS_SECONDS)


async def _collect(collector: Collector, collect_now: asyncio.Event) -> None:
    """Collects now and then, and soon after jobs have ended."""
    ended = -math.inf
    while True:
        if await is_due(collector, time.monotonic() - ended, collect_now):
            collect_now.clear()
            await _collect_once(collector)
            ended = time.monotonic()
        await asyncio.sleep(LOOK_SECONDS)


async def _collect_once(collector: Collector) -> None:
    began = time.monotonic()
    try:
        for deed in await collector.run(now()):
            log.info("collected", kind=deed.kind, path=deed.path, guid=deed.guid)
    except (TransferError, CatalogueError) as error:
        log.error("collect failed", reason=error.message)
    else:
        lines.tell({"collected": round(time.monotonic() - began, 6)})


def pause_after(look_seconds: float) -> float:
    """How long others have the storage to themselves after a look that took so long: in proportion
    to what it took beyond a short one, up to a limit."""
    beyond = max(0.0, look_seconds - SHORT_LOOK_SECONDS)
    return min(PAUSES_PER_LOOK * beyond, COLLECT_SECONDS_MAX)


async def is_due(collector: Collector, passed: float, collect_now: asyncio.Event) -> bool:
    """Whether the next round is, so many seconds after the last one.

    A round looks at the whole storage. What that takes, and keeps from others, is a small part of
    the time, however large the storage is; but what jobs that have ended leave half-made does not
    wait for that.
    """
    fair = pause_after(collector.look_seconds)
    if passed >= max(fair, COLLECT_SECONDS) or (passed >= fair and collect_now.is_set()):
        return True
    if passed < min(fair, COLLECT_SECONDS):
        return False
    try:
        return await collector.is_urgent()
    except CatalogueError as error:
        log.error("cannot see what jobs left", reason=error.message)
        return False
