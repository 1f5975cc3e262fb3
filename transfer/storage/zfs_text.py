"""What the `zfs` command says, as values. Pure: text in, datasets and errors out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from transfer.command import Output
from transfer.errors import (
    CommandFailed,
    DatasetBusy,
    DatasetMissing,
    InsufficientStorage,
    KeyUnavailable,
    PermissionMissing,
    SnapshotMissing,
    SourceChanged,
    StorageError,
    StreamCorrupt,
    TransferError,
)
from transfer.model import Bookmark, Dataset, Guid, Snapshot, is_ours
from transfer.storage import zfs_settings

# User properties. They are inherited like others, but nothing has them above a generation.
PARTIAL = "hoody:partial"  # a take_in into it has not ended
BRANCH_OF = "hoody:branch-of"  # the dataset that it was promoted from; unset when it is complete
HEAD = "hoody:head"  # guid of the snapshot that the unmounted head was last known to equal
SETTLED = "hoody:settled"  # name of the snapshot that `settle` took
FLAGS = "hoody:flags"  # of the streams that it came in
WRITTEN = "written"
CLONES = "clones"
RESUME = "receive_resume_token"
ENCRYPTION = "encryption"
KEY_STATUS = "keystatus"
KEY_ROOT = "encryptionroot"
KEY_LOCATION = "hoody:keylocation"  # of the root: where this server has the key, as a URL

PROPERTIES = (
    *("guid", "createtxg", "origin", "used", "referenced", "userrefs"),
    *(PARTIAL, BRANCH_OF, HEAD, SETTLED, FLAGS),
    *zfs_settings.ANYWHERE,
)
_PATH = re.compile(r"(mirrors|images)/[^/@#]+|containers/[^/@#]+/[^/@#]+")

Rows = Mapping[str, Mapping[str, str]]


def rows(text: str) -> dict[str, dict[str, str]]:
    """The output of `zfs get -Hp -o name,property,value,source`: name -> property -> value, in
    order; without the settings that a dataset was not given itself."""
    found: dict[str, dict[str, str]] = {}
    for line in text.splitlines():
        name, key, rest = line.split("\t", 2)
        value, _, source = rest.rpartition("\t")
        row = found.setdefault(name, {})
        if zfs_settings.is_given(key, source):
            row[key] = value
    return found


def dataset_of(name: str) -> str:
    """The full name of the dataset of a snapshot or bookmark; a dataset's is its own."""
    return re.split("[@#]", name, maxsplit=1)[0]


def origins(found: Rows) -> set[str]:
    """The full names of the origins that the rows name and do not contain."""
    named = {row["origin"] for name, row in found.items() if dataset_of(name) == name}
    return named - {"-"} - found.keys()


def snapshots(found: Rows) -> dict[Guid, str]:
    """The full names of the snapshots among the rows."""
    return {row["guid"]: name for name, row in found.items() if "@" in name}


def standing(root: str, found: Rows) -> dict[str, str | None]:
    """For each dataset among the rows its origin, by full names; None where it has none under
    the root."""
    made: dict[str, str | None] = {}
    for name, row in found.items():
        if dataset_of(name) == name:
            origin = row["origin"]
            made[name] = origin if origin.startswith(root + "/") else None
    return made


def closure(names: Iterable[str], origins: Mapping[str, str | None]) -> set[str]:
    """These datasets, those of their origins, and so on."""
    reached: set[str] = set()
    for name in names:
        at: str | None = name
        while at is not None and at not in reached:
            reached.add(at)
            origin = origins.get(at)
            at = dataset_of(origin) if origin else None
    return reached


def datasets(root: str, found: Rows, origin_guids: Mapping[str, Guid]) -> list[Dataset]:
    """The datasets among the rows. `origin_guids` has the guids of `origins(found)`.

    What is under the root and is no dataset of ours (`containers`, a container's parent) is left
    out. An origin outside of the root reads as its full name, which is no snapshot's guid.
    """
    snapshots: dict[str, list[Snapshot]] = {}
    bookmarks: dict[str, list[Bookmark]] = {}
    for name, row in found.items():
        parent = dataset_of(name)
        kind, short = name[len(parent) :][:1], name[len(parent) + 1 :]
        if kind == "@":
            snapshots.setdefault(parent, []).append(_snapshot(root, parent, short, row))
        if kind == "#":
            mark = Bookmark(row["guid"], short, int(row["createtxg"]))
            bookmarks.setdefault(parent, []).append(mark)
    made: list[Dataset] = []
    for name, row in found.items():
        path = name.removeprefix(root + "/")
        if not _PATH.fullmatch(path):
            continue
        kept = sorted(snapshots.get(name, []), key=lambda snapshot: snapshot.order)
        dataset = _dataset(path, row, kept, _origin(row["origin"], found, origin_guids))
        made.append(replace(dataset, bookmarks=tuple(bookmarks.get(name, ()))))
    return made


def foreign(root: str, found: Rows) -> list[str]:
    """The paths of the filesystems and volumes among the rows that are not ours."""
    kinds = ("filesystem", "volume")
    names = [name for name, row in found.items() if row["type"] in kinds and name != root]
    paths = [name.removeprefix(root + "/") for name in names]
    return sorted(path for path in paths if not is_ours(path))


