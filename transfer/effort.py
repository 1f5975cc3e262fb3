"""How hard zstd tries: harder while the wire is what the stream waits for, less while zstd is.

zstd's own `--adapt` does so by how full the buffers between its threads are (zstd's manual); here
the time that blocks took to compress is held against the time that they took to send.
"""

from __future__ import annotations

LEVEL_MIN = 1
LEVEL_MAX = 9  # what the levels beyond save is not worth the core

_JUDGED_BLOCKS = 4  # so many together: single ones wait for chance things
_SLACK_BELOW = 0.4  # of the sending's time: zstd may take longer
_SLACK_ABOVE = 0.8  # zstd is about to hold the stream back
_OWN_CORE = 0.7  # less than this part of its time on a core: others want it, too


class Effort:
    """The zstd level of a stream, from what its blocks took so far."""

    def __init__(self) -> None:
        self.level = LEVEL_MIN
        self._forget()

    def compressed(self, seconds: float, cpu_seconds: float) -> None:
        """A block took so long to compress, of it so long on a core."""
        self._blocks += 1
        self._seconds += seconds
        self._cpu_seconds += cpu_seconds

    def sent(self, seconds: float) -> None:
        """A block took so long to send."""
        self._sent_seconds += seconds
        if self._blocks >= _JUDGED_BLOCKS:
            self._judge()
            self._forget()

    def _judge(self) -> None:
        if self._seconds > _SLACK_ABOVE * self._sent_seconds:
            self.level = max(LEVEL_MIN, self.level - 1)
        elif (
            self._seconds < _SLACK_BELOW * self._sent_seconds
            and self._cpu_seconds >= _OWN_CORE * self._seconds
        ):
            self.level = min(LEVEL_MAX, self.level + 1)

    def _forget(self) -> None:
        self._blocks = 0
        self._seconds = self._cpu_seconds = self._sent_seconds = 0.0
