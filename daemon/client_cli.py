"""`hoody`, the user's command: a client of the REST API.

Exit codes: 0 success, 2 usage, 3 refused by the API, 4 the job failed, 5 no connection.
"""

from __future__ import annotations

import sys

import click

from daemon.client import NoConnection, Refused
from daemon.commands.containers import containers
from daemon.commands.hints import hint
from daemon.commands.jobs import jobs
from daemon.commands.login import login
from daemon.commands.projects import projects
from daemon.commands.servers import servers
from daemon.commands.session import JobFailed
from daemon.commands.snapshots import snapshots

EXIT_REFUSED = 3
EXIT_JOB_FAILED = 4
EXIT_NO_CONNECTION = 5


@click.group(epilog="HOODY_API_URL and HOODY_TOKEN take the place of what `login` keeps.")
@click.version_option(package_name="hoody-transfer", prog_name="hoody")
def hoody() -> None:
    """Copies containers between servers and keeps the copies up to date."""


for _noun in (containers, snapshots, jobs, projects, servers, login):
    hoody.add_command(_noun)


def main() -> None:
    """The entry point; says in one line why it exits with something other than 0."""
    try:
        hoody(prog_name="hoody")
    except JobFailed:
        sys.exit(EXIT_JOB_FAILED)
    except Refused as error:
        reason = f"{error.message}{_detail(error.details)}{hint(error.code)}"
        click.echo(f"hoody: {error.code}: {reason}", err=True)
        sys.exit(EXIT_REFUSED)
    except NoConnection as error:
        click.echo(f"hoody: {error.message}; is that the URL, and does hoodyd run there?", err=True)
        sys.exit(EXIT_NO_CONNECTION)


def _detail(details: object) -> str:
    """Which field and why, where the API says so."""
    if not details:
        return ""
    if isinstance(details, dict):
        details = ", ".join(f"{key}: {value}" for key, value in details.items())
    return f" ({details})"


if __name__ == "__main__":
    main()
