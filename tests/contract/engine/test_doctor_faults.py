"""Eleven faults, each planted for real on each backend: `hoodyd doctor` finds it with its own code
and nothing else, and `--repair` mends it or declines, as README.md says."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from daemon import doctor, keys
from daemon.config import RuntimeSection
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
from daemon.store import datasets, jobs, servers
from daemon.store.database import Database
from tests.engine_world import Place, World
from tests.monitors import monitor_of

KINDS = [pytest.param("zfs", marks=pytest.mark.zfs), "dir"]
README = Path(__file__).parents[3] / "README.md"


class Ward:
    """A server with its secrets and one running container, and what doctor says of it."""

    def __init__(self, world: World, capsys: pytest.CaptureFixture[str]) -> None:
        self.world = world
        self.place: Place = world.here
        self.web: Container
        self.stack = ExitStack()
        self._capsys = capsys

    async def open(self) -> None:
        """Makes the secrets, as `hoodyd init` does, and the container."""
        token_secret = self.secret("jwt.secret", "t" * 32)
        sealing_key = self.secret("sealing.key", "s" * 32)
        auth = self.place.config.auth.model_copy(
            update={"secret_file": str(token_secret), "sealing_key_file": str(sealing_key)}
        )
        self.place.config = self.place.config.model_copy(update={"auth": auth})
        known = replace(
            self.place.server,
            secret_fingerprint=keys.fingerprint(b"t" * 32),
            sealing_fingerprint=keys.fingerprint(b"s" * 32),
        )
        async with self.world.db.write() as tx:
            await servers.put(tx, known)
        self.web = await self.world.create()

    def secret(self, name: str, text: str) -> Path:
        """A file of the server's state directory, for its owner alone."""
        path = Path(self.place.config.server.state_dir, name)
        path.write_text(text)
        path.chmod(0o600)
        return path

    async def says(self, *, repair: bool = False) -> tuple[int, list[dict[str, object]]]:
        """The exit code, and what is printed for programs."""
        status = await asyncio.to_thread(doctor.run, self.place.config, repair, True)
        return status, json.loads(self._capsys.readouterr().out)


@pytest.fixture(autouse=True)
def no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "SECOND_LOOK_SECONDS", 0.0)


