"""The one primitive: a new generation from a snapshot, beside the live one, then the switch."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from daemon import keys
from daemon.actions.context import Context
from daemon.actions.identity import HostKey, Identity, put_identity, read_host_keys
from daemon.errors import JobError
from daemon.model import (
    Container,
    DatasetRow,
    Job,
    JobType,
    Json,
    Role,
    Status,
    generation_path,
    new_id,
    now,
    snapshot_name,
)
from daemon.store import containers, datasets, jobs, looks
from daemon.store.database import Tx
from transfer.errors import VerifyMismatch
from transfer.model import Dataset, Guid

_REPLACED = "replaced"
"""In a job's checkpoint: what of the container's record its switch has changed."""

Commit = Callable[[Tx, float], Awaitable[Json]]
"""Given the transaction and the downtime in seconds."""


@dataclass(frozen=True, slots=True)
class Generation:
    """A generation that is ready to go live: cloned, mounted, with its identity, on the disk."""

    id: str
    dataset: Dataset
    rootfs: str
    origin_guid: Guid
    settled_guid: Guid | None
    key: keys.KeyPair | None


async def make(ctx: Context, container: Container, guid: Guid) -> Generation:
    """Clones the snapshot into a new generation and puts the container's identity into it."""
    generation_id = await _register(ctx, container, guid)
    path = generation_path(container.id, generation_id)
    known = {"container": container.id, "role": "generation", "live-since": now().isoformat()}
    await ctx.storage.clone(guid, path, known)
    rootfs = await ctx.storage.mount(path)
    container = await ctx.container()  # its name and key may have changed during the transfer
    key = keys.generate(container.id) if container.ssh_public_key is None else None
    await ctx.remember(unfinished=generation_id)
    await asyncio.to_thread(put_identity, rootfs, _identity(ctx, container, key))
    await ctx.remember(unfinished=None)
    name = snapshot_name(generation_id)
    async with ctx.watch.lap("verify"):  # it is on the disk, and made of what was planned
        dataset = await ctx.storage.settle(path, name)
        if dataset.origin != guid:
            made_of = dataset.origin
            raise VerifyMismatch("a generation of another state", planned=guid, made_of=made_of)
    settled_guid = next((one.guid for one in dataset.snapshots if one.name == name), None)
    return Generation(generation_id, dataset, rootfs, guid, settled_guid, key)


async def _register(ctx: Context, container: Container, guid: Guid) -> str:
    """The id of the generation to make: a later attempt goes on with the same one, unless it is
    to be made from another snapshot, or its identity is put in by half: what a kill leaves there,
    a temporary file or a directory's new time, nobody can tell from the source's any more."""
    known = ctx.recall("generation")
    finished = known != ctx.recall("unfinished")
    if known is not None and ctx.recall("generation_of") == guid and finished:
        return known
    generation_id = new_id()
    row = DatasetRow(
        id=generation_id,
        server_id=ctx.server_id,
        role=Role.GENERATION,
        generation_id=generation_id,
        path=generation_path(container.id, generation_id),
        container_id=container.id,
        job_id=ctx.job.id,
    )
    async with ctx.write() as tx:
        await datasets.insert(tx, row)
    await ctx.remember(generation=generation_id, generation_of=guid)
    return generation_id


def _identity(ctx: Context, container: Container, key: keys.KeyPair | None) -> Identity:
    """The container's own; its ssh host keys are those of its live generation, where it has one,
    so that a sync does not make it unknown to its users."""
    host_keys: tuple[HostKey, ...] = ()
    if container.generation_id is not None:
        live = ctx.storage.rootfs(generation_path(container.id, container.generation_id))
        with suppress(FileNotFoundError, NotADirectoryError):
            host_keys = read_host_keys(live)
    authorized = key.public_text if key else container.ssh_public_key
    return Identity(container.name, authorized, host_keys)


async def switch(
    ctx: Context, container: Container, generation: Generation, commit: Commit
) -> None:
    """Makes the generation live in one transaction, and the container run if it shall.

    From here on it is too late to cancel. `commit` adds what else the job commits and gives the
    job's result, which is kept in the checkpoint: a later attempt could not know it. How long the
    container was down is known only when it is up again; where a crash comes before, what is
    known until the commit stands.
    """
    await ctx.step("switch")
    starts = _starts(ctx, container)
    began = time.monotonic()
    if container.generation_id is not None:
        await ctx.runtime.stop(container)
    async with ctx.write() as tx:
        await _commit(tx, ctx, container, generation, starts)
        downtime_seconds = time.monotonic() - began if container.generation_id else 0.0
        result = await commit(tx, downtime_seconds)
        fresh = {"result": result, _REPLACED: _state(container)}
        ctx.job = await jobs.save(tx, ctx.job, checkpoint={**ctx.job.checkpoint, **fresh})
    await go_live(ctx, await ctx.container())
    if container.generation_id is not None:
        downtime_seconds = round(time.monotonic() - began, 6)
        await ctx.remember(result={**result, "downtime_seconds": downtime_seconds})


def _starts(ctx: Context, container: Container) -> bool:
    """A copy always starts, a new container if it shall, a sync only what was running before."""
    if ctx.job.type is JobType.CREATE:
        return container.autostart
    return ctx.job.params.get("was") != Status.STOPPED


