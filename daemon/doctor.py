"""`hoodyd doctor`: holds storage, catalogue and files against each other.

README.md, 'Operating', says of each code what it means and what `--repair` does.

What a job accounts for, also one that has ended, is the collector's and no finding. A finding is
reported only if a second look confirms it: the daemon may be running, and things come and go.
"""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, replace

import click

from daemon import keyfiles, keys
from daemon.actions.generations import point_current
from daemon.config import Config
from daemon.errors import ConfigError
from daemon.model import (
    Container,
    DatasetRow,
    Role,
    Status,
    UserSnapshot,
    generation_path,
    mirror_path,
    now,
)
from daemon.model_images import Image
from daemon.runtime.driver import open_runc
from daemon.store import (
    bases,
    containers,
    datasets,
    holdings,
    image_uses,
    jobs,
    servers,
    user_snapshots,
)
from daemon.store.database import Database
from transfer.errors import DatasetBusy, DatasetMissing, StorageError
from transfer.model import Forest, Guid
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


_MENDED = frozenset({"DATASET_UNKNOWN", "GENERATION_UNMOUNTED", "PROCESS_MISSING", "KEY_FILE_OPEN"})


@dataclass(frozen=True)
class View:
    """Both sides, one read after the other: what changes in between is not found twice.

    `images` are those that live here, `needed` the snapshots that this server keeps for lists,
    bases and images; `active` and `busy` are the jobs that have not ended, and their containers."""

    rows: dict[str, DatasetRow]
    containers: list[Container]
    listed: list[UserSnapshot]
    images: list[Image]
    needed: frozenset[Guid]
    forest: Forest
    foreign: list[str]
    holding: bool
    active: frozenset[str]
    busy: frozenset[str]

    @property
    def live(self) -> dict[str, Container]:
        """Containers by the path of their live generation."""
        return {
            generation_path(container.id, container.generation_id): container
            for container in self.containers
            if container.generation_id is not None
        }


def run(config: Config, repair: bool, as_json: bool) -> int:
    """Prints the findings and what mends them; 1 where there are any, 0 where there are none."""
    findings = asyncio.run(examine(config, repair))
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings]))
    else:
        for finding in findings:
            mended = {None: "", True: " (repaired)", False: " (not repaired)"}[finding.repaired]
            click.echo(f"{finding.code}  {finding.subject}: {finding.message}{mended}")
        if not findings:
            click.echo("no findings")
        elif not repair:
            click.echo(_advice(findings))
    return 1 if findings else 0


def _advice(findings: Sequence[Finding]) -> str:
    """What to do about them."""
    if mended := sorted({finding.code for finding in findings} & _MENDED):
        return f"the same with --repair mends {', '.join(mended)}"
    return "README, 'Operating', says what each of them needs"


async def examine(config: Config, repair: bool) -> list[Finding]:
    """What two looks in a row find; `repair` mends of it what it can. Raises StorageError or
    CatalogueError."""
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
        *_foreign(view),
        *_unknown_datasets(view),
        *_missing_datasets(view),
        *_missing_snapshots(view),
        *_missing_images(view),
        *_stale_holds(view),
        *_unmounted(view, storage),
        *_without_process(view, storage, config.storage.mount_root),
        *_unknown_processes(view, config),
        *_open_files(config),
        *await _other_secrets(db, config),
        *await _lost_jobs(db, config.server.id),
    ]


async def _look(db: Database, storage: Storage, server_id: str) -> View:
    forest, foreign = await storage.forest(), await storage.foreign()
    async with db.read() as tx:
        rows = await datasets.on_server(tx, server_id)
        ours = await containers.on_server(tx, server_id)
        listed = await user_snapshots.of_server(tx, server_id)
        images = await image_uses.of_server(tx, server_id)
        needed = await user_snapshots.needed_on(tx, server_id)
        needed |= await image_uses.needed_on(tx, server_id)
        kept = {base.guid for base in await bases.held_by(tx, server_id)}
        holding = await holdings.of_server(tx, server_id)
        active = await jobs.active(tx)
    return View(
        rows={row.path: row for row in rows},
        containers=ours,
        listed=listed,
        images=images,
        needed=frozenset(needed | kept),
        forest=forest,
        foreign=foreign,
        holding=bool(holding),
        active=frozenset(job.id for job in active),
        busy=frozenset(job.container_id for job in active),
    )


def _foreign(view: View) -> list[Finding]:
    return [
        Finding("DATASET_FOREIGN", path, "under the storage's root, but not hoody's")
        for path in view.foreign
    ]


def _unknown_datasets(view: View) -> list[Finding]:
    """A generation that outlives its container moves to a mirror's path before its row does."""
    accounted = view.rows.keys() | {mirror_path(row.id) for row in view.rows.values()}
    found = []
    for dataset in view.forest:
        if dataset.path in accounted or dataset.path in view.foreign:
            continue
        message = "no row of the catalogue accounts for it"
        if any(snapshot.guid in view.needed for snapshot in dataset.snapshots):
            message = f"{message}, but it has a snapshot that is needed"
        found.append(Finding("DATASET_UNKNOWN", dataset.path, message))
    return found


def _missing_datasets(view: View) -> list[Finding]:
    found = []
    for path, row in view.rows.items():
        there = {path, mirror_path(row.id)} & view.forest.datasets.keys()
        if there or not row.ready or row.job_id in view.active:
            continue
        live = row.role is Role.GENERATION and path in view.live
        what = "a live generation" if live else "a dataset"
        found.append(Finding("DATASET_MISSING", path, f"{what} of the catalogue is not there"))
    return found


