"""`forking.py`, whose daemon can be made to hang in three places.

    python -m tests.fault.hanging run --config …

At SIGUSR1 its event loop stops in the middle of whatever it does, as in a call that never returns.
From when a file `SERVER.hang` lies beside the config, its engine's next round never ends. While a
file `SERVER.stuck` lies there, its storage does not answer.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from daemon import keeper
from daemon.engine import Engine
from tests.acceptance.nursery import fork_children
from tests.fault.freezing import run
from transfer.storage.directory import DirectoryStorage

SUFFIX = ".hang"
STUCK_SUFFIX = ".stuck"
ANSWER_SECONDS = 0.5
POLL_SECONDS = 0.05


def block_loop(_number: int, _frame: object) -> None:
    """What the loop is in the middle of, for ever."""
    while True:
        signal.pause()


def hang_engine(order: Path) -> None:
    """Has every engine of this process look for the order before a round."""
    come_round = Engine._round

    async def hanging(engine: Engine) -> None:
        if order.exists():
            await asyncio.Event().wait()
        await come_round(engine)

    Engine._round = hanging  # type: ignore[method-assign]  # the stage


def hang_storage(order: Path) -> None:
    """Has this process' storage look for the order before it is read."""
    check = DirectoryStorage.read_check

    async def hanging(storage: DirectoryStorage) -> None:
        while order.exists():
            await asyncio.sleep(POLL_SECONDS)
        await check(storage)

    DirectoryStorage.read_check = hanging  # type: ignore[method-assign]  # the stage
    keeper.ANSWER_SECONDS = ANSWER_SECONDS


if __name__ == "__main__":
    fork_children()
    if sys.argv[1] == "keeper":
        hang_storage(Path(sys.argv[-1]).with_suffix(STUCK_SUFFIX))
    if sys.argv[1] == "run":
        signal.signal(signal.SIGUSR1, block_loop)
        hang_engine(Path(sys.argv[-1]).with_suffix(SUFFIX))
    run()
