"""`hoodyd doctor`: holds storage, catalogue and files against each other.

What a job accounts for, also one that has ended, is the collector's and no finding. A finding is
reported only if a second look confirms it: the daemon may be running, and things come and go.
"""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, replace

import click

from daemon.actions.generations import point_current
from daemon.config import Config
from daemon.model import DatasetRow, Role, UserSnapshot, generation_path, now
from daemon.store import containers, datasets, holdings, jobs, user_snapshots
from daemon.store.database import Database
from transfer.errors import StorageError
from transfer.model import Forest
from transfer.storage import open_storage
from transfer.storage.base import Storage

SECOND_LOOK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Finding:
    """`code` is stable; `subject` is the path, id or file that it is about. `repaired` is None
    unless a repair was asked for, else whether it was made."""

    code: str
    subject: str
    message: str
    repaired: bool | None = None


@dataclass(frozen=True)
class View:
    """Both sides, one read after the other: what changes in between is not found twice."""

    rows: dict[str, DatasetRow]
    live: dict[str, str]
    listed: list[UserSnapshot]
    forest: Forest
    holding: bool
    active: frozenset[str]


def run(config: Config, repair: bool, as_json: bool) -> int:
    """Prints the findings; 1 where there are any, 0 where there are none."""
    findings = asyncio.run(_examine(config, repair))
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings]))
    else:
        for finding in findings:
            mended = {None: "", True: " (repaired)", False: " (not repaired)"}[finding.repaired]
            click.echo(f"{finding.code}  {finding.subject}: {finding.message}{mended}")
        if not findings:
            click.echo("no findings")
    return 1 if findings else 0


async def _examine(config: Config, repair: bool) -> list[Finding]:
    settings = config.storage
    storage = await open_storage(
        settings.backend, settings.root, settings.mount_root, config.server.state_dir
    )
    db = Database(config.database.url)
    try:
        first = await _findings(db, storage, config)
        if not first:
            return []
        await asyncio.sleep(SECOND_LOOK_SECONDS)
        again = await _findings(db, storage, config)
        confirmed = [finding for finding in first if finding in again]
        if repair:
            return [await _repair(finding, db, storage, config) for finding in confirmed]
        return confirmed
    finally:
        await db.close()


async def _findings(db: Database, storage: Storage, config: Config) -> list[Finding]:
    view = await _look(db, storage, config.server.id)
    return [
        *_unknown_datasets(view),
        *_missing_datasets(view),
        *_missing_snapshots(view),
        *_stale_holds(view),
        *_unmounted(view, storage),
        *_open_files(config),
        *await _lost_jobs(db, config.server.id),
    ]


async def _look(db: Database, storage: Storage, server_id: str) -> View:
    forest = await storage.forest()
    async with db.read() as tx:
        rows = await datasets.on_server(tx, server_id)
        ours = await containers.on_server(tx, server_id)
        listed = await user_snapshots.of_server(tx, server_id)
        holding = await holdings.of_server(tx, server_id)
        active = await jobs.active(tx)
    return View(
        rows={row.path: row for row in rows},
        live={c.id: c.generation_id for c in ours if c.generation_id is not None},
        listed=listed,
        forest=forest,
        holding=bool(holding),
        active=frozenset(job.id for job in active),
    )


def _unknown_datasets(view: View) -> list[Finding]:
    return [
        Finding("DATASET_UNKNOWN", dataset.path, "no row of the catalogue accounts for it")
        for dataset in view.forest
        if dataset.path not in view.rows
    ]


def _missing_datasets(view: View) -> list[Finding]:
    found = []
    for path, row in view.rows.items():
        if path in view.forest.datasets or not row.ready or row.job_id in view.active:
            continue
        live = row.role is Role.GENERATION and row.id in view.live.values()
        what = "a live generation" if live else "a dataset"
        found.append(Finding("DATASET_MISSING", path, f"{what} of the catalogue is not there"))
    return found


def _missing_snapshots(view: View) -> list[Finding]:
    return [
        Finding(
            "SNAPSHOT_MISSING",
            f"{entry.container_id}/{entry.name}",
            "a snapshot that the container lists is not there",
        )
        for entry in view.listed
        if view.forest.find(entry.guid) is None
    ]


def _stale_holds(view: View) -> list[Finding]:
    """Holds are accounted for as long as some job may have any here."""
    if view.holding:
        return []
    return [
        Finding("HOLD_UNKNOWN", f"{snapshot.dataset}@{snapshot.name}", "held, but by no job")
        for snapshot in view.forest.snapshots()
        if snapshot.holds
    ]


def _unmounted(view: View, storage: Storage) -> list[Finding]:
    found = []
    for container_id, generation_id in view.live.items():
        path = generation_path(container_id, generation_id)
        mounted = os.path.isdir(storage.rootfs(path)) and storage.is_mounted(path)
        if path in view.forest.datasets and not mounted:
            found.append(Finding("GENERATION_UNMOUNTED", path, "a live generation is unmounted"))
    return found


def _open_files(config: Config) -> list[Finding]:
    found = []
    for path in _secret_files(config):
        if os.path.exists(path) and stat.S_IMODE(os.stat(path).st_mode) & 0o077:
            found.append(Finding("KEY_FILE_OPEN", path, "others may read this secret"))
    return found


def _secret_files(config: Config) -> list[str]:
    files = [config.peer_key_file, config.auth.sealing_key_file]
    return [*files, config.auth.secret_file] if config.auth.algorithm == "HS256" else files


async def _lost_jobs(db: Database, server_id: str) -> list[Finding]:
    async with db.read() as tx:
        lost = await jobs.lost(tx, now())
    return [
        Finding("LEASE_STALE", job.id, "the job runs, but its lease is over")
        for job in lost
        if job.server_id == server_id
    ]


async def _repair(finding: Finding, db: Database, storage: Storage, config: Config) -> Finding:
    """Mends what needs no choice: what is lost with its content, nobody can bring back."""
    repairs: dict[str, Callable[[], Awaitable[None]]] = {
        "DATASET_UNKNOWN": lambda: _destroy(storage, finding.subject),
        "GENERATION_UNMOUNTED": lambda: _mount(storage, config, finding.subject),
        "KEY_FILE_OPEN": lambda: asyncio.to_thread(os.chmod, finding.subject, 0o600),
    }
    mend = repairs.get(finding.code)
    if mend is None:
        return replace(finding, repaired=False)
    try:
        await mend()
    except StorageError as error:
        return replace(finding, repaired=False, message=f"{finding.message}: {error.message}")
    return replace(finding, repaired=True)


async def _destroy(storage: Storage, path: str) -> None:
    await storage.unmount(path)
    for dataset in await storage.inspect([path]):
        for snapshot in dataset.snapshots:
            await storage.destroy_snapshot(path, snapshot.guid)
    await storage.destroy(path)


async def _mount(storage: Storage, config: Config, path: str) -> None:
    """As a switch leaves it: mounted, and `current` names it."""
    await storage.mount(path)
    _, container_id, generation_id = path.split("/")
    mount_root = config.storage.mount_root
    await asyncio.to_thread(point_current, mount_root, container_id, generation_id)
