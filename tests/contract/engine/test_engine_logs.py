"""What the engine's log has of a job: lines with its ids, at levels that mean something."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from daemon.model import Job
from tests.contract.engine.stand_in import DONE, failure
from tests.contract.engine.works import Works

BEGINS = ("job begins", "info")
SUCCEEDED = ("job succeeded", "info")
AGAIN = ("job will be tried again", "warning")
PUT_BACK = ("job queued again", "info")
GONE = ("the catalogue is gone for now", "error")
CANCELLED = ("job ended", "info")  # somebody wanted it so
FAILED = ("job ended", "warning")


@pytest.fixture
def said() -> Iterator[list[Any]]:
    """The lines so far, with what is bound."""
    with capture_logs(processors=[merge_contextvars]) as lines:
        yield lines


def told(said: list[Any], job: Job) -> list[tuple[str, str]]:
    """What is said of a job, and how loudly."""
    own = [line for line in said if line.get("job_id") == job.id]
    assert {line["container_id"] for line in own} == {job.container_id}
    return [(line["event"], line["log_level"]) for line in own]


async def test_a_job_is_followed_by_its_ids(works: Works, said: list[Any]) -> None:
    """Its every line has them, on good and on bad ways."""
    refused = failure("PEER_REFUSED", retryable=False)
    unreachable = failure("PEER_UNREACHABLE", retryable=True)
    unwanted = await works.job(DONE)
    await works.cancel(unwanted)
    stories = [
        (await works.job(DONE), [BEGINS, SUCCEEDED]),
        (await works.job(refused), [BEGINS, FAILED]),
        (await works.job(unreachable, DONE), [BEGINS, AGAIN, BEGINS, SUCCEEDED]),
        (await works.job("die", DONE), [BEGINS, AGAIN, BEGINS, SUCCEEDED]),
        (unwanted, [CANCELLED]),
    ]
    async with works.running():
        for job, _ in stories:
            await works.ended(job)
    assert [told(said, job) for job, _ in stories] == [story for _, story in stories]
    assert all("job_id" in line for line in said)


async def test_what_waits_for_the_next_start_has_its_ids(works: Works, said: list[Any]) -> None:
    job, left = await works.job("hang", DONE), await works.job("hang", DONE)
    await works.world.claim(left)
    async with works.running():
        await works.begun(job)
        await works.begun(left)
    assert told(said, job) == [BEGINS, PUT_BACK]
    assert told(said, left) == [PUT_BACK, BEGINS, PUT_BACK]


async def test_a_catalogue_that_is_gone_is_an_error(works: Works, said: list[Any]) -> None:
    """Nothing is done meanwhile: whether a round meets it, or the end of a job."""
    job = await works.job(failure("PEER_REFUSED", retryable=False))
    works.faults = 1
    async with works.running():
        await works.ended(job)
    assert told(said, job) == [BEGINS, GONE, FAILED]
    said.clear()
    unwanted = await works.job(DONE)
    await works.cancel(unwanted)
    works.faults = 1
    async with works.running():
        await works.ended(unwanted)
    assert [(line["event"], line["log_level"]) for line in said] == [GONE, CANCELLED]
