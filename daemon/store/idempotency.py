"""The keys that clients gave with their POSTs, and what was answered, for a day."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, select, update

from daemon.model import KeyedRow
from daemon.store import rows
from daemon.store.database import Tx
from daemon.store.schema import idempotency

KEPT = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class KeyUse:
    """Whose key it is, and of what: the same text means nothing elsewhere."""

    user_id: str
    method: str
    path: str
    key: str


async def get(tx: Tx, use: KeyUse, at: datetime) -> KeyedRow | None:
    """The request that the key was first given with; None where that is too long ago."""
    wanted = select(idempotency).where(*rows.matches(idempotency, use))
    return await rows.one(tx, KeyedRow, wanted.where(idempotency.c.created_at > at - KEPT))


async def put(tx: Tx, row: KeyedRow) -> None:
    """Note a key's first request, in place of one that is too long ago."""
    use = KeyUse(row.user_id, row.method, row.path, row.key)
    await tx.execute(delete(idempotency).where(*rows.matches(idempotency, use)))
    await rows.add(tx, idempotency, row)


async def change(tx: Tx, use: KeyUse, **columns: object) -> None:
    """Set columns of a key's row."""
    one = update(idempotency).where(*rows.matches(idempotency, use))
    await tx.execute(one.values(**columns))


async def purge(tx: Tx, before: datetime) -> None:
    """Forget the keys that were first given before then."""
    await tx.execute(delete(idempotency).where(idempotency.c.created_at <= before))
