"""The protocol of a container runtime."""

from __future__ import annotations

from typing import Protocol

from daemon.model import Container


class Runtime(Protocol):
    """Starts and stops what a container runs. Both verbs are idempotent."""

    async def start(self, container: Container, rootfs: str) -> None:
        """Starts the container on this root filesystem. Raises JobError START_FAILED."""
        ...

    async def stop(self, container: Container) -> None:
        """Stops it and returns when nothing of it runs any more."""
        ...
