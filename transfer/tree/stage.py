"""The files that are not here yet, put together chunk by chunk.

A staged file is named by what it will hold (digest and size), not by its path: so nothing that a
manifest says about paths can matter here, equal files are fetched once, and a later attempt finds
what an earlier one wrote. Whatever is found is hashed before it is used; only missing chunks are
fetched. Nothing here needs to survive a power failure, for the same reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from transfer.errors import StreamCorrupt
from transfer.tree.chunk import (
    CHUNK_BYTES,
    ZERO_DIGEST,
    chunk_at,
    chunk_bytes,
    chunk_count,
    digest,
    has_zero_page,
    is_zero,
    pread_all,
    pwrite_all,
    write_sparse,
)
from transfer.tree.descriptor import closing, open_beneath
from transfer.tree.fetch import exactly
from transfer.tree.manifest import Manifest
from transfer.tree.node import Entry
from transfer.tree.source import OnBytes, TreeSource

REQUEST_BYTES_MAX = 64 * 1024 * 1024
"""Content of one request: a kill costs no more than this twice."""

REQUEST_WANTS_MAX = 4096
"""Runs of chunks of one request."""

REQUEST_PATH_BYTES_MAX = 512 * 1024
"""The sum of the lengths of their paths."""

WRITE_BYTES = 4 * 1024 * 1024
"""Content that waits in memory for one write to disk."""

_OPEN = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file that is to be staged; `path` is where the source has it."""

    path: bytes
    name: str
    size: int
    chunks: bytes


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive chunks of a wanted file that are missing here."""

    wanted: Wanted
    first: int
    count: int

    @property
    def byte_count(self) -> int:
        """Their length."""
        end = min((self.first + self.count) * CHUNK_BYTES, self.wanted.size)
        return end - self.first * CHUNK_BYTES


@dataclass(frozen=True, slots=True)
class _Block:
    wanted: Wanted
    index: int
    data: bytes


def stage_name(entry: Entry) -> str:
    """The staged file's name for this entry's content."""
    return f"{entry.digest.hex()}-{entry.value}"


class LocalChunks:
    """Chunks of a base's immutable tree, found by the path they had or by their digest."""

    def __init__(self, manifest: Manifest, root: int) -> None:
        self._manifest = manifest
        self._root = root
        self._where: dict[bytes, tuple[bytes, int]] = {}
        for path, entry in manifest.leaders():
            chunks = manifest.chunk_list(path, entry)
            for index in range(chunk_count(entry.value)):
                self._where.setdefault(chunk_at(chunks, index), (path, index))

    def find(self, wanted: bytes) -> bytes | None:
        """The chunk with this digest, read and checked; None where there is none."""
        where = self._where.get(wanted)
        if where is None:
            return None
        path, index = where
        with closing(open_beneath(self._root, path)) as file:
            data = pread_all(file, CHUNK_BYTES, index * CHUNK_BYTES)
        return data if digest(data) == wanted else None


def prepare(stage: int, wanted: Sequence[Wanted], local: LocalChunks | None) -> list[Run]:
    """Brings the staged files as far as this machine can; returns what is missing. Blocks."""
    missing: list[Run] = []
    for file in wanted:
        missing += _runs(file, _missing_chunks(stage, file, local))
    return missing


def _missing_chunks(stage: int, wanted: Wanted, local: LocalChunks | None) -> Iterator[int]:
    with closing(os.open(wanted.name, _OPEN, 0o600, dir_fd=stage)) as file:
        fresh = os.fstat(file).st_size == 0
        os.ftruncate(file, wanted.size)
        for index in range(chunk_count(wanted.size)):
            expected = chunk_at(wanted.chunks, index)
            if fresh and expected == ZERO_DIGEST:
                continue
            if not fresh:
                length = chunk_bytes(wanted.size, index)
                if digest(pread_all(file, length, index * CHUNK_BYTES)) == expected:
                    continue
            data = None if local is None else local.find(expected)
            if data is None:
                yield index
            else:
                _write_chunk(file, data, index * CHUNK_BYTES)


def _runs(wanted: Wanted, indexes: Iterator[int]) -> Iterator[Run]:
    first = count = 0
    for index in indexes:
        if count and index == first + count and count < REQUEST_BYTES_MAX // CHUNK_BYTES:
            count += 1
            continue
        if count:
            yield Run(wanted, first, count)
        first, count = index, 1
    if count:
        yield Run(wanted, first, count)


def _write_chunk(file: int, data: bytes, offset: int) -> None:
    # Where an interrupted attempt has left something else, zeros must be written too.
    if has_zero_page(data) and is_zero(pread_all(file, len(data), offset)):
        write_sparse(file, data, offset)
    else:
        pwrite_all(file, data, offset)


async def fetch_runs(
    source: TreeSource, guid: str, stage: int, runs: Sequence[Run], on_bytes: OnBytes
) -> None:
    """Fetches the missing chunks, checks and writes them. Raises StreamCorrupt."""
    for batch in _requests(runs):
        blocks = [
            (run.wanted, index)
            for run in batch
            for index in range(run.first, run.first + run.count)
        ]
        wants = [(run.wanted.path, run.first, run.count) for run in batch]
        waiting: list[_Block] = []
        waiting_bytes = 0
        stream = source.tree_chunks(guid, wants)
        async with contextlib.aclosing(exactly(stream, len(blocks))) as answer:
            expected = iter(blocks)
            async for data in answer:
                wanted, index = next(expected)
                if digest(data) != chunk_at(wanted.chunks, index):
                    raise StreamCorrupt("a chunk does not match its digest")
                on_bytes(len(data))
                waiting.append(_Block(wanted, index, data))
                waiting_bytes += len(data)
                if waiting_bytes >= WRITE_BYTES:
                    await asyncio.to_thread(_write, stage, waiting)
                    waiting, waiting_bytes = [], 0
        await asyncio.to_thread(_write, stage, waiting)


def _requests(runs: Sequence[Run]) -> Iterator[list[Run]]:
    batch: list[Run] = []
    content = paths = 0
    for run in runs:
        full = (
            content + run.byte_count > REQUEST_BYTES_MAX
            or len(batch) == REQUEST_WANTS_MAX
            or paths > REQUEST_PATH_BYTES_MAX
        )
        if batch and full:
            yield batch
            batch, content, paths = [], 0, 0
        batch.append(run)
        content += run.byte_count
        paths += len(run.wanted.path)
    if batch:
        yield batch


def _write(stage: int, blocks: Sequence[_Block]) -> None:
    opened: Wanted | None = None
    with contextlib.ExitStack() as stack:
        file = -1
        for block in blocks:
            if block.wanted is not opened:
                stack.close()
                file = os.open(block.wanted.name, _OPEN, 0o600, dir_fd=stage)
                stack.callback(os.close, file)
                opened = block.wanted
            _write_chunk(file, block.data, block.index * CHUNK_BYTES)
