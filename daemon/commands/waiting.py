"""Waiting for jobs, with a bar for each on standard error."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from daemon.client import ENDED, Client, Json, NoConnection
from daemon.commands.hints import of_job
from daemon.commands.output import seconds, size
from daemon.commands.session import JobFailed, together

WIDE_COLUMNS = 120
LOOKS_EVERY = 10  # polls of a queued job, for one look at its server


async def wait(client: Client, jobs: Sequence[tuple[str, str]]) -> list[Json]:
    """The jobs `(label, id)` as they ended, in this order; bars only on a terminal.

    Who is interrupted is told that the jobs go on, and how to meet them again.
    """
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", style="bold", markup=False),
        TextColumn("{task.fields[step]:<8}", style="cyan", markup=False),
        BarColumn(bar_width=40 if console.width >= WIDE_COLUMNS else 10),
        TextColumn("{task.fields[amount]}", markup=False),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        lines = [_Line(bars, label, wide=console.width >= WIDE_COLUMNS) for label, _id in jobs]
        try:
            return await together(
                [
                    _follow(client, job_id, line)
                    for (_label, job_id), line in zip(jobs, lines, strict=True)
                ]
            )
        except asyncio.CancelledError:
            for (_label, job_id), line in zip(jobs, lines, strict=True):
                line.leave(job_id)
            raise


async def waits_for(client: Client, job: Json) -> str | None:
    """Why a queued job does not begin, where its server is the reason."""
    if job.get("state") != "queued":
        return None
    server = await client.get(f"/servers/{job.get('server_id')}")
    if server.get("online"):
        return None
    return f"server {server.get('name')}, which is offline; run: hoody servers list"


def report(label: str, job: Json) -> bool:
    """Says in one line how a job ended; whether it succeeded."""
    if job.get("state") == "succeeded":
        click.echo(f"{label}: {summary(job)}", err=True)
        return True
    error = job.get("error")
    fault = error if isinstance(error, dict) else {}
    reason = f": {fault['code']}: {fault.get('message', '')}" if "code" in fault else ""
    more = of_job(job, fault) if reason else ""
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
    if result.get("strategy") == "unchanged" and result.get("downtime_seconds"):
        parts = ["source unchanged, the copy's own changes overwritten"]
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
    """How far a transfer is: bytes, bytes on the wire, rate, time left. A total that grows with
    what is done, as where a tree is taken in, says nothing and is left out."""
    total, done = progress.get("bytes_total"), progress.get("bytes_done")
    if not total:
        return ""
    words = size(done) if done == total else f"{size(done)} of {size(total)}"
    if progress.get("bytes_wire"):
        words += f", {size(progress['bytes_wire'])} on the wire"
    if progress.get("rate_bytes_per_second"):
        words += f", {size(progress['rate_bytes_per_second'])}/s"
    if progress.get("eta_seconds"):
        words += f", {seconds(progress['eta_seconds'])} left"
    return words


def brief(progress: Json) -> str:
    """The same for a narrow terminal."""
    total, done = progress.get("bytes_total"), progress.get("bytes_done")
    if not total:
        return ""
    left = progress.get("eta_seconds")
    words = size(done) if done == total else f"{progress.get('percent')} % of {size(total)}"
    return f"{words}, {seconds(left)} left" if left else words


class _Line:
    """A job's line on standard error: its bar, and what is told of it once."""

    def __init__(self, bars: Progress, label: str, *, wide: bool) -> None:
        self._bars = bars
        self._label = label
        self._amount = amount if wide else brief
        self._task: TaskID = bars.add_task(label, total=None, step="queued", amount="")
        self._ended = False
        self._told = False

    def show(self, job: Json) -> None:
        """The job as it is now."""
        found = job.get("progress")
        progress = found if isinstance(found, dict) else {}
        done, total = progress.get("bytes_done", 0), progress.get("bytes_total")
        known = total if total != done else None
        self._bars.update(
            self._task,
            total=known,
            completed=done if known else 0,
            step=str(job.get("step") or job.get("state")),
            amount=self._amount(progress),
        )
        self._ended = job.get("state") in ENDED
        if self._ended:
            good = job.get("state") == "succeeded"
            self._bars.update(self._task, total=1, completed=1 if good else 0)

    async def explain(self, client: Client, job: Json) -> None:
        """Says once what a queued job waits for, where that is its server."""
        try:
            reason = None if self._told else await waits_for(client, job)
        except NoConnection:
            return  # whoever watches the job knows how long to bear that
        if reason:
            self._told = True
            click.echo(f"{self._label}: waits for {reason}", err=True)

    def leave(self, job_id: str) -> None:
        """Says how to meet the job again, which goes on."""
        if not self._ended:
            ways = f"hoody jobs watch {job_id}, or: hoody jobs cancel {job_id}"
            click.echo(f"{self._label}: job {job_id} goes on; run: {ways}", err=True)


async def _follow(client: Client, job_id: str, line: _Line) -> Json:
    job: Json = {}
    polls = 0
    async for job in client.watch(job_id):
        line.show(job)
        if polls % LOOKS_EVERY == 0:
            await line.explain(client, job)
        polls += 1
    return job
