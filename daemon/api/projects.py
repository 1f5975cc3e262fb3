"""Projects: list, create, get."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field

from daemon.api.access import visible_project
from daemon.api.fields import Fields, Line, Nothing, PageQuery
from daemon.api.routing import Answer, AnyRoute, Call, Plain, Route
from daemon.api.showing import page_of
from daemon.auth import Scope
from daemon.model import Project, new_id
from daemon.store import accounts
from daemon.views import project_view


class ProjectBody(Fields):
    """A project's name, unique among its owner's."""

    name: Annotated[Line, Field(min_length=1, max_length=100)]


async def index(call: Call[Nothing, PageQuery]) -> Answer:
    """The caller's projects."""
    owner, query = call.caller.owner_filter, call.query
    async with call.deps.db.read() as tx:
        found, total = await accounts.projects_page(tx, owner, query.page, query.limit)
    views = [project_view(project) for project in found]
    return Answer(page_of("projects", views, total, query), "Projects retrieved successfully")


async def create(call: Call[ProjectBody, Nothing]) -> Answer:
    """Makes a project of the caller's."""
    name = call.body.name
    made = Project(id=new_id(), owner_id=call.caller.user_id, name=name, alias=alias_of(name))
    async with call.write() as tx:
        await accounts.put_project(tx, made)
        return await call.keep(tx, Answer(project_view(made), "Project created successfully", 201))


async def get(call: Plain) -> Answer:
    """One project."""
    async with call.deps.db.read() as tx:
        found = await visible_project(tx, call.caller, call.id, "id")
    return Answer(project_view(found), "Project retrieved successfully")


def alias_of(name: str) -> str:
    """The name as it may stand in an address: lower case, everything odd a hyphen."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "project"


ROUTES: tuple[AnyRoute, ...] = (
    Route("GET", "/projects", Scope.READ, index, Nothing, PageQuery),
    Route("POST", "/projects", Scope.PROJECTS, create, ProjectBody, Nothing),
    Route("GET", "/projects/{id}", Scope.READ, get, Nothing, Nothing),
)
