"""Jobs: made, found, claimed, moved. Every change of state goes through `daemon.states`."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypedDict, Unpack

from sqlalchemy import and_, delete, exists, func, or_, select, update
from sqlalchemy.sql.elements import ColumnElement

from daemon.errors import JobError, LeaseLost
from daemon.model import BESIDE, Job, JobState, JobType, Json
from daemon.states import ENDED, Move, after
from daemon.store import events, rows
from daemon.store.database import Tx
from daemon.store.listen import announce
from daemon.store.schema import ACTIVE, containers, jobs
from daemon.store.sequence import next_sequence

_TOO_LATE = ("switch", "release")
"""The steps from which on a job cannot be cancelled."""

_others = jobs.alias()
"""Made once: making it costs as much as the rest of a claim, which comes four times a second."""


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs a list shows: those that match every field that is not None.

    `user_id`: the jobs that this user asked for, and those of the user's containers.
    """

    user_id: str | None = None
    container_id: str | None = None
    state: JobState | None = None
    type: JobType | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """The jobs of one type and state; `oldest` is when the first of them was made."""

    type: JobType
    state: JobState
    count: int
    oldest: datetime


class Outcome(TypedDict, total=False):
    """What a move leaves on a job: a result or an error at its end, or when to try again."""

    result: Json | None
    error: Json | None
    not_before: datetime | None


async def insert(tx: Tx, job: Job) -> Job:
    """Add a queued job; returns it with its sequence.

    Raises Conflict("job") where the container has a job that has not ended; a delete stands in
    the way of other deletes only, and nothing else in its.
    """
    placed = replace(job, sequence=await next_sequence(tx))
    await rows.add(tx, jobs, placed)
    await events.add_job(tx, placed, at=placed.created_at)
    return placed


async def get(tx: Tx, job_id: str) -> Job | None:
    """The job with this id."""
    return await rows.one(tx, Job, select(jobs).where(jobs.c.id == job_id))


async def page(tx: Tx, wanted: JobFilter, page: int, limit: int) -> tuple[list[Job], int]:
    """One page of the jobs that are wanted, and how many there are."""
    where = rows.matches(jobs, replace(wanted, user_id=None))
    if wanted.user_id is not None:
        owned = select(containers.c.id).where(containers.c.owner_id == wanted.user_id)
        where.append(or_(jobs.c.user_id == wanted.user_id, jobs.c.container_id.in_(owned)))
    return await rows.page(tx, Job, jobs, where, rows.cut(page, limit))


async def active_for(tx: Tx, container_id: str) -> Job | None:
    """The job that a container is busy with or waits for: the oldest that has not ended, those
    that run beside others aside."""
    return (await active_for_each(tx, [container_id])).get(container_id)


async def active_for_each(tx: Tx, container_ids: Collection[str]) -> dict[str, Job]:
    """The same of each of these containers that is busy or waits, by its id."""
    alone = jobs.c.type.not_in(sorted(BESIDE))
    found = await _every(tx, jobs.c.container_id.in_(container_ids), _active(), alone)
    return {job.container_id: job for job in reversed(found)}


async def of_server_active(tx: Tx, server_id: str) -> list[Job]:
    """The jobs of a server that have not ended, oldest first."""
    return await _every(tx, jobs.c.server_id == server_id, _active())


async def active(tx: Tx) -> list[Job]:
    """All jobs that have not ended, of every server, oldest first."""
    return await _every(tx, _active())


async def about(tx: Tx, server_id: str, image_id: str) -> list[Job]:
    """The jobs of a server about an image itself, newest first."""
    found = await _every(tx, jobs.c.server_id == server_id, jobs.c.container_id == image_id)
    return found[::-1]


async def running_on(tx: Tx, server_id: str) -> list[Job]:
    """The running jobs of a server, oldest first."""
    return await _every(tx, jobs.c.server_id == server_id, jobs.c.state == JobState.RUNNING)


async def queued_to_cancel(tx: Tx, server_id: str) -> list[Job]:
    """The queued jobs of a server that are to be cancelled, oldest first."""
    return await _every(tx, *_queued_on(server_id), jobs.c.cancel_requested)


async def queued_types(tx: Tx, server_id: str) -> set[JobType]:
    """The types of the queued jobs of a server: of a thousand jobs a few words."""
    wanted = select(jobs.c.type).where(*_queued_on(server_id)).distinct()
    return set((await tx.execute(wanted)).scalars())


def _queued_on(server_id: str) -> tuple[ColumnElement[bool], ...]:
    return (jobs.c.server_id == server_id, jobs.c.state == JobState.QUEUED)


async def lost(tx: Tx, now: datetime) -> list[Job]:
    """The running jobs whose lease is over."""
    return await _every(tx, jobs.c.state == JobState.RUNNING, jobs.c.lease_until < now)


async def count_active(tx: Tx, user_id: str) -> int:
    """How many jobs of a user have not ended."""
    mine = select(func.count()).where(jobs.c.user_id == user_id, _active())
    return (await tx.execute(mine)).scalar_one()


async def census(tx: Tx, server_id: str) -> list[Group]:
    """How many jobs of a server that have not ended there are of each type and state."""
    groups = (jobs.c.type, jobs.c.state)
    figures = (func.count().label("count"), func.min(jobs.c.created_at).label("oldest"))
    counted = select(*groups, *figures).where(jobs.c.server_id == server_id, _active())
    return await rows.every(tx, Group, counted.group_by(*groups))


