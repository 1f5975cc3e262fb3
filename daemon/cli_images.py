"""`hoodyd image`: the catalogue of images, what containers begin as."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

import click

from daemon import money
from daemon.actions import image_adding
from daemon.actions.image_adding import Wanted
from daemon.cli_common import config_option
from daemon.commands import output
from daemon.config import Config, load
from daemon.errors import StartError
from daemon.model import new_id, now
from daemon.model_images import Image
from daemon.store import image_shelf, images, servers
from daemon.store.database import Database, Tx
from transfer.model import Traits
from transfer.storage import open_storage

Result = TypeVar("Result")

ICON_BYTES_MAX = 256 * 1024
TEXT_LETTERS_MAX = 2000
TAGS_MAX = 50

_NAME = re.compile(r"[a-z0-9][a-z0-9._/-]{0,99}")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_PNG = b"\x89PNG\r\n\x1a\n"
_HEADERS = ("ID", "NAME", "OS", "RELEASE", "ARCH", "SERIAL", ">SIZE", ">PRICE", "STATE", "SERVER")
_AS_GIVEN = ("os", "release", "variant", "description", "tags", "price_cents", "prespawn")
_SPARE = ("SERIAL", "SERVER", "OS", "RELEASE")


@click.group()
def image() -> None:
    """The images that containers begin as."""


def _checked_name(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    if not _NAME.fullmatch(value):
        raise click.BadParameter(
            f"{value!r} is no name of an image: a-z, 0-9, '.', '_', '/' and '-', at most 100"
        )
    return value


def _checked_word(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> str | None:
    if value is not None and not _WORD.fullmatch(value):
        raise click.BadParameter(
            f"{value!r} must be letters, digits, '.', '_', '+' and '-', at most 64"
        )
    return value


def _checked_text(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    if len(value) > TEXT_LETTERS_MAX or not value.isprintable():
        raise click.BadParameter(f"must be one line of at most {TEXT_LETTERS_MAX} letters")
    return value


def _checked_tags(
    context: click.Context, parameter: click.Parameter, value: tuple[str, ...]
) -> tuple[str, ...]:
    for tag in value:
        _checked_word(context, parameter, tag)
    tags = tuple(dict.fromkeys(value))
    if len(tags) > TAGS_MAX:
        raise click.BadParameter(f"at most {TAGS_MAX} of them")
    return tags


def _cents(_context: click.Context, _parameter: click.Parameter, value: str) -> int:
    """The cents in decimal text."""
    with suppress(ValueError):
        if (cents := money.cents_of(value)) >= 0:
            return cents
    raise click.BadParameter(f"{value!r} is no price: at most nine digits and two decimals")


def _icon(_context: click.Context, _parameter: click.Parameter, value: str | None) -> bytes | None:
    """The icon's bytes."""
    if value is None:
        return None
    with open(value, "rb") as file:
        png = file.read(ICON_BYTES_MAX + 1)
    if not png.startswith(_PNG):
        raise click.BadParameter(f"{value} is no PNG")
    if len(png) > ICON_BYTES_MAX:
        raise click.BadParameter(f"{value} is larger than {ICON_BYTES_MAX // 1024} KiB")
    return png


@image.command("add")
@config_option
@click.argument("alias", metavar="NAME", callback=_checked_name)
@click.option("--os", required=True, callback=_checked_word, help="Like debian.")
@click.option("--release", required=True, callback=_checked_word, help="Like 12.")
@click.option("--architecture", required=True, callback=_checked_word, help="Like amd64.")
@click.option(
    "--from",
    "source",
    required=True,
    metavar="TARBALL|DIR",
    type=click.Path(exists=True, readable=True, resolve_path=True),
    help="Its root filesystem: tar, also by gzip, zstd or xz, or a directory.",
)
@click.option("--icon", callback=_icon, metavar="PNG", type=click.Path(exists=True, dir_okay=False))
@click.option("--price", "price_cents", default="0", callback=_cents, help="Like 5.99.")
@click.option("--tag", "tags", multiple=True, callback=_checked_tags, help="May be repeated.")
@click.option("--description", default="", callback=_checked_text)
@click.option("--variant", default="default", show_default=True, callback=_checked_word)
@click.option("--serial", callback=_checked_word, help="Default: today, like 20250110.")
@click.option("--prespawn", is_flag=True, help="Keep it present on all servers.")
@click.option("--unpublished", is_flag=True, help="Leave it off the public list for now.")
def image_add(config_path: str, **given: Any) -> None:
    """Take a root filesystem in on this server, as the image NAME.

    It may run beside the daemon. Interrupted, it leaves nothing that the daemon does not remove.
    """
    config = load(config_path, os.environ)
    if not config.server.id:
        raise StartError("server.id: this server has none yet; run: hoodyd init")
    # A thread that unpacks cannot be stopped, and need not be: the process can.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    made, traits = asyncio.run(_add(config, _wanted(config, given)))
    output.print_facts(
        [
            ("image", made.alias),
            ("id", made.id),
            ("size", output.size(made.size_bytes)),
            ("state", _state(made)),
            ("not kept", ", ".join(_lost(traits))),
        ]
    )


