"""The refusals that only proxy aliases have, each with what brings it about."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from daemon.model import Status, new_id
from tests.contract.api.api_world import Reply
from tests.contract.api.contract_rows import Row
from tests.contract.api.contract_stage import Stage

PROXY_LIST = "GET /proxy/aliases"
PROXY_CREATE = "POST /proxy/aliases"

BAD_FIELDS = {
    "alias-empty": {"alias": ""},
    "alias-long": {"alias": "a" * 64},
    "alias-upper": {"alias": "Prod"},
    "alias-first": {"alias": "-prod"},
    "alias-last": {"alias": "prod-"},
    "alias-dot": {"alias": "prod.eu"},
    "alias-line": {"alias": "prod\n"},
    "alias-letters": {"alias": "pr\u00f6d"},
    "program-empty": {"program": ""},
    "program-long": {"program": "w" * 64},
    "program-words": {"program": "web server"},
    "index-below": {"index": -1},
    "index-above": {"index": 65536},
    "index-part": {"index": 1.5},
    "index-true": {"index": True},
    "path-empty": {"target_path": ""},
    "path-relative": {"target_path": "app/"},
    "path-long": {"target_path": "/" * 1025},
    "path-control": {"target_path": "/a\r\nSet-Cookie: b"},
    "path-c1": {"target_path": "/\u0085"},
}


async def _in_use(stage: Stage) -> Reply:
    """By another container of the project."""
    body = {"container_id": stage.copied.id, "alias": stage.alias.alias}
    return await stage.ask(PROXY_CREATE, body=body)


async def _deleting(stage: Stage) -> Reply:
    doomed = await stage.container(status=Status.DELETING)
    reply = await stage.ask(PROXY_CREATE, body={"container_id": doomed.id})
    assert reply.body["details"] == {"status": "deleting"}
    return reply


async def _somebody_elses(stage: Stage) -> Reply:
    bob = stage.world.token(stage.world.bob)
    reply = await stage.ask(PROXY_CREATE, token=bob)
    absent = await stage.ask(PROXY_CREATE, token=bob, body={"container_id": new_id()})
    assert reply.body == absent.body
    return reply


def proxy_rows() -> Iterator[Row]:
    """The rows of the aliases' endpoints."""
    for name in ("container_id", "project_id"):
        odd = partial(Stage.ask, endpoint=PROXY_LIST, params={name: "A" * 24})
        yield Row(PROXY_LIST, 400, "INVALID_ID_FORMAT", odd, name)
    for why, body in BAD_FIELDS.items():
        ask = partial(Stage.ask, endpoint=PROXY_CREATE, body=body)
        yield Row(PROXY_CREATE, 400, "VALIDATION_ERROR", ask, why)
    odd = partial(Stage.ask, endpoint=PROXY_CREATE, body={"container_id": "x"})
    yield Row(PROXY_CREATE, 400, "INVALID_ID_FORMAT", odd)
    absent = partial(Stage.ask, endpoint=PROXY_CREATE, body={"container_id": new_id()})
    yield Row(PROXY_CREATE, 404, "CONTAINER_NOT_FOUND", absent)
    yield Row(PROXY_CREATE, 404, "CONTAINER_NOT_FOUND", _somebody_elses, "somebody-elses")
    yield Row(PROXY_CREATE, 409, "OPERATION_STATE_CONFLICT", _deleting)
    yield Row(PROXY_CREATE, 409, "PROXY_ALIAS_IN_USE", _in_use)


PROXY = list(proxy_rows())
