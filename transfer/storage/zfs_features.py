"""What the `zfs` program and the pool do beyond zfs-fuse: tried out on a dataset made for it, or
asked of the pool, and never taken from a version."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import astuple, dataclass

from transfer import command
from transfer.model import RAW
from transfer.storage import zfs_settings, zfs_text
from transfer.storage.zfs_command import ASK_SECONDS, Zfs

FLAGS = "Lec" + RAW
"""Options of `zfs send`: large blocks, embedded data, blocks as they are compressed on the disk,
and as they are encrypted there."""

RESUMES = "extensible_dataset"
"""What a pool must have to keep what a cut stream has brought."""

# What a pool must have before it takes such a stream. Blocks may be compressed by anything.
_NEEDS = {
    "L": {"large_blocks"},
    "e": {"embedded_data"},
    "c": {"lz4_compress", "zstd_compress"},
    RAW: {"encryption"},
}


@dataclass(frozen=True, slots=True)
class Features:
    """`flags` are those of FLAGS that `send` knows; `estimates`: it tells a stream's size without
    sending; `written`: a snapshot tells what was written since the one before it; `resumes`: what
    a cut stream has brought is kept, and can be gone on with; `branches`: an increment comes from
    any ancestor, over several clones, and `receive` makes it a clone of what it is told;
    `settings`: it has the settings that zfs-fuse does not have; `bookmarks`: it has these;
    `runs`: `send` makes one stream of several snapshots, and tells its size."""

    flags: str = ""
    estimates: bool = False
    written: bool = False
    resumes: bool = False
    branches: bool = False
    settings: bool = False
    bookmarks: bool = False
    runs: bool = False

    @property
    def properties(self) -> tuple[str, ...]:
        """What can be asked of a dataset beyond what zfs-fuse knows."""
        encrypts = RAW in self.flags
        more = {
            zfs_text.WRITTEN: self.written,
            zfs_text.RESUME: self.resumes,
            zfs_text.CLONES: self.branches,
            zfs_text.ENCRYPTION: encrypts,
            zfs_text.KEY_STATUS: encrypts,
            **dict.fromkeys(zfs_settings.OPENZFS, self.settings),
        }
        return tuple(key for key, there in more.items() if there)

    @classmethod
    def parse(cls, text: str) -> Features:
        """What `str` gave."""
        flags, *others = text.split(":")
        return cls(flags, *(other == "1" for other in others))

    def __str__(self) -> str:
        flags, *others = astuple(self)
        return ":".join([flags, *(str(int(other)) for other in others)])


async def try_out(zfs: Zfs, path: str) -> Features:
    """The features of the program, tried on the dataset `path`, which has the snapshot `probe`;
    what is made for that is beside it."""
    dataset_name = zfs.name(path)
    snapshot_name = f"{dataset_name}@probe"

    async def works(*arguments: str, of: str = snapshot_name, to: str = "") -> bool:
        return (await zfs.ask(*arguments, of, *([to] if to else []))).status == 0

    written = await works("get", zfs_text.WRITTEN)
    if not await works("send", "-nvP"):
        return Features(written=written)
    all_known = await works("send", "-nvP", f"-{FLAGS}")
    known = FLAGS if all_known else [f for f in FLAGS if await works("send", "-nvP", f"-{f}")]
    beside = zfs.name(path.rpartition("/")[0])
    branches = await _branches(zfs, snapshot_name, beside)
    return Features(
        "".join(known),
        estimates=True,
        written=written,
        resumes=await works("get", zfs_text.RESUME, of=dataset_name),
        settings=await works("get", ",".join(zfs_settings.OPENZFS), of=dataset_name),
        bookmarks=await works("bookmark", of=snapshot_name, to=f"{dataset_name}#probe"),
        branches=branches,
        runs=await works("send", "-nvP", "-I", snapshot_name, of=f"{beside}/near@probe"),
    )


async def _branches(zfs: Zfs, base_name: str, beside: str) -> bool:
    """Whether a stream over two clones lands on its base, which is told."""
    at = base_name
    for clone_name in (f"{beside}/near", f"{beside}/far"):
        await zfs.do("clone", at, clone_name)
        at = f"{clone_name}@probe"
        await zfs.do("snapshot", at)
    async with command.reading(["zfs", "send", "-i", base_name, at]) as child:
        stream = b""
        while block := await child.read():
            stream += block
        sent = await child.finish()
    argv = ["zfs", "receive", "-u", "-o", f"origin={base_name}", f"{beside}/told"]
    received = await command.run(argv, deadline_seconds=ASK_SECONDS, stdin=stream)
    return sent.status == 0 and received.status == 0


async def pool_features(root: str) -> frozenset[str]:
    """The features that the root's pool has, none for one that knows no features."""
    pool = root.partition("/")[0]
    argv = ["zpool", "get", "-Hp", "-o", "property,value", "all", pool]
    output = await command.run(argv, deadline_seconds=ASK_SECONDS, outlives=True)
    # zfs-fuse has neither the options nor the features.
    lines = output.stdout.splitlines() if output.status == 0 else []
    rows = dict(line.split("\t", 1) for line in lines)
    have = {key for key, value in rows.items() if value in ("enabled", "active")}
    return frozenset(key.removeprefix("feature@") for key in have)


def taken(features: Set[str]) -> str:
    """The FLAGS of streams that a pool with these features can take."""
    return "".join(flag for flag in FLAGS if _NEEDS[flag] <= features)
