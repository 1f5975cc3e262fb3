"""The planner, by example: each test is one rule of transfer/plan.py."""

from __future__ import annotations

from dataclasses import replace

import pytest

from transfer.errors import CannotExpress, EncryptionMismatch, SourceChanged
from transfer.model import Bookmark, Dataset, Forest, Landing, Snapshot, Step, StepKind
from transfer.plan import Here, flagged, locked, place, plan


def dataset(path: str, *guids: str, origin: str | None = None, partial: bool = False) -> Dataset:
    snapshots = tuple(
        Snapshot(guid=guid, name=f"h-{guid:0>24}", dataset=path, order=order)
        for order, guid in enumerate(guids, 1)
    )
    return Dataset(path, origin=origin, snapshots=snapshots, partial=partial)


PROD = dataset("containers/p/g", "1", "2", "3")
MIRROR = dataset("mirrors/m", "1", "2")
STAGING = dataset("containers/s/g", "9", origin="2")


def kinds(steps: tuple[Step, ...]) -> list[tuple[str, str, str | None]]:
    return [(str(step.kind), step.snapshot, step.base) for step in steps]


def test_what_is_here_costs_nothing() -> None:
    assert plan(Forest.of([PROD]), ["2"], Here(Forest.of([MIRROR])), native=True).steps == ()


def test_nothing_here_goes_in_full() -> None:
    found = plan(Forest.of([PROD]), ["3"], Here(Forest()), native=True)
    assert kinds(found.steps) == [("full", "3", None)]


def test_the_base_is_the_newest_that_is_here() -> None:
    found = plan(Forest.of([PROD]), ["3"], Here(Forest.of([MIRROR])), native=True)
    assert kinds(found.steps) == [("incremental", "3", "2")]


def test_a_partial_dataset_here_is_no_base() -> None:
    here = Here(Forest.of([dataset("mirrors/m", "1", "2", partial=True)]))
    found = plan(Forest.of([PROD]), ["3"], here, native=True)
    assert kinds(found.steps) == [("full", "3", None)]


def test_a_clone_goes_level_by_level_root_first() -> None:
    source = Forest.of([STAGING, MIRROR])
    found = plan(source, ["9"], Here(Forest()), native=True)
    assert kinds(found.steps) == [("full", "2", None), ("incremental", "9", "2")]


def test_below_a_clone_an_older_state_of_its_origin_serves() -> None:
    here = Here(Forest.of([dataset("mirrors/x", "1")]))
    found = plan(Forest.of([STAGING, MIRROR]), ["9"], here, native=True)
    assert kinds(found.steps) == [("incremental", "2", "1"), ("incremental", "9", "2")]


def test_several_wanted_share_their_ancestors() -> None:
    found = plan(Forest.of([PROD]), ["1", "2", "3"], Here(Forest()), native=True)
    assert kinds(found.steps) == [
        ("full", "1", None),
        ("incremental", "2", "1"),
        ("incremental", "3", "2"),
    ]


# --- whole sends ---------------------------------------------------------------------------------


def in_full(here: Dataset | None = None, shipped: str = "", mirrors: str = "mirrors/m") -> Here:
    """A server that uses nothing as a base but what was shipped just now."""
    forest = Forest.of([here] if here else [])
    return Here(forest, {"containers/p/g": (mirrors,)}, bases=frozenset(shipped))


def test_full_asks_for_no_base() -> None:
    found = plan(Forest.of([PROD]), ["3"], in_full(MIRROR), native=True)
    assert kinds(found.steps) == [("full", "3", None)]


def test_a_history_in_full_is_one_whole_send_and_increments() -> None:
    found = plan(Forest.of([PROD]), ["1", "2", "3"], in_full(), native=True)
    assert kinds(found.steps) == [
        ("full", "1", None),
        ("incremental", "2", "1"),
        ("incremental", "3", "2"),
    ]


def test_in_full_what_is_here_already_stays_and_serves_as_no_base() -> None:
    """A guid exists once on a server."""
    found = plan(Forest.of([PROD]), ["1", "2", "3"], in_full(MIRROR), native=True)
    assert kinds(found.steps) == [("full", "3", None)]
    here = in_full(dataset("mirrors/m", "1"))
    found = plan(Forest.of([PROD]), ["1", "2", "3"], here, native=True)
    assert kinds(found.steps) == [("full", "2", None), ("incremental", "3", "2")]


def test_in_full_what_was_shipped_for_it_is_a_base_in_the_next_round() -> None:
    here = in_full(MIRROR, shipped="2")
    found = plan(Forest.of([PROD]), ["1", "2", "3"], here, native=True)
    assert kinds(found.steps) == [("incremental", "3", "2")]


