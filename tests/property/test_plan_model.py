"""The planner against a plain model of what a receive accepts: any forest, any state here."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from transfer.model import Dataset, Forest, Landing, Snapshot, Step
from transfer.plan import Here, place, plan


@st.composite
def forests(draw: st.DrawFn) -> Forest:
    """A chain of clones: up to five levels with up to five snapshots each."""
    datasets: list[Dataset] = []
    guid = 0
    origin: str | None = None
    for level in range(draw(st.integers(1, 5))):
        path = f"mirrors/{level}"
        snapshots = []
        for order in range(draw(st.integers(1, 5))):
            guid += 1
            snapshots.append(Snapshot(str(guid), f"h-{guid:024}", path, order))
        datasets.append(Dataset(path, origin, tuple(snapshots)))
        origin = draw(st.sampled_from(snapshots)).guid
    return Forest.of(datasets)


class Target:
    """A server that receives as zfs-fuse does: an increment only onto the head that is its base,
    or as a new clone of its base; a branch leaves any dataset."""

    def __init__(self, forest: Forest) -> None:
        self.forest = forest

    def receive(self, step: Step, source: Forest) -> None:
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


@given(st.data(), forests())
def test_every_plan_can_be_carried_out_and_brings_all_that_is_wanted(
    data: st.DataObject, source: Forest
) -> None:
    guids = [snapshot.guid for snapshot in source.snapshots()]
    target = Target(Forest())
    for _ in range(data.draw(st.integers(1, 4))):
        wanted = sorted(data.draw(st.sets(st.sampled_from(guids), min_size=1)), key=int)
        before = {snapshot.guid for snapshot in target.forest.snapshots()}
        steps = plan(source, wanted, Here(target.forest), native=True).steps
        assert not {step.snapshot for step in steps} & before, "nothing is shipped twice"
        for step in steps:
            target.receive(place(step, source, target.forest), source)
        here = {snapshot.guid for snapshot in target.forest.snapshots()}
        assert set(wanted) <= here
        assert plan(source, wanted, Here(target.forest), native=True).steps == ()


@given(st.data(), forests())
def test_a_root_travels_in_full_at_most_once(data: st.DataObject, source: Forest) -> None:
    guids = [snapshot.guid for snapshot in source.snapshots()]
    wanted = sorted(data.draw(st.sets(st.sampled_from(guids), min_size=1)), key=int)
    steps = plan(source, wanted, Here(Forest()), native=True).steps
    assert [step.base for step in steps].count(None) == 1
