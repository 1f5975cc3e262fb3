"""POST /containers/{id}/start, /stop and /restart."""

from __future__ import annotations

from daemon.api.access import require, visible_container
from daemon.api.fields import Nothing
from daemon.api.queueing import queue
from daemon.api.routing import Answer, AnyRoute, Plain, Route, job_headers
from daemon.api.showing import show
from daemon.auth import Scope
from daemon.model import JobType
from daemon.verbs import Verb


async def start(call: Plain) -> Answer:
    """Queues a start."""
    return await _power(call, Verb.START, JobType.START)


async def stop(call: Plain) -> Answer:
    """Queues a stop."""
    return await _power(call, Verb.STOP, JobType.STOP)


async def restart(call: Plain) -> Answer:
    """Queues a restart."""
    return await _power(call, Verb.RESTART, JobType.RESTART)


async def _power(call: Plain, verb: Verb, kind: JobType) -> Answer:
    """The status stays what it is until the job changes it."""
    async with call.write() as tx:
        found = await visible_container(tx, call.caller, call.id)
        require(found, verb)
        job = await queue(call, tx, kind, found, {"was": found.status.value})
        message = f"Container {verb} initiated successfully"
        answer = Answer(await show(tx, found), message, headers=job_headers(job.id))
        await call.keep(tx, answer)
    call.deps.news.tell()
    return answer


ROUTES: tuple[AnyRoute, ...] = (
    Route("POST", "/containers/{id}/start", Scope.CONTAINERS, start, Nothing, Nothing),
    Route("POST", "/containers/{id}/stop", Scope.CONTAINERS, stop, Nothing, Nothing),
    Route("POST", "/containers/{id}/restart", Scope.CONTAINERS, restart, Nothing, Nothing),
)
