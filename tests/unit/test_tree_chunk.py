"""Chunks: counts, digests, and sparse copies of one file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from transfer.tree.chunk import (
    CHUNK_BYTES,
    DIGEST_BYTES,
    EMPTY_DIGEST,
    ZERO_DIGEST,
    chunk_at,
    chunk_bytes,
    chunk_count,
    content_digest,
    copy_file,
    data_bytes,
    digest,
    hash_file,
)


@pytest.mark.parametrize(
    ("size", "count", "last"),
    [
        (1, 1, 1),
        (CHUNK_BYTES - 1, 1, CHUNK_BYTES - 1),
        (CHUNK_BYTES, 1, CHUNK_BYTES),
        (CHUNK_BYTES + 1, 2, 1),
        (5 * CHUNK_BYTES, 5, CHUNK_BYTES),
    ],
)
def test_a_file_is_cut_into_chunks(size: int, count: int, last: int) -> None:
    assert chunk_count(size) == count
    assert chunk_bytes(size, count - 1) == last


def test_an_empty_file_has_no_chunk(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with (tmp_path / "empty").open("rb") as file:
        chunks, size = hash_file(file.fileno())
    assert (chunks, size, chunk_count(0)) == (b"", 0, 0)
    assert content_digest(chunks) == EMPTY_DIGEST


def test_a_digest_covers_every_chunk(tmp_path: Path) -> None:
    content = os.urandom(2 * CHUNK_BYTES + 7)
    (tmp_path / "file").write_bytes(content)
    with (tmp_path / "file").open("rb") as file:
        chunks, size = hash_file(file.fileno())
    assert size == len(content)
    assert len(chunks) == 3 * DIGEST_BYTES
    assert chunk_at(chunks, 2) == digest(content[2 * CHUNK_BYTES :])
    assert content_digest(chunks) == digest(chunks)


def test_a_copy_keeps_content_and_holes(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    with source.open("wb") as file:
        os.pwrite(file.fileno(), b"head", 0)
        os.pwrite(file.fileno(), b"middle", 20 * CHUNK_BYTES + 5000)
        os.ftruncate(file.fileno(), 50 * CHUNK_BYTES + 3)
    with source.open("rb") as file, target.open("wb") as copy:
        chunks, size = copy_file(file.fileno(), copy.fileno())
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_blocks <= source.stat().st_blocks
    assert chunk_at(chunks, 1) == ZERO_DIGEST
    assert data_bytes(size, chunks) == 2 * CHUNK_BYTES + 3


def test_written_zeros_become_holes(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(bytes(8 * CHUNK_BYTES) + b"end")
    with source.open("rb") as file, target.open("wb") as copy:
        copy_file(file.fileno(), copy.fileno())
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_blocks <= 8
