"""`hoody containers`: the verbs that read, and power."""

from __future__ import annotations

from collections.abc import Iterator

import click
from rich.text import Text

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
        console = output.out()
        for line in draw(lineage(found, top), ascii_only=console.options.ascii_only):
            console.print(line, soft_wrap=True)  # a terminal breaks what is too long, and cuts none

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
    """Containers with their copies below them in `copies`, the oldest first: from `top` down, or
    from every one whose source is not among those found."""
    below: dict[str, list[Json]] = {str(one["id"]): [] for one in reversed(found)}
    nodes: dict[str, Json] = {str(one["id"]): {**one} for one in reversed(found)}
    roots: list[Json] = []
    for node_id, node in nodes.items():
        node["copies"] = below[node_id]
        below.get(str(node.get("source_container_id")), roots).append(node)
    return roots if top is None else [nodes[top]] if top in nodes else []


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


def draw(roots: list[Json], *, ascii_only: bool) -> Iterator[Text]:
    """What `lineage` found, as lines that show what is a copy of what. Copies of one source that
    is gone stand together, below a line for it."""
    fork, corner, bar = ("+-- ", "`-- ", "|   ") if ascii_only else ("├── ", "└── ", "│   ")
    left = [("", "", one) for one in reversed(_with_deleted(roots))]
    while left:  # not by recursion, for there may be many copies of copies
        lead, indent, one = left.pop()
        yield Text(lead).append(_label(one))
        lead, below = corner, " " * len(bar)
        for copy_ in reversed(_copies(one)):
            left.append((indent + lead, indent + below, copy_))
            lead, below = fork, bar


def _with_deleted(roots: list[Json]) -> list[Json]:
    """The same, but orphans are below the source that they had."""
    tops: dict[object, Json] = {}
    for root in roots:
        source_id = root.get("source_container_id")
        if root.get("sync_state") != "orphaned":
            tops[root["id"]] = root
        elif source_id in tops:
            tops[source_id] = {**tops[source_id], "copies": [*_copies(tops[source_id]), root]}
        else:
            tops[source_id] = {"name": "(deleted)", "id": source_id, "copies": [root]}
    return list(tops.values())


def _copies(container: Json) -> list[Json]:
    copies = container["copies"]
    return copies if isinstance(copies, list) else []


def _label(container: Json) -> Text:
    label = output.cell(str(container["name"]))
    label.stylize("bold")
    facts = [container.get(name) for name in ("id", "server_name", "status", "sync_state")]
    for fact in facts:
        if fact:
            label.append("  ").append(output.cell(str(fact)))
    return label
