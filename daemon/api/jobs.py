"""Jobs: list, get, wait, cancel."""

from __future__ import annotations

from daemon.api.access import is_online, known_server, visible_job
from daemon.api.errors import JobNotCancellable
from daemon.api.fields import (
    Fields,
    JobStateWord,
    JobTypeWord,
    Nothing,
    ObjectId,
    PageQuery,
    WaitSeconds,
)
from daemon.api.routing import Answer, AnyRoute, Call, Plain, Route
from daemon.api.showing import page_of
from daemon.api.waiting import until_ended
from daemon.auth import Scope
from daemon.engine import CANCELLED, end
from daemon.model import JobState
from daemon.states import ENDED, Move
from daemon.store import jobs
from daemon.store.jobs import JobFilter
from daemon.views import job_view


class JobQuery(PageQuery):
    """Which jobs a list shows."""

    container_id: ObjectId | None = None
    state: JobStateWord | None = None
    type: JobTypeWord | None = None


class WaitQuery(Fields):
    """For how long to wait, in seconds."""

    timeout: WaitSeconds = 30


async def index(call: Call[Nothing, JobQuery]) -> Answer:
    """The jobs of the caller's containers."""
    query = call.query
    wanted = JobFilter(
        user_id=call.caller.owner_filter,
        container_id=query.container_id,
        state=query.state,
        type=query.type,
    )
    async with call.deps.db.read() as tx:
        found, total = await jobs.page(tx, wanted, query.page, query.limit)
    views = [job_view(job) for job in found]
    return Answer(page_of("jobs", views, total, query), "Jobs retrieved successfully")


async def get(call: Plain) -> Answer:
    """One job."""
    async with call.deps.db.read() as tx:
        found = await visible_job(tx, call.caller, call.id)
    return Answer(job_view(found), "Job retrieved successfully")


async def wait(call: Call[Nothing, WaitQuery]) -> Answer:
    """The job once it has ended, or as it stands at the timeout."""
    found = await until_ended(call, call.id, call.query.timeout)
    return Answer(job_view(found), "Job retrieved successfully")


async def cancel(call: Plain) -> Answer:
    """Asks a job to stop; it ends as soon as its worker can. One that waits while its server is
    offline has nobody to end it, and ends here."""
    deps = call.deps
    async with call.write() as tx:
        found = await visible_job(tx, call.caller, call.id)
        asked = await jobs.request_cancel(tx, found.id)
        if asked is None:
            raise JobNotCancellable(details={"state": found.state.value, "step": found.step})
        server = await known_server(tx, asked.server_id, "server_id")
        if asked.state is JobState.QUEUED and not is_online(deps.config, server):
            asked = await end(tx, asked, Move.CANCEL, CANCELLED, deps.abandon[asked.type])
        answer = Answer(job_view(asked), "Job cancellation requested successfully")
        await call.keep(tx, answer)
    if asked.state in ENDED:
        deps.metrics.ended(asked)
    deps.news.tell()
    return answer


ROUTES: tuple[AnyRoute, ...] = (
    Route("GET", "/jobs", Scope.READ, index, Nothing, JobQuery),
    Route("GET", "/jobs/{id}", Scope.READ, get, Nothing, Nothing),
    Route("GET", "/jobs/{id}/wait", Scope.READ, wait, Nothing, WaitQuery),
    Route("POST", "/jobs/{id}/cancel", Scope.CONTAINERS, cancel, Nothing, Nothing),
)
