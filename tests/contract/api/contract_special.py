"""The refusals that only some endpoints have, each with what brings it about."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from daemon.api.idempotency import HEADER, request_hash
from daemon.api.routing import BASE_PATH
from daemon.keys import generate
from daemon.model import KeyedRow, Status, new_id, now
from daemon.states import Move
from daemon.store import idempotency, jobs
from tests.contract.api.api_world import Reply
from tests.contract.api.contract_rows import Case, Row
from tests.contract.api.contract_stage import NAME, Stage
from tests.contract.api.played_engine import playing

CREATE = "POST /containers"
LIST = "GET /containers"
PATCH = "PATCH /containers/{id}"
DELETE = "DELETE /containers/{id}"
COPY = "POST /containers/{id}/copy"
SYNC = "POST /containers/{id}/sync"
KEY = "GET /containers/{id}/ssh-private-key"
PROJECT = "POST /projects"
CANCEL = "POST /jobs/{id}/cancel"
SNAPSHOT = "POST /containers/{id}/snapshots"
RESTORE = "PATCH /containers/{id}/snapshots/{name}"
DROP = "DELETE /containers/{id}/snapshots/{name}"
ALIAS = "PATCH /containers/{id}/snapshots/{name}/alias"
NETWORK = "PUT /containers/{id}/network-rules"
RULES = ("PUT /containers/{id}/firewall-rules", NETWORK)
POWER = tuple(f"POST /containers/{{id}}/{verb}" for verb in ("start", "stop", "restart"))

WITH_JOB = (CREATE, COPY, SYNC, DELETE, *POWER, SNAPSHOT, RESTORE, DROP)
WAITING = (SNAPSHOT, RESTORE, DROP)
CONFLICTING = (PATCH, DELETE, COPY, SYNC, *POWER, *RULES, SNAPSHOT, RESTORE, ALIAS, DROP)

SPECIAL: list[Row] = []


def row(endpoint: str, status: int, code: str, why: str = "") -> Callable[[Case], Case]:
    """Adds the row that the function below plays."""

    def add(case: Case) -> Case:
        SPECIAL.append(Row(endpoint, status, code, case, why))
        return case

    return add


def simple(endpoint: str, status: int, code: str, why: str = "", **changed: Any) -> None:
    """Adds a row that needs no more than another request."""
    ask = partial(asked, endpoint=endpoint, **changed)
    SPECIAL.append(Row(endpoint, status, code, ask, why))


async def asked(stage: Stage, endpoint: str, **changed: Any) -> Reply:
    """A request that works but for what is changed. Creating takes an admin."""
    admin = {"token": stage.world.admin} if endpoint == CREATE else {}
    return await stage.ask(endpoint, **(admin | changed))


def target(endpoint: str) -> str:
    """The field that names the server."""
    return "target_server_id" if endpoint == COPY else "server_id"


BAD_KEYS = {
    "dss": "ssh-dss AAAAB3NzaC1kc3MAAACBAP",
    "private": "-----BEGIN OPENSSH PRIVATE KEY-----",
    "empty": "",
    "torn": generate("").public_text[:40],
}

for endpoint in (CREATE, COPY, PATCH):
    simple(endpoint, 400, "INVALID_CONTAINER_NAME", "letters", body={"name": "no spaces"})
    simple(endpoint, 400, "INVALID_CONTAINER_NAME", "empty", body={"name": ""})
    simple(endpoint, 400, "INVALID_CONTAINER_NAME", "short", body={"name": "ab"})
    simple(endpoint, 400, "INVALID_CONTAINER_NAME", "long", body={"name": "a" * 101})
    for why, text in BAD_KEYS.items():
        simple(endpoint, 400, "VALIDATION_ERROR", f"key-{why}", body={"ssh_public_key": text})

    @row(endpoint, 409, "CONTAINER_NAME_IN_USE")
    async def _name_in_use(stage: Stage, endpoint: str = endpoint) -> Reply:
        return await asked(stage, endpoint, body={"name": stage.busy.name})

    @row(endpoint, 409, "SSH_PUBLIC_KEY_IN_USE")
    async def _key_in_use(stage: Stage, endpoint: str = endpoint) -> Reply:
        pair = generate("first")
        await stage.container(ssh_public_key=pair.public_text, ssh_key_id=pair.key_id)
        again = f"  {pair.key_id}   another comment\r\n"
        return await asked(stage, endpoint, body={"ssh_public_key": again})


for endpoint in (CREATE, COPY):
    project = "target_project_id" if endpoint == COPY else "project_id"
    simple(endpoint, 400, "INVALID_ID_FORMAT", "project", body={project: "A" * 24})
    simple(endpoint, 400, "INVALID_ID_FORMAT", "server", body={target(endpoint): "x"})
    simple(endpoint, 404, "RESOURCE_NOT_FOUND", "project", body={project: new_id()})
    simple(endpoint, 404, "RESOURCE_NOT_FOUND", "server", body={target(endpoint): new_id()})

    @row(endpoint, 400, "SERVER_CONTAINER_LIMIT")
    async def _no_place(stage: Stage, endpoint: str = endpoint) -> Reply:
        return await asked(stage, endpoint, body={target(endpoint): stage.full.id})

    @row(endpoint, 507, "INSUFFICIENT_STORAGE", "less-than-256-MiB")
    async def _no_space(stage: Stage, endpoint: str = endpoint) -> Reply:
        return await asked(stage, endpoint, body={target(endpoint): stage.tight.id})


simple(CREATE, 400, "VALIDATION_ERROR", "two-origins", body={"image": "ubuntu:22.04"})
simple(CREATE, 400, "VALIDATION_ERROR", "no-origin", body={"source_path": None})
simple(CREATE, 400, "VALIDATION_ERROR", "relative-path", body={"source_path": "tree"})
simple(CREATE, 400, "VALIDATION_ERROR", "path-outside", body={"source_path": "/"})
simple(CREATE, 403, "INSUFFICIENT_PERMISSIONS", "source_path", token="alice")
image = {"image": "ubuntu:22.04", "source_path": None}
simple(CREATE, 404, "RESOURCE_NOT_FOUND", "image", body=image)
simple(COPY, 400, "VALIDATION_ERROR", "boolean", body={"copy_firewall_rules": "yes"})
simple(COPY, 400, "VALIDATION_ERROR", "snapshot", body={"source_snapshot": "a/b"})
simple(COPY, 404, "RESOURCE_NOT_FOUND", "snapshot", body={"source_snapshot": "snap-none"})


@row(COPY, 404, "RESOURCE_NOT_FOUND", "somebody-elses-project")
async def _(stage: Stage) -> Reply:
    return await stage.ask(COPY, body={"target_project_id": stage.world.bobs.id})


@row(COPY, 507, "INSUFFICIENT_STORAGE", "less-than-the-source")
async def _(stage: Stage) -> Reply:
    heavy, there = await stage.heavy(), stage.world.there.id
    return await stage.ask(COPY, id=heavy.id, body={"target_server_id": there})


for endpoint in (COPY, SYNC):
    fast = {"strategy": "fast"}
    simple(endpoint, 400, "VALIDATION_ERROR", "unknown-strategy", params=fast)

    @row(endpoint, 400, "VALIDATION_ERROR", "dir-to-zfs")
    async def _dir_to_zfs(stage: Stage, endpoint: str = endpoint) -> Reply:
        pool = stage.world.pool.id
        if endpoint == COPY:
            return await stage.ask(COPY, body={"target_server_id": pool})
        copied = await stage.container(source_container_id=stage.web.id, server_id=pool)
        return await stage.ask(SYNC, id=copied.id)

    @row(endpoint, 400, "VALIDATION_ERROR", "content-diff-on-zfs")
    async def _diff_on_zfs(stage: Stage, endpoint: str = endpoint) -> Reply:
        pool = stage.world.pool.id
        source = await stage.container(server_id=pool)
        copied = await stage.container(server_id=pool, source_container_id=source.id)
        return await stage.ask(endpoint, id=copied.id, params={"strategy": "content-diff"})


@row(SYNC, 400, "SERVER_CONTAINER_LIMIT")
async def _(stage: Stage) -> Reply:
    failed = await stage.first_copy(server_id=stage.full.id)
    return await stage.ask(SYNC, id=failed.id)


@row(SYNC, 404, "SOURCE_CONTAINER_NOT_FOUND", "deleted")
async def _(stage: Stage) -> Reply:
    orphan = await stage.container(source_container_id=new_id())
    return await stage.ask(SYNC, id=orphan.id)


@row(SYNC, 404, "SOURCE_CONTAINER_NOT_FOUND", "somebody-elses")
async def _(stage: Stage) -> Reply:
    world = stage.world
    hidden = await stage.container(owner_id=world.bob.id, project_id=world.bobs.id)
    copied = await stage.container(source_container_id=hidden.id)
    return await stage.ask(SYNC, id=copied.id)


@row(SYNC, 404, "RESOURCE_NOT_FOUND", "snapshot-of-a-first-copy")
async def _(stage: Stage) -> Reply:
    failed = await stage.first_copy(source_snapshot="snap-none")
    return await stage.ask(SYNC, id=failed.id)


@row(SYNC, 409, "CONTAINER_NOT_COPIED")
async def _(stage: Stage) -> Reply:
    return await stage.ask(SYNC, id=stage.web.id)


@row(SYNC, 409, "OPERATION_STATE_CONFLICT", "source")
async def _(stage: Stage) -> Reply:
    young = await stage.container(status=Status.CREATING, generation_id=None)
    copied = await stage.container(source_container_id=young.id)
    return await stage.ask(SYNC, id=copied.id)


@row(SYNC, 507, "INSUFFICIENT_STORAGE", "less-than-256-MiB")
async def _(stage: Stage) -> Reply:
    copied = await stage.container(source_container_id=stage.web.id, server_id=stage.tight.id)
    return await stage.ask(SYNC, id=copied.id)


@row(SYNC, 507, "INSUFFICIENT_STORAGE", "less-than-the-source-of-a-first-copy")
async def _(stage: Stage) -> Reply:
    columns = {"status": Status.ERROR, "generation_id": None, "server_id": stage.world.there.id}
    heavy = await stage.heavy()
    failed = await stage.container(source_container_id=heavy.id, **columns)
    return await stage.ask(SYNC, id=failed.id)


for endpoint in CONFLICTING:

    @row(endpoint, 409, "OPERATION_STATE_CONFLICT", "deleting")
    async def _deleting(stage: Stage, endpoint: str = endpoint) -> Reply:
        copied = {"source_container_id": stage.web.id} if endpoint == SYNC else {}
        doomed = await stage.container(status=Status.DELETING, **copied)
        reply = await stage.ask(endpoint, id=doomed.id)
        assert reply.body["details"]["status"] == "deleting"
        return reply


for endpoint in WITH_JOB:

    @row(endpoint, 429, "RATE_LIMITED", "unfinished-jobs")
    async def _jobs(stage: Stage, endpoint: str = endpoint) -> Reply:
        async with stage.limited(jobs_per_user=1) as few:
            reply = await asked(few, endpoint)
        assert int(reply.headers["Retry-After"]) > 0
        return reply


for endpoint in (*POWER, SYNC, SNAPSHOT, RESTORE):

    @row(endpoint, 409, "OPERATION_STATE_CONFLICT", "busy")
    async def _busy(stage: Stage, endpoint: str = endpoint) -> Reply:
        status = Status.STOPPED if endpoint.endswith("/start") else Status.RUNNING
        copied = await stage.container(source_container_id=stage.web.id, status=status)
        await stage.world.job(copied, not_before=stage.job.not_before)
        return await stage.ask(endpoint, id=copied.id)


for query in ("project_id", "server_id", "source_container_id"):
    simple(LIST, 400, "INVALID_ID_FORMAT", query, params={query: "A" * 24})
simple("GET /jobs", 400, "INVALID_ID_FORMAT", "container_id", params={"container_id": "x"})
simple(LIST, 400, "VALIDATION_ERROR", "status", params={"status": "asleep"})
simple("GET /jobs", 400, "VALIDATION_ERROR", "state", params={"state": "done"})
simple("GET /jobs", 400, "VALIDATION_ERROR", "type", params={"type": "dance"})
simple("GET /jobs/{id}/wait", 400, "VALIDATION_ERROR", "timeout", params={"timeout": "301"})
simple(PROJECT, 400, "VALIDATION_ERROR", "name-empty", body={"name": ""})
simple(PROJECT, 400, "VALIDATION_ERROR", "name-long", body={"name": "x" * 101})
simple(PROJECT, 409, "PROJECT_NAME_IN_USE", body={"name": "home"})


@row(NETWORK, 409, "HOST_PORT_IN_USE")
async def _(stage: Stage) -> Reply:
    rule = {"type": "forward", "protocol": "tcp", "host_port": 8080, "container_port": 80}
    await stage.container(network_rules=(rule,))
    return await stage.ask(NETWORK, body={"rules": [rule | {"container_port": 81}]})


for endpoint in (SNAPSHOT, ALIAS):
    for why, alias in (("prefix", "snap-x"), ("slash", "a/b"), ("long", "x" * 101), ("empty", "")):
        simple(endpoint, 400, "VALIDATION_ERROR", f"alias-{why}", body={"alias": alias})
for days in (0, -1, 36501, "30"):
    simple(SNAPSHOT, 400, "VALIDATION_ERROR", f"expiry-{days!r}", body={"expiry": days})


@row(CANCEL, 409, "JOB_NOT_CANCELLABLE", "switching")
async def _(stage: Stage) -> Reply:
    job = await stage.world.job(await stage.container(), step="switch")
    return await stage.ask(CANCEL, id=job.id)


@row(KEY, 404, "RESOURCE_NOT_FOUND", "given")
async def _(stage: Stage) -> Reply:
    pair = generate("")
    columns = {"ssh_public_key": pair.public_text, "ssh_key_id": pair.key_id}
    return await stage.ask(KEY, id=(await stage.container(**columns)).id)


@row(KEY, 409, "OPERATION_STATE_CONFLICT", "not-made-yet")
async def _(stage: Stage) -> Reply:
    return await stage.ask(KEY, id=stage.copied.id)


@row(KEY, 410, "KEY_ALREADY_RETRIEVED")
async def _(stage: Stage) -> Reply:
    return await stage.ask(KEY, id=(await stage.container(ssh_private_fetched=True)).id)


@row(KEY, 500, "INTERNAL_ERROR", "sealed-by-another-key")
async def _(stage: Stage) -> Reply:
    columns = {"ssh_public_key": "x", "ssh_key_id": new_id(), "ssh_private_sealed": b"garbage"}
    return await stage.ask(KEY, id=(await stage.container(**columns)).id)


@row(SNAPSHOT, 400, "VALIDATION_ERROR", "as-many-as-there-may-be")
async def _(stage: Stage) -> Reply:
    async with stage.limited(snapshots_per_container=1) as few:
        return await few.ask(SNAPSHOT)


@row(DROP, 409, "SNAPSHOT_ALIAS_AMBIGUOUS")
async def _(stage: Stage) -> Reply:
    container = await stage.container()
    for name in ("snap-one", "snap-two"):
        await stage.world.snapshot(container, name, alias="nightly")
    return await stage.ask(DROP, id=container.id, name="nightly")


@asynccontextmanager
async def ending(stage: Stage, move: Move, code: str | None = None) -> AsyncIterator[None]:
    """Every job ends so, as soon as it is queued."""
    async with playing(stage.world) as engine:
        engine.move = move
        if code is not None:
            engine.error = {"code": code, "message": "so it is", "retryable": False}
        yield


@row(SNAPSHOT, 409, "IDEMPOTENCY_IN_PROGRESS", "job")
async def _(stage: Stage) -> Reply:
    _, path, body = stage.request(SNAPSHOT)
    use = (stage.world.alice.id, "POST", BASE_PATH + path, "a-first-key")
    first = KeyedRow(*use, request_hash({}, body), now(), job_id=stage.job.id)
    async with stage.world.db.write() as tx:
        await idempotency.put(tx, first)
    return await stage.ask(SNAPSHOT, headers={HEADER: first.key})


@row(SNAPSHOT, 404, "RESOURCE_NOT_FOUND", "job")
async def _(stage: Stage) -> Reply:
    """The snapshot was deleted again before its answer was made."""
    there = stage.world.there.id
    container = await stage.container(server_id=there)
    _, path, body = stage.request(SNAPSHOT)
    asking = asyncio.create_task(stage.api.post(path.replace(stage.web.id, container.id), body))
    job = None
    while job is None:
        await asyncio.sleep(0)
        async with stage.world.db.write() as tx:
            if job := await jobs.claim(tx, there, now(), stage.job.not_before or now()):
                await jobs.move(tx, job, Move.SUCCEED, at=now())
    return await asking


def job_rows() -> Iterator[Row]:
    """What the endpoints answer that wait for a job, when the job does not do what was asked."""
    ends: dict[tuple[int, str], tuple[Move, str | None]] = {
        (409, "JOB_CANCELLED"): (Move.CANCEL, None),
        (500, "INTERNAL_ERROR"): (Move.FAIL, "SERVER_LOST"),
        (507, "INSUFFICIENT_STORAGE"): (Move.FAIL, "INSUFFICIENT_STORAGE"),
    }
    for endpoint in WAITING:
        yield Row(endpoint, 503, "SERVICE_UNAVAILABLE", partial(_offline, endpoint), "offline")
        for (status, code), (move, error) in ends.items():
            case = partial(_ended, endpoint, move, error)
            yield Row(endpoint, status, code, case, "job")


async def _offline(endpoint: str, stage: Stage) -> Reply:
    container = await stage.container(server_id=stage.away.id)
    return await stage.ask(endpoint, id=container.id)


async def _ended(endpoint: str, move: Move, error: str | None, stage: Stage) -> Reply:
    container = await stage.container()
    method, path, body = stage.request(endpoint)
    async with ending(stage, move, error):
        reply = await stage.api.ask(method, path.replace(stage.web.id, container.id), body)
    assert reply.headers.get("Location", "").startswith("/api/v1/jobs/"), reply.body
    assert await stage.world.stored(container.id) == container
    assert [one.name for one in await stage.world.listed(container)] == [NAME]
    return reply


SPECIAL.extend(job_rows())
