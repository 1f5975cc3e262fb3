"""`hoody login`."""

from __future__ import annotations

import asyncio
import os
import sys

import click

from daemon.client import Client
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
    given = Credentials(url.rstrip("/"), token)
    asyncio.run(_check(given))
    path = config_file(os.environ)
    try:
        keep(path, given)
    except OSError as error:
        raise click.ClickException(f"cannot write {path}: {error.strerror}") from None
    click.echo(f"logged in to {given.url}; kept in {path}; run: hoody projects list", err=True)


async def _check(given: Credentials) -> None:
    async with Client(given.url, given.token) as client:
        await client.get("/projects", limit="1")