def _snapshot(root: str, parent: str, short: str, row: Mapping[str, str]) -> Snapshot:
    return Snapshot(
        guid=row["guid"],
        name=short,
        dataset=parent.removeprefix(root + "/"),
        order=int(row["createtxg"]),
        referenced_bytes=int(row["referenced"]),
        unique_bytes=int(row["used"]),
        holds=int(row["userrefs"]),
        clones=len([name for name in row[CLONES].split(",") if name]) if CLONES in row else None,
        written_bytes=int(row[WRITTEN]) if WRITTEN in row else None,
    )


def _dataset(
    path: str, row: Mapping[str, str], snapshots: Sequence[Snapshot], origin: Guid | None
) -> Dataset:
    newest = snapshots[-1].guid if snapshots else None
    resume = row.get(RESUME, "-")
    return Dataset(
        path=path,
        origin=origin,
        snapshots=tuple(snapshots),
        partial=row[PARTIAL] != "-" or (resume != "-" and not snapshots),
        referenced_bytes=int(row["referenced"]),
        used_bytes=int(row["used"]),
        head_differs=newest is None or row[HEAD] != newest,
        flags=None if row[FLAGS] == "-" else row[FLAGS],
        token=None if resume == "-" else resume,
        encrypted=row.get(ENCRYPTION, "off") != "off",
        settings=zfs_settings.of(row),
        locked=row.get(KEY_STATUS) == "unavailable",
    )


def _origin(name: str, found: Rows, origin_guids: Mapping[str, Guid]) -> Guid | None:
    if name == "-":
        return None
    return found[name]["guid"] if name in found else origin_guids.get(name, name)


# What stderr says -> what it means. The first that fits wins; wrapped lines are joined before.
_MEANINGS: tuple[tuple[str, type[TransferError]], ...] = (
    (r"[Kk]ey (not|must be) loaded|key is not loaded|Key load error", KeyUnavailable),
    (r"out of space|no space left|quota exceeded", InsufficientStorage),
    (r"invalid (backup )?stream|failed to read from stream|checksum mismatch", StreamCorrupt),
    (r"does not match incremental source|local origin for clone .* does not exist", SourceChanged),
    (r"incremental source .* does not exist|could not send .* does not exist", SourceChanged),
    (r"not an earlier snapshot|incremental source must be in same filesystem", SourceChanged),
    (r"busy|has dependent clones|is cloned|has children", DatasetBusy),
    (r"being held|more recent snapshots exist", DatasetBusy),
    (r"cannot rollback '[^']*': I/O error", DatasetBusy),
    (r"'[^']*@[^']*': (dataset|snapshot) does not exist", SnapshotMissing),
    (r"dataset does not exist|no such (pool|dataset)", DatasetMissing),
    (r"[Pp]ermission denied|[Ii]nsufficient privileges|must be (run as )?root", PermissionMissing),
    (r"Unable to open /dev/zfs", StorageError),
)


def failure(output: Output) -> TransferError:
    """The error that a failed command's words stand for, with the words as evidence."""
    said = " ".join(output.stderr.split())
    kind = next((kind for pattern, kind in _MEANINGS if re.search(pattern, said)), CommandFailed)
    message = f"{' '.join(output.argv[:2])}: {said or f'exit status {output.status}'}"
    return kind(message, argv=list(output.argv), status=output.status, stderr=said)


def passes(error: TransferError) -> bool:
    """Whether the command may succeed in a moment: zfs-fuse goes on with an unmount after it has
    returned, and calls that busy, or an I/O error where a rollback comes in between."""
    return isinstance(error, DatasetBusy) and re.search(r"busy|I/O", error.message) is not None


def estimated_bytes(text: str) -> int:
    """The size in the output of `zfs send -nvP`. Raises CommandFailed where there is none."""
    found = re.search(r"^size\t(\d+)$", text, re.MULTILINE)
    if found is None:
        raise CommandFailed("zfs send tells no size", stdout=text)
    return int(found[1])


def token_of(text: str) -> tuple[Guid | None, Guid | None, str | None]:
    """What a token goes on with, by the output of `zfs send -nvPt`: the snapshot, its base and
    its name."""
    found = dict(re.findall(r"^\s*(toguid|fromguid|toname) = (\S+)$", text, re.MULTILINE))
    to, base = (found.get(key) for key in ("toguid", "fromguid"))
    name = found["toname"].rpartition("@")[2] if "toname" in found else None
    return str(int(to, 16)) if to else None, str(int(base, 16)) if base else None, name


def only_says(output: Output, *harmless: str) -> bool:
    """Whether the command succeeded, or every line that it said has one of the harmless texts."""
    if output.status == 0:
        return True
    lines = [line for line in output.stderr.splitlines() if line.strip()]
    return bool(lines) and all(_has_any(line, harmless) for line in lines)


def _has_any(line: str, texts: Iterable[str]) -> bool:
    return any(text in line for text in texts)
