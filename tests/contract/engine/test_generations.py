"""A new generation, and the switch to it: what users and operators do meanwhile is respected."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from daemon import keys
from daemon.actions import ACTIONS, generations
from daemon.actions.context import Context
from daemon.actions.create import allowed_tree
from daemon.errors import JobError, LeaseLost
from daemon.model import Container, Job, JobType, Status, new_id
from daemon.states import Move
from daemon.store import datasets, jobs
from tests.engine_world import SEALING_KEY, World
from transfer.errors import SourcePathInvalid, StorageError, VerifyMismatch
from transfer.model import Dataset
from transfer.storage.directory import DirectoryStorage

SLOW_SECONDS = 0.5


async def run_until(world: World, job: Job, step: str) -> Context:
    """An attempt that fails when this step begins; its context."""
    ctx = world.context(await world.claim(job))
    begin = ctx.step

    async def fail_at(name: str) -> None:
        await begin(name)
        if name == step:
            raise StorageError("a fault of the test")

    ctx.step = fail_at
    with pytest.raises(StorageError):
        await ACTIONS[job.type].run(ctx)
    return ctx


async def keys_of(world: World, container: Container) -> str:
    tree = await world.live(container)
    return (tree / "root" / ".ssh" / "authorized_keys").read_text()


async def test_a_retry_goes_on_with_the_same_generation(world: World) -> None:
    source = await world.create()
    copy, job = await world.begin_copy(source)
    ctx = await run_until(world, job, "switch")
    begun = ctx.recall("generation")
    await world.end(ctx.job, Move.REQUEUE)
    await world.carry_out(job)
    assert (await world.get(copy.id)).generation_id == begun


async def test_a_generation_of_another_state_does_not_go_live(world: World) -> None:
    """Whatever the storage has made of the order to clone."""

    class Astray(DirectoryStorage):
        async def settle(self, path: str, name: str) -> Dataset:
            return replace(await super().settle(path, name), origin="1")

    source = await world.create()
    copy, job = await world.begin_copy(source)
    at = world.there.config
    astray = await Astray.open(at.storage.root, at.storage.mount_root, at.server.state_dir)
    with pytest.raises(VerifyMismatch):
        await ACTIONS[job.type].run(world.context(await world.claim(job), storage=astray))
    assert (await world.get(copy.id)).generation_id is None


async def test_a_retry_from_another_state_makes_another_generation(world: World) -> None:
    source = await world.create()
    copy, job = await world.begin_copy(source)
    ctx = await run_until(world, job, "switch")
    begun = ctx.recall("generation")
    assert begun is not None
    other = await world.there.storage.snapshot(
        (await world.forest(world.there)).datasets[f"containers/{copy.id}/{begun}"].path,
        f"h-{new_id()}",
        ctx.tag,
    )
    again = await generations._register(ctx, copy, other.guid)
    assert again != begun
    assert await generations._register(ctx, copy, other.guid) == again


async def test_the_switch_is_refused_after_a_cancel(world: World) -> None:
    source = await world.create()
    copy = await world.copy(source)
    live = (await world.get(copy.id)).generation_id
    (await world.live(source) / "file").write_text("second")
    job = await world.claim(await world.begin_sync(copy))
    async with world.db.write() as tx:
        await jobs.request_cancel(tx, job.id)
    with pytest.raises(JobError) as refused:
        await ACTIONS[job.type].run(world.context(job))
    assert refused.value.code == "CANCELLED"
    await world.end(job, Move.CANCEL)
    after = await world.get(copy.id)
    assert (after.generation_id, after.status) == (live, Status.RUNNING)
    assert (await world.live(copy) / "file").read_text() == "first"


async def test_an_attempt_that_is_no_longer_ours_switches_nothing(world: World) -> None:
    source = await world.create()
    copy, job = await world.begin_copy(source)
    stale = world.context(await world.claim(job))
    await world.end(stale.job, Move.REQUEUE)
    await world.claim(job)
    with pytest.raises(LeaseLost):
        await ACTIONS[job.type].run(stale)
    assert (await world.get(copy.id)).generation_id is None


async def test_current_names_the_live_generation(world: World) -> None:
    source = await world.create()
    copy = await world.copy(source)
    link = Path(world.there.config.storage.mount_root, copy.id, "current")
    first = os.readlink(link)
    assert first == (await world.get(copy.id)).generation_id
    (await world.live(source) / "file").write_text("second")
    await world.sync(copy)
    assert os.readlink(link) == (await world.get(copy.id)).generation_id != first
    assert (link / "file").read_text() == "second"


def test_current_always_names_a_generation(tmp_path: Path) -> None:
    """A half-made link of an earlier attempt does not stand in the way; done twice, it stays."""
    (tmp_path / "c").mkdir()
    current = tmp_path / "c" / "current"
    generations.point_current(str(tmp_path), "c", "0")
    over = threading.Event()
    seen: set[str] = set()

    def look() -> None:
        while not over.is_set():
            seen.add(os.readlink(current))

    with ThreadPoolExecutor(1) as looking:
        looked = looking.submit(look)
        for number in range(300):
            (tmp_path / "c" / f".current-{number}").symlink_to("rubbish")
            for _ in range(2):
                generations.point_current(str(tmp_path), "c", str(number))
                assert os.readlink(current) == str(number)
        over.set()
        looked.result()
    assert os.listdir(tmp_path / "c") == ["current"]
    assert "rubbish" not in seen


async def test_a_key_is_generated_where_none_was_given(world: World) -> None:
    source = await world.create()
    copy = await world.copy(source)
    assert copy.ssh_public_key is not None
    assert copy.ssh_public_key != source.ssh_public_key
    assert await keys_of(world, copy) == f"{copy.ssh_public_key}\n"
    assert copy.ssh_private_sealed is not None
    private = keys.unseal(SEALING_KEY, copy.ssh_private_sealed)
    assert "OPENSSH PRIVATE KEY" in private


async def test_a_key_is_generated_only_once(world: World) -> None:
    source = await world.create()
    copy = await world.copy(source)
    (await world.live(source) / "file").write_text("second")
    await world.sync(copy)
    after = await world.get(copy.id)
    assert after.ssh_public_key == copy.ssh_public_key
    assert after.ssh_private_sealed == copy.ssh_private_sealed
    assert await keys_of(world, copy) == f"{copy.ssh_public_key}\n"


@pytest.mark.parametrize("late", [False, True], ids=["before the clone", "right at the switch"])
async def test_a_key_that_the_user_gives_during_the_first_copy_is_kept(
    world: World, late: bool
) -> None:
    source = await world.create()
    copy, job = await world.begin_copy(source)
    given = keys.generate("mine")
    ctx = world.context(await world.claim(job))
    begin = ctx.step

    async def patch_at(name: str) -> None:
        if name == ("switch" if late else "transfer"):
            await world.change(copy, ssh_public_key=given.public_text, ssh_key_id=given.key_id)
        await begin(name)

    ctx.step = patch_at
    await ACTIONS[job.type].run(ctx)
    after = await world.get(copy.id)
    assert (after.ssh_public_key, after.ssh_key_id) == (given.public_text, given.key_id)
    assert after.ssh_private_sealed is None
    if not late:
        assert await keys_of(world, copy) == f"{given.public_text}\n"


async def test_a_container_that_is_to_be_deleted_stays_so_through_a_switch(world: World) -> None:
    """The delete came too late to cancel the sync; it waits, and nobody may use the container."""
    source = await world.create()
    copy = await world.copy(source)
    (await world.live(source) / "file").write_text("second")
    ctx = world.context(await world.claim(await world.begin_sync(copy)))
    begin = ctx.step

    async def delete_at(name: str) -> None:
        await begin(name)
        if name == "switch":
            await world.change(copy, status=Status.DELETING)

    ctx.step = delete_at
    await ACTIONS[JobType.SYNC].run(ctx)
    assert (await world.get(copy.id)).status is Status.DELETING


async def test_the_result_of_the_switch_survives_its_attempt(world: World) -> None:
    """Killed after the commit, the next attempt returns what the switch has written down."""
    source = await world.create()
    _, job = await world.begin_copy(source)
    ctx = await run_until(world, job, "release")
    kept = ctx.job.checkpoint["result"]
    await world.end(ctx.job, Move.REQUEUE)
    assert await world.carry_out(job) == kept
    assert isinstance(kept, dict)
    assert kept["strategy"] == "full"


async def test_the_old_generation_is_retired_in_the_same_commit(world: World) -> None:
    source = await world.create()
    copy = await world.copy(source)
    (await world.live(source) / "file").write_text("second")
    await world.sync(copy)
    async with world.db.read() as tx:
        rows = await datasets.of_container(tx, copy.id)
    assert [(row.id == copy.generation_id, row.ready, row.retired) for row in rows] == [
        (True, True, True),
        (False, True, False),
    ]


# --- what may be taken in ------------------------------------------------------------------------


@pytest.fixture
def roots(tmp_path: Path) -> Path:
    for name in ("imports/tree", "imports-too/tree", "secret"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "imports" / "file").touch()
    (tmp_path / "imports" / "out").symlink_to(tmp_path / "secret")
    (tmp_path / "imports" / "in").symlink_to("tree")
    (tmp_path / "imports" / "lost").symlink_to("nowhere")
    (tmp_path / "imports" / "loop").symlink_to("loop")
    (tmp_path / "linked").symlink_to("imports")
    return tmp_path


@pytest.mark.parametrize(
    "path",
    [
        "secret",
        "imports-too/tree",
        "imports/out",
        "imports/../secret",
        "imports/tree/../../secret",
        "imports/in/../../secret",
        "imports/file",
        "imports/lost",
        "imports/loop",
        "imports/nothing",
        "",
    ],
)
def test_what_may_not_be_taken_in(roots: Path, path: str) -> None:
    with pytest.raises(SourcePathInvalid):
        allowed_tree(str(roots / path), (str(roots / "imports"),))


@pytest.mark.parametrize("path", ["tree", "./tree", "imports/tree", ""])
def test_a_relative_path_is_not_taken_in(
    roots: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(roots / "imports")
    with pytest.raises(SourcePathInvalid):
        allowed_tree(path, (str(roots / "imports"),))


def test_a_null_character_is_refused(roots: Path) -> None:
    with pytest.raises(SourcePathInvalid):
        allowed_tree(str(roots / "imports" / "tr\0ee"), (str(roots / "imports"),))


def test_nothing_is_taken_in_without_an_import_root(roots: Path) -> None:
    with pytest.raises(SourcePathInvalid):
        allowed_tree(str(roots / "imports" / "tree"), ())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_what_cannot_be_read_is_not_taken_in(roots: Path) -> None:
    tree = roots / "imports" / "tree"
    tree.chmod(0o700)
    for directory in (roots, *roots.parents):
        if directory.owner() == "root" and directory.stat().st_mode & 0o001 == 0:
            directory.chmod(directory.stat().st_mode | 0o011)
    child = os.fork()
    if child == 0:
        os.setresuid(65534, 65534, 65534)
        try:
            allowed_tree(str(tree), (str(roots / "imports"),))
        except SourcePathInvalid:
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("path", ["imports", "imports/tree", "imports/in", "linked/tree"])
def test_what_may_be_taken_in_comes_by_its_real_path(roots: Path, path: str) -> None:
    found = allowed_tree(str(roots / path), (str(roots / "linked"),))
    assert found == os.path.realpath(roots / path)
    assert Path(found).is_relative_to(roots / "imports")


async def test_a_source_path_that_turned_bad_fails_for_good(world: World) -> None:
    """The API checked it; between then and now it was replaced."""
    made = await world.add("web")
    world.tree.rename(world.tree.with_name("gone"))
    world.tree.symlink_to("/etc")
    job = await world.running(JobType.CREATE, made, params={"source_path": str(world.tree)})
    with pytest.raises(SourcePathInvalid):
        await ACTIONS[JobType.CREATE].run(world.context(job))
    await world.end(job, Move.FAIL)
    after = await world.get(made.id)
    assert (after.status, after.status_reason) == (Status.ERROR, "FAULT: it failed")
    assert await world.paths(world.here) == []


async def test_each_stage_of_a_sync_is_timed_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = await world.create("prod")
    copied = await world.copy(source)
    (await world.live(source) / "file").write_text("later")
    settle = DirectoryStorage.settle

    async def slowly(storage: DirectoryStorage, path: str, name: str) -> Dataset:
        await asyncio.sleep(SLOW_SECONDS)
        return await settle(storage, path, name)

    monkeypatch.setattr(DirectoryStorage, "settle", slowly)
    began = time.monotonic()
    seconds = cast("dict[str, float]", (await world.sync(copied))["seconds"])
    whole = time.monotonic() - began
    assert list(seconds) == ["plan", "snapshot", "transfer", "verify", "switch"]
    assert all(taken > 0 for taken in seconds.values()), seconds
    assert seconds["verify"] >= SLOW_SECONDS
    assert sum(seconds.values()) < whole
