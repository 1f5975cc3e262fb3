"""A client of server-sent events, which reads them as a browser does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import ClientResponse

from tests.contract.api.api_world import V1, Api

HANG_SECONDS = 90


@dataclass(frozen=True)
class Told:
    """One event; `last_id` is what a browser would come back with after it."""

    kind: str
    data: dict[str, Any]
    last_id: str


@dataclass
class Stream:
    """An open stream. What has come and was not asked for yet waits in its connection."""

    answer: ClientResponse
    last_id: str = ""
    comments: list[str] = field(default_factory=list)

    async def next(self) -> Told | None:
        """The next event; None at the stream's end."""
        kind, data = "", ""
        async with asyncio.timeout(HANG_SECONDS):
            while line := (await self.answer.content.readline()).decode():
                name, _, value = line.rstrip("\n").partition(":")
                value = value.removeprefix(" ")
                if line == "\n" and data:
                    return Told(kind, json.loads(data), self.last_id)
                if not name:
                    self.comments.append(value)
                elif name == "id":
                    self.last_id = value
                elif name == "event":
                    kind = value
                elif name == "data":
                    data += value
        return None

    async def until(self, kind: str, **wanted: Any) -> Told:
        """Skips what comes before the next event of this kind with these fields."""
        while told := await self.next():
            if told.kind == kind and wanted.items() <= told.data.items():
                return told
        raise AssertionError(f"the stream ended without {kind} {wanted}")

    async def rest(self) -> list[Told]:
        """Everything to the stream's end."""
        found = []
        while told := await self.next():
            found.append(told)
        return found


@asynccontextmanager
async def listening(
    api: Api, path: str, *, token: str | None = None, last_id: str | None = None
) -> AsyncIterator[Stream]:
    """A stream that answers 200, for as long as the block lasts."""
    headers = {"Authorization": f"Bearer {token or api.world.token()}"}
    if last_id is not None:
        headers["Last-Event-ID"] = last_id
    async with api.client.get(V1 + path, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        assert answer.headers["Content-Type"] == "text/event-stream"
        assert answer.headers["Cache-Control"] == "no-store"
        yield Stream(answer)
