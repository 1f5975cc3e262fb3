"""`forking.py`, whose daemon can be made to hang in two places.

    python -m tests.fault.hanging run --config …

At SIGUSR1 its event loop stops in the middle of whatever it does, as in a call that never returns.
From when a file `SERVER.hang` lies beside the config, its engine's next round never ends.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from daemon.engine import Engine
from tests.acceptance.nursery import fork_children
from tests.fault.freezing import run

SUFFIX = ".hang"


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


if __name__ == "__main__":
    fork_children()
    if sys.argv[1] == "run":
        signal.signal(signal.SIGUSR1, block_loop)
        hang_engine(Path(sys.argv[-1]).with_suffix(SUFFIX))
    run()
