"""When a failed attempt is tried again. Pure.

Exponential backoff with full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter",
2015): many jobs that failed for one reason do not come back at one time.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

FIRST_DELAY_SECONDS = 2.0
LAST_DELAY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Policy:
    """`attempts_max` tries at most, and none that would begin later than `seconds_max` after the
    first began: whichever ends first."""

    attempts_max: int
    seconds_max: float


def next_attempt(
    policy: Policy, attempt: int, began: datetime, now: datetime, luck: float
) -> datetime | None:
    """When the attempt after `attempt` (1 for the first) may begin; None when it is enough.

    `luck` is a number from 0 to 1, drawn by the caller.
    """
    if attempt >= policy.attempts_max:
        return None
    ceiling = min(LAST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2 ** (attempt - 1))
    at = now + timedelta(seconds=ceiling * luck)
    return at if at <= began + timedelta(seconds=policy.seconds_max) else None
