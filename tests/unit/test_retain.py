"""What collect decides, by example."""

from __future__ import annotations

from dataclasses import replace

from transfer.model import Dataset, Forest, Snapshot
from transfer.retain import Deed, DeedKind, Needs, deeds, possible


def dataset(path: str, *guids: str, origin: str | None = None, held: str = "") -> Dataset:
    snapshots = tuple(
        Snapshot(guid, f"h-{guid:0>24}", path, order, holds=int(guid == held))
        for order, guid in enumerate(guids, 1)
    )
    return Dataset(path, origin=origin, snapshots=snapshots)


def decide(*datasets: Dataset, clones_pin: bool = True, **needs: set[str]) -> list[str]:
    known = needs.pop("known", {d.path for d in datasets})
    complete = Needs(
        live=frozenset(needs.get("live", set())),
        closed=frozenset(needs.get("closed", set())),
        guids=frozenset(needs.get("guids", set())),
        untrimmed=frozenset(needs.get("untrimmed", set())),
        known=frozenset(known),
        clones_pin=clones_pin,
    )
    return [said(deed) for deed in deeds(Forest.of(datasets), complete)]


def said(deed: Deed) -> str:
    return f"{deed.kind} {deed.thing}"


def test_what_nobody_names_goes_whole() -> None:
    assert decide(dataset("mirrors/m", "1", "2")) == [
        "destroy_snapshot mirrors/m@2",
        "destroy_snapshot mirrors/m@1",
        "destroy mirrors/m",
    ]


def test_a_base_keeps_its_dataset_and_loses_the_rest() -> None:
    assert decide(dataset("mirrors/m", "1", "2"), guids={"2"}) == ["destroy_snapshot mirrors/m@1"]


def test_a_head_beyond_the_newest_kept_snapshot_is_trimmed() -> None:
    found = decide(dataset("mirrors/m", "1", "2"), guids={"1"})
    assert found == ["destroy_snapshot mirrors/m@2", "trim mirrors/m"]


def test_a_retired_generation_is_trimmed() -> None:
    found = decide(dataset("containers/c/g", "1"), guids={"1"}, untrimmed={"containers/c/g"})
    assert found == ["trim containers/c/g"]


def test_a_live_dataset_is_neither_trimmed_nor_destroyed() -> None:
    live = {"containers/c/g"}
    found = decide(dataset("containers/c/g", "1"), live=live, untrimmed=live)
    assert found == ["destroy_snapshot containers/c/g@1"]


def test_origins_of_what_is_kept_are_kept_to_the_root() -> None:
    found = decide(
        dataset("mirrors/root", "1", "2"),
        dataset("mirrors/middle", "3", origin="1"),
        dataset("containers/c/g", origin="3"),
        live={"containers/c/g"},
        guids={"1"},
    )
    assert found == [
        "destroy_snapshot mirrors/root@2",
        "trim mirrors/root",
        "promote containers/c/g<3",
    ]


def test_clones_go_before_their_origins() -> None:
    found = decide(
        dataset("mirrors/a", "1"),
        dataset("mirrors/b", "2", origin="1"),
        dataset("mirrors/c", "3", origin="2"),
    )
    assert [line for line in found if line.startswith("destroy mirrors")] == [
        "destroy mirrors/c",
        "destroy mirrors/b",
        "destroy mirrors/a",
    ]


def test_what_is_held_stays() -> None:
    assert decide(dataset("mirrors/m", "1", held="1")) == []


def test_what_a_job_writes_to_is_not_touched() -> None:
    assert decide(dataset("mirrors/m", "1", "2"), closed={"mirrors/m"}) == []


def test_what_no_row_accounts_for_is_not_touched() -> None:
    assert decide(dataset("mirrors/m", "1"), known=set()) == []


# --- husks ---------------------------------------------------------------------------------------

HUSK = dataset("mirrors/husk", "1", "2")
LIVE = dataset("containers/c/g", origin="2")


