"""`hoody jobs`."""

from __future__ import annotations

import click

from daemon.client import Client, Json
from daemon.commands import output
from daemon.commands.session import find, json_option, run
from daemon.commands.waiting import amount, report_all, wait

JOB_STATES = ("queued", "running", "succeeded", "failed", "cancelled")


@click.group()
def jobs() -> None:
    """What the servers do and did."""


@jobs.command("list")
@click.option("--container", help="Only this container's.")
@click.option("--state", type=click.Choice(JOB_STATES))
@json_option
def jobs_list(container: str | None, state: str | None, as_json: bool) -> None:
    """List jobs, newest first."""

    async def work(client: Client) -> None:
        query = {"state": state} if state else {}
        if container:
            query["container_id"] = await find(client, "containers", container)
        found = await client.everything("jobs", **query)
        if as_json:
            output.print_json(found)
            return
        headers = ["ID", "TYPE", "STATE", "STEP", ">PERCENT", "CONTAINER", "CREATED"]
        output.print_table(headers, [_row(one) for one in found], empty="no jobs")

    run(work)


@jobs.command("show")
@click.argument("job", metavar="ID")
@json_option
def jobs_show(job: str, as_json: bool) -> None:
    """Show one job."""

    async def work(client: Client) -> None:
        found = await client.get(f"/jobs/{await find(client, 'jobs', job)}")
        if as_json:
            output.print_json(found)
        else:
            output.print_facts(_facts(found))

    run(work)


@jobs.command("watch")
@click.argument("job", metavar="ID")
@json_option
def jobs_watch(job: str, as_json: bool) -> None:
    """Wait for a job with a progress bar; exit 4 unless it succeeds."""

    async def work(client: Client) -> None:
        job_id = await find(client, "jobs", job)
        ended = await wait(client, [(job_id, job_id)])
        if as_json:
            output.print_json(ended[0])
        report_all([job_id], ended)

    run(work)


@jobs.command("cancel")
@click.argument("job", metavar="ID")
@json_option
def jobs_cancel(job: str, as_json: bool) -> None:
    """Ask a job to stop."""

    async def work(client: Client) -> None:
        job_id = await find(client, "jobs", job)
        answer, _job_id = await client.request("POST", f"/jobs/{job_id}/cancel")
        if as_json:
            output.print_json(answer)
        else:
            click.echo(f"{job_id}: asked to stop")

    run(work)


def _row(job: Json) -> list[str]:
    found = job.get("progress")
    percent = found.get("percent") if isinstance(found, dict) else None
    return [
        str(job["id"]),
        output.text(job.get("type")),
        output.text(job.get("state")),
        output.text(job.get("step")),
        f"{percent:.0f}" if isinstance(percent, int | float) else "-",
        output.text(job.get("container_id")),
        output.age(job.get("created_at")),
    ]


def _facts(job: Json) -> list[tuple[str, str]]:
    plain = ("id", "type", "state", "step", "attempt", "container_id", "source_container_id")
    facts = [(name, output.text(job.get(name))) for name in (*plain, "server_id", "created_at")]
    facts += [(name, output.text(job.get(name))) for name in ("started_at", "finished_at")]
    progress, result, error = job.get("progress"), job.get("result"), job.get("error")
    if isinstance(progress, dict):
        facts.append(("progress", amount(progress)))
    if isinstance(result, dict):
        facts += [(name, output.text(value)) for name, value in result.items()]
    if isinstance(error, dict):
        facts.append(("error", f"{error.get('code')}: {error.get('message')}"))
    return facts
