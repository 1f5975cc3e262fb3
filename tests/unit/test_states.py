"""The job's state table: every cell."""

from __future__ import annotations

import itertools

import pytest

from daemon.errors import IllegalTransition
from daemon.model import JobState
from daemon.states import ARROWS, ENDED, Move, after


@pytest.mark.parametrize(("state", "move"), list(itertools.product(JobState, Move)))
def test_every_cell_is_an_arrow_or_an_error(state: JobState, move: Move) -> None:
    if (state, move) in ARROWS:
        assert after(state, move) is ARROWS[state, move]
    else:
        with pytest.raises(IllegalTransition, match=f"a {state} job cannot {move}"):
            after(state, move)


def test_nothing_leaves_an_end() -> None:
    assert not [state for state, _ in ARROWS if state in ENDED]


def test_every_state_can_be_reached_and_left() -> None:
    assert set(ARROWS.values()) == set(JobState)
    assert {state for state, _ in ARROWS} == set(JobState) - ENDED
