"""Any edits of any small tree come over by content diff, and a snapshot is new where, and only
where, something has changed."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pair import LIVE, MIRROR, Pair, frozen, ignore, open_at, step
from tests.trees import listing
from transfer.errors import PeerUnreachable
from transfer.model import Guid, Landing, Snapshot
from transfer.tree.chunk import CHUNK_BYTES

NAMES = ("a", "b", "b.c", "B", "zz")  # "b.c" sorts before "b/…" as a path and behind "b" as a name
COPY = "containers/c2/g2"
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


@dataclass(frozen=True)
class Edit:
    """One change; `at` and `to` choose among what is there, modulo their number."""

    verb: str
    at: int
    to: int
    content: bytes
    keeps_times: bool


def pick(paths: Sequence[Path], number: int) -> Path:
    return sorted(paths)[number % len(paths)]


def carry_out(root: Path, edit: Edit) -> None:
    """What cannot be done to this tree (a name that is taken, nothing to rename) is left out."""
    inside = [path for path in root.rglob("*") if path.is_symlink() or not path.is_dir()]
    folders = [path for path in (root, *root.rglob("*")) if path.is_dir() and not path.is_symlink()]
    files = [path for path in inside if path.is_file() and not path.is_symlink()]
    new = pick(folders, edit.to) / NAMES[edit.to % len(NAMES)]
    with suppress(FileExistsError, IsADirectoryError, NotADirectoryError):
        if edit.verb in MAKING:
            MAKING[edit.verb](new, edit)
        elif edit.verb in FOLDERS and len(folders) > 1:
            FOLDERS[edit.verb](pick(folders[1:], edit.at), new)
        elif edit.verb in FILES and files:
            at = pick(files, edit.at)
            before = at.stat()
            FILES[edit.verb](at, new, edit)
            if edit.keeps_times and at.exists():
                os.utime(at, ns=(before.st_atime_ns, before.st_mtime_ns))


def make_file(new: Path, edit: Edit) -> None:
    with new.open("xb") as file:
        file.write(edit.content)


def make_large(new: Path, edit: Edit) -> None:
    with new.open("xb") as file:
        file.seek(edit.at * CHUNK_BYTES // 3)
        file.write(edit.content * 1000)


def make_link(new: Path, edit: Edit) -> None:
    new.symlink_to(NAMES[edit.at % len(NAMES)])


def overwrite(at: Path, _new: Path, edit: Edit) -> None:
    """In place and of the same size."""
    size = at.stat().st_size
    with at.open("r+b") as file:
        file.seek(edit.to * 7 % (size + 1))
        file.write(edit.content[: size - file.tell()])


def append(at: Path, _new: Path, edit: Edit) -> None:
    with at.open("ab") as file:
        file.write(edit.content)


def truncate(at: Path, _new: Path, edit: Edit) -> None:
    os.truncate(at, edit.to * 1000)


def remove(at: Path, _new: Path, _edit: Edit) -> None:
    at.unlink()


def rename(at: Path, new: Path, _edit: Edit) -> None:
    """Also onto another file."""
    with suppress(OSError):  # a folder that is not empty stands there
        at.rename(new)


def hard_link(at: Path, new: Path, _edit: Edit) -> None:
    os.link(at, new)


def twin(at: Path, new: Path, _edit: Edit) -> None:
    """The same in every respect, but another file."""
    if not os.path.lexists(new):
        shutil.copy2(at, new)


def change_mode(at: Path, _new: Path, edit: Edit) -> None:
    at.chmod((0o600, 0o644, 0o4755)[edit.to % 3])


def move_folder(at: Path, new: Path) -> None:
    with suppress(OSError):  # into itself, or onto one that is not empty
        at.rename(new)


MAKING: dict[str, Callable[[Path, Edit], None]] = {
    "file": make_file,
    "large": make_large,
    "link": make_link,
    "folder": lambda new, _edit: new.mkdir(),
}
FOLDERS: dict[str, Callable[[Path, Path], None]] = {
    "move folder": move_folder,
    "remove folder": lambda at, _new: shutil.rmtree(at),
}
FILES: dict[str, Callable[[Path, Path, Edit], None]] = {
    "overwrite": overwrite,
    "append": append,
    "truncate": truncate,
    "remove": remove,
    "rename": rename,
    "hard link": hard_link,
    "twin": twin,
    "mode": change_mode,
}
EDITS = st.lists(
    st.builds(
        Edit,
        st.sampled_from([*MAKING, *FILES, *FOLDERS]),
        at=st.integers(0, 9),
        to=st.integers(0, 19),
        content=st.binary(min_size=1, max_size=300),
        keeps_times=st.booleans(),
    ),
    max_size=8,
)
ROUNDS = st.lists(st.tuples(EDITS, st.booleans()), min_size=1, max_size=4)


async def begin(directory: Path, edits: Sequence[Edit]) -> tuple[Pair, Snapshot]:
    """Two storages; the source has a live tree, made by the edits of an empty one."""
    tree = directory / "tree"
    tree.mkdir()
    for edit in edits:
        carry_out(tree, edit)
    source, target = await open_at(directory / "source"), await open_at(directory / "target")
    taken = await source.take_in(str(tree), "mirrors/first", "h-1", ignore)
    assert listing(frozen(source, taken)) == listing(tree)
    await source.clone(taken.guid, LIVE)
    live = Path(await source.mount(LIVE))
    assert listing(live) == listing(tree)
    return Pair(source, target, live), taken


@settings(max_examples=25, deadline=None)
@given(EDITS, ROUNDS)
def test_any_edits_come_over(first: list[Edit], rounds: list[tuple[list[Edit], bool]]) -> None:
    async def come_over(directory: Path) -> None:
        pair, _taken = await begin(directory, first)
        shipped: Snapshot | None = None
        for edits, is_shipped in rounds:
            for edit in edits:
                carry_out(pair.live, edit)
            found = await pair.snapshot()
            assert listing(frozen(pair.source, found)) == listing(pair.live)
            if is_shipped and found != shipped:
                await pair.apply(found, shipped)
                shipped = found
        if shipped is not None:
            await pair.target.clone(shipped.guid, COPY)
            copy = Path(await pair.target.mount(COPY))
            assert listing(copy) == listing(frozen(pair.source, shipped))

    in_a_directory(come_over)


@settings(max_examples=25, deadline=None)
@given(EDITS, st.lists(EDITS, min_size=1, max_size=5))
def test_a_snapshot_is_new_where_something_changed(
    first: list[Edit], rounds: list[list[Edit]]
) -> None:
    async def look(directory: Path) -> None:
        pair, _taken = await begin(directory, first)
        before, newest = listing(pair.live), await pair.snapshot()
        frozen_before = listing(frozen(pair.source, newest))
        await pair.source.settle(LIVE, "h-x")
        for edits in rounds:
            for edit in edits:
                carry_out(pair.live, edit)
            facts = listing(pair.live)
            assert await pair.source.written(LIVE, "h-x") == (facts != before)
            found = await pair.snapshot()
            assert (found.guid != newest.guid) == (facts != before)
            assert listing(frozen(pair.source, newest)) == frozen_before
            await pair.source.settle(LIVE, "h-x")
            before, newest, frozen_before = facts, found, facts

    in_a_directory(look)


class Cut:
    """A source whose connection breaks after some records."""

    def __init__(self, pair: Pair, records: int) -> None:
        self._source = pair.source
        self._left = records

    async def tree_root(self, guid: Guid) -> bytes:
        return await self._source.tree_root(guid)

    def tree_nodes(self, guid: Guid, paths: Sequence[bytes]) -> AsyncIterator[bytes]:
        return self._counted(self._source.tree_nodes(guid, paths))

    def tree_chunk_lists(self, guid: Guid, paths: Sequence[bytes]) -> AsyncIterator[bytes]:
        return self._counted(self._source.tree_chunk_lists(guid, paths))

    def tree_chunks(
        self, guid: Guid, wants: Sequence[tuple[bytes, int, int]]
    ) -> AsyncIterator[bytes]:
        return self._counted(self._source.tree_chunks(guid, wants))

    async def _counted(self, records: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for record in records:
            if self._left == 0:
                raise PeerUnreachable("cut")
            self._left -= 1
            yield record


@settings(max_examples=20, deadline=None)
@given(EDITS, EDITS, st.lists(st.integers(0, 12), max_size=3), st.booleans())
def test_a_cut_anywhere_is_made_good(
    first: list[Edit], edits: list[Edit], cuts: list[int], is_branch: bool
) -> None:
    async def resume(directory: Path) -> None:
        pair, _taken = await begin(directory, first)
        base = await pair.snapshot()
        await pair.apply(base)
        for edit in edits:
            carry_out(pair.live, edit)
        wanted = await pair.snapshot()
        todo, path = step(wanted, base), MIRROR
        if is_branch:
            todo, path = replace(todo, landing=Landing.BRANCH, into=None), "mirrors/branch"
        for records in cuts:
            with suppress(PeerUnreachable):
                await pair.target.apply(todo, path, Cut(pair, records), ignore)
        found = await pair.target.apply(todo, path, pair.source, ignore)
        assert found.guid == wanted.guid
        assert listing(frozen(pair.target, found)) == listing(pair.live)
        assert listing(frozen(pair.target, base)) == listing(frozen(pair.source, base))

    in_a_directory(resume)


def in_a_directory(example: Callable[[Path], Coroutine[None, None, None]]) -> None:
    """In one of its own, for a fixture's is shared by all examples; in memory where there is such
    a place, for every snapshot waits for the disk."""
    with tempfile.TemporaryDirectory(prefix="hoody-property-", dir=MEMORY) as name:
        asyncio.run(example(Path(name)))
