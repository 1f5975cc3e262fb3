"""What an endpoint is, and the checks that come before every one of them, in API.md's order:
401, 429, 403 banned, 403 scope, 400 path id, 400 query and body. What follows is the endpoint's.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from http import HTTPStatus
from typing import Any, Generic, TypeVar

from aiohttp import web
from pydantic import ValidationError

from daemon.api.deps import Deps
from daemon.api.errors import (
    AccountBanned,
    ApiError,
    ExpiredToken,
    IdempotencyInProgress,
    InsufficientPermissions,
    InvalidId,
    InvalidToken,
    MissingToken,
    PayloadTooLarge,
    RateLimited,
    ValidationFailed,
)
from daemon.api.failures import say
from daemon.api.fields import Fields, Nothing, is_id, refusal
from daemon.api.idempotency import REPLAYED, KeyedRequest, KeyTakenError, keyed_request
from daemon.api.limits import RateLimit
from daemon.api.strict_json import check_media_type, parse_object
from daemon.auth import LEEWAY_SECONDS, Claims, Scope, is_revoked, verify
from daemon.errors import TokenError, TokenExpired
from daemon.model import Job, KeyedRow, User, now
from daemon.states import ENDED
from daemon.store import accounts, idempotency, jobs
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
class Answer:
    """A success: what goes into the envelope, and the headers beside it."""

    data: Mapping[str, object]
    message: str
    status: int = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Call(Generic[B, Q]):
    """One request that passed the checks; `id` is the one in its path, "" where it has none.
    `keyed` is None where it brought no Idempotency-Key."""

    deps: Deps
    request: web.Request
    claims: Claims
    id: str
    body: B
    query: Q
    keyed: KeyedRequest | None = None

    @property
    def caller(self) -> Caller:
        """Who asks."""
        return Caller(self.claims.user_id, self.claims.may(Scope.ADMIN))

    @asynccontextmanager
    async def write(self) -> AsyncIterator[Tx]:
        """The transaction in which a POST does what it is asked for. It claims the request's key;
        the endpoint must `keep` its answer in it, or `queue` the job that it waits for. Raises
        KeyTakenError and IdempotencyKeyReused, which the endpoint lets pass."""
        async with self.deps.db.write() as tx:
            if self.keyed is not None:
                await self.keyed.claim(tx)
            yield tx

    async def keep(self, tx: Tx, answer: Answer) -> Answer:
        """The answer, stored for the request's key."""
        if self.keyed is not None:
            await idempotency.change(tx, self.keyed.use, answer=asdict(answer))
        return answer


Plain = Call[Nothing, Nothing]


@dataclass(frozen=True, slots=True)
class Route(Generic[B, Q]):
    """An endpoint under `/api/v1`: the scope it needs, and the models of its body and query. One
    that streams answers with its response as it stands, without the envelope. A POST that waits
    for its job has an `ending`, which makes the answer of the job. `messages` are its page's, by
    code, where they are not the errors' own."""

    method: str
    path: str
    scope: Scope
    handler: Callable[[Call[B, Q]], Awaitable[Answer | web.StreamResponse]]
    body: type[B]
    query: type[Q]
    ending: Callable[[Call[B, Q], Job], Awaitable[Answer]] | None = None
    messages: Mapping[str, str] = field(default_factory=dict, hash=False)


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
        say(route.messages)
        claims = await gate.claims(request)
        if not claims.may(route.scope):
            raise InsufficientPermissions(details={"scope": f"needs '{route.scope}'"})
        path_id = request.match_info.get("id", "")
        if "id" in request.match_info and not is_id(path_id):
            raise InvalidId(details={"id": "must be 24 lower-case hexadecimal digits"})
        query_fields = _query_fields(request)
        query = _validated(route.query, query_fields)
        body_fields = await _body_fields(request)
        body = _validated(route.body, body_fields)
        keyed = keyed_request(request, claims.user_id, query_fields, body_fields)
        call = Call(deps, request, claims, path_id, body, query, keyed)
        answer = await (route.handler(call) if keyed is None else _once(route, call, keyed))
        return _enveloped(answer) if isinstance(answer, Answer) else answer

    return handle


async def _once(
    route: AnyRoute, call: Call[Any, Any], keyed: KeyedRequest
) -> Answer | web.StreamResponse:
    """The endpoint's answer where the request's key is new, else the first one again."""
    async with call.deps.db.read() as tx:
        first = await keyed.first(tx)
    if first is None:
        try:
            return await route.handler(call)
        except KeyTakenError as taken:
            first = taken.first
    try:
        answer = await _first_answer(route, call, first)
    except IdempotencyInProgress:
        raise
    except ApiError as error:
        error.headers |= REPLAYED
        raise
    return replace(answer, headers={**answer.headers, **REPLAYED})


async def _first_answer(route: AnyRoute, call: Call[Any, Any], first: KeyedRow) -> Answer:
    """What the first request was answered, or would have been. Raises IdempotencyInProgress while
    its job has not ended, and what the `ending` raises."""
    if first.answer is not None:
        return Answer(**first.answer)  # type: ignore[arg-type]  # it was one when it was stored
    async with call.deps.db.read() as tx:
        job = await jobs.get(tx, first.job_id or "")
    if route.ending is None or job is None or job.state not in ENDED:
        raise IdempotencyInProgress(headers=job_headers(first.job_id or ""))
    return await route.ending(call, job)


def _query_fields(request: web.Request) -> dict[str, object]:
    fields: dict[str, object] = {}
    for key, value in request.query.items():
        if key in fields:
            raise ValidationFailed(details={key: "is given twice"})
        fields[key] = value
    return fields


async def _body_fields(request: web.Request) -> dict[str, object]:
    """What the body spells; a GET's is not read."""
    if request.method == "GET":
        return {}
    try:
        content = await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise PayloadTooLarge from None
    except (web.RequestPayloadError, ConnectionError) as error:
        raise ValidationFailed(details={"body": f"cannot be read: {error}"}) from None
    if content:
        check_media_type(request.headers.get("Content-Type"))
    return parse_object(content)


def _validated(model: type[Fields], given: dict[str, object]) -> Fields:
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise refusal(error) from None


def _enveloped(answer: Answer) -> web.Response:
    envelope = {"statusCode": answer.status, "message": answer.message, "data": answer.data}
    return web.json_response(envelope, status=answer.status, headers=answer.headers)
