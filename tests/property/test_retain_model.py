"""What collect decides, against a plain model of zfs: any forest of clones, any needs."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hypothesis import given
from hypothesis import strategies as st

from transfer.model import Dataset, Forest, Snapshot
from transfer.retain import Deed, DeedKind, Needs, deeds, possible

# Few are held, closed or unknown: else hardly anything is left to do.
HOLDS = [0] * 9 + [1]


def few(draw: st.DrawFn, paths: list[str]) -> frozenset[str]:
    """In most situations none of them."""
    return frozenset(draw(st.sampled_from([[]] * 9 + [[path] for path in paths])))


@st.composite
def forests(draw: st.DrawFn) -> Forest:
    """Up to seven datasets, each a root or a clone of any snapshot before it; some are held."""
    datasets: list[Dataset] = []
    made: list[Snapshot] = []
    numbers = draw(st.permutations(range(7)))  # so that no order of names helps
    for at in range(draw(st.sampled_from([7, 6, 5, 4, 3, 2, 1]))):
        origin = draw(st.sampled_from([*made, None])) if made else None
        kind = draw(st.sampled_from(["mirrors", "containers/c"]))
        path = f"{kind}/{numbers[at]}"
        held = draw(
            st.lists(st.sampled_from(HOLDS), min_size=draw(st.sampled_from([1, 1, 0])), max_size=3)
        )
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
    some = st.frozensets(st.sampled_from(paths), min_size=1, max_size=3)
    needs = Needs(
        live=draw(some),
        closed=few(draw, paths),
        guids=draw(st.frozensets(st.sampled_from(guids), max_size=4)),
        untrimmed=few(draw, paths),
        known=frozenset(paths) - few(draw, paths),
        clones_pin=draw(st.sampled_from([True, True, False])),
    )
    return forest, needs


@dataclass
class Zfs:
    """What zfs refuses, as far as destroying and promoting go; without `clones_pin`, what dir
    does."""

    forest: Forest
    clones_pin: bool

    def carry_out(self, deed: Deed) -> None:
        dataset = self.forest.datasets[deed.path]
        if deed.kind is DeedKind.DESTROY_SNAPSHOT:
            self._destroy_snapshot(dataset, deed.guid)
        elif deed.kind is DeedKind.DESTROY:
            assert not dataset.snapshots, "a dataset with snapshots cannot be destroyed"
            rest = {path: one for path, one in self.forest.datasets.items() if path != deed.path}
            self.forest = Forest(rest)
        elif deed.kind is DeedKind.PROMOTE:
            self._promote(dataset, deed.guid)
        else:
            assert dataset.snapshots, "there is nothing to roll back to"

    def _destroy_snapshot(self, dataset: Dataset, guid: str | None) -> None:
        (gone,) = [snapshot for snapshot in dataset.snapshots if snapshot.guid == guid]
        assert not gone.holds, "a held snapshot cannot be destroyed"
        clones = [one.path for one in self.forest if one.origin == guid]
        assert not clones or not self.clones_pin, f"it has clones: {clones}"
        rest = tuple(one for one in dataset.snapshots if one is not gone)
        changed = replace(dataset, snapshots=rest)
        self.forest = Forest({**self.forest.datasets, dataset.path: changed})

    def _promote(self, clone: Dataset, guid: str | None) -> None:
        """The origin and what is older than it go to the clone; the husk becomes its clone."""
        assert self.clones_pin
        assert guid is not None
        origin = self.forest.find(guid)
        assert origin is not None
        assert clone.origin == guid
        husk = self.forest.datasets[origin.dataset]
        move = [one for one in husk.snapshots if one.order <= origin.order]
        stay = tuple(one for one in husk.snapshots if one.order > origin.order)
        moved = tuple(replace(one, dataset=clone.path) for one in move)
        grown = replace(clone, origin=husk.origin, snapshots=(*moved, *clone.snapshots))
        left = replace(husk, origin=guid, snapshots=stay)
        self.forest = Forest({**self.forest.datasets, grown.path: grown, left.path: left})


def collected(forest: Forest, needs: Needs) -> tuple[Forest, list[Deed]]:
    """After one round."""
    storage = Zfs(forest, needs.clones_pin)
    done = deeds(forest, needs)
    for deed in done:
        storage.carry_out(deed)
    return storage.forest, done


def settled(forest: Forest, needs: Needs) -> tuple[Forest, list[Deed]]:
    """After as many rounds as do anything: each promotes over at least half of a line of husks,
    and takes down those of the round before."""
    found: list[Deed] = []
    for _ in range(2 * len(forest.datasets) + 1):
        forest, done = collected(forest, needs)
        if not done:
            return forest, found
        found += done
        needs = replace(needs, untrimmed=frozenset())
    raise AssertionError("it does not come to an end")


@given(situations())
def test_every_deed_can_be_done_in_its_turn(situation: tuple[Forest, Needs]) -> None:
    collected(*situation)


@given(situations())
def test_nothing_that_must_stay_goes(situation: tuple[Forest, Needs]) -> None:
    forest, needs = situation
    left, done = settled(forest, needs)
    unknown = forest.datasets.keys() - needs.known
    for path in (needs.live | needs.closed | unknown) & forest.datasets.keys():
        assert path in left.datasets
    for path in (needs.closed | unknown) & forest.datasets.keys():
        assert left.datasets[path].snapshots == forest.datasets[path].snapshots
        assert path not in {deed.path for deed in done}
    guids = {snapshot.guid for snapshot in left.snapshots()}
    for snapshot in forest.snapshots():
        if snapshot.holds or snapshot.guid in needs.guids:
            assert snapshot.guid in guids
    for dataset in left if needs.clones_pin else ():
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
def test_settled_once_nothing_is_left_to_do(situation: tuple[Forest, Needs]) -> None:
    forest, needs = situation
    left, _ = settled(forest, needs)
    assert deeds(left, replace(needs, untrimmed=frozenset())) == []


@given(situations())
def test_what_stays_is_needed_by_something(situation: tuple[Forest, Needs]) -> None:
    forest, needs = situation
    left, _ = settled(forest, needs)
    used = {dataset.origin for dataset in left if needs.clones_pin}
    for dataset in left:
        if dataset.path in needs.closed or dataset.path not in needs.known:
            continue
        assert dataset.snapshots or dataset.path in needs.live
        for snapshot in dataset.snapshots:
            assert snapshot.holds or snapshot.guid in needs.guids | used


@given(situations())
def test_no_husk_stays(situation: tuple[Forest, Needs]) -> None:
    """The newest snapshot of what is not live is needed for itself, unless one of the datasets
    that would be changed is not the collector's to change, or a job reads the husk."""
    forest, needs = situation
    left, _ = settled(forest, needs)
    fixed = needs.closed | (left.datasets.keys() - needs.known)
    for dataset in left:
        if dataset.path in needs.live | fixed:
            continue
        assert dataset.head is not None
        clones = {one.path for one in left if one.origin == dataset.head.guid}
        held = any(snapshot.holds for snapshot in dataset.snapshots)
        assert dataset.head.guid in needs.guids or held or clones <= fixed


