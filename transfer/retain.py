"""What collect does to a storage, in order. Pure: a forest and what is needed in, deeds out.

Kept is what a live dataset or the catalogue names, what is held, what no row accounts for, and,
to a fixpoint, the origin of every dataset that is kept. All else goes, leaf first, so that a
clone never outlives its origin. What is not live but keeps a snapshot is trimmed: its head pins
blocks that nothing needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from transfer.model import Dataset, Forest, Guid


@dataclass(frozen=True)
class Needs:
    """What must stay.

    `live`: datasets whose heads are in use (live generations) or in the making; their unneeded
    snapshots may go, they themselves never. `closed`: datasets that must not be touched at all
    for now, because a job writes to them. `guids`: snapshots that the catalogue names.
    `untrimmed`: datasets that are not live whose head may differ from their newest snapshot.
    `known`: only what a row accounts for is ever destroyed.
    """

    live: frozenset[str]
    closed: frozenset[str]
    guids: frozenset[Guid]
    untrimmed: frozenset[str]
    known: frozenset[str]


class DeedKind(StrEnum):
    """The three things that collect can do."""

    DESTROY_SNAPSHOT = "destroy_snapshot"
    TRIM = "trim"
    DESTROY = "destroy"


@dataclass(frozen=True, slots=True)
class Deed:
    """One thing to do; `guid` is a snapshot's, and None for a whole dataset."""

    kind: DeedKind
    path: str
    guid: Guid | None = None

    @property
    def thing(self) -> str:
        """The name under which the grace time of what goes is kept."""
        return f"{self.path}@{self.guid}" if self.guid else self.path


def kept(forest: Forest, needs: Needs) -> tuple[frozenset[str], frozenset[Guid]]:
    """The datasets and the snapshots that stay: a fixpoint over origins."""
    # What nobody knows is a clone of something too, and is not ours to take its origin from.
    datasets = {
        path
        for path in forest.datasets
        if path in needs.live | needs.closed or path not in needs.known
    }
    guids = set(needs.guids)
    guids |= {snapshot.guid for snapshot in forest.snapshots() if snapshot.holds}
    for path in needs.closed & forest.datasets.keys():
        guids |= {snapshot.guid for snapshot in forest.datasets[path].snapshots}
    grown = True
    while grown:
        datasets |= {s.dataset for s in forest.snapshots() if s.guid in guids}
        origins = {
            origin for path in datasets if (origin := forest.datasets[path].origin) is not None
        }
        grown = not origins <= guids
        guids |= origins
    return frozenset(datasets), frozenset(guids)


def deeds(forest: Forest, needs: Needs) -> list[Deed]:
    """What to do, in an order in which each deed is possible once those before it are done."""
    datasets, guids = kept(forest, needs)
    found: list[Deed] = []
    for dataset in _leaves_first(forest):
        if dataset.path not in needs.known or dataset.path in needs.closed:
            continue
        found += [
            Deed(DeedKind.DESTROY_SNAPSHOT, dataset.path, snapshot.guid)
            for snapshot in reversed(dataset.snapshots)
            if snapshot.guid not in guids
        ]
        if dataset.path not in datasets:
            found.append(Deed(DeedKind.DESTROY, dataset.path))
        elif dataset.path not in needs.live and _loose_head(dataset, guids, needs):
            found.append(Deed(DeedKind.TRIM, dataset.path))
    return found


def _loose_head(dataset: Dataset, guids: frozenset[Guid], needs: Needs) -> bool:
    head = dataset.head
    goes = head is not None and head.guid not in guids
    return goes or dataset.path in needs.untrimmed


def _leaves_first(forest: Forest) -> list[Dataset]:
    """Clones before the datasets that their origins lie in."""
    owner = {snapshot.guid: snapshot.dataset for snapshot in forest.snapshots()}

    def depth(dataset: Dataset) -> int:
        steps, seen = 0, {dataset.path}
        origin = dataset.origin
        while origin is not None and owner.get(origin, dataset.path) not in seen:
            path = owner[origin]
            seen.add(path)
            origin = forest.datasets[path].origin
            steps += 1
        return steps

    return sorted(forest, key=lambda dataset: (-depth(dataset), dataset.path))
