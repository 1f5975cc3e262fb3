"""The watchdog's pings, each after a look at the parts; listener and manager are real sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from daemon.config_types import Address
from daemon.notify import Manager
from daemon.watchdog import Watchdog, greets
from tests.ports import free_port
from tests.service_manager import Listener

PATIENCE_SECONDS = 0.4
SHORT_SECONDS = 0.1


@dataclass
class Parts:
    """What the watchdog looks at, as a test has it."""

    address: Address
    greeting: bytes = b"SSH-2.0-test\r\n"
    engine_silent_seconds: float = 0.0

    async def greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self.greeting)
        if not self.greeting:
            await reader.read()
        writer.close()


@asynccontextmanager
async def listening(host: str = "127.0.0.1", shown: str = "") -> AsyncIterator[Parts]:
    parts = Parts(Address(shown or host, free_port()))
    async with await asyncio.start_server(parts.greet, host, parts.address.port):
        yield parts


@pytest.fixture
async def parts() -> AsyncIterator[Parts]:
    async with listening() as parts:
        yield parts


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    with Listener(f"{tmp_path}/notify") as listener:
        yield listener


async def until(listener: Listener, state: str) -> list[str]:
    return await asyncio.to_thread(listener.hear_until, state)


async def test_a_listener_greets(parts: Parts) -> None:
    assert await greets(parts.address, 60)


@pytest.mark.parametrize(
    "greeting", [b"", b"SSH", b"HTTP/1.1 400 Bad Request\r\n"], ids=["none", "cut", "another"]
)
async def test_a_listener_that_does_not_greet(parts: Parts, greeting: bytes) -> None:
    parts.greeting = greeting
    assert not await greets(parts.address, SHORT_SECONDS)


async def test_nobody_listens() -> None:
    assert not await greets(Address("127.0.0.1", free_port()), 60)


@pytest.mark.parametrize(("host", "wildcard"), [("127.0.0.1", "0.0.0.0"), ("::1", "::")])
async def test_a_wildcard_is_looked_for_here(host: str, wildcard: str) -> None:
    async with listening(host, wildcard) as parts:
        assert await greets(parts.address, 60)


async def test_a_listener_whose_process_hangs() -> None:
    """The kernel takes connections for it."""
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        address = Address("127.0.0.1", frozen.getsockname()[1])
        assert not await greets(address, SHORT_SECONDS)


@pytest.mark.parametrize("part", ["engine", "peer listener"])
async def test_pings_while_all_is_well(parts: Parts, listener: Listener, part: str) -> None:
    manager = Manager(listener.address, PATIENCE_SECONDS)
    watchdog = Watchdog(manager, lambda: parts.engine_silent_seconds, parts.address, ())
    task = asyncio.create_task(watchdog.run())
    for _ in range(2):
        assert await until(listener, "WATCHDOG=1") == ["WATCHDOG=1"]

    if part == "engine":
        parts.engine_silent_seconds = 2 * PATIENCE_SECONDS
    else:
        parts.greeting = b""
    said = await asyncio.to_thread(listener.out_of_patience, PATIENCE_SECONDS)
    assert set(said) == {f"STATUS=no answer from {part}"}

    parts.engine_silent_seconds = 0
    parts.greeting = b"SSH-2.0-test\r\n"
    heard = await until(listener, "WATCHDOG=1")
    assert heard[-2:] == ["WATCHDOG=1", "STATUS=ready"]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()


async def test_a_manager_that_does_not_watch_is_not_pinged(
    parts: Parts, listener: Listener
) -> None:
    await Watchdog(Manager(listener.address), lambda: 0.0, parts.address, ()).run()
    assert listener.rest() == []
