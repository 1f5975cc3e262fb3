"""`hoody` as processes against the real API over a real catalogue. There is no engine: where a
job must move, the test moves it as an engine would."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from aiohttp.test_utils import TestServer

from daemon.api.app import make_app
from daemon.model import JobState, Json, now
from daemon.states import Move
from daemon.store import jobs
from daemon.store.database import Database
from daemon.store.schema import metadata
from tests.contract.api.api_world import World
from tests.contract.api.played_engine import playing
from tests.integration.command_line import Ran, environment, run

DONE: Json = {
    "strategy": "incremental",
    "bytes_logical": 3 << 20,
    "bytes_wire": 1 << 20,
    "seconds": {"plan": 0.5, "transfer": 1.5},
    "downtime_seconds": 0.25,
}
BROKEN: Json = {"code": "PEER_UNREACHABLE", "message": "no answer", "retryable": True}


@dataclass
class Site:
    """A world, its API's URL, and a user who has a home directory."""

    world: World
    url: str
    home: Path

    async def hoody(self, *arguments: str, stdin: str = "", **variables: str) -> Ran:
        """As alice, by environment."""
        given = {"HOODY_API_URL": self.url, "HOODY_TOKEN": self.world.token()} | variables
        return await run("hoody", *arguments, env=environment(self.home, **given), stdin=stdin)

    async def settle(
        self, move: Move, result: Json | None = None, error: Json | None = None
    ) -> None:
        """Waits for a queued job, takes it as an engine does, and ends it."""
        while not (await self.world.all_jobs()):
            await asyncio.sleep(0.02)
        async with self.world.db.write() as tx:
            for server in (self.world.here, self.world.there):
                until = now() + timedelta(minutes=1)
                claimed = await jobs.claim(tx, server.id, now(), until)
                left = [claimed] if claimed else await jobs.of_server_active(tx, server.id)
                for job in left:
                    await jobs.move(tx, job, move, at=now(), result=result, error=error)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    db = Database(f"sqlite:///{tmp_path}/catalogue.db")
    async with db.write() as tx:
        await tx.run_sync(metadata.create_all)
    world = World(db, import_roots=(str(tmp_path),))
    await world.fill()
    async with TestServer(make_app(world.deps)) as server:
        yield Site(world, str(server.make_url("")).rstrip("/"), tmp_path)
    await db.close()


async def with_engine(command: Awaitable[Ran], engine: Awaitable[None]) -> Ran:
    ran, _none = await asyncio.gather(command, engine)
    return ran


async def test_lists_are_tables_and_json_is_the_apis_data(site: Site) -> None:
    web = await site.world.container("web")
    await site.world.copy_of(web, "staging")
    table = (await site.hoody("containers", "list")).good().out
    assert [line.split()[1] for line in table.splitlines()] == ["NAME", "staging", "web"]
    assert web.id in table
    listed = (await site.hoody("containers", "list", "--json")).good().json
    assert [one["name"] for one in listed] == ["staging", "web"]
    shown = (await site.hoody("containers", "show", "web", "--json")).good().json
    assert shown["id"] == web.id
    assert (await site.hoody("containers", "show", "web")).good().out.split()[:2] == ["id", web.id]


async def test_lists_go_on_behind_the_first_page(site: Site) -> None:
    for number in range(101):
        await site.world.container(f"web-{number:03}")
    assert len((await site.hoody("containers", "list", "--json")).good().json) == 101


async def test_filters_take_names(site: Site) -> None:
    web = await site.world.container("web")
    await site.world.copy_of(web, "staging", project_id=site.world.work.id)
    ran = await site.hoody("containers", "list", "--project", "work", "--json")
    assert [one["name"] for one in ran.good().json] == ["staging"]
    ran = await site.hoody("containers", "list", "--copies-of", "web", "--json")
    assert [one["name"] for one in ran.good().json] == ["staging"]


async def test_empty_lists_say_so(site: Site) -> None:
    for noun in ("containers", "jobs"):
        assert (await site.hoody(noun, "list")).good().out == f"no {noun}\n"
        assert (await site.hoody(noun, "list", "--json")).good().json == []


