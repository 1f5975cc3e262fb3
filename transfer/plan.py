"""Which sends make the wanted snapshots exist here. Pure: forests in, a plan out.

The rules (ARCHITECTURE.md, *Planning*):

1. A snapshot whose guid is here already costs nothing.
2. The base of a send is the newest snapshot of the wanted one's lineage that is here. Within one
   dataset any older snapshot serves. Across datasets only the clone's direct origin does, as far
   as every backend can: so what lies below is shipped first, root first, oldest first, and an
   ancestor that two branches or two containers share travels once.
3. Where nothing of the lineage is here, the root goes in full. A content diff needs its base on
   this side alone, so there any snapshot of the same dataset's mirrors will do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, field, replace

from transfer.errors import SourceChanged
from transfer.model import Dataset, Forest, Guid, Landing, Plan, Snapshot, Step, StepKind


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


def plan(source: Forest, wanted: Sequence[Guid], here: Here, *, native: bool) -> Plan:
    """The steps that are missing, in order: root first, and oldest first in each dataset.

    Raises SourceChanged where the source lost what is wanted or what it stands on.
    """
    have = {
        snapshot.guid
        for snapshot in here.forest.snapshots()
        if not here.forest.datasets[snapshot.dataset].partial
    }
    bases = have if here.bases is None else have & here.bases
    missing = {snapshot.guid: snapshot for snapshot in _wanted(source, wanted, have)}
    if here.bases is None:
        _add_origins(source, missing, have, native)
    steps: list[Step] = []
    known = bases | missing.keys()
    for dataset in _roots_first(source, {snapshot.dataset for snapshot in missing.values()}):
        base = dataset.origin if dataset.origin in known else None
        for snapshot in dataset.snapshots:
            if snapshot.guid in missing:
                steps.append(_step(snapshot, base, here, native))
            if snapshot.guid in known:
                base = snapshot.guid
    return Plan(tuple(steps))


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


def _add_origins(
    source: Forest, missing: dict[Guid, Snapshot], have: Set[Guid], native: bool
) -> None:
    """Adds what must come below: level by level, the origins of those datasets of which the
    oldest missing snapshot has no base in its own dataset here.

    Content diff does without an origin that the source has let go of: there, clones do not pin.
    """
    oldest_here = _oldest(snapshot for snapshot in source.snapshots() if snapshot.guid in have)
    todo = list(missing.values())
    while todo:
        snapshot = todo.pop()
        origin = source.datasets[snapshot.dataset].origin
        has_base = oldest_here.get(snapshot.dataset, snapshot.order) < snapshot.order
        if origin is None or has_base or origin in have or origin in missing:
            continue
        below = source.find(origin)
        if below is not None:
            missing[origin] = below
            todo.append(below)
        elif native:
            raise SourceChanged("the source does not show the origin", guid=origin)


def _oldest(snapshots: Iterable[Snapshot]) -> dict[str, int]:
    """The lowest order among these snapshots, by dataset."""
    found: dict[str, int] = {}
    for snapshot in snapshots:
        found[snapshot.dataset] = min(snapshot.order, found.get(snapshot.dataset, snapshot.order))
    return found


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
    crosses = base is not None and source.datasets[step.source].origin == base.guid
    if base is None or crosses:
        return replace(step, landing=Landing.NEW, into=None)
    dataset = here.datasets[base.dataset]
    if dataset.is_mirror and dataset.head == base:
        return replace(step, landing=Landing.EXTEND, into=dataset.path)
    landing = Landing.NEW if step.kind is StepKind.CONTENT else Landing.BRANCH
    return replace(step, landing=landing, into=None)


def flagged(step: Step, here: Forest, flags: str) -> Step:
    """The step with the flags of its stream: those of the streams that its base came in, for a
    lineage that came with large blocks is not gone on with without them; else these `flags`."""
    if step.kind is StepKind.CONTENT:
        return step
    below = here.lineage(step.base) if step.base else []
    known = (here.datasets[snapshot.dataset].flags for snapshot in below)
    return replace(step, flags=next((came for came in known if came is not None), flags))
