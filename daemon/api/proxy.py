"""Proxy aliases: list, create, delete.

They are kept for the proxy that stands before the containers. They say where a name leads, are no
part of a container's state, and so follow no copy and no sync.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated

from pydantic import AfterValidator, Field

from daemon.api.access import visible_container
from daemon.api.errors import ResourceNotFound, StateConflict
from daemon.api.fields import Fields, Nothing, ObjectId, PageQuery, documented
from daemon.api.routing import Answer, AnyRoute, Call, Plain, Route
from daemon.api.showing import page_of
from daemon.auth import Scope
from daemon.model import ProxyAlias, new_id
from daemon.store import proxy_aliases
from daemon.store.proxy_aliases import AliasFilter
from daemon.verbs import Verb, allows
from daemon.views import proxy_alias_view

INDEX_MAX = 65535
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_PROGRAM = re.compile(r"[A-Za-z0-9_-]{1,63}")


def _label(text: str) -> str:
    if not _LABEL.fullmatch(text):
        raise ValueError("must be 1-63 of a-z, 0-9 and -, with no - at its ends")
    return text


def _program(text: str) -> str:
    if not _PROGRAM.fullmatch(text):
        raise ValueError("must be 1-63 characters of a-z, A-Z, 0-9, - and _")
    return text


def _absolute(text: str) -> str:
    if not text.startswith("/") or any(unicodedata.category(letter) == "Cc" for letter in text):
        raise ValueError("must begin with / and have no control characters")
    return text


class ProxyAliasBody(Fields):
    """`alias`, a DNS label, leads to the `index`-th instance of a program in the container, and
    there to `target_path`."""

    container_id: ObjectId
    alias: Annotated[str, AfterValidator(_label), documented(_LABEL.pattern)]
    program: Annotated[str, AfterValidator(_program), documented(_PROGRAM.pattern)]
    index: Annotated[int, Field(ge=0, le=INDEX_MAX)] = 1
    target_path: Annotated[
        str,
        Field(max_length=1024),
        AfterValidator(_absolute),
        documented(r"/[^\x00-\x1f\x7f-\x9f]*"),
    ] = "/"


class ProxyAliasQuery(PageQuery):
    """Which aliases a list shows."""

    container_id: ObjectId | None = None
    project_id: ObjectId | None = None


async def index(call: Call[Nothing, ProxyAliasQuery]) -> Answer:
    """The aliases of the caller's projects."""
    owner, query = call.caller.owner_filter, call.query
    wanted = AliasFilter(query.project_id, query.container_id)
    async with call.deps.db.read() as tx:
        found, total = await proxy_aliases.page(tx, owner, wanted, query.page, query.limit)
    views = [proxy_alias_view(alias) for alias in found]
    return Answer(page_of("aliases", views, total, query), "Proxy aliases retrieved successfully")


async def create(call: Call[ProxyAliasBody, Nothing]) -> Answer:
    """Makes an alias in the container's project, where no other may have the name. It goes with
    the container."""
    body = call.body
    async with call.write() as tx:
        found = await visible_container(tx, call.caller, body.container_id)
        if not allows(found, Verb.EDIT):
            raise StateConflict.of(found, "a proxy alias")
        made = ProxyAlias(id=new_id(), project_id=found.project_id, **body.model_dump())
        await proxy_aliases.insert(tx, made)
        answer = Answer(proxy_alias_view(made), "Proxy alias created successfully", 201)
        return await call.keep(tx, answer)


async def delete(call: Plain) -> Answer:
    """Deletes an alias; its name is free at once. The answer is what it was."""
    async with call.deps.db.write() as tx:
        found = await proxy_aliases.get(tx, call.id, call.caller.owner_filter)
        if found is None:
            raise ResourceNotFound("Proxy alias not found")
        await proxy_aliases.delete(tx, found.id)
    return Answer(proxy_alias_view(found), "Proxy alias deleted successfully")


ROUTES: tuple[AnyRoute, ...] = (
    Route("GET", "/proxy/aliases", Scope.READ, index, Nothing, ProxyAliasQuery),
    Route("POST", "/proxy/aliases", Scope.PROXY, create, ProxyAliasBody, Nothing),
    Route("DELETE", "/proxy/aliases/{id}", Scope.PROXY, delete, Nothing, Nothing),
)
