"""Server-sent events: what becomes of a job, or of everything that a user has.

No queue stands behind a stream. Events are rows of the catalogue, and each listener is read to
from there at its own speed: a slow one holds up nobody, costs no memory and misses nothing. One
that takes nothing at all is dropped; it may come again with the last id that it saw.

`job` and `container` are events of the catalogue and have its ids. `progress` is read from running
jobs and has none, so that a listener never comes back to the middle of it. Where a stream cannot
go on where the listener left off, it begins with `reset` and the present state.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from aiohttp import web

from daemon import logs
from daemon.api.access import visible_job
from daemon.api.errors import AccountBanned, RateLimited, Unauthorized
from daemon.api.fields import Nothing
from daemon.api.routing import Answer, AnyRoute, Plain, Route, require_welcome
from daemon.auth import Scope
from daemon.errors import CatalogueError
from daemon.model import Job, JobState, Json, now
from daemon.states import ENDED
from daemon.store import containers, events, jobs
from daemon.store.database import Tx
from daemon.store.jobs import JobFilter
from daemon.views import container_event_view, job_view

LOOK_SECONDS = 0.4
"""How long events of other servers, and progress, may wait to be told."""
COMMENT_SECONDS = 15
"""A line that says nothing goes out that often: proxies close what is silent."""
WRITE_SECONDS = 60
"""A listener that takes nothing for so long is dropped."""
BATCH = 100
RETRY_SECONDS = 15
ID_DIGITS_MAX = 18
HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx would keep events back
}

log = logs.get(__name__)


class Streams:
    """How many streams each user has open in this process."""

    def __init__(self, per_user: int) -> None:
        self._per_user = per_user
        self._open: Counter[str] = Counter()

    @contextmanager
    def one_more(self, user_id: str) -> Iterator[None]:
        """A stream of the user, for as long as the block lasts. Raises RateLimited."""
        if self._open[user_id] >= self._per_user:
            raise RateLimited.after(RETRY_SECONDS, "Too many open event streams")
        self._open[user_id] += 1
        try:
            yield
        finally:
            self._open[user_id] -= 1
            self._open += Counter()  # forgets users without a stream


STREAMS = web.AppKey("streams", Streams)


class Follower:
    """What one listener is to be told, read from the catalogue a batch at a time.

    `position` is the id of the last event that was told.
    """

    def __init__(self, call: Plain, scope: events.Scope) -> None:
        self._call = call
        self._scope = scope
        self._position = 0
        self._progress: dict[str, object] = {}

    async def opening(self, last_event_id: str) -> str | None:
        """How the stream begins: with nothing where it goes on after `last_event_id`, else with
        the present state. None where nothing is left to tell."""
        async with self._call.deps.db.read() as tx:
            if not await _is_known(tx, last_event_id):
                self._position = await events.newest_id(tx)
                state = "".join([text async for text in self._present(tx)])
                return f"{block('reset', {})}{state}id: {self._position}\n\n"
            self._position = int(last_event_id)
            more = await events.since(tx, self._position, 1, self._scope)
            return "" if more or not await self._has_ended(tx) else None

    async def more(self) -> tuple[str, bool]:
        """What came since, and whether that was all there will ever be. Raises Unauthorized and
        AccountBanned where the caller is no longer welcome."""
        async with self._call.deps.db.read() as tx:
            await require_welcome(tx, self._call.claims)
            batch = await events.since(tx, self._position, BATCH, self._scope)
            told = [block(event.kind, event.data, event.id) for event in batch]
            told += [block("progress", view) for view in await self._moved(tx)]
            is_over = not batch and await self._has_ended(tx)
        if batch:
            self._position = batch[-1].id
        return "".join(told), is_over

    async def _present(self, tx: Tx) -> AsyncIterator[str]:
        caller = self._call.caller
        if self._scope.job_id is not None:
            yield block("job", job_view(await visible_job(tx, caller, self._scope.job_id)))
            return
        for container in await containers.of_owner(tx, caller.owner_filter):
            yield block("container", container_event_view(container, deleted=False))
        for job in await jobs.active(tx):
            if caller.sees(job.user_id):
                yield block("job", job_view(job))

    async def _moved(self, tx: Tx) -> list[Json]:
        """The running jobs whose progress is not what was told last."""
        running = [job_view(job) for job in await self._running(tx)]
        moved = [view for view in running if self._progress.get(str(view["id"])) != view]
        self._progress = {str(view["id"]): view for view in running}
        return moved

    async def _running(self, tx: Tx) -> list[Job]:
        if self._scope.job_id is not None:
            job = await jobs.get(tx, self._scope.job_id)
            return [job] if job is not None and job.state is JobState.RUNNING else []
        wanted = JobFilter(user_id=self._scope.user_id, state=JobState.RUNNING)
        return (await jobs.page(tx, wanted, 1, BATCH))[0]

    async def _has_ended(self, tx: Tx) -> bool:
        """A stream of one job ends with it."""
        if self._scope.job_id is None:
            return False
        job = await jobs.get(tx, self._scope.job_id)
        return job is None or job.state in ENDED


def block(kind: str, data: Json, event_id: int | None = None) -> str:
    """One event as it goes over the wire; one without an id leaves the listener's last id alone.

    The format: https://html.spec.whatwg.org/multipage/server-sent-events.html
    """
    line = "" if event_id is None else f"id: {event_id}\n"
    return f"{line}event: {kind}\ndata: {json.dumps(data)}\n\n"


async def _is_known(tx: Tx, last_event_id: str) -> bool:
    """Whether a stream can go on after the event with this id."""
    if not (last_event_id.isascii() and last_event_id.isdigit()):
        return False
    if len(last_event_id) > ID_DIGITS_MAX:
        return False
    event = await events.get(tx, int(last_event_id))
    return event is not None and event.at >= now() - events.KEPT


async def of_job(call: Plain) -> Answer | web.StreamResponse:
    """The events of one job and its container; ends with the job."""
    async with call.deps.db.read() as tx:
        found = await visible_job(tx, call.caller, call.id)
    scope = events.Scope(job_id=found.id, container_id=found.container_id)
    return await _stream(call, Follower(call, scope))


async def of_all(call: Plain) -> Answer | web.StreamResponse:
    """The events of everything that the caller sees."""
    return await _stream(call, Follower(call, events.Scope(user_id=call.caller.owner_filter)))


async def _stream(call: Plain, follower: Follower) -> web.StreamResponse:
    with call.request.app[STREAMS].one_more(call.claims.user_id):
        opening = await follower.opening(call.request.headers.get("Last-Event-ID", ""))
        if opening is None:
            return web.Response(status=204)  # which tells a browser not to come again
        response = web.StreamResponse(headers=HEADERS)
        await response.prepare(call.request)
        try:
            await _tell(response, opening)
            await _follow(call, follower, response)
        except TimeoutError:
            if call.request.transport is not None:
                call.request.transport.abort()
        except (ConnectionError, Unauthorized, AccountBanned, CatalogueError) as error:
            # A stream that began has no status to give: it ends, and who comes again is told.
            log.info("event stream ended", reason=str(error))
        return response


async def _follow(call: Plain, follower: Follower, response: web.StreamResponse) -> None:
    """Tells what comes, until the job has ended or the listener has gone."""
    told_at = time.monotonic()
    while call.request.transport is not None and not call.request.transport.is_closing():
        heard = call.deps.news.count
        text, is_over = await follower.more()
        if is_over:
            return
        if not text and time.monotonic() - told_at >= COMMENT_SECONDS:
            text = ": still here\n\n"
        if text:
            await _tell(response, text)
            told_at = time.monotonic()
        else:
            await call.deps.news.after(heard, LOOK_SECONDS)


async def _tell(response: web.StreamResponse, text: str) -> None:
    async with asyncio.timeout(WRITE_SECONDS):
        await response.write(text.encode())


ROUTES: tuple[AnyRoute, ...] = (
    Route("GET", "/jobs/{id}/events", Scope.READ, of_job, Nothing, Nothing),
    Route("GET", "/events", Scope.READ, of_all, Nothing, Nothing),
)
