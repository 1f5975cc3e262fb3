"""The sending side of the ssh ceiling: pours bytes from memory into each session that opens,
with the product's own settings. Prints its port; ends with its input.
"""

from __future__ import annotations

import asyncio
import sys

import asyncssh

from transfer.peer.link import ALGORITHMS, LinkSettings

POURED_BYTES = 1 << 30
BLOCK_BYTES = 1 << 20


class _Door(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        return False


async def _pour(process: asyncssh.SSHServerProcess[bytes]) -> None:
    block = bytes(BLOCK_BYTES)
    for _ in range(POURED_BYTES // BLOCK_BYTES):
        process.stdout.write(block)
        await process.stdout.drain()
    process.exit(0)


async def main() -> None:
    """Serves until the input ends."""
    acceptor = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_factory=_Door,
        server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
        process_factory=_pour,
        encoding=None,
        max_pktsize=LinkSettings().packet_bytes,
        **ALGORITHMS,
    )
    print(acceptor.get_port(), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    acceptor.close()


if __name__ == "__main__":
    asyncio.run(main())