async def test_servers_and_projects(site: Site) -> None:
    assert "there" in (await site.hoody("servers", "list")).good().out
    made = (await site.hoody("projects", "create", "eu")).good().out.strip()
    listed = (await site.hoody("projects", "list", "--json")).good().json
    assert made in [one["id"] for one in listed]
    again = await site.hoody("projects", "create", "eu")
    assert (again.code, again.out) == (3, "")
    assert again.err.startswith("hoody: PROJECT_NAME_IN_USE: ")


async def test_a_container_is_found_by_name_prefix_or_id(site: Site) -> None:
    web = await site.world.container("web")
    for text in ("web", web.id[:6], web.id):
        assert (await site.hoody("containers", "show", text, "--json")).good().json["name"] == "web"
    for text in (web.id[:5], "nothing"):
        ran = await site.hoody("containers", "show", text)
        assert (ran.code, ran.out) == (3, "")
        assert "CONTAINER_NOT_FOUND" in ran.err


async def test_a_name_that_two_have_is_a_usage_error(site: Site) -> None:
    first = await site.world.container("web")
    second = await site.world.container("web", project_id=site.world.work.id)
    ran = await site.hoody("containers", "show", "web")
    assert ran.code == 2
    assert first.id in ran.err
    assert second.id in ran.err


async def test_tree_shows_what_is_a_copy_of_what(site: Site) -> None:
    web = await site.world.container("web")
    staging = await site.world.copy_of(web, "staging")
    await site.world.copy_of(staging, "dev")
    lines = (await site.hoody("containers", "tree")).good().out.splitlines()
    assert [line.lstrip("─└ ").split()[0] for line in lines] == ["web", "staging", "dev"]
    tree = (await site.hoody("containers", "tree", "staging", "--json")).good().json
    assert [one["name"] for one in tree] == ["staging"]
    assert [one["name"] for one in tree[0]["copies"]] == ["dev"]


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
    (job,) = await site.world.all_jobs()
    more = f"run: hoody jobs show {job.id}"
    assert ran.err == f"web: copy failed: PEER_UNREACHABLE: no answer; {more}\n"


async def test_no_wait_returns_with_the_job(site: Site) -> None:
    web = await site.world.container("web")
    await site.world.copy_of(web, "staging")
    ran = (await site.hoody("containers", "sync", "staging", "--no-wait")).good()
    job = await site.world.the_job()
    assert ran.out == f"staging: job {job.id}\n"
    assert job.state == JobState.QUEUED
    ran = (await site.hoody("jobs", "list", "--container", "staging", "--json")).good()
    assert [one["id"] for one in ran.json] == [job.id]


async def test_sync_of_all_copies_tells_refusals_after_the_others(site: Site) -> None:
    web = await site.world.container("web")
    good = await site.world.copy_of(web, "good")
    busy = await site.world.copy_of(web, "busy")
    await site.world.job(busy)
    ran = await site.hoody("containers", "sync", "--copies-of", "web", "--no-wait")
    assert ran.code == 3
    assert "OPERATION_STATE_CONFLICT" in ran.err
    assert ran.out.startswith("good: job ")
    assert {job.container_id for job in await site.world.all_jobs()} == {good.id, busy.id}


async def test_sync_wants_one_of_two(site: Site) -> None:
    for arguments in ([], ["web", "--copies-of", "web"]):
        assert (await site.hoody("containers", "sync", *arguments)).code == 2


async def test_snapshots_from_the_first_to_the_last(site: Site) -> None:
    web = await site.world.container("web")
    async with playing(site.world):
        making = ("snapshots", "create", "--container", "web", "--alias", "v1 {rc}?")
        ran = (await site.hoody(*making, "--expiry", "30.5")).good()
        (made,) = await site.world.listed(web)
        assert ran.out == f"{made.name}\n"
        assert ran.err == "3 files changed as they were read\n"
        assert made.expires_at == made.created_at + timedelta(days=30.5)
        table = (await site.hoody("snapshots", "list", "web")).good().out.splitlines()
        assert table[0].split()[:4] == ["NAME", "ALIAS", "CREATED", "EXPIRES"]
        assert table[1].startswith(f"{made.name}   v1 {{rc}}?   ")
        assert "in 30 d" in table[1]
        ran = (await site.hoody("snapshots", "restore", web.id[:8], "v1 {rc}?")).good()
        assert ran.out == f"{web.id[:8]}: restored {made.name}\n"
        ran = (await site.hoody("snapshots", "alias", "web", "v1 {rc}?", "production")).good()
        assert ran.out == f"{made.name}: production\n"
        ran = (await site.hoody("snapshots", "delete", "web", "production")).good()
        assert ran.out == f"web: deleted {made.name}\n"
    assert (await site.hoody("snapshots", "list", "web")).good().out == "no snapshots\n"


