"""`hoody`, the user's command: a client of the REST API.

Exit codes: 0 success, 2 usage, 3 refused by the API, 4 the job failed, 5 no connection,
130 interrupted.
"""

from __future__ import annotations

import sys

import click

from daemon.client import NoConnection, Refused
from daemon.commands.containers import containers
from daemon.commands.hints import told
from daemon.commands.images import images
from daemon.commands.jobs import jobs
from daemon.commands.login import login
from daemon.commands.projects import projects
from daemon.commands.proxy import proxy
from daemon.commands.servers import servers
from daemon.commands.session import JobFailed, SomeRefused
from daemon.commands.snapshots import snapshots

EXIT_REFUSED = 3
EXIT_JOB_FAILED = 4
EXIT_NO_CONNECTION = 5
EXIT_INTERRUPTED = 130


@click.group(epilog="HOODY_API_URL and HOODY_TOKEN take the place of what `login` keeps.")
@click.version_option(package_name="hoody-transfer", prog_name="hoody")
def hoody() -> None:
    """Copies containers between servers and keeps the copies up to date."""


for _noun in (containers, snapshots, images, jobs, projects, proxy, servers, login):
    hoody.add_command(_noun)


def main() -> None:
    """The entry point; says in one line why it exits with something other than 0."""
    try:
        hoody.main(prog_name="hoody", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(EXIT_INTERRUPTED)
    except JobFailed:
        sys.exit(EXIT_JOB_FAILED)
    except SomeRefused:
        sys.exit(EXIT_REFUSED)
    except Refused as error:
        click.echo(f"hoody: {told(error)}", err=True)
        sys.exit(EXIT_REFUSED)
    except NoConnection as error:
        click.echo(f"hoody: {error.message}; is that the URL, and does hoodyd run there?", err=True)
        sys.exit(EXIT_NO_CONNECTION)


if __name__ == "__main__":
    main()
