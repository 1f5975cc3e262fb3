"""What a part of the benchmark found: tables, plots and facts, kept as one JSON file.

The page is made of these files alone, so that one part can be measured again without the others,
and no figure on the page is written by hand.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

Cell = str | float


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under their columns; `note` stands below it."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Series:
    """The values `y` at the places `x`, numbers or names, and where they vary their quartiles."""

    name: str
    x: Sequence[Cell]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class Plot:
    """A picture: lines where x are numbers, groups of bars where they are names."""

    name: str
    title: str
    x: str
    y: str
    series: Sequence[Series]


@dataclass
class Part:
    """One part's findings. `ceilings` is what the hardware would allow, and comes first; `facts`
    is what the targets are judged by; `profiles` says, by fact, where the time went."""

    name: str
    title: str
    ceilings: Table
    tables: list[Table] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)
    facts: dict[str, float] = field(default_factory=dict)
    profiles: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Kept:
    """A part as it stands in its file, and how it came about."""

    part: Part
    at: str
    seconds: float
    quick: bool
    cores: int
    kernel: str
    python: str
    processor: str


def keep(directory: Path, part: Part, seconds: float, *, quick: bool) -> None:
    """Writes a part's file in place of the one before."""
    kept = Kept(
        part,
        datetime.now(UTC).isoformat(timespec="seconds"),
        round(seconds, 1),
        quick,
        os.cpu_count() or 1,
        platform.release(),
        platform.python_version(),
        _processor(),
    )
    directory.mkdir(parents=True, exist_ok=True)
    text = json.dumps(asdict(kept), indent=1, ensure_ascii=False) + "\n"
    (directory / f"{part.name}.json").write_text(text, encoding="utf-8")


def read(directory: Path, name: str) -> Kept | None:
    """A part as it was kept; None where it was never measured."""
    path = directory / f"{name}.json"
    if not path.exists():
        return None
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    part: dict[str, Any] = content.pop("part")
    plots = [
        Plot(**{**plot, "series": [Series(**series) for series in plot["series"]]})
        for plot in part.pop("plots")
    ]
    tables = [Table(**table) for table in part.pop("tables")]
    ceilings = Table(**part.pop("ceilings"))
    return Kept(part=Part(**part, ceilings=ceilings, tables=tables, plots=plots), **content)


def _processor() -> str:
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()
