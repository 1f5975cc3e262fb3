"""`hoodyd logs` and `hoodyd exec`: what root does with a container on its own server."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Sequence

import click

from daemon.cli_common import checked_id, config_option
from daemon.config import Config, load
from daemon.errors import StartError
from daemon.runtime.driver import open_runc
from daemon.runtime.runc import Runc


@click.command()
@config_option
@click.option("--tail", "lines", type=click.IntRange(min=0), help="Only the last N lines.")
@click.argument("container_id", metavar="ID", callback=checked_id)
def logs(config_path: str, lines: int | None, container_id: str) -> None:
    """Print what a container of this server has written, as far as it is kept."""
    files = _runc(load(config_path, os.environ)).logs(container_id)
    if not files:
        raise StartError(f"container: {container_id} has written nothing here")
    kept: deque[bytes] = deque(maxlen=lines)
    for path in files:
        with open(path, "rb") as file:
            kept.extend(file)
    for line in kept:
        sys.stdout.buffer.write(line)


@click.command("exec", context_settings={"ignore_unknown_options": True})
@config_option
@click.argument("container_id", metavar="ID", callback=checked_id)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def execute(config_path: str, container_id: str, command: Sequence[str]) -> None:
    """Run a command in a container of this server: ID -- COMMAND; exits as that does."""
    runtime = _runc(load(config_path, os.environ))
    if not runtime.alive(container_id):
        raise StartError(f"container: {container_id} does not run here")
    argv = runtime.exec_command(container_id, command, terminal=sys.stdin.isatty())
    os.execvp(argv[0], argv)  # noqa: S606 - it takes this process's place, and there is no shell


def _runc(config: Config) -> Runc:
    runtime = open_runc(config)
    if runtime is None:
        raise StartError("runtime.driver: is none: nothing runs in the containers of this server")
    return runtime
