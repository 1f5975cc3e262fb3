"""`hoody snapshots`."""

from __future__ import annotations

from urllib.parse import quote

import click

from daemon.client import Client, Json, Refused
from daemon.commands import output
from daemon.commands.session import find, json_option, run
from daemon.commands.waiting import report_all, wait


@click.group()
def snapshots() -> None:
    """States of a container, kept to come back to or to copy from."""


@snapshots.command("create")
@click.option("--container", required=True, metavar="ID", help="Whose state to keep.")
@click.option("--alias", help="A name of your own.")
@click.option("--expiry", type=float, metavar="DAYS", help="Default: kept until deleted.")
@json_option
def snapshots_create(
    container: str, alias: str | None, expiry: float | None, as_json: bool
) -> None:
    """Take a snapshot; prints its name."""
    given: Json = {"alias": alias, "expiry": expiry}
    body = {key: value for key, value in given.items() if value is not None}

    async def work(client: Client) -> None:
        path = await _list_path(client, container)
        data = await _done(client, container, "POST", path, body)
        made = _snapshot(data)
        if as_json:
            output.print_json(data)
        else:
            click.echo(made["name"])
        if made.get("inconsistent_files"):
            click.echo(f"{made['inconsistent_files']} files changed as they were read", err=True)

    run(work)


@snapshots.command("list")
@click.argument("container", metavar="ID")
@json_option
def snapshots_list(container: str, as_json: bool) -> None:
    """List a container's snapshots, newest first.

    \b
    USED       when it was last restored or copied from
    SIZE       bytes that it refers to
    ALONE      bytes of it that nothing else has
    INHERITED  it came with a copy or a sync
    """

    async def work(client: Client) -> None:
        data = await client.get(await _list_path(client, container))
        if as_json:
            output.print_json(data)
            return
        found = data.get("snapshots")
        rows = [_row(one) for one in found] if isinstance(found, list) else []
        headers = ["NAME", "ALIAS", "CREATED", "EXPIRES", "USED", ">SIZE", ">ALONE", "INHERITED"]
        spare = ("INHERITED", "USED", ">SIZE", "CREATED")
        output.print_table(headers, rows, empty="no snapshots", spare=spare)

    run(work)


@snapshots.command("restore")
@click.argument("container", metavar="ID")
@click.argument("name")
@json_option
def snapshots_restore(container: str, name: str, as_json: bool) -> None:
    """Make a container what it was at a snapshot, by NAME or alias; no snapshot is lost."""

    async def work(client: Client) -> None:
        path = await _one_path(client, container, name)
        data = await _done(client, container, "PATCH", path)
        _say(data, f"{container}: restored {_snapshot(data).get('name', name)}", as_json)

    run(work)


@snapshots.command("alias")
@click.argument("container", metavar="ID")
@click.argument("name")
@click.argument("alias", required=False)
@click.option("--remove", is_flag=True, help="Take the alias away.")
@json_option
def snapshots_alias(
    container: str, name: str, alias: str | None, remove: bool, as_json: bool
) -> None:
    """Give a snapshot, by NAME or alias, another ALIAS."""
    if (alias is None) != remove:
        raise click.UsageError("give either an ALIAS or --remove")

    async def work(client: Client) -> None:
        path = await _one_path(client, container, name)
        data, _no_job = await client.request("PATCH", f"{path}/alias", body={"alias": alias})
        shown = _snapshot(data)
        _say(data, f"{shown.get('name')}: {output.text(shown.get('alias'))}", as_json)

    run(work)


@snapshots.command("delete")
@click.argument("container", metavar="ID")
@click.argument("name")
@json_option
def snapshots_delete(container: str, name: str, as_json: bool) -> None:
    """Delete a snapshot, by NAME or an alias that no other has."""

    async def work(client: Client) -> None:
        path = await _one_path(client, container, name)
        data = await _done(client, container, "DELETE", path)
        _say(data, f"{container}: deleted {data.get('snapshot_name', name)}", as_json)

    run(work)


async def _done(
    client: Client, label: str, method: str, path: str, body: Json | None = None
) -> Json:
    """The data of a verb that is answered when its job has ended.

    A job that takes longer than a request may is waited for, and there is only the job to show.
    Raises JobFailed where the job did not succeed, Refused where there is none.
    """
    try:
        data, _job_id = await client.request(method, path, body=body)
    except Refused as error:
        if error.job_id is None:
            raise
        ended = await wait(client, [(label, error.job_id)])
        report_all([label], ended)
        return {"job": ended[0]}
    return data


async def _list_path(client: Client, container: str) -> str:
    return f"/containers/{await find(client, 'containers', container)}/snapshots"


async def _one_path(client: Client, container: str, name: str) -> str:
    """The path of a snapshot. A usage error for what a URL's path cannot end in."""
    if name in ("", ".", ".."):
        raise click.UsageError(f"{name!r} names no snapshot")
    return f"{await _list_path(client, container)}/{quote(name, safe='')}"


def _snapshot(data: Json) -> Json:
    """The snapshot in an answer, or what the result of its job tells of it."""
    job = data.get("job")
    result = job.get("result") if isinstance(job, dict) else None
    if isinstance(result, dict):
        return {**result, "name": result.get("snapshot")}
    found = data.get("snapshot")
    return found if isinstance(found, dict) else {}


def _say(data: Json, sentence: str, as_json: bool) -> None:
    if as_json:
        output.print_json(data)
    else:
        click.echo(sentence)


def _row(snapshot: Json) -> list[str]:
    return [
        output.text(snapshot.get("name")),
        output.text(snapshot.get("alias")),
        output.age(snapshot.get("created_at")),
        output.ahead(snapshot.get("expires_at")),
        output.age(snapshot.get("last_used_at")),
        output.size(snapshot.get("size")),
        output.size(snapshot.get("unique_bytes")),
        output.text(snapshot.get("inherited")),
    ]
