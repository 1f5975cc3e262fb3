"""Servers, users, projects and containers: what is put in comes out, and the unique rules hold."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta, timezone

import pytest
from sqlalchemy.exc import CompileError, StatementError

from daemon.errors import CatalogueError, Conflict
from daemon.model import DatasetRow, LookRow, Project, Role, Status, User, new_id
from daemon.store import accounts, containers, datasets, events, looks, servers
from daemon.store.containers import ContainerFilter
from tests.contract.store.catalogue import T0, Catalogue, a_server, after
from transfer.model import Capacity

# --- servers -------------------------------------------------------------------------------------


async def test_servers_are_found(catalogue: Catalogue) -> None:
    assert await catalogue.read(servers.get, catalogue.here.id) == catalogue.here
    assert await catalogue.read(servers.get, new_id()) is None
    assert {s.name for s in await catalogue.read(servers.every)} == {"here", "there"}


async def test_putting_a_server_again_keeps_its_heartbeat_and_its_age(catalogue: Catalogue) -> None:
    capacity = Capacity(total_bytes=1 << 50, used_bytes=3, available_bytes=(1 << 50) - 3)
    await catalogue.write(servers.beat, catalogue.here.id, capacity, T0)
    again = replace(catalogue.here, peer_address="10.0.0.9:1", facts={"country": "US"})
    again = replace(again, created_at=after(99))
    await catalogue.write(servers.put, again)
    await catalogue.write(servers.put, again)
    found = await catalogue.read(servers.get, catalogue.here.id)
    assert found is not None
    assert (found.peer_address, found.facts) == ("10.0.0.9:1", {"country": "US"})
    assert (found.total_bytes, found.used_bytes) == (1 << 50, 3)
    assert (found.last_heartbeat_at, found.created_at) == (T0, catalogue.here.created_at)


async def test_a_servers_name_is_its_own(catalogue: Catalogue) -> None:
    with pytest.raises(Conflict) as caught:
        await catalogue.write(servers.put, a_server("here"))
    assert caught.value.rule == "server_name"


async def test_a_removed_server_takes_what_it_held_along(catalogue: Catalogue) -> None:
    gone = await catalogue.add_container("gone", server_id=catalogue.there.id)
    kept = await catalogue.add_container("kept")
    row = DatasetRow(new_id(), catalogue.there.id, Role.MIRROR, new_id(), "mirrors/a")
    await catalogue.write(datasets.insert, row)
    await catalogue.write(servers.remove, catalogue.there.id)
    await catalogue.write(servers.remove, catalogue.there.id)
    assert await catalogue.read(servers.get, catalogue.there.id) is None
    assert await catalogue.read(containers.get, gone.id) is None
    assert await catalogue.read(containers.get, kept.id) == kept
    assert await catalogue.read(datasets.get, row.id) is None


# --- users and projects --------------------------------------------------------------------------


async def test_adding_a_user_again_does_not_pardon_them(catalogue: Catalogue) -> None:
    assert await catalogue.write(accounts.set_banned, catalogue.user.id, True)
    assert await catalogue.write(accounts.revoke, catalogue.user.id, after(1))
    await catalogue.write(accounts.put_user, catalogue.user)
    found = await catalogue.read(accounts.get_user, catalogue.user.id)
    assert found == replace(catalogue.user, banned=True, revoked_at=after(1))


async def test_banning_nobody_is_told(catalogue: Catalogue) -> None:
    assert not await catalogue.write(accounts.set_banned, new_id(), True)
    assert not await catalogue.write(accounts.revoke, new_id(), T0)


async def test_the_first_user_is_the_one_who_was_added_first(catalogue: Catalogue) -> None:
    later = User(new_id(), created_at=after(1))
    await catalogue.write(accounts.put_user, later)
    assert await catalogue.read(accounts.first_user) == catalogue.user
    assert await catalogue.read(accounts.every_user) == [later, catalogue.user]


async def test_a_project_name_is_unique_for_one_owner(catalogue: Catalogue) -> None:
    await catalogue.write(accounts.put_project, catalogue.project)
    other = User(new_id())
    await catalogue.write(accounts.put_user, other)
    theirs = Project(new_id(), other.id, catalogue.project.name, "d")
    await catalogue.write(accounts.put_project, theirs)
    assert await catalogue.read(accounts.get_project, theirs.id) == theirs
    with pytest.raises(Conflict) as caught:
        await catalogue.write(accounts.put_project, replace(theirs, id=new_id()))
    assert caught.value.rule == "project_name"


async def test_projects_come_in_pages_newest_first_and_ties_by_id(catalogue: Catalogue) -> None:
    owner = User(new_id())
    await catalogue.write(accounts.put_user, owner)
    made = [Project(new_id(), owner.id, f"p{n}", "a", created_at=after(n // 2)) for n in range(5)]
    for project in made:
        await catalogue.write(accounts.put_project, project)
    wanted = sorted(sorted(made, key=lambda p: p.id), key=lambda p: p.created_at, reverse=True)
    pages = [
        await catalogue.read(accounts.projects_page, owner.id, number, 2) for number in (1, 2, 3, 4)
    ]
    assert [found for found, _ in pages] == [wanted[:2], wanted[2:4], wanted[4:], []]
    assert {total for _, total in pages} == {5}
    everybodys, total = await catalogue.read(accounts.projects_page, None, 1, 100)
    assert (len(everybodys), total) == (6, 6)


# --- containers ----------------------------------------------------------------------------------


async def test_every_field_of_a_container_comes_back(catalogue: Catalogue) -> None:
    full = await catalogue.add_container(
        "full",
        status=Status.ERROR,
        status_reason="ß \N{SNOWMAN} \n '\"\\",
        source_container_id=new_id(),
        source_snapshot="snap-1",
        generation_id=new_id(),
        taken_guid=str(2**64 - 1),
        command=("sh", "-c", ""),
        environment_vars={"A": "b=c", "": "\N{SNOWMAN}"},
        resources={"cpu_cores": 1.5, "memory_bytes": 1 << 40},
        flags={"ai": True, "ramdisk": False},
        autostart=False,
        ssh_key_id="AAAA",
        ssh_private_sealed=bytes(range(256)),
        firewall_rules=({"direction": "in", "ports": None},),
        network_rules=(),
        exit_code=-9,
        referenced_bytes=1 << 60,
        last_synced_at=after(0.001),
    )
    assert await catalogue.read(containers.get, full.id) == full
    bare = await catalogue.add_container("bare")
    assert await catalogue.read(containers.get, bare.id) == bare


async def test_a_time_is_kept_to_the_millisecond_and_in_utc(catalogue: Catalogue) -> None:
    odd = T0.astimezone(timezone(timedelta(hours=-7))) + timedelta(microseconds=999)
    made = await catalogue.add_container(last_synced_at=odd)
    found = await catalogue.read(containers.get, made.id)
    assert found is not None
    assert found.last_synced_at == T0
    assert str(found.last_synced_at).endswith("+00:00")


async def test_a_time_without_zone_is_refused(catalogue: Catalogue) -> None:
    with pytest.raises(StatementError, match="offset-naive"):
        await catalogue.add_container(last_synced_at=T0.replace(tzinfo=None))


@pytest.mark.parametrize(
    ("first", "second", "rule"),
    [
        ({"name": "web"}, {"name": "web"}, "container_name"),
        ({"name": "a", "ssh_key_id": "K"}, {"name": "b", "ssh_key_id": "K"}, "ssh_key"),
    ],
)
async def test_a_conflict_names_its_rule(
    catalogue: Catalogue, first: dict[str, str], second: dict[str, str], rule: str
) -> None:
    await catalogue.add_container(**first)
    refused = catalogue.container(**second)
    with pytest.raises(Conflict) as caught:
        await catalogue.write(containers.insert, refused)
    assert caught.value.rule == rule
    assert await catalogue.read(containers.get, refused.id) is None


async def test_changing_into_anothers_name_is_a_conflict(catalogue: Catalogue) -> None:
    await catalogue.add_container("web")
    other = await catalogue.add_container("db")
    with pytest.raises(Conflict) as caught:
        await catalogue.write(containers.change, other.id, name="web")
    assert caught.value.rule == "container_name"


async def test_a_container_of_an_unknown_project_is_refused(catalogue: Catalogue) -> None:
    with pytest.raises(CatalogueError) as caught:
        await catalogue.add_container(project_id=new_id())
    assert not isinstance(caught.value, Conflict)


async def test_only_known_columns_change(catalogue: Catalogue) -> None:
    made = await catalogue.add_container()
    assert await catalogue.write(
        containers.change, made.id, status=Status.STOPPED, command=("x",), generation_id=None
    )
    assert await catalogue.read(containers.get, made.id) == replace(
        made, status=Status.STOPPED, command=("x",)
    )
    with pytest.raises(CompileError, match="nonsense"):
        await catalogue.write(containers.change, made.id, nonsense=1)
    with pytest.raises(StatementError, match="asleep"):
        await catalogue.write(containers.change, made.id, status="asleep")


async def test_changing_and_deleting_what_is_gone(catalogue: Catalogue) -> None:
    made = await catalogue.add_container()
    await catalogue.write(containers.delete, made.id)
    await catalogue.write(containers.delete, made.id)
    assert not await catalogue.write(containers.change, made.id, color="red")


async def test_a_page_of_containers_shows_what_every_field_of_the_filter_asks(
    catalogue: Catalogue,
) -> None:
    source = await catalogue.add_container("source")
    copy = await catalogue.add_container(
        "copy",
        source_container_id=source.id,
        server_id=catalogue.there.id,
        status=Status.COPYING,
        created_at=after(1),
    )

    async def shown(**wanted: object) -> list[str]:
        filter = ContainerFilter(**wanted)
        found, total = await catalogue.read(containers.page, filter, 1, 100)
        assert total == len(found)
        return [container.name for container in found]

    assert await shown() == ["copy", "source"]
    assert await shown(owner_id=catalogue.user.id) == ["copy", "source"]
    assert await shown(owner_id=new_id()) == []
    assert await shown(project_id=catalogue.project.id, status=Status.RUNNING) == ["source"]
    assert await shown(server_id=catalogue.there.id) == ["copy"]
    assert await shown(source_container_id=source.id) == ["copy"]
    assert await catalogue.read(containers.copies_of, source.id) == [copy]
    assert await catalogue.read(containers.on_server, catalogue.there.id) == [copy]
    assert await catalogue.read(containers.names, catalogue.project.id) == {"source", "copy"}


async def test_what_says_how_copies_stand(catalogue: Catalogue) -> None:
    source = await catalogue.add_container("source")
    middle = await catalogue.add_container("middle", source_container_id=source.id)
    leaf = await catalogue.add_container("leaf", source_container_id=middle.id)
    orphan = await catalogue.add_container("orphan", source_container_id=new_id())
    alone = await catalogue.add_container("alone")
    for shown, wanted in (
        ([], []),
        ([alone, orphan], []),
        ([leaf], [middle]),
        ([source, alone], [source]),
        ([middle], [source, middle]),
        ([source, leaf, alone, middle], [source, middle]),
    ):
        found = await catalogue.read(containers.compared_with, shown)
        assert [one.id for one in found] == sorted(one.id for one in wanted)

    await catalogue.write(looks.ask, leaf.id, T0)
    asked = [LookRow(source.id), LookRow(leaf.id, asked_at=T0)]
    assert await catalogue.read(looks.every, [source.id, leaf.id]) == asked
    assert await catalogue.read(looks.every, []) == []


async def test_an_error_without_filesystem_takes_no_place(catalogue: Catalogue) -> None:
    await catalogue.add_container("a")
    await catalogue.add_container("b", status=Status.COPYING)
    await catalogue.add_container("c", status=Status.ERROR, generation_id=new_id())
    await catalogue.add_container("d", status=Status.ERROR)
    await catalogue.add_container("e", server_id=catalogue.there.id)
    assert await catalogue.read(containers.live_on, catalogue.here.id) == 3


async def test_which_containers_something_was_told_of(catalogue: Catalogue) -> None:
    one, other = await catalogue.add_container("one"), await catalogue.add_container("other")
    far = await catalogue.add_container("far", server_id=catalogue.there.id)
    seen = await catalogue.read(events.newest_id)
    here = (catalogue.here.id, seen)
    assert await catalogue.read(events.containers_changed, *here) == set()
    for changed in (one, one, far):
        await catalogue.write(containers.change, changed.id, firewall_rules=({"action": "deny"},))
    assert await catalogue.read(events.containers_changed, *here) == {one.id}
    assert await catalogue.read(events.containers_changed, catalogue.there.id, seen) == {far.id}
    await catalogue.write(containers.delete, one.id)
    await catalogue.write(containers.change, other.id, comment="new")
    assert await catalogue.read(events.containers_changed, *here) == {other.id}
