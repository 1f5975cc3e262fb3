"""`hoodyd doctor`: nothing on a healthy server, and each planted fault by its code."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from daemon import doctor
from daemon.actions import ACTIONS
from daemon.doctor import Finding
from daemon.model import (
    Container,
    DatasetRow,
    JobType,
    Role,
    Status,
    hold_tag,
    mirror_path,
    new_id,
    now,
)
from daemon.states import Move
from daemon.store import datasets, holdings, jobs
from tests.engine_world import World
from transfer.errors import StorageError

Codes = list[tuple[str, str]]


@pytest.fixture(autouse=True)
def no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "SECOND_LOOK_SECONDS", 0.0)


@pytest.fixture
async def source(world: World) -> Container:
    made = await world.create()
    await world.copy(made)
    return made


async def examine(world: World, *, repair: bool = False) -> list[Finding]:
    return await doctor.examine(world.here.config, repair)


async def codes(world: World) -> Codes:
    return [(finding.code, finding.subject) for finding in await examine(world)]


async def mended(world: World) -> list[bool | None]:
    return [finding.repaired for finding in await examine(world, repair=True)]


async def test_a_healthy_server_has_no_findings(world: World, source: Container) -> None:
    assert await codes(world) == []
    (await world.live(source) / "file").write_text("written")
    assert await codes(world) == []
    await world.remove(source)
    assert await codes(world) == []
    await world.settle(world.here)
    assert await codes(world) == []


async def test_a_dataset_without_a_row(world: World, source: Container) -> None:
    path = f"mirrors/{new_id()}"
    await world.here.storage.take_in(str(world.tree), path, f"h-{new_id()}", lambda _: None)
    assert await codes(world) == [("DATASET_UNKNOWN", path)]
    assert await mended(world) == [True]
    assert await codes(world) == []
    assert path not in (await world.forest(world.here)).datasets


async def test_a_dataset_without_a_row_that_is_held_is_declined(
    world: World, source: Container
) -> None:
    path = f"mirrors/{new_id()}"
    held = await world.here.storage.take_in(str(world.tree), path, f"h-{new_id()}", lambda _: None)
    job = await world.running(JobType.STOP, source)
    await world.here.storage.hold([held.guid], hold_tag(job.id))
    async with world.db.write() as tx:
        await holdings.add(tx, job.id, world.here.id)
    assert await mended(world) == [False]
    assert path in (await world.forest(world.here)).datasets


async def test_a_dataset_without_a_row_that_is_needed_is_declined(
    world: World, source: Container
) -> None:
    """It may be all that is left of a snapshot that somebody lists."""
    entry = await world.snapshot(source)
    path = world.path(source)
    async with world.db.write() as tx:
        await datasets.delete(tx, source.generation_id or "")
    (found,) = await examine(world)
    assert (found.code, found.subject) == ("DATASET_UNKNOWN", path)
    assert "needed" in found.message
    assert await mended(world) == [False]
    assert (await world.forest(world.here)).find(entry.guid) is not None


async def test_what_a_collector_was_killed_over_is_no_finding(
    world: World, source: Container
) -> None:
    """It moves a generation whose container is gone before it says so in the catalogue."""
    await world.remove(source)
    async with world.db.read() as tx:
        (orphan,) = [
            row
            for row in await datasets.on_server(tx, world.here.id)
            if row.role is Role.GENERATION
        ]
    await world.here.storage.retire(orphan.path, mirror_path(orphan.id))
    assert await codes(world) == []
    await world.settle(world.here)
    assert await codes(world) == []


async def test_what_is_not_ours_is_in_nobodys_way(world: World, source: Container) -> None:
    """Wherever it lies and whatever it is called; what is made or removed has a dot, and a
    filesystem of its own has its lost files."""
    root = Path(world.here.config.storage.root)
    strange = [f"containers/{source.id}/by hand", "containers/notes", "mirrors/a b", "mirrors/old"]
    for name in (*strange, "lost+found", ".tmp-probe"):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "README").write_text("a file")
    (root / "containers" / "file").write_text("another")
    expected = sorted([*strange, "README", "containers/file"])
    assert await codes(world) == [("DATASET_FOREIGN", path) for path in expected]
    assert await mended(world) == [False] * len(expected)
    await world.snapshot(source)
    await world.settle(world.here)
    assert all((root / path).exists() for path in expected)


async def test_a_container_that_is_stopped_needs_no_process(
    world: World, source: Container
) -> None:
    Path(world.here.config.storage.mount_root, source.id, "current").unlink()
    assert await codes(world) == [("PROCESS_MISSING", source.id)]
    await world.change(source, status=Status.STOPPED)
    assert await codes(world) == []


async def test_a_container_with_a_job_is_the_jobs(world: World, source: Container) -> None:
    Path(world.here.config.storage.mount_root, source.id, "current").unlink()
    job = await world.queue(JobType.RESTART, source)
    assert await codes(world) == []
    await world.carry_out(job)
    assert await codes(world) == [("PROCESS_MISSING", source.id)]


async def test_findings_as_text(
    world: World, source: Container, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await asyncio.to_thread(doctor.run, world.here.config, False, False) == 0
    assert capsys.readouterr().out == "no findings\n"
    path = world.path(source)
    await world.here.storage.unmount(path)
    assert await asyncio.to_thread(doctor.run, world.here.config, False, False) == 1
    told = capsys.readouterr().out.splitlines()[-1]
    assert told == "the same with --repair mends GENERATION_UNMOUNTED"
    assert await asyncio.to_thread(doctor.run, world.here.config, True, False) == 1
    line = capsys.readouterr().out
    assert line == f"GENERATION_UNMOUNTED  {path}: a live generation is unmounted (repaired)\n"


async def test_a_row_without_its_dataset(world: World, source: Container) -> None:
    mirror_id = new_id()
    row = DatasetRow(
        mirror_id, world.here.id, Role.MIRROR, mirror_id, f"mirrors/{mirror_id}", ready=True
    )
    async with world.db.write() as tx:
        await datasets.insert(tx, row)
    assert await codes(world) == [("DATASET_MISSING", row.path)]
    assert await mended(world) == [False]


async def test_a_live_generation_that_is_lost_is_named_so(world: World, source: Container) -> None:
    os.rename(Path(world.here.config.storage.root, world.path(source)), world.imports / "elsewhere")
    (finding,) = await examine(world)
    assert (finding.code, finding.subject) == ("DATASET_MISSING", world.path(source))
    assert "live generation" in finding.message


async def test_a_hold_without_a_job(world: World, source: Container) -> None:
    path = world.path(source)
    snapshot = (await world.forest(world.here)).datasets[path].snapshots[0]
    await world.here.storage.hold([snapshot.guid], hold_tag(new_id()))
    assert await codes(world) == [("HOLD_UNKNOWN", f"{path}@{snapshot.name}")]
    assert await mended(world) == [False]


async def test_a_live_generation_that_is_not_mounted(world: World, source: Container) -> None:
    path = world.path(source)
    await world.here.storage.unmount(path)
    assert await codes(world) == [("GENERATION_UNMOUNTED", path)]
    assert await mended(world) == [True]
    assert await codes(world) == []


async def test_a_generation_that_is_mounted_again_is_the_current_one(
    world: World, source: Container
) -> None:
    """After a restart of the machine, `current` may be gone with the mounts, or stale."""
    current = Path(world.here.config.storage.mount_root, source.id, "current")
    await world.here.storage.unmount(world.path(source))
    current.unlink()
    current.symlink_to(new_id())
    assert await mended(world) == [True]
    assert os.readlink(current) == source.generation_id
    assert (current / "file").read_text() == "first"


async def test_a_listed_snapshot_that_is_lost(world: World, source: Container) -> None:
    """Nothing can bring it back, and the user shall see what is missing."""
    entries = [await world.snapshot(source)]
    assert await codes(world) == []
    (await world.live(source) / "file").write_text("second")
    entries.append(await world.snapshot(source))
    await world.here.storage.destroy_snapshot(world.path(source), entries[0].guid)
    lost = ("SNAPSHOT_MISSING", f"{source.id}/{entries[0].name}")
    assert await codes(world) == [lost]
    assert await mended(world) == [False]
    assert await codes(world) == [lost]
    assert len(await world.listed(source)) == 2


async def test_the_lists_of_other_servers_are_theirs(world: World, source: Container) -> None:
    made = await world.create("other", world.there)
    entry = await world.snapshot(made)
    await world.there.storage.destroy_snapshot(world.path(made), entry.guid)
    assert await codes(world) == []


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
async def test_a_key_that_others_can_reach(world: World, source: Container, mode: int) -> None:
    path = Path(world.here.config.peer_key_file)
    path.write_text("secret")
    path.chmod(mode)
    assert await codes(world) == [("KEY_FILE_OPEN", str(path))]
    assert await mended(world) == [True]
    assert path.stat().st_mode & 0o777 == 0o600
    assert await codes(world) == []


async def test_a_lease_that_is_over(world: World, source: Container) -> None:
    job = await world.running(JobType.STOP, source)
    async with world.db.write() as tx:
        await jobs.renew(tx, world.here.id, [job.id], now() - timedelta(seconds=1))
    assert await codes(world) == [("LEASE_STALE", job.id)]
    assert await mended(world) == [False]


async def test_what_a_job_accounts_for_is_no_finding(world: World, source: Container) -> None:
    """Running or ended: it is the collector's."""
    made = await world.add("other")
    job = await world.running(JobType.CREATE, made, params={"source_path": str(world.tree)})
    ctx = world.context(job)

    async def fail(name: str) -> None:
        if name == "switch":
            raise StorageError("a fault of the test")

    ctx.step = fail
    with pytest.raises(StorageError):
        await ACTIONS[JobType.CREATE].run(ctx)
    assert await codes(world) == []
    await world.end(job, Move.FAIL)
    assert await codes(world) == []
    await world.settle(world.here)
    assert await codes(world) == []