async def request_cancel(tx: Tx, job_id: str) -> Job | None:
    """Ask a job to stop; None where it is too late: it has ended, or is about to switch."""
    cancellable = and_(
        jobs.c.id == job_id, _active(), func.coalesce(jobs.c.step, "").not_in(_TOO_LATE)
    )
    asked = update(jobs).where(cancellable).values(cancel_requested=True).returning(jobs)
    await announce(tx)
    return await rows.one(tx, Job, asked)


async def claim(
    tx: Tx,
    server_id: str,
    now: datetime,
    lease_until: datetime,
    types: Collection[JobType] = tuple(JobType),
) -> Job | None:
    """Begin the next attempt of the oldest job of this server and these types that may run; None
    for none.

    The jobs of a container run one after the other in their order, but for those that run beside
    others. A delete also waits for older jobs that read the container. A job that is to be
    cancelled is not begun.

    On PostgreSQL the row is locked, and one that is locked already is passed over. No claim needs
    it while writers take turns; it holds where somebody does not, be it an operator in psql: no
    job is claimed twice, and none that is held keeps the others waiting.
    """
    before = and_(_others.c.state.in_(ACTIVE), _others.c.sequence < jobs.c.sequence)
    due = or_(jobs.c.not_before.is_(None), jobs.c.not_before <= now)
    ready = select(jobs).where(
        jobs.c.server_id == server_id,
        jobs.c.state == JobState.QUEUED,
        jobs.c.type.in_(sorted(types)),
        ~jobs.c.cancel_requested,
        due,
        or_(
            jobs.c.type.in_(sorted(BESIDE)),
            ~exists().where(
                before,
                _others.c.container_id == jobs.c.container_id,
                _others.c.type.not_in(sorted(BESIDE)),
            ),
        ),
        or_(
            jobs.c.type != JobType.DELETE,
            ~exists().where(before, _others.c.source_container_id == jobs.c.container_id),
        ),
    )
    oldest = ready.order_by(jobs.c.sequence).limit(1)
    job = await rows.one(tx, Job, oldest.with_for_update(skip_locked=True))
    if job is None:
        return None
    return await _moved(
        tx,
        job,
        Move.CLAIM,
        now,
        attempt=job.attempt + 1,
        started_at=job.started_at or now,
        lease_until=lease_until,
        not_before=None,
    )


async def renew(
    tx: Tx, server_id: str, job_ids: Collection[str], lease_until: datetime
) -> set[str]:
    """Prolong the leases of a server's running jobs; the ids of those that still run."""
    mine = (jobs.c.server_id == server_id, jobs.c.id.in_(job_ids))
    running = update(jobs).where(*mine, jobs.c.state == JobState.RUNNING)
    kept = await tx.execute(running.values(lease_until=lease_until).returning(jobs.c.id))
    return set(kept.scalars())


async def still_ours(tx: Tx, job: Job) -> None:
    """Raise LeaseLost unless this attempt of the job is running; in a transaction that writes,
    it stays so until the commit."""
    if await rows.one(tx, Job, select(jobs).where(_attempt(job))) is None:
        raise LeaseLost(f"attempt {job.attempt} of job {job.id} is over")


async def save(
    tx: Tx,
    job: Job,
    *,
    step: str | None = None,
    checkpoint: Json | None = None,
    progress: Json | None = None,
) -> Job:
    """Note how far this attempt is; what is None stays as it is.

    Raises LeaseLost when the attempt is over, and JobError(CANCELLED) for the step `switch` of a
    job that is to be cancelled: whoever comes first, the switch or the cancel, wins.
    """
    given = {"step": step, "checkpoint": checkpoint, "progress": progress}
    columns = {name: value for name, value in given.items() if value is not None}
    guard = _attempt(job)
    if step == "switch":
        guard = and_(guard, ~jobs.c.cancel_requested)
    saved = await rows.one(tx, Job, update(jobs).where(guard).values(**columns).returning(jobs))
    if saved is None:
        await still_ours(tx, job)
        raise JobError("CANCELLED", "the job was cancelled before its switch")
    return saved


async def move(tx: Tx, job: Job, move: Move, *, at: datetime, **outcome: Unpack[Outcome]) -> Job:
    """Make a move of the state table, and note the event.

    Raises IllegalTransition where the table has no such arrow from `job.state`, and LeaseLost
    where the job is no longer in that state and attempt.
    """
    finished_at = at if after(job.state, move) in ENDED else None
    return await _moved(tx, job, move, at, finished_at=finished_at, lease_until=None, **outcome)


async def purge(tx: Tx, at: datetime) -> int:
    """Forget the jobs that ended before `at`; how many they were."""
    return (await tx.execute(delete(jobs).where(jobs.c.finished_at < at))).rowcount


async def _moved(tx: Tx, job: Job, move: Move, at: datetime, **columns: object) -> Job:
    state = after(job.state, move)
    same = (jobs.c.id == job.id, jobs.c.state == job.state, jobs.c.attempt == job.attempt)
    moved = await rows.one(
        tx, Job, update(jobs).where(*same).values(state=state, **columns).returning(jobs)
    )
    if moved is None:
        raise LeaseLost(f"job {job.id} is no longer {job.state} in attempt {job.attempt}")
    await events.add_job(tx, moved, at=at)
    return moved


async def _every(tx: Tx, *wanted: ColumnElement[bool]) -> list[Job]:
    return await rows.every(tx, Job, select(jobs).where(*wanted).order_by(jobs.c.sequence))


def _active() -> ColumnElement[bool]:
    return jobs.c.state.in_(ACTIVE)


def _attempt(job: Job) -> ColumnElement[bool]:
    return and_(
        jobs.c.id == job.id, jobs.c.attempt == job.attempt, jobs.c.state == JobState.RUNNING
    )
