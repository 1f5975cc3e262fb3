"""What runs and is mounted, read from /proc."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stand_in_zfs import Start, stand_ins
from transfer.storage.zfs_proc import Stream, mounted, parent_of, stream_of, streams


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with stand_ins(tmp_path) as make:
        yield make


@pytest.mark.parametrize(
    ("verb", "words", "receives"),
    [
        ("receive", ("-s", "-u", "tank/a"), True),
        ("recv", ("tank/a",), True),
        ("send", ("-i", "tank/a@1", "tank/a@2"), False),
    ],
)
def test_streams_are_found(start: Start, verb: str, words: tuple[str, ...], receives: bool) -> None:
    pid = start(verb, *words)
    stream = Stream(pid, verb, words[-1])
    assert stream_of(pid) == stream
    assert stream in streams()
    assert stream.receives is receives


@pytest.mark.parametrize(("verb", "words"), [("list", ("tank/a",)), ("receive", ())])
def test_other_processes_are_no_streams(start: Start, verb: str, words: tuple[str, ...]) -> None:
    pid = start(verb, *words)
    assert stream_of(pid) is None
    assert pid not in {stream.pid for stream in streams()}


def test_parents(start: Start) -> None:
    assert parent_of(start("send", "tank/a@1", left=False)) == os.getpid()
    assert parent_of(start("send", "tank/a@1")) != os.getpid()
    assert parent_of(os.getpid()) == os.getppid()


def test_what_is_gone_is_nothing() -> None:
    with open("/proc/sys/kernel/pid_max", encoding="ascii") as file:
        beyond = int(file.read()) + 1
    assert stream_of(beyond) is None
    assert parent_of(beyond) is None


def test_what_is_mounted_has_names_and_directories() -> None:
    assert all(not name.startswith("/") and at.startswith("/") for name, at in mounted())
