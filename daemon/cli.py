"""`hoodyd`, the operator's command: sets a server up, runs it, looks after it.

What goes wrong is told in one line that names the key and the command to run; exit 2, or 75 where
`run` may do with another try: a service manager makes it then.
A verb's parts are imported when it is called: importing all of them takes more than a second, and
a worker, which is started anew after a crash, needs neither the API nor what makes a server.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import os
import re
import sys
from types import ModuleType

import click

from daemon import logs
from daemon.cli_common import config_option
from daemon.config import DEFAULT_PATH, Config, load
from daemon.errors import ConfigError, DaemonError, StartLater
from daemon.keyfiles import read_sealing_key, read_tls, read_token_secret
from daemon.store.database import Database
from transfer.errors import TransferError

_MODULES = {
    "init": "daemon.setup",
    "migrate": "daemon.store.migrate",
    "run": "daemon.service",
    "worker": "daemon.worker",
    "exporter": "daemon.exporter",
    "keeper": "daemon.keeper",
    "doctor": "daemon.doctor",
    "demo": "daemon.demo",
}
_ELSEWHERE = {
    **dict.fromkeys(("token", "user", "server"), "daemon.cli_accounts"),
    **dict.fromkeys(("logs", "exec"), "daemon.cli_containers"),
    "image": "daemon.cli_images",
}


class _Verbs(click.Group):
    """The verbs of this module and of others, as click's "Lazily Loading Subcommands" has it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *_ELSEWHERE])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _ELSEWHERE:
            return super().get_command(ctx, cmd_name)
        module = importlib.import_module(_ELSEWHERE[cmd_name])
        command: click.Command = getattr(module, {"exec": "execute"}.get(cmd_name, cmd_name))
        return command


@click.group(cls=_Verbs)
@click.version_option(package_name="hoody-transfer", prog_name="hoodyd")
def hoodyd() -> None:
    """Copies containers between servers and keeps the copies up to date."""


@hoodyd.command()
@config_option
def init(config_path: str) -> None:
    """Make keys, directories, the database, and a first user. Safe to repeat."""

    def made(path: str) -> None:
        click.echo(f"made      {path}")

    report = asyncio.run(_module("init").init(config_path, os.environ, made))
    config = report.config
    click.echo(f"server    {config.server.id}  {config.server.name}")
    click.echo(f"user      {report.user.id}")
    click.echo(f"project   {report.project.id}  {report.project.name}")
    option = "" if config_path == DEFAULT_PATH else f" --config {config_path}"
    scheme = "https" if config.server.tls_cert else "http"
    click.echo("\nNext:")
    click.echo(f"  hoodyd run{option}")
    click.echo(f"  hoodyd token{option} --admin | hoody login --url {scheme}://{config.listen}")


@hoodyd.command("check-config")
@config_option
def check_config(config_path: str) -> None:
    """Read the config and its key files, and say whether they are good."""
    config = load(config_path, os.environ)
    if config.server.id:
        read_sealing_key(config)
        if config.auth.algorithm == "HS256":
            read_token_secret(config)
    read_tls(config)
    click.echo(f"{config_path}: good")


@hoodyd.command()
@config_option
def migrate(config_path: str) -> None:
    """Bring the database to this version's schema."""
    asyncio.run(_migrate(load(config_path, os.environ)))
    click.echo("the database has this version's schema")


@hoodyd.command()
@config_option
def run(config_path: str) -> None:
    """Run this server's daemon until it is told to stop."""
    sys.exit(_module("run").run(_prepared(config_path), config_path))


@hoodyd.command(hidden=True)
@config_option
def worker(config_path: str) -> None:
    """Run jobs one at a time; started by `run`."""
    sys.exit(_module("worker").main(_prepared(config_path)))


@hoodyd.command(hidden=True)
@config_option
def exporter(config_path: str) -> None:
    """Serve other servers; started by `run`."""
    sys.exit(_module("exporter").main(_prepared(config_path)))


@hoodyd.command(hidden=True)
@config_option
def keeper(config_path: str) -> None:
    """Watch over this server's storage; started by `run`."""
    sys.exit(_module("keeper").main(_prepared(config_path)))


@hoodyd.command()
@config_option
@click.option("--repair", is_flag=True, help="Mend what can be mended without a choice.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def doctor(config_path: str, repair: bool, as_json: bool) -> None:
    """Hold storage and catalogue against each other; exit 1 on a finding."""
    sys.exit(_module("doctor").run(_prepared(config_path), repair, as_json))


@hoodyd.command()
@click.option("--backend", type=click.Choice(["dir", "zfs"]), default="dir", show_default=True)
@click.option("--keep", is_flag=True, help="Leave it running, and print URLs and a token.")
def demo(backend: str, keep: bool) -> None:
    """Run two servers on this machine, and copy and sync containers between them."""
    sys.exit(_module("demo").run(backend, keep))


def main() -> None:
    """The entry point. Exit 2 with one line for what an operator can mend, 75 for what may pass."""
    try:
        hoodyd(prog_name="hoodyd")
    except (DaemonError, TransferError) as error:
        path = _config_path(sys.argv)
        click.echo(f"hoodyd: {_with_command(error, path)}", err=True)
        sys.exit(os.EX_TEMPFAIL if isinstance(error, StartLater) else 2)


def _module(verb: str) -> ModuleType:
    return importlib.import_module(_MODULES[verb])


def _prepared(config_path: str) -> Config:
    """The config of a process that logs, and has imported what it needs."""
    config = load(config_path, os.environ)
    logs.set_up(config.log, server_id=config.server.id)
    gc.freeze()  # what is imported stays: the collector need not look through it ever again
    return config


async def _migrate(config: Config) -> None:
    database = Database(config.database.url)
    try:
        await _module("migrate").migrate(database)
    finally:
        await database.close()


def _config_path(arguments: list[str]) -> str:
    """The config that the command line names, for the hint in an error."""
    for at, argument in enumerate(arguments):
        if argument == "--config" and at + 1 < len(arguments):
            return arguments[at + 1]
        if argument.startswith("--config="):
            return argument.removeprefix("--config=")
    return DEFAULT_PATH


def _with_command(error: DaemonError | TransferError, path: str) -> str:
    """The message on one line, with a command that names the config in use."""
    message = " ".join(error.message.split())
    if isinstance(error, ConfigError) and "run: " not in message:
        message += f" (edit {path}, then run: hoodyd check-config)"
    if path != DEFAULT_PATH:
        message = re.sub(r"run: (hoodyd(?: [a-z-]+)+)", rf"run: \1 --config {path}", message)
    return message
