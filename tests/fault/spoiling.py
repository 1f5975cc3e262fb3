"""`hoodyd` whose exporters spoil what they send, between the frames and the channel.

    python -m tests.fault.spoiling run --config …

While the file `spoil` lies beside the config, each stream that carries content has the fault that
the file names: at its first large frame, or, for `cut`, where its trailer would be.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from weakref import WeakKeyDictionary

from daemon.cli import main
from tests.acceptance.nursery import fork_children
from transfer.frames import HEADER_BYTES, FrameType
from transfer.peer.server import ServerChannel

FAULTS = ("flip", "drop", "double", "reorder", "cut")
ORDER = "spoil"
LARGE_BYTES = 64 << 10


class Stage:
    """What one channel's frames pass through."""

    def __init__(self, order: Path) -> None:
        self._order = order
        self._met = False  # the first large frame
        self._held = b""
        self._come = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What is sent in place of these bytes, which need not be whole frames."""
        self._come += data
        while len(self._come) >= HEADER_BYTES:
            end = HEADER_BYTES + int.from_bytes(self._come[4:8], "big")
            if len(self._come) < end:
                return
            frame, self._come = self._come[:end], self._come[end:]
            yield from self.passes(frame)

    def passes(self, frame: bytes) -> Iterator[bytes]:
        """What is sent in the frame's place."""
        fault = self._order.read_text() if self._order.exists() else ""
        if self._held:
            yield from (frame, self._held)
            self._held = b""
        elif fault == "cut" and self._met and frame[0] == FrameType.TRAILER:
            return
        elif fault and not self._met and len(frame) >= LARGE_BYTES:
            self._met = True
            yield from self._spoilt(frame, fault)
        else:
            yield frame

    def _spoilt(self, frame: bytes, fault: str) -> Iterator[bytes]:
        middle = len(frame) // 2
        match fault:
            case "flip":
                yield frame[:middle] + bytes([frame[middle] ^ 1]) + frame[middle + 1 :]
            case "double":
                yield from (frame, frame)
            case "reorder":
                self._held = frame
            case "cut":
                yield frame


def spoil_streams(order: Path) -> None:
    """Puts a stage before every channel of this process."""
    send = ServerChannel.send
    stages: WeakKeyDictionary[ServerChannel, Stage] = WeakKeyDictionary()

    async def through_stage(channel: ServerChannel, data: bytes) -> None:
        stage = stages.setdefault(channel, Stage(order))
        for piece in stage.feed(data):
            await send(channel, piece)

    ServerChannel.send = through_stage  # type: ignore[method-assign,assignment]  # the stage


if __name__ == "__main__":
    fork_children()
    if sys.argv[1] == "exporter":
        spoil_streams(Path(sys.argv[-1]).parent / ORDER)
    main()
