"""A client of the REST API: one method, `request`, and the calls made of it.

ClientError
├── NoConnection    nothing answered
└── Refused         the API said no; `code` is the contract's, `status` HTTP's
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Self

import aiohttp

Json = dict[str, object]

ANSWER_BYTES_MAX = 32 << 20
CONNECT_SECONDS = 10
REQUEST_SECONDS = 330  # a snapshot's request may take 300 s
PAGE = 100
PAGES_MAX = 1000
POLL_SECONDS = 0.5
LOST_SECONDS = 30
ENDED = frozenset({"succeeded", "failed", "cancelled"})


class ClientError(Exception):
    """The root of the tree; never raised itself."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class NoConnection(ClientError):
    """Nothing that speaks this API answered at the URL."""


class Refused(ClientError):
    """The API answered with a failure; `path` is what was asked for, `job_id` the job's that failed
    or goes on."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        details: object = None,
        *,
        job_id: str | None = None,
        path: str = "",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.details = details
        self.job_id = job_id
        self.path = path


class Client:
    """Speaks to one server of a cluster, as one user; `url` may end in `/api/v1`. To be used in
    `async with`."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url.rstrip("/").removesuffix("/api/v1")
        self._token = token
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {self._token}"},
            timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS, sock_connect=CONNECT_SECONDS),
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, object] | None = None,
    ) -> tuple[Json, str | None]:
        """The `data` of the answer, and the id of the job that it started.

        `path` begins behind `/api/v1`. Raises Refused or NoConnection.
        """
        content, location = await self._asked(method, path, query, body)
        data = self._parsed(content).get("data")
        return (data if isinstance(data, dict) else {}), _job_id(location)

    async def content(self, path: str) -> bytes:
        """The bytes that a GET of what is no JSON answers with. Raises as `request` does."""
        content, _location = await self._asked("GET", path, None, None)
        return content

    async def _asked(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Mapping[str, object] | None,
    ) -> tuple[bytes, str]:
        """The body of a success, and its Location. Raises Refused or NoConnection."""
        if self._session is None:
            raise RuntimeError("the client is used outside `async with`")
        try:
            async with self._session.request(
                method, f"{self.url}/api/v1{path}", params=query, json=body
            ) as response:
                content = await _read(response)
                location = response.headers.get("Location", "")
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            reason = str(error) or type(error).__name__
            raise NoConnection(f"no answer from {self.url}: {reason}") from error
        if response.status < 400:
            return content, location
        answer = self._parsed(content)
        raise Refused(
            response.status,
            str(answer.get("code", "INTERNAL_ERROR")),
            str(answer.get("message", response.reason)),
            answer.get("details"),
            job_id=_job_id(location),
            path=path,
        )

    async def get(self, path: str, **query: str) -> Json:
        """The data of a GET."""
        data, _job_id = await self.request("GET", path, query=query)
        return data

    async def everything(self, noun: str, **query: str) -> list[Json]:
        """All pages of a list, in the API's order; `noun` is the path, its last word the key."""
        return await self.pages(f"/{noun}", noun.rpartition("/")[2], query)

    async def pages(self, path: str, key: str, query: Mapping[str, str]) -> list[Json]:
        """All pages of the list at a path, in the API's order."""
        found: list[Json] = []
        for page in range(1, PAGES_MAX + 1):
            data = await self.get(path, **query, page=str(page), limit=str(PAGE))
            found += _objects(data.get(key))
            pagination = data.get("pagination")
            if not isinstance(pagination, dict) or page >= pagination.get("totalPages", 0):
                break
        return found

    async def watch(self, job_id: str) -> AsyncIterator[Json]:
        """The job again and again until it has ended.

        A server that is away for up to 30 s (a restart) does not end it.
        """
        clock = asyncio.get_running_loop().time
        heard = clock()
        while True:
            try:
                job = await self.get(f"/jobs/{job_id}")
            except NoConnection:
                if clock() - heard > LOST_SECONDS:
                    raise
            else:
                heard = clock()
                yield job
                if job.get("state") in ENDED:
                    return
            await asyncio.sleep(POLL_SECONDS)

    def _parsed(self, content: bytes) -> Json:
        try:
            answer = json.loads(content)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise NoConnection(f"what answers at {self.url} is no hoody API")
        return answer


def _job_id(location: str) -> str | None:
    return location.rpartition("/jobs/")[2] if "/jobs/" in location else None


async def _read(response: aiohttp.ClientResponse) -> bytes:
    content = bytearray()
    async for block in response.content.iter_chunked(1 << 16):
        content += block
        if len(content) > ANSWER_BYTES_MAX:
            raise ValueError(f"the answer is larger than {ANSWER_BYTES_MAX} bytes")
    return bytes(content)


def _objects(value: object) -> list[Json]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