async def test_snapshots_as_json_are_the_apis_data(site: Site) -> None:
    web = await site.world.container("web")
    old = await site.world.snapshot(web, alias="old")
    of = {"container_id": web.id, "project_id": web.project_id}
    async with playing(site.world):
        ran = await site.hoody("snapshots", "create", "--container", web.id, "--json")
        made = ran.good().json["snapshot"]
        assert ran.json == of | {"snapshot": made}
        listed = (await site.hoody("snapshots", "list", "web", "--json")).good().json
        assert [one["name"] for one in listed["snapshots"]] == [made["name"], old.name]
        ran = await site.hoody("snapshots", "restore", "web", "old", "--json")
        assert ran.good().json["success"] is True
        ran = await site.hoody("snapshots", "alias", "web", "old", "--remove", "--json")
        assert ran.good().json["snapshot"]["alias"] is None
        ran = await site.hoody("snapshots", "delete", "web", old.name, "--json")
        assert ran.good().json == of | {"snapshot_name": old.name}


async def test_what_is_no_snapshot(site: Site) -> None:
    await site.world.snapshot(await site.world.container("web"))
    for verb in ("restore", "delete"):
        ran = await site.hoody("snapshots", verb, "web", "nothing")
        assert (ran.code, ran.out) == (3, "")
        assert ran.err.startswith("hoody: RESOURCE_NOT_FOUND: Snapshot not found")
        # In a path these would name the container.
        for name in (".", "..", ""):
            assert (await site.hoody("snapshots", verb, "web", name)).code == 2
    for arguments in ([], ["new", "--remove"]):
        ran = await site.hoody("snapshots", "alias", "web", "nothing", *arguments)
        assert ran.code == 2
    assert await site.world.all_jobs() == []


async def test_a_snapshot_that_fails_is_exit_4(site: Site) -> None:
    await site.world.container("web")
    async with playing(site.world) as engine:
        engine.move, engine.error = Move.FAIL, BROKEN
        ran = await site.hoody("snapshots", "create", "--container", "web")
    assert (ran.code, ran.out) == (4, "")
    assert ran.err.startswith("web: snapshot failed: PEER_UNREACHABLE: no answer; run: hoody ")


