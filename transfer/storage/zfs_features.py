"""What the `zfs` program and the pool do beyond zfs-fuse: tried out on a dataset made for it, or
asked of the pool, and never taken from a version."""

from __future__ import annotations

from dataclasses import dataclass

from transfer import command
from transfer.storage import zfs_text
from transfer.storage.zfs_command import ASK_SECONDS, Zfs

FLAGS = "Lec"
"""Options of `zfs send`: large blocks, embedded data, blocks as they are compressed on the disk."""

# What a pool must have before it takes such a stream. Blocks may be compressed by anything.
_NEEDS = {
    "L": {"large_blocks"},
    "e": {"embedded_data"},
    "c": {"lz4_compress", "zstd_compress"},
}


@dataclass(frozen=True, slots=True)
class Features:
    """`flags` are those of FLAGS that `send` knows; `estimates`: it tells a stream's size without
    sending; `written`: a snapshot tells what was written since the one before it."""

    flags: str = ""
    estimates: bool = False
    written: bool = False

    @classmethod
    def parse(cls, text: str) -> Features:
        """What `str` gave."""
        flags, estimates, written = text.split(":")
        return cls(flags, estimates == "1", written == "1")

    def __str__(self) -> str:
        return f"{self.flags}:{int(self.estimates)}:{int(self.written)}"


async def try_out(zfs: Zfs, snapshot_name: str) -> Features:
    """The features of the program, tried on a snapshot."""

    async def works(*arguments: str) -> bool:
        return (await zfs.ask(*arguments, snapshot_name)).status == 0

    if not await works("send", "-nvP"):
        return Features(written=await works("get", zfs_text.WRITTEN))
    all_known = await works("send", "-nvP", f"-{FLAGS}")
    flags = (
        FLAGS if all_known else [flag for flag in FLAGS if await works("send", "-nvP", f"-{flag}")]
    )
    return Features("".join(flags), estimates=True, written=await works("get", zfs_text.WRITTEN))


async def taken_by_pool(root: str) -> str:
    """The FLAGS of streams that the root's pool can take."""
    pool = root.partition("/")[0]
    argv = ["zpool", "get", "-Hp", "-o", "property,value", "all", pool]
    output = await command.run(argv, deadline_seconds=ASK_SECONDS, outlives=True)
    # zfs-fuse has neither the options nor the features.
    lines = output.stdout.splitlines() if output.status == 0 else []
    rows = dict(line.split("\t", 1) for line in lines)
    have = {
        key.removeprefix("feature@")
        for key, value in rows.items()
        if value in ("enabled", "active")
    }
    return "".join(flag for flag in FLAGS if _NEEDS[flag] <= have)
