"""When a schedule has a sync begin."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from daemon.model import new_id
from daemon.schedule import JITTER, check, next_sync

T0 = datetime(2026, 1, 15, 10, 30, 20, tzinfo=UTC)  # a Thursday
ONE = "5" * 24


def minute(moment: datetime | None) -> str:
    """The due time that a moment belongs to."""
    return "never" if moment is None else f"{moment:%Y-%m-%d %H:%M}"


@pytest.mark.parametrize(
    ("text", "due"),
    [
        ("* * * * *", "2026-01-15 10:31"),
        ("30 10 * * *", "2026-01-16 10:30"),
        ("0 2 * * *", "2026-01-16 02:00"),
        ("*/15 * * * *", "2026-01-15 10:45"),
        ("0 0 1 * *", "2026-02-01 00:00"),
        ("0 3 * * 0", "2026-01-18 03:00"),
        ("0 3 * * 7", "2026-01-18 03:00"),
        ("0 3 * * sun", "2026-01-18 03:00"),
        ("0 3 13 * 5", "2026-01-16 03:00"),  # cron's: the 13th, or a Friday
        ("0 0 29 2 *", "2028-02-29 00:00"),
        ("\t0  2 * * 1-5,6 ", "2026-01-16 02:00"),
    ],
)
def test_the_next_due_time_is_cron_s_in_utc(text: str, due: str) -> None:
    check(text, T0)
    begins = next_sync(text, ONE, T0, T0)
    assert minute(begins) == due


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("daily", "five fields"),
        ("* * * *", "five fields"),
        ("0 * * * * *", "five fields"),
        ("60 * * * *", "bad minute"),
        ("*/0 * * * *", "bad minute"),
        ("0 24 * * *", "bad hour"),
        ("0 0 0 * *", "bad day-of-month"),
        ("0 0 31 2 *", "bad day-of-month"),
        ("0 0 * 13 *", "bad month"),
        ("0 0 * * 8", "bad day-of-week"),
        ("0 0 */31 2 1L", "never comes"),
    ],
)
def test_what_has_no_due_time_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        check(text, T0)
    if "fields" not in reason:
        assert next_sync(text, ONE, T0, T0) is None


def test_the_jitter_is_one_moment_a_container_and_due_time_and_below_a_minute() -> None:
    found = set()
    for container_id in (new_id() for _ in range(200)):
        begins = next_sync("0 2 * * *", container_id, T0, T0)
        assert begins is not None
        due = begins.replace(second=0, microsecond=0)
        assert minute(due) == "2026-01-16 02:00"
        assert begins - due < JITTER
        assert begins.microsecond % 1000 == 0  # what the catalogue keeps
        for at in (T0, due - timedelta(days=1), begins - timedelta(milliseconds=1)):
            assert next_sync("0 2 * * *", container_id, T0, at) == begins
        found.add(begins)
    assert len(found) > 190
    seconds = sorted(moment.second for moment in found)
    assert seconds[0] < 5
    assert seconds[-1] >= 55


def test_a_container_has_another_jitter_at_another_due_time() -> None:
    begins, found = T0, set()
    for _ in range(20):
        moment = next_sync("0 2 * * *", ONE, begins, begins)
        assert moment is not None
        begins = moment
        found.add(moment.time())
    assert len(found) == 20


@pytest.mark.parametrize("text", ["* * * * *", "*/5 * * * *", "0 * * * *"])
def test_who_looks_in_time_leaves_no_due_time_out_and_takes_none_twice(text: str) -> None:
    luck = Random(7)
    begins, taken = next_sync(text, ONE, T0, T0), []
    while len(taken) < 200:
        assert begins is not None
        taken.append(minute(begins))
        looked_at = begins + timedelta(seconds=luck.uniform(0, 0.5))
        begins = next_sync(text, ONE, begins, looked_at)
    step = {"*": 1, "*/5": 5, "0": 60}[text.split(maxsplit=1)[0]]
    first = datetime.strptime(taken[0], "%Y-%m-%d %H:%M").replace(tzinfo=UTC)
    assert taken == [minute(first + timedelta(minutes=step * number)) for number in range(200)]


# With all due times of fifty years looked at, one by one, the last would not come to its end.
AWAY = [timedelta(minutes=2), timedelta(days=3), timedelta(days=18_000)]


@pytest.mark.parametrize("away", AWAY)
def test_what_was_missed_is_left_out(away: timedelta) -> None:
    for container_id in (new_id() for _ in range(50)):
        begins = next_sync("* * * * *", container_id, T0, T0)
        assert begins is not None
        back = begins + away
        after = next_sync("* * * * *", container_id, begins, back)
        assert after is not None
        assert back < after < back + 2 * JITTER
