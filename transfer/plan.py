"""Which sends make the wanted snapshots exist here. Pure: forests in, a plan out.

The rules (ARCHITECTURE.md, *Planning*):

1. A snapshot whose guid is here already costs nothing.
2. The base of a send is the newest snapshot of the wanted one's lineage that is here. Within one
   dataset any older snapshot serves, and where the source has let go of it, its bookmark. Across
   datasets only the clone's direct origin does, as far as every backend can: so what lies below
   is shipped first, root first, oldest first, and an ancestor that two branches or two containers
   share travels once. A backend that can passes over the levels that nothing else stands on.
3. Where nothing of the lineage is here, the root goes in full. A content diff needs its base on
   this side alone, so there any snapshot of the same dataset's mirrors will do.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, field, replace
from itertools import pairwise

from transfer.errors import CannotExpress, EncryptionMismatch, SourceChanged
from transfer.model import RAW, Dataset, Forest, Guid, Landing, Plan, Snapshot, Step, StepKind


@dataclass(frozen=True)
class Here:
    """What this server has of the lineages in question.

    `mirrors` names, for a dataset of the source, the datasets here that replicate it (the same
    generation), newest last: where content diff may look for a base outside the lineage. `bases`
    limits what of all this may be a base; None does not.
    """

    forest: Forest
    mirrors: dict[str, tuple[str, ...]] = field(default_factory=dict)
    bases: Set[Guid] | None = None


def plan(
    source: Forest,
    wanted: Sequence[Guid],
    here: Here,
    *,
    native: bool,
    branches: bool = False,
    runs: bool = False,
) -> Plan:
    """The steps that are missing, in order: root first, and oldest first in each dataset.

    `branches`, `runs`: both servers have that trait. Raises SourceChanged where the source lost
    what is wanted or what it stands on.
    """
    have = {
        snapshot.guid
        for snapshot in here.forest.snapshots()
        if not here.forest.datasets[snapshot.dataset].partial
    }
    bases = have if here.bases is None else have & here.bases
    missing = {snapshot.guid: snapshot for snapshot in _wanted(source, wanted, have)}
    if here.bases is None:
        _add_origins(source, missing, have, native=native, branches=branches)
    steps: list[Step] = []
    known = bases | missing.keys()
    for dataset in _roots_first(source, {snapshot.dataset for snapshot in missing.values()}):
        base = _below(source, dataset, known, branches=branches)
        for point in dataset.points:
            if point.guid in missing:
                steps.append(_step(missing[point.guid], base, here, native))
            if point.guid in known:
                base = point.guid
    return Plan(tuple(_joined(steps, source) if runs else steps))


def _joined(steps: Sequence[Step], source: Forest) -> list[Step]:
    """The steps, those that follow each other without a gap made one: increments between
    neighbours in one dataset."""
    neighbours = {
        (older.guid, newer.guid)
        for dataset in source
        for older, newer in pairwise(dataset.snapshots)
    }
    joined: list[Step] = []
    for step in steps:
        last = joined[-1] if joined else None
        follows = (
            last is not None
            and step.base == last.snapshot
            and (step.base, step.snapshot) in neighbours
            and (last.base, last.makes[0]) in neighbours
        )
        if last is not None and follows:
            joined[-1] = replace(step, base=last.base, run=last.makes)
        else:
            joined.append(step)
    return joined


def _wanted(source: Forest, wanted: Sequence[Guid], have: Set[Guid]) -> list[Snapshot]:
    """The wanted snapshots that are not here."""
    found = []
    for guid in wanted:
        snapshot = source.find(guid)
        if guid in have:
            continue
        if snapshot is None:
            raise SourceChanged("the source no longer has the snapshot", guid=guid)
        found.append(snapshot)
    return found


def _below(source: Forest, dataset: Dataset, known: Set[Guid], *, branches: bool) -> Guid | None:
    """The base of the first stream into a dataset: its origin or, where `branches` are had, the
    nearest ancestor that is known."""
    if dataset.origin is None or dataset.origin in known or not branches:
        return dataset.origin if dataset.origin in known else None
    ancestors = source.lineage(dataset.origin)
    return next((snapshot.guid for snapshot in ancestors if snapshot.guid in known), None)


def _add_origins(
    source: Forest, missing: dict[Guid, Snapshot], have: Set[Guid], *, native: bool, branches: bool
) -> None:
    """Adds what must come below: level by level, the origins of those datasets of which the
    oldest missing snapshot has no base in its own dataset here.

    Where `branches` are had, a level on which nothing else stands is passed over: what is in it
    comes with what stands on it. An image is no such level, for the next container will stand on
    it. Content diff does without an origin that the source has let go of: there, clones do not pin.
    """
    oldest_here = _oldest(source, have)
    todo = list(missing.values())
    while todo:
        snapshot = todo.pop()
        origin = source.datasets[snapshot.dataset].origin
        has_base = oldest_here.get(snapshot.dataset, snapshot.order) < snapshot.order
        if origin is None or has_base or origin in have or origin in missing:
            continue
        below = source.find(origin)
        if below is not None:
            alone = below.clones == 1 and not source.datasets[below.dataset].is_image
            if not branches or not alone:
                missing[origin] = below
            todo.append(below)
        elif native:
            raise SourceChanged("the source does not show the origin", guid=origin)


def _oldest(source: Forest, have: Set[Guid]) -> dict[str, int]:
    """The lowest order of what is here, by dataset of the source."""
    here = {
        dataset.path: [point.order for point in dataset.points if point.guid in have]
        for dataset in source
    }
    return {path: min(orders) for path, orders in here.items() if orders}


def _roots_first(source: Forest, paths: Set[str]) -> list[Dataset]:
    datasets = [source.datasets[path] for path in paths]
    return sorted(datasets, key=lambda dataset: (_depth(source, dataset), dataset.path))


def _depth(source: Forest, dataset: Dataset) -> int:
    """How many origins lie below a dataset."""
    seen = {dataset.path}
    origin = dataset.origin
    while origin is not None and (snapshot := source.find(origin)) is not None:
        if snapshot.dataset in seen:
            break
        seen.add(snapshot.dataset)
        origin = source.datasets[snapshot.dataset].origin
    return len(seen)


def _step(snapshot: Snapshot, base: Guid | None, here: Here, native: bool) -> Step:
    if native:
        kind = StepKind.FULL if base is None else StepKind.INCREMENTAL
    else:
        kind, base = StepKind.CONTENT, base or _content_base(snapshot.dataset, here)
    return Step(
        kind=kind,
        source=snapshot.dataset,
        snapshot=snapshot.guid,
        name=snapshot.name,
        base=base,
        landing=Landing.NEW,
    )


def _content_base(source_path: str, here: Here) -> Guid | None:
    for path in reversed(here.mirrors.get(source_path, ())):
        dataset = here.forest.datasets.get(path)
        if dataset is None or dataset.head is None or dataset.partial:
            continue
        if here.bases is None or dataset.head.guid in here.bases:
            return dataset.head.guid
    return None


def place(step: Step, source: Forest, here: Forest) -> Step:
    """The step with its landing: decided right before it runs, when its base is here.

    An increment goes on top of the mirror whose head is its base. A native one whose base lies
    behind a mirror's head, or on a dataset that is no mirror, leaves that dataset by a branch.
    Everything else (a root, a clone of its base) gets a mirror of its own.
    """
    base = here.find(step.base) if step.base else None
    there = source.find(step.base) if step.base else None
    crosses = source.datasets[step.source].origin == step.base or (
        there is not None and there.dataset != step.source
    )
    if base is None or crosses:
        return replace(step, landing=Landing.NEW, into=None)
    dataset = here.datasets[base.dataset]
    if dataset.is_mirror and dataset.head == base:
        return replace(step, landing=Landing.EXTEND, into=dataset.path)
    landing = Landing.NEW if step.kind is StepKind.CONTENT else Landing.BRANCH
    return replace(step, landing=landing, into=None)


def flagged(step: Step, source: Forest, here: Forest, flags: str) -> Step:
    """The step with its dataset's settings and the flags of its stream: those of the streams that
    its base came in, for a lineage that came with large blocks is not gone on with without them;
    else those of `flags` that apply. What is encrypted goes as it is.

    Raises EncryptionMismatch where the base came otherwise, CannotExpress where that cannot be.
    """
    if step.kind is StepKind.CONTENT:
        return step
    encrypted = source.datasets[step.source].encrypted
    if encrypted and RAW not in flags:
        raise CannotExpress(
            "one of the servers cannot replicate what is encrypted", guid=step.snapshot
        )
    below = [here.datasets[snapshot.dataset] for snapshot in _lineage(step, here)]
    if below and _came_raw(below[0]) != encrypted:
        raise EncryptionMismatch(
            "the base is not encrypted as the source is", guid=step.snapshot, base=step.base
        )
    fresh = flags if encrypted else flags.replace(RAW, "")
    known = (dataset.flags for dataset in below)
    flags = next((came for came in known if came is not None), fresh)
    return replace(step, flags=flags, settings=source.datasets[step.source].settings)


def _lineage(step: Step, here: Forest) -> list[Snapshot]:
    return here.lineage(step.base) if step.base else []


def _came_raw(dataset: Dataset) -> bool:
    """Whether its blocks are encrypted as they are on the source. What came plain into an
    encrypted parent is encrypted too, but by another key."""
    return dataset.encrypted and (dataset.flags is None or RAW in dataset.flags)


def locked(todo: Plan, source: Forest, here: Forest) -> list[Guid]:
    """The encrypted snapshots of the plan that could not be mounted here: those that come whole,
    or stand on what cannot be."""
    found = []
    for step in todo.steps:
        base = here.find(step.base) if step.base else None
        opens = base is not None and not here.datasets[base.dataset].locked
        comes_later = step.base is not None and base is None
        if source.datasets[step.source].encrypted and not (opens or comes_later):
            found.append(step.snapshot)
    return found
