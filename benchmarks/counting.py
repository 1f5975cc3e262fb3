"""How many `zfs` processes a job starts, counted by a wrapper that stands before `zfs` on the
path of the servers and notes who calls it. Nothing is timed meanwhile."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections import Counter
from pathlib import Path

from benchmarks import data
from benchmarks.world import World, running, scratch

OWN_PACE = "keeper"  # it looks after the storage at its own pace, whatever the jobs do
NO_CHANGE, NO_CHANGE_THERE = "sync, no change, same server", "sync, no change, other server"
_BYTES = 4 << 20

_WRAPPER = """\
#!/bin/sh
caller=$(tr '\\0' ' ' < /proc/$PPID/cmdline)
echo "$1 $caller" >> {log}
exec {zfs} "$@"
"""


async def count() -> dict[str, Counter[str]]:
    """By operation, how often each verb of `zfs` was called for it."""
    with scratch() as directory:
        wrapper, log = os.path.join(directory, "bin", "zfs"), Path(directory, "log")
        os.makedirs(os.path.dirname(wrapper))
        text = _WRAPPER.format(log=log, zfs=shutil.which("zfs"))
        Path(wrapper).write_text(text, encoding="ascii")
        os.chmod(wrapper, 0o755)
        path = os.environ["PATH"]
        os.environ["PATH"] = f"{os.path.dirname(wrapper)}:{path}"
        try:
            async with running("zfs", os.path.join(directory, "servers")) as world:
                return await _operations(world, log)
        finally:
            os.environ["PATH"] = path


async def _operations(world: World, log: Path) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = {}
    source = await world.create()
    rootfs = await world.rootfs(source)
    await asyncio.to_thread(data.write_files, rootfs, data.INCOMPRESSIBLE, _BYTES, 1)
    copies = []
    for server, name in ((0, "same server"), (1, "other server")):
        with _Counted(log) as found[f"copy, {name}"]:
            copies.append((await world.copy(source, server)).container)
    with _Counted(log) as found["second copy there"]:
        await world.copy(source, 1)
    with _Counted(log) as found[NO_CHANGE]:
        await world.sync(copies[0])
    with _Counted(log) as found[NO_CHANGE_THERE]:
        await world.sync(copies[1])
    await asyncio.to_thread(data.nudge, rootfs, 2)
    with _Counted(log) as found["sync of a change, other server"]:
        await world.sync(copies[1])
    return found


class _Counted:
    """Counts what the log gets while the block runs."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._before = 0
        self._verbs = Counter[str]()

    def __enter__(self) -> Counter[str]:
        self._before = len(self._log.read_text(encoding="utf-8"))
        return self._verbs

    def __exit__(self, *_: object) -> None:
        self._verbs.update(verbs(self._log.read_text(encoding="utf-8")[self._before :]))


def verbs(log: str) -> Counter[str]:
    """The verbs in the wrapper's log, but for those of processes that keep their own pace."""
    found = Counter[str]()
    for line in log.splitlines():
        verb, *caller = line.split()
        if "daemon" in caller and OWN_PACE not in caller:
            found[verb] += 1
    return found
