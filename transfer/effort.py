"""How hard zstd tries: harder while the stream waits for the wire, else as little as it may; and
not at all where the wire has room and others want the cores.

zstd's own `--adapt` goes by how full the buffers between its threads are (zstd's manual). Those of
a stream that a slow disk takes are as full as those of one on a slow wire; so here it is asked how
long the wire was at work.
"""

from __future__ import annotations

from dataclasses import dataclass

LEVEL_NONE = 0  # blocks go as they are; now and then one is tried at LEVEL_MIN
LEVEL_MIN = 1
LEVEL_MAX = 9  # what the levels beyond save is not worth the core

_JUDGED_BLOCKS = 8  # so many together: single ones wait for chance things
_WIRE_LIMITS = 0.5  # of the time: the wire was at work
_SLACK_BELOW = 0.4  # of the time: zstd may take longer
_SLACK_ABOVE = 0.8  # zstd is about to hold the stream back
_OWN_CORE = 0.7  # less than this part of its time on a core: others want it, too
# Roughly where zstd costs as much as to encrypt, send and take what it saves; `make bench` has both
# (the pipe, by stage), and machines differ.
_CHEAP_SHARE = 1 / 3


@dataclass
class _Seen:
    """What blocks took since the last judgement."""

    blocks: int = 0
    seconds: float = 0.0
    wire_seconds: float = 0.0
    tries: int = 0
    zstd_seconds: float = 0.0
    cpu_seconds: float = 0.0
    share: float = 0.0


class Effort:
    """The zstd level of a stream, from what its blocks took so far."""

    def __init__(self) -> None:
        self.level = LEVEL_MIN
        self._seen = _Seen()

    def compressed(self, seconds: float, cpu_seconds: float, share: float) -> None:
        """A block took so long to compress, of it so long on a core, and shrank to this share."""
        seen = self._seen
        seen.zstd_seconds += seconds
        seen.cpu_seconds += cpu_seconds
        seen.tries += 1
        seen.share += share

    def sent(self, seconds: float, wire_seconds: float) -> None:
        """A block left so long after the one before; for so long of it the wire was at work."""
        seen = self._seen
        seen.blocks += 1
        seen.seconds += seconds
        seen.wire_seconds += wire_seconds
        if seen.blocks >= _JUDGED_BLOCKS:
            self.level = self._judged(seen)
            self._seen = _Seen()

    def _judged(self, seen: _Seen) -> int:
        alone = seen.cpu_seconds >= _OWN_CORE * seen.zstd_seconds
        if seen.wire_seconds <= _WIRE_LIMITS * seen.seconds:
            cheap = seen.share <= _CHEAP_SHARE * seen.tries
            lowest = LEVEL_MIN if alone or cheap else LEVEL_NONE
            return max(lowest, self.level - 1)
        if self.level == LEVEL_NONE:
            return LEVEL_MIN
        if seen.zstd_seconds > _SLACK_ABOVE * seen.seconds:
            return max(LEVEL_MIN, self.level - 1)
        if alone and seen.zstd_seconds < _SLACK_BELOW * seen.seconds:
            return min(LEVEL_MAX, self.level + 1)
        return self.level
