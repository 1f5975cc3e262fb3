"""The refusals that every endpoint has, of API.md 1: generated for each of the API's routes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from daemon.api.app import ROUTES
from daemon.api.idempotency import HEADER
from daemon.api.routing import BASE_PATH, AnyRoute
from daemon.auth import Scope, issue
from daemon.model import KeyedRow, new_id, now
from daemon.store import idempotency
from tests.contract.api.api_world import KEYS, Reply
from tests.contract.api.contract_stage import Stage

Case = Callable[[Stage], Awaitable[Reply]]
BODY_BYTES_MAX = 1 << 20
EVERYBODYS = ("/servers/", "/images/import/", "/images/purchase/")
METHODS = ("GET", "PUT", "POST", "PATCH", "DELETE")


@dataclass(frozen=True)
class Row:
    """One line of an error table, and how it comes about. `why` tells apart what has one code."""

    endpoint: str
    status: int
    code: str
    case: Case
    why: str = ""

    def __str__(self) -> str:
        return "-".join(filter(None, (self.endpoint, str(self.status), self.code, self.why)))


def endpoint_of(route: AnyRoute) -> str:
    """The endpoint's name in the tables."""
    return f"{route.method} {route.path}"


def missing_container(endpoint: str) -> str:
    """What an endpoint says where `{id}` names nothing that the caller may see."""
    if endpoint.endswith("/copy"):
        return "SOURCE_CONTAINER_NOT_FOUND"
    return "CONTAINER_NOT_FOUND" if " /containers/" in endpoint else "RESOURCE_NOT_FOUND"


def scopes_without(endpoint: str) -> list[Scope]:
    """What a token may have that is not what the endpoint takes."""
    return [Scope.KEYS if " /proxy/" in endpoint else Scope.PROXY]


def every_row() -> Iterator[Row]:
    """The rows of all routes."""
    for route in ROUTES:
        endpoint = endpoint_of(route)
        yield from _of_callers(endpoint)
        yield from _of_paths(route, endpoint)
        if route.method != "GET":
            yield from _of_bodies(route, endpoint)
        if route.method == "POST":
            yield from _of_keys(endpoint)
    for path in sorted({route.path for route in ROUTES}):
        method = next(m for m in METHODS if m not in _methods(path))
        other = f"{method} {path}"
        yield Row(other, 405, "METHOD_NOT_ALLOWED", partial(Stage.ask, endpoint=other))
    for path in ("/nothing", "/containers/x/y/z", "/snapshots", "/containers/"):
        absent = f"GET {path}"
        yield Row(absent, 404, "RESOURCE_NOT_FOUND", partial(Stage.ask, endpoint=absent))
        stranger = partial(Stage.ask, endpoint=absent, token=None)
        yield Row(absent, 401, "MISSING_TOKEN", stranger)


def _methods(path: str) -> set[str]:
    return {route.method for route in ROUTES if route.path == path}


def _of_callers(endpoint: str) -> Iterator[Row]:
    async def expired(stage: Stage) -> Reply:
        alice = stage.world.alice.id
        token = issue(KEYS, alice, list(Scope), ttl_seconds=-31, at=now())
        return await stage.ask(endpoint, token=token)

    async def without_scope(stage: Stage) -> Reply:
        return await stage.ask(endpoint, token=stage.world.token(scopes=scopes_without(endpoint)))

    async def banned(stage: Stage) -> Reply:
        return await stage.ask(endpoint, token=stage.world.token(stage.mallory))

    async def too_often(stage: Stage) -> Reply:
        async with stage.limited(requests_per_minute=1) as few:
            await few.api.get("/projects")
            reply = await few.ask(endpoint)
        assert 1 <= int(reply.headers["Retry-After"]) <= 60
        return reply

    ask = partial(Stage.ask, endpoint=endpoint)
    yield Row(endpoint, 401, "MISSING_TOKEN", partial(ask, token=None))
    yield Row(endpoint, 401, "INVALID_TOKEN", partial(ask, token="no.such.token"))
    yield Row(endpoint, 401, "TOKEN_EXPIRED", expired)
    yield Row(endpoint, 403, "INSUFFICIENT_PERMISSIONS", without_scope)
    yield Row(endpoint, 403, "ACCOUNT_BANNED", banned)
    yield Row(endpoint, 429, "RATE_LIMITED", too_often, "requests")
    yield Row(endpoint, 500, "INTERNAL_ERROR", partial(_damaged, endpoint=endpoint))
    yield Row(endpoint, 503, "SERVICE_UNAVAILABLE", partial(_gone, endpoint=endpoint))