def test_in_full_nothing_comes_that_is_not_wanted() -> None:
    source = Forest.of([STAGING, MIRROR])
    found = plan(source, ["9"], in_full(), native=True)
    assert kinds(found.steps) == [("full", "9", None)]
    found = plan(source, ["2", "9"], in_full(), native=True)
    assert kinds(found.steps) == [("full", "2", None), ("incremental", "9", "2")]


def test_a_content_diff_in_full_stands_on_no_mirror_either() -> None:
    found = plan(Forest.of([PROD]), ["3"], in_full(MIRROR), native=False)
    assert kinds(found.steps) == [("content-diff", "3", None)]


# --- content diff --------------------------------------------------------------------------------


def test_content_diff_stands_on_any_mirror_of_the_dataset() -> None:
    old = dataset("mirrors/m", "77")
    here = Here(Forest.of([old]), {"containers/p/g": ("mirrors/m",)})
    found = plan(Forest.of([PROD]), ["3"], here, native=False)
    assert kinds(found.steps) == [("content-diff", "3", "77")]


def test_a_snapshot_that_the_source_lost_is_named() -> None:
    with pytest.raises(SourceChanged) as caught:
        plan(Forest.of([PROD]), ["5"], Here(Forest()), native=True)
    assert caught.value.evidence == {"guid": "5"}


def test_an_origin_that_the_source_does_not_show_is_named() -> None:
    with pytest.raises(SourceChanged) as caught:
        plan(Forest.of([STAGING]), ["9"], Here(Forest()), native=True)
    assert caught.value.evidence == {"guid": "2"}


def test_content_diff_does_without_an_origin_that_the_source_let_go_of() -> None:
    source = Forest.of([STAGING])
    found = plan(source, ["9"], Here(Forest()), native=False)
    assert kinds(found.steps) == [("content-diff", "9", None)]
    found = plan(source, ["9"], Here(Forest.of([MIRROR])), native=False)
    assert kinds(found.steps) == [("content-diff", "9", "2")]


# --- a history -----------------------------------------------------------------------------------

# u1 u2 u3, then u1 was restored, and u4 taken.
BEFORE = dataset("containers/p/g1", "1", "2", "3")
AFTER = dataset("containers/p/g2", "4", origin="1")
RESTORED = Forest.of([AFTER, BEFORE])


@pytest.mark.parametrize("wanted", ["1234", "4321", "4132"])
def test_a_history_with_a_restore_in_it_comes_whole_each_snapshot_once(wanted: str) -> None:
    found = plan(RESTORED, wanted, Here(Forest()), native=True)
    assert kinds(found.steps) == [
        ("full", "1", None),
        ("incremental", "2", "1"),
        ("incremental", "3", "2"),
        ("incremental", "4", "1"),
    ]


def test_the_snapshot_on_the_branch_alone_brings_its_origin_and_nothing_else() -> None:
    found = plan(RESTORED, ["4"], Here(Forest()), native=True)
    assert kinds(found.steps) == [("full", "1", None), ("incremental", "4", "1")]


def test_of_a_history_that_is_partly_here_the_rest_comes() -> None:
    here = Here(Forest.of([dataset("mirrors/m", "1", "3")]))
    found = plan(RESTORED, ["1", "2", "3", "4"], here, native=True)
    assert kinds(found.steps) == [("incremental", "2", "1"), ("incremental", "4", "1")]


def test_a_wanted_snapshot_older_than_all_that_is_here_needs_its_origin() -> None:
    branch = dataset("containers/p/g2", "4", "5", origin="1")
    source, here = Forest.of([branch, BEFORE]), Here(Forest.of([dataset("mirrors/b", "4")]))
    assert kinds(plan(source, ["5"], here, native=True).steps) == [("incremental", "5", "4")]
    here = Here(Forest.of([dataset("mirrors/b", "5")]))
    assert kinds(plan(source, ["4"], here, native=True).steps) == [
        ("full", "1", None),
        ("incremental", "4", "1"),
    ]


def test_two_branches_share_what_they_stand_on() -> None:
    source = Forest.of([BEFORE, AFTER, dataset("mirrors/x", "7", origin="1")])
    found = plan(source, ["4", "7"], Here(Forest()), native=True)
    assert kinds(found.steps) == [
        ("full", "1", None),
        ("incremental", "4", "1"),
        ("incremental", "7", "1"),
    ]


# --- where it lands ------------------------------------------------------------------------------


def step_of(source: Forest, wanted: str, here: Forest, native: bool = True) -> Step:
    return plan(source, [wanted], Here(here), native=native).steps[0]


def test_an_increment_extends_the_mirror_whose_head_is_its_base() -> None:
    source, here = Forest.of([PROD]), Forest.of([MIRROR])
    placed = place(step_of(source, "3", here), source, here)
    assert (placed.landing, placed.into) == (Landing.EXTEND, "mirrors/m")


