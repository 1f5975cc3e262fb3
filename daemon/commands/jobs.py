"""`hoody jobs`."""

from __future__ import annotations

import click

from daemon.client import ENDED, Client, Json
from daemon.commands import output
from daemon.commands.session import find, json_option, run
from daemon.commands.waiting import amount, report_all, wait, waits_for

JOB_STATES = ("queued", "running", "succeeded", "failed", "cancelled")
_UNITS = {"bytes": output.size, "seconds": output.seconds}


@click.group()
def jobs() -> None:
    """What the servers do and did."""


@jobs.command("list")
@click.option("--container", help="Only this container's.")
@click.option("--state", type=click.Choice(JOB_STATES))
@json_option
def jobs_list(container: str | None, state: str | None, as_json: bool) -> None:
    """List jobs, newest first.

    STEP is where the job is or ended: a copy or sync makes a plan, takes a snapshot of the source,
    transfers, verifies, and switches the container over to what has come.
    """

    async def work(client: Client) -> None:
        query = {"state": state} if state else {}
        if container:
            query["container_id"] = await find(client, "containers", container)
        found = await client.everything("jobs", **query)
        if as_json:
            output.print_json(found)
            return
        names = {one["id"]: one["name"] for one in await client.everything("containers")}
        headers = ["ID", "TYPE", "STATE", "STEP", ">PERCENT", "CONTAINER", "CREATED"]
        rows = [_row(one, names) for one in found]
        output.print_table(headers, rows, empty="no jobs", spare=(">PERCENT", "CREATED", "STEP"))

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
            waits = [("waits for", reason)] if (reason := await waits_for(client, found)) else []
            output.print_facts([*_facts(found), *waits])

    run(work)


@jobs.command("watch")
@click.argument("job", metavar="ID")
@json_option
def jobs_watch(job: str, as_json: bool) -> None:
    """Wait for a job with a progress bar; exit 4 unless it succeeds."""

    async def work(client: Client) -> None:
        job_id = await find(client, "jobs", job)
        ended = await wait(client, [(output.short(job_id), job_id)])
        if as_json:
            output.print_json(ended[0])
        report_all([job_id], ended)

    run(work)


@jobs.command("cancel")
@click.argument("job", metavar="ID")
@json_option
def jobs_cancel(job: str, as_json: bool) -> None:
    """Ask a job to stop; says what it is now."""

    async def work(client: Client) -> None:
        job_id = await find(client, "jobs", job)
        answer, _job_id = await client.request("POST", f"/jobs/{job_id}/cancel")
        if as_json:
            output.print_json(answer)
            return
        state = str(answer.get("state"))
        click.echo(f"{job_id}: {state if state in ENDED else f'asked to stop, now {state}'}")

    run(work)


def _row(job: Json, names: dict[object, object]) -> list[str]:
    found = job.get("progress")
    percent = found.get("percent") if isinstance(found, dict) else None
    return [
        str(job["id"]),
        output.text(job.get("type")),
        output.text(job.get("state")),
        output.text(job.get("step")),
        f"{percent:.0f}" if isinstance(percent, int | float) else "-",
        output.text(names.get(job.get("container_id"), job.get("container_id"))),
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
        facts += [(name, _value(name, value)) for name, value in result.items()]
    if isinstance(error, dict):
        facts.append(("error", f"{error.get('code')}: {error.get('message')}"))
    return facts


def _value(name: str, value: object) -> str:
    """A part of a result: bytes and seconds for people, lists and tables as words."""
    if isinstance(value, dict):
        parts = value.items()
        return ", ".join(
            f"{key} {_value(name if name in _UNITS else key, part)}" for key, part in parts
        )
    if isinstance(value, list):
        return "; ".join(_value("", part) for part in value)
    for unit, words in _UNITS.items():
        if unit in name.split("_"):
            return words(value)
    return output.text(value)
