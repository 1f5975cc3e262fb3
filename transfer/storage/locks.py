"""Locks between the processes of one server, one per name; they die with the process."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator

from transfer.errors import DatasetBusy

WAIT_SECONDS = 120.0
POLL_SECONDS = 0.01


@contextlib.asynccontextmanager
async def locked(
    lock_dir: str, name: str, wait_seconds: float = WAIT_SECONDS
) -> AsyncIterator[None]:
    """Holds the lock `name` of `lock_dir`, also against other tasks of this process.

    It does not nest. Raises DatasetBusy after `wait_seconds`.
    """
    path = os.path.join(lock_dir, name.replace("/", ".") + ".lock")
    descriptor = await _acquire(path, name, wait_seconds)
    try:
        yield
    finally:
        # Unlinked under the lock, so that no file stays for every dataset that ever was; who
        # waits on it sees in `_is_at` that it is no longer the one.
        os.unlink(path)
        os.close(descriptor)


async def _acquire(path: str, name: str, wait_seconds: float) -> int:
    # flock is polled because a thread that waits in it could not be cancelled.
    try:
        async with asyncio.timeout(wait_seconds):
            while True:
                descriptor = _try_acquire(path)
                if descriptor is not None:
                    return descriptor
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError as error:
        raise DatasetBusy(
            f"{name} stayed locked for {wait_seconds:g} s", dataset=name, lock=path
        ) from error


def _try_acquire(path: str) -> int | None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_at(path, descriptor):
            return descriptor
    except BlockingIOError:
        pass
    os.close(descriptor)
    return None


def _is_at(path: str, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def is_locked(lock_dir: str, name: str) -> bool:
    """Whether somebody holds the lock, or may: another user's cannot be tried. The file that a
    killed process has left is removed."""
    path = os.path.join(lock_dir, name.replace("/", ".") + ".lock")
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except PermissionError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_at(path, descriptor):
            os.unlink(path)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
