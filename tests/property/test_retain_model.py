"""What collect decides, against a plain model of zfs: any forest of clones, any needs."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hypothesis import given
from hypothesis import strategies as st

from transfer.model import Dataset, Forest, Snapshot
from transfer.retain import Deed, DeedKind, Needs, deeds


@st.composite
def forests(draw: st.DrawFn) -> Forest:
    """Up to seven datasets, each a root or a clone of any snapshot before it; some are held."""
    datasets: list[Dataset] = []
    made: list[Snapshot] = []
    numbers = draw(st.permutations(range(7)))  # so that no order of names helps
    for at in range(draw(st.integers(1, 7))):
        origin = draw(st.none() | st.sampled_from(made)) if made else None
        kind = draw(st.sampled_from(["mirrors", "containers/c"]))
        path = f"{kind}/{numbers[at]}"
        held = draw(st.lists(st.sampled_from([0, 0, 0, 1]), max_size=4))
        first = len(made) + 1
        snapshots = tuple(
            Snapshot(str(guid), f"h-{guid:024}", path, guid, holds=holds)
            for guid, holds in enumerate(held, first)
        )
        made += snapshots
        datasets.append(Dataset(path, None if origin is None else origin.guid, snapshots))
    return Forest.of(draw(st.permutations(datasets)))


@st.composite
def situations(draw: st.DrawFn) -> tuple[Forest, Needs]:
    """A forest and what must stay of it; names of what is not there are among the needs."""
    forest = draw(forests())
    paths = [*forest.datasets, "mirrors/absent"]
    guids = [*(snapshot.guid for snapshot in forest.snapshots()), "999"]
    some = st.frozensets(st.sampled_from(paths), max_size=3)
    needs = Needs(
        live=draw(some),
        closed=draw(some),
        guids=draw(st.frozensets(st.sampled_from(guids), max_size=4)),
        untrimmed=draw(some),
        known=frozenset(paths) - draw(some),
    )
    return forest, needs


@dataclass
class Zfs:
    """What zfs refuses, as far as destroying goes."""

    forest: Forest

    def carry_out(self, deed: Deed) -> None:
        dataset = self.forest.datasets[deed.path]
        if deed.kind is DeedKind.DESTROY_SNAPSHOT:
            self._destroy_snapshot(dataset, deed.guid)
        elif deed.kind is DeedKind.DESTROY:
            assert not dataset.snapshots, "a dataset with snapshots cannot be destroyed"
            rest = {path: one for path, one in self.forest.datasets.items() if path != deed.path}
            self.forest = Forest(rest)
        else:
            assert dataset.snapshots, "there is nothing to roll back to"

    def _destroy_snapshot(self, dataset: Dataset, guid: str | None) -> None:
        (gone,) = [snapshot for snapshot in dataset.snapshots if snapshot.guid == guid]
        assert not gone.holds, "a held snapshot cannot be destroyed"
        clones = [one.path for one in self.forest if one.origin == guid]
        assert not clones, f"a snapshot with clones cannot be destroyed: {clones}"
        rest = tuple(one for one in dataset.snapshots if one is not gone)
        changed = replace(dataset, snapshots=rest)
        self.forest = Forest({**self.forest.datasets, dataset.path: changed})


def collected(forest: Forest, needs: Needs) -> tuple[Forest, list[Deed]]:
    zfs = Zfs(forest)
    done = deeds(forest, needs)
    for deed in done:
        zfs.carry_out(deed)
    return zfs.forest, done


@given(situations())
def test_every_deed_can_be_done_in_its_turn(situation: tuple[Forest, Needs]) -> None:
    collected(*situation)


@given(situations())
def test_nothing_that_must_stay_goes(situation: tuple[Forest, Needs]) -> None:
    forest, needs = situation
    left, done = collected(forest, needs)
    unknown = forest.datasets.keys() - needs.known
    for path in (needs.live | needs.closed | unknown) & forest.datasets.keys():
        assert path in left.datasets
    for path in (needs.closed | unknown) & forest.datasets.keys():
        assert left.datasets[path] == forest.datasets[path]
        assert path not in {deed.path for deed in done}
    guids = {snapshot.guid for snapshot in left.snapshots()}
    for snapshot in forest.snapshots():
        if snapshot.holds or snapshot.guid in needs.guids:
            assert snapshot.guid in guids
    for dataset in left:
        assert dataset.origin is None or dataset.origin in guids, "an origin outlives its clones"


@given(situations())
def test_only_heads_that_nobody_uses_are_trimmed(situation: tuple[Forest, Needs]) -> None:
    forest, needs = situation
    left, done = collected(forest, needs)
    for deed in done:
        if deed.kind is DeedKind.TRIM:
            assert deed.path in needs.known - needs.live - needs.closed
            before, after = forest.datasets[deed.path], left.datasets[deed.path]
            assert deed.path in needs.untrimmed or before.head != after.head


@given(situations())
def test_collected_once_nothing_is_left_to_do(situation: tuple[Forest, Needs]) -> None:
    forest, needs = situation
    left, _ = collected(forest, needs)
    trimmed = replace(needs, untrimmed=frozenset())
    assert deeds(left, trimmed) == []


@given(situations())
def test_what_stays_is_needed_by_something(situation: tuple[Forest, Needs]) -> None:
    forest, needs = situation
    left, _ = collected(forest, needs)
    used = {dataset.origin for dataset in left}
    for dataset in left:
        if dataset.path in needs.closed or dataset.path not in needs.known:
            continue
        assert dataset.snapshots or dataset.path in needs.live
        for snapshot in dataset.snapshots:
            assert snapshot.holds or snapshot.guid in needs.guids | used
