"""Ending a `zfs receive` that nobody feeds any more.

A receive of ours ends with the process that feeds it. One that does not, because somebody else has
hold of its input, or because it does not die with its parent on this machine, keeps its dataset
busy for as long as it lives, and what it is about to leave there cannot be judged.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal

from transfer.errors import DatasetBusy
from transfer.storage.zfs_busy import Cause
from transfer.storage.zfs_proc import Stream, parent_of, stream_of, streams

TERM_SECONDS = 5.0
KILL_SECONDS = 30.0


async def end_stale(name: str) -> None:
    """Ends each `zfs receive` into the dataset of this full name that is no child of this process,
    and waits until it has ended; only for who holds the lock for receiving into it.

    On zfs-fuse the daemon may read on from the input of one that has ended, for as long as anybody
    can write to that. Raises DatasetBusy where one does not end, or is not ours to end.
    """
    await asyncio.to_thread(_end_stale, name)


def _end_stale(name: str) -> None:
    for stream in streams():
        if stream.receives and stream.name == name and parent_of(stream.pid) != os.getpid():
            _end(stream)


def _end(stream: Stream) -> None:
    try:
        process = os.pidfd_open(stream.pid)
    except ProcessLookupError:
        return
    try:
        if stream_of(stream.pid) == stream and not _ended(process):  # else the id is another's
            raise DatasetBusy(
                f"process {stream.pid} receives into {stream.name} and does not end",
                dataset=stream.name,
                causes=[Cause.RECEIVE],
                pid=stream.pid,
            )
    finally:
        os.close(process)


def _ended(process: int) -> bool:
    poll = select.poll()
    poll.register(process, select.POLLIN)  # that it can be read says that it has ended
    for number, seconds in ((signal.SIGTERM, TERM_SECONDS), (signal.SIGKILL, KILL_SECONDS)):
        with contextlib.suppress(ProcessLookupError):
            try:
                signal.pidfd_send_signal(process, number)
            except PermissionError:
                return False
        if poll.poll(seconds * 1000):
            return True
    return False
