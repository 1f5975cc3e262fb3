"""The runtime of servers that keep filesystems and run nothing in them, and the network of
containers that reach nothing."""

from __future__ import annotations

import os

from daemon.errors import JobError
from daemon.model import Container


class NoRuntime:
    """A running container is one that is live and mounted."""

    async def start(self, container: Container, rootfs: str) -> None:
        """Makes sure that the root filesystem is there."""
        if not os.path.isdir(rootfs):
            raise JobError(
                "START_FAILED", "the root filesystem is not mounted", container=container.id
            )

    async def stop(self, container: Container) -> None:
        """There is no process to stop."""

    async def remove(self, container: Container) -> None:
        """There is nothing of it."""


class NoNetwork:
    """A container has a network namespace with nothing but its loopback."""

    async def up(self, container: Container) -> None:
        """There is nothing to join."""

    async def down(self, container_id: str) -> None:
        """There is nothing left."""
