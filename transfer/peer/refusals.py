"""What peers are refused, and what fails for them, told in the log: a line each, and no more
lines than an operator can read."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable

LINES_MAX = 20  # about one peer, in LINES_SECONDS
LINES_SECONDS = 60.0
STRANGERS = ""  # who has not logged in: all of them share their lines

log = logging.getLogger("hoody.peer")


class Refusals:
    """Tells of them. A peer that is refused again and again cannot fill the disk with lines, nor
    keep what another is refused from being told."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began: dict[str, float] = {}
        self._told: Counter[str] = Counter()

    def tell(
        self, peer_id: str, what: str, level: int = logging.WARNING, job_id: str | None = None
    ) -> None:
        """A line about it, unless the peer has had its share of them; with the job that it was
        for, where that is known."""
        at = self._clock()
        if at - self._began.setdefault(peer_id, at) >= LINES_SECONDS:
            self._began[peer_id] = at
            del self._told[peer_id]
        self._told[peer_id] += 1
        if self._told[peer_id] <= LINES_MAX:
            ids = {"peer_id": peer_id or None, "job_id": job_id}
            known = {name: value for name, value in ids.items() if value}
            log.log(level, "%s: %.200s", peer_id or "a stranger", what, extra=known)
        elif self._told[peer_id] == LINES_MAX + 1:
            log.warning("%s: more is refused than is told of", peer_id or "a stranger")
