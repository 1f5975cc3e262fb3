"""`ip`, `bridge` and `nft`, as far as they are used here. What one of them refuses is
CommandFailed, one that hangs is TransferStalled; nothing is done twice where it failed."""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from typing import Any

from transfer import command
from transfer.errors import CommandFailed

DEADLINE_SECONDS = 20.0


async def ip(*words: str) -> None:
    """One command of `ip`."""
    await _say(["ip", *words])


async def ip_all(lines: Sequence[str], namespace: str | None = None) -> None:
    """Several commands of `ip` in one process, here or in a namespace."""
    where = ["-netns", namespace] if namespace else []
    await _say(["ip", *where, "-batch", "-"], "\n".join([*lines, ""]))


async def ip_json(*words: str) -> list[dict[str, Any]]:
    """What `ip` shows; nothing where it refuses, since what is not there is refused."""
    output = await command.run(["ip", "-json", *words], deadline_seconds=DEADLINE_SECONDS)
    return [one for one in json.loads(output.stdout or "[]") if one] if output.status == 0 else []


async def bridge(*words: str) -> None:
    """One command of `bridge`."""
    await _say(["bridge", *words])


async def nft(text: str) -> None:
    """Carries out a text of nft in one transaction."""
    await _say(["nft", "--file", "-"], text)


async def nft_json(*words: str) -> list[dict[str, Any]]:
    """What nft lists: an object each, under the name of its kind."""
    said = await _say(["nft", "--json", *words])
    found: list[dict[str, Any]] = json.loads(said)["nftables"]
    return found


def has_link(name: str) -> bool:
    """Whether there is a network interface of this name."""
    try:
        socket.if_nametoindex(name)
    except OSError:
        return False
    return True


async def _say(argv: list[str], text: str = "") -> str:
    output = await command.run(argv, deadline_seconds=DEADLINE_SECONDS, stdin=text.encode())
    if output.status != 0:
        said = " ".join(output.stderr.split())
        raise CommandFailed(f"{' '.join(argv)}: {said}", argv=argv, status=output.status)
    return output.stdout