def _missing_snapshots(view: View) -> list[Finding]:
    names = {container.id: container.name for container in view.containers}
    return [
        Finding(
            "SNAPSHOT_MISSING",
            f"{entry.container_id}/{entry.name}",
            f"a snapshot that {names.get(entry.container_id, 'the container')} lists is not there",
        )
        for entry in view.listed
        if view.forest.find(entry.guid) is None
    ]


def _missing_images(view: View) -> list[Finding]:
    return [
        Finding("IMAGE_MISSING", image.id, f"the snapshot of the image {image.alias} is not there")
        for image in view.images
        if view.forest.find(image.guid or "") is None
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
    return [
        Finding("GENERATION_UNMOUNTED", path, "a live generation is unmounted")
        for path in view.live
        if path in view.forest.datasets and not _is_mounted(storage, path)
    ]


def _is_mounted(storage: Storage, path: str) -> bool:
    return os.path.isdir(storage.rootfs(path)) and storage.is_mounted(path)


def _without_process(view: View, storage: Storage, mount_root: str) -> list[Finding]:
    """Without a runtime, a container runs if it has a live generation, mounted, that `current`
    names: what is in there is what a process would see. One that is not there or not mounted has
    a finding of its own already."""
    found = []
    for container in view.containers:
        if container.status is not Status.RUNNING or container.id in view.busy:
            continue
        if container.generation_id is None:
            message = f"{container.name} is said to run, but it has no live generation"
        else:
            path = generation_path(container.id, container.generation_id)
            there = path in view.forest.datasets and _is_mounted(storage, path)
            if not there or _current(mount_root, container.id) == container.generation_id:
                continue
            wrong = "`current` does not name its live generation"
            message = f"{container.name} is said to run, but {wrong}"
        found.append(Finding("PROCESS_MISSING", container.id, message))
    return found


def _unknown_processes(view: View, config: Config) -> list[Finding]:
    """What runs though no container of this server should."""
    runtime = open_runc(config)
    should = {one.id for one in view.containers if one.status is not Status.STOPPED} | view.busy
    running = runtime.running() if runtime is not None else []
    return [
        Finding("PROCESS_UNKNOWN", container_id, "runs, and is no container that should run here")
        for container_id in running
        if container_id not in should
    ]


def _current(mount_root: str, container_id: str) -> str | None:
    try:
        return os.readlink(os.path.join(mount_root, container_id, "current"))
    except OSError:
        return None


def _open_files(config: Config) -> list[Finding]:
    found = []
    for path in _secret_files(config):
        if os.path.exists(path) and stat.S_IMODE(os.stat(path).st_mode) & 0o077:
            found.append(Finding("KEY_FILE_OPEN", path, "others may read this secret"))
    return found


def _secret_files(config: Config) -> list[str]:
    files = [config.peer_key_file, config.auth.sealing_key_file]
    return [*files, config.auth.secret_file] if config.auth.algorithm == "HS256" else files


async def _other_secrets(db: Database, config: Config) -> list[Finding]:
    """Secrets that other servers have otherwise, or that this one has changed since it started.
    A file that cannot be read has a finding already, or keeps `hoodyd run` from starting."""
    async with db.read() as tx:
        known = await servers.every(tx)
    auth = config.auth
    shared = [("sealing_fingerprint", auth.sealing_key_file, keyfiles.read_sealing_key)]
    if auth.algorithm == "HS256":
        shared.append(("secret_fingerprint", auth.secret_file, keyfiles.read_token_secret))
    found = []
    for column, path, read in shared:
        try:
            mine = keys.fingerprint(read(config))
        except ConfigError:
            continue
        names = sorted(server.name for server in known if getattr(server, column) != mine)
        if names:
            message = f"not the secret of {', '.join(names)}; all servers must have the same"
            found.append(Finding("SECRET_DIFFERS", path, message))
    return found


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
        "DATASET_UNKNOWN": lambda: _destroy(db, storage, config.server.id, finding.subject),
        "GENERATION_UNMOUNTED": lambda: _mount(storage, config, finding.subject),
        "PROCESS_MISSING": lambda: _lead_to(db, storage, config, finding.subject),
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


async def _destroy(db: Database, storage: Storage, server_id: str, path: str) -> None:
    """Nothing of it goes where a part of it must stay."""
    view = await _look(db, storage, server_id)
    dataset = view.forest.datasets.get(path)
    if dataset is None:
        return
    guids = {snapshot.guid for snapshot in dataset.snapshots}
    if guids & view.needed:
        raise DatasetBusy("a list or a base needs its snapshots", path=path)
    if any(snapshot.holds for snapshot in dataset.snapshots):
        raise DatasetBusy("it has snapshots that are held", path=path)
    if any(other.origin in guids for other in view.forest) and (await storage.traits()).clones_pin:
        raise DatasetBusy("others are clones of it", path=path)
    await storage.unmount(path)
    for snapshot in dataset.snapshots:
        await storage.destroy_snapshot(path, snapshot.guid)
    await storage.destroy(path)


async def _mount(storage: Storage, config: Config, path: str) -> None:
    """As a switch leaves it: mounted, and `current` names it."""
    await storage.mount(path)
    _, container_id, generation_id = path.split("/")
    mount_root = config.storage.mount_root
    await asyncio.to_thread(point_current, mount_root, container_id, generation_id)


async def _lead_to(db: Database, storage: Storage, config: Config, container_id: str) -> None:
    """Has `current` name the live generation, where there is one."""
    async with db.read() as tx:
        container = await containers.get(tx, container_id)
    if container is None or container.generation_id is None:
        raise DatasetMissing("nothing of it is live", container=container_id)
    await _mount(storage, config, generation_path(container_id, container.generation_id))
