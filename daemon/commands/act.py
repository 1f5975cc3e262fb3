"""Verbs that run as jobs: ask for them, wait for them, tell how they ended."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import click

from daemon.client import Client, Json, NoConnection, Refused
from daemon.commands import output
from daemon.commands.hints import told
from daemon.commands.session import SomeRefused, together
from daemon.commands.waiting import report_all
from daemon.commands.waiting import wait as wait_for

AT_ONCE = 8

no_wait_option = click.option("--no-wait", is_flag=True, help="Return when the job is queued.")


@dataclass(frozen=True, slots=True)
class Request:
    """One verb on one container; `label` is what the user called it. One that `makes` another
    container is told of by that one's name and the beginning of its id."""

    label: str
    method: str
    path: str
    body: Json | None = None
    query: dict[str, str] = field(default_factory=dict)
    makes: bool = False

    def named(self, data: Json) -> str:
        """The label, now that there is an answer."""
        return f"{data['name']} ({output.short(data['id'])})" if self.makes else self.label


async def act(client: Client, requests: Sequence[Request], *, wait: bool, as_json: bool) -> None:
    """Asks for all, at most eight at a time, and waits for their jobs unless told not to.

    `as_json` prints the answers' data, each with its job under `job`. What comes of one has no
    bearing on the others. The worst is raised at the end: JobFailed where a job did not succeed,
    else SomeRefused, or Refused where no more than one thing was asked.
    """
    gate = asyncio.Semaphore(AT_ONCE)
    answers = await together([_ask(client, request, gate) for request in requests])
    asked = list(zip(requests, answers, strict=True))
    refused = [(one.label, answer) for one, answer in asked if isinstance(answer, Refused)]
    if len(requests) > 1:
        for label, refusal in refused:
            click.echo(f"{label}: {told(refusal)}", err=True)
    started = [
        (one.named(answer[0]), *answer) for one, answer in asked if not isinstance(answer, Refused)
    ]
    labels = [label for label, _data, _job_id in started]
    jobs: list[Json] = [{"id": job_id} for _label, _data, job_id in started]
    if wait:
        jobs = await wait_for(client, [(label, job_id) for label, _data, job_id in started])
    results = [{**data, "job": job} for (_, data, _), job in zip(started, jobs, strict=True)]
    if as_json:
        output.print_json(results[0] if len(requests) == 1 and results else results)
    if wait:
        report_all(labels, jobs)
    elif not as_json:
        for label, job in zip(labels, jobs, strict=True):
            click.echo(f"{label}: job {job['id']}")
    if refused:
        raise SomeRefused if len(requests) > 1 else refused[0][1]


async def _ask(
    client: Client, request: Request, gate: asyncio.Semaphore
) -> tuple[Json, str] | Refused:
    async with gate:
        try:
            data, job_id = await client.request(
                request.method, request.path, body=request.body, query=request.query
            )
        except Refused as error:
            return error
    if job_id is None:
        raise NoConnection(f"{request.method} {request.path}: the answer names no job")
    return data, job_id
