"""Event streams: what they tell, to whom, from where on, and when they end."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import update

from daemon.api import events as streams
from daemon.auth import USER_SCOPES, issue
from daemon.model import Container, Job, JobType, Status, now
from daemon.states import Move
from daemon.store import accounts, containers, events, jobs
from daemon.store.schema import events as events_table
from tests.contract.api.api_world import KEYS, V1, Api
from tests.contract.api.listening import Stream, listening

MANY = 2 * streams.BATCH + 7


async def claimed(api: Api) -> Job:
    async with api.world.db.write() as tx:
        job = await jobs.claim(tx, api.world.here.id, now(), now() + timedelta(seconds=30))
    assert job is not None
    return job


async def ended(api: Api, job: Job, move: Move = Move.SUCCEED) -> None:
    async with api.world.db.write() as tx:
        await jobs.move(tx, job, move, at=now())


async def change(api: Api, container: Container, status: Status) -> None:
    async with api.world.db.write() as tx:
        await containers.change(tx, container.id, status=status)


async def opened(stream: Stream) -> None:
    """Skips the reset of a stream that begins."""
    first = await stream.next()
    assert first is not None
    assert first.kind == "reset"


async def test_a_job_from_its_queue_to_its_end(api: Api) -> None:
    container = await api.world.container()
    made = await api.world.job(container)
    async with listening(api, f"/jobs/{made.id}/events") as stream:
        await opened(stream)
        assert (await stream.until("job")).data == (await api.get(f"/jobs/{made.id}")).data
        running = await claimed(api)
        assert (await stream.until("job", state="running")).data["attempt"] == 1
        async with api.world.db.write() as tx:
            done = {"bytes_total": 1000, "bytes_done": 250}
            await jobs.save(tx, running, step="transfer", progress=done)
        told = await stream.until("progress", step="transfer")
        assert told.data["progress"]["percent"] == 25.0
        await change(api, container, Status.STOPPED)
        assert (await stream.until("container")).data["status"] == "stopped"
        await ended(api, running)
        rest = await stream.rest()
    assert [(told.kind, told.data["state"]) for told in rest] == [("job", "succeeded")]
    assert rest[0].data == (await api.get(f"/jobs/{made.id}")).data


async def test_of_one_job_nothing_else_is_told(api: Api) -> None:
    container, other = await api.world.container(), await api.world.container("other")
    made = await api.world.job(container)
    async with listening(api, f"/jobs/{made.id}/events") as stream:
        await opened(stream)
        running = await claimed(api)
        await api.world.job(other)
        await change(api, other, Status.STOPPED)
        await ended(api, running, Move.FAIL)
        assert {told.data["id"] for told in await stream.rest()} == {made.id}


async def test_everything_of_a_user_and_nothing_of_others(api: Api) -> None:
    world = api.world
    foreign = await world.container(
        "bobs", owner_id=world.bob.id, project_id=world.bobs.id, status=Status.STOPPED
    )
    async with (
        listening(api, "/events") as alices,
        listening(api, "/events", token=world.admin) as admins,
    ):
        await opened(alices)
        await opened(admins)
        assert (await admins.until("container")).data["id"] == foreign.id
        await change(api, foreign, Status.RUNNING)
        mine = await world.container("mine")
        job = await world.job(mine, JobType.STOP)
        told = [await alices.next() for _ in range(2)]
        assert [(one.kind, one.data["id"]) for one in told if one] == [
            ("container", mine.id),
            ("job", job.id),
        ]
        assert (await admins.until("container")).data["id"] == foreign.id
        async with world.db.write() as tx:
            await containers.delete(tx, mine.id)
        assert (await alices.until("container")).data["status"] == "deleted"


async def test_a_stream_begins_with_the_present_state(api: Api) -> None:
    container = await api.world.container()
    job = await api.world.job(container)
    over = await api.world.job(await api.world.container("done"), JobType.STOP)
    async with api.world.db.write() as tx:
        await jobs.move(tx, over, Move.CANCEL, at=now())
    async with listening(api, "/events") as stream:
        await opened(stream)
        state = [await stream.next() for _ in range(3)]
        assert {told.kind for told in state[:2] if told} == {"container"}
        assert state[2] is not None
        assert (state[2].kind, state[2].data["id"]) == ("job", job.id)
        assert not any(told.last_id for told in state if told), "it could not go on from there"
        await change(api, container, Status.STOPPED)
        after = await stream.until("container")
        assert after.data["status"] == "stopped"
        assert int(after.last_id) > int(stream.last_id) - 1


async def test_who_comes_again_misses_nothing_and_hears_nothing_twice(api: Api) -> None:
    container = await api.world.container()
    async with listening(api, "/events") as stream:
        await opened(stream)
        await change(api, container, Status.STOPPED)
        last_id = (await stream.until("container", status="stopped")).last_id
    told = []
    for number in range(MANY):
        await change(api, container, [Status.RUNNING, Status.STOPPED][number % 2])
    while len(told) < MANY:  # hangs up and comes again, in the middle of a batch
        async with listening(api, "/events", last_id=last_id) as stream:
            for _ in range(min(70, MANY - len(told))):
                event = await stream.next()
                assert event is not None
                told.append(event)
            last_id = told[-1].last_id
    assert [one.kind for one in told] == ["container"] * MANY
    assert [one.data["status"] for one in told] == (["running", "stopped"] * MANY)[:MANY]
    ids = [int(one.last_id) for one in told]
    assert ids == sorted(set(ids))


async def test_a_job_that_has_ended_is_told_once(api: Api) -> None:
    made = await api.world.job(await api.world.container())
    path = f"/jobs/{made.id}/events"
    await ended(api, await claimed(api))
    async with listening(api, path) as stream:
        assert [told.kind for told in await stream.rest()] == ["reset", "job"]
        last_id = stream.last_id
    headers = {"Authorization": f"Bearer {api.world.token()}", "Last-Event-ID": last_id}
    async with api.client.get(V1 + path, headers=headers) as answer:
        assert (answer.status, await answer.read()) == (204, b""), "a browser must not come again"


@pytest.mark.parametrize("last_id", ["", "0", "-1", "7x", "٣", "9" * 18, "9" * 400, "old"])
async def test_an_id_that_nobody_knows_begins_anew(api: Api, last_id: str) -> None:
    container = await api.world.container()
    if last_id == "old":
        async with api.world.db.write() as tx:
            told = (await events.since(tx, 0, 1))[0]
            await tx.execute(update(events_table).values(at=now() - timedelta(hours=25)))
        last_id = str(told.id)
    async with listening(api, "/events", last_id=last_id) as stream:
        await opened(stream)
        assert (await stream.until("container")).data["id"] == container.id


async def test_a_silent_stream_says_that_it_is_there(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "COMMENT_SECONDS", 0.01)
    container = await api.world.container()
    async with listening(api, "/events") as stream:
        await opened(stream)
        await stream.until("container")
        waiting = asyncio.create_task(stream.until("container", status="stopped"))
        async with asyncio.timeout(30):
            while len(stream.comments) < 2:
                await asyncio.sleep(0)
        await change(api, container, Status.STOPPED)
        await waiting


@pytest.mark.parametrize("world", [{"streams_per_user": 2}], indirect=True)
async def test_a_user_has_so_many_streams(api: Api) -> None:
    async with listening(api, "/events") as first, listening(api, "/events"):
        await opened(first)
        refused = await api.get("/events")
        assert refused.refusal == (429, "RATE_LIMITED")
        assert int(refused.headers["Retry-After"]) > 0
        async with listening(api, "/events", token=api.world.token(api.world.bob)):
            pass
    api.world.news.tell()
    async with asyncio.timeout(30):
        while api.client.app[streams.STREAMS]._open:
            await asyncio.sleep(0)
    async with listening(api, "/events") as again:
        await opened(again)


@pytest.mark.parametrize("fate", ["banned", "revoked", "expired"])
async def test_who_is_no_longer_welcome_hears_no_more(api: Api, fate: str) -> None:
    world, at = api.world, now()
    ttl_seconds = -28 if fate == "expired" else 600  # a leeway of 30 s is left to it
    token = issue(KEYS, world.alice.id, USER_SCOPES, ttl_seconds=ttl_seconds, at=at)
    async with listening(api, "/events", token=token) as stream:
        await opened(stream)
        if fate != "expired":
            async with world.db.write() as tx:
                if fate == "banned":
                    await accounts.set_banned(tx, world.alice.id, True)
                else:
                    await accounts.revoke(tx, world.alice.id, now() + timedelta(seconds=1))
                world.news.tell()
            await world.container()
        assert await stream.rest() == []


async def test_a_listener_that_takes_nothing_is_dropped_and_holds_nobody_up(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "WRITE_SECONDS", 0.2)
    container = await api.world.container()
    host, port = api.client.server.host, api.client.server.port
    reader, writer = await asyncio.open_connection(host, port, limit=1)
    head = f"GET {V1}/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.world.token()}\r\n"
    writer.write(f"{head}\r\n".encode())
    await writer.drain()
    async with listening(api, "/events") as quick:
        await opened(quick)
        count = 0
        async with asyncio.timeout(120):
            while sum(api.client.app[streams.STREAMS]._open.values()) > 1 or count == 0:
                async with api.world.db.write() as tx:
                    for _ in range(20):
                        await containers.change(tx, container.id, status_reason="x" * 50_000)
                        count += 1
                for _ in range(20):
                    await quick.until("container", status_reason="x" * 50_000)
    writer.close()
    reader.feed_eof()


async def test_refusals(api: Api) -> None:
    made = await api.world.job(await api.world.container())
    bob = api.world.token(api.world.bob)
    missing = await api.get(f"/jobs/{made.id}/events", token=bob)
    assert missing.refusal == (404, "RESOURCE_NOT_FOUND")
    unknown = await api.get("/events?since=1")
    assert unknown.refusal == (400, "VALIDATION_ERROR")
    silent = await api.get("/events", token=None)
    assert silent.refusal == (401, "MISSING_TOKEN")
