"""Tidings: none is missed, and a wait ends."""

import asyncio

from daemon.news import News

FOR_EVER = 60.0


async def test_tidings_end_every_wait() -> None:
    news = News()
    waits = [asyncio.create_task(news.after(0, FOR_EVER)) for _ in range(3)]
    await asyncio.sleep(0)
    assert not any(wait.done() for wait in waits)
    news.tell()
    await asyncio.gather(*waits)


async def test_what_came_before_the_wait_is_not_missed() -> None:
    news = News()
    heard = news.count
    news.tell()
    await news.after(heard, FOR_EVER)


async def test_old_tidings_do_not_count() -> None:
    news = News()
    news.tell()
    wait = asyncio.create_task(news.after(news.count, FOR_EVER))
    await asyncio.sleep(0)
    assert not wait.done()
    news.tell()
    await wait


async def test_without_tidings_it_ends_with_its_time() -> None:
    await News().after(0, 0.01)
