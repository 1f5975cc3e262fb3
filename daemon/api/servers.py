"""Servers: list, get."""

from __future__ import annotations

from daemon.api.access import is_online, known_server
from daemon.api.fields import Nothing, PageQuery
from daemon.api.routing import Answer, AnyRoute, Call, Plain, Route
from daemon.api.showing import page_of
from daemon.auth import Scope
from daemon.model import Json, Server
from daemon.store import containers, servers
from daemon.store.database import Tx
from daemon.views import server_view


async def index(call: Call[Nothing, PageQuery]) -> Answer:
    """Every server."""
    query = call.query
    first = (query.page - 1) * query.limit
    async with call.deps.db.read() as tx:
        known = await servers.every(tx)
        views = [await _view(call, tx, server) for server in known[first : first + query.limit]]
    return Answer(page_of("servers", views, len(known), query), "Servers retrieved successfully")


async def get(call: Plain) -> Answer:
    """One server."""
    async with call.deps.db.read() as tx:
        found = await known_server(tx, call.id, "id")
        data = await _view(call, tx, found)
    return Answer(data, "Server retrieved successfully")


async def _view(call: Plain | Call[Nothing, PageQuery], tx: Tx, server: Server) -> Json:
    return server_view(
        server,
        online=is_online(call.deps.config, server),
        live_containers=await containers.live_on(tx, server.id),
        for_admin=call.caller.is_admin,
    )


ROUTES: tuple[AnyRoute, ...] = (
    Route("GET", "/servers", Scope.READ, index, Nothing, PageQuery),
    Route("GET", "/servers/{id}", Scope.READ, get, Nothing, Nothing),
)