async def test_a_snapshot_that_outlasts_its_request_is_waited_for(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.api.waiting.WAIT_SECONDS", 0)
    await site.world.container("web")
    result: Json = {"snapshot": "snap-20260115-103000", "inconsistent_files": 0}
    making = site.hoody("snapshots", "create", "--container", "web")
    ran = (await with_engine(making, site.settle(Move.SUCCEED, result=result))).good()
    assert (ran.out, ran.err) == ("snap-20260115-103000\n", "web: snapshot done\n")


async def test_copy_takes_a_snapshot_by_name_or_alias(site: Site) -> None:
    web = await site.world.container("web")
    made = await site.world.snapshot(web, alias="good")
    for said in (made.name, "good"):
        copying = ("containers", "copy", "web", "--target-project-id", "work", "--no-wait")
        ran = await site.hoody(*copying, "--source-snapshot", said, "--json")
        assert ran.good().json["source_snapshot"] == made.name


@pytest.mark.parametrize("verb", ["stop", "restart", "delete"])
async def test_power_and_delete_run_as_jobs(site: Site, verb: str) -> None:
    await site.world.container("web")
    acting = site.hoody("containers", verb, "web")
    ran = (await with_engine(acting, site.settle(Move.SUCCEED))).good()
    assert ran.err == f"web: {verb} done\n"


async def test_create_sends_what_was_given(site: Site) -> None:
    (site.home / "tree").mkdir()
    ran = await site.hoody(
        *("containers", "create", "--project", site.world.work.id),
        *("--source-path", str(site.home / "tree")),
        *("--name", "new", "--command", "sh -c 'sleep 9'", "--env", "A=b=c", "--env", "D="),
        *("--no-autostart", "--no-wait", "--json"),
        HOODY_TOKEN=site.world.admin,
    )
    made = await site.world.stored(ran.good().json["id"])
    assert made is not None
    assert (made.name, made.autostart) == ("new", False)
    assert made.command == ("sh", "-c", "sleep 9")
    assert made.environment_vars == {"A": "b=c", "D": ""}


async def test_what_the_api_refuses_is_exit_3_with_its_code(site: Site) -> None:
    ran = await site.hoody("containers", "copy", "0" * 24, "--target-project-id", "0" * 24)
    assert ran.code == 3
    assert ran.err.startswith("hoody: SOURCE_CONTAINER_NOT_FOUND: ")
    ran = await site.hoody("projects", "list", HOODY_TOKEN="nonsense")
    assert ran.code == 3
    assert ran.err.startswith("hoody: INVALID_TOKEN: ")


async def test_jobs_are_watched_shown_and_cancelled(site: Site) -> None:
    job = await site.world.job(await site.world.container("web"))
    assert job.id in (await site.hoody("jobs", "show", job.id[:8])).good().out
    (await site.hoody("jobs", "cancel", job.id)).good()
    await site.settle(Move.CANCEL)
    ran = await site.hoody("jobs", "watch", job.id)
    assert (ran.code, ran.err) == (4, f"{job.id}: sync cancelled\n")
    ran = await site.hoody("jobs", "cancel", job.id)
    assert ran.code == 3
    assert "JOB_NOT_CANCELLABLE" in ran.err


async def test_nobody_there_is_exit_5(site: Site) -> None:
    ran = await site.hoody("containers", "list", HOODY_API_URL="http://127.0.0.1:9")
    assert (ran.code, ran.out) == (5, "")
    assert ran.err.startswith("hoody: no answer from http://127.0.0.1:9: ")
    assert len(ran.err.splitlines()) == 1


async def speak(reply: bytes, ask: Callable[[str], Awaitable[Ran]]) -> Ran:
    """Asks a server that answers every connection with these bytes."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        return await ask(f"http://127.0.0.1:{port}")


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{}",
        b"SSH-2.0-OpenSSH\r\n",
        b"",
    ],
)
async def test_what_is_no_hoody_api_is_exit_5(site: Site, reply: bytes) -> None:
    ran = await speak(reply, lambda url: site.hoody("jobs", "list", HOODY_API_URL=url))
    assert (ran.code, len(ran.err.splitlines())) == (5, 1), ran


async def test_login_keeps_what_the_api_accepted_for_the_user_alone(site: Site) -> None:
    env = environment(site.home)
    kept = site.home / ".config/hoody/config.toml"
    refused = await run("hoody", "login", "--url", site.url, env=env, stdin="nonsense\n")
    assert (refused.code, kept.exists()) == (3, False)
    token = site.world.token()
    (await run("hoody", "login", "--url", site.url, env=env, stdin=f"{token}\n")).good()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert (await run("hoody", "projects", "list", env=env)).good().out.count("\n") == 3
    (await run("hoody", "login", "--url", site.url, env=env, stdin=site.world.admin)).good()
    assert site.world.admin.split(".")[1] not in (await run("hoody", "jobs", "list", env=env)).err
    assert sorted(path.name for path in kept.parent.iterdir()) == ["config.toml"]


async def test_without_login_it_says_what_to_run(site: Site) -> None:
    ran = await run("hoody", "jobs", "list", env=environment(site.home))
    assert ran.code == 2
    assert "hoody login --url URL" in ran.err


@pytest.mark.parametrize("stdin", ["", "two tokens", "t\u00f6ken"])
async def test_login_wants_one_token(site: Site, stdin: str) -> None:
    ran = await run("hoody", "login", "--url", site.url, env=environment(site.home), stdin=stdin)
    assert ran.code == 2
