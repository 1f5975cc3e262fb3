"""PeerSource and PeerServer over real ssh on loopback."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import asyncssh
import pytest
from xxhash import xxh3_128_hexdigest

from tests.integration.peer_parts import (
    CLIENT_KEY,
    GUID,
    JOB,
    NAME,
    PATH,
    STEP,
    TAG,
    US,
    MemorySource,
    OneKeyGate,
    SlowSource,
    StuckSource,
    connected,
    proxied,
    serving,
)
from transfer.errors import (
    PeerHostKeyMismatch,
    PeerRefused,
    PeerUnreachable,
    SnapshotMissing,
    SourceChanged,
    StreamCorrupt,
    TransferError,
    TransferStalled,
)
from transfer.model import Landing, Step, StepKind
from transfer.peer import messages
from transfer.peer.answers import ServerSettings
from transfer.peer.client import PeerSource
from transfer.peer.link import CHANNELS_MAX, SUBSYSTEM, LinkSettings

NOISE = random.Random(7).randbytes(1 << 20)
GONE = Step(StepKind.FULL, PATH, "1", NAME, None, Landing.NEW)


async def read(peer: PeerSource, step: Step = STEP) -> list[bytes]:
    async with aclosing(peer.send(step)) as blocks:
        return [block async for block in blocks]


async def test_every_question_is_answered_as_the_storage_answers_it() -> None:
    source = MemorySource([b"x" * 5], {b"": b"ab", b"bad \xff name": b"cdef"})
    async with serving(source) as server, connected(server.port) as peer:
        assert await peer.traits() == await source.traits()
        assert await peer.lineage([GUID, "1"]) == await source.lineage([GUID, "1"])
        assert (await peer.lineage([])).datasets == {}
        assert (await peer.snapshot(PATH, NAME, TAG)).name == NAME
        assert source.holds == {(GUID, TAG)}
        await peer.hold([GUID], TAG)
        await peer.hold([GUID], TAG)
        await peer.release([GUID], TAG)
        await peer.release([GUID], TAG)
        assert source.holds == set()
        assert await peer.size(STEP) == 5
        assert await peer.tree_root(GUID) == await source.tree_root(GUID)
        paths = [b"", b"bad \xff name"]
        assert [node async for node in peer.tree_nodes(GUID, paths)] == [
            node async for node in source.tree_nodes(GUID, paths)
        ]
        assert [held async for held in peer.tree_chunk_lists(GUID, paths)] == [
            held async for held in source.tree_chunk_lists(GUID, paths)
        ]
        wants = [(b"bad \xff name", 1, 3), (b"", 0, 1)]
        assert [chunk async for chunk in peer.tree_chunks(GUID, wants)] == [b"d", b"e", b"f", b"a"]
        assert await read(peer) == [b"x" * 5]


async def test_a_tag_of_another_job_is_a_mistake_of_the_caller() -> None:
    async with serving(MemorySource()) as server, connected(server.port) as peer:
        with pytest.raises(ValueError, match="not the tag"):
            await peer.hold([GUID], "hoody-" + "0" * 24)


async def test_the_storages_errors_come_back_as_themselves() -> None:
    async with serving(MemorySource()) as server, connected(server.port) as peer:
        with pytest.raises(SnapshotMissing) as missing:
            await peer.hold(["1"], TAG)
        assert missing.value.evidence == {"guids": "['1']"}
        with pytest.raises(SourceChanged):
            await read(peer, GONE)
        assert (await peer.traits()).kind == "memory"


async def test_64_mib_arrive_whole() -> None:
    blocks = [NOISE[at:] + NOISE[:at] for at in range(64)]
    async with serving(MemorySource(blocks)) as server, connected(server.port) as peer:
        arrived = await read(peer)
        assert max(map(len, arrived)) <= 1 << 20
        assert xxh3_128_hexdigest(b"".join(arrived)) == xxh3_128_hexdigest(b"".join(blocks))
        assert 64 << 20 < peer.traffic.wire_bytes < (64 << 20) + 65536


async def test_both_sides_count_each_byte_of_each_channel() -> None:
    """From the first of a request to the last of its answer, however many are open at once, and
    whether it ends well."""
    source = MemorySource([NOISE[:1000]], {b"": b"ab"})
    rounds: list[dict[str, tuple[int, int, int]]] = []
    async with serving(source) as server, connected(server.port) as peer:
        for _ in range(2):
            await asyncio.gather(read(peer), read(peer), peer.traits(), peer.size(STEP))
            assert [node async for node in peer.tree_nodes(GUID, [b""])] == [b"node of "]
            with pytest.raises(SnapshotMissing):
                await peer.hold(["1"], TAG)
            with pytest.raises(SourceChanged):
                await read(peer, GONE)
            rounds.append(
                {
                    strategy: (meter.sent_bytes, meter.received_bytes, meter.logical_bytes)
                    for strategy, meter in peer.traffic.meters.items()
                }
            )
            assert rounds[-1] == {
                strategy: (meter.received_bytes, meter.sent_bytes, meter.logical_bytes)
                for strategy, meter in server.traffic.meters.items()
            }
    first, both = rounds
    logical = {strategy: counted[2] for strategy, counted in first.items()}
    assert logical == {"full": 2000, "content-diff": len(b"node of "), "none": 0}
    assert min(min(sent, received) for sent, received, _ in first.values()) > 0
    assert both == {
        strategy: (2 * sent, 2 * received, 2 * unpacked)
        for strategy, (sent, received, unpacked) in first.items()
    }


async def test_wire_bytes_are_counted_after_compression() -> None:
    async with serving(MemorySource([bytes(8 << 20)])) as server:
        async with connected(server.port) as peer:
            assert b"".join(await read(peer)) == bytes(8 << 20)
            assert 500 < peer.traffic.wire_bytes < 8 << 10
        async with connected(server.port, LinkSettings(compression="none")) as peer:
            await read(peer)
            assert peer.traffic.wire_bytes > 8 << 20


async def test_more_requests_than_channels_wait_for_each_other() -> None:
    async with serving(MemorySource()) as server, connected(server.port) as peer:
        answers = await asyncio.gather(*(peer.traits() for _ in range(5 * CHANNELS_MAX)))
        assert len(answers) == 5 * CHANNELS_MAX


async def test_another_host_key_is_told_apart() -> None:
    other = asyncssh.generate_private_key("ssh-ed25519")
    async with serving(MemorySource()) as server:
        with pytest.raises(PeerHostKeyMismatch):
            async with connected(server.port, host_key=other):
                pass


@pytest.mark.parametrize("server_id", [US, "b" * 24])
async def test_an_unknown_key_or_server_is_refused(server_id: str) -> None:
    stranger = asyncssh.generate_private_key("ssh-ed25519")
    key = stranger if server_id == US else CLIENT_KEY
    async with serving(MemorySource()) as server:
        with pytest.raises(PeerRefused):
            async with connected(server.port, client_key=key, server_id=server_id):
                pass


async def test_nobody_there_is_unreachable() -> None:
    async with serving(MemorySource()) as server:
        port = server.port
    with pytest.raises(PeerUnreachable):
        async with connected(port):
            pass


async def test_the_gate_is_asked_and_obeyed(caplog: pytest.LogCaptureFixture) -> None:
    source, gate = MemorySource(), OneKeyGate(refused=messages.Hold)
    async with serving(source, gate) as server, connected(server.port) as peer:
        with pytest.raises(PeerRefused, match="not for you"):
            await peer.hold([GUID], TAG)
        assert source.holds == set()
        assert caplog.messages == [f"{US}: PEER_REFUSED: not for you"]
        await peer.size(STEP)
    assert [(asked.job_id, asked.guids) for asked in gate.asked] == [
        (JOB, (GUID,)),
        (JOB, (GUID,)),
    ]


@pytest.mark.parametrize("bytes_until_fault", [100, 3_000, 1 << 20, 7 << 20])
async def test_a_cut_connection_is_unreachable(bytes_until_fault: int) -> None:
    source = MemorySource([NOISE] * 8)
    async with serving(source) as server, proxied(server.port, bytes_until_fault) as port:
        with pytest.raises(PeerUnreachable):
            async with connected(port) as peer:
                await read(peer)


async def test_a_bit_that_flips_on_the_way_is_never_received_as_good() -> None:
    source = MemorySource([NOISE] * 8)
    async with serving(source) as server, proxied(server.port, 3 << 20, flips=True) as port:
        with pytest.raises(TransferError) as caught:
            async with connected(port) as peer:
                await read(peer)
        assert isinstance(caught.value, PeerUnreachable | StreamCorrupt)
        assert caught.value.retryable


async def test_a_source_without_progress_is_stalled() -> None:
    settings = ServerSettings(stall_seconds=0.2)
    async with serving(StuckSource(), settings=settings) as server, connected(server.port) as peer:
        with pytest.raises(TransferStalled) as caught:
            await read(peer)
        assert caught.value.evidence["stage"] == "source"


async def test_a_silent_peer_is_stalled() -> None:
    settings = LinkSettings(stall_seconds=0.2)
    async with serving(StuckSource()) as server, connected(server.port, settings) as peer:
        with pytest.raises(TransferStalled) as caught:
            await read(peer)
        assert caught.value.evidence["stage"] == "peer"


async def test_slow_work_is_no_stall() -> None:
    theirs, ours = ServerSettings(stall_seconds=0.4), LinkSettings(stall_seconds=0.5)
    async with (
        serving(SlowSource(), settings=theirs) as server,
        connected(server.port, ours) as peer,
    ):
        assert await peer.tree_root(GUID) == bytes(16)


async def test_stopping_early_stops_the_storage() -> None:
    source = MemorySource([NOISE] * 64)
    async with serving(source) as server, connected(server.port) as peer:
        async with aclosing(peer.send(STEP)) as blocks:
            await anext(blocks)
        await source.closed_early.wait()
        assert (await peer.traits()).kind == "memory"


async def test_stopping_early_stops_a_storage_that_is_at_work() -> None:
    source = StuckSource()
    async with serving(source) as server, connected(server.port) as peer:
        async with aclosing(peer.send(STEP)) as blocks:
            await anext(blocks)
        async with asyncio.timeout(20):
            await source.closed_early.wait()


async def test_a_reader_that_waits_holds_the_sender_back() -> None:
    source = MemorySource([NOISE] * 64)
    settings = LinkSettings(window_bytes=2 << 20)
    async with serving(source) as server, connected(server.port, settings) as peer:
        async with aclosing(peer.send(STEP)) as blocks:
            await anext(blocks)
            await asyncio.sleep(0.5)
            assert peer.traffic.wire_bytes < 16 << 20
            rest = [block async for block in blocks]
        assert len(rest) == 63


async def test_a_slow_reader_holds_the_sender_back_all_the_time() -> None:
    """Under way are a window at asyncssh, one at us, and what the stages between them hold."""
    source = MemorySource([NOISE] * 96)
    settings = LinkSettings(window_bytes=8 * len(NOISE))
    taken = under_way = 0
    async with (
        serving(source) as server,
        connected(server.port, settings) as peer,
        aclosing(peer.send(STEP)) as blocks,
    ):
        async for _ in blocks:
            taken += 1
            await asyncio.sleep(0.02)
            under_way = max(under_way, source.sent_blocks - taken)
    assert taken == 96
    assert under_way < 2 * 8 + 16, under_way


@asynccontextmanager
async def logged_in(source: MemorySource) -> AsyncIterator[asyncssh.SSHClientConnection]:
    """A bare ssh connection, on which anything can be tried."""
    options: dict[str, Any] = {"client_keys": [CLIENT_KEY], "known_hosts": None, "config": None}
    async with (
        serving(source) as server,
        asyncssh.connect("127.0.0.1", server.port, username=US, **options) as connection,
    ):
        yield connection


@pytest.mark.parametrize(
    "session", [{}, {"command": "id"}, {"subsystem": "sftp"}, {"request_pty": "force"}]
)
async def test_no_other_session_is_served(session: dict[str, Any]) -> None:
    async with logged_in(MemorySource()) as connection:
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.create_session(asyncssh.SSHClientSession, **session)


async def test_nothing_is_forwarded() -> None:
    async with logged_in(MemorySource()) as connection:
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.open_connection("127.0.0.1", 22)
        with pytest.raises(asyncssh.ChannelListenError):
            await connection.forward_remote_port("127.0.0.1", 0, "127.0.0.1", 22)


@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\n\r\n" * 40, b""])
async def test_a_channel_without_a_request_is_refused(first: bytes) -> None:
    async with logged_in(MemorySource()) as connection:
        writer, reader, _ = await connection.open_session(subsystem=SUBSYSTEM, encoding=None)
        writer.write(first)
        writer.write_eof()
        answer = await reader.read()
        assert b"STREAM_CORRUPT" in answer or b"PEER_REFUSED" in answer


async def test_a_ninth_channel_is_refused() -> None:
    async with logged_in(MemorySource()) as connection:
        for _ in range(CHANNELS_MAX):
            await connection.open_session(subsystem=SUBSYSTEM, encoding=None)
        with pytest.raises(asyncssh.ChannelOpenError, match="too many channels"):
            await connection.open_session(subsystem=SUBSYSTEM, encoding=None)
