"""Holdings: on which servers a job may have holds. Written before the first hold."""

from __future__ import annotations

from sqlalchemy import and_, delete, exists, insert, select
from sqlalchemy.sql.elements import ColumnElement

from daemon.store.database import Tx
from daemon.store.schema import ACTIVE, holdings, jobs


async def add(tx: Tx, job_id: str, server_id: str) -> None:
    """Note that a job may have holds on a server from now on; may be called twice."""
    there = await tx.execute(select(holdings).where(_is(job_id, server_id)))
    if there.first() is None:
        await tx.execute(insert(holdings).values(job_id=job_id, server_id=server_id))


async def of_server(tx: Tx, server_id: str) -> list[str]:
    """The ids of the jobs that may have holds on a server."""
    wanted = select(holdings.c.job_id).where(holdings.c.server_id == server_id)
    return list((await tx.execute(wanted.order_by(holdings.c.job_id))).scalars())


async def left_on(tx: Tx, server_id: str) -> set[str]:
    """The ids of the jobs that have ended and may have holds on a server."""
    at_work = exists().where(jobs.c.id == holdings.c.job_id, jobs.c.state.in_(ACTIVE))
    wanted = select(holdings.c.job_id).where(holdings.c.server_id == server_id, ~at_work)
    return set((await tx.execute(wanted)).scalars())


async def servers_of(tx: Tx, job_id: str) -> list[str]:
    """The ids of the servers on which a job may have holds."""
    wanted = select(holdings.c.server_id).where(holdings.c.job_id == job_id)
    return list((await tx.execute(wanted.order_by(holdings.c.server_id))).scalars())


async def drop(tx: Tx, job_id: str, server_id: str) -> None:
    """Note that a job's holds on a server are released."""
    await tx.execute(delete(holdings).where(_is(job_id, server_id)))


def _is(job_id: str, server_id: str) -> ColumnElement[bool]:
    return and_(holdings.c.job_id == job_id, holdings.c.server_id == server_id)
