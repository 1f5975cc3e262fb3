"""`hoody servers`."""

from __future__ import annotations

import click

from daemon.client import Client, Json
from daemon.commands import output
from daemon.commands.session import json_option, run


@click.group()
def servers() -> None:
    """The machines that containers live on."""


@servers.command("list")
@json_option
def servers_list(as_json: bool) -> None:
    """List the servers of the cluster."""

    async def work(client: Client) -> None:
        found = await client.everything("servers")
        if as_json:
            output.print_json(found)
            return
        headers = ["ID", "NAME", "STATE", ">CONTAINERS", ">AVAILABLE", ">TOTAL", "HEARTBEAT"]
        spare = (">TOTAL", "HEARTBEAT", ">CONTAINERS")
        rows = [_row(one) for one in found]
        output.print_table(headers, rows, empty="no servers", spare=spare)

    run(work)


def _row(server: Json) -> list[str]:
    found = server.get("storage")
    storage = found if isinstance(found, dict) else {}
    return [
        str(server["id"]),
        output.text(server.get("name")),
        "online" if server.get("online") else "offline",
        f"{server.get('live_containers')} of {server.get('max_containers')}",
        output.size(storage.get("available_bytes")),
        output.size(storage.get("total_bytes")),
        output.age(server.get("last_heartbeat_at")),
    ]
