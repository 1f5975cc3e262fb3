"""The planner, by example: each test is one rule of transfer/plan.py."""

from __future__ import annotations

import pytest

from transfer.errors import SourceChanged
from transfer.model import Dataset, Forest, Landing, Snapshot, Step, StepKind
from transfer.plan import Here, place, plan


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


def test_full_asks_for_no_base() -> None:
    here = Here(Forest.of([MIRROR]))
    found = plan(Forest.of([PROD]), ["3"], here, native=True, full=True)
    assert kinds(found.steps) == [("full", "3", None)]


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


def test_content_diff_never_branches() -> None:
    source = Forest.of([dataset("containers/p/g", "1", "2")])
    here = Forest.of([dataset("mirrors/m", "1", "5")])
    placed = place(step_of(source, "2", here, native=False), source, here)
    assert (placed.kind, placed.landing) == (StepKind.CONTENT, Landing.NEW)
