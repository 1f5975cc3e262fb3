"""What the verbs of `hoodyd` share."""

from __future__ import annotations

import re

import click

from daemon.config import DEFAULT_PATH

_ID = re.compile(r"[0-9a-f]{24}")


def checked_id(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> str | None:
    """A callback for click: an id has 24 lower-case hex digits."""
    if value is not None and not _ID.fullmatch(value):
        raise click.BadParameter(f"{value!r} is no id: 24 lower-case hex digits")
    return value


config_option = click.option(
    "--config",
    "config_path",
    default=DEFAULT_PATH,
    show_default=True,
    metavar="FILE",
    help="The configuration file.",
)
