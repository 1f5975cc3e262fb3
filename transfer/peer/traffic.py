"""What moves through the channels of a process, by what it is a part of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from transfer.model import Strategy
from transfer.peer.channel import Meter
from transfer.peer.messages import PeerRequest, Send, StreamRequest, TreeRequest

BETWEEN = "none"  # what is said between the streams has no strategy


class Traffic:
    """Meters by strategy, and which jobs have streams now. Both sides of a link count a channel
    under its request, and so alike. `stalls` counts transfers that made no progress."""

    def __init__(self) -> None:
        self.meters: dict[str, Meter] = {}
        self.stalls = 0
        self._streams: Counter[str] = Counter()

    @property
    def wire_bytes(self) -> int:
        """Of all channels so far, both ways, after compression and before ssh."""
        return sum(meter.wire_bytes for meter in self.meters.values())

    @property
    def jobs_streaming(self) -> int:
        """How many jobs have a stream open."""
        return len(self._streams)

    def meter(self, request: PeerRequest) -> Meter:
        """The meter of a channel with this request."""
        return self.meters.setdefault(_strategy(request), Meter())

    @contextmanager
    def underway(self, request: PeerRequest) -> Iterator[None]:
        """A channel with this request is open."""
        if not isinstance(request, StreamRequest):
            yield
            return
        self._streams[request.job_id] += 1
        try:
            yield
        finally:
            self._streams[request.job_id] -= 1
            if not self._streams[request.job_id]:
                del self._streams[request.job_id]


def _strategy(request: PeerRequest) -> str:
    match request:
        case Send():
            return request.step.strategy
        case TreeRequest():
            return Strategy.FULL if request.whole else Strategy.CONTENT_DIFF
        case _:
            return BETWEEN
