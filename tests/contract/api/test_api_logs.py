"""What a request leaves in the log."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from daemon.model import new_id
from tests.contract.api.api_world import Api


@pytest.fixture
def said() -> Iterator[list[Any]]:
    """The lines so far, with what is bound."""
    with capture_logs(processors=[merge_contextvars]) as lines:
        yield lines


async def test_a_change_has_a_line_with_its_ids(api: Api, said: list[Any]) -> None:
    container = await api.world.container()
    reply = await api.post(f"/containers/{container.id}/stop")
    (line,) = [one for one in said if one["log_level"] != "debug"]
    assert line == {
        "event": "answered",
        "log_level": "info",
        "method": "POST",
        "path": f"/api/v1/containers/{container.id}/stop",
        "status": 200,
        "request_id": reply.headers["X-Request-Id"],
        "container_id": container.id,
        "job_id": (await api.world.the_job()).id,
        "job_type": "stop",
    }


async def test_what_makes_a_container_has_the_ids_of_the_new_one(api: Api, said: list[Any]) -> None:
    source = await api.world.container()
    body = {"target_project_id": api.world.work.id}
    reply = await api.post(f"/containers/{source.id}/copy", body)
    (line,) = [one for one in said if one["event"] == "answered"]
    assert (line["container_id"], line["job_type"]) == (reply.data["id"], "copy")
    assert line["path"] == f"/api/v1/containers/{source.id}/copy"


async def test_a_look_is_for_who_wants_to_know_everything(api: Api, said: list[Any]) -> None:
    job_id = new_id()
    reply = await api.get(f"/jobs/{job_id}")
    (line,) = [one for one in said if one["event"] == "answered"]
    assert (line["log_level"], line["status"], line["job_id"]) == ("debug", 404, job_id)
    assert line["request_id"] == reply.headers["X-Request-Id"]
    await api.get("/jobs/no-id")
    assert "job_id" not in said[-1]
    await api.get("/projects")
    assert not {"job_id", "container_id"} & said[-1].keys()


async def test_what_a_request_has_bound_goes_with_it(api: Api, said: list[Any]) -> None:
    """One connection, one task, many requests."""
    container = await api.world.container()
    await api.post(f"/containers/{container.id}/stop")
    await api.get("/projects")
    assert not {"job_id", "container_id"} & said[-1].keys()
    assert len({one["request_id"] for one in said}) == 2
