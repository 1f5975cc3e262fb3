"""An ssh connection to a peer: pinned keys, fast algorithms, asyncssh's errors made ours.

Only what both ends of the data path need is spoken: ed25519 keys, AES-GCM (three times as fast
here as the default cipher), no compression by ssh. Nothing is read from ~/.ssh or /etc/ssh.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import asyncssh

from transfer.errors import (
    PeerHostKeyMismatch,
    PeerRefused,
    PeerUnreachable,
    StreamCorrupt,
)
from transfer.frames import FrameWriter
from transfer.peer import gcm
from transfer.peer.channel import Duplex, Meter
from transfer.peer.messages import PeerRequest, write_request
from transfer.peer.traffic import Traffic
from transfer.pipeline import PIECE_BYTES, progress_within

SUBSYSTEM = "hoody-peer-1"
CHANNELS_MAX = 8  # of one job, and so of a link, which has one job
LOGIN_SECONDS = 10
CLOSE_SECONDS = 5
SMALL_WINDOW_BYTES = 1 << 20  # of a channel that carries one message

gcm.register()
ALGORITHMS = {
    "kex_algs": ["curve25519-sha256"],
    "encryption_algs": ["aes128-gcm@openssh.com", "aes256-gcm@openssh.com"],
    "compression_algs": ["none"],
    "signature_algs": ["ssh-ed25519"],
    # New keys after 64 GiB or an hour: AES-GCM counts packets, and these are far below its limit.
    "rekey_bytes": 64 << 30,
    "rekey_seconds": 3600,
    # A link that is silently dead is noticed within a minute.
    "keepalive_interval": 15,
    "keepalive_count_max": 3,
    "tcp_keepalive": True,
    "login_timeout": LOGIN_SECONDS,
}


@dataclass(frozen=True)
class LinkSettings:
    """How this side wants bytes to come: `compression` is auto, none or a level of 1..19; a limit
    of 0 is none, and it holds on the wire."""

    compression: str | int = "auto"
    limit_bytes_per_second: int = 0
    stall_seconds: float = 120
    window_bytes: int = 16 << 20
    packet_bytes: int = PIECE_BYTES


class ClientChannel(Duplex, asyncssh.SSHClientSession[bytes]):
    """Our end of a channel that we have opened."""

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        """See Duplex.opened."""
        self.opened(chan)


class Link:
    """One connection and its channels, of which CHANNELS_MAX are open at once."""

    def __init__(self, connection: asyncssh.SSHClientConnection, settings: LinkSettings) -> None:
        self.traffic = Traffic()
        self.settings = settings
        self._connection = connection
        self._slots = asyncio.Semaphore(CHANNELS_MAX)

    @asynccontextmanager
    async def ask(self, request: PeerRequest, window_bytes: int) -> AsyncIterator[Duplex]:
        """A channel on which the request has been made.

        Raises PeerUnreachable, PeerRefused, TransferStalled.
        """
        with self.traffic.underway(request):
            channel = await self._open(window_bytes, self.traffic.meter(request))
            try:
                async with progress_within(self.settings.stall_seconds, "peer"):
                    await channel.send(write_request(FrameWriter(), request))
                yield channel
            finally:
                channel.close()

    async def _open(self, window_bytes: int, meter: Meter) -> ClientChannel:
        await self._slots.acquire()
        made: list[ClientChannel] = []

        def factory() -> ClientChannel:
            # From here on the slot is given back by the channel, when both sides have closed it.
            made.append(ClientChannel(meter, self._slots.release))
            return made[0]

        try:
            async with progress_within(self.settings.stall_seconds, "peer"):
                with translated():
                    await self._connection.create_session(
                        factory,
                        subsystem=SUBSYSTEM,
                        encoding=None,
                        window=window_bytes,
                        max_pktsize=self.settings.packet_bytes,
                    )
        finally:
            if not made:
                self._slots.release()
        return made[0]


@asynccontextmanager
async def open_link(
    address: str, host_key: str, client_key: str, user: str, settings: LinkSettings
) -> AsyncIterator[Link]:
    """A link to `host:port`. `host_key` is OpenSSH's public text, `client_key` its private one.

    Raises PeerUnreachable, PeerRefused, PeerHostKeyMismatch.
    """
    where = urlsplit(f"//{address}")
    with translated(address):
        connection = await asyncssh.connect(
            where.hostname or "",
            where.port or 22,
            username=user,
            client_keys=[asyncssh.import_private_key(client_key)],
            known_hosts=([asyncssh.import_public_key(host_key)], [], []),
            server_host_key_algs=["ssh-ed25519"],
            preferred_auth=["publickey"],
            connect_timeout=LOGIN_SECONDS,
            agent_path=None,
            config=None,
            **ALGORITHMS,
        )
    try:
        yield Link(connection, settings)
    finally:
        connection.close()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await connection.wait_closed()
        except TimeoutError:
            connection.abort()


@contextmanager
def translated(address: str = "") -> Iterator[None]:
    """Turns what asyncssh and the sockets raise into errors of ours."""
    where = {"address": address} if address else {}
    try:
        yield
    except asyncssh.HostKeyNotVerifiable as error:
        raise PeerHostKeyMismatch("the peer shows another host key", **where) from error
    except asyncssh.PermissionDenied as error:
        raise PeerRefused("the peer does not accept our key", **where) from error
    except (asyncssh.MACError, asyncssh.CompressionError) as error:
        raise StreamCorrupt(f"bytes changed on the way: {error}", **where) from error
    except asyncssh.KeyExchangeFailed as error:
        raise PeerRefused(f"no algorithms in common: {error}", **where) from error
    except asyncssh.ChannelOpenError as error:
        if error.code == asyncssh.OPEN_CONNECT_FAILED:
            raise PeerUnreachable(f"no channel to the peer: {error}", **where) from error
        raise PeerRefused(f"the peer refuses a channel: {error}", **where) from error
    except (asyncssh.Error, OSError, EOFError, TimeoutError) as error:
        raise PeerUnreachable(f"no connection to the peer: {error}", **where) from error
