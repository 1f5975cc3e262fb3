"""The listening side of the API: what aiohttp refuses by itself, before any application is asked
(a request that is no HTTP, a line that is too long), comes in the failure envelope too."""

from __future__ import annotations

import structlog
from aiohttp import web

from daemon.api.errors import InternalError, ValidationFailed
from daemon.api.failures import failure, of_aiohttp
from daemon.api.fields import REASON_CHARACTERS_MAX

logger = structlog.get_logger()


class Runner(web.AppRunner):
    """Runs the application. Every answer on its connections is one of ours."""

    async def _make_server(self) -> web.Server:
        inner = await super()._make_server()

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            try:
                return await inner.request_handler(request)
            except web.HTTPException as error:  # an `Expect` that aiohttp does not know
                return failure(of_aiohttp(error))

        return _Server(handle, request_factory=inner.request_factory, **self._kwargs)


class _Server(web.Server):
    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)


class _Connection(web.RequestHandler):
    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what cannot be read; the connection ends with it."""
        if request.writer.output_size > 0:
            raise ConnectionError("the answer was begun already")
        if status >= InternalError.status:
            logger.error("request failed", exc_info=exc)
            response = failure(InternalError())
        else:
            reason = (message or "is no HTTP").partition("\n")[0][:REASON_CHARACTERS_MAX]
            response = failure(ValidationFailed("Malformed request", details={"request": reason}))
        response.force_close()
        return response
