"""Where things lie under a dir storage's root, and what its small files say.

    <root>/containers/<container>/<generation>/     or mirrors/<mirror>/, images/<image>/
        dataset.json      origin, properties
        live/             the writable tree, of a generation that is not retired
        index             what `live` had in common with a snapshot (transfer/tree/index.py)
        settled.manifest  settled.index
                          the state that `written` compares with
        holds/<snapshot>@<tag>
        snapshots/<name>/ tree/ (immutable), manifest, snapshot.json

Names that begin with a dot are being made or removed, and do not count: everything comes into
being, and goes, by one rename. Nothing but the live trees is accessible to others.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import quote

from transfer.errors import DatasetMissing, SnapshotMissing, StorageError
from transfer.model import Dataset, Forest, Guid, Snapshot, is_ours
from transfer.tree.descriptor import replace_file
from transfer.tree.manifest import Manifest, load

_DATASET = re.compile(r"(containers/[\w-][\w.-]*|mirrors|images)/[\w-][\w.-]*", re.ASCII)
_SNAPSHOT = re.compile(r"[\w-][\w.-]*", re.ASCII)

_FOLDERS = ("containers", "mirrors", "images")
_OF_THE_FILESYSTEM = "lost+found"  # where the root is a mount

BUILDING = ".tmp-"
GOING = ".gone-"
PRIVATE = 0o700
PASSABLE = 0o711  # so that a container's own users reach its live tree


@dataclass(frozen=True, slots=True)
class SnapshotRecord:
    """What snapshot.json says. `root` is the manifest's root digest as hex."""

    guid: Guid
    order: int
    root: str
    referenced_bytes: int
    unique_bytes: int
    inconsistent_files: int = 0
    dropped: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DatasetRecord:
    """What dataset.json says. `live_bytes` were copied to make the live tree."""

    origin: Guid | None = None
    live_bytes: int = 0
    properties: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Located:
    """A snapshot that is here."""

    path: str
    name: str
    directory: str
    record: SnapshotRecord

    @property
    def tree(self) -> str:
        """Its immutable tree."""
        return os.path.join(self.directory, "tree")

    def manifest(self) -> Manifest:
        """Its manifest. Raises StorageError."""
        with open(os.path.join(self.directory, "manifest"), "rb") as file:
            return load(file.read())


