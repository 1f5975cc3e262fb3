"""The end of a job, for the endpoints that answer with it."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from daemon.api.access import visible_job
from daemon.api.errors import (
    InternalError,
    JobCancelled,
    ServiceUnavailable,
    StorageInsufficient,
)
from daemon.api.routing import Call, job_headers
from daemon.model import Job, JobState
from daemon.states import ENDED

WAIT_SECONDS = 300
LOOK_SECONDS_MIN = 0.02
LOOK_SECONDS_MAX = 2.0
LATE_SHARE = 0.1


async def until_ended(call: Call[Any, Any], job_id: str, patience_seconds: float) -> Job:
    """The job once it has ended, or as it stands when patience is over. Another server may end
    it, so the catalogue is asked again and again, soon at first, for many jobs are short: an end
    is seen late by a tenth of what was waited. A client that has gone is not waited for."""
    began = time.monotonic()
    while True:
        async with call.deps.db.read() as tx:
            found = await visible_job(tx, call.caller, job_id)
        waited_seconds = time.monotonic() - began
        left_seconds = patience_seconds - waited_seconds
        transport = call.request.transport
        if found.state in ENDED or left_seconds <= 0 or transport is None or transport.is_closing():
            return found
        pause_seconds = max(LOOK_SECONDS_MIN, LATE_SHARE * waited_seconds)
        await asyncio.sleep(min(pause_seconds, LOOK_SECONDS_MAX, left_seconds))


async def until_done(call: Call[Any, Any], job: Job) -> None:
    """Wakes the engine and returns once the job has succeeded.

    Raises JobCancelled; for a job that failed StorageInsufficient or InternalError, `job_error`
    being its code; for one that takes too long, and goes on, ServiceUnavailable. All name the job.
    """
    call.deps.news.tell()
    ended = await until_ended(call, job.id, WAIT_SECONDS)
    headers = job_headers(job.id)
    if ended.state is JobState.CANCELLED:
        raise JobCancelled(headers=headers)
    if ended.state is JobState.FAILED:
        error = ended.error or {}
        details = {"job_error": error.get("code", InternalError.code)}
        full = details["job_error"] == StorageInsufficient.code
        kind = StorageInsufficient if full else InternalError
        raise kind(f"The job failed: {error.get('message', '')}", details=details, headers=headers)
    if ended.state is not JobState.SUCCEEDED:
        details = {"job": f"has not ended within {WAIT_SECONDS} s; it goes on"}
        raise ServiceUnavailable("The job has not ended yet", details=details, headers=headers)
