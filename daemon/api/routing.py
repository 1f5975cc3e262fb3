"""What an endpoint is, and the checks that come before every one of them, in API.md's order:
401, 429, 403 banned, 403 scope, 400 path id, 400 query and body. What follows is the endpoint's.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus
from typing import Any, Generic, TypeVar

from aiohttp import web
from pydantic import ValidationError

from daemon.api.deps import Deps
from daemon.api.errors import (
    AccountBanned,
    ExpiredToken,
    InsufficientPermissions,
    InvalidId,
    InvalidToken,
    MissingToken,
    PayloadTooLarge,
    RateLimited,
    ValidationFailed,
)
from daemon.api.fields import Fields, Nothing, is_id, refusal
from daemon.api.limits import RateLimit
from daemon.api.strict_json import check_media_type, parse_object
from daemon.auth import LEEWAY_SECONDS, Claims, Scope, is_revoked, verify
from daemon.errors import TokenError, TokenExpired
from daemon.model import User, now
from daemon.store import accounts
from daemon.store.database import Tx

BASE_PATH = "/api/v1"

B = TypeVar("B", bound=Fields)
Q = TypeVar("Q", bound=Fields)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. `owner_filter` is None for who sees every user's objects."""

    user_id: str
    is_admin: bool

    @property
    def owner_filter(self) -> str | None:
        """Whose objects a list may show: None for everybody's."""
        return None if self.is_admin else self.user_id

    def sees(self, owner_id: str) -> bool:
        """Whether an object of this owner exists for the caller."""
        return self.is_admin or owner_id == self.user_id


@dataclass(frozen=True, slots=True)
class Call(Generic[B, Q]):
    """One request that passed the checks; `id` is the one in its path, "" where it has none."""

    deps: Deps
    request: web.Request
    claims: Claims
    id: str
    body: B
    query: Q

    @property
    def caller(self) -> Caller:
        """Who asks."""
        return Caller(self.claims.user_id, self.claims.may(Scope.ADMIN))


Plain = Call[Nothing, Nothing]


@dataclass(frozen=True, slots=True)
class Answer:
    """A success: what goes into the envelope, and the headers beside it."""

    data: Mapping[str, object]
    message: str
    status: int = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Route(Generic[B, Q]):
    """An endpoint under `/api/v1`: the scope it needs, and the models of its body and query. One
    that streams answers with its response as it stands, without the envelope."""

    method: str
    path: str
    scope: Scope
    handler: Callable[[Call[B, Q]], Awaitable[Answer | web.StreamResponse]]
    body: type[B]
    query: type[Q]


AnyRoute = Route[Any, Any]


def job_headers(job_id: str) -> dict[str, str]:
    """Where the job of a verb is found."""
    return {"Location": f"{BASE_PATH}/jobs/{job_id}"}


async def require_welcome(tx: Tx, claims: Claims) -> None:
    """That a token which was valid when a long answer began still is. Raises InvalidToken,
    ExpiredToken and AccountBanned."""
    if (await _known_user(tx, claims)).banned:
        raise AccountBanned
    if claims.expires_at + timedelta(seconds=LEEWAY_SECONDS) < now():
        raise ExpiredToken


async def _known_user(tx: Tx, claims: Claims) -> User:
    """Whose token it is. Raises InvalidToken where there is no such user, or it was revoked."""
    user = await accounts.get_user(tx, claims.user_id)
    if user is None or is_revoked(claims, user):
        raise InvalidToken
    return user


class Gate:
    """Lets requests in: knows the token keys and counts each user's requests."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps
        self._rate = RateLimit(deps.config.limits.requests_per_minute)

    async def claims(self, request: web.Request) -> Claims:
        """The request's valid claims. Raises the 401s, 429 and 403 ACCOUNT_BANNED."""
        claims = self._verified(request)
        async with self._deps.db.read() as tx:
            user = await _known_user(tx, claims)
        if wait_seconds := self._rate.take(user.id, time.monotonic()):
            raise RateLimited.after(wait_seconds)
        if user.banned:
            raise AccountBanned
        return claims

    def _verified(self, request: web.Request) -> Claims:
        scheme, _, token = request.headers.get("Authorization", "").strip().partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise MissingToken
        try:
            return verify(self._deps.token_keys, token.strip())
        except TokenExpired:
            raise ExpiredToken from None
        except TokenError:
            raise InvalidToken from None


def endpoint(
    route: AnyRoute, deps: Deps, gate: Gate
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """The aiohttp handler of a route."""

    async def handle(request: web.Request) -> web.StreamResponse:
        claims = await gate.claims(request)
        if not claims.may(route.scope):
            raise InsufficientPermissions(details={"scope": f"needs '{route.scope}'"})
        path_id = request.match_info.get("id", "")
        if "id" in request.match_info and not is_id(path_id):
            raise InvalidId(details={"id": "must be 24 lower-case hexadecimal digits"})
        query = _validated(route.query, _query_fields(request))
        body = await _body(route, request)
        answer = await route.handler(Call(deps, request, claims, path_id, body, query))
        return _enveloped(answer) if isinstance(answer, Answer) else answer

    return handle


def _query_fields(request: web.Request) -> dict[str, object]:
    fields: dict[str, object] = {}
    for key, value in request.query.items():
        if key in fields:
            raise ValidationFailed(details={key: "is given twice"})
        fields[key] = value
    return fields


async def _body(route: AnyRoute, request: web.Request) -> Fields:
    """The body as the route's model; a GET's is not read."""
    if request.method == "GET":
        return Nothing()
    try:
        content = await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise PayloadTooLarge from None
    except (web.RequestPayloadError, ConnectionError) as error:
        raise ValidationFailed(details={"body": f"cannot be read: {error}"}) from None
    if content:
        check_media_type(request.headers.get("Content-Type"))
    return _validated(route.body, parse_object(content))


def _validated(model: type[Fields], given: dict[str, object]) -> Fields:
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise refusal(error) from None


def _enveloped(answer: Answer) -> web.Response:
    envelope = {"statusCode": answer.status, "message": answer.message, "data": answer.data}
    return web.json_response(envelope, status=answer.status, headers=answer.headers)
