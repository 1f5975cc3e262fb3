"""Why a dataset is busy, by what was seen."""

from __future__ import annotations

import pytest

from transfer.command import Output
from transfer.errors import DatasetBusy
from transfer.storage import zfs_text
from transfer.storage.zfs_busy import (
    REASONS_MAX,
    Cause,
    Facts,
    explained,
    may_be_told_apart,
)
from transfer.storage.zfs_proc import Stream

M = "tank/mirrors/m"
BUSY = "cannot destroy 'x': dataset is busy"
ROWS = {
    M: {"userrefs": "-", "receive_resume_token": "-"},
    f"{M}@free": {"userrefs": "0", "receive_resume_token": "-"},
    f"{M}@held": {"userrefs": "2", "receive_resume_token": "-"},
    f"{M}@free-later": {"userrefs": "1", "receive_resume_token": "-"},
}
CUT = {M: {"receive_resume_token": "1-e604ea4bf-e0-789c"}}
MOUNTS = {(M, "/srv/m"), (f"{M}x", "/srv/mx")}
STREAMS = [
    Stream(7, "receive", M),
    Stream(8, "send", f"{M}@free"),
    Stream(9, "recv", f"{M}x"),
    Stream(10, "send", "tank/mirrors@a"),
]


def told(
    argv: str, rows: zfs_text.Rows = ROWS, said: str = BUSY, facts: Facts | None = None
) -> DatasetBusy:
    output = Output(("zfs", *argv.split()), 1, "", said)
    return explained(output, facts or Facts(rows, (), ()))


def causes(error: DatasetBusy) -> object:
    return error.evidence["causes"]


@pytest.mark.parametrize(
    ("argv", "found"),
    [
        (f"destroy {M}@held", [Cause.HOLD]),
        (f"destroy {M}@free", []),
        (f"destroy -r {M}", [Cause.HOLD]),
        (f"rename {M} tank/mirrors/n", []),
        ("destroy tank/elsewhere@held", []),
    ],
)
def test_holds(argv: str, found: list[Cause]) -> None:
    assert causes(told(argv)) == found


def test_a_hold_is_named() -> None:
    error = told(f"destroy {M}@held")
    assert error.message == f"zfs destroy: {BUSY} ({M}@held is held 2 times)"
    assert error.evidence["reasons"] == [f"{M}@held is held 2 times"]
    assert error.evidence["stderr"] == BUSY
    assert error.code == "DATASET_BUSY"


@pytest.mark.parametrize(
    ("argv", "found"),
    [
        (f"unmount {M}", ["mount"]),
        (f"rename {M} tank/mirrors/n", ["mount"]),
        (f"rollback {M}@free", ["mount"]),
        (f"destroy {M}@free", []),
        ("rename tank/mirrors tank/n", ["mount"]),
    ],
)
def test_mounts(argv: str, found: list[str]) -> None:
    rows = {**ROWS, "tank/mirrors": {}}
    assert causes(told(argv, facts=Facts(rows, MOUNTS, ()))) == found


def test_a_mount_below_is_named_and_one_beside_is_not() -> None:
    assert told(f"unmount {M}", facts=Facts(ROWS, MOUNTS, ())).evidence["reasons"] == [
        f"{M} is mounted at /srv/m"
    ]


def test_streams() -> None:
    error = told(f"rename {M} n", facts=Facts(ROWS, (), STREAMS))
    assert error.evidence["reasons"] == [
        f"process 7 runs zfs receive of {M}",
        f"process 8 runs zfs send of {M}@free",
    ]
    assert causes(error) == ["receive", "send"]
    assert causes(told(f"unmount {M}", facts=Facts(ROWS, (), STREAMS))) == []


def test_a_receive_that_was_cut() -> None:
    error = told(f"destroy {M}@free", rows=CUT)
    assert causes(error) == ["receive"]
    assert error.message.endswith(f"(a receive into {M} was cut and can be gone on with)")


@pytest.mark.parametrize(
    "said",
    [
        "cannot destroy 'x': snapshot has dependent clones\nuse '-R' to destroy\na/c",
        "cannot destroy 'x': snapshot is cloned\nno snapshots destroyed",
    ],
)
def test_clones(said: str) -> None:
    assert causes(told(f"destroy {M}@free", said=said)) == ["clone"]


def test_no_more_reasons_are_told_than_can_be_read() -> None:
    rows = {M: {}, **{f"{M}@{number}": {"userrefs": "1"} for number in range(1000)}}
    error = told(f"destroy -r {M}", rows=rows)
    assert causes(error) == ["hold"]
    assert error.message.count(" is held ") == REASONS_MAX


def test_without_a_reason_the_words_stay_as_they_are() -> None:
    error = told(f"destroy {M}@free")
    assert (error.message, error.evidence["reasons"]) == (f"zfs destroy: {BUSY}", [])


@pytest.mark.parametrize(
    ("said", "asked"),
    [
        (BUSY, True),
        ("cannot rollback 'a/m': I/O error", True),
        ("cannot destroy 'a/m@s': snapshot has dependent clones", True),
        ("cannot destroy 'a/m@s': snapshot is cloned", True),
        ("cannot destroy snapshot a/m@s: it's being held. Run 'zfs holds …", True),
        ("cannot destroy 'a/m': filesystem has children", False),
        ("cannot hold 'a/m@s': permission denied", False),
    ],
)
def test_what_is_clear_is_not_asked_for(said: str, asked: bool) -> None:
    assert may_be_told_apart(zfs_text.failure(Output(("zfs", "x"), 1, "", said))) is asked
