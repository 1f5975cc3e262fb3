"""What failures tell, beside the rows of test_contract_rows.py."""

from __future__ import annotations

import pytest

from tests.contract.api.api_world import Api


async def test_unknown_path_outside_the_api(api: Api) -> None:
    async with api.client.get("/") as answer:
        assert answer.status == 404
        assert (await answer.json())["code"] == "RESOURCE_NOT_FOUND"


async def test_wrong_method(api: Api) -> None:
    reply = await api.put("/containers", {})
    assert reply.refusal == (405, "METHOD_NOT_ALLOWED")
    assert set(reply.headers["Allow"].split(",")) == {"GET", "POST"}


async def test_a_fault_of_ours_tells_nothing_but_its_id(
    api: Api, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("the secret reason")

    monkeypatch.setattr("daemon.store.containers.page", broken)
    reply = await api.get("/containers")
    assert reply.refusal == (500, "INTERNAL_ERROR")
    assert "secret" not in str(reply.body)
    logged = capsys.readouterr().out
    assert "the secret reason" in logged
    assert reply.headers["X-Request-Id"] in logged
