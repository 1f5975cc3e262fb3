"""A receive that nobody feeds any more is ended; what else runs is left alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stand_in_zfs import Start, stand_ins
from transfer.errors import DatasetBusy
from transfer.storage import zfs_stale
from transfer.storage.zfs_proc import stream_of
from transfer.storage.zfs_stale import end_stale

NAME = "tank/mirrors/m"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with stand_ins(tmp_path) as make:
        yield make


async def test_those_into_the_dataset_are_ended(start: Start) -> None:
    stale = [start("receive", "-s", "-u", NAME), start("recv", NAME)]
    for _ in range(2):
        await end_stale(NAME)
        assert [stream_of(pid) for pid in stale] == [None, None]


async def test_others_are_left_alone(start: Start) -> None:
    others = [
        start("receive", NAME, left=False),
        start("receive", f"{NAME}/below"),
        start("receive", f"{NAME}x"),
        start("receive", "-o", f"origin={NAME}@1", "tank/mirrors/n"),
        start("send", NAME),
    ]
    await end_stale(NAME)
    assert all(stream_of(pid) for pid in others)


async def test_one_that_does_not_heed_is_killed(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zfs_stale, "TERM_SECONDS", 0.1)
    stale = start("receive", NAME, deaf=True)
    await end_stale(NAME)
    assert stream_of(stale) is None


async def test_one_that_does_not_end_is_told(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("TERM_SECONDS", "KILL_SECONDS"):
        monkeypatch.setattr(zfs_stale, limit, 0.1)
    # One that sleeps in the kernel cannot be made here: no signal reaches this one either.
    monkeypatch.setattr(zfs_stale.signal, "pidfd_send_signal", lambda *_: None)
    stale = start("receive", NAME)
    with pytest.raises(DatasetBusy, match=f"process {stale} receives into {NAME}") as busy:
        await end_stale(NAME)
    assert busy.value.evidence["causes"] == ["receive"]
    assert busy.value.evidence["pid"] == stale


async def test_one_of_another_user_is_told(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    # Whether this user is root is not the test's to say.
    monkeypatch.setattr(zfs_stale.signal, "pidfd_send_signal", refuse)
    stale = start("receive", NAME)
    with pytest.raises(DatasetBusy):
        await end_stale(NAME)
    assert stream_of(stale) is not None
