"""Collect: the one place that destroys datasets and snapshots.

It looks at the catalogue and the storage, lets `transfer.retain` decide, and does what has been
unneeded for the grace time. A dataset that cannot be unmounted or a snapshot that is in use
stays for the next round. What no row accounts for is not touched: `hoodyd doctor` reports it.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

from daemon.actions import generations, image_adding, letting_go, sizes
from daemon.model import DatasetRow, Role, mirror_path
from daemon.store import (
    bases,
    containers,
    datasets,
    image_uses,
    jobs,
    leases,
    unneeded,
    user_snapshots,
)
from daemon.store.database import Database, Tx
from transfer.errors import DatasetBusy, PermissionMissing
from transfer.model import Dataset, Forest, Guid
from transfer.retain import Deed, DeedKind, Needs, deeds, possible
from transfer.storage.base import Storage

_OURS = re.compile(r"h-[0-9a-f]{24}")


@dataclass(frozen=True, slots=True)
class Rules:
    """`grace`: how long a thing has been unneeded before it goes. `base_ttl`: how long a base is
    kept for a peer without a heartbeat."""

    grace: timedelta
    base_ttl: timedelta


@dataclass(frozen=True)
class Inventory:
    """The server's storage, and what the catalogue says of it, read in one transaction."""

    forest: Forest
    rows: dict[str, DatasetRow]
    needs: Needs
    half_made: frozenset[str]


