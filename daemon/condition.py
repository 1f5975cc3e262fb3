"""How this server's parts are, as its children last said."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from daemon.children import Child
from daemon.lines import Message
from daemon.model import Job
from transfer.model import Capacity

FIRST_ANSWER_POLL_SECONDS = 0.2


@dataclass
class Condition:
    """What readyz and the heartbeat tell the world."""

    storage_failure: str | None = "the keeper has not answered yet"
    capacity: Capacity | None = None
    heard_at: float = field(default_factory=time.monotonic)
    keeper: Child | None = None
    mounted: asyncio.Event = field(default_factory=asyncio.Event)
    listening: set[int] = field(default_factory=set)
    announced: bool = False
    """Whether the other servers know that this one is there: its first heartbeat was written."""

    def health(self) -> dict[str, str | None]:
        """Each part, with what is wrong with it."""
        peer = None if self.listening else "no exporter is listening"
        beat = None if self.announced else "no heartbeat was written yet"
        return {"storage": self.storage_failure, "peer_listener": peer, "heartbeat": beat}

    async def all_well(self) -> None:
        """Returns when nothing is wrong with any part."""
        while any(self.health().values()):
            await self.changed(FIRST_ANSWER_POLL_SECONDS)

    def keeper_started(self, child: Child) -> None:
        """A keeper has begun; it has not said anything yet."""
        self.keeper = child
        self.heard_at = time.monotonic()

    async def keeper_said(self, message: Message) -> None:
        """Takes down how the storage is."""
        self.heard_at = time.monotonic()
        if "mounted" in message:
            self.mounted.set()
        elif "failure" in message:
            self.storage_failure = str(message["failure"])
        elif isinstance(capacity := message.get("capacity"), dict):
            self.capacity = Capacity(**capacity)
            self.storage_failure = None

    def collect_after(self, job: Job) -> None:
        """Tells the keeper that something may have become superfluous. What a sync that found
        nothing new may have left can wait until it looks by itself."""
        found_nothing = (job.result or {}).get("strategy") == "unchanged"
        if self.keeper is not None and not found_nothing:
            self.keeper.tell({"collect": True})

    async def changed(self, seconds: float) -> None:
        """Returns when the storage's capacity is known for the first time, or after this time."""
        if self.capacity is None:
            seconds = min(seconds, FIRST_ANSWER_POLL_SECONDS)
        await asyncio.sleep(seconds)

    def silent_seconds(self) -> float:
        """For how long the keeper has said nothing."""
        return time.monotonic() - self.heard_at
