"""What the log says of peers that are refused: all of it, unless it is too much."""

from __future__ import annotations

import logging

import pytest

from transfer.peer.refusals import LINES_MAX, LINES_SECONDS, STRANGERS, Refusals


class Clock:
    """A time that a test sets."""

    seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def refusals(clock: Clock, caplog: pytest.LogCaptureFixture) -> Refusals:
    caplog.set_level(logging.INFO)
    return Refusals(clock)


def test_each_is_told_of(refusals: Refusals, caplog: pytest.LogCaptureFixture) -> None:
    refusals.tell("one", "asks for a shell")
    refusals.tell(STRANGERS, "unknown server or key: 'root'")
    refusals.tell("one", "SNAPSHOT_MISSING: it is gone", logging.INFO)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "one: asks for a shell"),
        ("WARNING", "a stranger: unknown server or key: 'root'"),
        ("INFO", "one: SNAPSHOT_MISSING: it is gone"),
    ]


def test_a_peer_has_its_share_of_lines(
    refusals: Refusals, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """However often it is refused; the others still have theirs, and it has as much again later."""
    for number in range(1000):
        refusals.tell("loud", f"asks for shell {number}")
    said = [record.getMessage() for record in caplog.records]
    assert said[:LINES_MAX] == [f"loud: asks for shell {number}" for number in range(LINES_MAX)]
    assert said[LINES_MAX:] == ["loud: more is refused than is told of"]

    refusals.tell("quiet", "asks for a shell")
    assert caplog.messages[-1] == "quiet: asks for a shell"

    clock.seconds += LINES_SECONDS - 1
    refusals.tell("loud", "asks again")
    assert len(caplog.records) == LINES_MAX + 2
    clock.seconds += 1
    refusals.tell("loud", "asks later")
    assert caplog.messages[-1] == "loud: asks later"
    for _ in range(1000):
        refusals.tell("loud", "asks for a shell")
    assert len(caplog.records) == 2 * LINES_MAX + 3


def test_a_line_has_an_end(refusals: Refusals, caplog: pytest.LogCaptureFixture) -> None:
    refusals.tell("one", "x" * 100_000)
    assert len(caplog.messages[0]) < 300
