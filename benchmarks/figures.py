"""What was measured, beside its limit: one table for people, one JSON file for machines."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value; without a limit it is for information. `note` says how it came about."""

    name: str
    value: float
    unit: str
    limit: float | None = None
    note: str = ""

    @property
    def missed(self) -> bool:
        """Whether it is above its limit."""
        return self.limit is not None and self.value > self.limit


def show(figures: list[Figure], console: Console) -> None:
    """Prints the table."""
    table = Table(title=f"Two servers on this machine, {os.cpu_count()} cores")
    for title in ("figure", "value", "at most"):
        table.add_column(title, justify="left" if title == "figure" else "right", no_wrap=True)
    table.add_column("how")
    for figure in figures:
        limit = "" if figure.limit is None else f"{figure.limit:,.2f}"
        value = f"{figure.value:,.2f} {figure.unit}".rstrip()
        style = "red" if figure.missed else None
        table.add_row(figure.name, value, limit, figure.note, style=style)
    console.print(table)
    for figure in figures:
        if figure.missed:
            console.print(f"[red]missed:[/] {figure.name}")


def keep(figures: list[Figure]) -> Path:
    """Writes them to a file of their own, and says where."""
    at = datetime.now(UTC)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{at:%Y%m%dT%H%M%SZ}.json"
    content = {
        "at": at.isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "figures": [{**asdict(figure), "missed": figure.missed} for figure in figures],
    }
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return path
