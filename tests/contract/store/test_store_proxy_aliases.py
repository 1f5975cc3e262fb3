"""Proxy aliases: a name once in a project, found by their owner, gone with their container."""

from __future__ import annotations

from dataclasses import replace

import pytest

from daemon.errors import Conflict
from daemon.model import Container, Project, ProxyAlias, User, new_id
from daemon.store import accounts, containers, proxy_aliases, servers
from daemon.store.proxy_aliases import AliasFilter
from tests.contract.store.catalogue import Catalogue, after


def an_alias(container: Container, name: str, seconds: float = 0) -> ProxyAlias:
    ids = (new_id(), container.project_id, container.id)
    return ProxyAlias(*ids, name, "web", 65535, "/caf\u00e9", created_at=after(seconds))


async def add(catalogue: Catalogue, container: Container, *names: str) -> list[ProxyAlias]:
    """Aliases, each younger than the one before."""
    made = [an_alias(container, name, seconds) for seconds, name in enumerate(names)]
    for alias in made:
        await catalogue.write(proxy_aliases.insert, alias)
    return made


async def other_project(catalogue: Catalogue, owner: User) -> Project:
    made = Project(new_id(), owner.id, "other", "other")
    await catalogue.write(accounts.put_user, owner)
    await catalogue.write(accounts.put_project, made)
    return made


async def test_what_is_put_in_comes_out_until_it_is_deleted(catalogue: Catalogue) -> None:
    web = await catalogue.add_container()
    (alias,) = await add(catalogue, web, "prod")
    for owner in (catalogue.user.id, None):
        assert await catalogue.read(proxy_aliases.get, alias.id, owner) == alias
    assert await catalogue.read(proxy_aliases.get, alias.id, new_id()) is None
    for _ in range(2):
        await catalogue.write(proxy_aliases.delete, alias.id)
    assert await catalogue.read(proxy_aliases.get, alias.id, None) is None


async def test_a_name_is_unique_in_its_project(catalogue: Catalogue) -> None:
    web, copy = await catalogue.add_container("web"), await catalogue.add_container("copy")
    (alias,) = await add(catalogue, web, "prod")
    for container in (web, copy):
        with pytest.raises(Conflict) as caught:
            await add(catalogue, container, "prod")
        assert caught.value.rule == "proxy_alias"
    other = await other_project(catalogue, catalogue.user)
    there = await catalogue.add_container("web", project_id=other.id)
    await add(catalogue, there, "prod")
    await catalogue.write(proxy_aliases.delete, alias.id)
    await add(catalogue, copy, "prod")


async def test_pages_are_the_owners_and_what_is_wanted(catalogue: Catalogue) -> None:
    web, copy = await catalogue.add_container("web"), await catalogue.add_container("copy")
    first, second, third = await add(catalogue, web, "a", "b", "c")
    (other,) = await add(catalogue, copy, "d")
    stranger = User(new_id())
    theirs = await other_project(catalogue, stranger)
    far = await catalogue.add_container("web", project_id=theirs.id, owner_id=stranger.id)
    (hidden,) = await add(catalogue, far, "a")

    async def page(owner: str | None, wanted: AliasFilter, number: int = 1) -> set[str]:
        found, total = await catalogue.read(proxy_aliases.page, owner, wanted, number, 100)
        assert len(found) == total
        return {alias.id for alias in found}

    mine, everything = catalogue.user.id, AliasFilter()
    of_web = {first.id, second.id, third.id}
    assert await page(mine, everything) == of_web | {other.id}
    assert await page(stranger.id, everything) == {hidden.id}
    assert await page(None, everything) == of_web | {other.id, hidden.id}
    assert await page(mine, AliasFilter(container_id=web.id)) == of_web
    assert await page(mine, AliasFilter(catalogue.project.id, copy.id)) == {other.id}
    assert await page(mine, AliasFilter(theirs.id)) == set()
    for number, wanted in ((1, [third, second]), (2, [first]), (3, [])):
        shown = AliasFilter(container_id=web.id)
        found = await catalogue.read(proxy_aliases.page, mine, shown, number, 2)
        assert found == (wanted, 3)


async def test_aliases_go_with_their_container_and_no_other(catalogue: Catalogue) -> None:
    gone, kept = await catalogue.add_container("gone"), await catalogue.add_container("kept")
    lost = await catalogue.add_container("lost", server_id=catalogue.there.id)
    for name, container in (("a", gone), ("b", gone), ("c", lost), ("d", kept)):
        await add(catalogue, container, name)
    await catalogue.write(containers.delete, gone.id)
    await catalogue.write(servers.remove, catalogue.there.id)
    found, _ = await catalogue.read(proxy_aliases.page, None, AliasFilter(), 1, 10)
    assert [alias.alias for alias in found] == ["d"]
    await catalogue.write(containers.change, kept.id, name="another")
    again = replace(found[0], id=new_id(), alias="a")
    await catalogue.write(proxy_aliases.insert, again)
