"""Which scope each endpoint takes, API.md 1: every route with a token of every scope."""

from __future__ import annotations

import pytest

from daemon.api.app import ROUTES
from daemon.api.routing import AnyRoute
from daemon.auth import Scope
from tests.contract.api.contract_rows import endpoint_of
from tests.contract.api.contract_stage import Stage

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEY = "GET /containers/{id}/ssh-private-key"


def scope_of(endpoint: str) -> Scope:
    """As the page has it: `read` is every GET but keys."""
    method, path = endpoint.split()
    if method == "GET":
        return Scope.KEYS if endpoint == KEY else Scope.READ
    if "/snapshots" in path:
        return Scope.SNAPSHOTS
    of_nouns = {"projects": Scope.PROJECTS, "proxy": Scope.PROXY}
    return of_nouns.get(path.split("/")[1], Scope.CONTAINERS)


@pytest.mark.parametrize("scope", Scope)
@pytest.mark.parametrize("route", ROUTES, ids=endpoint_of)
async def test_scope(route: AnyRoute, scope: Scope, stage: Stage) -> None:
    """A request with an odd query goes no further than the check that follows."""
    endpoint = endpoint_of(route)
    token = stage.world.token(scopes=[scope])
    reply = await stage.ask(endpoint, token=token, params={"bogus": "1"})
    if scope in (scope_of(endpoint), Scope.ADMIN):
        assert reply.refusal == (400, "VALIDATION_ERROR")
    else:
        assert reply.refusal == (403, "INSUFFICIENT_PERMISSIONS")
        assert reply.body["details"] == {"scope": f"needs '{scope_of(endpoint)}'"}


@pytest.mark.parametrize("route", ROUTES, ids=endpoint_of)
async def test_all_scopes_but_the_right_one(route: AnyRoute, stage: Stage) -> None:
    endpoint = endpoint_of(route)
    others = set(Scope) - {scope_of(endpoint), Scope.ADMIN}
    reply = await stage.ask(endpoint, token=stage.world.token(scopes=others))
    assert reply.refusal == (403, "INSUFFICIENT_PERMISSIONS")
