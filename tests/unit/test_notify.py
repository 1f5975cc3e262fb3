"""What the service manager is told, by a real socket."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from daemon import notify
from daemon.notify import Manager
from tests.service_manager import Listener


@pytest.fixture(params=["path", "abstract"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Listener]:
    address = f"@hoody-tests-{os.getpid()}" if request.param == "abstract" else f"{tmp_path}/notify"
    with Listener(address) as listener:
        yield listener


def test_a_message_has_a_line_for_each_state(listener: Listener) -> None:
    manager = Manager.from_environment({"NOTIFY_SOCKET": listener.address})
    manager.tell("READY=1", "STATUS=ready")
    manager.tell("STOPPING=1")
    assert listener.hear() == ["READY=1", "STATUS=ready"]
    assert listener.hear() == ["STOPPING=1"]


@pytest.mark.parametrize("address", ["", "relative", "vsock:2:1234"])
def test_nobody_is_told_anything(address: str) -> None:
    environ = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"} if address else {}
    manager = Manager.from_environment(environ)
    manager.tell("READY=1")
    assert manager.watchdog_seconds is None


def test_children_do_not_inherit_what_names_the_manager() -> None:
    environ = {
        "HOME": "/root",
        "NOTIFY_SOCKET": "/nowhere",
        "WATCHDOG_USEC": "90000000",
        "WATCHDOG_PID": str(os.getpid()),
    }
    assert Manager.from_environment(environ).watchdog_seconds == 90
    assert environ == {"HOME": "/root"}


@pytest.mark.parametrize(
    "watchdog",
    [{}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_PID": "1"}],
    ids=["none", "off", "nonsense", "of another process"],
)
def test_who_is_not_watched(watchdog: dict[str, str]) -> None:
    given = {"NOTIFY_SOCKET": "/nowhere"}
    if "WATCHDOG_PID" in watchdog:
        given["WATCHDOG_USEC"] = "90000000"
    assert Manager.from_environment(given | watchdog).watchdog_seconds is None


def test_a_manager_that_is_gone_ends_nothing(tmp_path: Path) -> None:
    with capture_logs() as logged:
        Manager(f"{tmp_path}/gone").tell("READY=1")
    (line,) = logged
    assert (line["event"], line["told"]) == ("the service manager does not hear", "READY=1")


def test_a_manager_that_reads_nothing_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify, "SEND_SECONDS", 0.01)
    with Listener(f"{tmp_path}/notify") as listener, capture_logs() as logged:
        manager = Manager(listener.address)
        while not logged:
            manager.tell("WATCHDOG=1")
        assert listener.hear() == ["WATCHDOG=1"]
