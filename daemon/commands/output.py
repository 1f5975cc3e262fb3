"""How results look: tables for people, the API's own data with `--json`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

PIPE_COLUMNS = 400  # wide enough that a pipe never sees a cut id
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_STYLES = {
    "running": "green",
    "succeeded": "green",
    "current": "green",
    "online": "green",
    "copying": "cyan",
    "creating": "cyan",
    "restoring": "cyan",
    "queued": "cyan",
    "behind": "yellow",
    "stopped": "yellow",
    "cancelled": "yellow",
    "deleting": "red",
    "error": "red",
    "failed": "red",
    "offline": "red",
    "orphaned": "red",
}


def out() -> Console:
    """Standard output."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_COLUMNS)


def print_json(data: object) -> None:
    """The API's data, as it came."""
    click.echo(json.dumps(data, indent=2, ensure_ascii=False))


def print_table(headers: Sequence[str], rows: Iterable[Sequence[str]], *, empty: str) -> None:
    """Rows below their headers; numbers to the right; the sentence `empty` where there are none."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 3, 0, 0))
    for header in headers:
        numeric = header.startswith(">")
        table.add_column(header.lstrip(">"), justify="right" if numeric else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    if table.row_count:
        out().print(table)
    else:
        out().print(empty, style="dim")


def print_facts(facts: Iterable[tuple[str, str]]) -> None:
    """One thing: names to the left, values to the right; empty ones are left out."""
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 3, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        if value not in ("", "-"):
            table.add_row(name, _cell(value))
    out().print(table)


def text(value: object) -> str:
    """A value in a cell; `-` where there is none."""
    if value is None or value == "":
        return "-"
    return ("no", "yes")[value] if isinstance(value, bool) else str(value)


def size(value: object) -> str:
    """Bytes for people: `1.5 GiB`."""
    if not isinstance(value, int | float):
        return "-"
    amount = float(value)
    for unit in _UNITS:
        if amount < 1024 or unit == _UNITS[-1]:
            break
        amount /= 1024
    return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"


def seconds(value: object) -> str:
    """A duration: `0.42 s`, `3 m 05 s`, `2 h 10 m`."""
    if not isinstance(value, int | float):
        return "-"
    if value < 60:
        return f"{value:.2f} s" if value < 10 else f"{value:.0f} s"
    minutes, rest = divmod(int(value), 60)
    if minutes < 60:
        return f"{minutes} m {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} m"


def age(value: object, now: datetime | None = None) -> str:
    """How long ago a time of the API was."""
    if not isinstance(value, str):
        return "-"
    passed = ((now or datetime.now(UTC)) - datetime.fromisoformat(value)).total_seconds()
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60)):
        if passed >= length:
            return f"{passed // length:.0f} {unit} ago"
    return "just now" if passed < 5 else f"{passed:.0f} s ago"


def ahead(value: object, now: datetime | None = None) -> str:
    """How far away a time of the API is: `in 3 d`, or `over`."""
    if not isinstance(value, str):
        return "-"
    left = (datetime.fromisoformat(value) - (now or datetime.now(UTC))).total_seconds()
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)):
        if left >= length:
            return f"in {left // length:.0f} {unit}"
    return "over"


def _cell(value: str) -> Text:
    """Text as it is: what a user wrote is never read as markup or as control characters."""
    shown = "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in value
    )
    return Text(shown, style=_STYLES.get(value, ""))
