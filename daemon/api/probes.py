"""/healthz, /readyz and /metrics, for machines: no token, no envelope."""

from __future__ import annotations

import asyncio

from aiohttp import web

from daemon.api.deps import Deps
from daemon.api.telemetry import Telemetry
from daemon.errors import CatalogueError

DATABASE_SECONDS = 5


class Probes:
    """What machines ask."""

    def __init__(self, deps: Deps, telemetry: Telemetry) -> None:
        self._deps = deps
        self._telemetry = telemetry

    async def healthz(self, _request: web.Request) -> web.Response:
        """The process answers."""
        return web.json_response({"status": "ok"})

    async def readyz(self, _request: web.Request) -> web.Response:
        """Every part works; else 503 with those that do not and why."""
        parts = {**self._deps.health(), "database": await self._database()}
        failing = {part: fault for part, fault in parts.items() if fault is not None}
        if failing:
            return web.json_response({"status": "failing", "failing": failing}, status=503)
        return web.json_response({"status": "ok"})

    async def metrics(self, _request: web.Request) -> web.Response:
        """Prometheus' text."""
        body, content_type = await self._telemetry.render()
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _database(self) -> str | None:
        try:
            await asyncio.wait_for(self._deps.db.check(), DATABASE_SECONDS)
        except CatalogueError as error:
            return error.message
        except TimeoutError:
            return f"no answer within {DATABASE_SECONDS} s"
        return None
