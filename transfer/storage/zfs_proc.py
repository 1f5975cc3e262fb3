"""What the kernel says of ZFS: its mounts here, and the processes that send or receive."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

_COMMAND_LINE_BYTES = 64 << 10
_RECEIVE = ("receive", "recv")
_STREAMS = ("send", *_RECEIVE)
_ESCAPES = (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\"))


@dataclass(frozen=True, slots=True)
class Stream:
    """A process that runs `zfs send` of a snapshot, or `zfs receive` into a dataset; `name` is the
    full name of either."""

    pid: int
    verb: str
    name: str

    @property
    def receives(self) -> bool:
        """Whether it is a `zfs receive`."""
        return self.verb in _RECEIVE


def streams() -> list[Stream]:
    """The streams that run on this machine, as far as this user may see them."""
    pids = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
    return [stream for pid in pids if (stream := stream_of(pid)) is not None]


def stream_of(pid: int) -> Stream | None:
    """The stream that a process is; None where it is none, or gone."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as line:
            words = line.read(_COMMAND_LINE_BYTES).decode(errors="surrogateescape").split("\0")
    except OSError:
        return None
    # Each word ends with a zero byte, so that the last one of the list is empty.
    program, verb, name = [*words[:2], *words[-2:-1]] if len(words) > 3 else ("", "", "")
    if os.path.basename(program) != "zfs" or verb not in _STREAMS:
        return None
    return Stream(pid, verb, name)


def parent_of(pid: int) -> int | None:
    """The process that started it, or the one that it was left to; None where it is gone."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", encoding="ascii") as line:
        # The program's name stands in parentheses and may hold some itself.
        return int(line.read().rpartition(")")[2].split()[1])
    return None


def mounted() -> set[tuple[str, str]]:
    """The ZFS mounts of this process's namespace: (dataset's full name, directory)."""
    return {(source, directory) for source, directory, _ in _mounts()}


def read_only() -> set[tuple[str, str]]:
    """Those of `mounted` that cannot be written."""
    return {(source, directory) for source, directory, options in _mounts() if "ro" in options}


def _mounts() -> Iterator[tuple[str, str, list[str]]]:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            before, _, after = line.partition(" - ")
            kind, source = after.split(" ")[:2]
            if kind in ("zfs", "fuse.zfs"):
                directory, options = before.split(" ")[4:6]
                yield source, _unescaped(directory), options.split(",")


def _unescaped(field: str) -> str:
    for escape, character in _ESCAPES:
        field = field.replace(escape, character)
    return field
