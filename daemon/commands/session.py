"""What every verb of `hoody` needs: where the API is, who asks, and which thing is meant."""

from __future__ import annotations

import asyncio
import json
import os
import re
import tomllib
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import click

from daemon.client import Client, Json, Refused

Result = TypeVar("Result")

CONFIG_BYTES_MAX = 65_536
_ID = re.compile(r"[0-9a-f]{24}")
_PREFIX = re.compile(r"[0-9a-f]{6,23}")
_SHORT_PREFIX = re.compile(r"[0-9a-f]{1,5}")

json_option = click.option("--json", "as_json", is_flag=True, help="Print the API's data.")


class JobFailed(Exception):
    """A job that was waited for did not succeed; what went wrong has been printed."""


class SomeRefused(Exception):
    """The API refused some of several requests; which, and why, has been printed."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Where the API is, and the token that says who asks."""

    url: str
    token: str


def config_file(environ: Mapping[str, str]) -> str:
    """The file that `hoody login` writes."""
    home = environ.get("HOME") or os.path.expanduser("~")
    return os.path.join(home, ".config", "hoody", "config.toml")


def credentials(environ: Mapping[str, str]) -> Credentials:
    """From `HOODY_API_URL` and `HOODY_TOKEN`, else from the file. A usage error where one lacks."""
    kept = _kept(config_file(environ))
    url = environ.get("HOODY_API_URL") or kept.get("url")
    token = environ.get("HOODY_TOKEN") or kept.get("token")
    if not (isinstance(url, str) and isinstance(token, str)):
        raise click.UsageError(
            "not logged in: run `hoody login --url URL` with the token on standard input, "
            "or set HOODY_API_URL and HOODY_TOKEN"
        )
    return Credentials(url, token)


def keep(path: str, given: Credentials) -> None:
    """Writes the user's config, readable by them alone, whole or not at all."""
    os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
    draft = f"{path}.{os.getpid()}"
    content = f"url = {json.dumps(given.url)}\ntoken = {json.dumps(given.token)}\n"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(content)
    os.replace(draft, path)


def run(work: Callable[[Client], Awaitable[None]]) -> None:
    """Does `work` with a client of the user's API."""
    given = credentials(os.environ)

    async def session() -> None:
        async with Client(given.url, given.token) as client:
            await work(client)

    asyncio.run(session())


async def together(work: Sequence[Coroutine[None, None, Result]]) -> list[Result]:
    """The results of all, in order. The first failure ends the others and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]


async def find(client: Client, noun: str, text: str) -> str:
    """The id of what `text` names: an id, a unique prefix of 6 or more, or a unique name.

    Raises Refused where there is none, a usage error where there are several.
    """
    if _ID.fullmatch(text):
        return text
    return str(chosen(await client.everything(noun), noun, text)["id"])


def chosen(things: list[Json], noun: str, text: str) -> Json:
    """The one of these things that `text` names. Raises as `find` does."""
    matches = pick(things, text)
    if not matches:
        code = "CONTAINER_NOT_FOUND" if noun == "containers" else "RESOURCE_NOT_FOUND"
        message = f"none of your {noun.replace('/', ' ')} is called {text!r}"
        if _SHORT_PREFIX.fullmatch(text):
            message += ", and the beginning of an id takes six digits or more"
        raise Refused(404, code, message, path=f"/{noun}/{text}")
    if len(matches) > 1:
        raise click.UsageError(f"{text!r} could be any of: {'; '.join(map(_told, matches))}")
    return matches[0]


def pick(things: list[Json], text: str) -> list[Json]:
    """The things that have this name (what has none, this alias), or whose id begins with it."""
    prefix = bool(_PREFIX.fullmatch(text))
    return [
        thing
        for thing in things
        if thing.get("name", thing.get("alias")) == text
        or (prefix and str(thing["id"]).startswith(text))
    ]


def _told(thing: Json) -> str:
    """An id, and where its container is."""
    words = [str(thing["id"])]
    words += [f"of container {thing['container_id']}"] if "container_id" in thing else []
    words += [f"in project {thing['project_alias']}"] if "project_alias" in thing else []
    words += [f"on server {thing['server_name']}"] if "server_name" in thing else []
    return " ".join(words)


def _kept(path: str) -> Json:
    try:
        with open(path, "rb") as file:
            return tomllib.loads(file.read(CONFIG_BYTES_MAX).decode())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise click.UsageError(f"cannot read {path}: {error.strerror}") from None
    except ValueError:
        raise click.UsageError(f"{path} is damaged; run: hoody login --url URL") from None
