"""What collect does to a storage, in order. Pure: a forest and what is needed in, deeds out.

Kept is what a live dataset or the catalogue names, what is held, what no row accounts for, and,
to a fixpoint, the origin of every dataset that is kept. All else goes, leaf first, so that a
clone never outlives its origin. What is not live but keeps a snapshot is trimmed: its head pins
blocks that nothing needs.

A *husk* is a dataset that is not live and of which the newest snapshot is kept for its clones
alone. One of them is promoted over it and takes its snapshots; the husk goes in the next round,
and so do those snapshots that nobody needs once it is gone. Where clones do not pin, there are
no husks: origins go as if nothing had been made of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from transfer.model import Dataset, Forest, Guid, Snapshot


@dataclass(frozen=True)
class Needs:
    """What must stay.

    `live`: datasets whose heads are in use (live generations) or in the making; their unneeded
    snapshots may go, they themselves never. `closed`: datasets that must not be touched at all
    for now, because a job writes to them. `guids`: snapshots that the catalogue names.
    `untrimmed`: datasets that are not live whose head may differ from their newest snapshot.
    `known`: only what a row accounts for is ever destroyed. `clones_pin`: the storage's trait.
    """

    live: frozenset[str]
    closed: frozenset[str]
    guids: frozenset[Guid]
    untrimmed: frozenset[str]
    known: frozenset[str]
    clones_pin: bool = True


class DeedKind(StrEnum):
    """The four things that collect can do."""

    DESTROY_SNAPSHOT = "destroy_snapshot"
    TRIM = "trim"
    DESTROY = "destroy"
    PROMOTE = "promote"


@dataclass(frozen=True, slots=True)
class Deed:
    """One thing to do. `guid` is the snapshot that goes, or the origin at which the clone `path`
    is promoted; None for a whole dataset."""

    kind: DeedKind
    path: str
    guid: Guid | None = None

    @property
    def thing(self) -> str:
        """The name under which the grace time of what goes is kept."""
        if self.kind is DeedKind.PROMOTE:
            return f"{self.path}<{self.guid}"
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
        origins = _origins(forest, datasets) if needs.clones_pin else set()
        grown = not origins <= guids
        guids |= origins
    return frozenset(datasets), frozenset(guids)


def _origins(forest: Forest, paths: Iterable[str]) -> set[Guid]:
    origins = (forest.datasets[path].origin for path in paths)
    return {origin for origin in origins if origin is not None}


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
    if needs.clones_pin:
        found += _promotions(forest, needs, datasets, frozenset(deed.path for deed in found))
    return found


def _loose_head(dataset: Dataset, guids: frozenset[Guid], needs: Needs) -> bool:
    head = dataset.head
    goes = head is not None and head.guid not in guids
    return goes or dataset.path in needs.untrimmed


def _promotions(
    forest: Forest, needs: Needs, datasets: frozenset[str], busy: frozenset[str]
) -> list[Deed]:
    """The clones to promote over husks. A husk waits until all else is done to it, and no
    dataset takes part in two promotions of a round: the second would find another origin."""
    found: list[Deed] = []
    taken: set[str] = set()
    open_paths = (datasets & needs.known) - needs.closed
    for husk in _leaves_first(forest):
        if husk.path in taken | busy | needs.live or husk.path not in open_paths:
            continue
        # A job reads what it holds by a name that the promotion would change.
        held = any(snapshot.holds for snapshot in husk.snapshots)
        if husk.head is None or husk.head.guid in needs.guids or held:
            continue
        clone = _heir(forest, husk.head, open_paths - taken)
        if clone is not None:
            found.append(Deed(DeedKind.PROMOTE, clone, husk.head.guid))
            taken |= {husk.path, clone}
    return found


def _heir(forest: Forest, origin: Snapshot, paths: frozenset[str]) -> str | None:
    """Of these datasets the first one that is a whole clone of the snapshot."""
    clones = (d.path for d in forest if d.origin == origin.guid and not d.partial)
    return min((path for path in clones if path in paths), default=None)


def possible(forest: Forest, some: Sequence[Deed], *, clones_pin: bool) -> list[Deed]:
    """Of some of the deeds for a forest those that can be done: no snapshot goes before its
    clones where they pin it, and no dataset before its snapshots."""
    clones = Counter(dataset.origin for dataset in forest)
    left = {dataset.path: len(dataset.snapshots) for dataset in forest}
    found = []
    for deed in some:
        if deed.kind is DeedKind.DESTROY_SNAPSHOT:
            if clones_pin and clones[deed.guid]:
                continue
            left[deed.path] -= 1
        elif deed.kind is DeedKind.DESTROY:
            if left[deed.path]:
                continue
            clones[forest.datasets[deed.path].origin] -= 1
        found.append(deed)
    return found


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
