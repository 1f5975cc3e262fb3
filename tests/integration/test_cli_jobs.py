"""`hoody` as processes that wait for jobs: what they tell, and how they end."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from daemon.model import JobState
from daemon.states import Move
from daemon.store import servers
from tests.contract.api.api_world import make_server
from tests.integration.command_line import SECONDS_MAX, environment, started
from tests.integration.hoody_site import BROKEN, DONE, Site, site_at, with_engine


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with site_at(tmp_path) as made:
        yield made


async def test_copy_in_the_form_of_the_guide_waits_and_tells(site: Site) -> None:
    web = await site.world.container("web")
    copying = site.hoody(
        *("containers", "copy", web.id, "--target-project-id", site.world.work.id),
        *("--target-server-id", site.world.there.id, "--name", "web-eu"),
        *("--copy-firewall-rules", "--json"),
    )
    ran = (await with_engine(copying, site.settle(Move.SUCCEED, result=DONE))).good()
    assert ran.json["name"] == "web-eu"
    assert ran.json["copy_firewall_rules"] is True
    assert ran.json["copy_network_rules"] is False
    assert ran.json["job"]["result"] == DONE
    assert (
        "copy done (incremental; 3.0 MiB, 1.0 MiB on the wire; 2.00 s; down for 0.25 s)" in ran.err
    )


async def test_a_job_that_fails_is_exit_4_and_says_why(site: Site) -> None:
    await site.world.container("web")
    copying = site.hoody("containers", "copy", "web", "--target-project-id", "work")
    ran = await with_engine(copying, site.settle(Move.FAIL, error=BROKEN))
    assert ran.code == 4
    job = await site.world.the_job()
    copy, more = f"web-copy ({job.container_id[:8]})", f"run: hoody jobs show {job.id}"
    assert ran.err == f"{copy}: copy failed: PEER_UNREACHABLE: no answer; {more}\n"


async def test_no_wait_returns_with_the_job(site: Site) -> None:
    web = await site.world.container("web")
    await site.world.copy_of(web, "staging")
    ran = (await site.hoody("containers", "sync", "staging", "--no-wait")).good()
    job = await site.world.the_job()
    assert ran.out == f"staging: job {job.id}\n"
    assert job.state == JobState.QUEUED
    ran = (await site.hoody("jobs", "list", "--container", "staging", "--json")).good()
    assert [one["id"] for one in ran.json] == [job.id]


@pytest.mark.parametrize("verb", ["stop", "restart", "delete"])
async def test_power_and_delete_run_as_jobs(site: Site, verb: str) -> None:
    await site.world.container("web")
    acting = site.hoody("containers", verb, "web")
    ran = (await with_engine(acting, site.settle(Move.SUCCEED))).good()
    assert ran.err == f"web: {verb} done\n"


async def test_jobs_are_watched_shown_and_cancelled(site: Site) -> None:
    job = await site.world.job(await site.world.container("web"))
    assert job.id in (await site.hoody("jobs", "show", job.id[:8])).good().out
    assert "web" in (await site.hoody("jobs", "list")).good().out.splitlines()[1].split()
    asked = (await site.hoody("jobs", "cancel", job.id)).good()
    assert asked.out == f"{job.id}: asked to stop, now queued\n"
    await site.settle(Move.CANCEL)
    ran = await site.hoody("jobs", "watch", job.id)
    assert (ran.code, ran.err) == (4, f"{job.id}: sync cancelled\n")
    ran = await site.hoody("jobs", "cancel", job.id)
    assert ran.code == 3
    assert "JOB_NOT_CANCELLABLE" in ran.err


async def test_who_waits_is_told_what_for_and_on_leaving_how_to_come_back(site: Site) -> None:
    gone = make_server("gone", last_heartbeat_at=None)
    async with site.world.db.write() as tx:
        await servers.put(tx, gone)
    job = await site.world.job(await site.world.container("web", server_id=gone.id))
    reason = "server gone, which is offline; run: hoody servers list"
    assert reason in " ".join((await site.hoody("jobs", "show", job.id)).good().out.split())
    env = environment(site.home, HOODY_API_URL=site.url, HOODY_TOKEN=site.world.token())
    async with started("hoody", "jobs", "watch", job.id, env=env) as watching:
        assert await said(watching) == f"{job.id[:8]}: waits for {reason}\n"
        watching.send_signal(signal.SIGINT)
        ways = f"hoody jobs watch {job.id}, or: hoody jobs cancel {job.id}"
        assert await said(watching) == f"{job.id[:8]}: job {job.id} goes on; run: {ways}\n"
        assert await watching.wait() == 130


async def said(process: asyncio.subprocess.Process) -> str:
    """The next line on standard error."""
    assert process.stderr is not None
    async with asyncio.timeout(SECONDS_MAX):
        return (await process.stderr.readline()).decode()


async def test_a_result_is_shown_in_words(site: Site) -> None:
    job = await site.world.job(await site.world.container("web"))
    await site.settle(Move.SUCCEED, result={**DONE, "steps": [{"kind": "full", "bytes": 2048}]})
    shown = (await site.hoody("jobs", "show", job.id)).good().out
    facts = [" ".join(line.split()) for line in shown.splitlines()]
    assert "seconds plan 0.50 s, transfer 1.50 s" in facts
    assert "steps kind full, bytes 2.0 KiB" in facts
    assert "bytes_logical 3.0 MiB" in facts
    assert "downtime_seconds 0.25 s" in facts
