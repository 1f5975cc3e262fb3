"""Locks that die with their process: one daemon a server, and no worker of a dead one."""

from __future__ import annotations

import asyncio
import fcntl
import os

from daemon.errors import StartError, StartLater

WORKERS_GONE_SECONDS = 10.0
POLL_SECONDS = 0.05


def take_daemon_lock(state_dir: str) -> int:
    """Makes this process the server's only daemon for as long as it lives.

    Raises StartLater where another one runs. The descriptor must stay open.
    """
    descriptor = _open(state_dir, "daemon.lock")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise StartLater(
            f"server.state_dir: another daemon runs with {state_dir}; stop it first"
        ) from None
    return descriptor


def share_children_lock(state_dir: str) -> int:
    """A child's part: the shared lock says that something of a daemon still works."""
    descriptor = _open(state_dir, "children.lock")
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


async def wait_for_children(state_dir: str) -> None:
    """Returns when no child of an earlier daemon is left: they end with their daemon, but not in
    the same instant. Raises StartLater where one hangs."""
    descriptor = _open(state_dir, "children.lock")
    try:
        # Polled, for a thread that waits in flock could not be given up.
        for _ in range(int(WORKERS_GONE_SECONDS / POLL_SECONDS)):
            if _try_alone(descriptor):
                return
            await asyncio.sleep(POLL_SECONDS)
        raise StartLater("server.state_dir: a process of an earlier daemon does not end")
    finally:
        os.close(descriptor)


def _try_alone(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _open(state_dir: str, name: str) -> int:
    path = os.path.join(state_dir, name)
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StartError(
            f"server.state_dir: cannot open {path}: {error.strerror}; run: hoodyd init"
        ) from None
