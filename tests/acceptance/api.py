"""A small client of the REST API: the verbs that the acceptance tests speak in."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp
import pytest

JOB_SECONDS = 300.0
WAIT_SECONDS = 20
POLL_SECONDS = 0.1
ENDED = {"succeeded", "failed", "cancelled"}

Json = dict[str, Any]


class Refused(Exception):
    """The API said no."""

    def __init__(self, status: int, answer: Json) -> None:
        super().__init__(f"{status} {answer}")
        self.status = status
        self.code = answer.get("code")


@contextlib.contextmanager
def refuses(status: int, code: str) -> Iterator[None]:
    """What is asked within is refused in this way."""
    with pytest.raises(Refused) as refused:
        yield
    assert (refused.value.status, refused.value.code) == (status, code)


@dataclass(frozen=True, slots=True)
class Started:
    """What a verb started: the container it is about, and the job."""

    container_id: str
    job_id: str


class Api:
    """One user's view through one server. Use it in `async with`."""

    def __init__(self, url: str, token: str) -> None:
        self._url = f"{url}/api/v1"
        self._headers = {"Authorization": f"Bearer {token}"}

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(headers=self._headers)
        try:
            projects = (await self.call("GET", "/projects"))["projects"]
        except BaseException:
            await self._session.close()
            raise
        self.project_id = str(projects[0]["id"])
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._session.close()

    async def call(self, method: str, path: str, **body: object) -> Json:
        """The data of an answer. Raises Refused."""
        data, _ = await self._ask(method, path, body)
        return data

    async def once(self, path: str, key: str, **body: object) -> tuple[Json, str, bool]:
        """POSTs with an Idempotency-Key: the data, the job's id, and whether it is a replay.
        Raises Refused."""
        headers = {"Idempotency-Key": key}
        url = self._url + path
        async with self._session.post(url, json=body or None, headers=headers) as response:
            answer = await response.json()
            if response.status >= 400:
                raise Refused(response.status, answer)
            job_id = response.headers["Location"].rpartition("/")[2]
            return answer["data"], job_id, "Idempotency-Replayed" in response.headers

    async def _ask(self, method: str, path: str, body: Json) -> tuple[Json, str]:
        async with self._session.request(method, self._url + path, json=body or None) as response:
            answer = await response.json()
            if response.status >= 400:
                raise Refused(response.status, answer)
            return answer["data"], response.headers.get("Location", "").rpartition("/")[2]

    async def create(self, source_path: str, **fields: object) -> str:
        """Takes a tree in and waits; the container's id."""
        body = {"project_id": self.project_id, "source_path": source_path, **fields}
        data, job_id = await self._ask("POST", "/containers", body)
        await self.done(job_id)
        return str(data["id"])

    async def create_as(self, image: str, **fields: object) -> str:
        """Makes a container that begins as an image, by alias or id, and waits; its id."""
        body = {"project_id": self.project_id, "image": image, **fields}
        data, job_id = await self._ask("POST", "/containers", body)
        await self.done(job_id)
        return str(data["id"])

    async def start_copy(
        self, source_id: str, server_id: str | None = None, **fields: object
    ) -> Started:
        """Asks for a copy; `fields` are those of the page, `source_snapshot` among them."""
        body = {"target_project_id": self.project_id, "target_server_id": server_id, **fields}
        data, job_id = await self._ask("POST", f"/containers/{source_id}/copy", body)
        return Started(str(data["id"]), job_id)

    async def copy(
        self, source_id: str, server_id: str | None = None, **fields: object
    ) -> tuple[str, Json]:
        """Copies and waits; the copy's id and the job."""
        started = await self.start_copy(source_id, server_id, **fields)
        return started.container_id, await self.done(started.job_id)

    async def start_sync(self, copy_id: str) -> Started:
        """Asks for a sync."""
        _, job_id = await self._ask("POST", f"/containers/{copy_id}/sync", {})
        return Started(copy_id, job_id)

    async def sync(self, copy_id: str) -> Json:
        """Syncs and waits; the job."""
        return await self.done((await self.start_sync(copy_id)).job_id)

    async def delete(self, container_id: str) -> Json:
        """Deletes and waits; the job."""
        _, job_id = await self._ask("DELETE", f"/containers/{container_id}", {})
        return await self.done(job_id)

    async def power(self, container_id: str, verb: str) -> Json:
        """Starts, stops or restarts, and waits; the job."""
        _, job_id = await self._ask("POST", f"/containers/{container_id}/{verb}", {})
        return await self.done(job_id)

    async def snapshots(self, container_id: str) -> list[Json]:
        """What the container lists, newest first."""
        return list((await self.call("GET", f"/containers/{container_id}/snapshots"))["snapshots"])

    async def snapshot(self, container_id: str, **fields: object) -> Json:
        """Takes a snapshot; the entry that is listed then. `fields`: `alias`, `expiry`."""
        data = await self.call("POST", f"/containers/{container_id}/snapshots", **fields)
        return dict(data["snapshot"])

    async def restore(self, container_id: str, name: str) -> Json:
        """Restores a snapshot, called by its name or alias; the answer's data."""
        return await self.call("PATCH", f"/containers/{container_id}/snapshots/{name}")

    async def set_alias(self, container_id: str, name: str, alias: str | None) -> Json:
        """Gives a snapshot an alias, or takes it away; the entry."""
        path = f"/containers/{container_id}/snapshots/{name}/alias"
        return dict((await self.call("PATCH", path, alias=alias))["snapshot"])

    async def delete_snapshot(self, container_id: str, name: str) -> Json:
        """Deletes a snapshot; the answer's data."""
        return await self.call("DELETE", f"/containers/{container_id}/snapshots/{name}")

    async def container(self, container_id: str) -> Json:
        """The container object."""
        return await self.call("GET", f"/containers/{container_id}")

    async def storage(self, container_id: str) -> Json:
        """Where the container's filesystem is."""
        return await self.call("GET", f"/containers/{container_id}/storage")

    async def rootfs(self, container_id: str) -> str:
        """The path of the container's live tree, as it is now."""
        return str((await self.storage(container_id))["rootfs"])

    async def job(self, job_id: str) -> Json:
        """The job as it stands."""
        return await self.call("GET", f"/jobs/{job_id}")

    async def jobs(self, container_id: str, kind: str) -> list[Json]:
        """A container's jobs of one type, newest first."""
        path = f"/jobs?container_id={container_id}&type={kind}&limit=100"
        return list((await self.call("GET", path))["jobs"])

    async def wait(self, job_id: str, seconds: float = JOB_SECONDS) -> Json:
        """The job once it has ended. A server that is away for a while is asked again."""
        async with asyncio.timeout(seconds):
            while True:
                try:
                    job = await self.call("GET", f"/jobs/{job_id}/wait?timeout={WAIT_SECONDS}")
                except aiohttp.ClientError:
                    await asyncio.sleep(POLL_SECONDS)
                    continue
                if job["state"] in ENDED:
                    return job

    async def done(self, job_id: str, seconds: float = JOB_SECONDS) -> Json:
        """The job once it has ended, and well."""
        job = await self.wait(job_id, seconds)
        assert job["state"] == "succeeded", job
        return job
