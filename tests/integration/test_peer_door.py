"""Who stands at the peer port and does not log in; and how much one peer may open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress

import asyncssh
import pytest

from tests.integration.peer_parts import (
    CLIENT_KEY,
    STEP,
    US,
    MemorySource,
    OneKeyGate,
    StuckSource,
    connected,
    serving,
)
from transfer.errors import PeerError
from transfer.peer import server as peer_server
from transfer.peer.answers import ServerSettings
from transfer.peer.client import PeerSource
from transfer.peer.link import CHANNELS_MAX
from transfer.peer.server import LINKS_MAX, LOGINS_MAX

BRIEF = ServerSettings(login_seconds=0.5)
DROPPED_SECONDS = 90.0  # a limit of the test's wait, far above what is promised
VERSION = b"SSH-2.0-slow\r\n"

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def dialled(port: int) -> AsyncIterator[Ends]:
    """A bare TCP connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def dropped(reader: asyncio.StreamReader) -> None:
    """Returns when the server has ended the connection."""
    async with asyncio.timeout(DROPPED_SECONDS):
        with suppress(ConnectionError):
            while await reader.read(1 << 16):
                pass


async def trickle(writer: asyncio.StreamWriter) -> None:
    """A key exchange that begins and never comes to its end: a byte now and then."""
    writer.write(VERSION + (1 << 14).to_bytes(4, "big"))  # a packet of 16 KiB
    with suppress(ConnectionError):
        while not writer.is_closing():
            writer.write(b"\x14")
            await writer.drain()
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("first", [b"", b"SSH-2.0", VERSION], ids=["silent", "half", "greeted"])
async def test_who_says_no_more_is_dropped(first: bytes) -> None:
    async with serving(MemorySource(), settings=BRIEF) as server:
        async with dialled(server.port) as (reader, writer):
            writer.write(first)
            await dropped(reader)
        async with connected(server.port) as peer:
            assert (await peer.traits()).kind == "memory"


async def test_a_slow_key_exchange_is_dropped() -> None:
    """It is the whole login that has its time, not each byte of it."""
    async with (
        serving(MemorySource(), settings=BRIEF) as server,
        dialled(server.port) as (reader, writer),
        asyncio.TaskGroup() as group,
    ):
        slow = group.create_task(trickle(writer))
        await dropped(reader)
        slow.cancel()


async def test_keys_exchanged_and_nobody_logs_in() -> None:
    """The client has all that it needs, and waits before it says who it is."""

    class Undecided(asyncssh.SSHClient):
        async def public_key_auth_requested(self) -> asyncssh.SSHKey | None:
            await asyncio.Event().wait()
            return None

    async with serving(MemorySource(), settings=BRIEF) as server:
        async with asyncio.timeout(DROPPED_SECONDS):
            with pytest.raises(asyncssh.Error):
                await asyncssh.connect(
                    "127.0.0.1",
                    server.port,
                    username=US,
                    client_factory=Undecided,
                    known_hosts=None,
                    config=None,
                    agent_path=None,
                    preferred_auth="publickey",
                    login_timeout=2 * DROPPED_SECONDS,
                )


async def test_500_connections_do_not_stop_the_real_one() -> None:
    """Neither what it has under way, nor its next login."""
    source = MemorySource([bytes([number]) * (1 << 20) for number in range(64)])
    async with (
        serving(source) as server,
        connected(server.port) as peer,
        aclosing(peer.send(STEP)) as blocks,
        AsyncExitStack() as crowd,
    ):
        arrived = [await anext(blocks)]
        for number in range(500):
            _, writer = await crowd.enter_async_context(dialled(server.port))
            writer.write(VERSION[: number % len(VERSION)])
        async with connected(server.port) as another:
            assert (await another.traits()).kind == "memory"
        arrived += [block async for block in blocks]
        assert b"".join(arrived) == b"".join(source.blocks)
        assert len(server.connections) <= LOGINS_MAX + 1


async def test_a_quiet_address_is_not_put_out_for_a_busy_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Though it has waited for longer than all of those."""
    monkeypatch.setattr(peer_server, "LOGINS_MAX", 4)
    async with serving(MemorySource()) as server, AsyncExitStack() as crowd:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", server.port, local_addr=("127.0.0.2", 0)
        )
        greeting = await reader.readline()
        assert greeting.startswith(b"SSH-2.0")
        for _ in range(12):
            busy, _ = await crowd.enter_async_context(dialled(server.port))
            await busy.readline()
        writer.write(VERSION)
        assert await reader.readexactly(4)  # the key exchange goes on
        writer.close()
        await writer.wait_closed()


async def test_a_link_too_many_is_refused() -> None:
    """And makes room for none: those that are there go on."""
    async with serving(MemorySource()) as server, AsyncExitStack() as links:
        peers = [await links.enter_async_context(connected(server.port)) for _ in range(LINKS_MAX)]
        with pytest.raises(PeerError):
            async with connected(server.port) as one_more:
                await one_more.traits()
        assert (await peers[0].traits()).kind == "memory"
        await links.aclose()
        async with connected(server.port) as again:
            assert (await again.traits()).kind == "memory"


async def stuck(peer: PeerSource, stack: AsyncExitStack, count: int) -> None:
    """So many channels that stay open."""
    for _ in range(count):
        blocks = await stack.enter_async_context(aclosing(peer.send(STEP)))
        assert await anext(blocks)


async def test_a_job_has_eight_channels_over_all_its_links() -> None:
    """One more is told to come again, by when there may be room; other jobs have their own."""
    async with (
        serving(StuckSource()) as server,
        connected(server.port) as first,
        connected(server.port) as second,
        AsyncExitStack() as channels,
        AsyncExitStack() as freed,
    ):
        await stuck(first, channels, CHANNELS_MAX - 1)
        await stuck(second, freed, 1)
        for full in (first, second):
            with pytest.raises(PeerError) as caught:
                await full.traits()
            assert caught.value.code == "PEER_UNREACHABLE"
        async with connected(server.port, job_id="6" * 24) as other:
            assert (await other.traits()).kind == "memory"
        await freed.aclose()
        assert (await second.traits()).kind == "memory"
        assert (await first.traits()).kind == "memory"


async def test_a_job_is_not_kept_from_its_channels_by_another_peer() -> None:
    """Who names a job that is not its own does not use up what that has."""
    async with (
        serving(StuckSource(), OneKeyGate(known=(US, "b" * 24))) as server,
        connected(server.port, server_id="b" * 24) as stranger,
        connected(server.port) as owner,
        AsyncExitStack() as channels,
    ):
        await stuck(stranger, channels, CHANNELS_MAX)
        assert (await owner.traits()).kind == "memory"


async def test_a_crowd_is_no_noise(caplog: pytest.LogCaptureFixture) -> None:
    """Rubbish and silence at the door are nothing that an operator must read of, line by line."""
    async with serving(MemorySource()) as server:
        for first in (b"", b"\x00" * 4096, b"GET / HTTP/1.1\r\n\r\n", VERSION + b"\xff" * 64):
            async with dialled(server.port) as (reader, writer):
                writer.write(first)
                writer.write_eof()
                await dropped(reader)
    loud = [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]
    assert not loud, [record.getMessage() for record in loud]


async def test_a_stranger_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(MemorySource()) as server:
        with pytest.raises(PeerError):
            async with connected(server.port, client_key=CLIENT_KEY, server_id="z" * 24):
                pass
    loud = [record for record in caplog.records if record.levelname == "WARNING"]
    assert len(loud) == 1
    assert "unknown server or key" in loud[0].getMessage()
    assert loud[0].exc_info is None
