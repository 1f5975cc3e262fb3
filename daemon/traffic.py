"""What transfers move is counted where it moves, in workers and exporters, and told to the daemon,
which counts it for Prometheus.

A child tells what has moved since it last did, twice a second and when a job ends. What a child
that is killed has not told is lost: half a second's worth.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from daemon.lines import Message
from daemon.metrics import DIRECTIONS, Metrics
from transfer.peer.traffic import Traffic

TELL_SECONDS = 0.5

Tell = Callable[[Message], None]


@dataclass(frozen=True, slots=True)
class Now:
    """How a child's transfers stand."""

    streaming: int = 0
    remaining_bytes: int = 0


class Teller:
    """A child's side. `traffic` gives what it counts with, once there is any; `remaining` the
    logical bytes that are still to come."""

    def __init__(
        self,
        direction: str,
        traffic: Callable[[], Traffic | None],
        remaining: Callable[[], int] = lambda: 0,
    ) -> None:
        self._direction = direction
        self._traffic = traffic
        self._remaining = remaining
        self._told: dict[str, tuple[int, int]] = {}
        self._told_stalls = 0
        self._told_now = Now()

    async def keep_telling(self, tell: Tell) -> None:
        """Tells now and then, for ever."""
        while True:
            await asyncio.sleep(TELL_SECONDS)
            self.tell(tell)

    def tell(self, tell: Tell, *, ended: bool = False) -> None:
        """Tells what is new, if anything is; `ended`: nothing is under way any more."""
        traffic = self._traffic()
        if traffic is None:
            return
        now = Now() if ended else Now(traffic.jobs_streaming, self._remaining())
        moved = {}
        for strategy, meter in traffic.meters.items():
            logical, wire = meter.logical_bytes, meter.wire_bytes
            before = self._told.get(strategy, (0, 0))
            if (logical, wire) != before:
                moved[strategy] = [logical - before[0], wire - before[1]]
                self._told[strategy] = (logical, wire)
        stalls = traffic.stalls - self._told_stalls
        if not moved and not stalls and now == self._told_now:
            return
        self._told_stalls, self._told_now = traffic.stalls, now
        news = {
            "direction": self._direction,
            "moved": moved,
            "stalls": stalls,
            "streaming": now.streaming,
            "remaining": now.remaining_bytes,
        }
        tell({"traffic": news})


class Counting:
    """The daemon's side."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._now: dict[str, tuple[str, Now]] = {}

    def heard(self, child: str, message: Message) -> bool:
        """Takes down what a child, by any name, has told of its transfers; False for other news."""
        news = cast("Message | None", message.get("traffic"))
        if news is None:
            return False
        direction = str(news["direction"])
        moved = cast("dict[str, tuple[int, int]]", news["moved"])
        for strategy, (logical, wire) in moved.items():
            count = self._metrics.transfer_bytes
            count.labels(direction, strategy, "logical").inc(logical)
            count.labels(direction, strategy, "wire").inc(wire)
        self._metrics.stalls.inc(cast("int", news["stalls"]))
        now = Now(cast("int", news["streaming"]), cast("int", news["remaining"]))
        self._now[child] = (direction, now)
        self._show()
        return True

    def gone(self, child: str) -> None:
        """It has ended, however that was, or its job has."""
        if self._now.pop(child, None):
            self._show()

    def _show(self) -> None:
        for direction in DIRECTIONS:
            streaming = sum(now.streaming for way, now in self._now.values() if way == direction)
            self._metrics.transfers_active.labels(direction).set(streaming)
        remaining = sum(now.remaining_bytes for _, now in self._now.values())
        self._metrics.bytes_remaining.set(remaining)
