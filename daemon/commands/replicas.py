"""`hoody containers copy`, `sync` and `create`: what makes a container's filesystem."""

from __future__ import annotations

import shlex

import click

from daemon.client import Client, Json
from daemon.commands.act import Request, act, no_wait_option
from daemon.commands.session import find, json_option, run

strategy_option = click.option(
    "--strategy",
    type=click.Choice(["auto", "full", "content-diff"]),
    default="auto",
    show_default=True,
    help="How to move the bytes; auto picks the least.",
)


@click.command()
@click.argument("container", metavar="ID")
@click.option("--target-project-id", required=True, metavar="ID", help="Where the copy belongs.")
@click.option("--target-server-id", metavar="ID", help="Where it lives; default: the source's.")
@click.option("--name", help="Default: the source's name and -copy.")
@click.option("--source-snapshot", metavar="NAME", help="Copy this state, not the current one.")
@click.option("--ssh-public-key", metavar="KEY", help="Default: a new key pair is made.")
@click.option("--copy-firewall-rules", is_flag=True)
@click.option("--copy-network-rules", is_flag=True)
@strategy_option
@no_wait_option
@json_option
def copy(container: str, strategy: str, no_wait: bool, as_json: bool, **asked: object) -> None:
    """Make an independent copy of a container, in any project and on any server."""

    async def work(client: Client) -> None:
        source_id = await find(client, "containers", container)
        body = _given(asked)
        for key, noun in (("target_project_id", "projects"), ("target_server_id", "servers")):
            if key in body:
                body[key] = await find(client, noun, str(body[key]))
        path = f"/containers/{source_id}/copy"
        request = Request(container, "POST", path, body, _query(strategy), makes=True)
        await act(client, [request], wait=not no_wait, as_json=as_json)

    run(work)


@click.command()
@click.argument("container", metavar="[ID]", required=False)
@click.option("--copies-of", metavar="ID", help="Sync all copies of this container.")
@strategy_option
@no_wait_option
@json_option
def sync(
    container: str | None, copies_of: str | None, strategy: str, no_wait: bool, as_json: bool
) -> None:
    """Bring a copy up to date with its source; what was changed on the copy is overwritten."""
    if (container is None) == (copies_of is None):
        raise click.UsageError("give either the ID of a copy, or --copies-of the ID of a source")

    async def work(client: Client) -> None:
        if container is not None:
            targets = [(container, await find(client, "containers", container))]
        else:
            targets = await _copies(client, str(copies_of))
        requests = [
            Request(label, "POST", f"/containers/{copy_id}/sync", None, _query(strategy))
            for label, copy_id in targets
        ]
        await act(client, requests, wait=not no_wait, as_json=as_json)

    run(work)


@click.command()
@click.option("--project", "project_id", required=True, metavar="ID", help="Where it belongs.")
@click.option("--image", metavar="NAME", help="An image that is free or yours, or its id.")
@click.option("--source-path", metavar="DIR", help="A directory of the server.")
@click.option("--name", help="Default: container- and six digits.")
@click.option("--server", "server_id", metavar="ID", help="Default: the one that answers.")
@click.option("--command", metavar="COMMAND", help="What runs in it, in shell words.")
@click.option("--env", "variables", multiple=True, metavar="KEY=VALUE", help="May be repeated.")
@click.option("--no-autostart", is_flag=True, help="Leave it stopped.")
@no_wait_option
@json_option
def create(
    variables: tuple[str, ...], no_autostart: bool, no_wait: bool, as_json: bool, **asked: object
) -> None:
    """Make a container from an image; or, for administrators, from a directory on a server, below
    an import root of its config."""
    body = _given(asked)
    if ("image" in body) == ("source_path" in body):
        raise click.UsageError("give either --image or --source-path")
    if "command" in body:
        body["command"] = _words(str(body["command"]))
    if variables:
        body["environment_vars"] = _environment(variables)
    if no_autostart:
        body["autostart"] = False

    async def work(client: Client) -> None:
        body["project_id"] = await find(client, "projects", str(body["project_id"]))
        if "server_id" in body:
            body["server_id"] = await find(client, "servers", str(body["server_id"]))
        label = str(body.get("image") or body["source_path"])
        request = Request(label, "POST", "/containers", body, makes=True)
        await act(client, [request], wait=not no_wait, as_json=as_json)

    run(work)


async def _copies(client: Client, source: str) -> list[tuple[str, str]]:
    """The copies of a source, by name and id. Raises Refused where there is neither."""
    source_id = await find(client, "containers", source)
    found = await client.everything("containers", source_container_id=source_id)
    if not found:
        await client.get(f"/containers/{source_id}")
        click.echo(f"{source} has no copies", err=True)
    return [(str(one["name"]), str(one["id"])) for one in found]


def _given(asked: dict[str, object]) -> Json:
    """What the user gave; a flag that was not set is not sent."""
    return {key: value for key, value in asked.items() if value not in (None, False)}


def _query(strategy: str) -> dict[str, str]:
    return {} if strategy == "auto" else {"strategy": strategy}


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError as error:
        raise click.UsageError(f"--command: {error}") from None


def _environment(variables: tuple[str, ...]) -> dict[str, str]:
    pairs = [variable.partition("=") for variable in variables]
    for name, equals, _value in pairs:
        if not (name and equals):
            raise click.UsageError("--env must be KEY=VALUE")
    return {name: value for name, _equals, value in pairs}
