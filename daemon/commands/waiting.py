"""Waiting for jobs, with a bar for each on standard error."""

from __future__ import annotations

from collections.abc import Sequence

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from daemon.client import Client, Json
from daemon.commands.output import seconds, size
from daemon.commands.session import JobFailed, together


async def wait(client: Client, jobs: Sequence[tuple[str, str]]) -> list[Json]:
    """The jobs `(label, id)` as they ended, in this order; bars only on a terminal."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", style="bold", markup=False),
        TextColumn("{task.fields[step]:<8}", style="cyan", markup=False),
        BarColumn(),
        TextColumn("{task.fields[amount]}", markup=False),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        return await together(
            [_follow(client, job_id, bars, _bar(bars, label)) for label, job_id in jobs]
        )


def report(label: str, job: Json) -> bool:
    """Says in one line how a job ended; whether it succeeded."""
    if job.get("state") == "succeeded":
        click.echo(f"{label}: {summary(job)}", err=True)
        return True
    error = job.get("error")
    fault = error if isinstance(error, dict) else {}
    reason = f": {fault['code']}: {fault.get('message', '')}" if "code" in fault else ""
    more = f"; run: hoody jobs show {job.get('id')}" if reason else ""
    click.echo(f"{label}: {job.get('type')} {job.get('state')}{reason}{more}", err=True)
    return False


def report_all(labels: Sequence[str], jobs: Sequence[Json]) -> None:
    """Reports each. Raises JobFailed where one did not succeed."""
    good = [report(label, job) for label, job in zip(labels, jobs, strict=True)]
    if not all(good):
        raise JobFailed


def summary(job: Json) -> str:
    """What a job that succeeded did: strategy, bytes, seconds, downtime."""
    done = f"{job.get('type')} done"
    result = job.get("result")
    if not isinstance(result, dict):
        return done
    parts = [str(result["strategy"])] if "strategy" in result else []
    if "bytes_logical" in result:
        wire = size(result.get("bytes_wire"))
        parts.append(f"{size(result['bytes_logical'])}, {wire} on the wire")
    spent = result.get("seconds")
    if isinstance(spent, dict) and spent:
        parts.append(seconds(sum(spent.values())))
    if "downtime_seconds" in result:
        parts.append(f"down for {seconds(result['downtime_seconds'])}")
    return f"{done} ({'; '.join(parts)})" if parts else done


def amount(progress: Json) -> str:
    """How far a transfer is: bytes, bytes on the wire, rate, time left."""
    total = progress.get("bytes_total")
    if not total:
        return ""
    words = f"{size(progress.get('bytes_done'))} of {size(total)}"
    words += f", {size(progress.get('bytes_wire'))} on the wire"
    if progress.get("rate_bytes_per_second"):
        words += f", {size(progress['rate_bytes_per_second'])}/s"
    if progress.get("eta_seconds"):
        words += f", {seconds(progress['eta_seconds'])} left"
    return words


def _bar(bars: Progress, label: str) -> TaskID:
    return bars.add_task(label, total=None, step="queued", amount="")


async def _follow(client: Client, job_id: str, bars: Progress, bar: TaskID) -> Json:
    job: Json = {}
    async for job in client.watch(job_id):
        found = job.get("progress")
        progress = found if isinstance(found, dict) else {}
        total = progress.get("bytes_total") or None
        bars.update(
            bar,
            total=total,
            completed=progress.get("bytes_done", 0) if total else 0,
            step=str(job.get("step") or job.get("state")),
            amount=amount(progress),
        )
    bars.update(bar, total=1, completed=1 if job.get("state") == "succeeded" else 0)
    return job
