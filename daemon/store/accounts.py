"""Users and their projects."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select, update

from daemon.model import Project, User
from daemon.store import rows
from daemon.store.database import Tx
from daemon.store.schema import projects, users


async def put_user(tx: Tx, user: User) -> None:
    """Add a user; one who is there already stays as they are."""
    if await get_user(tx, user.id) is None:
        await rows.add(tx, users, user)


async def get_user(tx: Tx, user_id: str) -> User | None:
    """The user with this id."""
    return await rows.one(tx, User, select(users).where(users.c.id == user_id))


async def first_user(tx: Tx) -> User | None:
    """The user who was added first."""
    oldest = select(users).order_by(users.c.created_at, users.c.id).limit(1)
    return await rows.one(tx, User, oldest)


async def every_user(tx: Tx) -> list[User]:
    """All users, newest first."""
    order = (users.c.created_at.desc(), users.c.id)
    return await rows.every(tx, User, select(users).order_by(*order))


async def set_banned(tx: Tx, user_id: str, banned: bool) -> bool:
    """Ban a user, or let them in again; False where there is no such user."""
    return await rows.change(tx, users, user_id, {"banned": banned})


async def revoke(tx: Tx, user_id: str, at: datetime) -> bool:
    """Make a user's tokens from before `at` invalid; False where there is no such user."""
    return await rows.change(tx, users, user_id, {"revoked_at": at})


async def add_to_balance(tx: Tx, user_id: str, cents: int) -> int | None:
    """Add to a user's balance, or take from it, and the balance after that; None, and nothing is
    done, where it would fall below zero or there is no such user."""
    new = users.c.balance_cents + cents
    changed = update(users).where(users.c.id == user_id, new >= 0).values(balance_cents=new)
    done = await tx.execute(changed.returning(users.c.balance_cents))
    return done.scalar_one_or_none()


async def put_project(tx: Tx, project: Project) -> None:
    """Add a project; one that is there already stays as it is. Raises Conflict("project_name")
    where the owner has another one of this name."""
    if await get_project(tx, project.id) is None:
        await rows.add(tx, projects, project)


async def get_project(tx: Tx, project_id: str) -> Project | None:
    """The project with this id."""
    return await rows.one(tx, Project, select(projects).where(projects.c.id == project_id))


async def projects_page(
    tx: Tx, owner_id: str | None, page: int, limit: int
) -> tuple[list[Project], int]:
    """One page of an owner's projects (None: everybody's), and how many there are."""
    wanted = [] if owner_id is None else [projects.c.owner_id == owner_id]
    return await rows.page(tx, Project, projects, wanted, rows.cut(page, limit))
