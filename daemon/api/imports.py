"""Whether a directory may be taken in as a container's first filesystem."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence

from daemon.api.errors import ServiceUnavailable, ValidationFailed

LOOK_SECONDS = 10


async def refuse_import(source_path: str, import_roots: Sequence[str] | None) -> None:
    """Raises ValidationFailed unless the path is absolute and, where this server has it (the
    roots are given), a readable directory under one of them after every link is resolved."""
    reason: str | None = None
    if not os.path.isabs(source_path):
        reason = "must be an absolute path"
    elif import_roots is not None:
        # A dead network mount must not stop the event loop.
        look = asyncio.to_thread(_fault, source_path, import_roots)
        try:
            reason = await asyncio.wait_for(look, LOOK_SECONDS)
        except TimeoutError:
            raise ServiceUnavailable("The directory does not answer") from None
    if reason is not None:
        raise ValidationFailed(f"Invalid source_path: {reason}", details={"source_path": reason})


def _fault(source_path: str, import_roots: Sequence[str]) -> str | None:
    real = os.path.realpath(source_path)
    roots = [os.path.realpath(root) for root in import_roots]
    if not any(os.path.commonpath([root, real]) == root for root in roots):
        return "is not under an import root of this server"
    if not os.path.isdir(real):
        return "is no directory"
    if not os.access(real, os.R_OK | os.X_OK):
        return "cannot be read"
    return None
