"""`hoody projects`."""

from __future__ import annotations

import click

from daemon.client import Client
from daemon.commands import output
from daemon.commands.session import json_option, run


@click.group()
def projects() -> None:
    """Named sets of containers."""


@projects.command("list")
@json_option
def projects_list(as_json: bool) -> None:
    """List your projects."""

    async def work(client: Client) -> None:
        found = await client.everything("projects")
        if as_json:
            output.print_json(found)
            return
        rows = [
            [str(one["id"]), str(one["name"]), output.age(one.get("created_at"))] for one in found
        ]
        output.print_table(["ID", "NAME", "CREATED"], rows, empty="no projects", spare=("CREATED",))

    run(work)


@projects.command("create")
@click.argument("name")
@json_option
def projects_create(name: str, as_json: bool) -> None:
    """Make a project; prints its id."""

    async def work(client: Client) -> None:
        made, _job_id = await client.request("POST", "/projects", body={"name": name})
        if as_json:
            output.print_json(made)
        else:
            click.echo(made["id"])

    run(work)
