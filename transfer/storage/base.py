"""The two protocols that every backend and the peer's client implement.

`Source` is what another server may ask of this one. `Storage` is the whole of a server's own
backend. All verbs are idempotent: done twice in a row they succeed and change nothing more.
All methods may block the event loop for no longer than a system call; the work is done in
child processes or threads.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from transfer.model import (
    Capacity,
    Dataset,
    Forest,
    Guid,
    Landing,
    Look,
    Snapshot,
    Step,
    Traits,
)
from transfer.tree.source import OnBytes, TreeSource

Unless = Callable[[], Awaitable[bool]]
"""Asked in the last moment; a yes is a reason not to."""


class Source(TreeSource, Protocol):
    """Where snapshots come from: this server's storage, or another's through the peer client."""

    async def traits(self) -> Traits:
        """What it can do."""
        ...

    async def lineage(self, guids: Sequence[Guid]) -> Forest:
        """The datasets of these snapshots, those of their origins, and so on to the roots.
        Snapshots that are not here are left out."""
        ...

    async def snapshot(self, path: str, name: str, tag: str) -> Snapshot:
        """Takes the snapshot `name` of a live dataset and holds it with `tag`; what was written
        before the call is in it.

        Where nothing lies between it and the one before it (in the same dataset), the new one is
        destroyed and the one before it is held and returned: so two callers at once never lose
        each other's. Called again with the name of a snapshot that exists, returns that one.
        """
        ...

    async def unchanged(self, path: str, since: str, name: str) -> Guid | None:
        """The guid of a live dataset's snapshot named `since`, where nothing was written after it;
        None where something was, and where that cannot be told at little cost: the snapshot is
        gone, or in another dataset by now, or the backend has to read the whole tree. `name` is
        for a temporary snapshot; nothing is held and nothing stays.
        """
        ...

    async def hold(self, guids: Sequence[Guid], tag: str) -> None:
        """Keeps these snapshots from being destroyed. Raises SnapshotMissing if one is gone."""
        ...

    async def release(self, guids: Sequence[Guid], tag: str) -> None:
        """Lets go of what `hold` kept; a snapshot or hold that is gone is no error."""
        ...

    async def size(self, step: Step) -> int:
        """An estimate in bytes of what `send` of this step yields."""
        ...

    def send(self, step: Step) -> AsyncGenerator[bytes, None]:
        """The native stream of a FULL or INCREMENTAL step, in blocks of at most 1 MiB.

        The iterator ends only when the stream is complete and good; it raises SourceChanged when
        the snapshot or the base is gone. Close it (`contextlib.aclosing`) to stop early.
        """
        ...


class Storage(Source, Protocol):
    """A server's own backend."""

    async def lineage(self, guids: Sequence[Guid], paths: Sequence[str] = ()) -> Forest:
        """As `Source.lineage`, and in the same way these datasets, as far as they exist."""
        ...

    async def forest(self) -> Forest:
        """Everything under the root; slow on a large root: for start, collect and doctor."""
        ...

    async def foreign(self) -> list[str]:
        """The paths under the root that are neither datasets of ours nor folders above one:
        somebody else's, which no verb touches."""
        ...

    async def inspect(self, paths: Sequence[str]) -> Forest:
        """These datasets, as far as they exist, without their origins' datasets."""
        ...

    async def capacity(self) -> Capacity:
        """Bytes of the storage under the root."""
        ...

    async def take_in(self, tree: str, path: str, name: str, on_bytes: OnBytes) -> Snapshot:
        """Copies the directory `tree` of this machine into the new dataset `path` and freezes it
        as `name`. A half-made one from an earlier attempt is replaced.

        Raises SourcePathInvalid, InsufficientStorage.
        """
        ...

    async def unpack(self, archive: str, path: str, name: str, on_bytes: OnBytes) -> Snapshot:
        """As `take_in`, of the tree in a tar archive of this machine, which may be compressed by
        gzip, zstd or xz. Nothing stays of one that fails.

        Raises SourcePathInvalid, ArchiveInvalid, InsufficientStorage also where the archive holds
        more than there is room for.
        """
        ...

    async def receive(self, step: Step, path: str, blocks: AsyncIterator[bytes]) -> Snapshot:
        """Feeds a native stream into `path` (step.into, or a new dataset) and checks the guid.

        Nothing of an incomplete stream stays visible as a snapshot. What came before `blocks` was
        cut is kept where the storage `resumes`. For BRANCH the dataset is
        made a clone of the base first. Raises StreamCorrupt, InsufficientStorage, SourceChanged.
        """
        ...

    async def resume_point(self, step: Step, path: str) -> Step | None:
        """Where an earlier receive of this step into `path` was cut and can be gone on with: what
        is left of it, with the token; of a run, up to the end of the snapshot that was cut. What
        another step has begun there, and what cannot be gone on with, is discarded."""
        ...

    async def discard(self, path: str) -> None:
        """Lets go of what a cut receive into `path` has brought."""
        ...

    async def apply(self, step: Step, path: str, source: TreeSource, on_bytes: OnBytes) -> Snapshot:
        """Carries out a CONTENT step: compares trees with the base's and fetches what is missing.

        What an earlier attempt has fetched is verified and used again.
        Raises StreamCorrupt, VerifyMismatch, InsufficientStorage.
        """
        ...

    async def clone(
        self, guid: Guid, path: str, properties: Mapping[str, str] | None = None
    ) -> None:
        """A new writable dataset from a snapshot of this storage. `properties` are kept with it,
        from its first moment on."""
        ...

    async def mount(self, path: str) -> str:
        """Makes the dataset's live tree accessible; returns the directory's absolute path."""
        ...

    def rootfs(self, path: str) -> str:
        """Where `mount` puts it."""
        ...

    def is_mounted(self, path: str) -> bool:
        """Whether `mount` is in force."""
        ...

    async def unmount(self, path: str) -> None:
        """Undoes `mount`. Raises DatasetBusy where somebody has a file open; never by force."""
        ...

    async def settle(self, path: str, name: str) -> Dataset:
        """Brings a new generation, with its identity put in, to the disk for good, and remembers
        the state as the one that `written` compares with.

        Returns the dataset as it is then. Where the backend needs a snapshot for that, it is the
        one named `name`, and stays as long as the generation is live."""
        ...

    async def written(self, path: str, name: str) -> bool:
        """Whether the live tree has changed since `settle(path, …)`; `name` is for a temporary
        snapshot where the backend needs one."""
        ...

    async def look(self, path: str, name: str) -> Look:
        """Whether the live tree has changed since its state was last known: since the newest
        snapshot or the look after it, else since `settle`. Its state is known from now on, where
        the backend needs a snapshot for that, `name` is one, as long as that is kept."""
        ...

    async def retire(self, path: str, mirror: str) -> None:
        """Moves a generation's dataset to `mirrors/…`, unmounted and read-only from then on."""
        ...

    async def promote(self, path: str, guid: Guid) -> None:
        """Turns a clone of the snapshot `guid` and its origin round: that snapshot, and what is
        older than it in its dataset, become the clone's own, and the other dataset a clone of it.
        Who has a file of either open notices nothing.

        Only where clones pin (`Traits.clones_pin`), else CannotExpress. Raises DatasetBusy where
        it is no clone of that snapshot any more."""
        ...

    async def destroy_snapshot(self, path: str, guid: Guid, unless: Unless | None = None) -> None:
        """Destroys one snapshot. Raises DatasetBusy where it is held or has a clone.

        `unless` is asked last, when nobody holds it and before `snapshot` can hold it again, and
        a yes raises DatasetBusy too: whoever had it and let go of it has said before what for.
        """
        ...

    async def destroy_bookmark(self, path: str, guid: Guid) -> None:
        """Destroys the bookmark of a snapshot that is gone; nothing where there is none, or where
        the snapshot is here."""
        ...

    async def trim(self, path: str) -> None:
        """Rolls an unmounted dataset's head back to its newest snapshot (never past it)."""
        ...

    async def destroy(self, path: str) -> None:
        """Destroys a dataset without snapshots, or a partial or half-made one with all it has."""
        ...

    async def read_check(self) -> None:
        """Reads through the storage, as readyz needs it; raises StorageError."""
        ...


__all__ = [
    "Capacity",
    "Dataset",
    "Forest",
    "Landing",
    "Look",
    "OnBytes",
    "Source",
    "Storage",
    "TreeSource",
    "Unless",
]
