"""When a failed attempt is tried again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from daemon.retry import LAST_DELAY_SECONDS, Policy, next_attempt

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
POLICY = Policy(attempts_max=8, seconds_max=1800)


def test_the_first_retry_comes_within_two_seconds() -> None:
    at = next_attempt(POLICY, 1, BEGAN, BEGAN, 1.0)
    assert at is not None
    assert at - BEGAN <= timedelta(seconds=2)


def test_delays_grow_to_a_ceiling() -> None:
    last = next_attempt(Policy(100, 1e6), 50, BEGAN, BEGAN, 1.0)
    assert last == BEGAN + timedelta(seconds=LAST_DELAY_SECONDS)


def test_jitter_is_full() -> None:
    assert next_attempt(POLICY, 5, BEGAN, BEGAN, 0.0) == BEGAN


def test_attempts_are_counted() -> None:
    assert next_attempt(POLICY, 7, BEGAN, BEGAN, 0.0) is not None
    assert next_attempt(POLICY, 8, BEGAN, BEGAN, 0.0) is None


def test_time_is_counted() -> None:
    late = BEGAN + timedelta(seconds=1800)
    assert next_attempt(POLICY, 2, BEGAN, late, 0.0) is not None
    assert next_attempt(POLICY, 2, BEGAN, late, 0.5) is None
