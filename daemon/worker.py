"""A worker: a process that runs one job at a time. To cancel a job the daemon kills it."""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from daemon import children, keys, lines, locks, logs
from daemon.actions import ACTIONS
from daemon.actions.context import Action, Connect, Context, Peer
from daemon.config import Config
from daemon.errors import CatalogueError, JobError, LeaseLost
from daemon.keyfiles import read_sealing_key
from daemon.model import Job, Json, Server
from daemon.runtime.base import Runtime
from daemon.runtime.driver import open_network, open_runtime
from daemon.runtime.none import NoRuntime
from daemon.store import jobs
from daemon.store.database import Database
from daemon.traffic import Tell, Teller
from transfer.errors import TransferError
from transfer.model import Progress
from transfer.peer.client import PeerSource
from transfer.peer.link import LinkSettings
from transfer.storage import open_storage
from transfer.storage.base import Storage

PROGRESS_SECONDS = 0.5

STALLED = "TRANSFER_STALLED"

log = logs.get(__name__)


@dataclass(frozen=True)
class Means:
    """What every job of this worker uses."""

    config: Config
    db: Database
    storage: Storage
    connect: Connect
    sealing_key: bytes
    runtime: Runtime = field(default_factory=NoRuntime)
    tell: Tell = lines.tell


class Meter:
    """Turns what an attempt reports into the progress that the API shows. It never falls."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._began = time.monotonic()
        self._latest = Progress()
        self.shown: Json = {}

    def report(self, progress: Progress) -> None:
        """Takes the newest figures."""
        if progress.done_bytes >= self._latest.done_bytes:
            self._latest = progress

    def remaining_bytes(self) -> int:
        """What is still to come, as far as it is known."""
        return self._latest.total_bytes - self._latest.done_bytes

    def finish(self) -> None:
        """All that was to come has come; the total was an estimate."""
        self._latest = replace(self._latest, total_bytes=self._latest.done_bytes)

    def view(self) -> Json:
        """The figures as the API shows them."""
        done, total = self._latest.done_bytes, self._latest.total_bytes
        rate = done / max(time.monotonic() - self._began, 0.001)
        percent = min(100.0, 100.0 * done / total) if total else 0.0
        shown = self.shown.get("percent", 0.0)
        floor = shown if isinstance(shown, float) else 0.0
        return {
            "percent": max(floor, round(percent, 1)),
            "bytes_total": total,
            "bytes_done": done,
            "bytes_wire": self._ctx.wire_bytes(),
            "rate_bytes_per_second": int(rate),
            "eta_seconds": int((total - done) / rate) if rate >= 1 else None,
        }

    async def keep_showing(self, db: Database) -> None:
        """Writes the figures down twice a second, where they have changed. Raises LeaseLost."""
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            await self.show(db)

    async def show(self, db: Database) -> None:
        """Writes the figures down, where they have changed."""
        view = self.view()
        moving = ("bytes_done", "bytes_total", "bytes_wire")
        if [view[key] for key in moving] != [self.shown.get(key) for key in moving]:
            async with db.write() as tx:
                await jobs.save(tx, self._ctx.job, progress=view)
            self.shown = view


def main(config: Config) -> int:
    """The process's life: open everything once, then job after job."""
    os.nice(children.DATA_PLANE_NICE)
    locks.share_children_lock(config.server.state_dir)
    asyncio.run(_serve(config))
    return 0


async def _serve(config: Config) -> None:
    storage_config = config.storage
    db = Database(config.database.url)
    means = Means(
        config=config,
        db=db,
        storage=await open_storage(
            storage_config.backend,
            storage_config.root,
            storage_config.mount_root,
            config.server.state_dir,
        ),
        connect=connector(config),
        sealing_key=read_sealing_key(config),
        runtime=open_runtime(config, open_network(config, db)),
    )
    lines.tell({"ready": True})
    running: asyncio.Task[None] | None = None
    async for order in lines.orders():
        if running is not None:
            await running
        running = asyncio.create_task(_answer(means, str(order["job"])))


