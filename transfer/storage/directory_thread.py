"""Running blocking work of the dir storage in threads."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

from transfer.errors import InsufficientStorage, StorageError
from transfer.tree.source import OnBytes

P = ParamSpec("P")
T = TypeVar("T")

REPORT_BYTES = 1024 * 1024
"""How much is copied between two reports of progress."""


class Meter:
    """Adds up what a thread copies, and tells the event loop now and then."""

    def __init__(self, on_bytes: OnBytes) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_bytes = on_bytes
        self._waiting = 0

    def add(self, count: int) -> None:
        """So many bytes more; called in the thread."""
        self._waiting += count
        if self._waiting >= REPORT_BYTES:
            self._loop.call_soon_threadsafe(self._on_bytes, self._waiting)
            self._waiting = 0

    def flush(self) -> None:
        """Tells the rest; called in the event loop when the thread has ended."""
        if self._waiting:
            self._on_bytes(self._waiting)
            self._waiting = 0


async def blocking(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Runs it in a thread, with its OSErrors translated."""
    with translated():
        return await asyncio.to_thread(function, *args, **kwargs)


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Translates OSErrors: a full filesystem to InsufficientStorage, others to StorageError."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise InsufficientStorage("the filesystem is full", path=error.filename) from error
        raise StorageError(str(error), errno=error.errno) from error
