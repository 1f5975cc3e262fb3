"""`hoody proxy`: aliases, which say what the names of a project lead to."""

from __future__ import annotations

from collections.abc import Mapping

import click

from daemon.client import Client, Json
from daemon.commands import output
from daemon.commands.session import find, json_option, run

ALIASES = "proxy/aliases"


@click.group()
def proxy() -> None:
    """Names under which the proxy reaches programs in containers."""


@proxy.command("create")
@click.option("--container-id", required=True, metavar="ID", help="Where the name leads.")
@click.option("--alias", required=True, help="The name: a-z, 0-9 and -; unique in the project.")
@click.option("--program", required=True, help="The program that answers there.")
@click.option("--index", type=int, default=1, show_default=True, help="Which one of several.")
@click.option("--target-path", default="/", show_default=True, metavar="PATH")
@json_option
def proxy_create(container_id: str, as_json: bool, **asked: object) -> None:
    """Make an alias; prints its id."""

    async def work(client: Client) -> None:
        body = {"container_id": await find(client, "containers", container_id), **asked}
        made, _job_id = await client.request("POST", f"/{ALIASES}", body=body)
        if as_json:
            output.print_json(made)
        else:
            click.echo(made["id"])

    run(work)


@proxy.command("list")
@click.option("--container", metavar="ID", help="Only those of this container.")
@click.option("--project", metavar="ID", help="Only those of this project.")
@json_option
def proxy_list(container: str | None, project: str | None, as_json: bool) -> None:
    """List your aliases, newest first."""

    async def work(client: Client) -> None:
        query = {}
        if container:
            query["container_id"] = await find(client, "containers", container)
        if project:
            query["project_id"] = await find(client, "projects", project)
        found = await client.everything(ALIASES, **query)
        if as_json:
            output.print_json(found)
            return
        containers = {one["id"]: one for one in await client.everything("containers")}
        headers = ["ID", "ALIAS", "CONTAINER", "PROGRAM", ">INDEX", "PATH", "PROJECT", "CREATED"]
        rows = [_row(one, containers.get(one["container_id"], {})) for one in found]
        spare = ("CREATED", "PROJECT", ">INDEX")
        output.print_table(headers, rows, empty="no proxy aliases", spare=spare)

    run(work)


@proxy.command("delete")
@click.argument("alias", metavar="ID")
@json_option
def proxy_delete(alias: str, as_json: bool) -> None:
    """Delete an alias, by its id or by a name that is unique among yours."""

    async def work(client: Client) -> None:
        alias_id = await find(client, ALIASES, alias)
        gone, _no_job = await client.request("DELETE", f"/{ALIASES}/{alias_id}")
        if as_json:
            output.print_json(gone)
        else:
            click.echo(f"{gone['alias']}: deleted")

    run(work)


def _row(alias: Json, container: Mapping[str, object]) -> list[str]:
    return [
        str(alias["id"]),
        output.text(alias.get("alias")),
        output.text(container.get("name", alias.get("container_id"))),
        output.text(alias.get("program")),
        output.text(alias.get("index")),
        output.text(alias.get("target_path")),
        output.text(container.get("project_alias")),
        output.age(alias.get("created_at")),
    ]
