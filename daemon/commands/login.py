"""`hoody login`."""

from __future__ import annotations

import asyncio
import os
import sys
from http import HTTPStatus

import click

from daemon.client import Client, Refused
from daemon.commands.session import Credentials, config_file, keep

TOKEN_CHARACTERS_MAX = 16_384


@click.command()
@click.option("--url", required=True, help="Where the API is, such as http://127.0.0.1:8470.")
def login(url: str) -> None:
    """Keep the URL and the token that comes on standard input, once the API has accepted it."""
    if not url.startswith(("http://", "https://")):
        raise click.UsageError("--url must begin with http:// or https://")
    if sys.stdin.isatty():
        token = str(click.prompt("Token", hide_input=True, err=True)).strip()
    else:
        token = sys.stdin.read(TOKEN_CHARACTERS_MAX).strip()
    if not token.isascii() or not token or len(token.split()) != 1:
        raise click.UsageError("standard input must hold one token")
    given = asyncio.run(_checked(url, token))
    path = config_file(os.environ)
    try:
        keep(path, given)
    except OSError as error:
        raise click.ClickException(f"cannot write {path}: {error.strerror}") from None
    click.echo(f"logged in to {given.url}; kept in {path}; run: hoody projects list", err=True)


async def _checked(url: str, token: str) -> Credentials:
    async with Client(url, token) as client:
        try:
            await client.get("/projects", limit="1")
        except Refused as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            raise click.UsageError(
                f"there is no hoody API at {client.url}: give what comes before /api/v1, "
                "such as http://127.0.0.1:8470"
            ) from None
        return Credentials(client.url, token)