async def _commit(
    tx: Tx,
    ctx: Context,
    container: Container,
    generation: Generation,
    starts: bool,
) -> None:
    if container.generation_id is not None:
        await datasets.change(tx, container.generation_id, retired=True, trimmed=False)
    await datasets.change(
        tx,
        generation.id,
        ready=True,
        rootfs=generation.rootfs,
        storage_name=f"{ctx.storage_root}/{generation.dataset.path}",
        origin_guid=generation.origin_guid,
        settled_guid=generation.settled_guid,
    )
    current = await containers.get(tx, container.id)
    changes: dict[str, object] = {
        "generation_id": generation.id,
        "status_reason": None,
        "exit_code": None,
        "referenced_bytes": generation.dataset.referenced_bytes,
        "unique_bytes": generation.dataset.used_bytes,
    }
    # What was asked of the container meanwhile stands: a delete that waits, a key that was given.
    if current is not None and current.status is not Status.DELETING:
        changes["status"] = Status.RUNNING if starts else Status.STOPPED
    if generation.key is not None and current is not None and current.ssh_public_key is None:
        changes |= {
            "ssh_public_key": generation.key.public_text,
            "ssh_key_id": generation.key.key_id,
            "ssh_private_sealed": keys.seal(ctx.sealing_key, generation.key.private_text),
        }
    await containers.change(tx, container.id, **changes)
    await looks.written(tx, container.id, now())


async def go_live(ctx: Context, container: Container) -> None:
    """What follows the commit, and is safe to repeat: `current` names the live generation, and a
    running container runs. One that does not start is switched back to what it was; where it was
    nothing, it is stopped. Raises JobError START_FAILED then."""
    try:
        await _run(ctx, container)
    except JobError as error:
        if (before := await _switch_back(ctx, container)) is None:
            await _stay_down(ctx, error)
        else:
            await _run_again(ctx, before)
        raise


async def _run(ctx: Context, container: Container) -> None:
    assert container.generation_id is not None  # noqa: S101 - the switch has just set it
    path = generation_path(container.id, container.generation_id)
    rootfs = await ctx.storage.mount(path)
    await asyncio.to_thread(point_current, ctx.mount_root, container.id, container.generation_id)
    if container.status is Status.RUNNING:
        await ctx.runtime.start(container, rootfs)


def _state(container: Container) -> Json | None:
    """What a switch changes of the container's record, as it is before that."""
    if container.generation_id is None:
        return None
    synced_at = container.last_synced_at
    return {
        "generation_id": container.generation_id,
        "taken_guid": container.taken_guid,
        "updated_at": container.updated_at.isoformat(),
        "last_synced_at": None if synced_at is None else synced_at.isoformat(),
    }


def replaced(active: Iterable[Job]) -> set[str]:
    """The generations that these jobs have replaced, and may switch back to."""
    states = (job.checkpoint.get(_REPLACED) for job in active)
    return {str(state["generation_id"]) for state in states if isinstance(state, dict)}


async def _switch_back(ctx: Context, container: Container) -> Container | None:
    """Makes live what this job has replaced, and forgets the job's own generation. None where it
    has replaced nothing. Snapshots that came with the switch stay on the list: they are whole."""
    state = ctx.job.checkpoint.get(_REPLACED)
    if not isinstance(state, dict):
        return None
    generation_id, synced_at = str(state["generation_id"]), state["last_synced_at"]
    changes: dict[str, object] = {
        "generation_id": generation_id,
        "taken_guid": state["taken_guid"],
        "updated_at": datetime.fromisoformat(state["updated_at"]),
        "last_synced_at": datetime.fromisoformat(synced_at) if synced_at else None,
    }
    gone = {"result", "generation", "generation_of", _REPLACED}
    async with ctx.write() as tx:
        await datasets.change(tx, container.generation_id or "", retired=True, trimmed=False)
        await datasets.change(tx, generation_id, retired=False)
        await containers.change(tx, container.id, **changes)
        kept = {name: value for name, value in ctx.job.checkpoint.items() if name not in gone}
        ctx.job = await jobs.save(tx, ctx.job, checkpoint=kept)
    return await ctx.container()


async def _run_again(ctx: Context, container: Container) -> None:
    try:
        await _run(ctx, container)
    except JobError as error:
        await _stay_down(ctx, error)


async def _stay_down(ctx: Context, error: JobError) -> None:
    """A start that fails ends in `stopped`, with the reason."""
    reason = f"{error.code}: {error.message}"
    async with ctx.write() as tx:
        container = await containers.get(tx, ctx.job.container_id)
        if container is not None and container.status is Status.RUNNING:
            changes = {"status": Status.STOPPED, "status_reason": reason}
            await containers.change(tx, container.id, **changes)


def point_current(mount_root: str, container_id: str, generation_id: str) -> None:
    """`<mount_root>/<container>/current` names the live generation from one instant to the next."""
    directory = os.path.join(mount_root, container_id)
    fresh = os.path.join(directory, f".current-{generation_id}")
    with suppress(FileNotFoundError):
        os.unlink(fresh)
    os.symlink(generation_id, fresh)
    os.replace(fresh, os.path.join(directory, "current"))


def drop_current(mount_root: str, container_id: str) -> None:
    """The container has no live generation any more; its directory goes with its last mount."""
    with suppress(FileNotFoundError):
        os.unlink(os.path.join(mount_root, container_id, "current"))


def switched(ctx: Context, container: Container) -> bool:
    """Whether an earlier attempt of this job has already committed its switch."""
    return "result" in ctx.job.checkpoint and container.generation_id == ctx.recall("generation")


async def as_before(tx: Tx, job: Job) -> None:
    """The container's status of before a sync or restore that makes no new generation; one that
    is to be deleted meanwhile stays so."""
    container = await containers.get(tx, job.container_id)
    if container is not None and container.status in (Status.COPYING, Status.RESTORING):
        await containers.change(tx, container.id, status=Status(str(job.params["was"])))
