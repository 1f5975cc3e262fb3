"""Works that do not wait for each other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable


async def at_once(*works: Awaitable[object]) -> None:
    """Does them at the same time, each to its end; then raises what the first one raised, in the
    order given, if any did. Cancelled, it cancels them all."""
    for outcome in await asyncio.gather(*works, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
