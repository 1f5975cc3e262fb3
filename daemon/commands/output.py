"""How results look: tables for people, the API's own data with `--json`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import click
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

PIPE_COLUMNS = 400  # wide enough that a pipe never sees a cut id
GAP_COLUMNS = 3
ID_DIGITS = 8  # enough to name a thing by, as long as no other begins so
_ID_DIGITS_MAX = 24
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


def print_table(
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    empty: str,
    spare: Sequence[str] = (),
) -> None:
    """Rows below their headers; numbers to the right; the sentence `empty` where there are none.

    A terminal that is too narrow for all gets what `fitting` leaves; no cell is ever cut.
    """
    console = out()
    if not rows:
        console.print(empty, style="dim")
        return
    if sys.stdout.isatty():
        headers, rows = fitting(headers, rows, console.width, spare)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, GAP_COLUMNS, 0, 0))
    for header in headers:
        numeric = header.startswith(">")
        table.add_column(header.lstrip(">"), justify="right" if numeric else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(cell(value) for value in row))
    console.width = max(console.width, _width(headers, rows))
    console.print(table)


def fitting(
    headers: Sequence[str], rows: Sequence[Sequence[str]], width: int, spare: Sequence[str]
) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """The table made narrower until it fits into `width`: ids as short as they stay apart, then
    without the columns `spare`, the first of them first."""
    if headers[0] == "ID" and _width(headers, rows) > width:
        digits = _apart([row[0] for row in rows])
        rows = [[row[0][:digits], *row[1:]] for row in rows]
    for name in spare:
        if _width(headers, rows) > width:
            at = headers.index(name)
            headers = [*headers[:at], *headers[at + 1 :]]
            rows = [[*row[:at], *row[at + 1 :]] for row in rows]
    return headers, rows


def short(thing_id: object) -> str:
    """The beginning of an id, for a sentence that also has a name."""
    return str(thing_id)[:ID_DIGITS]


def print_facts(facts: Iterable[tuple[str, str]]) -> None:
    """One thing: names to the left, values to the right; empty ones are left out."""
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 3, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        if value not in ("", "-"):
            table.add_row(name, cell(value))
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


def _width(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    names = [header.lstrip(">") for header in headers]
    widths = [max(map(cell_len, column)) for column in zip(names, *rows, strict=True)]
    return sum(widths) + GAP_COLUMNS * len(widths)


def _apart(ids: Sequence[str]) -> int:
    """How many digits tell these ids apart, at least ID_DIGITS."""
    for digits in range(ID_DIGITS, _ID_DIGITS_MAX):
        if len({one[:digits] for one in ids}) == len(set(ids)):
            return digits
    return _ID_DIGITS_MAX


def cell(value: str) -> Text:
    """A value in its colour: what a user wrote is never read as markup or as control characters."""
    shown = "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in value
    )
    return Text(shown, style=_STYLES.get(value, ""))