async def test_what_was_planned_and_not_made_is_no_finding(world: World, source: Container) -> None:
    """A job writes the row first; one that has ended may have left it so."""
    job = await world.running(JobType.STOP, source)
    for ready, job_id in ((False, new_id()), (True, job.id)):
        mirror_id = new_id()
        path = f"mirrors/{mirror_id}"
        row = DatasetRow(mirror_id, world.here.id, Role.MIRROR, mirror_id, path)
        async with world.db.write() as tx:
            await datasets.insert(tx, replace(row, job_id=job_id, ready=ready))
    assert await codes(world) == []


async def test_what_passes_between_two_looks_is_no_finding(
    world: World, source: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = world.path(source)
    await world.here.storage.unmount(path)
    look: Callable[..., Awaitable[list[Finding]]] = doctor._findings

    async def look_and_mend(*args: object) -> list[Finding]:
        found = await look(*args)
        await world.here.storage.mount(path)
        return found

    monkeypatch.setattr(doctor, "_findings", look_and_mend)
    assert await codes(world) == []


async def test_another_servers_things_are_its_own(world: World, source: Container) -> None:
    path = f"mirrors/{new_id()}"
    await world.there.storage.take_in(str(world.tree), path, f"h-{new_id()}", lambda _: None)
    assert await codes(world) == []
