"""Why a dataset is busy. `zfs` says one and the same of several things; what is mounted, held and
kept, and what runs, tells them apart. Pure: facts in, reasons out."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum

from transfer.command import Output
from transfer.errors import DatasetBusy, TransferError
from transfer.storage import zfs_text
from transfer.storage.zfs_proc import Stream

HOLDS = "userrefs"
REASONS_MAX = 5  # that are told; a dataset may have thousands of snapshots, all of them held
_CLONED = re.compile(r"dependent clones|is cloned")
_HELD = re.compile(r"being held")


class Cause(StrEnum):
    """What keeps a dataset busy; a part of the evidence of DatasetBusy."""

    RECEIVE = "receive"  # one into it runs, or was cut and can be gone on with
    SEND = "send"
    MOUNT = "mount"
    HOLD = "hold"
    CLONE = "clone"


@dataclass(frozen=True, slots=True)
class Facts:
    """`rows` are those of the datasets that the command named and of their snapshots, `mounts`
    (dataset's full name, directory)."""

    rows: zfs_text.Rows
    mounts: Collection[tuple[str, str]]
    streams: Collection[Stream]


def may_be_told_apart(error: TransferError) -> bool:
    """Whether facts can say more than these words of `zfs` do. Not where it has children: that is
    clear, and usual where a folder is tidied away."""
    if not isinstance(error, DatasetBusy):
        return False
    words = error.message
    return zfs_text.passes(error) or any(known.search(words) for known in (_CLONED, _HELD))


def explained(output: Output, facts: Facts) -> DatasetBusy:
    """The error of a failed command, with the causes among its evidence and in its message."""
    error = zfs_text.failure(output)
    found = list(dict.fromkeys(_reasons(output, facts)))
    causes = list(dict.fromkeys(cause for cause, _ in found))
    told = [text for _, text in found[:REASONS_MAX]]
    message = f"{error.message} ({'; '.join(told)})" if told else error.message
    return DatasetBusy(message, **error.evidence, causes=causes, reasons=told)


def _reasons(output: Output, facts: Facts) -> Iterator[tuple[Cause, str]]:
    verb = output.argv[1]
    for name in output.argv[2:]:
        dataset = zfs_text.dataset_of(name)
        if dataset not in facts.rows:
            continue
        if verb != "unmount":
            yield from _of_streams(dataset, facts)
        if dataset == name or verb == "rollback":
            yield from _of_mounts(dataset, facts)
        if verb == "destroy":
            yield from _of_holds(name, facts)
    if _CLONED.search(output.stderr):
        yield Cause.CLONE, "a clone stands on it"


def _of_streams(dataset: str, facts: Facts) -> Iterator[tuple[Cause, str]]:
    for stream in facts.streams:
        if _is_in(stream.name, dataset):
            cause = Cause.RECEIVE if stream.receives else Cause.SEND
            yield cause, f"process {stream.pid} runs zfs {cause} of {stream.name}"
    if facts.rows[dataset].get(zfs_text.RESUME, "-") != "-":
        yield Cause.RECEIVE, f"a receive into {dataset} was cut and can be gone on with"


def _of_mounts(dataset: str, facts: Facts) -> Iterator[tuple[Cause, str]]:
    for source, directory in sorted(facts.mounts):
        if _is_in(source, dataset):
            yield Cause.MOUNT, f"{source} is mounted at {directory}"


def _of_holds(name: str, facts: Facts) -> Iterator[tuple[Cause, str]]:
    for other, row in facts.rows.items():
        # Of a dataset all its snapshots matter, of a snapshot itself alone.
        holds = row.get(HOLDS, "-") if other == name or other.startswith(f"{name}@") else "-"
        if holds not in ("-", "0"):
            yield Cause.HOLD, f"{other} is held {holds} times"


def _is_in(name: str, dataset: str) -> bool:
    """Whether a dataset, or the dataset of a snapshot, is `dataset` or below it."""
    return f"{zfs_text.dataset_of(name)}/".startswith(f"{dataset}/")
