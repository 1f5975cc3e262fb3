"""One counter that orders jobs and snapshots."""

from __future__ import annotations

from sqlalchemy import insert, update

from daemon.store.database import Tx
from daemon.store.schema import counter

_NAME = "sequence"


async def next_sequence(tx: Tx) -> int:
    """The next number. Transactions that write get them in the order of their commits."""
    raised = await tx.execute(
        update(counter)
        .where(counter.c.name == _NAME)
        .values(value=counter.c.value + 1)
        .returning(counter.c.value)
    )
    value = raised.scalar_one_or_none()
    if value is None:
        value = 1
        await tx.execute(insert(counter).values(name=_NAME, value=value))
    return value
