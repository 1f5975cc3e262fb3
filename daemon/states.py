"""A job's life. Every transition stands in this one table; an absent arrow is an error.

                claim                    succeed
    queued ───────────────▶ running ───────────────▶ succeeded
      │  ▲                   │ │ │
      │  └──── requeue ──────┘ │ └── fail ─────────▶ failed
      │                        └──── cancel ───────▶ cancelled
      ├── cancel ──────────────────────────────────▶ cancelled
      └── fail ────────────────────────────────────▶ failed

`cancel_requested`, `not_before`, `lease_until` and `attempt` are columns, not states.
"""

from __future__ import annotations

from enum import StrEnum

from daemon.errors import IllegalTransition
from daemon.model import JobState


class Move(StrEnum):
    """What happens to a job."""

    CLAIM = "claim"
    REQUEUE = "requeue"
    SUCCEED = "succeed"
    FAIL = "fail"
    CANCEL = "cancel"


ARROWS: dict[tuple[JobState, Move], JobState] = {
    (JobState.QUEUED, Move.CLAIM): JobState.RUNNING,
    (JobState.QUEUED, Move.CANCEL): JobState.CANCELLED,
    (JobState.QUEUED, Move.FAIL): JobState.FAILED,
    (JobState.RUNNING, Move.REQUEUE): JobState.QUEUED,
    (JobState.RUNNING, Move.SUCCEED): JobState.SUCCEEDED,
    (JobState.RUNNING, Move.FAIL): JobState.FAILED,
    (JobState.RUNNING, Move.CANCEL): JobState.CANCELLED,
}

ENDED = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})


def after(state: JobState, move: Move) -> JobState:
    """The state that `move` leads to. Raises IllegalTransition where the table has no arrow."""
    try:
        return ARROWS[state, move]
    except KeyError:
        raise IllegalTransition(f"a {state} job cannot {move}") from None
