"""The targets, held against the parts' facts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.numbers import shown
from benchmarks.results import Kept, Table


@dataclass(frozen=True, slots=True)
class Target:
    """What a fact of a part must be: at least, or at most, so much. `tried` is what was done for
    it so far, for the page to say where it is missed."""

    text: str
    part: str
    fact: str
    limit: float
    at_least: bool
    unit: str = ""
    tried: str = ""


_TRIED_PIPE = (
    "Tried, and kept: AES-GCM whose cipher object lives as long as its key; no packets that say"
    " nothing; packets of 128 KiB; fewer copies on the way; commands that do not wait for each"
    " other at once; blocks that go as they are where the cores are wanted more than the wire."
    " Tried, and not kept: zstd's negative levels, which cost as much as level 1 and shrink less;"
    " packets of 256 KiB, which made no difference that stood out."
)

TARGETS = (
    Target(
        "full copy to the other server, system tree: times as fast as syncoid's defaults",
        "peers",
        "full_system_against_syncoid",
        1.5,
        True,
    ),
    Target(
        "full copy to the other server, system tree: times as fast as the hand-made pipe",
        "peers",
        "full_system_against_pipe",
        1.15,
        True,
        tried=_TRIED_PIPE,
    ),
    Target(
        "full copy to the other server, incompressible: times as fast as the hand-made pipe",
        "peers",
        "full_incompressible_against_pipe",
        1.0,
        True,
        tried=_TRIED_PIPE,
    ),
    Target(
        "incompressible data is not compressed twice: blocks that zstd is tried on",
        "pipe",
        "incompressible_tried_share",
        0.2,
        False,
    ),
    Target(
        "compression adapts: bytes on a slow wire, as part of those on a fast one",
        "pipe",
        "slow_wire_share",
        0.98,
        False,
    ),
    Target("sync without a change", "copy", "no_change_seconds", 0.5, False, "s"),
    Target(
        "`zfs` processes of a sync without a change",
        "scale",
        "no_change_zfs",
        6,
        False,
    ),
    Target(
        "copy on the same server, zfs, the slowest size",
        "copy",
        "same_server_seconds_max",
        1.0,
        False,
        "s",
    ),
    Target("away during a sync (the switch), zfs", "copy", "downtime_seconds", 1.0, False, "s"),
    Target(
        "99th percentile of /healthz while a copy runs", "copy", "healthz_seconds", 0.05, False, "s"
    ),
    Target("memory of the largest process, zfs", "copy", "memory_mib", 200, False, "MiB"),
)


def judge(parts: Mapping[str, Kept]) -> Table:
    """Each target with what was reached; a part that was not measured judges nothing."""
    rows = []
    for target in TARGETS:
        kept = parts.get(target.part)
        value = kept.part.facts.get(target.fact) if kept else None
        limit = f"{'at least' if target.at_least else 'at most'} {shown(target.limit)}"
        wanted = f"{limit} {target.unit}".strip()
        if value is None:
            rows.append([target.text, wanted, "", "not measured"])
            continue
        verdict = "met" if is_met(target, value) else "**missed**"
        rows.append([target.text, wanted, f"{shown(value)} {target.unit}".strip(), verdict])
    return Table("Targets", ["target", "wanted", "reached", ""], rows)


def is_met(target: Target, value: float) -> bool:
    """Whether the value is on the right side of the target's limit."""
    return value >= target.limit if target.at_least else value <= target.limit


def missed(parts: Mapping[str, Kept]) -> list[tuple[Target, str]]:
    """The targets that were measured and missed, each with what the profile shows."""
    found = []
    for target in TARGETS:
        kept = parts.get(target.part)
        value = kept.part.facts.get(target.fact) if kept else None
        if kept is not None and value is not None and not is_met(target, value):
            found.append((target, kept.part.profiles.get(target.fact, "no profile")))
    return found
