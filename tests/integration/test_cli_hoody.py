"""`hoody` as processes: what it lists, finds, makes, and says where the API refuses."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from daemon.model import DatasetRow, Role, Status
from daemon.states import Move
from daemon.store import containers, datasets, images
from tests.images import image_of
from tests.integration.command_line import Ran, environment, run
from tests.integration.hoody_site import BROKEN, Site, site_at, with_engine


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with site_at(tmp_path) as made:
        yield made


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
    for text, reason in ((web.id[:5], "six digits"), ("nothing", "'nothing'; run: hoody ")):
        ran = await site.hoody("containers", "show", text)
        assert (ran.code, ran.out) == (3, "")
        assert "CONTAINER_NOT_FOUND" in ran.err
        assert reason in ran.err


async def test_an_administrator_is_shown_where_the_files_are(site: Site) -> None:
    rootfs = "/srv/hoody/web/current"
    web = await site.world.container("web")
    live = str(web.generation_id)
    row = DatasetRow(live, web.server_id, Role.GENERATION, live, "c/web", web.id, rootfs=rootfs)
    async with site.world.db.write() as tx:
        await datasets.insert(tx, row)
    ran = await site.hoody("containers", "show", web.id, HOODY_TOKEN=site.world.admin)
    assert ran.good().out.splitlines()[-1].split() == ["rootfs", rootfs]
    assert "rootfs" not in (await site.hoody("containers", "show", web.id)).good().out


async def test_a_name_that_two_have_is_a_usage_error(site: Site) -> None:
    first = await site.world.container("web")
    second = await site.world.container("web", project_id=site.world.work.id)
    ran = await site.hoody("containers", "show", "web")
    assert ran.code == 2
    words = " ".join(ran.err.split())
    assert f"{first.id} in project home on server here" in words
    assert f"{second.id} in project work on server here" in words


async def test_tree_shows_what_is_a_copy_of_what(site: Site) -> None:
    web = await site.world.container("web")
    staging = await site.world.copy_of(web, "staging")
    await site.world.copy_of(staging, "dev")
    lines = (await site.hoody("containers", "tree")).good().out.splitlines()
    assert [line.lstrip("─└ ").split()[0] for line in lines] == ["web", "staging", "dev"]
    tree = (await site.hoody("containers", "tree", "staging", "--json")).good().json
    assert [one["name"] for one in tree] == ["staging"]
    assert [one["name"] for one in tree[0]["copies"]] == ["dev"]


async def test_sync_of_all_copies_tells_each_refusal_and_asks_for_the_others(site: Site) -> None:
    web = await site.world.container("web")
    good = await site.world.copy_of(web, "good")
    busy = [await site.world.copy_of(web, name) for name in ("busy", "busier")]
    for copy in busy:
        await site.world.job(copy)
    ran = await site.hoody("containers", "sync", "--copies-of", "web", "--no-wait")
    assert ran.code == 3
    told = sorted(line.partition(": Container")[0] for line in ran.err.splitlines())
    assert told == [f"{name}: OPERATION_STATE_CONFLICT" for name in ("busier", "busy")]
    assert ran.out.startswith("good: job ")
    asked = {job.container_id for job in await site.world.all_jobs()}
    assert asked == {good.id, *(copy.id for copy in busy)}


async def test_sync_of_all_copies_exits_by_the_worst(site: Site) -> None:
    """A job that failed is worse than a refusal, and a refusal than what went well."""
    web = await site.world.container("web")
    await site.world.copy_of(web, "bad")
    busy = await site.world.copy_of(web, "busy", status=Status.RESTORING)
    syncing = ("containers", "sync", "--copies-of")
    ran = await with_engine(site.hoody(*syncing, "web"), site.settle(Move.FAIL, error=BROKEN))
    assert ran.code == 4
    assert "busy: OPERATION_STATE_CONFLICT" in ran.err
    assert "bad: sync failed: PEER_UNREACHABLE" in ran.err
    ran = (await site.hoody(*syncing, "busy")).good()
    assert ran.err == "busy has no copies\n"
    async with site.world.db.write() as tx:
        await containers.delete(tx, busy.id)
    assert (await site.hoody(*syncing, busy.id)).code == 3


async def test_sync_wants_one_of_two(site: Site) -> None:
    for arguments in ([], ["web", "--copies-of", "web"]):
        assert (await site.hoody("containers", "sync", *arguments)).code == 2


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


async def test_create_from_an_image(site: Site) -> None:
    """Anybody may; what is said where it is not to be had names the next command."""
    async with site.world.db.write() as tx:
        for alias, price_cents in (("debian/12", 0), ("gold/1", 5)):
            columns = {"guid": "1", "price_cents": price_cents}
            await images.insert(tx, image_of(site.world.here.id, alias, **columns))
    creating = ("containers", "create", "--project", "home", "--no-wait", "--image")
    (await site.hoody(*creating, "debian/12")).good()
    made = await site.world.stored((await site.world.the_job()).container_id)
    assert made is not None
    assert made.container_image == "debian/12"
    ran = await site.hoody(*creating, "none")
    assert (ran.code, "hoody images list" in ran.err) == (3, True)
    ran = await site.hoody(*creating, "gold/1")
    assert (ran.code, "hoody images purchase" in ran.err) == (3, True)
    for both in ((), ("--image", "debian/12", "--source-path", "/srv")):
        assert (await site.hoody(*creating[:4], *both)).code == 2


async def test_create_names_what_it_makes_or_the_key_that_forbids_it(site: Site) -> None:
    creating = ("containers", "create", "--project", "home", "--no-wait", "--source-path")
    ran = await site.hoody(*creating, str(site.home), HOODY_TOKEN=site.world.admin)
    assert ran.code == 2  # an admin sees the homes of all
    creating = (*creating[:3], site.world.home.id, *creating[4:])
    ran = await site.hoody(*creating, str(site.home), HOODY_TOKEN=site.world.admin)
    job = await site.world.the_job()
    made = await site.world.stored(job.container_id)
    assert made is not None
    assert ran.good().out == f"{made.name} ({made.id[:8]}): job {job.id}\n"
    ran = await site.hoody(*creating, "/etc", HOODY_TOKEN=site.world.admin)
    assert ran.code == 3
    assert ran.err.count("is not under an import root") == 1
    assert "storage.import_roots" in ran.err
    ran = await site.hoody(*creating, str(site.home))
    assert "run: hoodyd token --config FILE --admin | hoody login --url URL" in ran.err


async def test_what_the_api_refuses_is_exit_3_with_its_code(site: Site) -> None:
    ran = await site.hoody("containers", "copy", "0" * 24, "--target-project-id", "0" * 24)
    assert ran.code == 3
    assert ran.err.startswith("hoody: SOURCE_CONTAINER_NOT_FOUND: ")
    ran = await site.hoody("projects", "list", HOODY_TOKEN="nonsense")
    assert ran.code == 3
    assert ran.err.startswith("hoody: INVALID_TOKEN: ")


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
    url = f"{site.url}/api/v1/"
    (await run("hoody", "login", "--url", url, env=env, stdin=f"{token}\n")).good()
    assert f'url = "{site.url}"' in kept.read_text()
    ran = await run("hoody", "login", "--url", f"{site.url}/docs", env=env, stdin=token)
    assert (ran.code, "what comes before /api/v1" in " ".join(ran.err.split())) == (2, True)
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