class Collector:
    """Collects on one server."""

    def __init__(
        self, db: Database, storage: Storage, server_id: str, rules: Rules, lock_dir: str
    ) -> None:
        """`lock_dir` is the storage's."""
        self._db = db
        self._storage = storage
        self._server_id = server_id
        self._rules = rules
        self._lock_dir = lock_dir
        self._marked: frozenset[Guid] = frozenset()
        self._met: frozenset[letting_go.Leaving] = frozenset()
        self.look_seconds = 0.0
        """What the last look at the whole storage took."""

    async def is_urgent(self) -> bool:
        """Whether jobs that have ended left what goes without a grace time, other than what the
        last round has met: what that could not do away with, somebody still uses."""
        return not await letting_go.leavings(self._db, self._server_id) <= self._met

    async def run(self, now: datetime) -> list[Deed]:
        """One round; returns what was done."""
        met = await letting_go.leavings(self._db, self._server_id)
        traits = await self._storage.traits()
        self._marked = await letting_go.bases(
            self._db,
            self._server_id,
            now - self._rules.base_ttl,
            bookmarks=traits.bookmarks,
        )
        left = await letting_go.left_over(self._db, self._server_id, self._lock_dir)
        forest = await self._look()
        if await letting_go.holds(self._db, self._storage, left, forest):
            forest = await self._look()
        if await self._move_orphans(forest):
            forest = await self._look()
        inventory = await self._take_inventory(forest)
        await self._note_whole(inventory)
        todo = deeds(forest, inventory.needs)
        ripe = await self._ripe(todo, inventory, now)
        done = [deed for deed in ripe if await self._do(deed, inventory)]
        await letting_go.rows(self._db, left, _without(forest, done))
        await self._drop_bookmarks(_without(forest, done), inventory)
        await sizes.note(self._db, self._server_id, forest)
        self._met = met
        return done

    async def _look(self) -> Forest:
        """All that is in the storage, of ours."""
        began = time.monotonic()
        try:
            return _ours(await self._storage.forest())
        finally:
            self.look_seconds = time.monotonic() - began

    async def _take_inventory(self, forest: Forest) -> Inventory:
        traits = await self._storage.traits()
        async with self._db.read() as tx:
            rows = await datasets.on_server(tx, self._server_id)
            live_ids = {c.generation_id for c in await containers.on_server(tx, self._server_id)}
            busy = await jobs.of_server_active(tx, self._server_id)
            compared = await containers.compared(tx, self._server_id)
            compared_ids = {container.generation_id for container in compared}
            shipped = await self._shipped(tx)
            guids = await self._named(tx)
        active = {job.id for job in busy}
        replaced = generations.replaced(busy)
        live = [row for row in rows if row.role is Role.GENERATION and row.id in live_ids]
        guids |= {row.settled_guid for row in live if row.settled_guid and row.id in compared_ids}
        making = {row.path for row in rows if not row.ready and row.job_id in active}
        # A job that cannot start what it has switched to switches back to it.
        making |= {row.path for row in rows if row.id in replaced}
        adding = await image_adding.in_the_making(self._db, self._lock_dir, rows)
        making |= {row.path for row in rows if row.id in adding}
        live_paths = {row.path for row in live}
        needs = Needs(
            live=frozenset(live_paths),
            closed=frozenset(making | (shipped - live_paths)),
            guids=frozenset(guids),
            untrimmed=frozenset(
                row.path
                for row in rows
                if row.ready and not row.trimmed and not (_grows(row) and row.job_id in active)
            ),
            known=frozenset(row.path for row in rows),
            clones_pin=traits.clones_pin,
        )
        half_made = {row.path for row in rows if not row.ready} - making
        return Inventory(forest, {row.path: row for row in rows}, needs, frozenset(half_made))

    async def _named(self, tx: Tx) -> set[Guid]:
        """The snapshots that bases, lists, images and the jobs of all servers name; and of a source
        and its copy on this server the state that the copy last took, which is to both what a base
        is to two servers: by it an unchanged source is known."""
        guids = {base.guid for base in await bases.held_by(tx, self._server_id)} - self._marked
        ours = await containers.on_server(tx, self._server_id)
        sources = {container.id for container in ours}
        guids |= {c.taken_guid for c in ours if c.taken_guid and c.source_container_id in sources}
        guids |= await user_snapshots.needed_on(tx, self._server_id)
        guids |= await image_uses.needed_on(tx, self._server_id)
        params = [job.params for job in await jobs.active(tx)]
        return guids | {str(given["guid"]) for given in params if "guid" in given}

    async def _is_named(self, guid: Guid) -> bool:
        """Whether the catalogue names the snapshot by now: since this round looked, a job may
        have taken it, listed it and let go of it. To be asked while nobody can take it."""
        async with self._db.read() as tx:
            return guid in await self._named(tx)

    async def _shipped(self, tx: Tx) -> set[str]:
        """The datasets that may grow: of each generation that is being shipped to this server."""
        found: set[str] = set()
        for generation_id in await leases.on_server(tx, self._server_id):
            rows = await datasets.of_generation(tx, self._server_id, generation_id)
            found |= {row.path for row in rows}
        return found

    async def _note_whole(self, inventory: Inventory) -> None:
        """A mirror whose job ended between the last receive and the note that it is whole: what
        is in it is, and is kept where something needs it."""
        for path in sorted(inventory.half_made):
            row, dataset = inventory.rows[path], inventory.forest.datasets.get(path)
            if row.role is not Role.MIRROR or dataset is None or dataset.partial:
                continue
            if inventory.needs.guids & {snapshot.guid for snapshot in dataset.snapshots}:
                await self._note(row, ready=True)

    async def _ripe(self, todo: list[Deed], inventory: Inventory, now: datetime) -> list[Deed]:
        """What may be done now: unneeded for the grace time, or left half-made by a job that has
        ended, also in a mirror that is needed. A dataset goes only together with all its
        snapshots."""
        things = {deed.thing for deed in todo}
        async with self._db.write() as tx:
            since = await unneeded.seen(tx, self._server_id, things, now)
        young = {
            deed.path
            for deed in todo
            if since[deed.thing] + self._rules.grace > now and deed.path not in inventory.half_made
        }
        ripe = [
            deed
            for deed in todo
            if deed.path not in young
            or (deed.kind is not DeedKind.DESTROY and since[deed.thing] + self._rules.grace <= now)
            or (deed.kind is DeedKind.TRIM and _grows(inventory.rows[deed.path]))
        ]
        return possible(inventory.forest, ripe, clones_pin=inventory.needs.clones_pin)

    async def _do(self, deed: Deed, inventory: Inventory) -> bool:
        """Carries one deed out; False where somebody still uses what it is about, or where it takes
        root and we are not: a source may run without (README, least privilege)."""
        row = inventory.rows[deed.path]
        try:
            if deed.kind is DeedKind.PROMOTE:
                await self._promote(row, deed.guid or "", inventory)
                return True
            if row.role is Role.GENERATION and deed.path not in inventory.needs.live:
                await self._storage.unmount(deed.path)
            if deed.kind is DeedKind.DESTROY:
                await self._destroy(row)
            elif deed.kind is DeedKind.TRIM:
                await self._storage.trim(deed.path)
                await self._note(row, trimmed=True)
            else:
                if row.trimmed:
                    await self._note(row, trimmed=False)
                guid = deed.guid or ""
                is_named = partial(self._is_named, guid)
                await self._storage.destroy_snapshot(deed.path, guid, is_named)
        except (DatasetBusy, PermissionMissing):
            return False
        return True

    async def _promote(self, clone: DatasetRow, guid: Guid, inventory: Inventory) -> None:
        """Gives the husk's snapshots to its clone; that it has them is noted before."""
        origin = inventory.forest.find(guid)
        if origin is not None:
            async with self._db.write() as tx:
                layers = await datasets.generations(tx, inventory.rows[origin.dataset])
                await datasets.add_strata(tx, clone, layers)
        await self._storage.promote(clone.path, guid)

    async def _destroy(self, row: DatasetRow) -> None:
        """A row that is not ready may be without its dataset: where this is killed in the middle,
        a later round forgets it."""
        await self._note(row, ready=False)
        try:
            await self._storage.destroy(row.path)
        except (DatasetBusy, PermissionMissing):
            await self._note(row, ready=row.ready)
            raise
        async with self._db.write() as tx:
            await datasets.delete(tx, row.id)

    async def _drop_bookmarks(self, forest: Forest, inventory: Inventory) -> None:
        """Of snapshots that are gone and no base, in datasets that a row accounts for. What still
        has its snapshot may become one."""
        async with self._db.read() as tx:
            kept = {base.guid for base in await bases.held_by(tx, self._server_id)}
        for dataset in forest:
            for mark in dataset.remains if dataset.path in inventory.rows else ():
                if mark.guid not in kept and _OURS.fullmatch(mark.name):
                    await self._storage.destroy_bookmark(dataset.path, mark.guid)

    async def _note(self, row: DatasetRow, **columns: bool) -> None:
        async with self._db.write() as tx:
            await datasets.change(tx, row.id, **columns)

    async def _move_orphans(self, forest: Forest) -> bool:
        """What was a generation of a container that is gone becomes a mirror; says whether there
        was any. The move comes first, so a row may be one step behind."""
        moved = False
        async with self._db.read() as tx:
            rows = await datasets.on_server(tx, self._server_id)
        for row in rows:
            if row.role is not Role.GENERATION or row.container_id is not None:
                continue
            target = mirror_path(row.id)
            if row.path in forest.datasets:
                try:
                    await self._storage.retire(row.path, target)
                except (DatasetBusy, PermissionMissing):
                    continue
            if target in (await self._storage.inspect([target])).datasets:
                async with self._db.write() as tx:
                    await datasets.change(tx, row.id, path=target, role=Role.MIRROR)
                moved = True
        return moved


def _grows(row: DatasetRow) -> bool:
    """Whether it is a mirror in which something was begun that has not landed."""
    return row.role is Role.MIRROR and row.ready and not row.trimmed


def _ours(forest: Forest) -> Forest:
    """The forest without snapshots that somebody else took by hand."""
    return Forest.of(
        replace(dataset, snapshots=tuple(s for s in dataset.snapshots if _OURS.fullmatch(s.name)))
        for dataset in forest
    )


def _without(forest: Forest, done: list[Deed]) -> Forest:
    """The forest as it is after what was done."""
    datasets_gone = {deed.path for deed in done if deed.kind is DeedKind.DESTROY}
    guids_gone = {deed.guid for deed in done if deed.kind is DeedKind.DESTROY_SNAPSHOT}
    left: list[Dataset] = []
    for dataset in forest:
        if dataset.path not in datasets_gone:
            kept = tuple(s for s in dataset.snapshots if s.guid not in guids_gone)
            left.append(replace(dataset, snapshots=kept))
    return Forest.of(left)
