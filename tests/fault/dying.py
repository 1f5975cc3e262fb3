"""`hoodyd` that dies, once, between a commit and the answer: where a test has put a file.

    python -m tests.fault.dying run --config …

The file stands beside the config: `answering` is where all is committed and nothing is sent,
`waiting` where the job is queued that the answer waits for.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from daemon.api import routing, waiting
from daemon.cli import main
from tests.acceptance.nursery import fork_children

PLACES = ("answering", "waiting")


def dies_before(function: Callable[..., Any], order: Path) -> Callable[..., Any]:
    """The function, which kills its process in place of its work, where that is ordered."""

    def called(*arguments: Any) -> Any:
        if order.exists():
            order.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments)

    return called


if __name__ == "__main__":
    fork_children()
    if sys.argv[1] == "run":
        beside = Path(sys.argv[-1]).parent
        routing._enveloped = dies_before(routing._enveloped, beside / "answering")
        waiting.until_ended = dies_before(waiting.until_ended, beside / "waiting")
    main()
