"""`hoodyd migrate`: the only command beside `init` that changes the schema, once, whoever else
runs it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.command_line import Ran, environment, run
from tests.ports import free_port
from tests.postgres import serving

PROGRAMS = 3


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/other.db"
        return
    with serving() as server:
        server.create("catalogue")
        yield server.url("catalogue")


async def test_a_daemon_does_not_migrate_and_three_at_once_do_it_once(
    tmp_path: Path, address: str
) -> None:
    config = str(tmp_path / "hoodyd.toml")
    ports = {f"HOODY_{part}__LISTEN": f"127.0.0.1:{free_port()}" for part in ("SERVER", "PEER")}

    async def hoodyd(*arguments: str, **variables: str) -> Ran:
        env = environment(tmp_path, **ports, **variables)
        return await run("hoodyd", *arguments, "--config", config, env=env)

    (await hoodyd("init")).good()
    for _ in range(2):
        refused = await hoodyd("run", HOODY_DATABASE__URL=address)
        assert (refused.code, refused.out) == (2, "")
        assert refused.err.count("\n") == 1
        assert f"run: hoodyd migrate --config {config}" in refused.err
    migrations = [hoodyd("migrate", HOODY_DATABASE__URL=address) for _ in range(PROGRAMS)]
    for ran in await asyncio.gather(*migrations):
        assert ran.good().out == "the database has this version's schema\n"
    listed = await hoodyd("server", "list", HOODY_DATABASE__URL=address)
    assert len(listed.good().out.splitlines()) == 1, "the header alone"