def test_behind_the_head_a_branch_leaves_the_mirror() -> None:
    source = Forest.of([dataset("containers/p/g", "1", "2")])
    here = Forest.of([dataset("mirrors/m", "1", "5")])
    placed = place(step_of(source, "2", here), source, here)
    assert (placed.landing, placed.into) == (Landing.BRANCH, None)


def test_what_is_no_mirror_is_never_extended() -> None:
    source = Forest.of([dataset("mirrors/m", "1", "2")])
    here = Forest.of([dataset("containers/p/g", "1")])
    placed = place(step_of(source, "2", here), source, here)
    assert placed.landing is Landing.BRANCH


def test_a_clone_of_its_origin_gets_a_mirror_of_its_own() -> None:
    source, here = Forest.of([STAGING, MIRROR]), Forest.of([dataset("mirrors/x", "1", "2")])
    placed = place(step_of(source, "9", here), source, here)
    assert (placed.landing, placed.into) == (Landing.NEW, None)


def test_a_wanted_snapshot_behind_a_mirrors_head_is_placed_on_a_branch() -> None:
    """The copy synced before the history was asked for: the mirror is ahead of it."""
    source, here = Forest.of([BEFORE]), Forest.of([dataset("mirrors/m", "1", "3")])
    step = step_of(source, "2", here)
    assert (step.kind, step.base) == (StepKind.INCREMENTAL, "1")
    assert place(step, source, here).landing is Landing.BRANCH


def test_content_diff_never_branches() -> None:
    source = Forest.of([dataset("containers/p/g", "1", "2")])
    here = Forest.of([dataset("mirrors/m", "1", "5")])
    placed = place(step_of(source, "2", here, native=False), source, here)
    assert (placed.kind, placed.landing) == (StepKind.CONTENT, Landing.NEW)


def flags_of(
    base: str | None,
    *here: Dataset,
    kind: StepKind = StepKind.INCREMENTAL,
    encrypted: bool = False,
    flags: str = "Lew",
) -> str:
    step = Step(kind, "containers/p/g", "3", "h-3", base, Landing.NEW)
    source = replace(dataset("containers/p/g", "2", "3"), encrypted=encrypted)
    return flagged(step, Forest.of([source]), Forest.of(here), flags).flags


def test_a_stream_has_the_flags_that_both_sides_know() -> None:
    assert flags_of(None, kind=StepKind.FULL) == "Le"
    assert flags_of("2", MIRROR) == "Le"


def test_a_lineage_goes_on_with_the_flags_that_it_came_with() -> None:
    root = replace(dataset("mirrors/r", "1"), flags="L")
    assert flags_of("1", root) == "L"
    assert flags_of("2", root, dataset("mirrors/m", "2", origin="1")) == "L"
    assert flags_of("2", root, replace(dataset("mirrors/m", "2", origin="1"), flags="Lec")) == "Lec"


def test_a_content_diff_has_no_flags() -> None:
    assert flags_of("2", replace(MIRROR, flags="L"), kind=StepKind.CONTENT) == ""


def test_what_is_encrypted_goes_as_it_is() -> None:
    assert flags_of(None, kind=StepKind.FULL, encrypted=True) == "Lew"
    came = replace(MIRROR, flags="Lew", encrypted=True)
    assert flags_of("2", came, encrypted=True) == "Lew"
    # Made here, and on its way back.
    assert flags_of("2", replace(MIRROR, encrypted=True), encrypted=True) == "Lew"
    with pytest.raises(CannotExpress):
        flags_of(None, kind=StepKind.FULL, encrypted=True, flags="Le")


def test_a_pair_never_changes_between_raw_and_not_raw() -> None:
    """Also where what came plain is encrypted by the key of the parent that it lies in."""
    for plain in (MIRROR, replace(MIRROR, flags="Le"), replace(MIRROR, flags="Le", encrypted=True)):
        with pytest.raises(EncryptionMismatch):
            flags_of("2", plain, encrypted=True)
    with pytest.raises(EncryptionMismatch):
        flags_of("2", replace(MIRROR, flags="Lew", encrypted=True))


def test_what_could_not_be_mounted_is_known_before() -> None:
    """What comes whole, and what stands on what is locked; not what stands on what is to come."""
    source = Forest.of([replace(dataset("containers/p/g", "1", "2", "3"), encrypted=True)])

    def closed(*here: Dataset) -> list[str]:
        there = Forest.of(here)
        return locked(plan(source, ["2", "3"], Here(there), native=True), source, there)

    assert closed() == ["2"]
    assert closed(dataset("mirrors/m", "1")) == []
    assert closed(replace(dataset("mirrors/m", "1"), locked=True)) == ["2"]
    plain = Forest.of([dataset("containers/p/g", "1", "2", "3")])
    todo = plan(plain, ["2", "3"], Here(Forest()), native=True)
    assert locked(todo, plain, Forest()) == []