def test_a_clone_is_promoted_over_the_husk_that_it_alone_keeps() -> None:
    found = decide(HUSK, LIVE, live={LIVE.path}, guids={"1"})
    assert found == ["promote containers/c/g<2"]


def test_first_the_husk_loses_what_nobody_needs() -> None:
    assert decide(HUSK, LIVE, live={LIVE.path}) == ["destroy_snapshot mirrors/husk@1"]
    found = decide(HUSK, LIVE, live={LIVE.path}, guids={"1"}, untrimmed={HUSK.path})
    assert found == ["trim mirrors/husk"]


def test_the_husk_goes_after_the_promotion_and_then_what_it_had() -> None:
    promoted = dataset("containers/c/g", "1", "2")
    husk = dataset("mirrors/husk", origin="2")
    found = decide(husk, promoted, live={LIVE.path}, guids={"1"})
    assert found == ["destroy mirrors/husk", "destroy_snapshot containers/c/g@2"]


def test_a_snapshot_that_is_needed_or_held_makes_no_husk() -> None:
    assert decide(HUSK, LIVE, live={LIVE.path}, guids={"1", "2"}) == []
    held = dataset("mirrors/husk", "1", "2", held="1")
    assert decide(held, LIVE, live={LIVE.path}) == []


def test_what_is_live_is_no_husk() -> None:
    live = {LIVE.path, HUSK.path}
    assert decide(HUSK, LIVE, live=live, guids={"1"}) == []


def test_only_a_whole_clone_that_is_known_and_open_is_promoted() -> None:
    other = dataset("mirrors/other", "5", origin="2")
    needed = {"1", "5"}
    assert decide(HUSK, other, guids=needed, closed={other.path}) == []
    assert decide(HUSK, other, guids=needed, known={HUSK.path}) == []
    half = replace(other, partial=True)
    assert decide(HUSK, half, guids=needed) == []
    found = decide(HUSK, other, LIVE, closed={LIVE.path}, guids=needed)
    assert found == ["promote mirrors/other<2"]


def test_a_line_of_husks_loses_every_second_one_in_a_round() -> None:
    """No dataset takes part in two promotions: the second would find another origin."""
    line = [
        dataset(f"mirrors/{at}", str(at), origin=str(at - 1) if at else None) for at in range(4)
    ]
    live = dataset("containers/c/g", origin="3")
    assert decide(*line, live, live={live.path}) == [
        "promote containers/c/g<3",
        "promote mirrors/2<1",
    ]


def test_where_clones_do_not_pin_their_origins_go() -> None:
    found = decide(HUSK, LIVE, live={LIVE.path}, clones_pin=False)
    assert found == [
        "destroy_snapshot mirrors/husk@2",
        "destroy_snapshot mirrors/husk@1",
        "destroy mirrors/husk",
    ]
    found = decide(HUSK, LIVE, live={LIVE.path}, guids={"1"}, clones_pin=False)
    assert found == ["destroy_snapshot mirrors/husk@2", "trim mirrors/husk"]


# --- some of the deeds ---------------------------------------------------------------------------


def test_no_snapshot_is_tried_before_its_clone_has_gone() -> None:
    gone = dataset("containers/c/g", origin="2")
    forest = Forest.of([HUSK, gone])
    clone = Deed(DeedKind.DESTROY, gone.path)
    first, second = (Deed(DeedKind.DESTROY_SNAPSHOT, HUSK.path, guid) for guid in "12")
    whole = Deed(DeedKind.DESTROY, HUSK.path)
    todo = [clone, second, first, whole]
    assert possible(forest, todo, clones_pin=True) == todo
    assert possible(forest, todo[1:], clones_pin=True) == [first]
    assert possible(forest, todo[1:], clones_pin=False) == todo[1:]


def test_deeds_name_what_they_are_about() -> None:
    assert Deed(DeedKind.PROMOTE, "mirrors/m", "7").thing == "mirrors/m<7"
    assert Deed(DeedKind.TRIM, "mirrors/m").thing == "mirrors/m"
    assert Deed(DeedKind.DESTROY_SNAPSHOT, "mirrors/m", "7").thing == "mirrors/m@7"