@image.command("list")
@config_option
def image_list(config_path: str) -> None:
    """Print every image."""
    config = load(config_path, os.environ)

    async def read(tx: Tx) -> tuple[list[Image], dict[str, str]]:
        names = {server.id: server.name for server in await servers.every(tx)}
        return await image_shelf.every(tx), names

    found, names = _in_catalogue(config, read)
    rows = [_row(one, names[one.server_id]) for one in found]
    output.print_table(_HEADERS, rows, empty="no images yet", spare=_SPARE)


@image.command("remove")
@config_option
@click.argument("named", metavar="NAME|ID")
def image_remove(config_path: str, named: str) -> None:
    """Forget an image, who owns it and its ratings; containers made from it stay whole."""
    _in_catalogue(load(config_path, os.environ), lambda tx: _remove(tx, named))


@image.command("publish")
@config_option
@click.argument("named", metavar="NAME|ID")
def image_publish(config_path: str, named: str) -> None:
    """Put an image on the public list."""
    _in_catalogue(load(config_path, os.environ), lambda tx: _set_public(tx, named, True))


@image.command("unpublish")
@config_option
@click.argument("named", metavar="NAME|ID")
def image_unpublish(config_path: str, named: str) -> None:
    """Take an image off the public list; those who own it keep it."""
    _in_catalogue(load(config_path, os.environ), lambda tx: _set_public(tx, named, False))


def _wanted(config: Config, given: dict[str, Any]) -> Wanted:
    alias, architecture = given["alias"], given["architecture"]
    described = Image(
        id=new_id(),
        server_id=config.server.id,
        alias=alias,
        image_name=f"{alias.replace('/', '-')}-{architecture}",
        architecture=architecture,
        serial=given["serial"] or f"{now():%Y%m%d}",
        public=not given["unpublished"],
        **{name: given[name] for name in _AS_GIVEN},
    )
    return Wanted(described, given["source"], given["icon"])


async def _add(config: Config, wanted: Wanted) -> tuple[Image, Traits]:
    database = Database(config.database.url)
    settings, lock_dir = config.storage, config.server.state_dir
    try:
        await database.check()
        storage = await open_storage(settings.backend, settings.root, settings.mount_root, lock_dir)
        made = await image_adding.add(database, storage, lock_dir, wanted)
        return made, await storage.traits()
    finally:
        await database.close()


async def _known(tx: Tx, named: str) -> Image:
    found = await images.find(tx, named)
    if found is None:
        raise StartError(f"image: there is no {named}; run: hoodyd image list")
    return found


async def _remove(tx: Tx, named: str) -> None:
    await images.delete(tx, (await _known(tx, named)).id)


async def _set_public(tx: Tx, named: str, public: bool) -> None:
    await images.change(tx, (await _known(tx, named)).id, public=public)


def _row(one: Image, server_name: str) -> list[str]:
    price = money.text(one.price_cents) if one.price_cents else "free"
    described = [one.os, one.release, one.architecture, one.serial]
    size = output.size(one.size_bytes)
    return [one.id, one.alias, *described, size, price, _state(one), server_name]


def _state(one: Image) -> str:
    return ("public" if one.public else "unpublished") + (", prespawn" if one.prespawn else "")


def _lost(traits: Traits) -> list[str]:
    """What this server cannot keep of any tree."""
    lost = [] if traits.xattrs else ["extended attributes: this storage has none"]
    return lost if os.geteuid() == 0 else [*lost, "owners and devices: that takes root"]


def _in_catalogue(config: Config, work: Callable[[Tx], Awaitable[Result]]) -> Result:
    """Does `work` in one transaction. Raises CatalogueError, also for an old schema."""

    async def session() -> Result:
        database = Database(config.database.url)
        try:
            await database.check()
            async with database.write() as tx:
                return await work(tx)
        finally:
            await database.close()

    return asyncio.run(session())
