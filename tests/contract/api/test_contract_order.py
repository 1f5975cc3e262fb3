"""The order of checks, API.md 1: of all that is wrong with a request, the first thing is told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from daemon.model import Container, JobType, Status, new_id, now
from daemon.store import accounts, containers, servers
from tests.contract.api.api_world import ROOMY_BYTES
from tests.contract.api.contract_proxy import PROXY_CREATE
from tests.contract.api.contract_rows import scopes_without
from tests.contract.api.contract_special import (
    ALIAS,
    CANCEL,
    COPY,
    CREATE,
    DROP,
    NETWORK,
    PATCH,
    POWER,
    PROJECT,
    RESTORE,
    SNAPSHOT,
    SYNC,
    target,
)
from tests.contract.api.contract_stage import Stage
from transfer.model import Capacity


@dataclass
class Request:
    """A request about `subject` that works until things are made wrong with it, or with the world.
    `subject` is a copy of `web`, to be synced one that never came to be. What is made, is made on
    the server `there`."""

    stage: Stage
    endpoint: str
    subject: Container
    changed: dict[str, Any]

    @classmethod
    async def of(cls, stage: Stage, endpoint: str) -> Request:
        on = {"server_id": stage.world.here.id if endpoint == COPY else stage.world.there.id}
        if endpoint == SYNC:
            subject = await stage.first_copy(**on)
        else:
            subject = await stage.container(source_container_id=stage.web.id, **on)
        made = cls(stage, endpoint, subject, {})
        if endpoint != CANCEL:
            made.changed["id"] = subject.id
        if endpoint in (COPY, CREATE):
            made.body(**{target(endpoint): stage.world.there.id, "name": "fresh"})
        if endpoint == PROXY_CREATE:
            made.body(container_id=subject.id)
        if endpoint == CREATE:
            made.changed["token"] = stage.world.admin
        return made

    def body(self, **fields: Any) -> None:
        self.changed["body"] = self.changed.get("body", {}) | fields

    async def change(self, **columns: Any) -> None:
        async with self.stage.world.db.write() as tx:
            await containers.change(tx, self.subject.id, **columns)

    async def change_server(self, **columns: Any) -> None:
        async with self.stage.world.db.write() as tx:
            there = await servers.get(tx, self.stage.world.there.id)
            assert there is not None
            await servers.put(tx, replace(there, **columns))


Fault = Callable[[Request], Awaitable[None]]


async def bad_token(request: Request) -> None:
    request.changed["token"] = "no.such.token"


async def banned(request: Request) -> None:
    world = request.stage.world
    async with world.db.write() as tx:
        for user in (world.alice, world.bob):
            await accounts.set_banned(tx, user.id, True)


async def without_scope(request: Request) -> None:
    request.changed["token"] = request.stage.world.token(scopes=scopes_without(request.endpoint))


async def bad_id(request: Request) -> None:
    request.changed["id"] = "A" * 24


async def bad_body(request: Request) -> None:
    request.body(bogus=1)


async def bad_name(request: Request) -> None:
    request.changed["name"] = "a\nb"


async def no_admin(request: Request) -> None:
    request.changed["token"] = request.stage.world.token()


async def bad_path(request: Request) -> None:
    request.body(source_path="tree")


async def absent(request: Request) -> None:
    if request.endpoint == PROXY_CREATE:
        request.body(container_id=new_id())
    else:
        request.changed["id"] = new_id()


async def absent_project(request: Request) -> None:
    request.body(**{"target_project_id" if request.endpoint == COPY else "project_id": new_id()})


async def absent_server(request: Request) -> None:
    request.body(**{target(request.endpoint): new_id()})


async def absent_source(request: Request) -> None:
    await request.change(source_container_id=new_id())


async def absent_snapshot(request: Request) -> None:
    request.changed["name"] = "snap-none"
    if request.endpoint == COPY:
        request.body(source_snapshot="snap-none")
    if request.endpoint == SYNC:
        await request.change(source_snapshot="snap-none")


async def no_way_there(request: Request) -> None:
    await request.change_server(backend="zfs")


async def deleting(request: Request) -> None:
    await request.change(status=Status.DELETING)


async def busy(request: Request) -> None:
    await request.stage.world.job(request.subject, JobType.COPY)


async def name_in_use(request: Request) -> None:
    request.body(name="home" if request.endpoint == PROJECT else request.stage.web.name)


async def key_in_use(request: Request) -> None:
    request.body(ssh_public_key=request.stage.web.ssh_public_key)


async def port_in_use(request: Request) -> None:
    rule = {"type": "forward", "protocol": "tcp", "host_port": 8080, "container_port": 80}
    await request.stage.container(network_rules=(rule,), server_id=request.subject.server_id)
    request.body(rules=[rule])


async def alias_in_use(request: Request) -> None:
    request.body(alias=request.stage.alias.alias)


async def no_place(request: Request) -> None:
    await request.change_server(max_containers=0)


async def no_space(request: Request) -> None:
    async with request.stage.world.db.write() as tx:
        await servers.beat(tx, request.stage.world.there.id, Capacity(9, 9, 0), now())


async def offline(request: Request) -> None:
    long_ago, capacity = now() - timedelta(hours=1), Capacity(ROOMY_BYTES, 0, ROOMY_BYTES)
    async with request.stage.world.db.write() as tx:
        await servers.beat(tx, request.stage.world.there.id, capacity, long_ago)


async def ambiguous(request: Request) -> None:
    for name in ("snap-one", "snap-two"):
        await request.stage.world.snapshot(request.subject, name, alias="nightly")
    request.changed["name"] = "nightly"


async def switching(request: Request) -> None:
    job = await request.stage.world.job(request.subject, step="switch")
    request.changed["id"] = job.id


Checks = tuple[tuple[Fault, str], ...]
CALLER: Checks = (
    (bad_token, "401 INVALID_TOKEN"),
    (banned, "403 ACCOUNT_BANNED"),
    (without_scope, "403 INSUFFICIENT_PERMISSIONS"),
)
BODY: Checks = (*CALLER, (bad_body, "400 VALIDATION_ERROR"))
ID: Checks = (*CALLER, (bad_id, "400 INVALID_ID_FORMAT"), (bad_body, "400 VALIDATION_ERROR"))
ONE: Checks = (*ID, (absent, "404 CONTAINER_NOT_FOUND"))
NAMED: Checks = (
    *ID,
    (bad_name, "400 VALIDATION_ERROR"),
    (absent, "404 CONTAINER_NOT_FOUND"),
    (absent_snapshot, "404 RESOURCE_NOT_FOUND"),
)
STATE = (deleting, "409 OPERATION_STATE_CONFLICT")
ROOM: Checks = (
    (no_place, "400 SERVER_CONTAINER_LIMIT"),
    (no_space, "507 INSUFFICIENT_STORAGE"),
)
TAKEN: Checks = (
    (name_in_use, "409 CONTAINER_NAME_IN_USE"),
    (key_in_use, "409 SSH_PUBLIC_KEY_IN_USE"),
)
OFFLINE = (offline, "503 SERVICE_UNAVAILABLE")

ORDERS: dict[str, Checks] = {
    COPY: (
        *ID,
        (absent, "404 SOURCE_CONTAINER_NOT_FOUND"),
        (absent_project, "404 RESOURCE_NOT_FOUND"),
        (absent_server, "404 RESOURCE_NOT_FOUND"),
        (absent_snapshot, "404 RESOURCE_NOT_FOUND"),
        (no_way_there, "400 VALIDATION_ERROR"),
        STATE,
        *TAKEN,
        *ROOM,
    ),
    SYNC: (
        *ONE,
        (absent_source, "404 SOURCE_CONTAINER_NOT_FOUND"),
        (absent_snapshot, "404 RESOURCE_NOT_FOUND"),
        (no_way_there, "400 VALIDATION_ERROR"),
        STATE,
        (busy, "409 OPERATION_STATE_CONFLICT"),
        *ROOM,
    ),
    CREATE: (
        *BODY,
        (no_admin, "403 INSUFFICIENT_PERMISSIONS"),
        (bad_path, "400 VALIDATION_ERROR"),
        (absent_project, "404 RESOURCE_NOT_FOUND"),
        (absent_server, "404 RESOURCE_NOT_FOUND"),
        *TAKEN,
        *ROOM,
    ),
    PATCH: (*ONE, STATE, *TAKEN),
    NETWORK: (*ONE, STATE, (port_in_use, "409 HOST_PORT_IN_USE")),
    **dict.fromkeys(POWER, (*ONE, STATE)),
    SNAPSHOT: (*ONE, STATE, (busy, "409 OPERATION_STATE_CONFLICT"), OFFLINE),
    RESTORE: (*NAMED, STATE, (busy, "409 OPERATION_STATE_CONFLICT"), OFFLINE),
    ALIAS: (*NAMED, STATE),
    DROP: (*NAMED, STATE, (ambiguous, "409 SNAPSHOT_ALIAS_AMBIGUOUS"), OFFLINE),
    PROXY_CREATE: (
        *BODY,
        (absent, "404 CONTAINER_NOT_FOUND"),
        STATE,
        (alias_in_use, "409 PROXY_ALIAS_IN_USE"),
    ),
    PROJECT: (*BODY, (name_in_use, "409 PROJECT_NAME_IN_USE")),
    CANCEL: (
        *ID,
        (absent, "404 RESOURCE_NOT_FOUND"),
        (switching, "409 JOB_NOT_CANCELLABLE"),
    ),
}
CASES = [(endpoint, at) for endpoint, checks in ORDERS.items() for at in range(len(checks))]
IDS = [f"{endpoint}-{ORDERS[endpoint][at][0].__name__}" for endpoint, at in CASES]


async def told(request: Request, answer: str) -> None:
    """The request is refused in this way, and nothing is written."""
    reply = await request.stage.ask(request.endpoint, **request.changed)
    status, code = answer.split()
    assert reply.refusal == (int(status), code)


@pytest.mark.parametrize(("endpoint", "at"), CASES, ids=IDS)
async def test_the_first_fault_is_told(endpoint: str, at: int, own_stage: Stage) -> None:
    """Everything from this check on is wrong; nothing before it is."""
    request = await Request.of(own_stage, endpoint)
    first, *later = ORDERS[endpoint][at:]
    for fault, _ in (*reversed(later), first):
        await fault(request)
    await told(request, first[1])


@pytest.mark.parametrize(("endpoint", "at"), CASES, ids=IDS)
async def test_each_fault_alone_is_told(endpoint: str, at: int, own_stage: Stage) -> None:
    """So the faults of the test above are what they are called."""
    request = await Request.of(own_stage, endpoint)
    fault, answer = ORDERS[endpoint][at]
    await fault(request)
    await told(request, answer)
