"""`python -m benchmarks`: measures, writes the results and the page, and prints the targets.

Exit code 0 where all was measured, whether or not a target was missed; the page tells."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import click

from benchmarks import page, sshd, world
from benchmarks.page import PARTS

RESULTS = Path(__file__).parent / "results"


@click.command()
@click.option("--quick", is_flag=True, help="Tiny sizes: to see that all runs.")
@click.option("--only", type=click.Choice(PARTS), help="One part alone.")
@click.option(
    "--gigabytes", type=click.IntRange(2), default=8, show_default=True, help="Largest container."
)
@click.option("--output", type=click.Path(path_type=Path), default=RESULTS, help="Where to.")
def main(*, quick: bool, only: str | None, gigabytes: int, output: Path) -> None:
    """Measures and writes the page."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    why = world.why_not() or sshd.available()
    if why is not None:
        raise click.ClickException(f"cannot measure: {why}")
    failed = []
    for name in PARTS if only is None else (only,):
        click.echo(f"== {name}")
        began = time.monotonic()
        argv = [sys.executable, "-m", "benchmarks.measure", name, str(output), str(gigabytes)]
        status = _run([*argv, *(["--quick"] if quick else [])])
        click.echo(f"   {time.monotonic() - began:.0f} s")
        if status:
            failed.append(name)
    if output.exists():
        click.echo(f"the page: {page.write(output)}")
    if failed:
        raise click.ClickException(f"not measured: {', '.join(failed)}")


def _run(argv: list[str]) -> int:
    """The exit status. Who is interrupted tells the part once, and lets it end its servers and
    pools."""
    with subprocess.Popen(argv, start_new_session=True) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.terminate()
            process.wait()
            raise


if __name__ == "__main__":
    main()
