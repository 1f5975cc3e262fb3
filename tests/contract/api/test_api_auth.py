"""Who may come in, and what they see."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from daemon.auth import LEEWAY_SECONDS, Scope, TokenKeys, issue, verify
from daemon.errors import ConfigError, TokenError, TokenExpired
from daemon.model import new_id, now
from daemon.store import accounts
from tests.contract.api.api_world import KEYS, V1, Api


def _token(claims: dict[str, Any], key: bytes = KEYS.key, algorithm: str = "HS256") -> str:
    return jwt.encode(claims, key, algorithm=algorithm)


def _unsigned(claims: dict[str, Any]) -> str:
    parts = ({"alg": "none", "typ": "JWT"}, claims)
    spelled = [base64.urlsafe_b64encode(json.dumps(p).encode()).rstrip(b"=") for p in parts]
    return b".".join([*spelled, b""]).decode()


def _claims(sub: str, **more: Any) -> dict[str, Any]:
    at = int(now().timestamp())
    return {"sub": sub, "iat": at, "exp": at + 60, "jti": "x", "scope": "read"} | more


async def test_bad_tokens(api: Api) -> None:
    alice = api.world.alice.id
    good = _claims(alice)
    without_exp = {key: value for key, value in good.items() if key != "exp"}
    bad = {
        "signature": _token(good, b"another secret of thirty-two bytes"),
        "algorithm": _token(good, b"k" * 64, "HS512"),
        "same key, other algorithm": _token(good, KEYS.key * 2, "HS512"),
        "none": _unsigned(good),
        "no exp": _token(without_exp),
        "exp is text": _token(good | {"exp": "tomorrow"}),
        "unknown sub": _token(_claims(new_id())),
        "sub is a number": _unsigned(good | {"sub": 7}),
        "from the future": _token(good | {"iat": good["iat"] + 3600}),
        "long": "x" * 8000,
    }
    for case, token in bad.items():
        reply = await api.get("/projects", token=token)
        assert reply.refusal == (401, "INVALID_TOKEN"), case
        assert reply.headers["WWW-Authenticate"] == "Bearer"
    assert (await api.get("/projects", token=_token(good))).status == 200


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic YTpi", "Token x"])
async def test_no_token(header: str | None, api: Api) -> None:
    headers = {} if header is None else {"Authorization": header}
    reply = await api.get("/projects", token=None, headers=headers)
    assert reply.refusal == (401, "MISSING_TOKEN")


def test_expiry_has_a_leeway() -> None:
    at = int(now().timestamp())
    assert verify(KEYS, _token(_claims("u", exp=at - LEEWAY_SECONDS + 5))).user_id == "u"
    with pytest.raises(TokenExpired):
        verify(KEYS, _token(_claims("u", exp=at - LEEWAY_SECONDS - 1)))


def test_audience() -> None:
    keys = TokenKeys("HS256", KEYS.key, "hoody")
    assert verify(keys, issue(keys, "u", [Scope.READ], ttl_seconds=9, at=now())).user_id == "u"
    for claims in (_claims("u"), _claims("u", aud="other")):
        with pytest.raises(TokenError):
            verify(keys, _token(claims))
    assert verify(KEYS, _token(_claims("u", aud="any"))).user_id == "u"


def test_public_keys_verify_only() -> None:
    private = ed25519.Ed25519PrivateKey.generate()
    pem = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    keys = TokenKeys("EdDSA", pem)
    token = jwt.encode(_claims("u"), private, algorithm="EdDSA")
    assert verify(keys, token).scopes == {Scope.READ}
    with pytest.raises(ConfigError):
        issue(keys, "u", [], ttl_seconds=9, at=now())


async def test_revoked_and_let_in_again(api: Api) -> None:
    old = api.world.token()
    at = now() + timedelta(milliseconds=5)
    async with api.world.db.write() as tx:
        await accounts.revoke(tx, api.world.alice.id, at)
    assert (await api.get("/projects", token=old)).refusal == (401, "INVALID_TOKEN")
    undated = {key: value for key, value in _claims(api.world.alice.id).items() if key != "iat"}
    assert (await api.get("/projects", token=_token(undated))).refusal[0] == 401
    alice = api.world.alice.id
    later = issue(KEYS, alice, [Scope.READ], ttl_seconds=60, at=at + timedelta(milliseconds=1))
    assert (await api.get("/projects", token=later)).status == 200


async def test_an_unknown_scope_is_nothing(api: Api) -> None:
    for scope in ("reads", "", ["read"], None):
        token = _token(_claims(api.world.alice.id, scope=scope))
        assert (await api.get("/projects", token=token)).refusal[0] == 403


async def test_foreign_objects_do_not_exist(api: Api) -> None:
    world = api.world
    container = await world.container()
    job = await world.job(container)
    bob = world.token(world.bob)
    one = f"/containers/{container.id}"
    asked = [
        ("GET", one, None, "CONTAINER_NOT_FOUND"),
        ("PATCH", one, {}, "CONTAINER_NOT_FOUND"),
        ("DELETE", one, None, "CONTAINER_NOT_FOUND"),
        ("GET", f"{one}/storage", None, "CONTAINER_NOT_FOUND"),
        ("GET", f"{one}/ssh-private-key", None, "CONTAINER_NOT_FOUND"),
        ("GET", f"{one}/firewall-rules", None, "CONTAINER_NOT_FOUND"),
        ("PUT", f"{one}/network-rules", {"rules": []}, "CONTAINER_NOT_FOUND"),
        ("POST", f"{one}/start", None, "CONTAINER_NOT_FOUND"),
        ("POST", f"{one}/sync", None, "CONTAINER_NOT_FOUND"),
        ("POST", f"{one}/copy", {"target_project_id": world.bobs.id}, "SOURCE_CONTAINER_NOT_FOUND"),
        ("GET", f"/projects/{world.home.id}", None, "RESOURCE_NOT_FOUND"),
        ("GET", f"/jobs/{job.id}", None, "RESOURCE_NOT_FOUND"),
        ("GET", f"/jobs/{job.id}/wait", None, "RESOURCE_NOT_FOUND"),
        ("POST", f"/jobs/{job.id}/cancel", None, "RESOURCE_NOT_FOUND"),
    ]
    for method, path, body, code in asked:
        foreign = await api.ask(method, path, body, token=bob)
        absent_path = path.replace(container.id, new_id()).replace(job.id, new_id())
        absent_path = absent_path.replace(world.home.id, new_id())
        absent = await api.ask(method, absent_path, body, token=bob)
        assert foreign.refusal == (404, code), path
        assert foreign.body == absent.body
    for name in ("containers", "jobs"):
        assert (await api.get(f"/{name}", token=bob)).data[name] == []
        assert len((await api.get(f"/{name}", token=world.admin)).data[name]) == 1
    assert [p["id"] for p in (await api.get("/projects", token=bob)).data["projects"]] == [
        world.bobs.id
    ]
    assert await world.stored(container.id) == container


@pytest.mark.parametrize("world", [{"requests_per_minute": 3}], indirect=True)
async def test_rate_limit(api: Api) -> None:
    statuses = [(await api.get("/projects")).status for _ in range(3)]
    assert statuses == [200] * 3
    reply = await api.get("/projects")
    assert reply.refusal == (429, "RATE_LIMITED")
    assert 1 <= int(reply.headers["Retry-After"]) <= 20
    assert (await api.get("/projects", token=api.world.token(api.world.bob))).status == 200


async def test_probes_need_no_token(api: Api) -> None:
    for path in ("/healthz", "/metrics"):
        async with api.client.get(path) as answer:
            assert answer.status == 200
    async with api.client.get(f"{V1}/containers") as answer:
        assert answer.status == 401
