"""`hoodyd demo`: it reaches its figures, and leaves nothing behind, also after Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event

import psutil
import pytest

from daemon.demo import trees

DEMO_SECONDS = 540
BEGIN_SECONDS = 240
STOP_SECONDS = 90
POLL_SECONDS = 0.02
OPERATIONS = (
    "take in: ",
    "copy, same server: ",
    "copy, other server: ",
    "second copy there: ",
    "sync, same server: ",
    "sync, other server: ",
    "sync, unchanged source: ",
)


@pytest.fixture(autouse=True)
def ctrl_c() -> Iterator[None]:
    """A shell that runs tests in the background has them ignore Ctrl-C, and so their children."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@contextmanager
def _demo(scratch: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The demo, with its directory in `scratch`; whatever it has started ends with the test."""
    with (scratch / "said").open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "daemon", "demo"],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            env={**os.environ, "TMPDIR": str(scratch)},
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for left in _processes(scratch):
            with suppress(psutil.NoSuchProcess):
                left.kill()


def _processes(scratch: Path) -> list[psutil.Process]:
    """Those whose command line names a directory of the demo."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            if any(str(scratch) in argument for argument in process.cmdline()):
                found.append(process)
    return found


def _assert_nothing_left(scratch: Path) -> None:
    assert os.listdir(scratch) == ["said"]
    assert _processes(scratch) == []
    assert str(scratch) not in Path("/proc/self/mountinfo").read_text()


def test_it_reaches_its_figures(tmp_path: Path) -> None:
    with _demo(tmp_path) as process:
        status = process.wait(DEMO_SECONDS)
        said = (tmp_path / "said").read_text()
        assert status == 0, said
        table = said.index("Two servers on this machine")
        for step in ("Starting", "Gathering", *OPERATIONS):
            assert 0 <= said.find(step) < table, step
        assert said.count("trees equal") == 2
        _assert_nothing_left(tmp_path)


@pytest.mark.parametrize(
    ("begun", "number"),
    [("import/tree/lib", signal.SIGINT), ("demo-a-storage/mirrors/*", signal.SIGTERM)],
)
def test_an_interrupted_one_leaves_nothing(
    tmp_path: Path, begun: str, number: signal.Signals
) -> None:
    """While the demo itself works on a tree, and while its servers do; a second signal changes
    nothing."""
    with _demo(tmp_path) as process:
        deadline = time.monotonic() + BEGIN_SECONDS
        while not list(tmp_path.glob(f"hoody-demo-*/{begun}")):
            assert process.poll() is None, (tmp_path / "said").read_text()
            assert time.monotonic() < deadline
            time.sleep(POLL_SECONDS)
        assert _processes(tmp_path)
        process.send_signal(number)
        deadline = time.monotonic() + STOP_SECONDS
        while process.poll() is None:
            assert time.monotonic() < deadline, "it does not end"
            time.sleep(1)
            process.send_signal(number)
        assert process.returncode == 130, (tmp_path / "said").read_text()
        _assert_nothing_left(tmp_path)


def test_work_on_trees_can_be_stopped(tmp_path: Path) -> None:
    """For the demo waits for its threads when it ends."""
    (tmp_path / "one").mkdir()
    (tmp_path / "one/file").touch()
    stop = Event()
    stop.set()
    with pytest.raises(trees.Stopped):
        trees.gather(str(tmp_path / "tree"), stop)
    with pytest.raises(trees.Stopped):
        trees.differences(str(tmp_path / "one"), str(tmp_path / "one"), 1, stop)
