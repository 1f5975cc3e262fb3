"""Rules that change through any server take effect while containers run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from daemon.errors import CatalogueError
from daemon.network import keeping
from daemon.network.keeping import keep_applied
from daemon.store import containers
from tests.contract.network.sites import Site, rule
from tests.wires import Ports, Wires, run
from transfer.errors import CommandFailed

DENY = [rule("in", "deny", "udp", ports="80")]
ROUNDS_MAX = 500


@pytest.fixture
async def keeper(site: Site, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[[], None]]:
    """Starts the keeper's part; it ends with the test."""
    monkeypatch.setattr(keeping, "LOOK_SECONDS", 0.01)
    tasks: list[asyncio.Task[None]] = []

    def start() -> None:
        running = keep_applied(site.catalogue.db, site.network, site.server_id)
        tasks.append(asyncio.create_task(running))

    yield start
    for task in tasks:
        assert not task.done()
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def until(inside: Ports, wires: Wires, address: str, reached: set[int]) -> None:
    for _ in range(ROUNDS_MAX):
        if inside.reached(wires.udp(None), address) == reached:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"never {reached}")


async def test_what_is_put_is_applied(site: Site, wires: Wires, keeper: Callable[[], None]) -> None:
    up = await site.up()
    inside = Ports(wires, up.path, [80, 90])
    keeper()
    await until(inside, wires, up.address, {80, 90})
    for firewall, reached in ((DENY, {90}), ([], {80, 90})):
        await site.put(up.container, firewall=firewall)
        await until(inside, wires, up.address, reached)


async def test_a_keeper_that_starts_puts_right_what_was_flushed(
    site: Site, wires: Wires, keeper: Callable[[], None]
) -> None:
    up = await site.up(DENY)
    inside = Ports(wires, up.path, [80, 90])
    run("nft", "flush", "ruleset")
    assert inside.reached(wires.udp(None), up.address) == {80, 90}
    keeper()
    await until(inside, wires, up.address, {90})


async def test_what_is_flushed_meanwhile_comes_back(
    site: Site, wires: Wires, keeper: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "CHECK_SECONDS", 0.01)
    up, other = await site.up(DENY), await site.up(DENY)
    ports = [Ports(wires, one.path, [80, 90]) for one in (up, other)]
    keeper()
    for _twice in range(2):
        run("nft", "flush", "ruleset")
        for inside, one in zip(ports, (up, other), strict=True):
            await until(inside, wires, one.address, {90})
    await site.network.down(other.container.id)
    assert await site.network.bare() == set()


@pytest.mark.parametrize("fault", [CommandFailed("no"), OSError("no"), CatalogueError("no")])
async def test_what_fails_is_tried_again_and_keeps_no_other_back(
    fault: Exception,
    site: Site,
    wires: Wires,
    keeper: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ups = sorted([await site.up(), await site.up()], key=lambda up: up.container.id)
    insides = [Ports(wires, up.path, [80, 90]) for up in ups]
    apply = site.network.apply

    async def fail(container_id: str) -> None:
        if container_id == ups[0].container.id:
            raise fault
        await apply(container_id)

    monkeypatch.setattr(site.network, "apply", fail)
    keeper()
    for up in ups:
        await site.put(up.container, firewall=DENY)
    await until(insides[1], wires, ups[1].address, {90})
    assert insides[0].reached(wires.udp(None), ups[0].address) == {80, 90}
    monkeypatch.setattr(site.network, "apply", apply)
    await until(insides[0], wires, ups[0].address, {90})


async def test_a_deleted_container_is_no_fault(
    site: Site, wires: Wires, keeper: Callable[[], None]
) -> None:
    up, gone = await site.up(), await site.container()
    inside = Ports(wires, up.path, [80, 90])
    keeper()
    await site.catalogue.write(containers.delete, gone.id)
    await site.put(up.container, firewall=DENY)
    await until(inside, wires, up.address, {90})
