"""Announcements: heard by every server after the commit, and again when PostgreSQL is back."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator

import pytest
from postgres import Postgres

from daemon.model import JobType
from daemon.news import News
from daemon.store import jobs, listen, servers
from daemon.store.database import Database
from tests.contract.store.catalogue import Catalogue, a_server

FOR_EVER = 60.0
OURS = "SELECT pid FROM pg_stat_activity WHERE application_name = 'hoodyd listener'"

_numbers = itertools.count(1)


async def test_sqlite_has_no_announcements(tmp_path_factory: pytest.TempPathFactory) -> None:
    news = News()
    await listen.listen(f"sqlite:///{tmp_path_factory.mktemp('no')}/catalogue.db", news)
    assert (news.count, news.complete) == (0, False)


@pytest.fixture
def address(postgres: Postgres) -> Iterator[str]:
    """A catalogue in PostgreSQL, without rows."""
    name = f"listen{next(_numbers)}"
    postgres.create(name, "template")
    yield postgres.url(name)
    postgres.drop(name)


@pytest.fixture
async def writer(address: str) -> AsyncIterator[Catalogue]:
    """Another server, which writes."""
    db = Database(address)
    made = Catalogue(db)
    await made.fill()
    yield made
    await db.close()


@pytest.fixture
async def news(address: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[News]:
    """What a server hears that listens, and has heard that it does."""
    monkeypatch.setattr(listen, "AGAIN_SECONDS", 0.05)
    heard = News()
    task = asyncio.create_task(listen.listen(address, heard))
    await heard.after(0, FOR_EVER)
    assert heard.complete
    yield heard
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    assert not heard.complete


@pytest.mark.postgres
async def test_what_another_server_does_to_a_job_is_heard(writer: Catalogue, news: News) -> None:
    """That it is queued, moved, or to be cancelled: each is one transaction, and one word."""
    before = news.count
    job = await writer.add_job()
    await news.after(before, FOR_EVER)
    assert await writer.claim() is not None
    await news.after(before + 1, FOR_EVER)
    await writer.write(jobs.request_cancel, job.id)
    await news.after(before + 2, FOR_EVER)
    assert news.count == before + 3


@pytest.mark.postgres
async def test_it_is_heard_when_it_is_committed_and_only_then(
    writer: Catalogue, news: News
) -> None:
    before = news.count
    with pytest.raises(ZeroDivisionError):
        async with writer.db.write() as tx:
            await jobs.insert(tx, writer.job(JobType.SYNC, "c" * 24))
            raise ZeroDivisionError
    async with writer.db.write() as tx:  # once, whatever a transaction does
        for number in range(5):
            await jobs.insert(tx, writer.job(JobType.SYNC, f"{number:024}"))
        async with writer.db.read() as other:
            assert await jobs.active(other) == []
        assert news.count == before
    await news.after(before, FOR_EVER)
    assert len(await writer.read(jobs.active)) == 5
    assert news.count == before + 1


@pytest.mark.postgres
async def test_what_is_no_news_is_not_announced(writer: Catalogue, news: News) -> None:
    """A server's row, and how far a job is."""
    before = news.count
    await writer.write(servers.put, a_server("third"))
    job = await writer.running_job()  # two words: that it is queued, that it runs
    await writer.write(jobs.save, job, progress={"percent": 1})
    await writer.write(listen.announce)
    while news.count < before + 3:
        await news.after(news.count, FOR_EVER)
    assert news.count == before + 3


@pytest.mark.postgres
async def test_a_listener_that_is_cut_comes_back_and_looks(
    postgres: Postgres, writer: Catalogue, news: News
) -> None:
    """What was announced meanwhile was not heard: so everybody looks once it is back."""
    for _ in range(2):
        before = news.count
        cut = f"SELECT pg_terminate_backend(pid) FROM ({OURS}) AS ours"
        assert postgres.ask("postgres", cut) == "t\n"
        await news.after(before, FOR_EVER)
        assert news.complete
        before = news.count
        await writer.add_job()
        await news.after(before, FOR_EVER)


@pytest.mark.postgres
async def test_while_postgresql_is_away_news_are_not_complete(
    postgres: Postgres, news: News
) -> None:
    before = news.count
    postgres.stop(immediately=True)
    try:
        while news.complete:
            await asyncio.sleep(0.01)
    finally:
        postgres.start()
    await news.after(before, FOR_EVER)
    assert news.complete
