"""What collect decides, by example."""

from __future__ import annotations

from transfer.model import Dataset, Forest, Snapshot
from transfer.retain import Deed, DeedKind, Needs, deeds


def dataset(path: str, *guids: str, origin: str | None = None, held: str = "") -> Dataset:
    snapshots = tuple(
        Snapshot(guid, f"h-{guid:0>24}", path, order, holds=int(guid == held))
        for order, guid in enumerate(guids, 1)
    )
    return Dataset(path, origin=origin, snapshots=snapshots)


def decide(*datasets: Dataset, **needs: set[str]) -> list[str]:
    known = needs.pop("known", {d.path for d in datasets})
    complete = Needs(
        live=frozenset(needs.get("live", set())),
        closed=frozenset(needs.get("closed", set())),
        guids=frozenset(needs.get("guids", set())),
        untrimmed=frozenset(needs.get("untrimmed", set())),
        known=frozenset(known),
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
    )
    assert found == ["destroy_snapshot mirrors/root@2", "trim mirrors/root"]


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


def test_deeds_name_what_they_are_about() -> None:
    assert Deed(DeedKind.TRIM, "mirrors/m").thing == "mirrors/m"
    assert Deed(DeedKind.DESTROY_SNAPSHOT, "mirrors/m", "7").thing == "mirrors/m@7"
