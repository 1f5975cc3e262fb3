"""Rows -> the objects and pages that the API answers with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

from daemon.api.fields import PageQuery
from daemon.errors import CatalogueError
from daemon.model import Container, Json, Project, Server
from daemon.store import accounts, containers, jobs, looks, servers
from daemon.store.database import Tx
from daemon.views import Surroundings, container_view

Row = TypeVar("Row")


async def show(tx: Tx, container: Container) -> Json:
    """The container object."""
    return (await show_all(tx, [container]))[0]


async def show_all(tx: Tx, shown: Sequence[Container]) -> list[Json]:
    """The container objects, by as many statements for a hundred as for one; but for projects and
    servers, each of which is read once."""
    projects: dict[str, Project] = {}
    known_servers: dict[str, Server] = {}
    views = []
    source_ids = {container.source_container_id or "" for container in shown}
    sources = {source.id: source for source in await containers.some(tx, source_ids)}
    looked_at = {row.container_id: row for row in await looks.every(tx, source_ids)}
    busy = await jobs.active_for_each(tx, [container.id for container in shown])
    for container in shown:
        if container.project_id not in projects:
            project = await accounts.get_project(tx, container.project_id)
            projects[container.project_id] = _present(project, container)
        if container.server_id not in known_servers:
            server = await servers.get(tx, container.server_id)
            known_servers[container.server_id] = _present(server, container)
        source_id = container.source_container_id or ""
        around = Surroundings(
            projects[container.project_id],
            known_servers[container.server_id],
            sources.get(source_id),
            looked_at[source_id].written_at,
            busy.get(container.id),
        )
        views.append(container_view(container, around))
    return views


def page_of(name: str, items: Sequence[Json], total: int, query: PageQuery) -> Json:
    """One page of a list, with where it stands."""
    pagination = {
        "total": total,
        "page": query.page,
        "limit": query.limit,
        "totalPages": math.ceil(total / query.limit),
    }
    return {name: list(items), "pagination": pagination}


def _present(row: Row | None, container: Container) -> Row:
    if row is None:
        raise CatalogueError(f"container {container.id} names a row that is gone")
    return row
