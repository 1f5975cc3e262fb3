"""A container's log: bounded, and never in the way of what writes it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from daemon.runtime.monitor import BLOCK_BYTES, LOG_BYTES_MAX, Log


def test_the_newest_output_is_kept_within_bounds(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with closing(Log(str(path))) as log:
        for number in range(5 * LOG_BYTES_MAX // BLOCK_BYTES):
            log.write(bytes([number]) * BLOCK_BYTES)
    files = [path.with_name("log.1").read_bytes(), path.read_bytes()]
    assert all(LOG_BYTES_MAX - BLOCK_BYTES <= len(file) <= LOG_BYTES_MAX for file in files)
    kept = b"".join(files)
    assert kept[-1] == number
    newest = [kept[at] for at in range(0, len(kept), BLOCK_BYTES)]
    assert newest == list(range(number - len(newest) + 1, number + 1))
    assert sorted(tmp_path.iterdir()) == [path, path.with_name("log.1")]


def test_it_goes_on_where_the_last_run_ended(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for text in (b"first\n", b"second\n"):
        with closing(Log(str(path))) as log:
            log.write(text)
    assert path.read_bytes() == b"first\nsecond\n"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_disk_that_takes_nothing_costs_output_alone(tmp_path: Path) -> None:
    """Played by a directory that goes: then no file can be made."""
    folder = tmp_path / "run"
    folder.mkdir()
    with closing(Log(str(folder / "log"))) as log:
        log.write(b"x" * LOG_BYTES_MAX)
        folder.rename(tmp_path / "away")
        log.write(b"lost")
        log.write(b"lost, too")
        (tmp_path / "away").rename(folder)
        log.write(b"kept")
    assert (folder / "log").read_bytes().endswith(b"kept")
