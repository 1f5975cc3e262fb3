"""`hoody containers`: the verbs that read, and power."""

from __future__ import annotations

from collections import defaultdict

import click
from rich.markup import escape
from rich.tree import Tree

from daemon.client import Client, Json
from daemon.commands import output
from daemon.commands.act import Request, act, no_wait_option
from daemon.commands.replicas import copy, create, sync
from daemon.commands.session import find, json_option, run


@click.group()
def containers() -> None:
    """Containers: copy them, bring copies up to date, start and stop them."""


for _verb in (copy, sync, create):
    containers.add_command(_verb)


@containers.command("list")
@click.option("--project", help="Only those of this project.")
@click.option("--server", help="Only those on this server.")
@click.option("--copies-of", help="Only copies of this container.")
@json_option
def containers_list(
    project: str | None, server: str | None, copies_of: str | None, as_json: bool
) -> None:
    """List your containers, newest first.

    \b
    SYNC, of a copy:
      current   it has what its source had when it was last synced, and the source is as it was
      behind    its source has changed since; hoody containers sync brings it up to date
      orphaned  its source is gone; the copy stays whole
    """

    async def work(client: Client) -> None:
        query = {}
        if project:
            query["project_id"] = await find(client, "projects", project)
        if server:
            query["server_id"] = await find(client, "servers", server)
        if copies_of:
            query["source_container_id"] = await find(client, "containers", copies_of)
        found = await client.everything("containers", **query)
        if as_json:
            output.print_json(found)
            return
        headers = ["ID", "NAME", "STATUS", "SERVER", "PROJECT", "SYNC", ">SIZE", "UPDATED"]
        spare = ("PROJECT", "UPDATED", ">SIZE", "SERVER")
        rows = [_row(one) for one in found]
        output.print_table(headers, rows, empty="no containers", spare=spare)

    run(work)


@containers.command("show")
@click.argument("container", metavar="ID")
@json_option
def containers_show(container: str, as_json: bool) -> None:
    """Show one container; to administrators also where its files are on its server."""

    async def work(client: Client) -> None:
        found = await client.get(f"/containers/{await find(client, 'containers', container)}")
        if as_json:
            output.print_json(found)
            return
        storage = await client.get(f"/containers/{found['id']}/storage")
        facts = {**found, "rootfs": storage.get("rootfs")}
        output.print_facts(
            (name, output.text(value))
            for name, value in facts.items()
            if not isinstance(value, dict | list)
        )

    run(work)


@containers.command("tree")
@click.argument("container", metavar="[ID]", required=False)
@json_option
def containers_tree(container: str | None, as_json: bool) -> None:
    """Show which container is a copy of which."""

    async def work(client: Client) -> None:
        found = await client.everything("containers")
        top = await find(client, "containers", container) if container else None
        if as_json:
            output.print_json(lineage(found, top))
            return
        for root in lineage(found, top):
            output.out().print(_tree(root))

    run(work)


@containers.command("delete")
@click.argument("container", metavar="ID")
@no_wait_option
@json_option
def containers_delete(container: str, no_wait: bool, as_json: bool) -> None:
    """Delete a container; its copies stay whole."""
    _power("DELETE", container, "", wait=not no_wait, as_json=as_json)


@containers.command("start")
@click.argument("container", metavar="ID")
@no_wait_option
@json_option
def containers_start(container: str, no_wait: bool, as_json: bool) -> None:
    """Start a stopped container."""
    _power("POST", container, "/start", wait=not no_wait, as_json=as_json)


@containers.command("stop")
@click.argument("container", metavar="ID")
@no_wait_option
@json_option
def containers_stop(container: str, no_wait: bool, as_json: bool) -> None:
    """Stop a running container."""
    _power("POST", container, "/stop", wait=not no_wait, as_json=as_json)


@containers.command("restart")
@click.argument("container", metavar="ID")
@no_wait_option
@json_option
def containers_restart(container: str, no_wait: bool, as_json: bool) -> None:
    """Stop and start a container."""
    _power("POST", container, "/restart", wait=not no_wait, as_json=as_json)


def lineage(found: list[Json], top: str | None) -> list[Json]:
    """Containers with their copies below them in `copies`: from `top` down, or from every one
    whose source is not among those found."""
    copies: dict[object, list[Json]] = defaultdict(list)
    ids = {one["id"] for one in found}
    for one in reversed(found):
        source = one.get("source_container_id")
        copies[source if source in ids else None].append(one)

    def below(one: Json) -> Json:
        return {**one, "copies": [below(copy) for copy in copies[one["id"]]]}

    roots = copies[None] if top is None else [one for one in found if one["id"] == top]
    return [below(one) for one in roots]


def _power(method: str, container: str, verb: str, *, wait: bool, as_json: bool) -> None:
    async def work(client: Client) -> None:
        container_id = await find(client, "containers", container)
        request = Request(container, method, f"/containers/{container_id}{verb}")
        await act(client, [request], wait=wait, as_json=as_json)

    run(work)


def _row(container: Json) -> list[str]:
    return [
        str(container["id"]),
        output.text(container.get("name")),
        output.text(container.get("status")),
        output.text(container.get("server_name")),
        output.text(container.get("project_alias")),
        output.text(container.get("sync_state")),
        output.size(container.get("disk_used_bytes")),
        output.age(container.get("updated_at")),
    ]


def _tree(container: Json) -> Tree:
    name, status = escape(str(container["name"])), container.get("status")
    facts = [str(container["id"]), str(container.get("server_name")), str(status)]
    facts += [str(container["sync_state"])] if container.get("sync_state") else []
    tree = Tree(f"[bold]{name}[/]  {'  '.join(escape(fact) for fact in facts)}")
    copies = container["copies"]
    for copy_ in copies if isinstance(copies, list) else []:
        tree.children.append(_tree(copy_))
    return tree
