"""What an exporter serves: a storage, to servers whose key the catalogue pins.

A peer logs in with its server id as user name and its ed25519 key. The one thing it can open is
a session with our subsystem; shells, commands, terminals, agents, X11, forwarding, sftp and scp
are refused, and told of in the log. Each channel carries one request, which the gate judges
before it is served.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from contextlib import suppress

import asyncssh

from transfer.peer.answers import Answers, Gate, ServerSettings
from transfer.peer.channel import Duplex, Meter
from transfer.peer.link import (
    ALGORITHMS,
    CHANNELS_MAX,
    CLOSE_SECONDS,
    SMALL_WINDOW_BYTES,
    SUBSYSTEM,
)
from transfer.peer.refusals import STRANGERS, Refusals
from transfer.pipeline import PIECE_BYTES
from transfer.storage.base import Source

LINKS_MAX = 64  # of one peer to one process
LOGINS_MAX = 64  # connections that have not logged in yet

log = logging.getLogger("hoody.peer")


async def serve(
    host: str, port: int, *, host_key: str, storage: Source, gate: Gate, settings: ServerSettings
) -> PeerServer:
    """Listens; port 0 takes a free one. `host_key` is OpenSSH's private text. Raises OSError."""
    server = PeerServer(storage, gate, settings)
    await server.listen(host, port, host_key)
    return server


class PeerServer:
    """A listener and all its links."""

    def __init__(self, storage: Source, gate: Gate, settings: ServerSettings) -> None:
        self.gate = gate
        self.refusals = Refusals()
        self.links: Counter[str] = Counter()
        self.connections: set[asyncssh.SSHServerConnection] = set()
        self._door: dict[asyncssh.SSHServerConnection, str] = {}  # oldest first, and from where
        self._login_seconds = settings.login_seconds
        self._answers = Answers(storage, gate, settings, self.refusals)
        self.traffic = self._answers.traffic
        self._reuse_port = settings.reuse_port
        self._tasks: set[asyncio.Task[None]] = set()
        self._acceptor: asyncssh.SSHAcceptor | None = None

    async def listen(self, host: str, port: int, host_key: str) -> None:
        """See `serve`."""
        self._acceptor = await asyncssh.listen(
            host,
            port,
            server_factory=lambda: _Login(self),
            server_host_keys=[asyncssh.import_private_key(host_key)],
            reuse_port=self._reuse_port,
            public_key_auth=True,
            password_auth=False,
            kbdint_auth=False,
            host_based_auth=False,
            gss_host=None,
            line_editor=False,
            agent_forwarding=False,
            x11_forwarding=False,
            allow_scp=False,
            encoding=None,
            window=SMALL_WINDOW_BYTES,
            max_pktsize=PIECE_BYTES,
            **(ALGORITHMS | {"login_timeout": self._login_seconds}),
        )

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._acceptor.get_port() if self._acceptor else 0

    async def close(self) -> None:
        """Stops listening, ends what is being served, closes the links."""
        if self._acceptor:
            self._acceptor.close()
            await self._acceptor.wait_closed()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        connections = list(self.connections)
        for connection in connections:
            connection.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await asyncio.gather(*(held.wait_closed() for held in connections))

    def knocks(self, connection: asyncssh.SSHServerConnection) -> None:
        """A connection has come and must log in. Where too many wait, the longest there goes of
        the address with the most: those who only wait do not keep out who logs in at once."""
        self._door[connection] = (connection.get_extra_info("peername") or ("",))[0]
        if len(self._door) > LOGINS_MAX:
            ((busiest, _),) = Counter(self._door.values()).most_common(1)
            oldest = next(one for one, address in self._door.items() if address == busiest)
            log.debug("too many at the door: %s has the most", busiest)
            self.leaves_the_door(oldest)
            oldest.abort()

    def leaves_the_door(self, connection: asyncssh.SSHServerConnection) -> None:
        """A connection has logged in, or is gone."""
        self._door.pop(connection, None)

    def refuses(self, peer_id: str, what: str) -> bool:
        """What asyncssh is to be answered where a peer asks for what it cannot have."""
        self.refusals.tell(peer_id, f"asks for {what}")
        return False

    def start(self, channel: ServerChannel) -> asyncio.Task[None]:
        """Serves the request of a channel in a task of its own."""
        task = asyncio.create_task(self._answers.serve(channel.peer_id, channel))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("a request failed unexpectedly", exc_info=error)


