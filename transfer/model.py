"""Frozen values that the data path passes around.

A *dataset path* is relative to the storage's root and has one of three forms:
`containers/<container_id>/<generation_id>`, `mirrors/<mirror_id>`, `images/<image_id>`.
A *guid* is a snapshot's 64-bit identity as decimal text; it survives send and receive.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

Guid = str
Settings = tuple[tuple[str, str], ...]

RAW = "w"
"""The flag of native streams that carry encrypted blocks as they are."""

_ID = "[0-9a-f]{24}"
_OURS = re.compile(rf"containers(/{_ID}(/{_ID})?)?|(mirrors|images)(/{_ID})?")


def is_ours(path: str) -> bool:
    """Whether it is the path of a dataset of ours, or of a folder above one."""
    return _OURS.fullmatch(path) is not None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An immutable point in time of a dataset.

    `name` is `h-<24 hex>`, unique for ever. `order` grows inside one dataset (on zfs the creation
    transaction); it says nothing across datasets. `holds` counts the storage's own holds.
    `referenced_bytes` is what the state takes, `unique_bytes` what destroying it would free.
    `clones` counts the datasets that were made from it, None where the storage does not say.
    `written_bytes` is what came since the snapshot before it; None where the storage does not say.
    `inconsistent_files` counts those that were written to all the while they were read; 0 where
    snapshots are atomic.
    """

    guid: Guid
    name: str
    dataset: str
    order: int
    referenced_bytes: int = 0
    unique_bytes: int = 0
    holds: int = 0
    clones: int | None = None
    written_bytes: int | None = None
    inconsistent_files: int = 0


@dataclass(frozen=True, slots=True)
class Bookmark:
    """What is left of a snapshot that an increment can still go from, on the sending side alone.
    `guid`, `name` and `order` are the snapshot's."""

    guid: Guid
    name: str
    order: int


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at a live tree found: whether it had `changed`, and the snapshot by which its
    state is known from now on, where the backend needs one for that."""

    changed: bool
    snapshot: Guid | None = None


@dataclass(frozen=True, slots=True)
class Dataset:
    """One filesystem of a storage: its snapshots oldest first, and the snapshot it is a clone of.

    `partial` says that a receive or an apply into it has not ended. `referenced_bytes` is what
    its head takes, `used_bytes` what destroying it with its snapshots would free. `head_differs`
    is False only where the storage knows that the head holds nothing beyond the newest snapshot.
    `flags` are those of the native streams that it came in; None where it came in none. `token`
    is that of a receive into it that was cut and can be gone on with. `encrypted`: its blocks are;
    `locked`: without a key that is not loaded it cannot be mounted. `settings` are the backend's
    properties that it was given and that go with it wherever it goes.
    """

    path: str
    origin: Guid | None = None
    snapshots: tuple[Snapshot, ...] = ()
    partial: bool = False
    referenced_bytes: int = 0
    used_bytes: int = 0
    head_differs: bool = True
    flags: str | None = None
    token: str | None = None
    encrypted: bool = False
    locked: bool = False
    settings: Settings = ()
    bookmarks: tuple[Bookmark, ...] = ()

    @property
    def remains(self) -> tuple[Bookmark, ...]:
        """The bookmarks of snapshots that are gone."""
        guids = {snapshot.guid for snapshot in self.snapshots}
        return tuple(mark for mark in self.bookmarks if mark.guid not in guids)

    @property
    def points(self) -> tuple[Snapshot | Bookmark, ...]:
        """What an increment can go from, oldest first: its snapshots, and what others left."""
        return tuple(sorted([*self.snapshots, *self.remains], key=lambda point: point.order))

    @property
    def head(self) -> Snapshot | None:
        """The newest snapshot."""
        return self.snapshots[-1] if self.snapshots else None

    @property
    def is_mirror(self) -> bool:
        """Whether only receive and trim may touch it."""
        return self.path.startswith("mirrors/")

    @property
    def is_image(self) -> bool:
        """Whether much that is not there yet will stand on it."""
        return self.path.startswith("images/")


@dataclass(frozen=True)
class Forest:
    """Datasets joined by their origins."""

    datasets: Mapping[str, Dataset] = field(default_factory=dict)

    @classmethod
    def of(cls, datasets: Iterable[Dataset]) -> Forest:
        """A forest of these datasets, keyed by path."""
        return cls({dataset.path: dataset for dataset in datasets})

    def __iter__(self) -> Iterator[Dataset]:
        return iter(self.datasets.values())

    def snapshots(self) -> Iterator[Snapshot]:
        """Every snapshot of every dataset."""
        for dataset in self.datasets.values():
            yield from dataset.snapshots

    def find(self, guid: Guid) -> Snapshot | None:
        """The snapshot with this guid; partial datasets do not count."""
        return self._by_guid.get(guid)

    @cached_property
    def _by_guid(self) -> dict[Guid, Snapshot]:
        whole = (dataset for dataset in self.datasets.values() if not dataset.partial)
        return {snapshot.guid: snapshot for dataset in whole for snapshot in dataset.snapshots}

    def lineage(self, guid: Guid) -> list[Snapshot]:
        """The snapshot, then those before it in its dataset, then those of its origin's dataset
        up to the origin, and so on to the root: newest first. Empty where it is not here."""
        found: list[Snapshot] = []
        seen: set[str] = set()
        at: Guid | None = guid
        while at is not None:
            snapshot = self.find(at)
            if snapshot is None or snapshot.dataset in seen:
                break
            seen.add(snapshot.dataset)
            dataset = self.datasets[snapshot.dataset]
            upto = [other for other in dataset.snapshots if other.order <= snapshot.order]
            found += reversed(upto)
            at = dataset.origin
        return found


@dataclass(frozen=True, slots=True)
class Traits:
    """What a storage can do, found out once when it is opened, never assumed from a version.

    `kind` names the backend; two storages replicate natively only where it is the same.
    `native` says that increments come as the backend's own streams, else by content diff.
    `reflink`, `xattrs`: whether the filesystem has them. `mtime_ns`: granularity of times.
    `seek_hole`: whether SEEK_HOLE finds the holes of sparse files. `clones_pin`: whether a clone
    keeps the snapshot that it was made from from being destroyed. `sends` and `takes` are the
    flags of native streams that it can make, and can receive. `resumes`: it can go on with a
    stream that was cut. `branches`: a native increment may come from any ancestor, and become a
    clone of any base. `unlocks`: it has a key for encrypted datasets that come from elsewhere.
    `bookmarks`: a snapshot leaves one behind when it is destroyed. `runs`: one stream may carry
    several snapshots.
    """

    kind: str
    native: bool
    reflink: bool = False
    xattrs: bool = False
    mtime_ns: int = 1
    seek_hole: bool = False
    clones_pin: bool = False
    sends: str = ""
    takes: str = ""
    resumes: bool = False
    branches: bool = False
    unlocks: bool = False
    bookmarks: bool = False
    runs: bool = False


class StepKind(StrEnum):
    """How one step moves what is missing."""

    FULL = "full"
    INCREMENTAL = "incremental"
    CONTENT = "content-diff"


class Landing(StrEnum):
    """Where a step's snapshot lands on this server."""

    NEW = "new"  # a mirror of its own: a root, or a clone of the base
    EXTEND = "extend"  # on top of the mirror whose head is the base
    BRANCH = "branch"  # a mirror that leaves another dataset at the base, behind its head


