"""Which ports of the server are taken: by what listens there, and by other containers."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable, Mapping
from typing import Any

from daemon.network import commands
from daemon.network.ruleset import Forward

_KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


async def refused(wanted: Iterable[Forward], own_table: str) -> list[Forward]:
    """Those of the forwards that cannot be had. A port on which the server itself listens is not
    taken from it: who may change a container's rules must not get at the server's own services.
    Looks at the tables of all containers of this machine, another daemon's too."""
    asked = list(wanted)
    if not asked:
        return []
    listed = await commands.nft_json("list", "ruleset", "ip")
    own, others = noted(listed, own_table)
    return [one for one in asked if one.taken in others or (one.taken not in own and listens(one))]


def noted(listed: Iterable[Mapping[str, Any]], own_table: str) -> tuple[set[str], set[str]]:
    """The forwards of a table, and those of all others, by the words noted beside their rules."""
    rules = [one["rule"] for one in listed if "rule" in one and "comment" in one["rule"]]
    ours = [one for one in rules if str(one["table"]).startswith("hoody_")]
    own = {str(one["comment"]) for one in ours if one["table"] == own_table}
    return own, {str(one["comment"]) for one in ours if one["table"] != own_table}


def listens(one: Forward) -> bool:
    """Whether something on this server has the port."""
    with socket.socket(socket.AF_INET, _KINDS[one.protocol]) as probe:
        if one.protocol == "tcp":  # so that connections that have ended are no hindrance
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", one.host_port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return True
            raise
    return False