class ServerChannel(Duplex, asyncssh.SSHServerSession[bytes]):
    """Our end of a channel that a peer has opened."""

    def __init__(self, server: PeerServer, login: _Login) -> None:
        super().__init__(Meter(), self._gone)
        self.peer_id = login.peer_id
        self._server = server
        self._login = login
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        """See Duplex.opened."""
        self.opened(chan)

    def subsystem_requested(self, subsystem: str) -> bool:
        """The only kind of session there is."""
        wanted = f"the subsystem {subsystem[:64]!r}"
        return subsystem == SUBSYSTEM or self._server.refuses(self.peer_id, wanted)

    def shell_requested(self) -> bool:
        """There is none."""
        return self._server.refuses(self.peer_id, "a shell")

    def exec_requested(self, command: str) -> bool:
        """Nothing is run, whatever the command; scp is one."""
        return self._server.refuses(self.peer_id, "a command")

    def pty_requested(self, term_type: str, term_size: object, term_modes: object) -> bool:
        """There is none."""
        return self._server.refuses(self.peer_id, "a terminal")

    def session_started(self) -> None:
        """The peer may send its request."""
        self._task = self._server.start(self)

    def _gone(self) -> None:
        self._login.channels -= 1
        if self._task:
            self._task.cancel()


class _Login(asyncssh.SSHServer):
    """One connection, from the first byte to the last."""

    def __init__(self, server: PeerServer) -> None:
        self.peer_id = ""
        self.channels = 0
        self._server = server
        self._connection: asyncssh.SSHServerConnection  # from connection_made on
        self._is_in = False

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._server.connections.add(conn)
        self._server.knocks(conn)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self._connection)
        self._server.leaves_the_door(self._connection)
        if self._is_in:
            self._server.links[self.peer_id] -= 1

    def public_key_auth_supported(self) -> bool:
        return True

    async def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        pinned = await self._server.gate.key_of(username)
        if pinned is None or asyncssh.import_public_key(pinned).public_data != key.public_data:
            self._server.refusals.tell(STRANGERS, f"unknown server or key: {username[:64]!r}")
            return False
        return True

    def auth_completed(self) -> None:
        # Who it is follows from the login that succeeded, not from keys that were asked about.
        self.peer_id = self._connection.get_extra_info("username")
        self._is_in = True
        self._server.leaves_the_door(self._connection)
        self._server.links[self.peer_id] += 1
        if self._server.links[self.peer_id] > LINKS_MAX:
            self._server.refusals.tell(self.peer_id, f"more than {LINKS_MAX} links")
            self._connection.disconnect(asyncssh.DISC_TOO_MANY_CONNECTIONS, "too many links")

    def session_requested(self) -> ServerChannel:
        if self.channels >= CHANNELS_MAX:
            self._server.refusals.tell(self.peer_id, f"more than {CHANNELS_MAX} channels of a link")
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_RESOURCE_SHORTAGE, "too many channels")
        self.channels += 1
        return ServerChannel(self._server, self)

    def connection_requested(self, *_: object) -> bool:
        return self._server.refuses(self.peer_id, "a way to a port")

    def unix_connection_requested(self, *_: object) -> bool:
        return self._server.refuses(self.peer_id, "a way to a socket")

    def server_requested(self, *_: object) -> bool:
        return self._server.refuses(self.peer_id, "a port to listen on")

    def unix_server_requested(self, *_: object) -> bool:
        return self._server.refuses(self.peer_id, "a socket to listen on")

    def tun_requested(self, *_: object) -> bool:
        return self._server.refuses(self.peer_id, "a tunnel")

    def tap_requested(self, *_: object) -> bool:
        return self._server.refuses(self.peer_id, "a tunnel")


__all__ = ["Gate", "PeerServer", "ServerSettings", "serve"]
