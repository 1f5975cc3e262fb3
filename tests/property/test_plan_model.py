"""The planner against a plain model of what a receive accepts: any forest, any state here."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from transfer.model import Dataset, Forest, Landing, Snapshot, Step
from transfer.plan import Here, place, plan


@st.composite
def forests(draw: st.DrawFn) -> Forest:
    """A tree of clones, as a history with restores in it has: up to six datasets with up to five
    snapshots each, every one but the first a clone of any snapshot before it."""
    datasets: list[Dataset] = []
    made: list[Snapshot] = []
    numbers = draw(st.permutations(range(6)))  # so that no order of names helps
    for at in range(draw(st.integers(1, 6))):
        path = f"mirrors/{numbers[at]}"
        origin = draw(st.sampled_from(made)).guid if made else None
        first = len(made) + 1
        snapshots = [
            Snapshot(str(guid), f"h-{guid:024}", path, guid)
            for guid in range(first, first + draw(st.integers(1, 5)))
        ]
        made += snapshots
        datasets.append(Dataset(path, origin, tuple(snapshots)))
    origins = Counter(dataset.origin for dataset in datasets)
    strangers = draw(st.integers(0, 1))  # a container that is not in question stands on it too
    counted = [
        replace(
            dataset,
            snapshots=tuple(
                replace(one, clones=origins[one.guid] + (strangers if int(one.guid) % 3 else 0))
                for one in dataset.snapshots
            ),
        )
        for dataset in datasets
    ]
    return Forest.of(draw(st.permutations(counted)))


class Target:
    """A server that receives as zfs-fuse does: an increment only onto the head that is its base,
    or as a new clone of its base; a branch leaves any dataset."""

    def __init__(self, forest: Forest) -> None:
        self.forest = forest

    def receive(self, step: Step, source: Forest) -> None:
        """A run is its increments, one after the other, each where the one before was."""
        base = step.base
        for guid in step.makes:
            one = replace(step, snapshot=guid, base=base, run=())
            self._receive(place(one, source, self.forest) if step.run else step, source)
            base = guid

    def _receive(self, step: Step, source: Forest) -> None:
        arrived = source.find(step.snapshot)
        assert arrived is not None
        assert self.forest.find(step.snapshot) is None, "a guid exists once on a server"
        if step.landing is Landing.EXTEND:
            assert step.into is not None
            onto = self.forest.datasets[step.into]
            assert onto.head is not None and onto.head.guid == step.base
            assert onto.is_mirror
            grown = replace(arrived, dataset=onto.path, order=onto.head.order + 1)
            changed = replace(onto, snapshots=(*onto.snapshots, grown))
        else:
            assert step.base is None or self.forest.find(step.base) is not None
            path = f"mirrors/new-{len(self.forest.datasets)}"
            changed = Dataset(path, step.base, (replace(arrived, dataset=path),))
        self.forest = Forest({**self.forest.datasets, changed.path: changed})


def some_of(data: st.DataObject, source: Forest) -> list[str]:
    """Snapshots of any branches, in any order."""
    guids = [snapshot.guid for snapshot in source.snapshots()]
    return data.draw(st.lists(st.sampled_from(guids), min_size=1, unique=True))


def carry_out(steps: tuple[Step, ...], source: Forest, target: Target) -> None:
    for step in steps:
        target.receive(place(step, source, target.forest), source)


@given(st.data(), forests())
def test_every_plan_can_be_carried_out_and_brings_all_that_is_wanted(
    data: st.DataObject, source: Forest
) -> None:
    target, branches, runs = Target(Forest()), data.draw(st.booleans()), data.draw(st.booleans())
    for _ in range(data.draw(st.integers(1, 4))):
        wanted = some_of(data, source)
        before = {snapshot.guid for snapshot in target.forest.snapshots()}
        here = Here(target.forest)
        steps = plan(source, wanted, here, native=True, branches=branches, runs=runs).steps
        shipped = [guid for step in steps for guid in step.makes]
        assert len(shipped) == len(set(shipped)), "nothing is shipped twice"
        assert not set(shipped) & before
        carry_out(steps, source, target)
        assert set(wanted) <= {snapshot.guid for snapshot in target.forest.snapshots()}
        here = Here(target.forest)
        assert plan(source, wanted, here, native=True, branches=branches).steps == ()


@given(st.data(), forests())
def test_a_plan_that_is_made_anew_after_each_step_is_the_same_plan(
    data: st.DataObject, source: Forest
) -> None:
    """As replication does; also where nothing that was here before may be a base."""
    full, branches, runs = (data.draw(st.booleans()) for _ in range(3))
    target, shipped = Target(Forest()), set[str]()
    carry_out(
        plan(source, some_of(data, source), Here(Forest()), native=True).steps, source, target
    )
    wanted = some_of(data, source)

    def steps(*guids: str) -> tuple[Step, ...]:
        here = Here(target.forest, bases=frozenset(shipped) if full else None)
        return plan(source, guids, here, native=True, branches=branches, runs=runs).steps

    for step in steps(*wanted):
        again = steps(*wanted)
        assert again[0] == step
        assert steps(*step.makes) == (step,)
        carry_out(again[:1], source, target)
        shipped.update(step.makes)
    assert steps(*wanted) == ()
    assert set(wanted) <= {snapshot.guid for snapshot in target.forest.snapshots()}


@given(st.data(), forests())
def test_the_base_is_the_nearest_that_is_here(data: st.DataObject, source: Forest) -> None:
    """An older snapshot of the same dataset, else the direct origin; nothing in between."""
    have: list[str] = []
    for step in plan(source, some_of(data, source), Here(Forest()), native=True).steps:
        dataset = source.datasets[step.source]
        at = [snapshot.guid for snapshot in dataset.snapshots].index(step.snapshot)
        older = [one.guid for one in dataset.snapshots[:at] if one.guid in have]
        assert step.base == (older[-1] if older else dataset.origin)
        have.append(step.snapshot)


@given(st.data(), forests())
def test_with_branches_only_levels_that_are_shared_come_along(
    data: st.DataObject, source: Forest
) -> None:
    """And each stream starts from the nearest ancestor that is here by then."""
    wanted, have = some_of(data, source), list[str]()
    for step in plan(source, wanted, Here(Forest()), native=True, branches=True).steps:
        snapshot = source.find(step.snapshot)
        assert snapshot is not None
        assert step.snapshot in wanted or (snapshot.clones or 0) > 1
        lineage = [one.guid for one in source.lineage(step.snapshot)[1:]]
        assert step.base == next((guid for guid in lineage if guid in have), None)
        have.append(step.snapshot)


@given(st.data(), forests())
def test_a_root_travels_in_full_at_most_once(data: st.DataObject, source: Forest) -> None:
    steps = plan(source, some_of(data, source), Here(Forest()), native=True).steps
    assert [step.base for step in steps].count(None) == 1


@given(st.data(), forests())
def test_in_full_only_what_is_wanted_comes(data: st.DataObject, source: Forest) -> None:
    wanted = some_of(data, source)
    steps = plan(source, wanted, Here(Forest(), bases=frozenset()), native=True).steps
    assert sorted(step.snapshot for step in steps) == sorted(wanted)
    assert all(step.base is None or step.base in wanted for step in steps)
