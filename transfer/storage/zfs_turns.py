"""What of zfs-fuse's commands must not meet, on a machine, and the locks that see to it.

- Mounts: it tells its listener of a new one by two writes to one pipe. Those of two at once may
  mix, and then none of that daemon's mounts ever answers again (its zfsfuse_newfs, seen).
- In a pool, a promote and what has the snapshots in hand that it takes over: it keeps the pool's
  configuration while it waits for them, `hold` and others keep them while they wait for the
  transaction group, and that waits for the configuration: for ever (dsl_dataset_promote and
  dsl_dataset_user_hold of pool version 23, seen). A `send` has them in hand until it ends.

It is `flock` that takes a lock and `zfs` that keeps it, for as long as it lives, for we may be
killed while the daemon still does what it was told.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from transfer import command
from transfer.errors import DatasetBusy

FUSE_DIRECTORY = "/run/zfs"
HELD_OFF = 75  # no exit status of `zfs`
_MOUNTING = ("clone", "create", "mount")
_IN_HAND = ("clone", "destroy", "hold", "release", "send")
_PROMOTING = ("promote",)
_WAIT_SECONDS = 30
# A send may last for hours; who promotes comes again.
_PROMOTE_WAIT_SECONDS = 5


def in_turn(argv: Sequence[str]) -> list[str]:
    """The `zfs` command that waits for its turn, where zfs-fuse may be what runs. One that does
    not get it ends with the status HELD_OFF."""
    turns: list[str] = []
    if not os.access(FUSE_DIRECTORY, os.W_OK):
        return list(argv)
    verb = argv[1]
    of_pool = "promoting-" + re.split("[/@]", argv[-1])[0]
    if verb in _MOUNTING:
        turns += _lock("mounting", _WAIT_SECONDS)
    if verb in _IN_HAND and "-t" not in argv:  # zfs-fuse knows no tokens
        # A send ends with its reader: nothing of it is left to the daemon.
        alone = ("--no-fork",) if verb == "send" else ()
        turns += _lock(of_pool, _WAIT_SECONDS, "--shared", *alone)
    if verb in _PROMOTING:
        turns += _lock(of_pool, _PROMOTE_WAIT_SECONDS)
    return [*turns, *argv]


def check(output: command.Output) -> None:
    """Raises DatasetBusy where the command did not get its turn."""
    if output.status == HELD_OFF:
        raise DatasetBusy("another zfs command kept its turn for too long", argv=list(output.argv))


def _lock(name: str, seconds: int, *options: str) -> list[str]:
    waits = ["--timeout", str(seconds), "--conflict-exit-code", str(HELD_OFF)]
    return ["flock", *options, *waits, os.path.join(FUSE_DIRECTORY, f"hoody-{name}.lock")]
