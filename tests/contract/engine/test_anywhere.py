"""What may happen to a job of any type after any call of a storage and any commit: a cancel, and
that it loses its lease to another attempt. (That it is killed: test_attempts, and for real in
tests/fault/test_failpoints.)"""

from __future__ import annotations

from contextlib import suppress

import pytest

from daemon.errors import JobError, LeaseLost
from daemon.states import Move
from tests.contract.engine.errands import ERRANDS, Begin
from tests.engine_world import World
from tests.mortal import Cancel, Sleep, all_rows, attempt, clean, run
from transfer.errors import TransferError

CALLS_MAX = 300

anywhere = pytest.mark.parametrize("begin", ERRANDS.values(), ids=ERRANDS.keys())


@anywhere
async def test_a_cancel(world: World, begin: Begin) -> None:
    """In time it leaves everything as it was. Too late it is refused, and the job ends well; from
    then on it stays too late."""
    granted: list[bool] = []
    for number in range(1, CALLS_MAX):
        errand = await begin(world)
        cancel = Cancel(number, world, errand.job)
        ended = await attempt(world, errand.job, cancel, Move.CANCEL)
        assert ended is not cancel.granted
        await (errand.undone if cancel.granted else errand.done)()
        if not cancel.blown:
            break
        granted.append(cancel.granted)
    else:
        pytest.fail("an attempt has more calls than expected")
    assert granted == sorted(granted, reverse=True)
    assert not granted[-1]
    await clean(world)


@anywhere
async def test_a_lost_lease(world: World, begin: Begin) -> None:
    """The attempt that wakes up writes nothing to the catalogue, and its job is done once."""
    for number in range(1, CALLS_MAX):
        errand = await begin(world)
        sleeper = await world.claim(errand.job)
        sleep = Sleep(number, world, sleeper)
        with suppress(LeaseLost, JobError, TransferError):
            await run(world, sleeper, sleep)
        if not sleep.blown:
            break
        assert await all_rows(world) == sleep.after
        await errand.done()
    else:
        pytest.fail("an attempt has more calls than expected")
    await world.end(sleeper)
    await clean(world)
