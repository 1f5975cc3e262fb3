"""The protocols of a container runtime, and of the network that one may be given."""

from __future__ import annotations

from typing import Protocol

from daemon.model import Container


class Runtime(Protocol):
    """Starts and stops what a container runs. All verbs are idempotent."""

    async def start(self, container: Container, rootfs: str) -> None:
        """Starts the container on this root filesystem. Raises JobError START_FAILED."""
        ...

    async def stop(self, container: Container) -> int | None:
        """Stops it and returns when nothing of it runs any more. How it ended, last time it ran:
        the exit code, 128 and the number of a signal; None where that is not known."""
        ...

    async def remove(self, container: Container) -> None:
        """Stops it and leaves nothing of it."""
        ...


class Network(Protocol):
    """Connects containers. Both verbs are idempotent."""

    async def up(self, container: Container) -> str | None:
        """Connects a container that is about to start: the path of the network namespace that it
        is to join, None for an empty one of its own. Raises JobError START_FAILED."""
        ...

    async def down(self, container_id: str) -> None:
        """Leaves nothing of the container's network. A stop does not come here, so that a restart
        finds its network as it was."""
        ...
