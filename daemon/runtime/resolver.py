"""Whom a container asks for names: whom its own resolv.conf says, or, where it has none, whom its
server asks. What the server says is mounted over an empty file, since it is no part of the tree: on
another server it is another one.
"""

from __future__ import annotations

import ipaddress
import os
import stat
from contextlib import suppress

from transfer import rootfs

SOURCES = ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf")
"""Where a server says whom it asks. The second has whom systemd-resolved asks, where the first
names only that, at an address that no container reaches."""


def of_server() -> str | None:
    """What a container's resolv.conf is to say here; None where the server asks nobody whom a
    container can ask, too: containers have no IPv6 and a loopback of their own."""
    for path in SOURCES:
        with suppress(FileNotFoundError), open(path, encoding="utf-8", errors="replace") as file:
            lines = [line.split() for line in file]
            kept = [words for words in lines if words and not _is_out_of_reach(words)]
            if any(words[0] == "nameserver" for words in kept):
                return "".join(f"{' '.join(words)}\n" for words in kept)
    return None


def leaves_it_open(tree: str) -> bool:
    """Whether the tree has no resolv.conf of its own but an empty one; where it has none at all,
    that is made. Raises OSError where the filesystem fails."""
    with rootfs.Root(tree) as root, root.find_dir("etc") as etc:
        if etc is None:
            return False
        if not rootfs.kind_of(etc, "resolv.conf"):
            with rootfs.kept(etc):
                rootfs.replace_file(etc, "resolv.conf", b"", 0o644)
        found = os.stat("resolv.conf", dir_fd=etc, follow_symlinks=False)
        return stat.S_ISREG(found.st_mode) and found.st_size == 0


def _is_out_of_reach(words: list[str]) -> bool:
    if words[0] != "nameserver":
        return False
    try:
        return ipaddress.IPv4Address(words[-1]).is_loopback
    except ValueError:
        return True