def test_the_settings_of_the_source_go_with_the_step() -> None:
    source = replace(dataset("containers/p/g", "2", "3"), settings=(("recordsize", "16384"),))
    step = Step(StepKind.FULL, "containers/p/g", "3", "h-3", None, Landing.NEW)
    assert flagged(step, Forest.of([source]), Forest(), "").settings == source.settings


def test_a_bookmark_is_as_good_a_base_as_its_snapshot_was() -> None:
    marks = (Bookmark("2", "h-2", 2), Bookmark("3", "h-3", 3))
    source = replace(dataset("containers/p/g", "9", "1", "8", "4"), bookmarks=marks)
    gone = tuple(one for one in source.snapshots if one.guid in ("1", "4"))
    forest = Forest.of([replace(source, snapshots=gone)])
    found = plan(forest, ["4"], Here(Forest.of([MIRROR])), native=True)
    assert kinds(found.steps) == [("incremental", "4", "2")]
    assert place(found.steps[0], forest, Forest.of([MIRROR])).landing is Landing.EXTEND


def test_below_a_bookmark_nothing_has_to_come() -> None:
    """Also where the origin of its dataset never came here."""
    clone = replace(
        dataset("containers/s/g", "7", "8", origin="1"), bookmarks=(Bookmark("6", "h-6", 0),)
    )
    here = Forest.of([dataset("mirrors/s", "6")])
    found = plan(Forest.of([PROD, clone]), ["8"], Here(here), native=True)
    assert kinds(found.steps) == [("incremental", "8", "6")]


def test_a_bookmark_beside_its_snapshot_counts_once() -> None:
    source = replace(PROD, bookmarks=(Bookmark("3", "h-3", 3),))
    assert source.points == source.snapshots
    assert len(plan(Forest.of([source]), ["3"], Here(Forest()), native=True).steps) == 1


def test_neighbours_that_are_all_missing_come_in_one_stream() -> None:
    source = dataset("containers/p/g", "1", "2", "3", "4", "5", "6")
    here = Here(Forest.of([dataset("mirrors/m", "1")]))

    def runs(*wanted: str) -> list[tuple[str | None, tuple[str, ...]]]:
        found = plan(Forest.of([source]), wanted, here, native=True, runs=True)
        return [(step.base, step.makes) for step in found.steps]

    assert runs("2", "3", "4") == [("1", ("2", "3", "4"))]
    assert runs("2", "4", "5") == [("1", ("2",)), ("2", ("4",)), ("4", ("5",))]
    assert runs("3", "4", "5", "6") == [("1", ("3",)), ("3", ("4", "5", "6"))]


def test_a_stream_in_full_and_one_from_an_origin_stand_alone() -> None:
    clone = dataset("containers/s/g", "7", "8", "9", origin="2")
    steps = plan(
        Forest.of([PROD, clone]),
        ["1", "2", "3", "7", "8", "9"],
        Here(Forest()),
        native=True,
        runs=True,
    ).steps
    made = [(step.base, step.makes) for step in steps]
    assert made == [(None, ("1",)), ("1", ("2", "3")), ("2", ("7",)), ("7", ("8", "9"))]


def test_a_bookmark_starts_no_run() -> None:
    """`send -I` takes none."""
    source = replace(dataset("containers/p/g", "9", "3", "4"), bookmarks=(Bookmark("2", "h-2", 1),))
    source = replace(source, snapshots=source.snapshots[1:])
    here = Here(Forest.of([MIRROR]))
    found = plan(Forest.of([source]), ["3", "4"], here, native=True, runs=True)
    assert [(step.base, step.makes) for step in found.steps] == [("2", ("3",)), ("3", ("4",))]


def test_with_branches_only_what_is_shared_comes_below() -> None:
    """Two clones further: the level between is passed over, unless something else stands on it."""
    near = dataset("containers/n/g", "5", origin="2")
    far = dataset("containers/f/g", "6", origin="5")

    def steps(clones: int) -> list[tuple[str, str, str | None]]:
        shared = replace(near, snapshots=(replace(near.snapshots[0], clones=clones),))
        source = Forest.of([PROD, shared, far])
        found = plan(source, ["6"], Here(Forest.of([MIRROR])), native=True, branches=True)
        return kinds(found.steps)

    assert steps(1) == [("incremental", "6", "2")]
    assert steps(2) == [("incremental", "5", "2"), ("incremental", "6", "5")]
