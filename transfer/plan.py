"""Which sends make the wanted snapshots exist here. Pure: forests in, a plan out.

The rules (ARCHITECTURE.md, *Planning*):

1. A snapshot whose guid is here already costs nothing.
2. The base of a send is the newest snapshot of the wanted one's lineage that is here. Within one
   dataset any older snapshot serves. Across datasets only the clone's direct origin does, as far
   as every backend can: so what lies below is shipped first, root first, level by level, and an
   ancestor that two containers share travels once.
3. Where nothing of the lineage is here, the root goes in full. A content diff needs its base on
   this side alone, so there any snapshot of the same dataset's mirrors will do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from transfer.errors import SourceChanged
from transfer.model import Forest, Guid, Landing, Plan, Snapshot, Step, StepKind


@dataclass(frozen=True)
class Here:
    """What this server has of the lineages in question.

    `mirrors` names, for a dataset of the source, the datasets here that replicate it (the same
    generation), newest last: where content diff may look for a base outside the lineage.
    """

    forest: Forest
    mirrors: dict[str, tuple[str, ...]] = field(default_factory=dict)


def plan(
    source: Forest, wanted: Sequence[Guid], here: Here, *, native: bool, full: bool = False
) -> Plan:
    """The steps that are missing, in order. `full` asks for whole sends, without a base.

    Raises SourceChanged where the source lost what is wanted or what it stands on.
    """
    have = {
        snapshot.guid
        for snapshot in here.forest.snapshots()
        if not here.forest.datasets[snapshot.dataset].partial
    }
    steps: list[Step] = []
    for snapshot in _missing(source, wanted, set() if full else have, full):
        if snapshot.guid not in have:
            base = None if full else _base(source, snapshot, have)
            steps.append(_step(snapshot, base, here if not full else Here(Forest()), native))
            have.add(snapshot.guid)
    return Plan(tuple(steps))


def _missing(source: Forest, wanted: Sequence[Guid], have: set[Guid], full: bool) -> list[Snapshot]:
    """What must come: the wanted snapshots, and below them, level by level, the origins of
    those that have no base of their own dataset here. Root first, oldest first."""
    found: dict[Guid, Snapshot] = {}
    todo = list(wanted)
    while todo:
        guid = todo.pop()
        if guid in have or guid in found:
            continue
        snapshot = source.find(guid)
        if snapshot is None:
            raise SourceChanged("the source no longer has the snapshot", guid=guid)
        found[guid] = snapshot
        origin = source.datasets[snapshot.dataset].origin
        if origin is not None and not full and not _older_here(source, snapshot, have):
            todo.append(origin)
    return sorted(found.values(), key=lambda s: (_depth(source, s.dataset), s.dataset, s.order))


def _older_here(source: Forest, snapshot: Snapshot, have: set[Guid]) -> Snapshot | None:
    """The newest snapshot here that is older than this one in the same dataset."""
    older = [
        other
        for other in source.datasets[snapshot.dataset].snapshots
        if other.order < snapshot.order and other.guid in have
    ]
    return older[-1] if older else None


def _base(source: Forest, snapshot: Snapshot, have: set[Guid]) -> Guid | None:
    older = _older_here(source, snapshot, have)
    return older.guid if older else source.datasets[snapshot.dataset].origin


def _depth(source: Forest, path: str) -> int:
    """How many origins lie below a dataset."""
    depth, seen = 0, {path}
    origin = source.datasets[path].origin
    while origin is not None and (snapshot := source.find(origin)) is not None:
        if snapshot.dataset in seen:
            break
        seen.add(snapshot.dataset)
        origin = source.datasets[snapshot.dataset].origin
        depth += 1
    return depth


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
        if dataset is not None and dataset.head is not None and not dataset.partial:
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
