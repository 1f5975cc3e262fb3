"""A worker's boundary: what a failure becomes, and what progress looks like."""

from __future__ import annotations

import errno
import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from daemon import worker
from daemon.errors import CatalogueError, JobError, LeaseLost
from daemon.model import Job, JobType, Json, Status
from daemon.states import Move
from daemon.store import jobs
from daemon.store.database import Database
from tests.engine_world import World
from transfer.errors import PeerUnreachable, SnapshotMissing, StreamCorrupt
from transfer.model import Progress


@pytest.mark.parametrize(
    ("error", "code", "retryable"),
    [
        (PeerUnreachable("gone", address="a:1"), "PEER_UNREACHABLE", True),
        (StreamCorrupt("cut"), "STREAM_CORRUPT", True),
        (SnapshotMissing("gone"), "SNAPSHOT_MISSING", False),
        (JobError("START_FAILED", "no"), "START_FAILED", False),
        (JobError("TRANSFER_STALLED", "no", retryable=True), "TRANSFER_STALLED", True),
        (CatalogueError("gone"), "SERVICE_UNAVAILABLE", True),
        (OSError(errno.ENOSPC, "full"), "INSUFFICIENT_STORAGE", False),
        (OSError(errno.EDQUOT, "full"), "INSUFFICIENT_STORAGE", False),
        (OSError(errno.EIO, "broken"), "INTERNAL_ERROR", False),
        (ValueError("a bug"), "INTERNAL_ERROR", False),
    ],
)
def test_every_failure_has_a_code(error: Exception, code: str, retryable: bool) -> None:
    found = worker.described(error)
    assert (found["code"], found["retryable"]) == (code, retryable)
    assert found.keys() == {"code", "message", "retryable", "evidence"}


def test_evidence_is_kept() -> None:
    assert worker.described(PeerUnreachable("gone", address="a:1"))["evidence"] == {
        "address": "a:1"
    }


@pytest.fixture
async def job(world: World) -> Job:
    source = await world.create()
    copy = await world.add(
        "copy", world.there, source_container_id=source.id, status=Status.COPYING
    )
    return await world.running(JobType.COPY, copy)


async def test_progress_never_falls_within_an_attempt(world: World, job: Job) -> None:
    meter = worker.Meter(world.context(job))
    shown: list[Json] = []
    for done, total in [(0, 100), (50, 100), (20, 100), (60, 200), (200, 200), (0, 0), (900, 100)]:
        meter.report(Progress(done, total))
        await meter.show(world.db)
        shown.append((await world.job(job.id)).progress)
    for name in ("percent", "bytes_done"):
        values: list[Any] = [view[name] for view in shown]
        assert values == sorted(values)
        assert values[0] == 0
    assert shown[-1]["percent"] == 100.0


async def test_only_what_has_changed_is_written_down(world: World, job: Job) -> None:
    meter = worker.Meter(world.context(job))
    meter.report(Progress(10, 100))
    await meter.show(world.db)
    await world.end(job, Move.REQUEUE)
    await meter.show(world.db)  # nothing new, and so nothing refused
    meter.report(Progress(11, 100))
    with pytest.raises(LeaseLost):
        await meter.show(world.db)


async def test_bytes_on_the_wire_count_earlier_attempts_too(world: World, job: Job) -> None:
    async with world.db.write() as tx:
        job = await jobs.save(tx, job, progress={"bytes_wire": 700})
    ctx = world.context(job)
    assert ctx.wire_bytes() == 700
    assert worker.Meter(ctx).view()["bytes_wire"] == 700


def test_a_rate_gives_the_time_that_is_left(world: World) -> None:
    class Silent:
        def wire_bytes(self) -> int:
            return 0

    meter = worker.Meter(Silent())
    meter._began = time.monotonic() - 10
    meter.report(Progress(1000, 3000))
    view = meter.view()
    assert 90 <= int(str(view["rate_bytes_per_second"])) <= 100
    assert 20 <= int(str(view["eta_seconds"])) <= 23
    meter = worker.Meter(Silent())
    assert (meter.view()["eta_seconds"], meter.view()["percent"]) == (None, 0.0)


def means(world: World) -> worker.Means:
    here = world.here
    return worker.Means(here.config, world.db, here.storage, None, b"s" * 32)


async def create(world: World, **params: str) -> Job:
    made = await world.add("made")
    return await world.running(JobType.CREATE, made, params=params)


async def test_an_attempt_answers_with_its_result(world: World) -> None:
    job = await create(world, source_path=str(world.tree))
    assert await worker.attempt(means(world), job) == {"result": None}
    assert (await world.get(job.container_id)).status is Status.RUNNING


async def test_an_attempt_answers_with_its_error(world: World) -> None:
    job = await create(world, source_path="/nowhere")
    answer = await worker.attempt(means(world), job)
    error = answer["error"]
    assert isinstance(error, dict)
    assert (error["code"], error["evidence"]) == ("SOURCE_PATH_INVALID", {"path": "/nowhere"})


async def test_a_fault_of_ours_is_an_internal_error(world: World) -> None:
    answer = await worker.attempt(means(world), await create(world))
    error = answer["error"]
    assert isinstance(error, dict)
    assert (error["code"], error["message"]) == ("INTERNAL_ERROR", "KeyError: 'source_path'")


async def test_a_fault_of_ours_is_logged_with_the_ids_of_its_job(
    world: World, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    job = await create(world)
    with capture_logs(processors=[merge_contextvars]) as said:
        await worker._answer(means(world), job.id)
    assert json.loads(capfdbinary.readouterr().out)["error"]["code"] == "INTERNAL_ERROR"
    (line,) = said
    assert line["log_level"] == "error"
    assert (line["job_id"], line["container_id"]) == (job.id, job.container_id)


async def test_an_attempt_that_is_no_longer_ours_says_only_that(world: World) -> None:
    job = await create(world, source_path=str(world.tree))
    await world.end(job, Move.REQUEUE)
    assert await worker.attempt(means(world), job) == {"lost": True}
    assert await world.paths(world.here) == []


async def test_a_worker_that_cannot_read_its_job_says_so(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """The daemon waits for its answer, for ever if there is none."""
    db = Database(f"sqlite:///{tmp_path}/none/catalogue.db")
    await worker._answer(cast("worker.Means", SimpleNamespace(db=db)), "a" * 24)
    answer = json.loads(capfdbinary.readouterr().out)
    assert (answer["error"]["code"], answer["error"]["retryable"]) == ("SERVICE_UNAVAILABLE", True)
    await db.close()
