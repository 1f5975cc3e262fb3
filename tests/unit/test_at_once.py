"""Works at once: none waits for another, none is left behind."""

from __future__ import annotations

import asyncio

import pytest

from transfer.at_once import at_once


async def test_none_waits_for_another() -> None:
    first, second = asyncio.Event(), asyncio.Event()

    async def meet(mine: asyncio.Event, other: asyncio.Event) -> None:
        mine.set()
        await other.wait()

    await at_once(meet(first, second), meet(second, first))
    await at_once()


async def test_all_have_ended_when_the_first_error_is_told() -> None:
    ended: list[str] = []

    async def fail(name: str) -> None:
        raise ValueError(name)

    async def last() -> None:
        for _ in range(10):
            await asyncio.sleep(0)
        ended.append("last")

    with pytest.raises(ValueError, match="one"):
        await at_once(fail("one"), fail("two"), last())
    assert ended == ["last"]


async def test_a_cancel_cancels_all() -> None:
    cancelled: list[int] = []
    begun = asyncio.Semaphore(0)

    async def wait(number: int) -> None:
        begun.release()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(number)
            raise

    task = asyncio.create_task(at_once(wait(1), wait(2)))
    for _ in range(2):
        await begun.acquire()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(cancelled) == [1, 2]
