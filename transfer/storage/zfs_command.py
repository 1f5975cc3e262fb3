"""The `zfs` command under one root dataset: names, questions, and deeds that are tried again
while the dataset is busy. It knows nothing of generations and mirrors."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from transfer import command
from transfer.errors import DatasetMissing, SnapshotMissing, TransferError
from transfer.model import Dataset, Forest, Guid, Snapshot
from transfer.storage import zfs_busy, zfs_proc, zfs_text, zfs_turns

ASK_SECONDS = 60.0
DEED_SECONDS = 300.0
# After an unmount or a killed receive zfs-fuse still works on the dataset for some 50 ms.
BUSY_TRIES = 8
BUSY_FIRST_SECONDS = 0.02
NAMES_PER_COMMAND = 200
REMEMBERED_MAX = 100_000
LOOKS_MAX = 3


class Zfs:
    """Runs `zfs` under `root`; a *path* is relative to it, a *name* is the full one."""

    def __init__(self, root: str, more_properties: Sequence[str] = ()) -> None:
        """`more_properties` are those that not every `zfs` has."""
        self.root = root
        self.asked = (*zfs_text.PROPERTIES, *more_properties)
        # Where a snapshot, and on which one a dataset, was seen last; never trusted.
        self._names: dict[Guid, str] = {}
        self._origins: dict[str, str | None] = {}

    def name(self, path: str) -> str:
        """The full name of a dataset."""
        return f"{self.root}/{path}"

    def path(self, name: str) -> str:
        """The path of a dataset or of a snapshot's dataset."""
        return zfs_text.dataset_of(name).removeprefix(self.root + "/")

    def snapshot_name(self, snapshot: Snapshot) -> str:
        """The full name of a snapshot."""
        return f"{self.name(snapshot.dataset)}@{snapshot.name}"

    async def ask(self, *arguments: str) -> command.Output:
        """One `zfs` command, whatever its exit status. Raises DatasetBusy where it does not get
        its turn."""
        return await _done(["zfs", *arguments], ASK_SECONDS)

    async def do(self, *arguments: str, harmless: Sequence[str] = ()) -> None:
        """One `zfs` command that must succeed, or say nothing but what is harmless.

        Tried again, a bounded number of times, while the dataset is busy. Raises what
        `zfs_text.failure` makes of its words, DatasetBusy with its causes.
        """
        pause_seconds = BUSY_FIRST_SECONDS
        for attempt in range(1, BUSY_TRIES + 1):
            output = await _done(["zfs", *arguments], DEED_SECONDS)
            if zfs_text.only_says(output, *harmless):
                return
            error = zfs_text.failure(output)
            if not zfs_text.passes(error) or attempt == BUSY_TRIES:
                raise await self.told_apart(output)
            await asyncio.sleep(pause_seconds)
            pause_seconds *= 1.5

    async def told_apart(self, output: command.Output) -> TransferError:
        """The error of a failed deed; with what keeps its dataset busy, as far as it can be seen
        now."""
        error = zfs_text.failure(output)
        if not zfs_busy.may_be_told_apart(error):
            return error
        keys = [key for key in self.asked if key in (zfs_busy.HOLDS, zfs_text.RESUME)]
        with contextlib.suppress(TransferError):  # the deed's own words matter more
            ours = [word for word in output.argv if word.startswith(f"{self.root}/")]
            names = [zfs_text.dataset_of(word) for word in ours]
            rows = await self.properties(names, keys, "-r", "-d", "1")
            running = await asyncio.to_thread(zfs_proc.streams)
            facts = zfs_busy.Facts(rows, zfs_proc.mounted(), running)
            return zfs_busy.explained(output, facts)
        return error

    async def properties(
        self, names: Iterable[str], keys: Sequence[str], *options: str
    ) -> dict[str, dict[str, str]]:
        """These properties of these names, as far as they exist."""
        found: dict[str, dict[str, str]] = {}
        for some in _portions(list(dict.fromkeys(names)), NAMES_PER_COMMAND):
            columns = "name,property,value,source"
            argv = ["zfs", "get", "-Hp", *options, "-o", columns, ",".join(keys)]
            output = await command.run([*argv, *some], deadline_seconds=ASK_SECONDS, outlives=True)
            if not zfs_text.only_says(output, "does not exist"):
                raise zfs_text.failure(output)
            found |= zfs_text.rows(output.stdout)
        return found

    async def datasets(self, paths: Sequence[str]) -> Forest:
        """These datasets with their snapshots, as far as they exist."""
        return await self._forest(await self._whole(self.name(path) for path in paths))

    async def everything(self) -> Forest:
        """All datasets under the root."""
        return await self._forest(await self.properties([self.root], self.asked, "-r"))

    async def lineage(self, guids: Sequence[Guid], paths: Sequence[str] = ()) -> Forest:
        """These datasets and those of these snapshots, those of their origins, and so on, as far
        as they are under the root. What is not here is left out."""
        given = {self.name(path) for path in paths}
        tops = given | {zfs_text.dataset_of(name) for name in self.seen(guids).values()}
        rows: zfs_text.Rows = {}
        for _ in range(LOOKS_MAX):
            rows = await self._standing_on(tops)
            here = zfs_text.snapshots(rows)
            tops = given | {zfs_text.dataset_of(here[guid]) for guid in guids if guid in here}
            rows = self._below(tops, rows)
            # What was promoted or renamed since it was seen, or between two questions.
            moved = await self.locate_some([guid for guid in guids if guid not in here])
            if not moved and not self._strangers(rows):
                break
            tops |= {zfs_text.dataset_of(name) for name in moved.values()}
        return await self._forest(rows)

    async def _standing_on(self, names: set[str]) -> zfs_text.Rows:
        """The rows of these datasets and of all below them, as they are, and were when they were
        seen last: what was below them then is asked for along with them, so that a lineage costs
        one command, however long."""
        rows: dict[str, dict[str, str]] = {}
        asked: set[str] = set()
        while todo := zfs_text.closure(names, self._origins) - asked:
            rows |= await self._whole(sorted(todo))
            asked |= todo
        return rows

    def _below(self, names: set[str], rows: zfs_text.Rows) -> zfs_text.Rows:
        below = zfs_text.closure(names, self._origins)
        return {name: row for name, row in rows.items() if zfs_text.dataset_of(name) in below}

    async def _whole(self, names: Iterable[str]) -> dict[str, dict[str, str]]:
        """The rows of these datasets and of their snapshots; and of the snapshots that they were
        seen standing on, for it is by their guids that a dataset's origin is known."""
        todo = list(names)
        origins = [origin for name in todo if (origin := self._origins.get(name))]
        # -d 1 also shows a dataset's children; ours have none.
        rows = await self.properties([*todo, *origins], self.asked, "-r", "-d", "1")
        self._origins |= dict.fromkeys(todo) | zfs_text.standing(self.root, rows)
        return rows

    async def find(self, path: str) -> Dataset | None:
        """One dataset with its snapshots, None where it is not here."""
        return (await self.datasets([path])).datasets.get(path)

    async def get(self, path: str) -> Dataset:
        """One dataset with its snapshots. Raises DatasetMissing."""
        dataset = await self.find(path)
        if dataset is None:
            raise DatasetMissing(f"no dataset {path}", dataset=path)
        return dataset

    async def locate(self, guids: Sequence[Guid]) -> dict[Guid, str]:
        """The full names of these snapshots. Raises SnapshotMissing where one is not here."""
        here = await self.locate_some(guids)
        missing = [guid for guid in guids if guid not in here]
        if missing:
            raise SnapshotMissing("snapshots are gone", guids=missing)
        return here

    async def locate_some(self, guids: Sequence[Guid]) -> dict[Guid, str]:
        """The full names of those of these snapshots that are here.

        The names are those of now: a dataset may have been renamed or promoted since it was seen,
        so a remembered name is asked for its guid, and only what is left costs a look at all.
        """
        found = await self.properties(self.seen(guids).values(), ["guid"])
        here = zfs_text.snapshots(found)
        if not here.keys() >= set(guids):
            forest = await self.everything()
            here = {one.guid: self.snapshot_name(one) for one in forest.snapshots()}
        return {guid: here[guid] for guid in guids if guid in here}

    def seen(self, guids: Iterable[Guid]) -> dict[Guid, str]:
        """The full names of those of these snapshots that this process has seen, as they were
        then: for who is told where a name is stale, or asks for the guid."""
        return {guid: self._names[guid] for guid in guids if guid in self._names}

    def comes_to_stand(self, path: str, origin: str) -> None:
        """A dataset is about to be made a clone of the snapshot of this full name."""
        self._origins[self.name(path)] = origin

    async def bookmark(self, guid: Guid) -> str:
        """The full name of the bookmark of a snapshot that is gone. Raises SnapshotMissing."""
        for dataset in await self.everything():
            for mark in dataset.bookmarks:
                if mark.guid == guid:
                    return f"{self.name(dataset.path)}#{mark.name}"
        raise SnapshotMissing("the base is gone", guids=[guid])

    async def _forest(self, rows: zfs_text.Rows) -> Forest:
        guids: dict[str, Guid] = {}
        if strangers := self._strangers(rows):
            asked = await self.properties(sorted(strangers), ["guid"])
            guids = {name: row["guid"] for name, row in asked.items()}
        forest = Forest.of(zfs_text.datasets(self.root, rows, guids))
        self._remember(forest.snapshots())
        return forest

    def _strangers(self, rows: zfs_text.Rows) -> set[str]:
        """The origins that the rows name and do not contain. One outside of the root does not
        count: it is no snapshot of this storage."""
        return {name for name in zfs_text.origins(rows) if name.startswith(self.root + "/")}

    def _remember(self, snapshots: Iterator[Snapshot]) -> None:
        if len(self._names) > REMEMBERED_MAX:
            self._names.clear()
            self._origins.clear()
        for snapshot in snapshots:
            self._names[snapshot.guid] = self.snapshot_name(snapshot)


async def _done(argv: Sequence[str], deadline_seconds: float) -> command.Output:
    """What became of a command, in its turn."""
    output = await command.run(zfs_turns.in_turn(argv), deadline_seconds=deadline_seconds)
    output = replace(output, argv=tuple(argv))
    zfs_turns.check(output)
    return output


def _portions(names: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(names), size):
        yield names[start : start + size]