@pytest.fixture(params=KINDS)
async def ward(
    request: pytest.FixtureRequest,
    url: str,
    db: Database,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> AsyncIterator[Ward]:
    world = World(db, url, tmp_path)
    roots = {"here": request.getfixturevalue("zfs_pool")("ward")} if request.param == "zfs" else {}
    await world.fill(("here",), roots)
    made = Ward(world, capsys)
    await made.open()
    with made.stack:
        yield made


# Each plants its fault and says what the finding is about.


async def dataset_without_row(ward: Ward) -> str:
    path = mirror_path(new_id())
    await ward.place.storage.take_in(str(ward.world.tree), path, f"h-{new_id()}", lambda _: None)
    return path


async def row_without_dataset(ward: Ward) -> str:
    mirror_id = new_id()
    path = mirror_path(mirror_id)
    row = DatasetRow(mirror_id, ward.place.id, Role.MIRROR, mirror_id, path, ready=True)
    async with ward.world.db.write() as tx:
        await datasets.insert(tx, row)
    return path


async def snapshot_without_guid(ward: Ward) -> str:
    lost = await ward.world.snapshot(ward.web)
    (await ward.world.live(ward.web) / "file").write_text("later")
    await ward.world.snapshot(ward.web)
    await ward.place.storage.destroy_snapshot(ward.world.path(ward.web), lost.guid)
    return f"{ward.web.id}/{lost.name}"


async def hold_without_job(ward: Ward) -> str:
    entry = await ward.world.snapshot(ward.web)
    await ward.place.storage.hold([entry.guid], hold_tag(new_id()))
    found = (await ward.world.forest(ward.place)).find(entry.guid)
    assert found is not None
    return f"{found.dataset}@{found.name}"


async def live_generation_unmounted(ward: Ward) -> str:
    path = ward.world.path(ward.web)
    await ward.place.storage.unmount(path)
    return path


async def running_elsewhere(ward: Ward) -> str:
    current = Path(ward.place.config.storage.mount_root, ward.web.id, "current")
    current.unlink()
    current.symlink_to(new_id())
    return ward.web.id


async def running_without_generation(ward: Ward) -> str:
    await ward.world.change(ward.web, generation_id=None)
    return ward.web.id


async def running_unasked(ward: Ward) -> str:
    """The server's container lives as well, and is none of that."""
    runtime = RuntimeSection(driver="runc")
    ward.place.config = ward.place.config.model_copy(update={"runtime": runtime})
    await ward.world.change(ward.web, command=("/bin/web",))
    quiet = await ward.world.add("quiet", status=Status.STOPPED, command=("/bin/web",))
    root = str(Path(ward.place.config.server.state_dir, "runtime"))
    for container in (ward.web, quiet):
        ward.stack.enter_context(monitor_of(root, container.id))
    return quiet.id


async def open_key_file(ward: Ward) -> str:
    path = ward.place.config.auth.secret_file
    Path(path).chmod(0o644)
    return path


async def foreign_dataset(ward: Ward) -> str:
    storage = ward.place.config.storage
    if storage.backend == "zfs":
        argv = ["zfs", "create", f"{storage.root}/backup"]
        await asyncio.to_thread(subprocess.run, argv, check=True, timeout=60)
    else:
        Path(storage.root, "backup").mkdir()
    return "backup"


async def stale_lease(ward: Ward) -> str:
    job = await ward.world.running(JobType.STOP, ward.web)
    async with ward.world.db.write() as tx:
        await jobs.renew(tx, ward.place.id, [job.id], now() - timedelta(seconds=1))
    return job.id


async def other_secret(ward: Ward) -> str:
    return str(ward.secret("sealing.key", "o" * 32))


@dataclass(frozen=True)
class Fault:
    """What is planted, and whether `--repair` mends it."""

    code: str
    plant: Callable[[Ward], Awaitable[str]]
    mended: bool


FAULTS = [
    Fault("DATASET_UNKNOWN", dataset_without_row, mended=True),
    Fault("DATASET_MISSING", row_without_dataset, mended=False),
    Fault("SNAPSHOT_MISSING", snapshot_without_guid, mended=False),
    Fault("HOLD_UNKNOWN", hold_without_job, mended=False),
    Fault("GENERATION_UNMOUNTED", live_generation_unmounted, mended=True),
    Fault("PROCESS_MISSING", running_elsewhere, mended=True),
    Fault("PROCESS_MISSING", running_without_generation, mended=False),
    Fault("PROCESS_UNKNOWN", running_unasked, mended=False),
    Fault("KEY_FILE_OPEN", open_key_file, mended=True),
    Fault("DATASET_FOREIGN", foreign_dataset, mended=False),
    Fault("LEASE_STALE", stale_lease, mended=False),
    Fault("SECRET_DIFFERS", other_secret, mended=False),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.plant.__name__)
async def test_a_fault_has_its_own_code(ward: Ward, fault: Fault) -> None:
    assert await ward.says() == (0, [])
    subject = await fault.plant(ward)
    status, (found,) = await ward.says()
    assert status == 1
    assert (found["code"], found["subject"]) == (fault.code, subject)
    assert found["repaired"] is None
    status, (tried,) = await ward.says(repair=True)
    assert (status, tried["code"], tried["repaired"]) == (1, fault.code, fault.mended)
    assert await ward.says() == ((0, []) if fault.mended else (1, [found]))


def test_there_are_eleven_and_readme_tells_what_each_means() -> None:
    lines = README.read_text().splitlines()
    mended = {fault.code for fault in FAULTS if fault.mended}
    codes = {fault.code for fault in FAULTS}
    assert len(codes) == 11
    for code in codes:
        (row,) = [line for line in lines if line.startswith(f"| `{code}` |")]
        assert row.endswith("| declines |") == (code not in mended), row
