"""History: the user snapshots that a copy inherits from its source, and keeps for itself."""

from __future__ import annotations

import re
from collections.abc import Sequence, Set
from dataclasses import replace
from itertools import count

from daemon.actions.context import Context
from daemon.model import Container, UserSnapshot, now
from daemon.store import user_snapshots
from daemon.store.database import Tx

_NUMBERED = re.compile(r"(snap-\d{8}-\d{6})(?:-\d+)?")


async def to_inherit(ctx: Context, copy: Container, source: Container) -> list[UserSnapshot]:
    """What the source lists and the copy never had, oldest first; for a copy of a snapshot, what
    is not newer than that."""
    newest = ctx.job.params.get("sequence")
    at = now()
    async with ctx.db.read() as tx:
        had = await user_snapshots.had(tx, copy.id)
        listed = await user_snapshots.listed(tx, source.id)
    return [
        snapshot
        for snapshot in reversed(listed)
        if snapshot.id not in had
        and (snapshot.expires_at is None or snapshot.expires_at > at)
        and (not isinstance(newest, int) or snapshot.sequence <= newest)
    ]


async def inherit(tx: Tx, copy: Container, source: Container, come: Sequence[UserSnapshot]) -> None:
    """Adds what has come to the copy's list, as far as the source still lists it: it may have
    been deleted there meanwhile."""
    listed = {snapshot.id: snapshot for snapshot in await user_snapshots.listed(tx, source.id)}
    had = await user_snapshots.had(tx, copy.id)
    taken = await user_snapshots.names(tx, copy.id)
    for snapshot in come:
        theirs = listed.get(snapshot.id)
        if theirs is None or theirs.id in had:
            continue
        name = free_name(theirs.name, taken)
        taken.add(name)
        await user_snapshots.insert(
            tx, replace(theirs, container_id=copy.id, name=name, inherited=True)
        )
    await user_snapshots.forget_dropped(tx, copy.id, listed.keys())


def free_name(name: str, taken: Set[str]) -> str:
    """The name, or the first of `-2`, `-3` … that is free."""
    if name not in taken:
        return name
    numbered = _NUMBERED.fullmatch(name)
    stem = numbered[1] if numbered else name
    return next(other for number in count(2) if (other := f"{stem}-{number}") not in taken)
