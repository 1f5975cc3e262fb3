"""Content diff between two dir storages: what comes over, and what it costs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.pair import MIRROR, Counting, Pair, frozen, ignore, make_pair, step
from tests.trees import listing
from transfer.model import Landing, Step, StepKind
from transfer.tree.chunk import CHUNK_BYTES


@pytest.fixture
async def pair(tmp_path: Path) -> Pair:
    return await make_pair(tmp_path)


async def test_a_whole_tree_comes_over(pair: Pair) -> None:
    tree = await pair.apply(await pair.snapshot())
    assert (tree / "sparse").stat().st_blocks * 512 <= 256 * 1024
    assert (tree / "big").stat().st_ino == (tree / "etc" / "big-too").stat().st_ino


def change_content(live: Path) -> None:
    (live / "file").write_bytes(b"something else")


def add_things(live: Path) -> None:
    (live / "new" / "deeper").mkdir(parents=True)
    (live / "new" / "deeper" / "file").write_bytes(os.urandom(300_000))
    (live / "new" / "link").symlink_to("deeper/file")


def delete_things(live: Path) -> None:
    (live / "etc" / "hosts").unlink()
    (live / "etc" / "empty").rmdir()


def rename_file(live: Path) -> None:
    (live / "sparse").rename(live / "etc" / "moved")


def rename_directory(live: Path) -> None:
    (live / "etc").rename(live / "etcetera")


def change_mode(live: Path) -> None:
    (live / "big").chmod(0o600)


def change_owner(live: Path) -> None:
    os.chown(live / "file", 12345, 54321)


def change_time(live: Path) -> None:
    os.utime(live / "file", ns=(1, 1_234_567_890_987_654_321))


def change_directory_time(live: Path) -> None:
    os.utime(live / "etc" / "empty", ns=(1, 1_234_567_890_987_654_321))


def change_root_mode(live: Path) -> None:
    live.chmod(0o711)


def break_hard_link(live: Path) -> None:
    content = (live / "big").read_bytes()
    (live / "big").unlink()
    (live / "big").write_bytes(content)


def join_hard_link(live: Path) -> None:
    os.link(live / "sparse", live / "etc" / "aaa")


def remove_leader(live: Path) -> None:
    (live / "big").unlink()


def file_becomes_directory(live: Path) -> None:
    (live / "file").unlink()
    (live / "file").mkdir()
    (live / "file" / "file").write_bytes(b"x")


def directory_becomes_symlink(live: Path) -> None:
    (live / "sbin" / "tool").unlink()
    (live / "sbin").rmdir()
    (live / "sbin").symlink_to("etc")


def symlink_is_changed(live: Path) -> None:
    (live / "link").unlink()
    (live / "link").symlink_to("elsewhere")


def file_grows_and_shrinks(live: Path) -> None:
    os.truncate(live / "sparse", 10_000_000)
    with (live / "big").open("ab") as file:
        file.write(b"tail")


def becomes_twins(live: Path) -> None:
    (live / "etc" / "hosts").rename(live / "one")
    shutil.copy2(live / "one", live / "two")


def becomes_empty(live: Path) -> None:
    os.truncate(live / "big", 0)


CHANGES: dict[str, tuple[Callable[[Path], None], int]] = {
    # how many chunks may come
    "content": (change_content, 1),
    "new": (add_things, 3),
    "deleted": (delete_things, 0),
    "renamed file": (rename_file, 0),
    "renamed directory": (rename_directory, 0),
    "mode": (change_mode, 0),
    "owner": (change_owner, 0),
    "time": (change_time, 0),
    "directory time": (change_directory_time, 0),
    "root mode": (change_root_mode, 0),
    "broken hard link": (break_hard_link, 0),
    "joined hard link": (join_hard_link, 0),
    "first name of a hard link": (remove_leader, 0),
    "file to directory": (file_becomes_directory, 1),
    "directory to symlink": (directory_becomes_symlink, 0),
    "symlink": (symlink_is_changed, 0),
    "sizes": (file_grows_and_shrinks, 2),
    "twins": (becomes_twins, 0),
    "empty": (becomes_empty, 0),
}


@pytest.mark.parametrize("case", CHANGES)
async def test_a_change_comes_over(pair: Pair, case: str) -> None:
    change, chunks_max = CHANGES[case]
    base = await pair.snapshot()
    before = await pair.apply(base)
    facts = listing(before)
    change(pair.live)
    wanted = await pair.snapshot()
    assert wanted.guid != base.guid
    await pair.apply(wanted, base)
    assert len(pair.asked.chunks) <= chunks_max
    assert listing(before) == facts


async def test_an_unchanged_tree_costs_its_digest(pair: Pair) -> None:
    base = await pair.snapshot()
    await pair.apply(base)
    change_time(pair.live)
    await pair.snapshot()
    os.utime(pair.live / "file", ns=(1, (frozen(pair.source, base) / "file").stat().st_mtime_ns))
    again = await pair.snapshot()
    assert again.guid != base.guid
    await pair.apply(again, base)
    assert pair.asked.bytes == 16


async def test_one_changed_chunk_of_a_big_file_is_one_chunk(pair: Pair) -> None:
    (pair.live / "database").write_bytes(os.urandom(100 * CHUNK_BYTES))
    base = await pair.snapshot()
    await pair.apply(base)
    with (pair.live / "database").open("r+b") as file:
        file.seek(50 * CHUNK_BYTES + 17)
        file.write(b"a page")
    await pair.apply(await pair.snapshot(), base)
    assert pair.asked.chunks == [b"database"]


async def test_equal_new_files_are_fetched_once(pair: Pair) -> None:
    content = os.urandom(3 * CHUNK_BYTES)
    for name in ("one", "two"):
        (pair.live / name).write_bytes(content)
    tree = await pair.apply(await pair.snapshot())
    assert sum(name in {b"one", b"two"} for name in pair.asked.chunks) == 3
    assert (tree / "one").stat().st_ino != (tree / "two").stat().st_ino


async def test_unchanged_files_are_linked_between_snapshots_only(pair: Pair) -> None:
    base = await pair.snapshot()
    first = await pair.apply(base)
    add_things(pair.live)
    wanted = await pair.snapshot()
    second = await pair.apply(wanted, base)
    assert (first / "big").stat().st_ino == (second / "big").stat().st_ino
    ours = [frozen(pair.source, snapshot) / "big" for snapshot in (base, wanted)]
    assert ours[0].stat().st_ino == ours[1].stat().st_ino != (pair.live / "big").stat().st_ino


async def test_applied_twice_it_is_there_once(pair: Pair) -> None:
    wanted = await pair.snapshot()
    await pair.apply(wanted)
    asked = Counting(pair.source)
    await pair.target.apply(step(wanted, None), MIRROR, asked, ignore)
    assert asked.bytes == 0
    assert len((await pair.target.inspect([MIRROR])).datasets[MIRROR].snapshots) == 1


async def test_a_snapshot_applied_can_be_cloned_and_goes_on(pair: Pair) -> None:
    """prod -> staging -> dev: the copy's own snapshot ships from there."""
    base = await pair.snapshot()
    await pair.apply(base)
    await pair.target.clone(base.guid, "containers/c2/g2")
    live = Path(await pair.target.mount("containers/c2/g2"))
    assert listing(live) == listing(frozen(pair.target, base))
    (live / "file").write_bytes(b"changed on the copy")
    own = await pair.target.snapshot("containers/c2/g2", "h-own", "test")
    lineage = await pair.target.lineage([own.guid])
    assert [found.guid for found in lineage.lineage(own.guid)] == [own.guid, base.guid]
    back = Step(StepKind.CONTENT, "", own.guid, own.name, base.guid, Landing.NEW)
    asked = Counting(pair.target)
    found = await pair.source.apply(back, "mirrors/back", asked, ignore)
    assert listing(frozen(pair.source, found)) == listing(live)
    assert asked.chunks == [b"file"]
