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

_ABSENT = ("does not exist", "Cannot find device", "No such file")


async def ip(*words: str) -> None:
    """One command of `ip`."""
    await _say(["ip", *words])


async def ip_all(lines: Sequence[str], namespace: str | None = None) -> None:
    """Several commands of `ip` in one process, here or in a namespace."""
    where = ["-netns", namespace] if namespace else []
    await _say(["ip", *where, "-batch", "-"], "\n".join([*lines, ""]))


async def ip_json(*words: str) -> list[dict[str, Any]]:
    """What `ip` shows of a thing; nothing where there is no such thing."""
    argv = ["ip", "-json", *words]
    output = await command.run(argv, deadline_seconds=DEADLINE_SECONDS)
    if output.status != 0:
        if any(said in output.stderr for said in _ABSENT):
            return []
        raise _refusal(output)
    return [one for one in json.loads(output.stdout or "[]") if one]


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
        raise _refusal(output)
    return output.stdout


def _refusal(output: command.Output) -> CommandFailed:
    argv, said = list(output.argv), " ".join(output.stderr.split())
    return CommandFailed(f"{' '.join(argv)}: {said}", argv=argv, status=output.status)