class Layout:
    """The paths under one root, and reading what is there. All methods block."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._places: dict[Guid, tuple[str, str]] = {}

    def dataset(self, path: str) -> str:
        """The directory of a dataset, whether it exists or not."""
        if not _DATASET.fullmatch(path):
            raise StorageError(f"{path!r} is no dataset path", path=path)
        return os.path.join(self.root, path)

    def existing(self, path: str) -> str:
        """The directory of a dataset. Raises DatasetMissing."""
        directory = self.dataset(path)
        if not os.path.isdir(directory):
            raise DatasetMissing(f"no dataset {path}", path=path)
        return directory

    def snapshot(self, path: str, name: str) -> str:
        """The directory of a snapshot, whether it exists or not."""
        if not _SNAPSHOT.fullmatch(name):
            raise StorageError(f"{name!r} is no snapshot name", name=name)
        return os.path.join(self.dataset(path), "snapshots", name)

    def building(self, path: str, name: str) -> str:
        """Where that snapshot is built."""
        finished = self.snapshot(path, name)
        return os.path.join(os.path.dirname(finished), f"{BUILDING}{name}")

    def hold(self, path: str, name: str, tag: str) -> str:
        """The file that is a hold."""
        return os.path.join(self.dataset(path), "holds", f"{name}@{quote(tag, safe='')}")

    def make_dataset(self, path: str, record: DatasetRecord) -> str:
        """The directory of a dataset, made where it is not there yet."""
        directory = self.dataset(path)
        os.makedirs(os.path.dirname(directory), mode=PASSABLE, exist_ok=True)
        os.makedirs(directory, mode=PASSABLE, exist_ok=True)
        for name in ("snapshots", "holds"):
            os.makedirs(os.path.join(directory, name), mode=PRIVATE, exist_ok=True)
        if not os.path.exists(os.path.join(directory, "dataset.json")):
            write_record(os.path.join(directory, "dataset.json"), record)
        return directory

    def paths(self) -> Iterator[str]:
        """Every dataset; what has another kind of name is somebody else's."""
        folders = [f"containers/{name}" for name in _names(os.path.join(self.root, "containers"))]
        for folder in (*folders, "mirrors", "images"):
            for name in _names(os.path.join(self.root, folder)):
                if _DATASET.fullmatch(path := f"{folder}/{name}"):
                    yield path

    def foreign(self) -> list[str]:
        """The paths under the root that are neither datasets nor folders above one."""
        folders, found = [""], []
        while folders:
            folder = folders.pop()
            for name in _names(os.path.join(self.root, folder)):
                path = os.path.join(folder, name)
                directory = os.path.join(self.root, path)
                if path == _OF_THE_FILESYSTEM:
                    continue
                if not is_ours(path) or not os.path.isdir(directory):
                    found.append(path)
                elif path in _FOLDERS or folder == "containers":
                    folders.append(path)
        return sorted(found)

    def read(self, path: str) -> Dataset | None:
        """The dataset; None where there is none."""
        directory = self.dataset(path)
        if not os.path.isdir(directory):
            return None
        record = self.dataset_record(path)
        holds = [name.partition("@")[0] for name in _names(os.path.join(directory, "holds"))]
        snapshots: list[Snapshot] = []
        for name in _names(os.path.join(directory, "snapshots")):
            found = self.located(path, name)
            if found is not None:
                snapshots.append(as_snapshot(found, holds.count(name)))
        snapshots.sort(key=lambda snapshot: snapshot.order)
        has_live = os.path.isdir(os.path.join(directory, "live"))
        used_bytes = sum(snapshot.unique_bytes for snapshot in snapshots)
        return Dataset(
            path=path,
            origin=record.origin,
            snapshots=tuple(snapshots),
            partial=not snapshots and not has_live,
            referenced_bytes=snapshots[-1].referenced_bytes if snapshots else record.live_bytes,
            used_bytes=used_bytes + (record.live_bytes if has_live else 0),
            head_differs=has_live,
        )

    def forest(self) -> Forest:
        """Everything under the root."""
        return Forest.of(dataset for path in self.paths() if (dataset := self.read(path)))

    def lineage(self, guids: Iterable[Guid], paths: Iterable[str] = ()) -> Forest:
        """These datasets and those of these snapshots, those of their origins, and so on, as far
        as they are here: an origin may be gone."""
        found: dict[str, Dataset] = {}
        todo, at = set(guids), set(paths)
        while todo or at:
            at |= {snapshot.path for snapshot in self._find_some(todo)}
            new = {path: dataset for path in at - found.keys() if (dataset := self.read(path))}
            found |= new
            todo = {dataset.origin for dataset in new.values() if dataset.origin is not None}
            at = set()
        return Forest(found)

    def dataset_record(self, path: str) -> DatasetRecord:
        """What dataset.json says; the defaults where it is not written yet."""
        content = _read_json(os.path.join(self.dataset(path), "dataset.json"))
        return DatasetRecord() if content is None else DatasetRecord(**content)

    def located(self, path: str, name: str) -> Located | None:
        """The snapshot of this name; None where there is none."""
        directory = self.snapshot(path, name)
        content = _read_json(os.path.join(directory, "snapshot.json"))
        if content is None:
            return None
        return Located(path, name, directory, SnapshotRecord(**content))

    def find(self, guid: Guid) -> Located | None:
        """The snapshot with this guid; None where there is none."""
        return next(iter(self._find_some({guid})), None)

    def require(self, guid: Guid) -> Located:
        """The snapshot with this guid. Raises SnapshotMissing."""
        found = self.find(guid)
        if found is None:
            raise SnapshotMissing(f"no snapshot with guid {guid}", guid=guid)
        return found

    def head(self, path: str) -> Located | None:
        """The newest snapshot of a dataset."""
        dataset = self.read(path)
        head = None if dataset is None else dataset.head
        return None if head is None else self.located(path, head.name)

    def holds(self, path: str, name: str) -> list[str]:
        """The files that hold a snapshot."""
        directory = os.path.join(self.dataset(path), "holds")
        return [held for held in _names(directory) if held.partition("@")[0] == name]

    def _find_some(self, guids: set[Guid]) -> list[Located]:
        """Those of these snapshots that are here: where they were seen last, else anywhere."""
        found = self._at_their_places(guids)
        if len(found) < len(guids):
            self._places = {
                snapshot.guid: (snapshot.dataset, snapshot.name)
                for snapshot in self.forest().snapshots()
            }
            found = self._at_their_places(guids)
        return found

    def _at_their_places(self, guids: set[Guid]) -> list[Located]:
        places = [self._places[guid] for guid in guids if guid in self._places]
        found = [self.located(*place) for place in places]
        return [one for one in found if one is not None and one.record.guid in guids]


def as_snapshot(found: Located, holds: int) -> Snapshot:
    """The snapshot as the rest of the program knows it."""
    record = found.record
    return Snapshot(
        guid=record.guid,
        name=found.name,
        dataset=found.path,
        order=record.order,
        referenced_bytes=record.referenced_bytes,
        unique_bytes=record.unique_bytes,
        holds=holds,
        inconsistent_files=record.inconsistent_files,
    )


def write_record(path: str, record: SnapshotRecord | DatasetRecord) -> None:
    """Replaces a record as JSON, at once and for good."""
    replace_file(path, json.dumps(asdict(record), indent=1).encode(), durable=True)


def _names(directory: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(directory) if not name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _read_json(path: str) -> dict[str, Any] | None:
    try:
        with open(path, "rb") as file:
            content = json.load(file)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise StorageError(f"{path} is damaged", path=path) from error
    if not isinstance(content, dict):
        raise StorageError(f"{path} is damaged", path=path)
    return content
