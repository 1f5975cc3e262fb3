"""Whether a child lives is asked by its line; the children are processes that answer, hang, die."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from daemon.children import keep_alive
from daemon.config_types import Address
from daemon.lines import Message
from daemon.notify import Manager
from daemon.watchdog import LOOKS, Lifeline, Watchdog
from tests.contract.engine.stand_in import StandIn, until
from tests.ports import free_port

LONG_SECONDS = 60
SHORT_SECONDS = 0.1
ALIVE = '{"alive": true}'


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    stand_in = StandIn(tmp_path, monkeypatch)
    yield stand_in
    assert stand_in.alive == []


@asynccontextmanager
async def kept(stand_in: StandIn, name: str = "exporter 0") -> AsyncIterator[Lifeline]:
    """The line of a child that is kept alive."""
    line = Lifeline(name)

    async def said(_message: Message) -> None:
        line.heard()

    keeping = asyncio.create_task(keep_alive("exporter", stand_in.config_path, line.started, said))
    try:
        yield line
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


async def asked(line: Lifeline, limit_seconds: float = LONG_SECONDS) -> bool:
    """What comes of asking a child that is ready."""
    await until(lambda: line._has_spoken)
    return await line.answers(limit_seconds)


async def test_one_that_answers_lives(stand_in: StandIn) -> None:
    stand_in.say("none", ALIVE)
    async with kept(stand_in) as line:
        for _ in range(3):
            assert await asked(line)


async def test_one_that_hangs_does_not_and_one_in_its_place_does(stand_in: StandIn) -> None:
    stand_in.say("none", ALIVE, "hang", ALIVE)
    async with kept(stand_in) as line:
        assert await asked(line)
        for _ in range(2):
            assert not await asked(line, SHORT_SECONDS)
        child = line._child
        assert child is not None
        await child.kill()
        await until(lambda: line._child is not child)
        assert await asked(line)


async def test_one_that_has_not_begun_is_not_asked(stand_in: StandIn) -> None:
    """It may take long until it listens, and nobody waits for it."""
    assert await Lifeline("exporter 0").answers(0)
    stand_in.greet("hang")
    async with kept(stand_in) as line:
        await until(lambda: stand_in.hanging)
        assert await line.answers(0)


async def test_one_that_ends_has_not_hung(stand_in: StandIn) -> None:
    """Though the one in its place says nothing for long; nor is that one asked."""
    stand_in.say("none", "die")
    async with kept(stand_in) as line:
        await until(lambda: line._has_spoken)
        first = line._child
        stand_in.greet("hang")
        assert await line.answers(LONG_SECONDS)
        assert line._child is not first
        assert await line.answers(0)
        assert first is not None
        line.started(first)  # which has ended, and nobody has taken its place yet
        line.heard()
        assert await line.answers(0)


async def test_a_look_finds_the_one_of_two_that_hangs(stand_in: StandIn) -> None:
    """Nobody listens at the port here."""
    stand_in.say("none", "hang", ALIVE)
    async with kept(stand_in) as hanging, kept(stand_in, "exporter 1") as other:
        assert not await asked(hanging, SHORT_SECONDS)
        await until(lambda: other._has_spoken)
        address = Address("127.0.0.1", free_port())
        watchdog = Watchdog(Manager(), lambda: 0.0, address, (other, hanging))
        found = await watchdog.silent_parts(LOOKS)
        assert found == ["peer listener", "exporter 0"]