async def _answer(means: Means, job_id: str) -> None:
    try:
        async with means.db.read() as tx:
            job = await jobs.get(tx, job_id)
    except CatalogueError as error:
        lines.tell({"error": described(error)})
        return
    if job is None:
        lines.tell({"lost": True})
        return
    with logs.bind(job_id=job.id, container_id=job.container_id):
        lines.tell(await attempt(means, job))


async def attempt(means: Means, job: Job) -> lines.Message:
    """Runs the job's action once; returns what came of it."""
    ctx = context(means, job)
    meter = Meter(ctx)
    ctx.report = meter.report
    teller = Teller("in", lambda: ctx.peer.traffic if ctx.peer else None, meter.remaining_bytes)
    telling = asyncio.create_task(teller.keep_telling(means.tell))
    try:
        return await _outcome(ctx, meter, ACTIONS[job.type])
    finally:
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)
        teller.tell(means.tell, ended=True)


async def _outcome(ctx: Context, meter: Meter, action: Action) -> lines.Message:
    try:
        result = await _metered(ctx, meter, action)
    except LeaseLost:
        return {"lost": True}
    except Exception as error:  # noqa: BLE001 - the boundary: every failure gets a code
        failure = described(error)
        if ctx.peer is not None:
            ctx.peer.traffic.stalls += failure["code"] == STALLED
        return {"error": failure}
    return {"result": result}


async def _metered(ctx: Context, meter: Meter, action: Action) -> Json | None:
    """Runs the action with its progress written down; whichever of the two fails ends both."""
    running = asyncio.create_task(_run(action, ctx))
    showing = asyncio.create_task(meter.keep_showing(ctx.db))
    try:
        await asyncio.wait([running, showing], return_when=asyncio.FIRST_COMPLETED)
        if showing.done():
            showing.result()
        result = await running
        meter.finish()
        await meter.show(ctx.db)
        return result
    finally:
        for task in (running, showing):
            task.cancel()
        await asyncio.gather(running, showing, return_exceptions=True)


async def _run(action: Action, ctx: Context) -> Json | None:
    return await action.run(ctx)


def context(means: Means, job: Job) -> Context:
    """What the action is given."""
    before = job.progress.get("bytes_wire", 0)
    return Context(
        job=job,
        db=means.db,
        storage=means.storage,
        runtime=means.runtime,
        server_id=means.config.server.id,
        sealing_key=means.sealing_key,
        import_roots=means.config.storage.import_roots,
        storage_root=means.config.storage.root,
        mount_root=means.config.storage.mount_root,
        connect=means.connect,
        report=lambda _progress: None,
        wire_before_bytes=before if isinstance(before, int) else 0,
    )


def described(error: Exception) -> Json:
    """A failure as a job shows it. What has no code of its own is a fault of ours, and logged."""
    if isinstance(error, TransferError | JobError):
        return _error(error.code, error.message, error.retryable, dict(error.evidence))
    if isinstance(error, CatalogueError):
        return _error("SERVICE_UNAVAILABLE", error.message, True, {})
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _error("INSUFFICIENT_STORAGE", "the file system is full", False, {})
    log.error("job failed unexpectedly", exc_info=error)
    return _error("INTERNAL_ERROR", f"{type(error).__name__}: {error}", False, {})


def _error(code: str, message: str, retryable: bool, evidence: Json) -> Json:
    return {"code": code, "message": message, "retryable": retryable, "evidence": evidence}


def connector(config: Config) -> Connect:
    """How this server reaches others."""
    key = keys.load_peer_key(config.peer_key_file).private_text
    settings = LinkSettings(
        compression=str(config.transfer.compression),
        limit_bytes_per_second=config.transfer.bandwidth_limit_bytes_per_second,
        stall_seconds=config.transfer.stall_seconds,
    )

    @asynccontextmanager
    async def connect(server: Server, job_id: str) -> AsyncIterator[Peer]:
        async with PeerSource.connect(
            server.peer_address,
            host_key=server.peer_key,
            client_key=key,
            server_id=config.server.id,
            job_id=job_id,
            settings=settings,
        ) as peer:
            yield peer

    return connect
