"""Proxy aliases: they belong to who owns their project, and go with their container."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import delete as delete_from
from sqlalchemy import select
from sqlalchemy.sql.elements import ColumnElement

from daemon.model import ProxyAlias
from daemon.store import rows
from daemon.store.database import Tx
from daemon.store.schema import projects, proxy_aliases


@dataclass(frozen=True, slots=True)
class AliasFilter:
    """Which aliases are wanted; None where it does not matter."""

    project_id: str | None = None
    container_id: str | None = None


async def insert(tx: Tx, alias: ProxyAlias) -> None:
    """Add an alias. Raises Conflict("proxy_alias") where its project has one of this name."""
    await rows.add(tx, proxy_aliases, alias)


async def get(tx: Tx, alias_id: str, owner_id: str | None) -> ProxyAlias | None:
    """The alias with this id, where it is the owner's; anybody's for None."""
    wanted = select(proxy_aliases).where(proxy_aliases.c.id == alias_id, *_owned_by(owner_id))
    return await rows.one(tx, ProxyAlias, wanted)


async def page(
    tx: Tx, owner_id: str | None, wanted: AliasFilter, page: int, limit: int
) -> tuple[list[ProxyAlias], int]:
    """One page of the aliases that are wanted of an owner's (None: everybody's), and how many there
    are."""
    found = [*_owned_by(owner_id), *rows.matches(proxy_aliases, wanted)]
    return await rows.page(tx, ProxyAlias, proxy_aliases, found, rows.cut(page, limit))


async def delete(tx: Tx, alias_id: str) -> None:
    """Forget an alias."""
    await tx.execute(delete_from(proxy_aliases).where(proxy_aliases.c.id == alias_id))


def _owned_by(owner_id: str | None) -> Iterator[ColumnElement[bool]]:
    if owner_id is not None:
        theirs = select(projects.c.id).where(projects.c.owner_id == owner_id)
        yield proxy_aliases.c.project_id.in_(theirs)
