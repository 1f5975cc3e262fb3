"""The REST client against a real HTTP server that behaves well, badly, or not at all."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port

from daemon import client
from daemon.client import Client, NoConnection, Refused


class Api:
    """Answers that a test lays out; `asked` is what came."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str | None]] = []
        self.jobs: list[str] = []
        self.items = 0

    async def containers(self, request: web.Request) -> web.Response:
        self.asked.append((request.method, request.path_qs, request.headers.get("Authorization")))
        page, limit = int(request.query["page"]), int(request.query["limit"])
        shown = [{"id": str(number)} for number in range(self.items)]
        pages = -(-self.items // limit)
        data = {
            "containers": shown[(page - 1) * limit : page * limit],
            "pagination": {"total": self.items, "totalPages": pages},
        }
        return web.json_response({"statusCode": 200, "data": data})

    async def copy(self, request: web.Request) -> web.Response:
        if await request.json() == {"name": "taken"}:
            failure = {"message": "taken", "code": "CONTAINER_NAME_IN_USE", "details": {"name": 1}}
            return web.json_response(failure, status=409)
        headers = {"Location": "/api/v1/jobs/abc"}
        return web.json_response({"data": {"id": "new"}}, status=201, headers=headers)

    async def job(self, request: web.Request) -> web.Response:
        state = self.jobs.pop(0)
        if state == "restarting":
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        return web.json_response({"data": {"state": state}})

    async def rubbish(self, _request: web.Request) -> web.Response:
        return web.Response(text="<html>somebody else's server</html>")


@pytest.fixture
async def api() -> Api:
    return Api()


@pytest.fixture
async def hoody(api: Api) -> AsyncIterator[Client]:
    app = web.Application()
    app.router.add_get("/api/v1/containers", api.containers)
    app.router.add_post("/api/v1/containers/x/copy", api.copy)
    app.router.add_get("/api/v1/jobs/abc", api.job)
    app.router.add_get("/api/v1/rubbish", api.rubbish)
    async with TestServer(app) as server, Client(str(server.make_url("/")), "secret") as hoody:
        yield hoody


@pytest.mark.parametrize("count", [0, 1, 100, 101, 250])
async def test_all_pages_are_fetched_once_in_order(api: Api, hoody: Client, count: int) -> None:
    api.items = count
    found = await hoody.everything("containers", project_id="p")
    assert [one["id"] for one in found] == [str(number) for number in range(count)]
    assert len(api.asked) == max(1, -(-count // 100))
    assert {token for _, _, token in api.asked} == {"Bearer secret"}
    assert all("project_id=p" in path for _, path, _ in api.asked)


async def test_an_answer_names_the_job_that_it_started(hoody: Client) -> None:
    assert await hoody.request("POST", "/containers/x/copy", body={}) == ({"id": "new"}, "abc")


async def test_a_refusal_keeps_status_code_and_details(hoody: Client) -> None:
    with pytest.raises(Refused) as caught:
        await hoody.request("POST", "/containers/x/copy", body={"name": "taken"})
    refused = caught.value
    assert (refused.status, refused.code) == (409, "CONTAINER_NAME_IN_USE")
    assert refused.details == {"name": 1}


@pytest.mark.parametrize("path", ["/rubbish", "/nothing-here"])
async def test_what_is_no_hoody_api_is_no_connection(hoody: Client, path: str) -> None:
    with pytest.raises(NoConnection, match="no hoody API"):
        await hoody.get(path)


async def test_nobody_at_the_url_is_no_connection() -> None:
    async with Client(f"http://127.0.0.1:{unused_port()}", "t") as hoody:
        with pytest.raises(NoConnection, match="no answer"):
            await hoody.get("/containers")


async def test_a_job_is_watched_over_a_restart_until_it_ends(
    api: Api, hoody: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "POLL_SECONDS", 0.01)
    api.jobs = ["queued", "running", "restarting", "restarting", "running", "succeeded", "late"]
    seen = [job["state"] async for job in hoody.watch("abc")]
    assert seen == ["queued", "running", "running", "succeeded"]


async def test_a_server_that_does_not_come_back_ends_the_watch(
    api: Api, hoody: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(client, "LOST_SECONDS", 0)
    api.jobs = ["running", *["restarting"] * 20]
    with pytest.raises(NoConnection):
        async for _job in hoody.watch("abc"):
            pass


async def test_an_endless_answer_is_given_up(
    hoody: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "ANSWER_BYTES_MAX", 10)
    with pytest.raises(NoConnection, match="larger than 10 bytes"):
        await hoody.get("/rubbish")