async def _damaged(stage: Stage, endpoint: str) -> Reply:
    """A time in the catalogue that is none."""
    async with stage.world.db.write() as tx:
        await tx.exec_driver_sql("UPDATE users SET revoked_at = 'yesterday'")
    try:
        return await stage.ask(endpoint)
    finally:
        async with stage.world.db.write() as tx:
            await tx.exec_driver_sql("UPDATE users SET revoked_at = NULL")


async def _gone(stage: Stage, endpoint: str) -> Reply:
    """A catalogue that does not answer."""
    async with stage.world.db.write() as tx:
        await tx.exec_driver_sql("ALTER TABLE users RENAME TO gone")
    try:
        return await stage.ask(endpoint)
    finally:
        async with stage.world.db.write() as tx:
            await tx.exec_driver_sql("ALTER TABLE gone RENAME TO users")


def _of_paths(route: AnyRoute, endpoint: str) -> Iterator[Row]:
    async def somebody_elses(stage: Stage) -> Reply:
        bob = stage.world.token(stage.world.bob)
        reply = await stage.ask(endpoint, token=bob)
        assert reply.body == (await stage.ask(endpoint, token=bob, id=new_id())).body
        return reply

    ask = partial(Stage.ask, endpoint=endpoint)
    twice = [("page", "1"), ("page", "1")]
    yield Row(endpoint, 400, "VALIDATION_ERROR", partial(ask, params={"bogus": "1"}), "query")
    yield Row(endpoint, 400, "VALIDATION_ERROR", partial(ask, params=twice), "query-twice")
    if "{id}" in route.path:
        missing = missing_container(endpoint)
        for why, bad in (("upper", "A" * 24), ("short", "a" * 23), ("letters", "g" * 24)):
            yield Row(endpoint, 400, "INVALID_ID_FORMAT", partial(ask, id=bad), why)
        yield Row(endpoint, 404, missing, partial(ask, id=new_id()), "absent")
        if not route.path.startswith(EVERYBODYS):
            yield Row(endpoint, 404, missing, somebody_elses, "somebody-elses")
    if "{name}" in route.path:
        for why, bad in (("long", "n" * 101), ("slash", "a/b"), ("control", "a\nb")):
            yield Row(endpoint, 400, "VALIDATION_ERROR", partial(ask, name=bad), f"name-{why}")
        yield Row(endpoint, 404, "RESOURCE_NOT_FOUND", partial(ask, name="snap-none"), "snapshot")


def _of_bodies(route: AnyRoute, endpoint: str) -> Iterator[Row]:
    large = b" " * (BODY_BYTES_MAX + 1)

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield large[: len(large) // 4]

    async def chunked(stage: Stage) -> Reply:
        return await stage.ask(endpoint, data=chunks())

    ask = partial(Stage.ask, endpoint=endpoint)
    xml: dict[str, Any] = {"data": b"<a/>", "headers": {"Content-Type": "application/xml"}}
    yield Row(endpoint, 400, "VALIDATION_ERROR", partial(ask, body={"bogus": 1}), "body")
    yield Row(endpoint, 413, "PAYLOAD_TOO_LARGE", partial(ask, data=large))
    yield Row(endpoint, 413, "PAYLOAD_TOO_LARGE", chunked, "chunked")
    yield Row(endpoint, 415, "UNSUPPORTED_MEDIA_TYPE", partial(ask, **xml))
    if any(field.is_required() for field in route.body.model_fields.values()):
        yield Row(endpoint, 400, "VALIDATION_ERROR", partial(ask, data=b"{}"), "field-missing")


def _of_keys(endpoint: str) -> Iterator[Row]:
    async def reused(stage: Stage) -> Reply:
        async with stage.world.db.write() as tx:
            path = BASE_PATH + stage.request(endpoint)[1]
            key = KeyedRow(stage.world.alice.id, "POST", path, "a-key", "another hash", now())
            await idempotency.put(tx, key)
        return await stage.ask(endpoint, headers={HEADER: "a-key"})

    for why, key in (("empty", ""), ("long", "k" * 256), ("space", "a key"), ("letters", "\u00e9")):
        ask = partial(Stage.ask, endpoint=endpoint, headers={HEADER: key})
        yield Row(endpoint, 400, "VALIDATION_ERROR", ask, f"idempotency-key-{why}")
    yield Row(endpoint, 422, "IDEMPOTENCY_KEY_REUSED", reused)