@given(situations())
def test_no_more_datasets_stay_than_are_needed(situation: tuple[Forest, Needs]) -> None:
    """Where nobody else has a hand in it: the live ones, and one for each needed snapshot."""
    forest, needs = situation
    needs = replace(needs, closed=frozenset(), known=frozenset(forest.datasets))
    left, _ = settled(forest, needs)
    guids = needs.guids | {snapshot.guid for snapshot in forest.snapshots() if snapshot.holds}
    needed = [snapshot for snapshot in left.snapshots() if snapshot.guid in guids]
    live = needs.live & left.datasets.keys()
    others = {snapshot.dataset for snapshot in needed} - live
    assert left.datasets.keys() == live | others


@given(st.data(), situations())
def test_of_some_of_the_deeds_those_that_are_possible_can_be_done(
    data: st.DataObject, situation: tuple[Forest, Needs]
) -> None:
    """The others have not been unneeded for long enough, or were busy."""
    forest, needs = situation
    todo = deeds(forest, needs)
    chosen = [deed for deed in todo if data.draw(st.booleans())]
    done = possible(forest, chosen, clones_pin=needs.clones_pin)
    storage = Zfs(forest, needs.clones_pin)
    for deed in done:
        storage.carry_out(deed)
    assert possible(forest, todo, clones_pin=needs.clones_pin) == todo
    if not needs.clones_pin:
        kinds = (DeedKind.DESTROY_SNAPSHOT, DeedKind.TRIM)
        assert [d for d in done if d.kind in kinds] == [d for d in chosen if d.kind in kinds]
