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
    for guid in wanted:
        if full and guid not in have:
            missing = [_whole(source, guid, native)]
        else:
            missing = _missing(source, guid, here, have, native)
        have |= {step.snapshot for step in missing}
        steps += missing
    return Plan(tuple(steps))


def _whole(source: Forest, guid: Guid, native: bool) -> Step:
    snapshot = source.find(guid)
    if snapshot is None:
        raise SourceChanged("the source no longer has the snapshot", guid=guid)
    return _step(snapshot, None, Here(Forest()), native)


def _missing(source: Forest, guid: Guid, here: Here, have: set[Guid], native: bool) -> list[Step]:
    """The steps for one wanted snapshot: a walk down its levels to a base, then up again."""
    steps: list[Step] = []
    at: Guid | None = guid
    while at is not None and at not in have:
        lineage = source.lineage(at)
        if not lineage:
            raise SourceChanged("the source no longer has the snapshot", guid=at)
        snapshot = lineage[0]
        base, below = _base(lineage, have)
        origin = source.datasets[snapshot.dataset].origin
        if base is None and below is None and origin is not None:
            raise SourceChanged("the source no longer has the origin", guid=origin)
        steps.append(_step(snapshot, base or below, here, native))
        at = None if base is not None or below is None else below.guid
    return steps[::-1]


def _base(lineage: list[Snapshot], have: set[Guid]) -> tuple[Snapshot | None, Snapshot | None]:
    """The newest snapshot of the same dataset that is here, else None and the direct origin."""
    first = lineage[0]
    for snapshot in lineage[1:]:
        if snapshot.dataset != first.dataset:
            return None, snapshot
        if snapshot.guid in have:
            return snapshot, None
    return None, None


def _step(snapshot: Snapshot, base: Snapshot | None, here: Here, native: bool) -> Step:
    if native:
        kind = StepKind.FULL if base is None else StepKind.INCREMENTAL
        guid = base.guid if base else None
    else:
        kind = StepKind.CONTENT
        guid = base.guid if base else _content_base(snapshot.dataset, here)
    return Step(
        kind=kind,
        source=snapshot.dataset,
        snapshot=snapshot.guid,
        name=snapshot.name,
        base=guid,
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