class Strategy(StrEnum):
    """How a step moves what is missing."""

    FULL = "full"
    INCREMENTAL = "incremental"
    CONTENT_DIFF = "content-diff"


@dataclass(frozen=True, slots=True)
class Step:
    """One send: `snapshot`, of the source's dataset `source`, comes to exist on this server, and
    with it the `run` of all snapshots between it and its base, oldest first.

    `base` is on both servers already (None for a full send). `into` is the mirror to extend, and
    None where a new one is to be made. `size_bytes` is an estimate for progress. `flags` are those
    of its native stream; with a `token` only what is missing of that is sent. `settings` are those
    of the source's dataset.
    """

    kind: StepKind
    source: str
    snapshot: Guid
    name: str
    base: Guid | None
    landing: Landing
    into: str | None = None
    size_bytes: int = 0
    flags: str = ""
    token: str | None = None
    settings: Settings = ()
    run: tuple[Guid, ...] = ()

    @property
    def makes(self) -> tuple[Guid, ...]:
        """All snapshots that come with it, oldest first."""
        return (*self.run, self.snapshot)

    @property
    def strategy(self) -> Strategy:
        """Whole where there is no base, whatever way it comes."""
        if self.base is None:
            return Strategy.FULL
        content = self.kind is StepKind.CONTENT
        return Strategy.CONTENT_DIFF if content else Strategy.INCREMENTAL


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps, in order, that make the wanted snapshots exist here; none where all are."""

    steps: tuple[Step, ...] = ()

    @property
    def size_bytes(self) -> int:
        """The sum of the steps' estimates."""
        return sum(step.size_bytes for step in self.steps)

    @property
    def guids(self) -> frozenset[Guid]:
        """Every snapshot that the plan reads on the source."""
        read = {guid for step in self.steps for guid in step.makes}
        return frozenset(read | {step.base for step in self.steps if step.base})


@dataclass(frozen=True, slots=True)
class Capacity:
    """Bytes of a storage."""

    total_bytes: int
    used_bytes: int
    available_bytes: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """What one step cost: `logical_bytes` before compression, `snapshot` as it exists here."""

    step: Step
    snapshot: Snapshot
    logical_bytes: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a transfer is. Bytes are logical, `wire_bytes` those of the peer's channels."""

    done_bytes: int = 0
    total_bytes: int = 0
    wire_bytes: int = 0
