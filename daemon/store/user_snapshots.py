"""User snapshots: the lists of snapshots that containers have. A list goes with its container."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import and_, func, or_, select, update
from sqlalchemy import delete as delete_from
from sqlalchemy.sql.elements import ColumnElement

from daemon.model import UserSnapshot
from daemon.store import jobs, rows
from daemon.store.database import Tx
from daemon.store.schema import containers, user_snapshots
from transfer.model import Guid

_is_listed = user_snapshots.c.dropped.is_(False)
_newest_first = (user_snapshots.c.sequence.desc(), user_snapshots.c.id)


async def insert(tx: Tx, snapshot: UserSnapshot) -> None:
    """Add an entry to a container's list. Raises Conflict("snapshot_name")."""
    await rows.add(tx, user_snapshots, snapshot)


async def listed(tx: Tx, container_id: str) -> list[UserSnapshot]:
    """What a container lists, newest first."""
    return await _every(tx, user_snapshots.c.container_id == container_id)


async def get(tx: Tx, container_id: str, snapshot_id: str) -> UserSnapshot | None:
    """One entry of a container's list."""
    wanted = select(user_snapshots).where(_is(container_id, snapshot_id), _is_listed)
    return await rows.one(tx, UserSnapshot, wanted)


async def called(tx: Tx, container_id: str, reference: str) -> list[UserSnapshot]:
    """The entry with this name; where there is none, those with this alias, newest first."""
    mine = user_snapshots.c.container_id == container_id
    named = await _every(tx, mine, user_snapshots.c.name == reference)
    return named or await _every(tx, mine, user_snapshots.c.alias == reference)


async def names(tx: Tx, container_id: str) -> set[str]:
    """The names that are taken in a container's list."""
    taken = select(user_snapshots.c.name).where(
        user_snapshots.c.container_id == container_id, _is_listed
    )
    return set((await tx.execute(taken)).scalars())


async def had(tx: Tx, container_id: str) -> set[str]:
    """The ids of all snapshots that a container lists, or listed and dropped."""
    ids = select(user_snapshots.c.id).where(user_snapshots.c.container_id == container_id)
    return set((await tx.execute(ids)).scalars())


async def guids(tx: Tx, container_id: str) -> set[Guid]:
    """The guids of all snapshots that a container lists, or inherited and dropped."""
    wanted = select(user_snapshots.c.guid).where(user_snapshots.c.container_id == container_id)
    return set((await tx.execute(wanted)).scalars())


async def change(tx: Tx, container_id: str, snapshot_id: str, **columns: object) -> bool:
    """Set columns of an entry; False where it is not listed."""
    entry = update(user_snapshots).where(_is(container_id, snapshot_id), _is_listed)
    return (await tx.execute(entry.values(**columns))).rowcount > 0


async def drop(tx: Tx, snapshot: UserSnapshot) -> None:
    """Take an entry off its container's list. That of an inherited one stays, dropped, so that
    no sync brings it back."""
    if snapshot.inherited:
        await change(tx, snapshot.container_id, snapshot.id, dropped=True)
    else:
        own = _is(snapshot.container_id, snapshot.id)
        await tx.execute(delete_from(user_snapshots).where(own))


async def forget_dropped(tx: Tx, container_id: str, kept_ids: Collection[str]) -> None:
    """Forget the dropped entries of a copy but those that its source could bring back."""
    await tx.execute(
        delete_from(user_snapshots).where(
            user_snapshots.c.container_id == container_id,
            user_snapshots.c.dropped.is_(True),
            user_snapshots.c.id.not_in(kept_ids),
        )
    )


async def of_server(tx: Tx, server_id: str) -> list[UserSnapshot]:
    """What the containers of a server list."""
    here = select(containers.c.id).where(containers.c.server_id == server_id)
    return await _every(tx, user_snapshots.c.container_id.in_(here))


async def needed_on(tx: Tx, server_id: str) -> set[Guid]:
    """What a server keeps for lists: those of its containers, and those of the containers that
    they were copied from, which another copy or a later sync would otherwise fetch again."""
    here = containers.c.server_id == server_id
    wanted = select(user_snapshots.c.guid).where(
        _is_listed,
        or_(
            user_snapshots.c.container_id.in_(select(containers.c.id).where(here)),
            user_snapshots.c.container_id.in_(select(containers.c.source_container_id).where(here)),
        ),
    )
    return set((await tx.execute(wanted)).scalars())


async def expired(tx: Tx, server_id: str, at: datetime) -> list[UserSnapshot]:
    """The entries of a server's containers whose time is over, but for those that a job reads:
    their time is over when the job is."""
    here = select(containers.c.id).where(containers.c.server_id == server_id)
    late = user_snapshots.c.expires_at <= at
    found = await _every(tx, user_snapshots.c.container_id.in_(here), late)
    in_use = {job.params.get("snapshot") for job in await jobs.active(tx)} if found else set()
    return [entry for entry in found if entry.id not in in_use]


async def next_expiry(tx: Tx, server_id: str, after: datetime) -> datetime | None:
    """When the next entry of a server's containers expires."""
    here = select(containers.c.id).where(containers.c.server_id == server_id)
    wanted = select(func.min(user_snapshots.c.expires_at)).where(
        user_snapshots.c.container_id.in_(here), _is_listed, user_snapshots.c.expires_at > after
    )
    found: datetime | None = (await tx.execute(wanted)).scalar_one()
    return found


async def _every(tx: Tx, *wanted: ColumnElement[bool]) -> list[UserSnapshot]:
    found = select(user_snapshots).where(_is_listed, *wanted)
    return await rows.every(tx, UserSnapshot, found.order_by(*_newest_first))


def _is(container_id: str, snapshot_id: str) -> ColumnElement[bool]:
    return and_(user_snapshots.c.container_id == container_id, user_snapshots.c.id == snapshot_id)
